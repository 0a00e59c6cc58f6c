//! `Oracle`: watches all nodes of a simulated cluster for what must never happen.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, Config, Counters, Fatal, Index, LeadershipEvent, LeadershipWatch,
    LogId, MaybeSync, MetricsWatch, Payload, RaftMetrics, RaftStateMachine, RoleName, Snapshot, SnapshotMeta,
    Term, TypeConfig, WriteError,
};

/// What has happened in a cluster so far: a simulation in which one of these stays zero does not test what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Starts of nodes.
    pub starts: u64,
    /// Terms that had a leader.
    pub leaders: u64,
    /// Entries that were applied somewhere.
    pub entries_applied: u64,
    /// Elections, pre-votes not counted.
    pub elections: u64,
    /// Times that conflicting entries were cut from a log.
    pub truncations: u64,
    /// Snapshots built.
    pub snapshots_built: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// Reads of old entries for peers that lagged.
    pub catch_up_reads: u64,
    /// Joint memberships that were applied somewhere.
    pub joint_memberships: u64,
    /// Reads that a leader has confirmed by its lease.
    pub reads_by_lease: u64,
    /// Times that a clock was seen to have stopped.
    pub clock_jumps: u64,
    /// Attempts to write that were refused at once, because too much was admitted or leadership was being transferred.
    pub writes_busy: u64,
    /// Attempts to write at a node that did not lead.
    pub writes_not_leader: u64,
    /// Attempts to write whose entry was superseded.
    pub writes_dropped: u64,
    /// Attempts to write of which nobody knows what became.
    pub writes_unknown: u64,
    /// Leaderships whose end was told.
    pub leaderships_told: u64,
}

impl Coverage {
    /// What has happened in several clusters.
    pub fn add(&mut self, other: &Self) {
        for ((_, sum), (_, count)) in self.counts_mut().into_iter().zip(other.clone().counts_mut()) {
            *sum += *count;
        }
    }

    /// Each count with its name.
    pub fn counts(mut self) -> Vec<(&'static str, u64)> {
        self.counts_mut().into_iter().map(|(name, count)| (name, *count)).collect()
    }

    fn counts_mut(&mut self) -> [(&'static str, &mut u64); 16] {
        let Self {
            starts,
            leaders,
            entries_applied,
            elections,
            truncations,
            snapshots_built,
            snapshots_installed,
            catch_up_reads,
            joint_memberships,
            reads_by_lease,
            clock_jumps,
            writes_busy,
            writes_not_leader,
            writes_dropped,
            writes_unknown,
            leaderships_told,
        } = self;
        [
            ("starts", starts),
            ("leaders", leaders),
            ("entries applied", entries_applied),
            ("elections", elections),
            ("truncations", truncations),
            ("snapshots built", snapshots_built),
            ("snapshots installed", snapshots_installed),
            ("catch-up reads", catch_up_reads),
            ("joint memberships", joint_memberships),
            ("writes refused at once", writes_busy),
            ("writes refused by who does not lead", writes_not_leader),
            ("writes dropped", writes_dropped),
            ("writes of unknown outcome", writes_unknown),
            ("leaderships told to their end", leaderships_told),
            ("reads by lease", reads_by_lease),
            ("clock jumps", clock_jumps),
        ]
    }
}

/// What has been seen of a cluster, and what of it must not be. All clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Who has led in each term.
    leaders: BTreeMap<Term, u64>,
    /// What was applied at each index, on any node: the entry, and what it returned if it was a command.
    applied: BTreeMap<Index, Applied>,
    violations: Vec<String>,
    /// How many starts of nodes were watched.
    starts: u64,
    /// How many joint memberships were applied.
    joint_memberships: u64,
    /// What each start of a node has counted.
    counters: BTreeMap<u64, Counters>,
    /// What clients were told of each command, and how often it was applied.
    commands: BTreeMap<String, Command>,
    /// Attempts to write that ended in each way.
    outcomes: Outcomes,
    /// Leaderships that a node has told of from their start to their end.
    leaderships_told: u64,
}

/// A command, under the text by which it shows itself: several attempts to write it, and commands that are equal, are one.
#[derive(Debug, Default)]
struct Command {
    /// At how many indexes it was applied.
    applied: u64,
    /// How many attempts were answered as applied.
    certain: u64,
    /// How many have no answer, or one that leaves it open.
    open: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    busy: u64,
    not_leader: u64,
    dropped: u64,
    unknown: u64,
}

#[derive(Debug)]
struct Applied {
    node: u64,
    log_id: LogId,
    /// A command as it shows itself.
    entry: String,
    /// What the command returned, as it shows itself. A snapshot may have taken the place of applying it.
    response: Option<String>,
}

impl Oracle {
    /// What was found to be wrong so far.
    pub(super) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// What has happened so far.
    pub(super) fn coverage(&self) -> Coverage {
        let seen = self.lock();
        let sum = |count: fn(&Counters) -> u64| seen.counters.values().map(count).sum();
        Coverage {
            starts: seen.starts,
            leaders: seen.leaders.len() as u64,
            entries_applied: seen.applied.len() as u64,
            elections: sum(|counters| counters.elections_started),
            truncations: sum(|counters| counters.truncations),
            snapshots_built: sum(|counters| counters.snapshots_built),
            snapshots_installed: sum(|counters| counters.snapshots_installed),
            catch_up_reads: sum(|counters| counters.catch_up_reads),
            joint_memberships: seen.joint_memberships,
            writes_busy: seen.outcomes.busy,
            writes_not_leader: seen.outcomes.not_leader,
            writes_dropped: seen.outcomes.dropped,
            writes_unknown: seen.outcomes.unknown,
            leaderships_told: seen.leaderships_told,
            reads_by_lease: sum(|counters| counters.reads_by_lease),
            clock_jumps: sum(|counters| counters.clock_jumps),
        }
    }

    pub(super) fn report(&self, violation: String) {
        self.lock().violations.push(violation);
    }

    /// Watches one start of a node until it stops.
    pub(super) async fn watch<C: TypeConfig<NodeId = u64>>(self, mut watch: MetricsWatch<C>, limits: Config) {
        let mut before = watch.changed().await;
        let start = {
            let mut seen = self.lock();
            seen.starts += 1;
            seen.starts
        };
        loop {
            let after = watch.changed().await;
            self.compare(&before, &after);
            self.hold_against_limits(&after, &limits);
            self.lock().counters.insert(start, after.counters);
            if let Some(fatal) = &after.fatal {
                if let Fatal::Panicked(_) = fatal {
                    self.report(format!("node {}: {fatal}", after.id));
                }
                return;
            }
            before = after;
        }
    }

    fn compare<C: TypeConfig<NodeId = u64>>(&self, before: &RaftMetrics<C>, after: &RaftMetrics<C>) {
        let mut seen = self.lock();
        let id = after.id;
        if after.role == RoleName::Leader {
            let leader = *seen.leaders.entry(after.term).or_insert(id);
            if leader != id {
                seen.violations.push(format!("nodes {leader} and {id} have both led in term {}", after.term));
            }
        }
        let numbers = [
            ("term", before.term, after.term),
            ("commit index", before.committed, after.committed),
            ("applied index", before.applied.index, after.applied.index),
            ("snapshot", before.snapshot.index, after.snapshot.index),
        ];
        for (what, before, after) in numbers {
            if after < before {
                seen.violations.push(format!("node {id}: the {what} has fallen from {before} to {after}"));
            }
        }
        if after.committed < after.applied.index {
            let (applied, committed) = (after.applied.index, after.committed);
            seen.violations
                .push(format!("node {id} has applied {applied}, but only {committed} is committed"));
        }
    }

    /// Whatever is slow or dead: what a node keeps stays below its limits.
    fn hold_against_limits<C: TypeConfig<NodeId = u64>>(&self, metrics: &RaftMetrics<C>, limits: &Config) {
        let queues = &metrics.queues;
        // One command is let through alone, however large. What a node got as a follower was in flight once.
        let largest = limits.command_bytes_max + 256;
        let append = limits.append_bytes_max.max(largest);
        let admitted = limits.uncommitted_bytes_max.max(largest);
        let in_log = admitted + admitted.max(limits.inflight_bytes_max + append) + append;
        let inflight = metrics.peers.values().map(|peer| peer.inflight_bytes).max().unwrap_or(0);
        let bounds = [
            ("admitted bytes", queues.admitted_bytes, admitted),
            ("uncommitted bytes", queues.uncommitted_bytes, in_log),
            (
                "bytes before the state machine",
                queues.apply_backlog_bytes,
                limits.apply_bytes_max.max(largest),
            ),
            ("received bytes", queues.received_bytes, limits.receive_bytes_max.max(append + 64)),
            (
                "received urgent bytes",
                queues.received_urgent_bytes,
                limits.receive_urgent_bytes_max.max(append),
            ),
            ("reads under way", queues.reads_under_way, limits.reads_waiting_max),
            ("requests under way", queues.requests_under_way, limits.requests_waiting_max),
            ("bytes in flight", inflight, limits.inflight_bytes_max + append),
            ("bytes in memory", metrics.tail_bytes, limits.tail_bytes_max + in_log),
        ];
        for (what, bytes, bound) in bounds {
            if bound < bytes {
                self.report(format!("node {}: {bytes} {what}, at most {bound} are allowed", metrics.id));
            }
        }
    }

    /// A client begins an attempt to write a command.
    pub(super) fn attempted(&self, command: &str) {
        self.lock().commands.entry(command.to_owned()).or_default().open += 1;
    }

    /// What a client was told of an attempt: that it was applied must be true, and if it was told that it never will be, no
    /// attempt may account for it any more.
    pub(super) fn told<C: TypeConfig>(&self, command: &str, outcome: &Result<C::Response, WriteError<C>>) {
        let mut seen = self.lock();
        let (certain, open) = match outcome {
            Ok(_) => (1, 0),
            Err(WriteError::Unknown { .. }) => (0, 1),
            Err(_) => (0, 0),
        };
        match outcome {
            Err(WriteError::Busy { .. } | WriteError::Transferring) => seen.outcomes.busy += 1,
            Err(WriteError::NotLeader { .. }) => seen.outcomes.not_leader += 1,
            Err(WriteError::Dropped) => seen.outcomes.dropped += 1,
            Err(WriteError::Unknown { .. }) => seen.outcomes.unknown += 1,
            Ok(_) | Err(_) => {}
        }
        let known = seen.commands.entry(command.to_owned()).or_default();
        known.certain += certain;
        known.open = known.open + open - 1;
        seen.check_command(command);
    }

    /// Watches what one start of a node tells of its leadership until it stops.
    pub(super) async fn watch_leadership(self, node: u64, mut watch: LeadershipWatch) {
        let mut open: Option<(Term, bool)> = None;
        let mut last = 0;
        while let Some(event) = watch.next().await {
            let mut seen = self.lock();
            let is_right = match event {
                LeadershipEvent::Started { term, .. } => {
                    let leader = *seen.leaders.entry(term).or_insert(node);
                    if leader != node {
                        seen.violations
                            .push(format!("nodes {leader} and {node} have both led in term {term}"));
                    }
                    let is_next = open.is_none() && last < term;
                    (open, last) = (Some((term, false)), term);
                    is_next
                }
                LeadershipEvent::Ready { term } => open.replace((term, true)) == Some((term, false)),
                LeadershipEvent::Stopped { term } => {
                    seen.leaderships_told += 1;
                    open.take().is_some_and(|(open, _)| open == term)
                }
                _ => false,
            };
            if !is_right {
                seen.violations.push(format!("node {node} tells {event:?} out of order: {open:?}"));
            }
        }
        if open.is_some() {
            self.report(format!("node {node} has stopped and has not told the end of {open:?}"));
        }
    }

    fn on_applied(&self, node: u64, log_id: LogId, entry: String, response: Option<String>) {
        let mut seen = self.lock();
        let Some(first) = seen.applied.get(&log_id.index) else {
            if response.is_some() {
                seen.commands.entry(entry.clone()).or_default().applied += 1;
                seen.check_command(&entry);
            }
            seen.applied.insert(log_id.index, Applied { node, log_id, entry, response });
            return;
        };
        let is_same_response = first.response.is_none() || response.is_none() || first.response == response;
        if first.log_id == log_id && first.entry == entry && is_same_response {
            return;
        }
        let second = Applied { node, log_id, entry, response };
        let (index, other) = (log_id.index, first.node);
        let violation = format!("nodes {other} and {node} differ at index {index}: {first:?}, {second:?}");
        seen.violations.push(violation);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// A command was applied as often as its clients were told, and as often more as nobody knows.
    fn check_command(&mut self, command: &str) {
        let Some(Command { applied, certain, open }) = self.commands.get(command) else { return };
        if *applied < *certain || certain + open < *applied {
            self.violations.push(format!(
                "{command} was applied {applied} times; {certain} attempts were answered as applied, and of {open} \
                 nobody knows"
            ));
        }
    }
}

/// A state machine whose every entry the oracle sees.
#[derive(Debug)]
pub(super) struct WatchedStateMachine<S> {
    inner: S,
    node: u64,
    oracle: Oracle,
}

impl<S> WatchedStateMachine<S> {
    pub(super) fn new(inner: S, node: u64, oracle: Oracle) -> Self {
        Self { inner, node, oracle }
    }
}

impl<C: TypeConfig, S: RaftStateMachine<C> + MaybeSync> RaftStateMachine<C> for WatchedStateMachine<S> {
    async fn applied_state(&mut self) -> io::Result<AppliedState<C>> {
        self.inner.applied_state().await
    }

    async fn apply(&mut self, batch: ApplyBatch<C>) -> io::Result<Vec<C::Response>> {
        let entries = batch.entries().clone();
        let commands = batch.commands().count();
        let responses = self.inner.apply(batch).await?;
        if responses.len() != commands {
            let (node, responses) = (self.node, responses.len());
            self.oracle
                .report(format!("node {node} has answered {commands} commands with {responses} responses"));
        }
        let mut next = responses.iter();
        for entry in entries.iter() {
            let response = match &entry.payload {
                Payload::Command(_) => next.next().map(|response| format!("{response:?}")),
                Payload::Membership(membership) if membership.is_joint() => {
                    self.oracle.lock().joint_memberships += 1;
                    None
                }
                Payload::Blank | Payload::Membership(_) => None,
            };
            self.oracle.on_applied(self.node, entry.log_id, format!("{:?}", entry.payload), response);
        }
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<C>>> {
        self.inner.build_snapshot()
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<C>>> {
        self.inner.current_snapshot().await
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<C>) -> io::Result<()> {
        self.inner.install_snapshot(snapshot).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_responses_that_differ_are_noticed() {
        let apply = |node, log_id, entry: &str, response: Option<&str>, oracle: &Oracle| {
            oracle.on_applied(node, log_id, entry.into(), response.map(Into::into));
            oracle.violations().len()
        };
        let oracle = Oracle::default();
        oracle.attempted("add 1");
        assert_eq!(apply(1, LogId::new(1, 5), "add 1", Some("1"), &oracle), 0);
        assert_eq!(apply(2, LogId::new(1, 5), "add 1", Some("1"), &oracle), 0);
        assert_eq!(apply(3, LogId::new(2, 5), "add 1", Some("1"), &oracle), 1);
        assert_eq!(apply(3, LogId::new(1, 5), "add 2", Some("1"), &oracle), 2);
        assert_eq!(apply(3, LogId::new(1, 5), "add 1", Some("2"), &oracle), 3);
    }
}
