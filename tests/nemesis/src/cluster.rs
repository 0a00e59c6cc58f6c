//! `Cluster`: `kv` processes and a link for each direction between them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kv::client::{Checksum, Client, ClientError, ClientOptions, NodeStatus};
use kv::process::{Process, free_addresses, tail};
use tokio::time::Instant;

use crate::Error;
use crate::link::{Link, LinkState};
use crate::seen::Seen;

/// How long a node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take to stop after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a condition is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often a cluster is begun with other ports, when one of them was taken before the node could listen.
const START_ATTEMPTS: usize = 5;

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 10;

/// Elections a little slower than usual, because all nodes share one machine; snapshots often, so that a node that was
/// away comes back through one. Leases, for the reads that rest on them. Short files of the log, so that there are many.
const SETTINGS: [&str; 12] = [
    "--election-timeout-ms",
    "200",
    "--snapshot-after",
    "100",
    "--log-keep-entries",
    "10",
    "--log-hold-entries",
    "20",
    "--lease-drift-ppm",
    "1000",
    "--log-segment-bytes",
    "65536",
];

#[derive(Debug)]
struct Node {
    address: SocketAddr,
    data: PathBuf,
    process: Process,
    is_paused: bool,
}

/// Processes, and a link for each direction between two of them. They end with this value.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    name: String,
    nodes: BTreeMap<u64, Node>,
    links: BTreeMap<(u64, u64), Link>,
    client: Client,
    /// Whether somebody may not be a voter.
    are_members_changed: bool,
    seen: Seen,
}

impl Cluster {
    /// Starts nodes 1 to `count` with data and logs in `folder`, and waits until they serve. `program` runs a node when
    /// it is called with `kv serve` and its arguments.
    ///
    /// # Errors
    ///
    /// They do not serve within `timeout`, with the ends of their logs.
    pub async fn start(program: &Path, folder: &Path, count: u64, timeout: Duration) -> Result<Self, Error> {
        let options = ClientOptions {
            timeout: STATUS_TIMEOUT,
            connect_timeout: STATUS_TIMEOUT,
            ..ClientOptions::default()
        };
        let mut cluster = Self {
            program: program.to_owned(),
            // Of another campaign on this machine nothing must be heard, whatever ports it had before.
            name: format!("nemesis-{:08x}", fastrand::u32(..)),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            client: Client::new(Vec::new(), options),
            are_members_changed: false,
            seen: Seen::default(),
        };
        for attempt in 1.. {
            cluster.begin(folder, count, attempt).await?;
            match cluster.wait_healthy("the new cluster to serve", timeout).await {
                Ok(_) => break,
                Err(_) if attempt < START_ATTEMPTS && cluster.has_logged("in use") => cluster.nodes.clear(),
                Err(error) => return Err(cluster.explain(error)),
            }
        }
        Ok(cluster)
    }

    /// Starts all processes of a new cluster. Data of an earlier attempt is not used again.
    async fn begin(&mut self, folder: &Path, count: u64, attempt: usize) -> Result<(), Error> {
        let io = |error: std::io::Error| error.to_string();
        let addresses = free_addresses(usize::try_from(count).unwrap_or(usize::MAX)).map_err(io)?;
        for (id, address) in (1..=count).zip(addresses) {
            let name = if attempt == 1 { format!("node-{id}") } else { format!("node-{id}.{attempt}") };
            let process = Process::new(&self.program, folder.join(format!("{name}.log")));
            let node = Node { address, data: folder.join(name), process, is_paused: false };
            self.nodes.insert(id, node);
        }
        for from in 1..=count {
            for to in (1..=count).filter(|to| *to != from) {
                let link = Link::new(self.nodes[&to].address).await.map_err(io)?;
                self.links.insert((from, to), link);
            }
        }
        let members: Vec<_> = self.nodes.iter().map(|(id, node)| format!("{id}={}", node.address)).collect();
        let members = members.join(",");
        for id in 1..=count {
            self.spawn(id, &["--init", &members])?;
        }
        Ok(())
    }

    fn spawn(&mut self, id: u64, more: &[&str]) -> Result<(), Error> {
        let via: Vec<_> = self
            .links
            .iter()
            .filter(|((from, _), _)| *from == id)
            .map(|((_, to), link)| format!("{to}={}", link.address()))
            .collect();
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        let mut args: Vec<OsString> =
            ["kv", "--log", "info", "serve", "--cluster", &self.name].map(OsString::from).to_vec();
        args.extend(["--data-dir".into(), node.data.clone().into_os_string()]);
        let (id_text, address, via) = (id.to_string(), node.address.to_string(), via.join(","));
        args.extend(["--id", &id_text, "--listen", &address, "--peer-via", &via].map(OsString::from));
        args.extend(SETTINGS.iter().chain(more).map(OsString::from));
        node.process.start(&args).map_err(|error| format!("node {id} cannot be started: {error}"))
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Where all nodes are reached by clients, who do not pass the links.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.values().map(|node| node.address.to_string()).collect()
    }

    /// Kills a node with SIGKILL and returns when it is gone.
    ///
    /// # Errors
    ///
    /// The signal cannot be sent.
    pub async fn kill(&mut self, id: u64) -> Result<(), Error> {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        node.is_paused = false;
        node.process.kill().await.map_err(|error| format!("node {id} cannot be killed: {error}"))
    }

    /// Pauses a node with SIGSTOP, until [`heal`](Self::heal).
    ///
    /// # Errors
    ///
    /// The signal cannot be sent.
    pub fn pause(&mut self, id: u64) -> Result<(), Error> {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        node.is_paused = true;
        node.process.pause().map_err(|error| format!("node {id} cannot be paused: {error}"))
    }

    /// Stops a node with SIGTERM and waits until it has ended well. Nothing happens if it does not run.
    ///
    /// # Errors
    ///
    /// It has not ended in time, or not well.
    pub async fn stop(&mut self, id: u64) -> Result<(), Error> {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        if !node.process.is_started() {
            return Ok(());
        }
        if std::mem::replace(&mut node.is_paused, false) {
            node.process.resume().map_err(|error| format!("node {id} cannot be resumed: {error}"))?;
        }
        let ended = node.process.terminate(STOP_TIMEOUT).await;
        let status = ended.map_err(|error| format!("node {id} did not stop: {error}"))?;
        if !status.success() {
            return Err(format!("node {id} was asked to stop and ended with {status}"));
        }
        Ok(())
    }

    /// Hands leadership to whom it is quickest. Whether that succeeds under faults is left open.
    pub async fn transfer(&self) {
        let options = ClientOptions { timeout: STATUS_TIMEOUT, ..ClientOptions::default() };
        // It may well fail: then leadership stays, or is elected.
        let _ = Client::new(self.addresses(), options).transfer(None).await;
    }

    /// Removes nodes from the members, until [`restore_members`](Self::restore_members). Whether that succeeds under
    /// faults is left open.
    pub async fn remove(&mut self, ids: &[u64]) {
        self.are_members_changed = true;
        let options = ClientOptions { timeout: STATUS_TIMEOUT, ..ClientOptions::default() };
        // It may well fail, or succeed later.
        let _ = Client::new(self.addresses(), options).member_remove(ids).await;
    }

    /// Makes all nodes voters again, with the data that they have.
    ///
    /// # Errors
    ///
    /// It does not succeed within `timeout`.
    pub async fn restore_members(&mut self, timeout: Duration) -> Result<(), Error> {
        if !self.are_members_changed {
            return Ok(());
        }
        let deadline = Instant::now() + timeout;
        let options = ClientOptions { timeout: STATUS_TIMEOUT, ..ClientOptions::default() };
        let client = Client::new(self.addresses(), options);
        let mut last = String::new();
        while Instant::now() < deadline {
            self.check_running()?;
            match self.restore_some(&client).await {
                Ok(None) => {
                    self.are_members_changed = false;
                    return Ok(());
                }
                Ok(Some(promoted)) => self.seen.members_restored += promoted,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(POLL_INTERVAL).await; // paces the attempts
        }
        Err(format!("the nodes were not made members again within {timeout:?}: {last}"))
    }

    /// One step towards all nodes being voters: how many have become voters by it. `None` when all are.
    async fn restore_some(&self, client: &Client) -> Result<Option<u64>, ClientError> {
        let membership = client.member_list().await?;
        let kind =
            |id: u64| membership.members.iter().find(|member| member.id == id).map(|member| &*member.kind);
        if let Some((id, node)) = self.nodes.iter().find(|(id, _)| kind(**id).is_none()) {
            client.member_add(*id, &node.address.to_string(), None).await?;
            return Ok(Some(0));
        }
        let learners: Vec<u64> =
            self.ids().into_iter().filter(|id| kind(*id).is_some_and(|kind| kind != "voter")).collect();
        if learners.is_empty() {
            return Ok(membership.joint.then_some(0));
        }
        client.member_promote(&learners).await?;
        Ok(Some(learners.len() as u64))
    }

    /// What the links do from nodes to nodes, in this direction.
    pub fn set_links(&self, from: &[u64], to: &[u64], state: LinkState) {
        for ((sender, receiver), link) in &self.links {
            if from.contains(sender) && to.contains(receiver) {
                link.set(state);
            }
        }
    }

    /// Ends all connections between nodes. New ones can be made at once.
    pub fn reset_links(&self) {
        self.links.values().for_each(Link::reset);
    }

    /// All links open, all nodes run.
    ///
    /// # Errors
    ///
    /// A process cannot be started or resumed.
    pub fn heal(&mut self) -> Result<(), Error> {
        for link in self.links.values() {
            link.set(LinkState::Open);
        }
        for id in self.ids() {
            let node = self.nodes.get_mut(&id).expect("a node of the cluster");
            if std::mem::replace(&mut node.is_paused, false) {
                node.process.resume().map_err(|error| format!("node {id} cannot be resumed: {error}"))?;
            }
            if !node.process.is_started() {
                self.spawn(id, &[])?;
            }
        }
        Ok(())
    }

    /// The leader in the highest term that any node tells of.
    pub async fn leader(&self) -> Option<u64> {
        let statuses = self.statuses().await;
        let term = statuses.values().map(|status| status.term).max()?;
        statuses
            .values()
            .find(|status| status.role == "leader" && status.term == term)
            .map(|status| status.id)
    }

    /// Takes in what all nodes tell of themselves, if they can.
    pub async fn look(&mut self) {
        let statuses = self.statuses().await;
        self.seen.look(statuses.into_values());
    }

    /// What was seen in all looks.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    async fn statuses(&self) -> BTreeMap<u64, NodeStatus> {
        let awake = self.nodes.values().filter(|node| node.process.is_started() && !node.is_paused);
        let asked = awake.map(async |node| self.client.status(&node.address.to_string()).await.ok());
        let statuses = futures::future::join_all(asked).await;
        statuses.into_iter().flatten().map(|status| (status.id, status)).collect()
    }

    /// Waits until all nodes follow one leader. Returns it.
    ///
    /// # Errors
    ///
    /// The time is over, or a node has ended by itself.
    pub async fn wait_healthy(&mut self, what: &str, timeout: Duration) -> Result<u64, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check_running()?;
            let statuses = self.statuses().await;
            let leaders: Vec<_> = statuses.values().map(|status| (status.term, status.leader)).collect();
            if let [(_, Some(leader)), ..] = leaders[..]
                && leaders.len() == self.nodes.len()
                && leaders.iter().all(|other| *other == leaders[0])
                && statuses[&leader].applied_index != 0
            {
                return Ok(leader);
            }
            if deadline <= Instant::now() {
                let seconds = timeout.as_secs_f32();
                return Err(format!(
                    "still waiting for {what} after {seconds} s: terms and leaders {leaders:?}"
                ));
            }
            tokio::time::sleep(POLL_INTERVAL).await; // paces the polling
        }
    }

    /// Waits until all nodes have applied the same entries, and compares what they hold.
    ///
    /// # Errors
    ///
    /// They have applied the same and hold different things, or do not come to the same entry within `timeout`.
    pub async fn wait_equal(&mut self, timeout: Duration) -> Result<Checksum, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check_running()?;
            let asked = self.nodes.values().map(async |node| {
                self.client.checksum(&node.address.to_string()).await.map_err(|e| e.to_string())
            });
            let checksums = futures::future::join_all(asked).await;
            let known: Vec<_> = checksums.iter().filter_map(|checksum| checksum.as_ref().ok()).collect();
            for (at, one) in known.iter().enumerate() {
                if let Some(other) =
                    known[..at].iter().find(|other| other.applied_index == one.applied_index && other != &one)
                {
                    return Err(format!("two nodes have applied the same and differ: {other:?} and {one:?}"));
                }
            }
            if let [first, rest @ ..] = &known[..]
                && known.len() == self.nodes.len()
                && rest.iter().all(|other| other == first)
            {
                return Ok(**first);
            }
            if deadline <= Instant::now() {
                return Err(format!("the nodes do not come to the same entry: {checksums:?}"));
            }
            tokio::time::sleep(POLL_INTERVAL).await; // paces the polling
        }
    }

    /// Insists that nobody has ended by itself.
    ///
    /// # Errors
    ///
    /// Which node it is.
    pub fn check_running(&mut self) -> Result<(), Error> {
        for (id, node) in &mut self.nodes {
            match node.process.ended() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("node {id} has ended by itself with {status}")),
                Err(error) => return Err(format!("node {id}: {error}")),
            }
        }
        Ok(())
    }

    /// Whether one of the logs has `text`, or cannot be read.
    pub fn has_logged(&self, text: &str) -> bool {
        self.nodes.values().any(|node| match std::fs::read(node.process.log()) {
            Ok(log) => String::from_utf8_lossy(&log).contains(text),
            Err(_) => true,
        })
    }

    /// The error, with the ends of all logs.
    pub fn explain(&self, error: Error) -> Error {
        let logs = self.nodes.iter().map(|(id, node)| {
            let log =
                tail(node.process.log(), TAIL_LINES).unwrap_or_else(|error| format!("(unreadable: {error})"));
            format!("\n\nThe log of node {id}, {}, ends with:\n{log}", node.process.log().display())
        });
        error + &logs.collect::<String>()
    }
}
