//! The Raft algorithm: no async, no clock, no I/O, no channels, no randomness but a seed.
//!
//! An [`Engine`] is one node. What happens to it goes in by [`Engine::step`], what has to be done comes out by
//! [`Engine::take_effects`], and [`Engine::next_deadline`] says when to step with [`Input::Timeout`] at the latest. The
//! same inputs at the same times give the same effects. [`Raft`](crate::Raft) drives one with real tasks and clocks; an
//! application with an event loop of its own can do that itself, as users of etcd/raft and raft-rs do.
//!
//! [`etcd`] says what everything is called for those who know etcd/raft.
//!
//! Methods have fixed verbs: `on_*` handles an input, `send_*` puts messages into the effects, everything else says what
//! it does.
//!
//! # Driving an engine yourself
//!
//! 1. Tell the engine everything that has happened since the last turn, each by [`Engine::step`] with the time it is now.
//! 2. Carry out what [`Engine::take_effects`] returns, in the order of its fields.
//! 3. Wait for the next event, at most until [`Engine::next_deadline`].
//!
//! [`driving`] says what that means: in which order and why, what must be durable when, what to feed back, and a whole
//! node in sixty lines.

mod apply;
mod backoff;
pub mod driving;
mod effects;
mod election;
pub mod etcd;
mod failure;
mod fingerprint;
mod follower;
mod heartbeat;
mod input;
mod install;
mod invariants;
mod leader;
mod lease;
mod log;
mod membership_change;
mod peers;
mod progress;
mod purge;
mod quorum;
mod read;
mod receive;
mod rng;
mod sizes;
mod snapshot;
mod standing;
mod status;
mod tail;
mod timer;
mod transfer;
mod transfer_request;
mod uncommitted;
mod writes;

use std::time::{Duration, Instant};

pub use effects::{Apply, Effects, LogRead, LogReadId, LogWrite, Reply, SnapshotEffect, SnapshotId, WriteId};
pub use fingerprint::Fingerprint;
pub use input::{Input, RequestId};

use crate::config::ValidConfig;
use crate::entries::Entries;
use crate::entry::{HardState, LogId, Payload, Term};
use crate::error::LeaderHint;
use crate::membership::{Membership, MembershipAt};
use crate::message::{Body, Message};
use crate::metrics::Counters;
use crate::storage::AppliedState;
use crate::type_config::TypeConfig;

use apply::Backlog;
use election::Campaign;
use follower::Follower;
use leader::Leader;
use lease::Promise;
use log::Log;
use purge::Purging;
use read::Reads;
use rng::Rng;
use snapshot::Snapshots;
use standing::Removal;
use timer::{Timer, Timers};
use transfer::TransferOutcome;
use transfer_request::AskedTransfer;
use writes::Writes;

/// What a driver has found in the log storage and the state machine of a node when it was started.
#[derive(Clone, Debug)]
pub struct Recovered<C: TypeConfig> {
    /// This node.
    pub id: C::NodeId,
    /// Seeds the election timeouts; differs from node to node and from start to start.
    pub seed: u64,
    /// The hard state. Its commit index may be ahead of the log or behind what is applied: it is a hint.
    pub hard_state: HardState<C>,
    /// The entry up to which the log is purged.
    pub purged: LogId,
    /// The last entry of the log, or `purged` when there is none.
    pub last: LogId,
    /// The first entry of each term in the log behind `purged`, in order.
    pub term_starts: Vec<LogId>,
    /// The memberships in the log behind `applied.last_applied`, in order.
    pub memberships: Vec<MembershipAt<C>>,
    /// How far the state machine has come: from `purged` to `last`.
    pub applied: AppliedState<C>,
    /// The entry that the current snapshot ends with, [`LogId::ZERO`] without one.
    pub snapshot: LogId,
}

impl<C: TypeConfig> Recovered<C> {
    /// What a node finds that has never run: nothing.
    pub fn empty(id: C::NodeId, seed: u64) -> Self {
        Self {
            id,
            seed,
            hard_state: HardState::default(),
            purged: LogId::ZERO,
            last: LogId::ZERO,
            term_starts: Vec::new(),
            memberships: Vec::new(),
            applied: AppliedState::default(),
            snapshot: LogId::ZERO,
        }
    }

    /// With a log that is purged up to `purged` and holds `entries` behind it: everything that must be known of it, for
    /// a driver that has its whole log at hand. `applied` must be set before.
    ///
    /// ```
    /// use openconsensus::engine::{Engine, Recovered};
    /// # use openconsensus::{Entries, Entry, HardState, LogId, Payload, TypeConfig, ValidConfig};
    /// # #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    /// # struct App;
    /// # impl TypeConfig for App {
    /// #     type Command = u64;
    /// #     type Response = ();
    /// #     type NodeId = u64;
    /// #     type Node = ();
    /// #     fn command_bytes(_: &u64) -> u64 { 8 }
    /// # }
    /// let entry = |term, index| Entry { log_id: LogId::new(term, index), payload: Payload::Command(7) };
    /// let log: Entries<App> = vec![entry(1, 1), entry(2, 2), entry(2, 3)].into();
    /// let hard_state = HardState { term: 2, voted_for: Some(1), commit: 1 };
    /// let found = Recovered { hard_state, ..Recovered::empty(1, 42) }.with_log(LogId::ZERO, &log);
    /// let engine = Engine::new(ValidConfig::default(), found, std::time::Instant::now()).unwrap();
    /// assert_eq!(engine.last(), LogId::new(2, 3));
    /// ```
    #[must_use]
    pub fn with_log(mut self, purged: LogId, entries: &Entries<C>) -> Self {
        self.purged = purged;
        self.last = entries.last().unwrap_or(purged);
        for entry in entries.iter() {
            if self.term_starts.last().is_none_or(|start| start.term != entry.log_id.term) {
                self.term_starts.push(entry.log_id);
            }
            if let Payload::Membership(membership) = &entry.payload
                && self.applied.last_applied.index < entry.log_id.index
            {
                let at = MembershipAt { log_id: entry.log_id, membership: membership.clone() };
                self.memberships.push(at);
            }
        }
        self
    }
}

/// The Raft algorithm of one node, as a state machine without any I/O.
///
/// One owner of term, vote, role, log view, commit and membership: there is no other way to change them than
/// [`step`](Self::step). N steps may be taken before one [`take_effects`](Self::take_effects); that is where batching
/// comes from.
#[derive(Clone, Debug)]
pub struct Engine<C: TypeConfig> {
    config: ValidConfig,
    id: C::NodeId,
    term: Term,
    voted_for: Option<C::NodeId>,
    role: Role<C>,
    log: Log<C>,
    writes: Writes<C>,
    /// What the state machine has before it.
    backlog: Backlog,
    snapshots: Snapshots<C>,
    reads: Reads<C>,
    /// What this node has promised to a leader. Not part of its role: neither a later term nor another role undoes it.
    promise: Option<Promise<C>>,
    /// A transfer that has ended this node's leadership, until it is known who leads next.
    transfer_outcome: Option<TransferOutcome<C>>,
    /// Transfers that clients of this node have asked for while it did not lead.
    asked_transfers: Vec<AskedTransfer<C>>,
    removal: Removal,
    /// Who waits for the first membership to be durable, and the write that makes it so.
    initializing: Option<(RequestId, WriteId)>,
    /// Who waits for the log to be purged durably.
    purging: Vec<Purging>,
    timers: Timers,
    rng: Rng,
    /// Numbers campaigns, reads of the log and forwarded reads, so that late answers are recognised.
    next_number: u64,
    counters: Counters,
    effects: Effects<C>,
    /// An operator wants this node to start no elections on its own.
    elections_paused: bool,
    /// An operator wants this node to send no periodic heartbeats.
    heartbeats_paused: bool,
    /// The log storage has failed: nothing is said any more.
    failed: bool,
}

/// Why an engine wants no more writes for the time being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteHold {
    /// Leadership is being transferred: it will soon be clear where they belong.
    Transfer,
    /// So much is in the log that is not committed or not durable here, that
    /// [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) is reached. It may come from earlier leaders.
    Uncommitted {
        /// Bytes of such entries. A batch of which only a part is settled counts as a whole: up to `append_bytes_max` more.
        bytes: u64,
    },
}

/// What a node is doing, with the state that only this role has.
#[derive(Clone, Debug)]
enum Role<C: TypeConfig> {
    Follower(Follower<C>),
    PreCandidate(Campaign<C>),
    Candidate(Campaign<C>),
    Leader(Box<Leader<C>>),
}

impl<C: TypeConfig> Engine<C> {
    /// A follower with what was recovered.
    ///
    /// # Errors
    ///
    /// What in `recovered` contradicts itself. A node with such a store has lost something that it has promised to
    /// keep; it must not vote.
    pub fn new(config: ValidConfig, recovered: Recovered<C>, now: Instant) -> Result<Self, String> {
        let log = Log::recover(&recovered)?;
        let mut rng = Rng::new(recovered.seed);
        // Answers to reads that were forwarded before a restart must not be taken for answers to new ones.
        let next_number = rng.next_u64() >> 1;
        let promise = Promise::after_start(&config, &recovered, now);
        let snapshots = Snapshots::new(recovered.snapshot, &config, recovered.seed, now);
        let mut engine = Self {
            config,
            id: recovered.id,
            term: recovered.hard_state.term,
            voted_for: recovered.hard_state.voted_for,
            role: Role::Follower(Follower::new(log.committed())),
            log,
            writes: Writes::new(),
            backlog: Backlog::default(),
            snapshots,
            reads: Reads::new(),
            promise,
            transfer_outcome: None,
            asked_transfers: Vec::new(),
            removal: Removal::default(),
            initializing: None,
            purging: Vec::new(),
            timers: Timers::default(),
            rng,
            next_number,
            counters: Counters::default(),
            effects: Effects { state_changed: true, ..Effects::default() },
            elections_paused: false,
            heartbeats_paused: false,
            failed: false,
        };
        engine.restart_election_timer(now);
        engine.check_now();
        Ok(engine)
    }

    /// One transition: `input` happened at `now`. Time must not go back between calls.
    pub fn step(&mut self, now: Instant, input: Input<C>) {
        let before = self.before();
        self.effects.state_changed = true;
        if self.failed {
            self.refuse(input);
        } else {
            self.dispatch(now, input);
        }
        self.check_step(&before);
    }

    fn dispatch(&mut self, now: Instant, input: Input<C>) {
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::Receive { from, message } => {
                self.counters.received.count(&message, message.size_bytes());
                self.on_message(now, from, message);
            }
            Input::Write { request, commands } => self.on_write(request, commands),
            Input::Read { request } => self.on_read(now, request, false),
            Input::ReadByLease { request } => self.on_read(now, request, true),
            Input::Initialize { request, nodes } => self.on_initialize(now, request, nodes),
            Input::ChangeMembership { request, change, expected } => {
                self.on_change_membership(now, request, &change, expected);
            }
            Input::TransferLeadership { request, target } => self.on_transfer(now, request, target),
            Input::Campaign => self.on_campaign(now),
            Input::ClockJumped => self.on_clock_jump(),
            Input::PauseElections { paused } => self.on_pause_elections(now, paused),
            Input::PauseHeartbeats { paused } => self.heartbeats_paused = paused,
            Input::ForgetLeader { request } => self.on_forget_leader(request),
            Input::Unreachable { peer } => self.on_unreachable(peer),
            Input::Persisted { write } => self.on_persisted(now, write),
            Input::StorageFailed => self.on_storage_failed(now),
            Input::LogRead { read, entries } => self.on_log_read(read, &entries),
            Input::Applied { last } => self.on_applied(last),
            Input::BuildSnapshot { request } => self.on_build_snapshot(request),
            Input::SnapshotBuilt { id, meta } => self.on_snapshot_built(now, id, &meta),
            Input::SnapshotBuildFailed { id, error } => self.on_snapshot_build_failed(now, id, &error),
            Input::SnapshotUnreadable { id, last } => self.on_snapshot_unreadable(now, id, last),
            Input::SnapshotSent { id, response } => self.on_snapshot_sent(now, id, response),
            Input::PurgeLog { request, upto } => self.on_purge_log(request, upto),
            Input::InstallSnapshot { request, snapshot } => self.on_install_snapshot(now, request, snapshot),
            Input::SnapshotInstalled { id, installed } => self.on_snapshot_installed(now, id, installed),
        }
    }

    /// What must be done now, for all steps since the last call. Everything that follows from the state rather than
    /// from one input is decided here: commit, what to send, what to apply, what to purge.
    pub fn take_effects(&mut self, now: Instant) -> Effects<C> {
        let mut effects = Effects::default();
        self.take_effects_into(now, &mut effects);
        effects
    }

    /// Like [`take_effects`](Self::take_effects), for a driver that wants to allocate nothing in every turn: what is left in
    /// `effects` is dropped, and the memory of its lists is used again. Drain them instead of taking them out.
    pub fn take_effects_into(&mut self, now: Instant, effects: &mut Effects<C>) {
        let before = self.before();
        if !self.failed {
            self.lead(now);
            self.forward_reads(now);
            self.forward_transfers(now);
            self.look_at_standing();
            self.apply();
            self.tend_snapshots(now);
            self.effects.write = self.writes.take(now, self.hard_state(), &mut self.log);
            self.watch_disk(now);
            self.log.shrink_tail(self.config.tail_bytes_max);
        }
        for (_, message) in &self.effects.messages {
            // The bytes of entries were counted when their append was put together.
            self.counters.sent.count(message, Message::<C>::OVERHEAD_BYTES);
        }
        self.check_step(&before);
        self.check_now();
        self.effects.hand_over(effects);
    }

    /// When to step with [`Input::Timeout`] at the latest, unless something else happens before. Stepping earlier does
    /// no harm. `None` only after [`Input::StorageFailed`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The membership in force: the latest in the log, be it committed or not.
    pub fn membership(&self) -> &Membership<C> {
        self.log.membership()
    }

    /// Whether writes should be kept back for the time being: [`write_hold`](Self::write_hold) says why.
    pub fn holds_writes(&self) -> bool {
        self.write_hold().is_some()
    }

    fn hard_state(&self) -> HardState<C> {
        HardState { term: self.term, voted_for: self.voted_for, commit: self.log.committed() }
    }

    fn on_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Election => self.on_election_timeout(now),
                Timer::Quorum => self.on_quorum_timeout(now),
                Timer::Disk => self.on_disk_timeout(now),
                Timer::Heartbeat => self.on_heartbeat_timeout(now),
                Timer::Transfer => self.on_transfer_timeout(now),
                Timer::Read => self.on_read_timeout(now),
                // What is due is built when the effects are taken.
                Timer::Snapshot => {}
                Timer::AskTransfer => self.on_ask_transfer_timeout(now),
            }
        }
    }

    fn on_persisted(&mut self, now: Instant, write: WriteId) {
        let has_hung = self.hangs_on_its_disk(now);
        let (term, messages) = (self.term, &mut self.effects.messages);
        self.writes.complete(write, &mut self.log, |peer, message| {
            // What was promised in an earlier term is of no use to anyone now.
            if message.term == term {
                messages.push((peer, message));
            }
        });
        self.look_at_recovery(now, has_hung);
        self.finish_initialize();
        self.finish_purging();
        self.count_own_vote(now);
        self.begin_install();
    }

    fn send(&mut self, to: C::NodeId, body: Body<C>) {
        if matches!(body, Body::TimeoutNow) {
            // Here, so that nobody can hand over leadership and keep the lease.
            self.give_up_lease();
        }
        self.effects.messages.push((to, Message { term: self.term, body }));
    }

    /// Sends as soon as `until` is durable.
    fn send_after(&mut self, until: WriteId, to: C::NodeId, body: Body<C>) {
        let message = Message { term: self.term, body };
        if let Some(message) = self.writes.hold(until, to, message) {
            self.effects.messages.push((to, message));
        }
    }

    fn reply(&mut self, request: RequestId, reply: Reply<C>) {
        self.effects.replies.push((request, reply));
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn leader_hint(&self) -> Option<LeaderHint<C>> {
        let id = self.leader()?;
        Some(LeaderHint { id, node: self.log.membership().node(id).cloned() })
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
