//! The Raft algorithm: no async, no clock, no I/O, no channels, no randomness but a seed.

mod effects;
mod input;

use std::time::Instant;

pub use effects::{Apply, Effects, LogRead, LogReadId, LogWrite, Reply, SnapshotEffect, SnapshotId, WriteId};
pub use input::{Input, RequestId};

use crate::config::ValidConfig;
use crate::entry::{HardState, LogId};
use crate::membership::{Membership, MembershipAt};
use crate::metrics::RaftMetrics;
use crate::storage::AppliedState;
use crate::type_config::TypeConfig;

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

/// The Raft algorithm of one node, as a state machine without any I/O.
#[derive(Clone, Debug)]
pub struct Engine<C: TypeConfig> {
    x: std::marker::PhantomData<C>,
}

impl<C: TypeConfig> Engine<C> {
    /// An engine as a follower, with what was recovered. `Err` says what in `recovered` contradicts itself.
    pub fn new(config: ValidConfig, recovered: Recovered<C>, now: Instant) -> Result<Self, String> {
        let _ = (config, recovered, now);
        unimplemented!()
    }
    /// One transition.
    pub fn step(&mut self, now: Instant, input: Input<C>) {
        let _ = (now, input);
        unimplemented!()
    }
    /// What must be done now.
    pub fn take_effects(&mut self, now: Instant) -> Effects<C> {
        let _ = now;
        unimplemented!()
    }
    /// When to step with [`Input::Timeout`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// The membership in force.
    pub fn membership(&self) -> &Membership<C> {
        unimplemented!()
    }
    /// What an operator can see; `fatal` is `None`.
    pub fn metrics(&self, now: Instant) -> RaftMetrics<C> {
        let _ = now;
        unimplemented!()
    }
}
