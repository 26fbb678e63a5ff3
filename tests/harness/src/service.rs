//! A child process that ends with the test program, in a temporary folder that is kept on failure.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// A port of the loopback interface that nobody listens on at this moment.
///
/// # Errors
/// When the system has no free port.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Polls `condition` until it holds.
///
/// # Errors
/// When it does not hold within `limit`; the message names `what`.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    let mut last_error = None;
    while start.elapsed() < limit {
        match condition() {
            Ok(true) => return Ok(()),
            Ok(false) => last_error = None,
            Err(error) => last_error = Some(error),
        }
        thread::sleep(Duration::from_millis(50));
    }
    match last_error {
        Some(error) => Err(error.context(format!("waited {limit:?} for {what}"))),
        None => bail!("waited {limit:?} for {what}"),
    }
}

/// Folder of test material named by an environment variable.
///
/// Test material that is too large for the repository lies outside it. Tests over it are marked as ignored with the
/// variable's name, and the test command runs them where the variables name the folders.
///
/// # Errors
/// When the variable names no folder.
pub fn material(variable: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_dir());
    folder.with_context(|| format!("{variable} names no folder: run without --include-ignored"))
}

/// A running server and its folder.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    child: Child,
    folder: Option<TempDir>,
}

impl Service {
    /// Starts `command`; its output goes to `<folder>/<name>.log`.
    ///
    /// # Errors
    /// When the program is missing or does not start.
    pub fn start(name: &'static str, folder: TempDir, command: Command) -> Result<Self> {
        let child = spawn_logged(name, folder.path(), command)?;
        Ok(Self { name, child, folder: Some(folder) })
    }

    /// The folder that holds the server's data and log.
    ///
    /// # Panics
    /// Never: the folder is there until the service is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("the folder is taken by drop alone").path()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`.
    ///
    /// # Errors
    /// When `kill` refuses.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status()?;
        if !status.success() {
            bail!("kill -s {signal} {} of pid {}: {status}", self.name, self.pid());
        }
        Ok(())
    }

    /// Kills with SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().ok();
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself and returns its exit code.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<i32>> {
        let name = self.name;
        wait_until(&format!("the end of {name}"), limit, || Ok(!self.is_running()?))?;
        Ok(self.child.wait()?.code())
    }

    /// Starts another process in the same folder, after the first one has ended.
    ///
    /// # Errors
    /// When the program does not start.
    pub fn restart(&mut self, command: Command) -> Result<()> {
        self.kill()?;
        self.child = spawn_logged(self.name, self.folder(), command)?;
        Ok(())
    }

    /// What the process has written so far.
    pub fn log(&self) -> String {
        std::fs::read(self.folder().join(format!("{}.log", self.name)))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill().ok();
        if thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("{}: data and log kept in {}", self.name, folder.keep().display());
        }
    }
}

fn spawn_logged(name: &'static str, folder: &Path, mut command: Command) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join(format!("{name}.log")))
        .context("open the service's log")?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    spawn_bound(command).with_context(|| format!("start {name}"))
}

/// A command that runs `program` as `user` (or as the caller) and dies with the thread that spawns it.
pub(crate) fn bound_command(program: &str, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user.filter(|_| is_root()) {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// Whether this program runs as root, which PostgreSQL refuses to do.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt;
        meta.uid() == 0
    })
}

/// Gives a folder to `user` where the caller is root.
pub(crate) fn give_to(folder: &Path, user: &str) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let status = Command::new("chown").arg("-R").arg(user).arg(folder).status()?;
    if !status.success() {
        bail!("chown {user} {}: {status}", folder.display());
    }
    Ok(())
}

/// The path of a program, looked for on the PATH and in the given folders.
pub(crate) fn program(name: &str, package: &str, folders: &[&str]) -> Result<PathBuf> {
    let on_path = std::env::var("PATH").unwrap_or_default();
    folders
        .iter()
        .copied()
        .chain(on_path.split(':'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: apt-get install {package}"))
}

/// The parent-death signal fires when the spawning thread ends, so one thread that lives as long as the program
/// spawns everything.
fn spawn_bound(command: Command) -> Result<Child> {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                reply.send(command.spawn()).ok();
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).context("the spawning thread has ended")?;
    Ok(child.recv().context("the spawning thread has ended")??)
}
