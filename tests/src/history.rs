//! `History`: what clients were told of their writes, and whether the state agrees.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openconsensus_memstore::KvView;

use crate::client::Outcome;

/// The outcomes of writes that each set a key of their own, once.
#[derive(Debug, Default)]
pub struct History {
    writes: Mutex<BTreeMap<String, Fate>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Present,
    Absent,
    Either,
}

impl History {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value that the write of `key` must set, so that a wrong value is noticed as well.
    pub fn value_of(key: &str) -> Vec<u8> {
        format!("value of {key}").into_bytes()
    }

    /// What the client that wrote `key` was told.
    ///
    /// # Panics
    ///
    /// When `key` was written before.
    pub fn record(&self, key: &str, outcome: &Outcome) {
        let fate = match outcome {
            Outcome::Applied(_) => Fate::Present,
            Outcome::Absent => Fate::Absent,
            Outcome::Unknown => Fate::Either,
        };
        let before = self.lock().insert(key.to_string(), fate);
        assert!(before.is_none(), "key {key} was written twice");
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.lock().values().filter(|fate| **fate == Fate::Present).count()
    }

    /// How many writes were certainly not carried out.
    pub fn absent(&self) -> usize {
        self.lock().values().filter(|fate| **fate == Fate::Absent).count()
    }

    /// How many writes have an open outcome.
    pub fn unknown(&self) -> usize {
        self.lock().values().filter(|fate| **fate == Fate::Either).count()
    }

    /// Checks that every acknowledged write is in `state`, and none that certainly was not carried out.
    ///
    /// # Panics
    ///
    /// When that is not so, with the first key that is wrong.
    pub fn check(&self, state: &KvView) {
        self.check_values(|key| state.get(key));
    }

    /// As [`check`](Self::check), for a state of any kind: `get` returns the value of a key.
    ///
    /// # Panics
    ///
    /// As [`check`](Self::check).
    pub fn check_values(&self, get: impl Fn(&str) -> Option<Vec<u8>>) {
        for (key, fate) in self.lock().iter() {
            let value = get(key);
            let is_right = match fate {
                Fate::Present => value == Some(Self::value_of(key)),
                Fate::Absent => value.is_none(),
                Fate::Either => value.as_ref().is_none_or(|value| *value == Self::value_of(key)),
            };
            assert!(is_right, "key {key} must be {fate:?}, but is {value:?}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Fate>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use futures::executor::block_on;
    use openconsensus::{AppliedState, ApplyBatch, Entry, LogId, Membership, Payload, RaftStateMachine};
    use openconsensus_memstore::MemStateMachine;
    use openconsensus_memstore::kv::Response;

    use super::*;
    use crate::client::put;

    /// A state with the given keys, each with its right value.
    fn state(keys: &[&str]) -> KvView {
        let mut machine = MemStateMachine::default();
        let membership = Membership::of_voters(BTreeMap::from([(1, "one".to_string())]));
        let mut entries = vec![Entry { log_id: LogId::new(1, 1), payload: Payload::Membership(membership) }];
        entries.extend(keys.iter().zip(2..).map(|(key, index)| Entry {
            log_id: LogId::new(1, index),
            payload: Payload::Command(put(*key, History::value_of(key))),
        }));
        block_on(machine.apply(ApplyBatch::new(&AppliedState::default(), entries.into()))).unwrap();
        machine.reader().view()
    }

    #[test]
    fn a_lost_write_and_one_that_must_not_be_are_noticed() {
        let history = History::new();
        history.record("acknowledged", &Outcome::Applied(Response::Previous(None)));
        history.record("absent", &Outcome::Absent);
        history.record("unknown", &Outcome::Unknown);
        let is_right = |keys: &[&str]| catch_unwind(AssertUnwindSafe(|| history.check(&state(keys)))).is_ok();
        assert!(is_right(&["acknowledged"]));
        assert!(is_right(&["acknowledged", "unknown"]));
        assert!(!is_right(&["unknown"]));
        assert!(!is_right(&["acknowledged", "absent"]));
    }
}
