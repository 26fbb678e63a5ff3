//! The service: every role in one process, or the roles that are named.
//!
//! Building comes first: sockets are bound, the schema is checked, packs are opened; what is wrong stops the start.
//! Then each role runs as a task of its own until the process is told to stop, and drains within a grace period.

mod relay;
mod reload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use prosector_storage::{Event, EventKind, Spool, SpoolOptions, Store};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Door, Facts, Pictures};
use crate::audit_trail::Forwarder;
use crate::config::{self, Config, SpoolPlace};
use crate::deliver::{Deliverer, Retention};
use crate::ledger_roots::RootKeeper;
use crate::listen::{Listener, PacsQuery, Settler};
use crate::open_packs::OpenPacks;
use crate::protocol::{LiveProtocols, rules_of};
use crate::queue::Queue;
use crate::self_test::{Nightly, SelfTest};
use crate::telemetry;
use crate::work::{Device, Tally, Worker};
use relay::Relay;
use reload::Reloader;

/// How long jobs and associations may go on once the service is to stop.
const GRACE: Duration = Duration::from_secs(30);
/// How long all of it may go on after that: a PACS that keeps silent, say, or somebody who downloads slowly.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Files younger than this are left alone when the spool is brought in line with the store: another listener may be
/// about to commit them.
const RECONCILE_AGE: Duration = Duration::from_mins(10);

/// A part that the service plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// Receive instances, and turn complete series into jobs
    Listen,
    /// Turn jobs into results
    Work,
    /// Send results to their destinations
    Deliver,
    /// Web page, REST, metrics and health
    Api,
}

impl Role {
    const ALL: [Self; 4] = [Self::Listen, Self::Work, Self::Deliver, Self::Api];

    fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Work => "work",
            Self::Deliver => "deliver",
            Self::Api => "api",
        }
    }
}

/// A service whose parts are built and whose sockets are bound.
pub(crate) struct Service {
    store: Store,
    spool: Spool,
    queue: Queue,
    packs: Arc<OpenPacks>,
    config: Arc<Config>,
    listener: Option<Listener>,
    api: Option<Api>,
    device: Option<Device>,
    delivers: bool,
    root_keeper: Option<RootKeeper>,
    forwarder: Option<Forwarder>,
    roles: BTreeSet<Role>,
}

/// How a process names itself in the ledger and on leases: role, host and process.
pub(crate) fn actor(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{role}@{}#{}", host.trim(), std::process::id())
}

/// Connects to the store. The embedded database is brought up to date by whoever opens it; a server's schema is
/// somebody's job, and is only checked.
///
/// # Errors
/// When nothing answers, or when the schema is not the one that this program needs.
pub(crate) async fn connect(config: &Config, role: &str) -> Result<Store> {
    let url = &config.store.url;
    let store = Store::connect(url.expose(), &actor(role))
        .await
        .with_context(|| format!("store.url: {url}"))?;
    if url.expose().starts_with("sqlite:") {
        store.migrate().await.with_context(|| format!("store.url: {url}"))?;
    } else {
        store.verify_schema().await.context("run `prosector migrate` first")?;
    }
    Ok(store)
}

/// Opens the spool.
///
/// # Errors
/// When its folder cannot be written, or its bucket does not answer, is not there, or refuses us.
pub(crate) async fn open_spool(config: &Config) -> Result<Spool> {
    let options = SpoolOptions { reserve_bytes: config.spool.reserve_bytes };
    let place = &config.spool.place;
    let opened = match place {
        SpoolPlace::Folder(folder) => {
            Spool::open(&format!("file://{}", folder.display()), options).await
        }
        SpoolPlace::Bucket(bucket) => Spool::open_bucket(bucket, options).await,
    };
    opened.with_context(|| format!("spool.url: {place}"))
}

impl Service {
    /// Builds what the roles need; no role named means all of them.
    ///
    /// # Errors
    /// Whatever would keep the service from working: an address that is taken, a store that does not answer, a pack
    /// that is not there.
    pub(crate) async fn build(config: Config, roles: &[Role]) -> Result<Self> {
        let named = if roles.is_empty() { &Role::ALL } else { roles };
        let roles: BTreeSet<Role> = named.iter().copied().collect();
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let store = connect(&config, &names.join("+")).await?;
        let spool = open_spool(&config).await?;
        let queue = match &config.queue {
            config::Queue::Embedded => Queue::at("embedded:"),
            config::Queue::Amqp(url) => Queue::at(url.expose()),
        }
        .context("queue.url")?;
        let packs = Arc::new(OpenPacks::new(config.model.packs.clone()));
        let needs_packs = roles.contains(&Role::Listen) || roles.contains(&Role::Work);
        if needs_packs {
            packs.open_all(&config.protocols)?;
        }
        let listener = if roles.contains(&Role::Listen) {
            Some(Listener::bind(&config.listener).await?)
        } else {
            None
        };
        let api =
            if roles.contains(&Role::Api) { Some(Api::bind(&config.api).await?) } else { None };
        let device = if roles.contains(&Role::Work) {
            Some(Device::start(crate::segment::segmenter_options(&config))?)
        } else {
            None
        };
        let root_keeper = RootKeeper::new(store.clone(), &config)?;
        let forwarder = Forwarder::new(store.clone(), &config).await?;
        Ok(Self {
            store,
            spool,
            queue,
            packs,
            root_keeper,
            forwarder,
            listener,
            api,
            device,
            delivers: roles.contains(&Role::Deliver),
            config: Arc::new(config),
            roles,
        })
    }

    /// Where the listener is bound, where there is one.
    pub(crate) fn listener_address(&self) -> Option<std::net::SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }

    /// Where the page is, for who wants to say so.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub(crate) fn page(&self) -> Result<Option<String>> {
        let address = self.api.as_ref().map(Api::address).transpose()?;
        Ok(address.map(|address| format!("http://{address}/")))
    }

    /// Runs the roles until `cancel` and drains them.
    ///
    /// # Errors
    /// When a role breaks down: then the others are stopped too, and the supervisor starts the process anew.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let names: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
        let detail = json!({ "roles": names, "software_version": env!("CARGO_PKG_VERSION") });
        let store = self.store.clone();
        let forwarder = self.forwarder.clone();
        store.record(Event::new(EventKind::ServiceStarted).with(detail.clone())).await?;
        tracing::info!(
            roles = names.join(","),
            version = env!("CARGO_PKG_VERSION"),
            "service started"
        );
        let mut tasks = JoinSet::new();
        self.spawn(&mut tasks, &cancel).await?;
        let mut outcome = Ok(());
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(GRACE + LAST_WORDS).await;
        };
        tokio::pin!(overdue);
        loop {
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                () = &mut overdue => {
                    tracing::warn!("stopped in the middle of something: its lease runs out");
                    break;
                }
            };
            let Some(ended) = ended else { break };
            let ended = ended.context("a role's task broke off").flatten();
            // The first role that ends, well or badly, ends the others.
            cancel.cancel();
            if outcome.is_ok() {
                outcome = ended;
            }
        }
        tasks.abort_all();
        store.record(Event::new(EventKind::ServiceStopped).with(detail)).await?;
        if let Some(forwarder) = forwarder {
            forwarder.finish().await;
        }
        tracing::info!("service stopped");
        store.close().await;
        outcome
    }

    async fn spawn(
        self,
        tasks: &mut JoinSet<Result<()>>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let Self { store, spool, queue, packs, config, listener, api, device, delivers, .. } = self;
        let metrics = telemetry::install_metrics()?;
        tasks.spawn(telemetry::keep_metrics(metrics.clone(), cancel.clone()));
        if let Some(root_keeper) = self.root_keeper {
            tasks.spawn(root_keeper.run(cancel.clone()));
        }
        if let Some(forwarder) = self.forwarder {
            tasks.spawn(forwarder.run(cancel.clone()));
        }
        let protocols = LiveProtocols::new(config.protocols.clone());
        if let Some(listener) = listener {
            let reconciled = spool.reconcile(&store, RECONCILE_AGE).await?;
            if reconciled.removed > 0 || !reconciled.set_aside.is_empty() {
                tracing::warn!(
                    removed = reconciled.removed,
                    set_aside = reconciled.set_aside.len(),
                    "unfinished files of the last run cleared from the spool"
                );
            }
            if let Some(planned) = config.self_test {
                let address = listener.address();
                let test = SelfTest::of(&config.listener, address, store.clone(), spool.clone());
                tasks.spawn(Nightly { test, at: planned.at }.run(cancel.clone()));
            }
            tasks.spawn(listener.run(store.clone(), spool.clone(), cancel.clone()));
            let settler = Settler {
                store: store.clone(),
                spool: spool.clone(),
                protocols: protocols.clone(),
                packs: Arc::clone(&packs),
                quiet: config.completeness.quiet,
                holds_after_failed_test: config.self_test.is_some_and(|test| test.holds_jobs),
                study_quiet: config.completeness.study,
                pacs: PacsQuery::of(&config),
            };
            settler.store.set_protocol_rules(&rules_of(&config.protocols)).await?;
            tasks.spawn(settler.run(cancel.clone()));
            let reloader = Reloader {
                store: store.clone(),
                config: Arc::clone(&config),
                packs: Arc::clone(&packs),
                protocols: protocols.clone(),
            };
            tasks.spawn(reloader.run(cancel.clone()));
        }
        if let Some(device) = device {
            let worker = Worker {
                store: store.clone(),
                spool: spool.clone(),
                queue: queue.clone(),
                packs: Arc::clone(&packs),
                device,
                destinations: config.destinations.clone().into(),
                name: actor("work"),
                grace: GRACE,
                ageing: config.ageing,
                leases: config.leases,
                tally: Tally::default(),
            };
            tasks.spawn(worker.run(cancel.clone()));
        }
        if delivers {
            let deliverer = Deliverer {
                store: store.clone(),
                spool: spool.clone(),
                destinations: config.destinations.clone().into(),
                name: actor("deliver"),
                leases: config.leases,
            };
            tasks.spawn(deliverer.run(cancel.clone()));
            if let Some(policy) = config.spool.retention {
                let retention = Retention { store: store.clone(), spool: spool.clone(), policy };
                tasks.spawn(retention.run(cancel.clone()));
            }
        }
        // Every process may relay and watch over leases: claims keep them out of each other's way.
        let relay = Relay { store: store.clone(), queue: queue.clone(), leases: config.leases };
        tasks.spawn(relay.run(cancel.clone()));
        if let Some(api) = api {
            let (door, committer) = Door::new(&config.listener, &config.api, &store, &spool);
            store.close_lost_associations(door.name()).await?;
            tasks.spawn(async move {
                committer.run().await;
                Ok(())
            });
            let facts = Facts {
                store,
                spool,
                queue,
                packs,
                config,
                protocols,
                access: api.access(),
                pictures: Arc::new(Pictures::default()),
                door: Arc::new(door),
                metrics: Arc::new(metrics),
            };
            tasks.spawn(api.run(facts, cancel.clone()));
        }
        Ok(())
    }
}

/// A token that is cancelled by SIGTERM or Ctrl-C. A second signal ends the process at once.
///
/// # Errors
/// When signals cannot be watched.
pub(crate) fn stop_on_signals(tasks: &mut JoinSet<()>) -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    tasks.spawn(async move {
        for count in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if count > 0 {
                tracing::warn!("stopped by a second signal");
                std::process::exit(1);
            }
            tracing::info!("stopping");
            cancelled.cancel();
        }
    });
    Ok(cancel)
}
