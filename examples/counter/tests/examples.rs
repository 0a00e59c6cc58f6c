//! The examples do what they say, in real processes, and are as short as they say.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Lines of code: neither blank nor a comment.
fn lines_of_code(file: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let source = std::fs::read_to_string(path).unwrap();
    source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn a_durable_counter_needs_less_than_60_lines() {
    let lines = lines_of_code("main.rs");
    assert!(lines < 60, "{lines} lines");
}

#[test]
fn a_durable_key_value_store_needs_less_than_150_lines() {
    let lines = lines_of_code("bin/minimal_kv.rs");
    assert!(lines < 150, "{lines} lines");
}

/// The first of four ports of which the last three are free, as far as can be known.
fn free_ports() -> u16 {
    // Below the ports that the system hands out by itself, and another place for each test and each run.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 1000) as u16 * 16 + NEXT.fetch_add(8, Ordering::Relaxed);
    (start..32_000)
        .step_by(4)
        .find(|port| (1..4).all(|i| TcpListener::bind(("127.0.0.1", port + i)).is_ok()))
        .expect("there are free ports")
}

/// Runs the counter once and returns what it printed.
fn count(dir: &Path, port: u16) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_counter"))
        .arg(dir.join("counter"))
        .arg(port.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_counter_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports();
    for run in 1..=3 {
        let printed = count(dir.path(), port);
        assert!(printed.contains(&format!("leads and has counted to {run}\n")), "{printed}");
        for id in 1..=3 {
            assert!(printed.contains(&format!("node {id} reads {run}\n")), "{printed}");
        }
    }
}

/// A running `minimal_kv`.
struct Node {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(cluster: &Cluster, id: u16, init: Option<&str>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_minimal_kv"))
            .arg(id.to_string())
            .arg(cluster.dir.join(id.to_string()))
            .arg(&cluster.nodes)
            .args(init)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(output.next().unwrap().unwrap(), format!("node {id} is ready"));
        Self { child, input, output }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.output.next().unwrap().unwrap()
    }

    /// No goodbye, as a power failure would do it.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The end of its input.
    fn stop(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing is left behind when a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Cluster {
    dir: PathBuf,
    nodes: String,
}

/// Asks any node to carry out a change until one has: only where the answer says that it did not happen.
fn change(nodes: &mut [Node], line: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for node in &mut *nodes {
            let answer = node.ask(line);
            if !answer.starts_with("error: not the leader") {
                return answer;
            }
            assert!(Instant::now() < deadline, "no node leads: {answer}");
        }
    }
}

/// The place of the leader.
fn leader(nodes: &mut [Node]) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(leader) = nodes.iter_mut().position(|node| node.ask("status").starts_with("leader")) {
            return leader;
        }
        assert!(Instant::now() < deadline, "no node leads");
    }
}

#[test]
fn the_key_value_store_survives_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports();
    let nodes: Vec<_> = (1..=3).map(|id| format!("{id}=127.0.0.1:{}", port + id)).collect();
    let cluster = Cluster { dir: dir.path().into(), nodes: nodes.join(",") };
    let mut nodes = vec![
        Node::start(&cluster, 1, Some("init")),
        Node::start(&cluster, 2, None),
        Node::start(&cluster, 3, None),
    ];
    assert_eq!(change(&mut nodes, "put a 1"), "(none)");
    assert_eq!(change(&mut nodes, "put a 2"), "1");
    assert_eq!(change(&mut nodes, "put b 3"), "(none)");
    for node in &mut nodes {
        assert_eq!(node.ask("get a"), "2");
        assert_eq!(node.ask("list"), "a=2 b=3");
    }
    assert!(nodes[0].ask("nonsense").starts_with("error: put KEY VALUE"));

    let killed = leader(&mut nodes);
    nodes.remove(killed).kill();
    assert_eq!(change(&mut nodes, "delete a"), "2");
    nodes.insert(killed, Node::start(&cluster, killed as u16 + 1, None));
    for node in &mut nodes {
        assert_eq!(node.ask("list"), "b=3");
    }
    // All at once, and again from what is on the disks.
    change(&mut nodes, "put c 4");
    nodes.into_iter().for_each(Node::kill);
    let mut nodes: Vec<_> = (1..=3).map(|id| Node::start(&cluster, id, None)).collect();
    assert_eq!(change(&mut nodes, "put d 5"), "(none)");
    for node in &mut nodes {
        assert_eq!(node.ask("list"), "b=3 c=4 d=5");
    }
    nodes.into_iter().for_each(Node::stop);
}

#[test]
fn wrong_arguments_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    for (arguments, reason) in [
        (&[][..], "usage: minimal_kv ID FOLDER"),
        (&["1", folder, "1"], "usage: minimal_kv ID FOLDER"),
        (&["4", folder, "1=127.0.0.1:1"], "this node is not in the list"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_minimal_kv")).args(arguments).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(reason), "{text}");
    }
}
