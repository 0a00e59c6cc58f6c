//! The nodes as child processes: started, killed, stopped, and waited for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::load::Serving;
use crate::client::{Client, ClientOptions, NodeStatus};
use crate::outcome::{Failure, Result};
use crate::process::{Process, free_addresses, tail};

/// How often a condition is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take to stop after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a cluster is begun with other ports, when one of them was taken before the node could listen.
const START_ATTEMPTS: usize = 5;

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 15;

/// What each node says of itself; nodes that do not answer are missing.
pub(super) type Statuses = BTreeMap<u64, NodeStatus>;

/// Timeouts are left as they are. Snapshots are more frequent, so that the log is purged and a node that comes late
/// needs one. Files of the log are shorter, so that five nodes fit on any disk.
const LIMITS: [&str; 6] =
    ["--snapshot-after", "20000", "--log-keep-entries", "5000", "--log-segment-bytes", "8388608"];

#[derive(Debug)]
struct Node {
    address: String,
    data: PathBuf,
    process: Process,
}

/// All nodes that were ever started. Their processes end with this value.
#[derive(Debug)]
pub(super) struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    name: String,
    nodes: BTreeMap<u64, Node>,
    serving: Serving,
    status_client: Client,
}

impl Cluster {
    /// Starts nodes 1 to `count` as a new cluster, with data and logs in `folder`, and waits until it serves.
    pub(super) async fn start(program: &Path, folder: &Path, count: u64, timeout: Duration) -> Result<Self> {
        let options = ClientOptions {
            timeout: STATUS_TIMEOUT,
            connect_timeout: STATUS_TIMEOUT,
            ..ClientOptions::default()
        };
        let mut cluster = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            // Of another demonstration on this machine nothing must be heard, whatever ports it had before.
            name: format!("demo-{:08x}", fastrand::u32(..)),
            nodes: BTreeMap::new(),
            serving: Serving::default(),
            status_client: Client::new(Vec::new(), options),
        };
        for attempt in 1.. {
            cluster.begin(count, attempt)?;
            match cluster.wait_healthy("the new cluster to serve", timeout).await {
                Ok(_) => break,
                Err(_) if attempt < START_ATTEMPTS && cluster.a_port_was_taken() => cluster.nodes.clear(),
                Err(failure) => return Err(cluster.explain(failure)),
            }
        }
        for node in cluster.nodes.values() {
            cluster.serving.add(&node.address);
        }
        Ok(cluster)
    }

    /// Starts all processes of a new cluster. Data of an earlier attempt is not used again.
    fn begin(&mut self, count: u64, attempt: usize) -> Result<()> {
        let addresses = free_addresses(usize::try_from(count).unwrap_or(usize::MAX))?;
        for (id, address) in (1..=count).zip(&addresses) {
            let name = if attempt == 1 { format!("node-{id}") } else { format!("node-{id}.{attempt}") };
            self.define(id, &name, address.to_string());
        }
        let members: Vec<_> = self.nodes.iter().map(|(id, node)| format!("{id}={}", node.address)).collect();
        let members = members.join(",");
        for id in 1..=count {
            self.spawn(id, &["--init".into(), members.clone().into()])?;
        }
        Ok(())
    }

    fn define(&mut self, id: u64, name: &str, address: String) {
        let process = Process::new(&self.program, self.folder.join(format!("{name}.log")));
        self.nodes.insert(id, Node { address, data: self.folder.join(name), process });
    }

    fn spawn(&mut self, id: u64, more: &[OsString]) -> Result<()> {
        let node = self.nodes.get_mut(&id).ok_or_else(|| no_node(id))?;
        let mut args: Vec<OsString> = ["--log", "info", "serve", "--id"].map(OsString::from).to_vec();
        args.extend([id.to_string().into(), "--listen".into(), node.address.clone().into()]);
        args.extend([
            "--data-dir".into(),
            node.data.clone().into(),
            "--cluster".into(),
            self.name.clone().into(),
        ]);
        args.extend(LIMITS.map(OsString::from));
        args.extend_from_slice(more);
        node.process
            .start(&args)
            .map_err(|error| Failure::negative(format!("node {id} cannot be started: {error}")))
    }

    fn a_port_was_taken(&self) -> bool {
        self.nodes
            .values()
            .any(|node| tail(node.process.log(), TAIL_LINES).is_ok_and(|log| log.contains("in use")))
    }

    /// The addresses of all nodes.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes.values().map(|node| node.address.clone()).collect()
    }

    /// The addresses of the nodes that run.
    pub(super) fn running_addresses(&self) -> Vec<String> {
        let running = self.nodes.values().filter(|node| node.process.is_started());
        running.map(|node| node.address.clone()).collect()
    }

    /// The address of one node.
    pub(super) fn address(&self, id: u64) -> Result<&str> {
        self.nodes.get(&id).map(|node| node.address.as_str()).ok_or_else(|| no_node(id))
    }

    /// The nodes that run, as readers see them.
    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// A client that knows all nodes.
    pub(super) fn client(&self, options: ClientOptions) -> Client {
        Client::new(self.addresses(), options)
    }

    /// Starts a new node that waits to be added to the cluster.
    pub(super) fn add_node(&mut self, id: u64) -> Result<()> {
        let address = free_addresses(1)?[0].to_string();
        self.define(id, &format!("node-{id}"), address);
        self.spawn(id, &["--join".into()])
    }

    /// Lets clients read through the node.
    pub(super) fn serve_reads(&self, id: u64) -> Result<()> {
        self.serving.add(self.address(id)?);
        Ok(())
    }

    /// Kills a node with SIGKILL. Returns when the signal was sent; the process is gone a moment later.
    pub(super) async fn kill(&mut self, id: u64) -> Result<Instant> {
        let node = self.nodes.get_mut(&id).ok_or_else(|| no_node(id))?;
        let killed = Instant::now();
        node.process.kill().await?;
        self.serving.remove(&node.address);
        Ok(killed)
    }

    /// Starts a node again with the data it has.
    pub(super) fn restart(&mut self, id: u64) -> Result<()> {
        self.spawn(id, &[])
    }

    /// Stops a node with SIGTERM and waits until it has ended well.
    pub(super) async fn stop(&mut self, id: u64) -> Result<()> {
        let node = self.nodes.get_mut(&id).ok_or_else(|| no_node(id))?;
        self.serving.remove(&node.address);
        let status = node
            .process
            .terminate(STOP_TIMEOUT)
            .await
            .map_err(|error| Failure::negative(format!("node {id} did not stop: {error}")))?;
        if !status.success() {
            return Err(Failure::negative(format!("node {id} was asked to stop and ended with {status}")));
        }
        Ok(())
    }

    /// Stops a node that is no longer a member, for good.
    pub(super) async fn retire(&mut self, id: u64) -> Result<()> {
        self.stop(id).await?;
        self.nodes.remove(&id);
        Ok(())
    }

    /// Stops all nodes at once.
    pub(super) async fn stop_all(&mut self) -> Result<()> {
        let serving = &self.serving;
        let stops = self.nodes.iter_mut().map(async |(id, node)| {
            serving.remove(&node.address);
            (*id, node.process.terminate(STOP_TIMEOUT).await)
        });
        for (id, ended) in futures::future::join_all(stops).await {
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    let message = format!("node {id} was asked to stop and ended with {status}");
                    return Err(Failure::negative(message));
                }
                Err(error) => return Err(Failure::negative(format!("node {id} did not stop: {error}"))),
            }
        }
        Ok(())
    }

    /// Starts all nodes again.
    pub(super) fn restart_all(&mut self) -> Result<()> {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            self.restart(id)?;
            self.serve_reads(id)?;
        }
        Ok(())
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.process.is_started()).map(|(id, _)| *id).collect()
    }

    /// Asks all nodes that run, at once.
    pub(super) async fn statuses(&self) -> Statuses {
        let asked =
            self.nodes.iter().filter(|(_, node)| node.process.is_started()).map(async |(id, node)| {
                self.status_client.status(&node.address).await.ok().map(|status| (*id, status))
            });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Looks at the nodes again and again until `condition` says `Ok`; its errors say what is missing still.
    ///
    /// # Errors
    ///
    /// The time is over, or a node has ended by itself.
    pub(super) async fn wait_until<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&Statuses) -> Result<T, String>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check_running()?;
            let missing = match condition(&self.statuses().await) {
                Ok(value) => return Ok(value),
                Err(missing) => missing,
            };
            if Instant::now() >= deadline {
                let seconds = timeout.as_secs_f32();
                return Err(Failure::negative(format!(
                    "still waiting for {what} after {seconds} s: {missing}"
                )));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until all nodes that run agree on a leader, and it reaches all of its peers. Returns the leader.
    pub(super) async fn wait_healthy(&mut self, what: &str, timeout: Duration) -> Result<NodeStatus> {
        let running = self.running();
        self.wait_until(what, timeout, |statuses| healthy_leader(&running, statuses).cloned()).await
    }

    /// Waits for a request, but not for longer than all nodes run.
    ///
    /// # Errors
    ///
    /// That of the request, or a node has ended by itself.
    pub(super) async fn while_running<T>(&mut self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let watch = async {
            loop {
                self.check_running()?;
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            answer = request => answer,
            ended = watch => ended,
        }
    }

    fn check_running(&mut self) -> Result<()> {
        for (id, node) in &mut self.nodes {
            if let Some(status) = node.process.ended()? {
                return Err(Failure::negative(format!("node {id} has ended by itself with {status}")));
            }
        }
        Ok(())
    }

    /// The failure, with the ends of all logs.
    pub(super) fn explain(&self, mut failure: Failure) -> Failure {
        for (id, node) in &self.nodes {
            let log =
                tail(node.process.log(), TAIL_LINES).unwrap_or_else(|error| format!("(unreadable: {error})"));
            // Writing to a string does not fail.
            let _ = write!(
                failure.text,
                "\n\nThe log of node {id}, {}, ends with:\n{log}",
                node.process.log().display()
            );
        }
        failure
    }
}

fn no_node(id: u64) -> Failure {
    Failure::negative(format!("there is no node {id}"))
}

/// The leader in the highest term, if all of `running` follow it and it hears from all of them.
pub(super) fn healthy_leader<'a>(running: &[u64], statuses: &'a Statuses) -> Result<&'a NodeStatus, String> {
    let leader = current_leader(statuses).ok_or("no node leads")?;
    for id in running {
        let status = statuses.get(id).ok_or_else(|| format!("node {id} does not answer"))?;
        if status.leader != Some(leader.id) || status.term != leader.term {
            return Err(format!("node {id} does not follow node {} in term {}", leader.id, leader.term));
        }
        let peer = leader.peers.iter().find(|peer| peer.id == *id);
        if *id != leader.id && !peer.is_some_and(|peer| peer.active) {
            return Err(format!("the leader, node {}, does not hear from node {id}", leader.id));
        }
    }
    // Committed in its term, so that it may serve reads and changes of membership.
    if leader.applied_index == 0 {
        return Err("nothing has been applied yet".into());
    }
    Ok(leader)
}

/// The leader in the highest term that any node reports.
pub(super) fn current_leader(statuses: &Statuses) -> Option<&NodeStatus> {
    let term = statuses.values().map(|status| status.term).max()?;
    statuses.values().find(|status| status.role == "leader" && status.term == term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::PeerStatus;

    fn status(id: u64, role: &str, term: u64, leader: u64) -> (u64, NodeStatus) {
        let peers = match role {
            "leader" => vec![peer(2), peer(3)],
            _ => vec![],
        };
        let status = NodeStatus {
            id,
            role: role.into(),
            term,
            leader: Some(leader),
            applied_index: 1,
            peers,
            ..NodeStatus::default()
        };
        (id, status)
    }

    fn peer(id: u64) -> PeerStatus {
        PeerStatus { id, active: true, ..PeerStatus::default() }
    }

    fn three() -> Statuses {
        [status(1, "leader", 2, 1), status(2, "follower", 2, 1), status(3, "follower", 2, 1)].into()
    }

    #[test]
    fn a_cluster_is_healthy_when_all_follow_one_leader_that_hears_them() {
        let missing =
            |statuses: &Statuses| healthy_leader(&[1, 2, 3], statuses).map(|leader| leader.id).unwrap_err();
        assert_eq!(healthy_leader(&[1, 2, 3], &three()).unwrap().id, 1);

        let mut statuses = three();
        statuses.remove(&3);
        assert_eq!(missing(&statuses), "node 3 does not answer");
        assert!(healthy_leader(&[1, 2], &statuses).is_ok());

        let mut statuses = three();
        statuses.get_mut(&2).unwrap().leader = None;
        assert_eq!(missing(&statuses), "node 2 does not follow node 1 in term 2");

        let mut statuses = three();
        statuses.get_mut(&1).unwrap().peers[1].active = false;
        assert_eq!(missing(&statuses), "the leader, node 1, does not hear from node 3");

        let mut statuses = three();
        statuses.get_mut(&3).unwrap().term = 3;
        assert_eq!(missing(&statuses), "no node leads");
        assert_eq!(missing(&Statuses::new()), "no node leads");
    }

    #[test]
    fn a_leader_of_an_older_term_is_not_the_leader() {
        let statuses: Statuses = [status(1, "leader", 2, 1), status(2, "leader", 3, 2)].into();
        assert_eq!(current_leader(&statuses).unwrap().id, 2);
        assert!(current_leader(&Statuses::new()).is_none());
    }
}
