//! RabbitMQ from Debian's packages.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::service::{Service, bound_command, free_port, give_to, program, wait_until};

const USER: &str = "rabbitmq";
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// A RabbitMQ broker on a loopback port, with its own port mapper.
#[derive(Debug)]
pub struct RabbitMq {
    service: Service,
    _port_mapper: Service,
    ports: Ports,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    distribution: u16,
    port_mapper: u16,
}

/// The broker that the tests of one program share.
///
/// # Panics
/// When RabbitMQ is not installed or does not start: the tests cannot go on without it.
pub fn shared() -> &'static RabbitMq {
    static SHARED: OnceLock<RabbitMq> = OnceLock::new();
    SHARED.get_or_init(|| RabbitMq::start().expect("RabbitMQ starts"))
}

impl RabbitMq {
    /// Starts a broker with its data in a temporary folder.
    ///
    /// # Errors
    /// When RabbitMQ is missing or does not answer within a minute and a half.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts a broker with lines of `rabbitmq.conf`, such as `consumer_timeout = 60000`.
    ///
    /// # Errors
    /// When RabbitMQ is missing or does not answer within a minute and a half.
    pub fn start_with(settings: &str) -> Result<Self> {
        program("rabbitmq-server", "rabbitmq-server", &[SCRIPTS])?;
        let epmd = program("epmd", "erlang-base", &[])?;
        let ports =
            Ports { amqp: free_port()?, distribution: free_port()?, port_mapper: free_port()? };
        let mapper_folder = tempfile::Builder::new().prefix("epmd-").tempdir()?;
        let mut mapper = bound_command(&epmd.to_string_lossy(), None);
        mapper.args(["-port", &ports.port_mapper.to_string(), "-address", "127.0.0.1"]);
        let port_mapper = Service::start("epmd", mapper_folder, mapper)?;

        let folder = tempfile::Builder::new().prefix("rabbitmq-").tempdir()?;
        std::fs::write(folder.path().join("rabbitmq.conf"), format!("{settings}\n"))?;
        std::fs::write(folder.path().join("enabled_plugins"), "[].\n")?;
        give_to(folder.path(), USER)?;
        let command = broker_command(folder.path(), ports);
        let service = Service::start("rabbitmq", folder, command)?;
        let broker = Self { service, _port_mapper: port_mapper, ports };
        broker.wait_until_ready()?;
        Ok(broker)
    }

    /// Makes a virtual host and returns its AMQP URL.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_vhost(&self) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.ctl(&["add_vhost", &name])?;
        self.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"])?;
        Ok(format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.ports.amqp))
    }

    /// Runs `rabbitmqctl` and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message holds what it printed.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = bound_command(&format!("{SCRIPTS}/rabbitmqctl"), Some(USER));
        set_environment(&mut command, self.service.folder(), self.ports);
        let output = command
            .args(["-q", "--timeout", "30"])
            .args(arguments)
            .output()
            .context("rabbitmqctl")?;
        if !output.status.success() {
            bail!(
                "rabbitmqctl {}: {}{}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Kills the broker with SIGKILL.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.service.kill()
    }

    /// Removes everything that a killed broker knew.
    ///
    /// # Errors
    /// When the data cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        self.kill()?;
        Ok(std::fs::remove_dir_all(self.service.folder().join("data"))?)
    }

    /// Starts a killed broker on what data it has.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn_again()?;
        self.wait_until_ready()
    }

    /// Starts a killed broker on what data it has without waiting for it, as a supervisor does.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn_again(&mut self) -> Result<()> {
        let command = broker_command(self.service.folder(), self.ports);
        self.service.restart(command)
    }

    /// The broker's process and its folder.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Whether somebody listens on the broker's port.
    pub fn listens(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.ports.amqp)).is_ok()
    }

    /// Waits until the broker takes connections.
    ///
    /// # Errors
    /// When it does not within a minute and a half.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_until("RabbitMQ to answer", Duration::from_secs(90), || {
            if !self.listens() {
                return Ok(false);
            }
            self.ctl(&["await_startup"]).map(|_| true)
        })
        .with_context(|| format!("log of RabbitMQ: {}", self.service.log()))
    }
}

fn broker_command(folder: &Path, ports: Ports) -> Command {
    let mut command = bound_command(&format!("{SCRIPTS}/rabbitmq-server"), Some(USER));
    set_environment(&mut command, folder, ports);
    command
}

fn set_environment(command: &mut Command, folder: &Path, ports: Ports) {
    command
        .current_dir(folder)
        .env("HOME", folder)
        // Lets the script replace itself by the broker instead of watching over it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env("ERL_EPMD_PORT", ports.port_mapper.to_string())
        .env("RABBITMQ_NODENAME", format!("prosector-{}@localhost", ports.amqp))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        // To the standard output, and so into the log that the harness keeps.
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", folder.join("pid"));
}
