//! Who may associate, for what, and within which bounds.

use std::net::IpAddr;
use std::time::Duration;

use dicom_types::{AeTitle, SopClassUid, TransferSyntaxUid};

/// Settings of a listener.
#[derive(Debug, Clone)]
pub struct ScpConfig {
    /// Who may associate.
    pub admission: Admission,
    /// Storage SOP classes that are taken; others are refused as presentation contexts.
    pub storage_sop_classes: Vec<SopClassUid>,
    /// Transfer syntaxes for storage, the one to prefer first.
    pub storage_transfer_syntaxes: Vec<TransferSyntaxUid>,
    /// Whether storage commitment is offered, and reports of it are taken.
    pub storage_commitment: bool,
    /// Bounds.
    pub limits: ScpLimits,
    /// Patience.
    pub timeouts: ScpTimeouts,
}

impl ScpConfig {
    /// Takes the CT, MR and PET images that can be segmented, in every transfer syntax that can be decoded, from
    /// whoever calls `ae_title`.
    pub fn for_images(ae_title: AeTitle) -> Self {
        Self {
            admission: Admission {
                called_ae_titles: AllowList::Only(vec![ae_title]),
                calling_ae_titles: AllowList::Any,
                peers: AllowList::Any,
                certificate_names_caller: false,
            },
            storage_sop_classes: IMAGE_SOP_CLASSES.iter().map(|uid| constant(uid)).collect(),
            storage_transfer_syntaxes: TRANSFER_SYNTAXES.iter().map(|uid| constant(uid)).collect(),
            storage_commitment: false,
            limits: ScpLimits::default(),
            timeouts: ScpTimeouts::default(),
        }
    }
}

fn constant<T: std::str::FromStr>(uid: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    uid.parse().expect("constants of the standard are well-formed")
}

/// Storage SOP classes of images that become volumes (PS3.4 table B.5-1).
const IMAGE_SOP_CLASSES: [&str; 9] = [
    "1.2.840.10008.5.1.4.1.1.2",     // CT
    "1.2.840.10008.5.1.4.1.1.2.1",   // Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",   // Legacy Converted Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",     // MR
    "1.2.840.10008.5.1.4.1.1.4.1",   // Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4",   // Legacy Converted Enhanced MR
    "1.2.840.10008.5.1.4.1.1.128",   // PET
    "1.2.840.10008.5.1.4.1.1.130",   // Enhanced PET
    "1.2.840.10008.5.1.4.1.1.128.1", // Legacy Converted Enhanced PET
];

/// Transfer syntaxes whose pixel data can be decoded, lossless before lossy and cheap before dear. JPEG Extended
/// is missing: its 12-bit form, the one that CT uses, has no sound decoder here.
const TRANSFER_SYNTAXES: [&str; 17] = [
    "1.2.840.10008.1.2.1",     // Explicit VR Little Endian
    "1.2.840.10008.1.2",       // Implicit VR Little Endian
    "1.2.840.10008.1.2.5",     // RLE Lossless
    "1.2.840.10008.1.2.4.80",  // JPEG-LS Lossless
    "1.2.840.10008.1.2.4.70",  // JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  // JPEG Lossless
    "1.2.840.10008.1.2.4.90",  // JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.201", // High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202", // High-Throughput JPEG 2000 Lossless with RPCL options
    "1.2.840.10008.1.2.1.99",  // Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.8.1",   // Deflated Image Frame Compression
    "1.2.840.10008.1.2.1.98",  // Encapsulated Uncompressed Explicit VR Little Endian
    "1.2.840.10008.1.2.2",     // Explicit VR Big Endian
    "1.2.840.10008.1.2.4.81",  // JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.91",  // JPEG 2000
    "1.2.840.10008.1.2.4.203", // High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.50",  // JPEG Baseline
];

/// Who may associate. What is refused here is refused for good ("rejected permanent").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// AE titles that we answer to.
    pub called_ae_titles: AllowList<AeTitle>,
    /// AE titles that may call.
    pub calling_ae_titles: AllowList<AeTitle>,
    /// Addresses that may connect.
    pub peers: AllowList<AddressRange>,
    /// Whether a peer that shows a certificate must be named by it: its calling AE title is then the common name or a
    /// DNS name of the certificate.
    pub certificate_names_caller: bool,
}

/// Everybody, or those that are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowList<T> {
    /// No check.
    Any,
    /// Only these.
    Only(Vec<T>),
}

impl AllowList<AeTitle> {
    /// Whether `title` is on the list.
    pub fn admits(&self, title: &AeTitle) -> bool {
        match self {
            Self::Any => true,
            Self::Only(titles) => titles.contains(title),
        }
    }
}

impl AllowList<AddressRange> {
    /// Whether `address` lies in a range of the list.
    pub fn admits(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(address)),
        }
    }
}

/// Addresses that share a prefix, written `10.1.0.0/16` or as a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    prefix_length: u32,
}

/// A text that is no address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address or an address range such as 10.1.0.0/16")]
pub struct ParseAddressRangeError;

impl std::str::FromStr for AddressRange {
    type Err = ParseAddressRangeError;

    fn from_str(text: &str) -> Result<Self, ParseAddressRangeError> {
        let (address, length) = text.split_once('/').unzip();
        let network: IpAddr =
            address.unwrap_or(text).trim().parse().map_err(|_| ParseAddressRangeError)?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix_length = match length {
            None => bits,
            Some(length) => length.trim().parse().map_err(|_| ParseAddressRangeError)?,
        };
        if prefix_length > bits {
            return Err(ParseAddressRangeError);
        }
        Ok(Self { network, prefix_length })
    }
}

impl AddressRange {
    /// Whether `address` lies in the range; an IPv4 address that came in over IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.prefix_length
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.prefix_length
            }
            _ => false,
        }
    }
}

/// Bounds on what peers may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScpLimits {
    /// Connections that have not become associations; where there are more, the oldest is closed.
    pub max_connections: usize,
    /// Associations at a time; more are rejected as "local limit exceeded", which tells the peer to try again.
    pub max_associations: usize,
    /// Associations at a time from one address; more are rejected in the same way.
    pub max_associations_per_peer: usize,
    /// Longest P-DATA PDU that is negotiated, in bytes. A longer one ends the association.
    pub max_pdu_bytes: u32,
    /// Longest association request, in bytes.
    pub max_request_bytes: u32,
    /// Longest data set, in bytes.
    pub max_dataset_bytes: u64,
}

impl Default for ScpLimits {
    /// 256 connections, 64 associations, 32 per peer, PDUs of 128 KiB, requests of 1 MiB, data sets of 16 GiB.
    fn default() -> Self {
        Self {
            max_connections: 256,
            max_associations: 64,
            max_associations_per_peer: 32,
            max_pdu_bytes: 128 * 1024,
            max_request_bytes: 1 << 20,
            max_dataset_bytes: 16 << 30,
        }
    }
}

/// How long each phase may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScpTimeouts {
    /// From the connection to the whole association request.
    pub request: Duration,
    /// Between two messages: a modality may keep its association open between two images.
    pub idle: Duration,
    /// Silence in the middle of a message.
    pub stall: Duration,
    /// One message in all.
    pub message: Duration,
    /// Writing a response.
    pub write: Duration,
    /// Making one instance durable, after which processing failure is answered.
    pub storage: Duration,
    /// From the wish to stop to the abort of associations that still run.
    pub grace: Duration,
}

impl Default for ScpTimeouts {
    /// 30 s, 5 min, 30 s, 1 h, 30 s, 60 s, 30 s.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            idle: Duration::from_mins(5),
            stall: Duration::from_secs(30),
            message: Duration::from_hours(1),
            write: Duration::from_secs(30),
            storage: Duration::from_mins(1),
            grace: Duration::from_secs(30),
        }
    }
}

/// Why an association was refused (PS3.8 table 9-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Permanent, "called AE title not recognized".
    CalledAeTitle,
    /// Permanent, "calling AE title not recognized".
    CallingAeTitle,
    /// Permanent, "calling AE title not recognized": the certificate is another's.
    Certificate,
    /// Permanent, no reason given: the address is on no list.
    Address,
    /// Permanent, "application context name not supported".
    ApplicationContext,
    /// Permanent, "protocol version not supported".
    ProtocolVersion,
    /// Transient, "local limit exceeded": too many associations in all.
    TooManyAssociations,
    /// Transient, "local limit exceeded": too many associations from one address.
    TooManyAssociationsOfPeer,
    /// Transient, "temporary congestion": the listener is stopping.
    ShuttingDown,
}

impl RejectReason {
    /// A short word for metrics and logs: one of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CalledAeTitle => "called AE title not recognized",
            Self::CallingAeTitle => "calling AE title not recognized",
            Self::Certificate => "certificate names another AE title",
            Self::Address => "address not admitted",
            Self::ApplicationContext => "application context not supported",
            Self::ProtocolVersion => "protocol version not supported",
            Self::TooManyAssociations => "too many associations",
            Self::TooManyAssociationsOfPeer => "too many associations of peer",
            Self::ShuttingDown => "shutting down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_transfer_syntaxes_that_can_be_decoded_are_taken() {
        use std::collections::BTreeSet;

        let config = ScpConfig::for_images("PROSECTOR".parse().unwrap());
        let taken: BTreeSet<&str> =
            config.storage_transfer_syntaxes.iter().map(TransferSyntaxUid::as_str).collect();
        let decodable = dicom::transfer_syntax::TransferSyntaxRegistry.iter();
        let decodable: BTreeSet<&str> = decodable
            .map(dicom_transfer_syntax_registry::TransferSyntax::uid)
            .filter(|uid| crate::series::can_decode(uid))
            .collect();

        assert_eq!(taken.len(), config.storage_transfer_syntaxes.len(), "one is named twice");
        assert!(taken.iter().all(|uid| crate::series::can_decode(uid)), "{taken:?}");
        let missing: Vec<_> = decodable.difference(&taken).collect();
        assert!(missing.is_empty(), "can be decoded and are refused: {missing:?}");
    }

    #[test]
    fn an_address_range_holds_the_addresses_of_its_prefix_and_no_others() {
        let range: AddressRange = "10.1.0.0/16".parse().unwrap();
        let single: AddressRange = "192.0.2.7".parse().unwrap();
        let all: AddressRange = "0.0.0.0/0".parse().unwrap();

        assert!(range.contains("10.1.255.3".parse().unwrap()));
        assert!(range.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!range.contains("10.2.0.1".parse().unwrap()));
        assert!(!single.contains("192.0.2.8".parse().unwrap()));
        assert!(all.contains("203.0.113.1".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
        assert_eq!("10.1.0.0/33".parse::<AddressRange>(), Err(ParseAddressRangeError));
    }
}
