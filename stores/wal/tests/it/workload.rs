//! Random calls that a driver might make, the same for the same seed.

use fastrand::Rng;
use openconsensus::{Entries, Entry, HardState, LogId, Membership, Payload, Term};
use openconsensus_memstore::kv::Kv;

use crate::model::{Call, Model, command};

/// Makes calls.
pub(crate) struct Workload {
    pub(crate) random: Rng,
    /// The greatest term of an entry there ever was: an entry that replaces another one is of a later term.
    term: Term,
    was_truncated: bool,
    /// About how large a segment is.
    segment_bytes: usize,
}

impl Workload {
    pub(crate) fn new(seed: u64, segment_bytes: usize) -> Self {
        Self { random: Rng::with_seed(seed), term: 1, was_truncated: false, segment_bytes }
    }

    /// Goes on behind what another run has left, in which terms up to `term` may have been used.
    pub(crate) fn behind(seed: u64, segment_bytes: usize, term: Term) -> Self {
        Self { random: Rng::with_seed(seed), term, was_truncated: true, segment_bytes }
    }

    /// The greatest term that was used.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// The next call to a log that holds what `model` says.
    pub(crate) fn next(&mut self, model: &Model) -> Call {
        let last = model.last();
        let committed = model.committed();
        match self.random.u8(0..20) {
            0..=9 => self.append(model),
            10 | 11 if committed < last.index => {
                self.was_truncated = true;
                Call::Truncate(self.random.u64(committed + 1..=last.index + 1))
            }
            12 | 13 if model.purged.index < last.index => {
                let index = self.random.u64(model.purged.index..=last.index);
                Call::Purge(model.log_id(index).unwrap_or(model.purged))
            }
            14 if self.random.u8(0..3) == 0 => {
                self.term = self.term.max(last.term) + 1;
                Call::Purge(LogId::new(self.term, last.index + self.random.u64(1..50)))
            }
            15 => Call::Reopen,
            _ => self.hard_state(model),
        }
    }

    fn append(&mut self, model: &Model) -> Call {
        let last = model.last();
        let is_new_term = std::mem::take(&mut self.was_truncated) || self.random.u8(0..5) == 0;
        self.term = self.term.max(last.term) + u64::from(is_new_term);
        let count = match self.random.u8(0..4) {
            0 | 1 => 1,
            2 => self.random.u64(1..5),
            _ => self.random.u64(1..20),
        };
        let first = last.index + 1;
        let entries: Vec<_> = (first..first + count)
            .map(|index| {
                let log_id = LogId::new(self.term, index);
                Entry { log_id, payload: self.payload(log_id) }
            })
            .collect();
        let news = if self.random.u8(0..3) == 0 { self.random.u64(0..3) } else { 0 };
        let commit = (model.committed() + news).min(last.index);
        // Sometimes in several allocations, as the driver may have them.
        let entries = Entries::from(entries);
        let cut = self.random.u64(first..=first + count);
        let entries = Entries::concat([entries.slice(0..cut), entries.slice(cut..first + count)]);
        Call::Append(entries, commit)
    }

    fn payload(&mut self, log_id: LogId) -> Payload<Kv> {
        let segment = self.segment_bytes;
        match self.random.u8(0..24) {
            0 => Payload::Blank,
            1 => {
                let nodes = [(1, "a:1".to_string()), (log_id.index, format!("{log_id}"))].into();
                Payload::Membership(Membership::of_voters(nodes))
            }
            2 => command(log_id, self.random.usize(segment / 4..segment + segment / 2)),
            // The records end at all places of a sector.
            3..8 => command(log_id, self.random.usize(300..1200)),
            _ => command(log_id, self.random.usize(0..100)),
        }
    }

    fn hard_state(&mut self, model: &Model) -> Call {
        let random = &mut self.random;
        let before = model.hard_state;
        let term = before.term.max(model.last().term) + u64::from(random.bool());
        let vote = random.bool().then(|| random.u64(1..4));
        let voted_for = if term == before.term { before.voted_for.or(vote) } else { vote };
        let commit = before.commit.max(random.u64(0..=model.last().index.max(before.commit)));
        let commit =
            commit.min(before.commit.max(model.committed() + 3)).min(model.last().index.max(before.commit));
        Call::HardState(HardState { term, voted_for, commit })
    }
}
