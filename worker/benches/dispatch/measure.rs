//! The measurements.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::postgres::Postgres;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::rabbitmq::RabbitMq;
use test_harness::wait_until;

use crate::{series, stand_in};

/// Time that the device takes for a job while throughput is measured.
const DEVICE_MS: u64 = 500;
/// Jobs per worker while throughput is measured.
const JOBS_PER_WORKER: usize = 20;
/// Jobs whose latency is measured, one after the other.
const LATENCY_JOBS: usize = 150;
/// Time that the device takes for a job while latency is measured.
const QUICK_DEVICE_MS: u64 = 20;
/// How long what runs without a job is counted.
const IDLE: Duration = Duration::from_secs(10);

const SITE: &str = "\
[completeness]
quiet = \"100ms\"
[log]
level = \"warn\"
[[destination]]
name = \"folder\"
folder = \"var/results\"
[[protocol]]
name = \"bench\"
match = { modality = \"CT\" }
model = \"phantom\"
targets = [\"liver\", \"spleen\"]
destinations = [\"folder\"]
";

/// Prints every figure.
pub(crate) fn run(worker_counts: &[usize]) -> Result<()> {
    let mut postgres = Postgres::start()?;
    for setting in ["shared_preload_libraries = 'pg_stat_statements'", "max_connections = 200"] {
        postgres.psql("postgres", &format!("alter system set {setting}"))?;
    }
    postgres.crash_and_restart()?;
    let broker = RabbitMq::start()?;
    println!("load at the start: {}", load()?);
    for &workers in worker_counts {
        let site = Site::start(&postgres, &broker)?;
        site.throughput(workers)?;
    }
    let site = Site::start(&postgres, &broker)?;
    site.costs()?;
    site.latency()?;
    println!("load at the end: {}", load()?);
    Ok(())
}

fn load() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.trim().to_owned())
}

/// A database, a virtual host, and the program's listener on them.
struct Site<'a> {
    postgres: &'a Postgres,
    broker: &'a RabbitMq,
    database: String,
    environment: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
    listener: Prosector,
}

/// Worker processes that end with this value.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Workers {
    /// Seconds of processor time that they have used.
    fn cpu_seconds(&self) -> Result<f64> {
        self.0.iter().map(|child| cpu_seconds(child.id())).sum()
    }
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    // User and system time, in hundredths of a second, are fields 14 and 15 of the whole line.
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

impl<'a> Site<'a> {
    fn start(postgres: &'a Postgres, broker: &'a RabbitMq) -> Result<Self> {
        let url = postgres.create_database()?;
        let database = url.rsplit('/').next().context("database")?.to_owned();
        postgres.psql(&database, "create extension pg_stat_statements")?;
        let folder = tempfile::tempdir()?;
        let environment = vec![
            ("PROSECTOR__STORE__URL", url),
            ("PROSECTOR__QUEUE__URL", broker.create_vhost()?),
            ("PROSECTOR__SPOOL__URL", format!("file://{}/spool", folder.path().display())),
        ];
        std::fs::write(folder.path().join("prosector.toml"), SITE)?;
        let borrowed: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Prosector::once(SITE, &["migrate"], &borrowed)?;
        let listener = Prosector::start_with(SITE, &["listen", "api"], &borrowed)?;
        Ok(Self { postgres, broker, database, environment, folder, listener })
    }

    fn workers(&self, count: usize, device_ms: u64) -> Result<Workers> {
        let site = self.folder.path().join("prosector.toml");
        let start = |_| {
            Command::new(std::env::current_exe()?)
                .current_dir(self.folder.path())
                .env(stand_in::SITE, &site)
                .env(stand_in::DEVICE_MS, device_ms.to_string())
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .spawn()
                .context("start a worker")
        };
        Ok(Workers((0..count).map(start).collect::<Result<_>>()?))
    }

    fn ask(&self, sql: &str) -> Result<String> {
        self.postgres.psql(&self.database, sql)
    }

    fn number(&self, sql: &str) -> Result<f64> {
        let text = self.ask(sql)?;
        text.parse().with_context(|| format!("{sql}: {text:?}"))
    }

    fn send(&self, folder: &Path) -> Result<()> {
        dcmsend(Peer { ae_title: AE_TITLE, port: self.listener.dicom_port() }, folder)?;
        Ok(())
    }

    fn wait_for_jobs(&self, condition: &str, count: usize) -> Result<()> {
        let sql = format!("select count(*) from job where {condition}");
        wait_until(&format!("{count} jobs where {condition}"), Duration::from_mins(5), || {
            Ok(self.number(&sql)? >= count as f64)
        })
    }

    /// Every job exactly once: leased once, ended once.
    fn check_that_none_ran_twice(&self) -> Result<()> {
        let twice = self.ask(
            "select job_id, kind, count(*) from event where kind in ('job_leased', 'job_done') \
              group by 1, 2 having count(*) > 1",
        )?;
        if !twice.is_empty() {
            bail!("jobs that ran twice: {twice}");
        }
        let open = self.number("select count(*) from job where state <> 'done' or attempt <> 1")?;
        ensure!(open == 0.0, "{open} jobs did not end at their first attempt");
        Ok(())
    }

    /// Jobs that all wait, and so many workers.
    fn throughput(&self, workers: usize) -> Result<()> {
        let jobs = workers * JOBS_PER_WORKER;
        let source = self.folder.path().join("source");
        series::write(&source, jobs)?;
        self.send(&source)?;
        self.wait_for_jobs("state = 'queued'", jobs)?;
        let running = self.workers(workers, DEVICE_MS)?;
        self.wait_for_jobs("state = 'done'", jobs)?;
        let cpu = running.cpu_seconds()?;
        self.check_that_none_ran_twice()?;
        let seconds =
            self.number("select extract(epoch from max(finished_at) - min(started_at)) from job")?;
        let used =
            self.number("select count(distinct actor) from event where kind = 'job_leased'")?;
        let rate = jobs as f64 / seconds;
        let bound = workers as f64 * 1000.0 / DEVICE_MS as f64;
        println!(
            "{workers} workers ({used} took jobs): {jobs} jobs in {seconds:.2} s, {rate:.2} jobs/s, {:.0} % of the \
             device's {bound:.0}; {:.0} ms CPU of the workers per job; none ran twice; load {}",
            100.0 * rate / bound,
            1000.0 * cpu / jobs as f64,
            load()?,
        );
        Ok(())
    }

    fn statements(&self) -> Result<BTreeMap<String, f64>> {
        let rows = self.ask(
            "select calls, replace(substr(query, 1, 110), chr(10), ' ') from pg_stat_statements \
              where dbid = (select oid from pg_database where datname = current_database()) \
                and query not like '%pg_stat_statements%' and query not like 'select count(*) from job where%'",
        )?;
        let mut calls = BTreeMap::new();
        for row in rows.lines() {
            let (count, query) = row.split_once('|').context("a row")?;
            *calls.entry(query.to_owned()).or_default() += count.parse::<f64>()?;
        }
        Ok(calls)
    }

    fn messages(&self) -> Result<BTreeMap<String, f64>> {
        let said = self.broker.ctl(&["eval", "rabbit_global_counters:overview()."])?;
        let mut counters = BTreeMap::new();
        for (name, rest) in said.split(',').filter_map(|part| part.split_once("=>")) {
            let name = name.trim().rsplit(['{', ' ', '\n']).next().unwrap_or_default();
            let digits: String = rest.trim().chars().take_while(char::is_ascii_digit).collect();
            if let (true, Ok(count)) = (name.starts_with("messages"), digits.parse::<f64>()) {
                *counters.entry(name.to_owned()).or_default() += count;
            }
        }
        Ok(counters)
    }

    /// Statements and messages, what runs without a job taken off.
    fn costs(&self) -> Result<()> {
        const JOBS: usize = 60;
        let _workers = self.workers(1, QUICK_DEVICE_MS)?;
        std::thread::sleep(Duration::from_secs(5));
        self.ask("select pg_stat_statements_reset()")?;
        std::thread::sleep(IDLE);
        let idle = self.statements()?;
        let idle_rate = |query: &String| idle.get(query).unwrap_or(&0.0) / IDLE.as_secs_f64();
        println!(
            "without a job: {:.1} statements a second for a listener and a worker",
            idle.values().sum::<f64>() / IDLE.as_secs_f64()
        );
        let source = self.folder.path().join("costs");
        series::write(&source, JOBS)?;
        let before = self.messages()?;
        let listener_pid = self.listener.pid();
        let listener_cpu = cpu_seconds(listener_pid)?;
        self.ask("select pg_stat_statements_reset()")?;
        let start = Instant::now();
        self.send(&source)?;
        self.wait_for_jobs("state = 'done'", JOBS)?;
        let seconds = start.elapsed().as_secs_f64();
        let statements = self.statements()?;
        let listener_cpu = cpu_seconds(listener_pid)? - listener_cpu;
        let after = self.messages()?;
        self.check_that_none_ran_twice()?;
        let mut per_job: Vec<(f64, &String)> = statements
            .iter()
            .map(|(query, calls)| ((calls - idle_rate(query) * seconds) / JOBS as f64, query))
            .collect();
        per_job.sort_by(|a, b| b.0.total_cmp(&a.0));
        let total: f64 = per_job.iter().map(|(calls, _)| calls.max(0.0)).sum();
        println!(
            "statements per job, reception of its 12 instances to its recorded end: {total:.1}"
        );
        for (calls, query) in per_job.iter().filter(|(calls, _)| *calls >= 0.2).take(40) {
            println!("  {calls:6.2}  {query}");
        }
        for (name, count) in &after {
            let count = (count - before.get(name).unwrap_or(&0.0)) / JOBS as f64;
            if count > 0.0 {
                println!("broker per job: {name} {count:.2}");
            }
        }
        println!(
            "listener: {:.0} ms CPU per job of 12 instances, reception, settling and relay together",
            1000.0 * listener_cpu / JOBS as f64
        );
        Ok(())
    }

    /// One job at a time on a worker that has nothing else to do.
    fn latency(&self) -> Result<()> {
        let before = self.number("select count(*) from job")? as usize;
        let source = self.folder.path().join("latency");
        series::write(&source, LATENCY_JOBS)?;
        let since = self.ask("select clock_timestamp()")?;
        let _workers = self.workers(1, QUICK_DEVICE_MS)?;
        std::thread::sleep(Duration::from_secs(3));
        for number in 0..LATENCY_JOBS {
            self.send(&source.join(format!("{number:03}")))?;
            self.wait_for_jobs("state = 'done'", before + number + 1)?;
        }
        self.check_that_none_ran_twice()?;
        for (what, from, to, less) in [
            ("study settled to job started", "created_at", "started_at", 0),
            (
                "job started to its recorded end, without the device",
                "started_at",
                "finished_at",
                QUICK_DEVICE_MS,
            ),
        ] {
            let figures = self.ask(&format!(
                "select round(percentile_cont(0.5) within group (order by ms)::numeric, 1), \
                        round(percentile_cont(0.99) within group (order by ms)::numeric, 1), \
                        round(max(ms)::numeric, 1) \
                   from (select 1000 * extract(epoch from {to} - {from}) - {less} as ms from job \
                          where created_at > '{since}') as waited"
            ))?;
            println!(
                "{what}: median|p99|largest {figures} ms over {LATENCY_JOBS} jobs; load {}",
                load()?
            );
        }
        Ok(())
    }
}
