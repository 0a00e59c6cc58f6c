//! Real `kv serve` processes on loopback ports, and `kv` commands against them.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An address on which nobody listens, and that no other test of this process gets. Below the ports that the system
/// gives to outgoing connections.
pub fn free_address() -> String {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = fastrand::u16(10_240..32_000);
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free && TAKEN.lock().unwrap().insert(port) {
            return format!("127.0.0.1:{port}");
        }
    }
}

/// Calls `condition` until it returns something; panics with what it said last when that takes too long.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(last) if deadline < Instant::now() => panic!("still waiting for {what}: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)), // paces the questions
        }
    }
}

/// A `kv` command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output, if it has succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It has ended with `code`, and says `says` on standard error.
    #[track_caller]
    pub fn fails(self, code: i32, says: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(says), "{says:?} is not in {self:?}");
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

fn kv_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(args).env_remove("KV_ENDPOINTS").env_remove("KV_LOG").stdin(Stdio::null());
    command
}

/// Runs `kv` without endpoints.
pub fn kv(args: &[&str]) -> Ended {
    Ended::of(kv_command(args).output().unwrap())
}

/// Runs `kv` with `input` on its standard input.
pub fn kv_with_input(args: &[&str], endpoints: &str, input: &[u8]) -> Ended {
    let mut command = kv_command(args);
    command.env("KV_ENDPOINTS", endpoints);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that stops early does not read the rest.
        let _ = stdin.write_all(&input);
    });
    let ended = Ended::of(child.wait_with_output().unwrap());
    writer.join().unwrap();
    ended
}

/// A node: a process when it runs, and its files.
pub struct Node {
    pub id: u64,
    pub address: String,
    pub dir: PathBuf,
    /// The line that it has printed when it began to serve.
    pub ready: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    pub fn new(folder: &Path, id: u64) -> Self {
        let dir = folder.join(format!("node{id}"));
        let log = folder.join(format!("node{id}.log"));
        Self { id, address: free_address(), dir, ready: String::new(), log, child: None }
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let id = self.id.to_string();
        let dir = self.dir.to_str().unwrap();
        // Short files of the log: there are many nodes.
        let mut args =
            vec!["--log", "info", "serve", "--id", &id, "--listen", &self.address, "--data-dir", dir];
        if !more.contains(&"--log-segment-bytes") {
            args.extend(["--log-segment-bytes", "262144"]);
        }
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn start(&mut self, more: &[&str]) {
        let args = self.args(more);
        let command = kv_command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.spawn(command);
    }

    /// As [`start`](Self::start), but none of its files may become larger than `bytes`: a full disk, as far as a
    /// process can tell.
    #[track_caller]
    pub fn start_with_small_disk(&mut self, bytes: u64, more: &[&str]) {
        let command = self.command_with_small_disk(bytes, more);
        self.spawn(command);
    }

    /// Starts it where no file can be so long as one that it needs.
    pub fn start_with_small_disk_fails(&self, bytes: u64, more: &[&str]) -> Ended {
        self.fails_to_start(self.command_with_small_disk(bytes, more))
    }

    fn command_with_small_disk(&self, bytes: u64, more: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        // A process that ignores the signal gets an error from the system instead.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_kv")).args(self.args(more));
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn spawn(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        self.child = Some(child);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // An empty line when it ends without one.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = ready.recv_timeout(PATIENCE).unwrap_or_default();
        assert!(line.contains("ready"), "node {} is not ready: {line}\n{}", self.id, self.log());
        self.ready = line;
    }

    /// Starts it where it cannot start.
    pub fn start_fails(&self, more: &[&str]) -> Ended {
        let args = self.args(more);
        self.fails_to_start(kv_command(&args.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn fails_to_start(&self, mut command: Command) -> Ended {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut child = Some(child);
        let output =
            until("the node to refuse to start", || match child.as_mut().unwrap().try_wait().unwrap() {
                Some(_) => Ok(child.take().unwrap().wait_with_output().unwrap()),
                None => Err("it runs".into()),
            });
        Ended::of(output)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; returns how it has ended.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.as_ref().expect("the node runs").id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.wait()
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        until("the node to end", || match child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(self.log()),
        })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs `kv` against this node, with input.
    pub fn kv_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        kv_with_input(args, &self.address, input)
    }

    /// Runs `kv` against this node.
    pub fn kv(&self, args: &[&str]) -> Ended {
        Ended::of(kv_command(args).env("KV_ENDPOINTS", &self.address).output().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of node {}\n{}", self.id, self.log());
        }
    }
}

/// Some nodes of one cluster, with ids from 1.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub folder: TempDir,
}

impl Cluster {
    /// Starts `count` first members, and waits until they take writes.
    #[track_caller]
    pub fn start(count: u64, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes: Vec<Node> = (1..=count).map(|id| Node::new(folder.path(), id)).collect();
        let mut cluster = Self { nodes, folder };
        let list = cluster.list();
        for node in &mut cluster.nodes {
            node.start(&[&["--init", list.as_str()], more].concat());
        }
        cluster.kv(&["put", "started", "yes"]).ok();
        cluster
    }

    /// For `--init`.
    pub fn list(&self) -> String {
        self.nodes.iter().map(|node| format!("{}={}", node.id, node.address)).collect::<Vec<_>>().join(",")
    }

    /// For `--endpoints`.
    pub fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.address.clone()).collect::<Vec<_>>().join(",")
    }

    /// Runs `kv` against the cluster.
    pub fn kv(&self, args: &[&str]) -> Ended {
        Ended::of(kv_command(args).env("KV_ENDPOINTS", self.endpoints()).output().unwrap())
    }

    /// Runs `kv` against the cluster, with input.
    pub fn kv_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        kv_with_input(args, &self.endpoints(), input)
    }

    /// The place in `nodes` of the leader, as soon as there is one.
    #[track_caller]
    pub fn leader(&self) -> usize {
        until("a leader", || {
            let ended = self.kv(&["status", "--json"]);
            let status: serde_json::Value =
                serde_json::from_str(&ended.out).map_err(|_| format!("{ended:?}"))?;
            let id = status["leader"].as_u64().ok_or_else(|| ended.out.clone())?;
            self.nodes.iter().position(|node| node.id == id).ok_or_else(|| format!("node {id} leads"))
        })
    }

    /// What node `id` says of itself.
    #[track_caller]
    pub fn status_of(&self, id: u64) -> serde_json::Value {
        let ended = self.kv(&["status", "--json"]);
        let status: serde_json::Value =
            serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let members = status["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["member"]["id"] == id);
        member.unwrap_or_else(|| panic!("node {id} is no member: {status}")).clone()
    }
}
