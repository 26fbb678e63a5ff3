//! kill -9 of listener, workers, deliverer, broker and database at random, while DCMTK sends series in a loop.
//!
//! The long form is the same test with more rounds: `ops/kill-campaign 50`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use test_harness::Service;

use crate::house::{Acknowledged, House, Plan};

/// Rounds, where the environment names no number: a turn for everyone.
const SHORT: u64 = 6;
const ROUNDS: &str = "PROSECTOR_CAMPAIGN_ROUNDS";
const SEED: &str = "PROSECTOR_CAMPAIGN_SEED";
/// Leases are short, so that what a dead process had in hand goes on soon. The campaign is about what is lost and
/// what comes twice; a job may be killed more often than a hospital would try it.
const SITE: &str = "[queue]\nlease = \"4s\"\nattempts = 40\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Listener,
    Worker(usize),
    Deliverer,
    Broker,
    Database,
}

const VICTIMS: [Victim; 6] = [
    Victim::Listener,
    Victim::Worker(0),
    Victim::Worker(1),
    Victim::Deliverer,
    Victim::Broker,
    Victim::Database,
];

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener => f.write_str("listener"),
            Self::Worker(index) => write!(f, "worker {}", index + 1),
            Self::Deliverer => f.write_str("deliverer"),
            Self::Broker => f.write_str("broker"),
            Self::Database => f.write_str("database"),
        }
    }
}

#[test]
fn nothing_is_lost_or_repeated_when_anything_is_killed_at_random() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse().unwrap());
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let rounds = number(ROUNDS).unwrap_or(SHORT);
    let seed = number(SEED).unwrap_or(clock);
    println!("campaign of {rounds} rounds, {SEED}={seed}");
    let house = House::start(&Plan { site: SITE, further_workers: 1, ..Plan::default() });
    let (port, folder) = (house.listener.dicom_port(), house.folder.path().to_owned());
    let is_over = AtomicBool::new(false);
    let mut supervisor = Supervisor::new(house);
    let start = Instant::now();

    let sent = std::thread::scope(|scope| {
        // Two modalities, so that something arrives whenever something is killed.
        let senders = [1000, 100_000].map(|first| {
            let (folder, is_over) = (&folder, &is_over);
            scope.spawn(move || {
                let mut sent = Acknowledged::default();
                for seed in first.. {
                    sent.send(port, folder, seed).unwrap();
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                sent
            })
        });
        let mut chance = Chance { state: seed };
        let first = chance.below(VICTIMS.len() as u64) as usize;
        for round in 1..=rounds {
            supervisor.watch_for(Duration::from_millis(300 + chance.below(4000)));
            let victim = VICTIMS[(first + round as usize) % VICTIMS.len()];
            let victims = supervisor.strike(victim, &mut chance);
            println!("round {round}: {victims}");
            assert!(!senders.iter().any(ScopedJoinHandle::is_finished), "a sender gave up");
        }
        is_over.store(true, Ordering::Relaxed);
        while !senders.iter().all(ScopedJoinHandle::is_finished) {
            supervisor.watch_for(Duration::from_millis(200));
        }
        let [one, other] = senders.map(|sender| sender.join().unwrap());
        one.and(other)
    });
    let limit = Instant::now() + Duration::from_mins(3) + Duration::from_secs(2) * rounds as u32;
    while Instant::now() < limit && !supervisor.house.is_at_rest(sent.series.len()).unwrap_or(false)
    {
        supervisor.watch_for(Duration::from_millis(200));
    }
    supervisor.wait_until_all_are_back();
    supervisor.house.assert_nothing_lost(&sent);

    let house = &supervisor.house;
    let count = |question: &str| house.sql(question).unwrap();
    println!(
        "seed {seed}: {rounds} rounds in {} s; killed: {}; {} series with {} instances acknowledged, {} times sent \
         once more; {} jobs, {} superseded, {} leases lapsed; {} segmentations in the PACS; restarts by the \
         supervisor alone: {}",
        start.elapsed().as_secs(),
        supervisor.tally(),
        sent.series.len(),
        sent.instances.len(),
        sent.resent,
        count("select count(*) from job"),
        count("select count(*) from job where state = 'superseded'"),
        count("select count(*) from event where kind = 'lease_lapsed'"),
        house.pacs.instances_of_modality("SEG").unwrap().len(),
        supervisor.own_ends,
    );
    assert!(supervisor.broke_down.is_empty(), "ended by themselves: {:?}", supervisor.broke_down);
}

/// Starts whatever has ended, as systemd does, and never helps in another way.
struct Supervisor {
    house: House,
    kills: Vec<Victim>,
    /// Processes that answered as ready since they were started.
    were_ready: Vec<Victim>,
    /// Ends of processes that nobody killed, while something that they need to start was down.
    own_ends: u64,
    /// The same of processes that had been ready: nothing that is killed beside it may end one.
    broke_down: Vec<String>,
}

impl Supervisor {
    fn new(house: House) -> Self {
        let were_ready = VICTIMS.to_vec();
        Self { house, kills: Vec::new(), were_ready, own_ends: 0, broke_down: Vec::new() }
    }

    /// Kills `first`, sometimes another with it, and starts them again after a while.
    fn strike(&mut self, first: Victim, chance: &mut Chance) -> String {
        let mut victims = vec![first];
        let other = VICTIMS[chance.below(VICTIMS.len() as u64) as usize];
        if chance.below(3) == 0 && !victims.contains(&other) {
            victims.push(other);
        }
        for victim in &victims {
            self.service(*victim).kill().unwrap();
            self.were_ready.retain(|ready| ready != victim);
        }
        let names: Vec<String> = victims.iter().map(ToString::to_string).collect();
        self.kills.extend(&victims);
        sleep(Duration::from_millis(chance.below(1500)));
        for victim in victims {
            self.spawn_again(victim);
        }
        names.join(" and ")
    }

    fn watch_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.watch();
            if Instant::now() >= end {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn watch(&mut self) {
        for victim in VICTIMS {
            if !self.service(victim).is_running().unwrap() {
                if self.were_ready.contains(&victim) {
                    let log = self.service(victim).log();
                    let last: Vec<&str> = log.lines().rev().take(3).collect();
                    self.broke_down.push(format!("{victim}: {last:?}"));
                    self.were_ready.retain(|ready| *ready != victim);
                }
                self.own_ends += 1;
                self.spawn_again(victim);
            } else if !self.were_ready.contains(&victim) && self.is_ready(victim) {
                self.were_ready.push(victim);
            }
        }
    }

    fn wait_until_all_are_back(&mut self) {
        let limit = Instant::now() + Duration::from_mins(2);
        while self.were_ready.len() < VICTIMS.len() {
            assert!(Instant::now() < limit, "only {:?} are back", self.were_ready);
            self.watch_for(Duration::from_millis(200));
        }
    }

    fn tally(&self) -> String {
        let count = |victim| self.kills.iter().filter(|killed| **killed == victim).count();
        let counts = VICTIMS.map(|victim| format!("{victim} {}", count(victim)));
        counts.join(", ")
    }

    fn service(&mut self, victim: Victim) -> &mut Service {
        match victim {
            Victim::Listener => self.house.listener.service(),
            Victim::Worker(index) => self.house.workers[index].service(),
            Victim::Deliverer => self.house.deliverer.service(),
            Victim::Broker => self.house.broker.service(),
            Victim::Database => self.house.database.service(),
        }
    }

    fn spawn_again(&mut self, victim: Victim) {
        match victim {
            Victim::Listener => self.house.listener.spawn_again(),
            Victim::Worker(index) => self.house.workers[index].spawn_again(),
            Victim::Deliverer => self.house.deliverer.spawn_again(),
            Victim::Broker => self.house.broker.spawn_again(),
            Victim::Database => self.house.database.spawn_again(),
        }
        .unwrap();
    }

    fn is_ready(&self, victim: Victim) -> bool {
        match victim {
            Victim::Listener => self.house.listener.is_ready(),
            Victim::Worker(index) => self.house.workers[index].is_ready(),
            Victim::Deliverer => self.house.deliverer.is_ready(),
            Victim::Broker => self.house.broker.listens(),
            Victim::Database => self.house.sql("select 1").is_ok(),
        }
    }
}

/// `SplitMix64`: the same numbers for the same seed.
struct Chance {
    state: u64,
}

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
