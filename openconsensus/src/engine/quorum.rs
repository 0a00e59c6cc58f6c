//! Check-quorum: whether a leader still hears a quorum, and what it does when it does not.
//!
//! A leader that has no quorum serves nobody, and its heartbeats keep those who hear them from electing another (thesis
//! 6.2). So it gives up its leadership `election_timeout_ms_max` after the last moment at which a quorum is known to have
//! heard it, to the moment, and does not refuse votes to others before that either.
//!
//! What is known is what was proved. The answer to a round of heartbeats proves that the peer lived after the round was
//! *sent*, whenever the answer arrives and however often. An append that names entries for the first time is
//! proved to have arrived by an acknowledgement of these entries. An acknowledgement of what was sent before, or by
//! another leader, proves nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::type_config::TypeConfig;

use super::timer::Timer;
use super::{Engine, Fingerprint, Role, millis};

/// So many times within an election timeout are remembered.
const TIMES_MAX: u32 = 256;

/// When recent rounds of heartbeats began.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// In order; rounds that follow each other quickly share the time of the first of them.
    begun: VecDeque<(u64, Instant)>,
}

impl Rounds {
    /// A round begins. Nobody will ask for one that began longer than `horizon` ago.
    pub(super) fn begin(&mut self, round: u64, now: Instant, horizon: Duration) {
        while self.begun.get(1).is_some_and(|(_, next)| *next + horizon <= now) {
            self.begun.pop_front();
        }
        let distance = horizon / TIMES_MAX;
        if self.begun.back().is_none_or(|(_, last)| *last + distance <= now) {
            self.begun.push_back((round, now));
        }
    }

    /// A time before which `round` did not begin. `None` when that is long ago.
    pub(super) fn begun_at(&self, round: u64) -> Option<Instant> {
        let behind = self.begun.partition_point(|(begun, _)| *begun <= round);
        let (_, at) = self.begun.get(behind.checked_sub(1)?)?;
        Some(*at)
    }

    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { begun } = self;
        to.value(begun.len());
        for (round, at) in begun {
            to.value(round);
            to.past(Some(*at));
        }
    }
}

impl<C: TypeConfig> Engine<C> {
    /// The latest moment at which a quorum is known to have heard this leader, itself among it. Its election is one.
    pub(super) fn quorum_contact(&self, now: Instant) -> Option<Instant> {
        let Role::Leader(leader) = &self.role else { return None };
        let contact = |id| match leader.peers.get(&id) {
            _ if id == self.id => now,
            Some(progress) => progress.contact.unwrap_or(leader.since),
            None => leader.since,
        };
        // A quorum function of numbers serves times as well.
        let nanos = |at: Instant| u64::try_from((at - leader.since).as_nanos()).unwrap_or(u64::MAX);
        let quorum = self.log.membership().quorum_value(|id| nanos(contact(id).max(leader.since)));
        Some(leader.since + Duration::from_nanos(quorum))
    }

    /// Whether this node leads and a quorum has heard it within an election timeout.
    pub(super) fn hears_quorum(&self, now: Instant) -> bool {
        self.quorum_contact(now).is_some_and(|contact| now < contact + self.quorum_timeout())
    }

    fn quorum_timeout(&self) -> Duration {
        millis(self.config.election_timeout_ms_max)
    }

    /// Looks at the quorum when it may be lost at the earliest. What is heard until then moves that to a later time; only
    /// another membership can move it to an earlier one.
    pub(super) fn watch_quorum(&mut self, now: Instant) {
        if let Some(contact) = self.quorum_contact(now).filter(|_| self.config.check_quorum) {
            self.timers.set_earlier(Timer::Quorum, contact + self.quorum_timeout());
        }
    }

    pub(super) fn on_quorum_timeout(&mut self, now: Instant) {
        if self.hears_quorum(now) {
            self.watch_quorum(now);
        } else if let Role::Leader(_) = self.role {
            tracing::warn!(name: "raft.quorum_lost", node = %self.id, term = self.term, "no quorum answers: leadership is given up");
            self.become_follower(now, self.term, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::{Input, Recovered, RequestId};
    use crate::message::{AppendResult, Body, Message, VoteKind};
    use crate::metrics::RoleName;
    use crate::testing::{U64, start};

    fn leader(now: Instant) -> (Engine<U64>, Duration) {
        leader_of(3, now)
    }

    fn leader_of(nodes: u64, now: Instant) -> (Engine<U64>, Duration) {
        let config = Config::default().validate().unwrap();
        let timeout = millis(config.election_timeout_ms_max);
        let mut engine = Engine::<U64>::new(config, Recovered::empty(1, 1), now).unwrap();
        let nodes = (1..=nodes).map(|id| (id, ())).collect();
        engine.step(now, Input::Initialize { request: RequestId(1), nodes });
        engine.campaign_for_votes(now, VoteKind::Normal);
        engine.become_leader(now);
        (engine, timeout)
    }

    fn hear(engine: &mut Engine<U64>, now: Instant, body: Body<U64>) {
        hear_from(2, engine, now, body);
    }

    fn hear_from(from: u64, engine: &mut Engine<U64>, now: Instant, body: Body<U64>) {
        let message = Message { term: engine.term(), body };
        engine.step(now, Input::Receive { from, message });
    }

    const NANO: Duration = Duration::from_nanos(1);

    /// Thesis 6.2: a quorum that was heard less than an election timeout ago, and not exactly then.
    #[test]
    fn a_quorum_is_heard_until_the_longest_election_timeout_has_passed() {
        let now = start();
        let (mut engine, timeout) = leader(now);
        // Nobody has answered: its election counts.
        assert!(engine.hears_quorum(now + timeout - NANO));
        assert!(!engine.hears_quorum(now + timeout));
        // One answer makes two of three. It proves that its sender lived when the round began, not when it arrived.
        let later = now + Duration::from_millis(200);
        engine.send_heartbeats(later);
        hear(
            &mut engine,
            later + Duration::from_millis(50),
            Body::HeartbeatResponse { round: 2, promise_ms: 0 },
        );
        assert!(engine.hears_quorum(later + timeout - NANO));
        assert!(!engine.hears_quorum(later + timeout));
    }

    #[test]
    fn leadership_ends_to_the_moment_without_waiting_for_a_heartbeat() {
        let now = start();
        let (mut engine, timeout) = leader(now);
        engine.step(now + timeout - NANO, Input::Timeout);
        assert_eq!(engine.role(), RoleName::Leader);
        // The quorum is looked at between two heartbeats.
        assert_eq!(engine.next_deadline(), Some(now + timeout));
        engine.step(now + timeout, Input::Timeout);
        assert_eq!(engine.role(), RoleName::Follower);
    }

    #[test]
    fn an_answer_that_comes_again_or_late_proves_nothing_new() {
        let now = start();
        let (mut engine, timeout) = leader(now);
        for ms in (0..300).step_by(30) {
            let at = now + Duration::from_millis(ms);
            hear(&mut engine, at, Body::HeartbeatResponse { round: 1, promise_ms: 0 });
            hear(&mut engine, at, Body::AppendResponse { result: AppendResult::StaleTerm });
            hear(&mut engine, at, Body::AppendResponse { result: AppendResult::Matched { matched: 1 } });
        }
        assert!(!engine.hears_quorum(now + timeout));
    }

    /// What an operator sees of it: the latest moment by which a quorum was heard of, not the latest answer of any peer.
    #[test]
    fn the_metrics_say_how_long_ago_a_quorum_and_each_peer_was_heard_of() {
        let now = start();
        let at = |ms| now + Duration::from_millis(ms);
        let (mut engine, _) = leader_of(5, now);
        // Round 1 began with the election.
        for (round, ms) in [(2, 50), (3, 70), (4, 80)] {
            engine.send_heartbeats(at(ms));
            let peer = round;
            hear_from(peer, &mut engine, at(ms + 5), Body::HeartbeatResponse { round, promise_ms: 0 });
            // The leader and one other are no quorum of five.
            let quorum_contact = if peer == 2 { 0 } else { 50 + 20 * (peer - 3) };
            assert_eq!(engine.metrics(at(100)).quorum_contact_ms, Some(100 - quorum_contact), "peer {peer}");
        }
        let metrics = engine.metrics(at(100));
        let contacts: Vec<_> = metrics.peers.values().map(|peer| peer.contact_ms).collect();
        assert_eq!(contacts, [Some(50), Some(30), Some(20), None]);
    }

    #[test]
    fn rounds_in_quick_succession_share_a_time_that_is_not_too_late() {
        let start = start();
        let at = |us| start + Duration::from_micros(us);
        let horizon = Duration::from_millis(256);
        let mut rounds = Rounds::default();
        for round in 1..=10_000 {
            rounds.begin(round, at(round * 100), horizon);
        }
        assert!(rounds.begun.len() <= TIMES_MAX as usize + 2, "{}", rounds.begun.len());
        for round in 8_000..=10_000 {
            let begun = rounds.begun_at(round).unwrap();
            assert!(begun <= at(round * 100) && at(round * 100) < begun + horizon / TIMES_MAX);
        }
        assert_eq!(rounds.begun_at(1), None);
    }
}
