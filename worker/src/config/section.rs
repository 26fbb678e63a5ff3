//! The checked sections of a configuration, one structure per component.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dicom_io::compression::Compression;
use dicom_io::scp::AddressRange;
use dicom_io::stow::StowDestination;
use dicom_io::tls::{TlsAcceptor, TlsConnector};
use dicom_types::AeTitle;
use prosector_storage::{BucketOptions, RetentionPolicy};

use super::ServiceUrl;
use crate::protocol::Forms;

/// Who may send, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// Our AE title.
    pub(crate) ae_title: AeTitle,
    /// Where to listen.
    pub(crate) bind: SocketAddr,
    /// Who may call; nobody named: anybody.
    pub(crate) calling_ae_titles: Vec<AeTitle>,
    /// What we answer to.
    pub(crate) called: Called,
    /// Associations open at the same time.
    pub(crate) max_associations: u32,
    /// Associations open at the same time from one address.
    pub(crate) max_associations_per_peer: u32,
    /// Addresses that may connect; none named: any.
    pub(crate) peers: Vec<AddressRange>,
    /// Largest PDU that we accept, bytes.
    pub(crate) max_pdu_bytes: u32,
    /// Largest instance that we accept, bytes.
    pub(crate) max_instance_bytes: u64,
    /// Longest wait for A-ASSOCIATE-RQ and for the end of a release.
    pub(crate) negotiation_timeout: Duration,
    /// Longest silence of a peer.
    pub(crate) idle_timeout: Duration,
    /// Where senders take reports of storage commitment.
    pub(crate) commitment: BTreeMap<AeTitle, CommitmentAddress>,
    /// TLS, where it is offered.
    pub(crate) tls: Option<ListenerTls>,
}

/// Where a sender takes reports of storage commitment.
#[derive(Debug, Clone)]
pub(crate) struct CommitmentAddress {
    /// Host and port.
    pub(crate) address: String,
    /// What makes the connection encrypted, where it is.
    pub(crate) tls: Option<TlsConnector>,
}

/// How the listener offers TLS.
#[derive(Debug, Clone)]
pub(crate) struct ListenerTls {
    /// A port of its own; nothing: it takes the place of the clear port.
    pub(crate) bind: Option<SocketAddr>,
    /// The certificates.
    pub(crate) acceptor: TlsAcceptor,
    /// Whether the certificate must carry the calling AE title.
    pub(crate) match_ae_title: bool,
}

/// Called AE titles that we answer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Called {
    /// Any.
    Any,
    /// These, our own among them.
    These(Vec<AeTitle>),
}

/// Where rows are kept.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// `sqlite:` or `postgres:`.
    pub(crate) url: ServiceUrl,
}

/// How workers hear of jobs.
#[derive(Debug, Clone)]
pub(crate) enum Queue {
    /// Within the process.
    Embedded,
    /// A RabbitMQ broker.
    Amqp(ServiceUrl),
}

/// Rights to work in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leases {
    /// How long one lasts without being renewed.
    pub(crate) lasting: Duration,
    /// Attempts before a job is quarantined.
    pub(crate) attempts: NonZeroU32,
}

impl Leases {
    /// How often they are renewed, and how often those of others are looked at.
    pub(crate) fn heartbeat(self) -> Duration {
        self.lasting / 4
    }
}

/// Where received instances and results are kept.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    /// Folder or bucket.
    pub(crate) place: SpoolPlace,
    /// Space to leave free, bytes.
    pub(crate) reserve_bytes: u64,
    /// When bytes are removed that nothing needs; never where nothing is said.
    pub(crate) retention: Option<RetentionPolicy>,
}

/// A folder or a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpoolPlace {
    /// A folder of this machine, or a share.
    Folder(PathBuf),
    /// A bucket of a service that speaks S3.
    Bucket(BucketOptions),
}

impl SpoolPlace {
    /// The folder on this machine, with a bucket the one for what is on its way.
    pub(crate) fn local(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Bucket(bucket) => &bucket.staging,
        }
    }
}

impl fmt::Display for SpoolPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket(bucket) if bucket.prefix.is_empty() => write!(f, "s3://{}", bucket.bucket),
            Self::Bucket(bucket) => write!(f, "s3://{}/{}", bucket.bucket, bucket.prefix),
        }
    }
}

/// The web page, REST, metrics and health.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// Where to listen; loopback, unless there are users.
    pub(crate) bind: SocketAddr,
    /// Who may use it; nobody named: whoever is on this machine.
    pub(crate) users_file: Option<PathBuf>,
    /// Scheme and host that browsers see, where a proxy stands in front.
    pub(crate) public_origin: Option<String>,
    /// Time without a request after which a session ends.
    pub(crate) session_idle: Duration,
}

/// When a phantom is sent through the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SelfTest {
    /// Time of day, UTC.
    pub(crate) at: time::Time,
    /// Whether jobs that are made after a failed test wait for a person.
    pub(crate) holds_jobs: bool,
}

/// When a series counts as complete.
#[derive(Debug, Clone)]
pub(crate) struct Completeness {
    /// Time without a new instance of a series.
    pub(crate) quiet: Duration,
    /// Time without a new instance of a study, for protocols that take one series of it.
    pub(crate) study: Duration,
    /// Name of the destination that is asked how many instances a series has.
    pub(crate) query: Option<String>,
    /// Time without a new instance after which its answer does not matter any more.
    pub(crate) query_patience: Duration,
}

/// Where further protocols are.
#[derive(Debug, Clone)]
pub(crate) struct Routing {
    /// Folder of files with protocols.
    pub(crate) folder: Option<PathBuf>,
    /// Whether protocols are read again when their files change.
    pub(crate) watch: bool,
}

/// Model packs and how they run.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Folder of packs.
    pub(crate) packs: PathBuf,
    /// Threads that compute, at least one; none named: one per core.
    pub(crate) threads: Option<NonZeroUsize>,
    /// Memory that a volume may take; none named: what the machine has.
    pub(crate) memory_bytes: Option<u64>,
    /// Folder for what targets need beyond the memory; none named: that of the spool.
    pub(crate) scratch: Option<PathBuf>,
}

/// How the ledger is kept honest.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    /// File with the key that roots are signed with.
    pub(crate) root_key: PathBuf,
    /// File that signed roots are added to.
    pub(crate) roots: PathBuf,
    /// How often a root is signed.
    pub(crate) root_every: Duration,
    /// Where audit messages go, if anywhere.
    pub(crate) syslog: Option<AuditSyslog>,
}

/// An audit repository that takes DICOM audit messages over syslog with TLS.
#[derive(Debug, Clone)]
pub(crate) struct AuditSyslog {
    /// `host:port`.
    pub(crate) address: String,
    /// What encrypts the connection.
    pub(crate) tls: TlsConnector,
    /// Whether messages name patient id and accession number.
    pub(crate) patient_identifiers: bool,
    /// `AuditSourceID`.
    pub(crate) source_id: String,
    /// `AuditEnterpriseSiteID`.
    pub(crate) enterprise_site_id: Option<String>,
    /// Longest wait for the connection, and for its end.
    pub(crate) timeout: Duration,
}

/// What is logged.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// Filter, as `tracing_subscriber::EnvFilter` reads it.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where results go.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// What protocols call it.
    pub(crate) name: String,
    /// A PACS or a folder.
    pub(crate) kind: DestinationKind,
    /// Forms of the results that it gets, in place of those of the protocol.
    pub(crate) forms: Option<Forms>,
    /// What to do when sending fails.
    pub(crate) retry: Retry,
    /// How a result that was sent is made sure of, where storage commitment does not do it.
    pub(crate) proof: Option<Proof>,
}

/// How to make sure that a destination has what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It is found: C-FIND or QIDO-RS.
    Find,
    /// It is read back, by C-GET or WADO-RS, and compared.
    ReadBack,
}

/// A PACS or a folder.
#[derive(Debug, Clone)]
pub(crate) enum DestinationKind {
    /// A PACS that takes C-STORE.
    Dimse(DimseDestination),
    /// A PACS that takes STOW-RS.
    Dicomweb(StowDestination),
    /// A folder that receives files.
    Folder(PathBuf),
}

/// A PACS that takes C-STORE.
#[derive(Debug, Clone)]
pub(crate) struct DimseDestination {
    /// Its AE title.
    pub(crate) ae_title: AeTitle,
    /// Ours.
    pub(crate) calling_ae_title: AeTitle,
    /// `host:port`.
    pub(crate) address: String,
    /// Whether it is asked for storage commitment.
    pub(crate) commitment: bool,
    /// How long its report may take before it is asked again.
    pub(crate) commitment_timeout: Duration,
    /// Transfer syntaxes that results are offered in before the native one.
    pub(crate) compress: [Option<Compression>; 2],
    /// What encrypts the connection.
    pub(crate) tls: Option<TlsConnector>,
    /// Longest wait for the connection.
    pub(crate) connect_timeout: Duration,
    /// Longest wait for the association.
    pub(crate) negotiate_timeout: Duration,
    /// Longest wait for the answer to one request.
    pub(crate) response_timeout: Duration,
}

/// The wait doubles from `first` to `longest`, until `give_up` has passed since the first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Wait before the second attempt.
    pub(crate) first: Duration,
    /// Longest wait.
    pub(crate) longest: Duration,
    /// Time after which a delivery has failed.
    pub(crate) give_up: Duration,
}
