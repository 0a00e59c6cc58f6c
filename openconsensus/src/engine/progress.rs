//! The leader's view of a peer: probe, replicate, snapshot.

use std::collections::VecDeque;
use std::time::Instant;

use crate::config::ValidConfig;
use crate::entry::Index;
use crate::metrics::ProgressName;
use crate::type_config::TypeConfig;

use super::backoff::Backoff;
use super::effects::{LogReadId, SnapshotId};
use super::{Fingerprint, millis};

/// The longest wait before a snapshot is sent again is this power of two of the shortest.
const SNAPSHOT_DOUBLINGS_MAX: u32 = 4;

/// What the leader knows of a peer, and how it sends to it.
///
/// ```text
///            matched                        no entry before `next`
///  Probe ───────────────▶ Replicate    any ────────────────────────▶ Snapshot
///    ▲                       │                                          │
///    └──── conflict, lost, unreachable                                  │
///    └──────────────────────── failed ─────────────────────────────────┤
///                  Replicate ◀──────────────────── installed ──────────┘
/// ```
///
/// Invariant: `matched < next`. `matched` never falls while the leader leads and the peer is a member: it is what the
/// peer has said to be durable in this term.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    matched: Index,
    next: Index,
    state: ProgressState,
    /// The latest moment at which the peer is known to have heard this leader: what it has answered was sent then.
    pub(super) contact: Option<Instant>,
    /// How often it is tried while it does not answer.
    pub(super) backoff: Backoff,
    /// Entries up to here have been sent before, be it by this leader or another: acknowledging them proves nothing.
    sent: Index,
    /// The last entry and the round of the latest probe whose last entry was sent for the first time.
    first_probe: Option<(Index, u64)>,
    /// The latest round in which entries were sent for the first time that it has acknowledged since it was asked last.
    proved: Option<u64>,
    /// Whether something was sent for the first time, and whether such a thing was acknowledged, in this interval
    /// between two heartbeats.
    has_sent: bool,
    has_proved: bool,
    /// When it was asked last what has become of appends that it has not answered.
    asked: Option<Instant>,
    /// The latest round of heartbeats that it has answered.
    pub(super) acked_round: u64,
    /// Until then its promises count, by this leader's clock.
    pub(super) lease_until: Option<Instant>,
    /// The commit index that it was last sent.
    pub(super) commit_sent: Index,
    /// A read of old entries for it that has not come back.
    pub(super) log_read: Option<LogReadId>,
    /// No snapshot is sent to it before this time: the last one failed.
    pub(super) snapshot_not_before: Option<Instant>,
    /// How many snapshots have failed since the last one that arrived.
    snapshot_failures: u32,
    /// Set when it stopped being a member: until when it is still told so.
    pub(super) leaves_at: Option<Instant>,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum ProgressState {
    /// At most one append at a time: `sent_in` is the round of heartbeats in which it was sent, if one is out.
    Probe { sent_in: Option<u64> },
    /// Appends follow each other without waiting for answers.
    Replicate(Inflight),
    /// Nothing is sent but the snapshot `id`; `pending` is the index below which the log must not be purged meanwhile.
    Snapshot { id: SnapshotId, pending: Index },
}

/// Appends that were sent and not answered.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Inflight {
    appends: VecDeque<Sent>,
    bytes: u64,
}

#[derive(Clone, Debug, Hash)]
struct Sent {
    last: Index,
    bytes: u64,
    round: u64,
    /// Whether its last entry was sent for the first time.
    is_first: bool,
}

impl Inflight {
    pub(super) fn len(&self) -> u64 {
        self.appends.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn push(&mut self, sent: Sent) {
        self.bytes += sent.bytes;
        self.appends.push_back(sent);
    }

    /// Everything up to `matched` has been answered. Returns the latest round in which some of it was sent for the first
    /// time.
    fn free_to(&mut self, matched: Index) -> Option<u64> {
        let mut proved = None;
        while let Some(oldest) = self.appends.front() {
            if matched < oldest.last {
                break;
            }
            self.bytes -= oldest.bytes;
            proved = proved.max(oldest.is_first.then_some(oldest.round));
            self.appends.pop_front();
        }
        proved
    }
}

impl Progress {
    /// A peer of which nothing is known: `matched` is 0 in each new term, and the search begins at the log's end. Entries up
    /// to `inherited` are of earlier terms: it may have them from another leader.
    pub(super) fn new(last: Index, inherited: Index) -> Self {
        Self {
            matched: 0,
            next: last + 1,
            state: ProgressState::Probe { sent_in: None },
            contact: None,
            backoff: Backoff::default(),
            sent: inherited,
            first_probe: None,
            proved: None,
            has_sent: false,
            has_proved: false,
            asked: None,
            acked_round: 0,
            lease_until: None,
            commit_sent: 0,
            log_read: None,
            snapshot_not_before: None,
            snapshot_failures: 0,
            leaves_at: None,
        }
    }

    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self {
            matched,
            next,
            state,
            contact,
            backoff,
            sent,
            first_probe,
            proved,
            has_sent,
            has_proved,
            asked,
            acked_round,
            lease_until,
            commit_sent,
            log_read,
            snapshot_not_before,
            snapshot_failures,
            leaves_at,
        } = self;
        to.value((matched, next, state, acked_round, commit_sent, log_read, snapshot_failures));
        to.past(*contact);
        to.deadline(*lease_until);
        backoff.fingerprint(to);
        to.value((sent, first_probe, proved, has_sent, has_proved));
        to.past(*asked);
        to.deadline(*snapshot_not_before);
        to.deadline(*leaves_at);
    }

    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    pub(super) fn next(&self) -> Index {
        self.next
    }

    pub(super) fn state(&self) -> &ProgressState {
        &self.state
    }

    pub(super) fn name(&self) -> ProgressName {
        match self.state {
            ProgressState::Probe { .. } => ProgressName::Probe,
            ProgressState::Replicate(_) => ProgressName::Replicate,
            ProgressState::Snapshot { .. } => ProgressName::Snapshot,
        }
    }

    pub(super) fn inflight_appends(&self) -> u64 {
        match &self.state {
            ProgressState::Probe { sent_in } => u64::from(sent_in.is_some()),
            ProgressState::Replicate(inflight) => inflight.len(),
            ProgressState::Snapshot { .. } => 0,
        }
    }

    pub(super) fn inflight_bytes(&self) -> u64 {
        match &self.state {
            ProgressState::Replicate(inflight) => inflight.bytes(),
            ProgressState::Probe { .. } | ProgressState::Snapshot { .. } => 0,
        }
    }

    /// How many bytes of entries may be sent now; `None` when nothing may.
    pub(super) fn window_bytes(&self, config: &ValidConfig) -> Option<u64> {
        match &self.state {
            ProgressState::Probe { sent_in: None } => Some(config.append_bytes_max),
            ProgressState::Probe { sent_in: Some(_) } | ProgressState::Snapshot { .. } => None,
            ProgressState::Replicate(inflight) => {
                let open = inflight.len() < config.inflight_appends_max
                    && inflight.bytes() < config.inflight_bytes_max;
                open.then(|| config.append_bytes_max.min(config.inflight_bytes_max - inflight.bytes()))
            }
        }
    }

    /// An append up to `last` has been sent in `round`.
    pub(super) fn on_sent(&mut self, last: Index, bytes: u64, round: u64) {
        let is_first = self.sent < last;
        match &mut self.state {
            ProgressState::Probe { sent_in } => {
                *sent_in = Some(round);
                if is_first {
                    self.first_probe = Some((last, round));
                }
            }
            ProgressState::Replicate(inflight) => {
                if self.next <= last {
                    inflight.push(Sent { last, bytes, round, is_first });
                    self.next = last + 1;
                    self.has_sent |= is_first;
                }
            }
            ProgressState::Snapshot { .. } => panic!("nothing is appended to a peer that gets a snapshot"),
        }
        self.sent = self.sent.max(last);
    }

    /// The peer has said that it matches, durably, up to `matched`. Returns the snapshot that it no longer needs.
    pub(super) fn on_matched(&mut self, matched: Index, purged: Index) -> Option<SnapshotId> {
        self.matched = self.matched.max(matched);
        let probe = self.first_probe.take_if(|(last, _)| *last <= matched);
        self.proved = self.proved.max(probe.map(|(_, round)| round));
        let mut obsolete = None;
        match &mut self.state {
            ProgressState::Replicate(inflight) => {
                let proved = inflight.free_to(self.matched);
                self.has_proved |= proved.is_some();
                self.proved = self.proved.max(proved);
            }
            ProgressState::Probe { .. } => self.replicate(),
            ProgressState::Snapshot { id, .. } => {
                // What it lacks is in the log after all.
                if purged <= self.matched {
                    obsolete = Some(*id);
                    self.replicate();
                }
            }
        }
        self.next = self.next.max(self.matched + 1);
        obsolete
    }

    /// A snapshot did not arrive, or was refused: the next one waits for `retry_ms`, doubled with each further failure.
    pub(super) fn snapshot_failed(&mut self, now: Instant, retry_ms: u64) {
        self.snapshot_not_before = Some(now + millis(retry_ms << self.snapshot_failures));
        self.snapshot_failures = (self.snapshot_failures + 1).min(SNAPSHOT_DOUBLINGS_MAX);
        self.probe();
    }

    /// Sends without waiting from now on, from the first entry that the peer is not known to have.
    fn replicate(&mut self) {
        self.snapshot_failures = 0;
        self.state = ProgressState::Replicate(Inflight::default());
        self.next = self.matched + 1;
    }

    /// Whether a conflict at `rejected` says something new, and is not an answer that came late. One at or before
    /// `matched` is late, or the peer has lost what it had acknowledged: there is nowhere to look further back, and asking
    /// again at once would be answered the same at once, without end.
    pub(super) fn is_news(&self, rejected: Index) -> bool {
        match self.state {
            ProgressState::Probe { .. } => self.matched < rejected && rejected + 1 == self.next,
            ProgressState::Replicate(_) => self.matched < rejected,
            ProgressState::Snapshot { .. } => false,
        }
    }

    /// Looks for the match from `next` on.
    pub(super) fn probe_from(&mut self, next: Index) {
        self.state = ProgressState::Probe { sent_in: None };
        self.next = next.max(self.matched + 1);
    }

    /// Starts over from what is known for certain.
    pub(super) fn probe(&mut self) {
        self.probe_from(self.matched + 1);
    }

    pub(super) fn snapshot(&mut self, id: SnapshotId, pending: Index) {
        self.state = ProgressState::Snapshot { id, pending };
    }

    /// What was sent at that time has reached the peer.
    pub(super) fn hear_of(&mut self, sent: Option<Instant>) {
        self.contact = self.contact.max(sent);
    }

    /// The round in which the latest of the entries were sent that the peer is now known to have received from this leader.
    pub(super) fn take_proved(&mut self) -> Option<u64> {
        self.proved.take()
    }

    /// An interval between two heartbeats has passed. Returns whether appends have done in it what a heartbeat does: one was
    /// sent, so that the peer has heard its leader, and one was answered, so that the leader has heard the peer. When
    /// nothing was answered, what was sent may be lost, and only answers to heartbeats find that out.
    pub(super) fn end_interval(&mut self) -> bool {
        std::mem::take(&mut self.has_sent) & std::mem::take(&mut self.has_proved)
    }

    /// The peer lives and has answered `round`. Returns whether appends that were sent well before that are still
    /// unanswered, so that they may be lost: an empty append will tell. It is not asked again at once, because rounds of
    /// reads may follow each other faster than appends are answered.
    pub(super) fn on_heartbeat_answer(&mut self, round: u64, now: Instant, config: &ValidConfig) -> bool {
        self.backoff.on_answer();
        self.acked_round = self.acked_round.max(round);
        match &mut self.state {
            ProgressState::Probe { sent_in } => {
                if sent_in.is_some_and(|sent| sent < round) && self.backoff.may_try_append(now, config) {
                    *sent_in = None;
                }
                false
            }
            // A round of its own has passed since: what was in flight in the network has arrived or is lost.
            ProgressState::Replicate(inflight) => {
                let is_suspect = inflight.appends.front().is_some_and(|sent| sent.round + 1 < round);
                let interval = millis(config.heartbeat_interval_ms);
                let may_ask = self.asked.is_none_or(|asked| asked + interval <= now);
                if is_suspect && may_ask {
                    self.asked = Some(now);
                }
                is_suspect && may_ask
            }
            ProgressState::Snapshot { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    fn replicating(matched: Index) -> Progress {
        let mut progress = Progress::new(matched, matched);
        progress.on_matched(matched, 0);
        progress
    }

    #[test]
    fn a_probe_sends_one_append_and_waits() {
        let config = ValidConfig::default();
        let mut progress = Progress::new(10, 10);
        assert_eq!((progress.matched(), progress.next()), (0, 11));
        assert!(progress.window_bytes(&config).is_some());
        progress.on_sent(10, 0, 1);
        assert!(progress.window_bytes(&config).is_none());
        // The round in which it was sent proves nothing; a later one frees it.
        assert!(!progress.on_heartbeat_answer(1, start(), &config));
        assert!(progress.window_bytes(&config).is_none());
        progress.on_heartbeat_answer(2, start(), &config);
        assert!(progress.window_bytes(&config).is_some());
    }

    #[test]
    fn late_answers_move_nothing_back() {
        let mut progress = replicating(5);
        progress.on_sent(8, 100, 1);
        progress.on_matched(8, 0);
        progress.on_matched(5, 0);
        assert_eq!((progress.matched(), progress.next()), (8, 9));
        assert!(!progress.is_news(8) && !progress.is_news(3));
        progress.probe_from(2);
        assert_eq!(progress.next(), 9);
        assert!(!progress.is_news(8), "nothing is looked for before what it has acknowledged");
        progress.probe_from(12);
        assert!(progress.is_news(11));
    }

    #[test]
    fn the_window_is_limited_in_appends_and_in_bytes() {
        let limits = crate::Config {
            inflight_appends_max: 2,
            append_bytes_max: 1024,
            inflight_bytes_max: 3000,
            ..crate::Config::default()
        };
        let config = limits.validate().unwrap();
        let mut progress = replicating(0);
        progress.on_sent(1, 1000, 1);
        assert_eq!(progress.window_bytes(&config), Some(1024));
        progress.on_sent(2, 1000, 1);
        assert_eq!(progress.window_bytes(&config), None);
        progress.on_matched(1, 0);
        assert_eq!(progress.window_bytes(&config), Some(1024));
        progress.on_sent(3, 2500, 1);
        progress.on_matched(2, 0);
        assert_eq!(progress.window_bytes(&config), Some(500));
    }

    #[test]
    fn appends_that_stay_unanswered_over_two_rounds_are_suspected_to_be_lost() {
        let config = ValidConfig::default();
        let mut progress = replicating(0);
        let now = start();
        progress.on_sent(3, 10, 4);
        assert!(!progress.on_heartbeat_answer(4, now, &config));
        assert!(!progress.on_heartbeat_answer(5, now, &config));
        assert!(progress.on_heartbeat_answer(6, now, &config));
        // Asked once an interval, however many rounds are answered in it.
        let interval = millis(config.heartbeat_interval_ms);
        assert!(!progress.on_heartbeat_answer(9, now + interval / 2, &config));
        assert!(progress.on_heartbeat_answer(10, now + interval, &config));
    }

    #[test]
    fn only_what_was_sent_for_the_first_time_is_proved_to_have_arrived() {
        let mut progress = replicating(5);
        progress.on_sent(6, 10, 3);
        progress.on_sent(7, 10, 4);
        progress.on_matched(6, 0);
        assert_eq!((progress.take_proved(), progress.take_proved()), (Some(3), None));
        // Sent again after a report: the answer may be to the first time.
        progress.probe();
        progress.on_sent(7, 10, 9);
        progress.on_matched(7, 0);
        assert_eq!(progress.take_proved(), None);
        // What it had before this leader was elected it may have told long ago.
        let mut inherited = Progress::new(10, 10);
        inherited.on_matched(4, 0);
        inherited.on_sent(10, 10, 2);
        inherited.on_sent(12, 10, 3);
        inherited.on_matched(10, 0);
        assert_eq!(inherited.take_proved(), None);
        inherited.on_matched(12, 0);
        assert_eq!(inherited.take_proved(), Some(3));
        // A probe proves as much as any other append.
        let mut added = Progress::new(20, 10);
        added.probe_from(1);
        added.on_sent(20, 10, 5);
        added.on_matched(20, 0);
        assert_eq!(added.take_proved(), Some(5));
    }

    #[test]
    fn appends_stand_for_a_heartbeat_when_one_was_sent_and_one_was_answered() {
        let mut progress = replicating(0);
        assert!(!progress.end_interval());
        progress.on_sent(1, 10, 1);
        // Nothing has been answered: it may be lost.
        assert!(!progress.end_interval());
        progress.on_matched(1, 0);
        // Nothing was sent since: the peer has not heard its leader.
        assert!(!progress.end_interval());
        progress.on_sent(2, 10, 4);
        progress.on_matched(2, 0);
        progress.on_sent(3, 10, 4);
        assert!(progress.end_interval());
        assert!(!progress.end_interval());
    }

    #[test]
    fn an_acknowledgement_that_reaches_the_log_ends_the_snapshot() {
        let mut progress = Progress::new(50, 50);
        progress.snapshot(SnapshotId(7), 40);
        assert_eq!(progress.on_matched(10, 30), None);
        assert_eq!(progress.name(), ProgressName::Snapshot);
        assert_eq!(progress.on_matched(31, 30), Some(SnapshotId(7)));
        assert_eq!((progress.name(), progress.next()), (ProgressName::Replicate, 32));
    }
}
