//! `Writes`: what clients were told of their writes, and whether a state agrees.

use std::collections::BTreeSet;
use std::time::Duration;

use openconsensus_memstore::KvView;
use openconsensus_memstore::kv::Response;

use crate::client::Outcome;
use crate::linearizability::{self, KvModel, KvRequest, KvResponse, Limits, Recorder, check};

/// The outcomes of writes that each set a key of their own, once.
#[derive(Debug, Default)]
pub struct Writes {
    recorder: Recorder<KvRequest, KvResponse>,
}

impl Writes {
    /// No writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value that the write of `key` must set, so that a wrong value is noticed as well.
    pub fn value_of(key: &str) -> Vec<u8> {
        format!("value of {key}").into_bytes()
    }

    /// What the client that wrote `key` was told.
    pub fn record(&self, key: &str, outcome: &Outcome) {
        let call = self.recorder.call(0, KvRequest::put(key, text(Self::value_of(key))));
        call.ended(match outcome {
            Outcome::Applied(Response::Previous(previous)) => {
                linearizability::Outcome::Returned(KvResponse::Previous(previous.clone().map(text)))
            }
            Outcome::Applied(Response::Compared { .. } | Response::Batch(_)) => {
                linearizability::Outcome::Returned(KvResponse::Done)
            }
            Outcome::Absent => linearizability::Outcome::Absent,
            Outcome::Unknown => linearizability::Outcome::Unknown,
        });
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.recorder.counts().returned
    }

    /// How many writes were certainly not carried out.
    pub fn absent(&self) -> usize {
        self.recorder.counts().absent
    }

    /// How many writes have an open outcome.
    pub fn unknown(&self) -> usize {
        self.recorder.counts().unknown
    }

    /// Checks that every acknowledged write is in `state`, and none that certainly was not carried out.
    ///
    /// # Panics
    ///
    /// When that is not so, with the keys that are wrong.
    pub fn check(&self, state: &KvView) {
        self.check_values(|key| state.get(key));
    }

    /// As [`check`](Self::check), for a state of any kind: `get` returns the value of a key.
    ///
    /// # Panics
    ///
    /// As [`check`](Self::check).
    pub fn check_values(&self, get: impl Fn(&str) -> Option<Vec<u8>>) {
        let mut history = self.recorder.history();
        let requests = history.operations().iter().map(|operation| operation.request.key.clone());
        for key in requests.collect::<BTreeSet<_>>() {
            let value = get(&key).map(text);
            let read = history.call(0, Duration::MAX, KvRequest::get(key));
            let seen = linearizability::Outcome::Returned(KvResponse::Value(value));
            history.end(read, Duration::MAX, seen);
        }
        check(&KvModel::new(), &history, &Limits::default()).assert_linearizable();
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
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
            payload: Payload::Command(put(*key, Writes::value_of(key))),
        }));
        block_on(machine.apply(ApplyBatch::new(&AppliedState::default(), entries.into()))).unwrap();
        machine.reader().view()
    }

    #[test]
    fn a_lost_write_and_one_that_must_not_be_are_noticed() {
        let writes = Writes::new();
        writes.record("acknowledged", &Outcome::Applied(Response::Previous(None)));
        writes.record("absent", &Outcome::Absent);
        writes.record("unknown", &Outcome::Unknown);
        let is_right = |keys: &[&str]| catch_unwind(AssertUnwindSafe(|| writes.check(&state(keys)))).is_ok();
        assert!(is_right(&["acknowledged"]));
        assert!(is_right(&["acknowledged", "unknown"]));
        assert!(!is_right(&["unknown"]));
        assert!(!is_right(&["acknowledged", "absent"]));
    }

    #[test]
    fn a_write_that_was_applied_twice_is_noticed() {
        let writes = Writes::new();
        let before = Writes::value_of("k");
        writes.record("k", &Outcome::Applied(Response::Previous(Some(before))));
        assert!(catch_unwind(AssertUnwindSafe(|| writes.check(&state(&["k"])))).is_err());
    }
}
