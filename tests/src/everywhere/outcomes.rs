//! What became of every write, as its client was told.

use std::collections::{BTreeMap, BTreeSet};

use openconsensus::WriteError;
use openconsensus_memstore::kv::{Command, Kv, Response};

/// Keys by the outcome of the write that put them there. Every attempt has a key of its own.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    attempts: u64,
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Outcomes {
    /// A key that nobody has written, and the command that does.
    pub(super) fn attempt(&mut self) -> (String, Command) {
        self.attempts += 1;
        let key = format!("key-{:05}", self.attempts);
        let command = Command::Put { key: key.clone(), value: value(&key) };
        (key, command)
    }

    /// Keeps what a client was told. Whether the write is acknowledged.
    pub(super) fn told(&mut self, key: String, outcome: Result<Response, WriteError<Kv>>) -> bool {
        match outcome {
            Ok(response) => {
                assert_eq!(response, Response::Previous(None), "{key} is written once");
                self.acknowledged.insert(key)
            }
            Err(WriteError::Unknown { .. }) => {
                self.unknown.insert(key);
                false
            }
            // Each of them says that nothing was done.
            Err(_) => {
                self.refused.insert(key);
                false
            }
        }
    }

    /// How many writes are acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Insists that `pairs`, read behind all of it, shows what clients were told.
    pub(super) fn check(&self, node: u64, pairs: &BTreeMap<String, Vec<u8>>) {
        for key in &self.acknowledged {
            assert_eq!(pairs.get(key), Some(&value(key)), "{key} was acknowledged; node {node} has lost it");
        }
        for key in pairs.keys() {
            assert!(!self.refused.contains(key), "{key} was refused; node {node} has it all the same");
            let is_known = self.acknowledged.contains(key) || self.unknown.contains(key);
            assert!(is_known, "nobody has written {key}; node {node} has it");
        }
    }
}

fn value(key: &str) -> Vec<u8> {
    format!("the value of {key}").into_bytes()
}
