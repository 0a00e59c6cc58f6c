//! Child processes: started with a log file of their own, paused, killed, stopped, and never left behind.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Ports are looked for here: below the range from which systems take the local ports of outgoing connections, so that
/// the port of a node that was killed is not taken by somebody's connection before it is back.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What `tail` reads at most.
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// A program that runs as a child of this one. It is killed when this value is dropped, also in a panic.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A program that is not running yet. What it prints will be appended to `log`.
    pub fn new(program: &Path, log: PathBuf) -> Self {
        Self { program: program.to_owned(), log, child: None }
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// The log file cannot be written, or the program cannot be started.
    ///
    /// # Panics
    ///
    /// When it is running.
    pub fn start(&mut self, args: &[OsString]) -> io::Result<()> {
        assert!(self.child.is_none(), "{} is running already", self.program.display());
        let mut log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let shown: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        writeln!(log, "--- {} {}", self.program.display(), shown.join(" "))?;
        let child = Command::new(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is for this process, which then ends its children.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// How it ended by itself, if it has.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Whether it was started, and neither killed nor stopped, nor found to have ended.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Sends SIGKILL and returns when it is gone.
    ///
    /// # Errors
    ///
    /// The signal cannot be sent.
    pub async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// Sends SIGTERM and returns how it ended.
    ///
    /// # Errors
    ///
    /// It has not ended within `timeout`; it was killed then.
    pub async fn terminate(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        let Some(mut child) = self.child.take() else {
            return Err(io::Error::other("it was not running"));
        };
        signal(&child, Signal::TERM)?;
        match tokio::time::timeout(timeout, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                child.kill().await?;
                let message = format!("it had not stopped {} s after SIGTERM", timeout.as_secs_f32());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    /// Sends SIGSTOP: it does nothing from now on, and its connections stay. Nothing happens if it does not run.
    ///
    /// # Errors
    ///
    /// The signal cannot be sent.
    pub fn pause(&self) -> io::Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| signal(child, Signal::STOP))
    }

    /// Sends SIGCONT: it goes on where it was paused. Nothing happens if it does not run.
    ///
    /// # Errors
    ///
    /// The signal cannot be sent.
    pub fn resume(&self) -> io::Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| signal(child, Signal::CONT))
    }

    /// The number that the system knows it by, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    // Without an id it has ended, and has been waited for.
    match child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        Some(pid) => Ok(kill_process(pid, signal)?),
        None => Ok(()),
    }
}

/// The last lines of a file.
///
/// # Errors
///
/// It cannot be read.
pub fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

/// Addresses on this machine that nobody listened on just now, all different.
///
/// # Errors
///
/// No port is free, which on a healthy machine does not happen.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let mut held: Vec<TcpListener> = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..PORTS.len() {
        if addresses.len() == count {
            break;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
        // Held until all are found, so that none is found twice.
        if let Ok(listener) = TcpListener::bind(address) {
            addresses.push(address);
            held.push(listener);
        }
    }
    if addresses.len() < count {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("found no {count} free ports from {} to {}", PORTS.start, PORTS.end - 1),
        ));
    }
    Ok(addresses)
}

/// Makes sure that `folder` exists and holds nothing.
///
/// # Errors
///
/// It is not empty, or cannot be made.
pub fn claim_empty_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if fs::read_dir(folder)?.next().is_some() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("the folder {} is not empty: name a new or an empty one", folder.display()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use rustix::process::test_kill_process;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(folder: &Path, script: &str) -> Process {
        let mut process = Process::new(Path::new("/bin/sh"), folder.join("log"));
        process.start(&["-c".into(), script.into()]).unwrap();
        process
    }

    fn pid(process: &Process) -> Pid {
        Pid::from_raw(process.child.as_ref().unwrap().id().unwrap().cast_signed()).unwrap()
    }

    /// Waits until `condition` holds.
    async fn until(condition: impl AsyncFn() -> bool) {
        let wait = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(2)).await; // paces the polling
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the condition did not come true");
    }

    #[tokio::test]
    async fn a_child_dies_when_it_is_dropped_also_in_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell(folder.path(), "exec sleep 1000");
        let id = pid(&process);
        assert!(test_kill_process(id).is_ok());
        let panicking = tokio::spawn(async move {
            let _held = process;
            panic!("for the test");
        });
        assert!(panicking.await.unwrap_err().is_panic());
        until(async || test_kill_process(id).is_err()).await;
    }

    #[tokio::test]
    async fn a_killed_child_is_gone_and_can_be_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "exec sleep 1000");
        let id = pid(&process);
        process.kill().await.unwrap();
        assert!(test_kill_process(id).is_err());
        assert!(!process.is_started());
        process.start(&["-c".into(), "exit 7".into()]).unwrap();
        let child = process.child.as_mut().unwrap();
        assert_eq!(tokio::time::timeout(LONG, child.wait()).await.unwrap().unwrap().code(), Some(7));
        assert_eq!(process.ended().unwrap().unwrap().code(), Some(7));
        assert!(!process.is_started());
    }

    #[tokio::test]
    async fn a_paused_child_does_nothing_until_it_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "echo ready; while :; do echo on; sleep 0.01; done");
        let lines = || tail(process.log(), usize::MAX).unwrap().lines().count();
        until(async || 2 < lines()).await;
        process.pause().unwrap();
        let stat = format!("/proc/{}/stat", pid(&process).as_raw_nonzero());
        until(async || fs::read_to_string(&stat).unwrap().contains(") T ")).await;
        let paused = lines();
        process.resume().unwrap();
        until(async || paused < lines()).await;
        process.kill().await.unwrap();
        assert!(process.pause().is_ok() && process.resume().is_ok());
    }

    #[tokio::test]
    async fn a_child_is_asked_to_stop_and_tells_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            shell(folder.path(), "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        until(async || tail(process.log(), 1).unwrap() == "ready").await;
        assert_eq!(process.terminate(LONG).await.unwrap().code(), Some(3));
        assert!(process.terminate(LONG).await.is_err());
    }

    #[tokio::test]
    async fn a_child_that_does_not_stop_is_killed_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "trap '' TERM; echo ready; while :; do sleep 0.01; done");
        until(async || tail(process.log(), 1).unwrap() == "ready").await;
        let id = pid(&process);
        let error = process.terminate(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.to_string(), "it had not stopped 0.05 s after SIGTERM");
        assert!(test_kill_process(id).is_err());
    }

    #[tokio::test]
    async fn what_a_child_prints_is_in_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "echo one; echo two >&2; echo three; kill -9 $$");
        let child = process.child.as_mut().unwrap();
        assert_eq!(tokio::time::timeout(LONG, child.wait()).await.unwrap().unwrap().signal(), Some(9));
        assert_eq!(tail(process.log(), 2).unwrap(), "two\nthree");
        assert!(tail(process.log(), 10).unwrap().starts_with("--- /bin/sh -c echo one"));
    }

    #[test]
    fn free_addresses_are_different_and_can_be_listened_on() {
        let addresses = free_addresses(20).unwrap();
        let listeners: Vec<_> = addresses.iter().map(|address| TcpListener::bind(address).unwrap()).collect();
        assert_eq!(listeners.len(), 20);
    }

    #[test]
    fn a_folder_that_is_not_empty_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("new").join("folder");
        claim_empty_folder(&inner).unwrap();
        claim_empty_folder(&inner).unwrap();
        let error = claim_empty_folder(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("is not empty: name a new or an empty one"), "{error}");
    }
}
