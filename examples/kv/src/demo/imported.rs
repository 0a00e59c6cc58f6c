//! What the import knows of its lines: which value a key was last acknowledged to have, and which ones it may have.

use std::collections::BTreeMap;

use super::model::{Fault, FaultKind};

/// A key and its value.
pub(super) type Line = (String, Vec<u8>);

/// All keys of the lines that were sent so far.
///
/// Batches are sent one after the other, and a batch whose outcome is unknown is sent again: it only sets keys, so it
/// may happen twice. Its first copy may still arrive late, so that what it sets stays allowed even when a later line
/// has set the same key to something else.
#[derive(Debug, Default)]
pub(super) struct Imported {
    keys: BTreeMap<String, Values>,
    acknowledged: u64,
    resent: u64,
}

#[derive(Debug, Default)]
struct Values {
    /// The last value that was acknowledged.
    acknowledged: Option<Vec<u8>>,
    /// Values of batches that may or may not have happened.
    possible: Vec<Vec<u8>>,
}

impl Imported {
    /// A batch is on its way: nothing is known of it but that it may happen.
    pub(super) fn sent(&mut self, batch: &[Line]) {
        for (key, value) in batch {
            let values = self.keys.entry(key.clone()).or_default();
            if !values.possible.contains(value) {
                values.possible.push(value.clone());
            }
        }
    }

    /// The batch has happened, once: its first and only copy was acknowledged.
    pub(super) fn acknowledged(&mut self, batch: &[Line]) {
        for (key, value) in batch {
            let values = self.keys.entry(key.clone()).or_default();
            values.possible.retain(|possible| possible != value);
            values.acknowledged = Some(value.clone());
        }
        self.acknowledged += batch.len() as u64;
    }

    /// The batch has happened at least once: it was sent again because an earlier copy was not answered.
    pub(super) fn acknowledged_again(&mut self, batch: &[Line]) {
        for (key, value) in batch {
            self.keys.entry(key.clone()).or_default().acknowledged = Some(value.clone());
        }
        self.acknowledged += batch.len() as u64;
        self.resent += 1;
    }

    /// Whether a line with this key was sent.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// All keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// How many lines were acknowledged.
    pub(super) fn lines_acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many batches were sent more than once.
    pub(super) fn batches_resent(&self) -> u64 {
        self.resent
    }

    /// Whether `value` is one that `key` may have.
    pub(super) fn judge(&self, key: &str, value: Option<&[u8]>) -> Result<(), Fault> {
        let fault = |kind, detail| Err(Fault { kind, key: key.to_owned(), detail });
        let Some(values) = self.keys.get(key) else { return Ok(()) };
        match (value, &values.acknowledged) {
            (None, None) => Ok(()),
            (None, Some(_)) => fault(FaultKind::Outdated, "the line was acknowledged, but is absent".into()),
            (Some(value), Some(acknowledged)) if value == acknowledged => Ok(()),
            (Some(value), _) if values.possible.iter().any(|possible| possible == value) => Ok(()),
            (Some(value), _) => {
                let found = String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned();
                fault(FaultKind::Foreign, format!("has a value that is not that of its line: {found:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: &str) -> Vec<Line> {
        vec![("k".into(), value.into())]
    }

    #[test]
    fn an_acknowledged_line_must_be_there_and_only_it() {
        let mut imported = Imported::default();
        imported.sent(&line("1"));
        assert_eq!(imported.judge("k", None), Ok(()));
        assert_eq!(imported.judge("k", Some(b"1")), Ok(()));
        imported.acknowledged(&line("1"));
        assert_eq!(imported.judge("k", Some(b"1")), Ok(()));
        assert_eq!(imported.judge("k", None).unwrap_err().kind, FaultKind::Outdated);
        assert_eq!(imported.judge("k", Some(b"2")).unwrap_err().kind, FaultKind::Foreign);
        assert_eq!((imported.lines_acknowledged(), imported.batches_resent()), (1, 0));
    }

    #[test]
    fn the_last_of_several_lines_with_one_key_counts() {
        let mut imported = Imported::default();
        for value in ["1", "2"] {
            imported.sent(&line(value));
            imported.acknowledged(&line(value));
        }
        assert_eq!(imported.judge("k", Some(b"2")), Ok(()));
        assert!(imported.judge("k", Some(b"1")).is_err());

        let mut both = line("1");
        both.extend(line("2"));
        let mut imported = Imported::default();
        imported.sent(&both);
        imported.acknowledged(&both);
        assert_eq!(imported.judge("k", Some(b"2")), Ok(()));
        assert!(imported.judge("k", Some(b"1")).is_err());
    }

    #[test]
    fn a_batch_that_was_sent_again_may_arrive_late() {
        let mut imported = Imported::default();
        imported.sent(&line("1"));
        imported.acknowledged_again(&line("1"));
        imported.sent(&line("2"));
        imported.acknowledged(&line("2"));
        assert_eq!(imported.judge("k", Some(b"2")), Ok(()));
        assert_eq!(imported.judge("k", Some(b"1")), Ok(()));
        assert!(imported.judge("k", None).is_err());
        assert_eq!(imported.batches_resent(), 1);
    }
}
