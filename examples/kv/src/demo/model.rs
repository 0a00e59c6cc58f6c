//! What the owners of keys know of them, and therefore what anybody who reads them may see.
//!
//! Every key has one owner, which changes it one write at a time. So the states of a key form a line of versions, and
//! from what has been acknowledged or seen follows a floor: whoever begins to read now must see that version or a
//! later one. Each value carries its key and version, so that a state that is read tells which version it is.
//!
//! A write whose outcome is unknown leaves two or more states that are allowed. Whether it can still arrive after a
//! later write depends on its kind: a replacement cannot (the value that it expects has gone for good), a plain put or
//! delete could, so its owner does not write that key again until the write has been seen.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Serialize;

/// A state in the life of one key: 0 is "never written", `n` is what the n-th write that was sent makes of it.
pub(super) type Version = usize;

/// How many keys count as written just now.
const RECENT_KEYS: usize = 8;

/// Values are padded to so many bytes.
const VALUE_BYTES_MIN: usize = 64;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Sets the key, whatever it is.
    Put,
    /// Removes the key, whatever it is.
    Delete,
    /// Sets the key if it still is what its owner last knew.
    Replace,
}

/// What is known of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Sent, and not answered yet.
    InFlight,
    /// Not answered, or answered with "unknown".
    Unknown,
    /// It has happened: its answer says so, or somebody has seen its effect.
    Happened,
    /// It has not happened and never will.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    change: Change,
    outcome: Outcome,
}

/// Invariant: `floor` is 0 or a write that has happened; no write below it can take effect any more.
#[derive(Debug, Default)]
struct Key {
    writes: Vec<Write>,
    floor: Version,
}

/// A write on its way: what to send, and what the answer is measured by.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The key.
    pub(super) key: String,
    /// What to do with it.
    pub(super) change: Change,
    /// What it becomes; `None`: removed.
    pub(super) value: Option<Vec<u8>>,
    /// What a [`Change::Replace`] expects; `None`: absent.
    pub(super) expected: Option<Vec<u8>>,
    version: Version,
    floor: Version,
}

/// A read on its way.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The key.
    pub(super) key: String,
    floor: Version,
}

/// In what way something that was seen contradicts what was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultKind {
    /// An older state than one that had been acknowledged or seen before.
    Outdated,
    /// A state that nobody has written.
    Foreign,
    /// The effect of a write that was refused.
    Refused,
    /// A write has happened twice.
    Twice,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outdated => "outdated",
            Self::Foreign => "foreign",
            Self::Refused => "refused",
            Self::Twice => "twice",
        })
    }
}

/// A contradiction, and where it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// Its kind.
    pub(super) kind: FaultKind,
    /// The key.
    pub(super) key: String,
    /// What was allowed and what was seen.
    pub(super) detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.key, self.detail, self.kind)
    }
}

/// How many operations ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Writes acknowledged.
    pub(super) acknowledged: u64,
    /// Writes with an unknown outcome.
    pub(super) unknown: u64,
    /// Writes that certainly have not happened.
    pub(super) refused: u64,
    /// Reads answered.
    pub(super) reads: u64,
    /// Reads not answered.
    pub(super) reads_failed: u64,
}

/// All keys that have owners.
#[derive(Debug, Default)]
pub(super) struct Model {
    keys: BTreeMap<String, Key>,
    names: Vec<String>,
    recent: VecDeque<String>,
    faults: Vec<Fault>,
    tally: Tally,
}

impl Model {
    /// Whether the owner of `key` may write it now: no earlier write can still arrive.
    pub(super) fn is_writable(&self, key: &str) -> bool {
        let Some(state) = self.keys.get(key) else { return true };
        state.writes.iter().skip(state.floor).all(|write| match (write.change, write.outcome) {
            (Change::Replace, Outcome::Unknown) | (_, Outcome::Happened | Outcome::Refused) => true,
            (_, Outcome::InFlight) | (Change::Put | Change::Delete, Outcome::Unknown) => false,
        })
    }

    /// Begins a write.
    ///
    /// # Panics
    ///
    /// When the key is not writable.
    pub(super) fn begin_write(&mut self, key: &str, change: Change) -> Attempt {
        assert!(self.is_writable(key), "an earlier write of {key} may still arrive");
        if !self.keys.contains_key(key) {
            self.names.push(key.to_owned());
        }
        let state = self.keys.entry(key.to_owned()).or_default();
        state.writes.push(Write { change, outcome: Outcome::InFlight });
        let version = state.writes.len();
        let floor = state.floor;
        Attempt {
            key: key.to_owned(),
            change,
            value: state.value(key, version),
            expected: state.value(key, floor),
            version,
            floor,
        }
    }

    /// The write has happened. `previous` is what its answer says that it found.
    pub(super) fn acknowledged(&mut self, attempt: &Attempt, previous: Option<&[u8]>) {
        self.tally.acknowledged += 1;
        if self.recent.len() == RECENT_KEYS {
            self.recent.pop_front();
        }
        self.recent.push_back(attempt.key.clone());
        let Some(state) = self.keys.get_mut(&attempt.key) else { return };
        match state.explain(&attempt.key, attempt.floor, previous) {
            Ok(found) if found == attempt.version => self.faults.push(Fault {
                kind: FaultKind::Twice,
                key: attempt.key.clone(),
                detail: format!("version {found} found itself there when it was written"),
            }),
            Ok(found) => state.seen(found),
            Err(fault) => self.faults.push(fault),
        }
        state.seen(attempt.version);
    }

    /// The write has certainly not happened.
    pub(super) fn refused(&mut self, attempt: &Attempt) {
        self.tally.refused += 1;
        let Some(state) = self.keys.get_mut(&attempt.key) else { return };
        let write = &mut state.writes[attempt.version - 1];
        match write.outcome {
            Outcome::InFlight | Outcome::Unknown | Outcome::Refused => write.outcome = Outcome::Refused,
            Outcome::Happened => self.faults.push(Fault {
                kind: FaultKind::Refused,
                key: attempt.key.clone(),
                detail: format!("version {} was refused, but has been seen", attempt.version),
            }),
        }
    }

    /// The replacement has not happened, because it found `actual`.
    pub(super) fn not_replaced(&mut self, attempt: &Attempt, actual: Option<&[u8]>) {
        self.refused(attempt);
        self.check(&attempt.key, attempt.floor, actual);
    }

    /// Nobody knows what became of the write.
    pub(super) fn unknown(&mut self, attempt: &Attempt) {
        self.tally.unknown += 1;
        let Some(state) = self.keys.get_mut(&attempt.key) else { return };
        let write = &mut state.writes[attempt.version - 1];
        match write.outcome {
            Outcome::InFlight if attempt.change == Change::Replace && state.floor != attempt.floor => {
                // What it expects has been replaced meanwhile, and not by it.
                write.outcome = Outcome::Refused;
            }
            Outcome::InFlight => write.outcome = Outcome::Unknown,
            Outcome::Unknown | Outcome::Happened | Outcome::Refused => {}
        }
    }

    /// Begins a linearizable read.
    pub(super) fn begin_read(&self, key: &str) -> Reading {
        Reading { key: key.to_owned(), floor: self.keys.get(key).map_or(0, |state| state.floor) }
    }

    /// The read has returned `value`.
    pub(super) fn finish_read(&mut self, reading: &Reading, value: Option<&[u8]>) {
        self.tally.reads += 1;
        self.check(&reading.key, reading.floor, value);
    }

    /// The read was not answered.
    pub(super) fn read_failed(&mut self) {
        self.tally.reads_failed += 1;
    }

    fn check(&mut self, key: &str, floor: Version, value: Option<&[u8]>) {
        let state = self.keys.entry(key.to_owned()).or_default();
        match state.explain(key, floor, value) {
            Ok(found) => state.seen(found),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// Whether `value` is one of the states that `key` may have now that nothing is in flight.
    pub(super) fn judge(&self, key: &str, value: Option<&[u8]>) -> Result<(), Fault> {
        match self.keys.get(key) {
            Some(state) => state.explain(key, state.floor, value).map(|_| ()),
            None => Key::default().explain(key, 0, value).map(|_| ()),
        }
    }

    /// The names of all keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The names of all keys in the order in which they were first written.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The keys that were written last: where a read that is too old shows.
    pub(super) fn recent(&self) -> &VecDeque<String> {
        &self.recent
    }

    /// What contradicted the promises while the load ran.
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What has been counted.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }
}

impl Key {
    /// What the key is at `version`.
    fn value(&self, key: &str, version: Version) -> Option<Vec<u8>> {
        let write = self.writes.get(version.checked_sub(1)?)?;
        match write.change {
            Change::Put | Change::Replace => Some(value_of(key, version)),
            Change::Delete => None,
        }
    }

    /// The earliest version at or after `floor` that `value` can be.
    fn explain(&self, key: &str, floor: Version, value: Option<&[u8]>) -> Result<Version, Fault> {
        let fault = |kind, detail| Err(Fault { kind, key: key.to_owned(), detail });
        let Some(bytes) = value else {
            let absent = (floor..=self.writes.len()).find(|version| match version.checked_sub(1) {
                None => true,
                Some(at) => {
                    self.writes[at].change == Change::Delete && self.writes[at].outcome != Outcome::Refused
                }
            });
            return match absent {
                Some(version) => Ok(version),
                None => fault(FaultKind::Outdated, format!("absent, but version {floor} has happened")),
            };
        };
        let known = version_of(key, bytes).filter(|version| self.value(key, *version).is_some());
        let Some(version) = known else {
            let found = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
            return fault(FaultKind::Foreign, format!("has a value that nobody wrote: {found:?}"));
        };
        if self.writes[version - 1].outcome == Outcome::Refused {
            return fault(FaultKind::Refused, format!("is at version {version}, which was refused"));
        }
        if version < floor {
            return fault(
                FaultKind::Outdated,
                format!("is at version {version}, but version {floor} has happened"),
            );
        }
        Ok(version)
    }

    /// `version` has taken effect: nothing older may be seen by anybody who begins to read now.
    fn seen(&mut self, version: Version) {
        if version <= self.floor {
            return;
        }
        for (write, at) in self.writes.iter_mut().zip(1..).skip(self.floor) {
            // A replacement whose outcome is unknown expected what has now gone.
            let too_late = write.change == Change::Replace && write.outcome == Outcome::Unknown;
            if at == version {
                write.outcome = Outcome::Happened;
            } else if too_late {
                write.outcome = Outcome::Refused;
            }
        }
        self.floor = version;
    }
}

/// The value that version `version` of `key` has.
fn value_of(key: &str, version: Version) -> Vec<u8> {
    let mut value = format!("{key}@{version};").into_bytes();
    // The filling depends on the version, so that a mixture of two values is found out.
    let letter = b'a' + (version % 26) as u8;
    let bytes = VALUE_BYTES_MIN + (version * 7) % 64;
    value.resize(value.len().max(bytes), letter);
    value
}

/// Which version of `key` a value is, if it is one.
fn version_of(key: &str, value: &[u8]) -> Option<Version> {
    let text = str::from_utf8(value).ok()?;
    let (number, _) = text.strip_prefix(key)?.strip_prefix('@')?.split_once(';')?;
    let version = number.parse().ok()?;
    (value_of(key, version) == value).then_some(version)
}

#[cfg(test)]
mod tests;
