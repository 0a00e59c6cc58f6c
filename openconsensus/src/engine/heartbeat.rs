//! Heartbeats: when a leader sends them and to whom, and what their answers tell.

use std::time::Instant;

use crate::entries::Entries;
use crate::message::Body;
use crate::type_config::TypeConfig;

use super::timer::Timer;
use super::{Engine, Role, millis};

impl<C: TypeConfig> Engine<C> {
    pub(super) fn on_heartbeat_timeout(&mut self, now: Instant) {
        let Role::Leader(_) = &self.role else { return };
        self.timers.set(Timer::Heartbeat, now + millis(self.config.heartbeat_interval_ms));
        if !self.heartbeats_paused {
            self.send_periodic_heartbeats(now);
        }
        self.repeat_transfer();
    }

    /// A round of heartbeats to everybody who may need one: they say that the leader lives, confirm reads and carry the
    /// commit index.
    pub(super) fn send_heartbeats(&mut self, now: Instant) {
        self.begin_round(now);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.reads.on_round(leader.round, now);
        // Who cannot be reached is left out where the others are a quorum. Reads follow each other at the speed of the
        // network, and would ask those in vain again and again.
        let may_leave_out = self.log.membership().is_quorum(|id| {
            id == self.id || leader.peers.get(&id).is_some_and(|progress| !progress.backoff.is_unreachable())
        });
        let is_due = |backoff: &super::backoff::Backoff| !may_leave_out || backoff.is_due(now, &self.config);
        let peers = leader.peers.iter().filter(|(_, progress)| is_due(&progress.backoff));
        let peers: Vec<_> = peers.map(|(id, _)| *id).collect();
        self.send_heartbeats_to(now, &peers);
        self.timers.set(Timer::Heartbeat, now + millis(self.config.heartbeat_interval_ms));
    }

    fn send_periodic_heartbeats(&mut self, now: Instant) {
        let may_skip = self.may_skip_heartbeats();
        self.begin_round(now);
        let Role::Leader(leader) = &mut self.role else { return };
        let mut peers = Vec::with_capacity(leader.peers.len());
        let mut skipped = 0;
        for (peer, progress) in &mut leader.peers {
            let is_redundant = progress.end_interval() && may_skip;
            skipped += u64::from(is_redundant);
            if !is_redundant && progress.backoff.is_due(now, &self.config) {
                peers.push(*peer);
            }
        }
        if skipped == 0 {
            leader.reads.on_round(leader.round, now);
        }
        self.counters.heartbeats_skipped += skipped;
        self.send_heartbeats_to(now, &peers);
    }

    /// Whether appends may stand for heartbeats. Reads wait for answers to rounds, and leases last by them. And a skipped
    /// heartbeat lets up to two intervals pass in silence: one more message may be lost before the follower misses its
    /// leader.
    fn may_skip_heartbeats(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        !leader.reads.are_waiting()
            && self.config.lease_clock_drift_ppm_max.is_none()
            && 3 * self.config.heartbeat_interval_ms <= self.config.election_timeout_ms_min
    }

    fn begin_round(&mut self, now: Instant) {
        let horizon = millis(self.config.election_timeout_ms_max);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.round += 1;
        leader.rounds.begin(leader.round, now, horizon);
        leader.lease.on_round(leader.round, now, &self.config);
    }

    fn send_heartbeats_to(&mut self, now: Instant, peers: &[C::NodeId]) {
        let commit = self.log.log_id_at(self.log.committed()).expect("what is committed is in the log");
        for peer in peers {
            let Role::Leader(leader) = &mut self.role else { return };
            if let Some(progress) = leader.peers.get_mut(peer) {
                progress.backoff.on_heartbeat(now, &self.config);
            }
            let round = leader.round;
            self.send(*peer, Body::Heartbeat { round, commit });
        }
    }

    pub(super) fn on_heartbeat_response(
        &mut self,
        now: Instant,
        from: C::NodeId,
        round: u64,
        promise_ms: u64,
    ) {
        self.take_promise(from, round, promise_ms);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        if leader.round < round {
            return;
        }
        progress.hear_of(leader.rounds.begun_at(round));
        if progress.on_heartbeat_answer(round, now, &self.config) {
            // An empty append behind what was sent: the answer tells whether that has arrived.
            match self.log.log_id_at(progress.next() - 1) {
                Some(prev) => {
                    let commit = self.log.committed();
                    self.send(from, Body::Append { prev, entries: Entries::empty(), commit });
                }
                // Purged meanwhile: whatever has become of them, they cannot be sent again.
                None => progress.probe(),
            }
        }
    }
}
