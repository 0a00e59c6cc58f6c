//! The leader's view of a peer: probe, replicate, snapshot.

use std::collections::VecDeque;
use std::time::Instant;

use crate::config::ValidConfig;
use crate::entry::Index;
use crate::metrics::ProgressName;
use crate::type_config::TypeConfig;

use super::effects::{LogReadId, SnapshotId};
use super::{Fingerprint, millis};

/// The longest wait before a snapshot is sent again, unless the shortest is longer.
const SNAPSHOT_RETRY_MS_MAX: u64 = 10_000;
const SNAPSHOT_DOUBLINGS_MAX: u32 = 10;

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
    /// When the peer was last heard in this term.
    pub(super) contact: Option<Instant>,
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
}

impl Inflight {
    pub(super) fn len(&self) -> u64 {
        self.appends.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn push(&mut self, last: Index, bytes: u64, round: u64) {
        self.appends.push_back(Sent { last, bytes, round });
        self.bytes += bytes;
    }

    /// Everything up to `matched` has been answered.
    fn free_to(&mut self, matched: Index) {
        while let Some(oldest) = self.appends.front() {
            if matched < oldest.last {
                break;
            }
            self.bytes -= oldest.bytes;
            self.appends.pop_front();
        }
    }
}

impl Progress {
    /// A peer of which nothing is known: `matched` is 0 in each new term, and the search begins at the log's end.
    pub(super) fn new(last: Index) -> Self {
        Self {
            matched: 0,
            next: last + 1,
            state: ProgressState::Probe { sent_in: None },
            contact: None,
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
        match &mut self.state {
            ProgressState::Probe { sent_in } => *sent_in = Some(round),
            ProgressState::Replicate(inflight) => {
                if self.next <= last {
                    inflight.push(last, bytes, round);
                    self.next = last + 1;
                }
            }
            ProgressState::Snapshot { .. } => panic!("nothing is appended to a peer that gets a snapshot"),
        }
    }

    /// The peer has said that it matches, durably, up to `matched`. Returns the snapshot that it no longer needs.
    pub(super) fn on_matched(&mut self, matched: Index, purged: Index) -> Option<SnapshotId> {
        self.matched = self.matched.max(matched);
        let mut obsolete = None;
        match &mut self.state {
            ProgressState::Replicate(inflight) => inflight.free_to(self.matched),
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
        let wait_ms = (retry_ms << self.snapshot_failures).min(SNAPSHOT_RETRY_MS_MAX.max(retry_ms));
        self.snapshot_failures = (self.snapshot_failures + 1).min(SNAPSHOT_DOUBLINGS_MAX);
        self.snapshot_not_before = Some(now + millis(wait_ms));
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

    /// The peer lives and has answered `round`. Returns whether appends that were sent well before that are still
    /// unanswered, so that they may be lost: an empty append will tell.
    pub(super) fn on_heartbeat_answer(&mut self, round: u64, now: Instant) -> bool {
        self.contact = Some(now);
        self.acked_round = self.acked_round.max(round);
        match &mut self.state {
            ProgressState::Probe { sent_in } => {
                if sent_in.is_some_and(|sent| sent < round) {
                    *sent_in = None;
                }
                false
            }
            // A round of its own has passed since: what was in flight in the network has arrived or is lost.
            ProgressState::Replicate(inflight) => {
                inflight.appends.front().is_some_and(|sent| sent.round + 1 < round)
            }
            ProgressState::Snapshot { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicating(matched: Index) -> Progress {
        let mut progress = Progress::new(matched);
        progress.on_matched(matched, 0);
        progress
    }

    #[test]
    fn a_probe_sends_one_append_and_waits() {
        let config = ValidConfig::default();
        let mut progress = Progress::new(10);
        assert_eq!((progress.matched(), progress.next()), (0, 11));
        assert!(progress.window_bytes(&config).is_some());
        progress.on_sent(10, 0, 1);
        assert!(progress.window_bytes(&config).is_none());
        // The round in which it was sent proves nothing; a later one frees it.
        assert!(!progress.on_heartbeat_answer(1, Instant::now()));
        assert!(progress.window_bytes(&config).is_none());
        progress.on_heartbeat_answer(2, Instant::now());
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
        let mut progress = replicating(0);
        let now = Instant::now();
        progress.on_sent(3, 10, 4);
        assert!(!progress.on_heartbeat_answer(4, now));
        assert!(!progress.on_heartbeat_answer(5, now));
        assert!(progress.on_heartbeat_answer(6, now));
    }

    #[test]
    fn an_acknowledgement_that_reaches_the_log_ends_the_snapshot() {
        let mut progress = Progress::new(50);
        progress.snapshot(SnapshotId(7), 40);
        assert_eq!(progress.on_matched(10, 30), None);
        assert_eq!(progress.name(), ProgressName::Snapshot);
        assert_eq!(progress.on_matched(31, 30), Some(SnapshotId(7)));
        assert_eq!((progress.name(), progress.next()), (ProgressName::Replicate, 32));
    }
}
