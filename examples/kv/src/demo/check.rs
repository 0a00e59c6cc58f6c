//! Compares what the nodes contain with what was promised: finds what is lost, and what differs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::imported::Imported;
use super::model::{Fault, FaultKind, Model};

/// At most so many wrong keys are listed for each node; all are counted.
const LISTED_MAX: usize = 20;

/// The whole contents of a state machine, read through one node.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// What was wrong with what one node returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings {
    /// Keys that were compared.
    pub(super) keys: u64,
    /// Keys without the effect of an acknowledged write.
    pub(super) lost: u64,
    /// Keys that are not what they may be in any other way.
    pub(super) differing: u64,
    /// The first of the wrong ones.
    pub(super) faults: Vec<Fault>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub(super) fn are_none(&self) -> bool {
        self.lost == 0 && self.differing == 0
    }

    fn note(&mut self, verdict: Result<(), Fault>) {
        self.keys += 1;
        let Err(fault) = verdict else { return };
        match fault.kind {
            FaultKind::Outdated => self.lost += 1,
            FaultKind::Foreign | FaultKind::Refused | FaultKind::Twice => self.differing += 1,
        }
        if self.faults.len() < LISTED_MAX {
            self.faults.push(fault);
        }
    }
}

/// What was promised: the lines imported, and the keys of the clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promises<'a> {
    /// The lines.
    pub(super) imported: &'a Imported,
    /// The clients' keys.
    pub(super) model: &'a Model,
}

impl Promises<'_> {
    /// Whether `key` may have `value` now.
    pub(super) fn judge(&self, key: &str, value: Option<&[u8]>) -> Result<(), Fault> {
        if self.imported.contains(key) {
            self.imported.judge(key, value)
        } else {
            self.model.judge(key, value)
        }
    }

    /// Every key about which something was promised.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.imported.keys().chain(self.model.keys())
    }

    /// Compares everything that a node contains: what is promised must be there, and nothing else.
    pub(super) fn check_contents(&self, contents: &Contents) -> Findings {
        let mut findings = Findings::default();
        let mut known = 0;
        for key in self.keys() {
            let value = contents.get(key).map(Vec::as_slice);
            known += usize::from(value.is_some());
            findings.note(self.judge(key, value));
        }
        if known < contents.len() {
            self.note_unknown_keys(contents, &mut findings);
        }
        findings
    }

    fn note_unknown_keys(&self, contents: &Contents, findings: &mut Findings) {
        let promised: std::collections::BTreeSet<&str> = self.keys().collect();
        for (key, value) in contents.iter().filter(|(key, _)| !promised.contains(key.as_str())) {
            let value = String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned();
            findings.note(Err(Fault {
                kind: FaultKind::Foreign,
                key: key.clone(),
                detail: format!("nobody wrote this key; it has the value {value:?}"),
            }));
        }
    }

    /// Compares keys that were read one by one.
    pub(super) fn check_sample(&self, sample: &[(String, Option<Vec<u8>>)]) -> Findings {
        let mut findings = Findings::default();
        for (key, value) in sample {
            findings.note(self.judge(key, value.as_deref()));
        }
        findings
    }
}

/// The checksum of a state machine, and the entry after which it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Checksum {
    /// The node.
    pub(super) node: u64,
    /// The last entry applied.
    pub(super) applied: u64,
    /// Over all keys and values, in order.
    pub(super) checksum: u64,
}

/// The one checksum that all nodes have.
///
/// # Errors
///
/// Says which node has which, when they differ or were not taken after the same entry.
pub(super) fn one_checksum(checksums: &[Checksum]) -> Result<Checksum, String> {
    let Some(first) = checksums.first() else { return Err("no node has told its checksum".into()) };
    let same = |other: &&Checksum| (other.applied, other.checksum) == (first.applied, first.checksum);
    if checksums.iter().all(|other| same(&other)) {
        return Ok(*first);
    }
    let each: Vec<String> = checksums
        .iter()
        .map(|c| format!("node {} has {:08x} at entry {}", c.node, c.checksum, c.applied))
        .collect();
    Err(format!("the state machines differ: {}", each.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::model::Change;
    use super::*;

    const KEY: &str = "~demo/00/000";

    /// Two imported lines, and a client's key that was written twice; all acknowledged.
    fn promised() -> (Imported, Model, Contents) {
        let mut imported = Imported::default();
        let lines = vec![("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())];
        imported.sent(&lines);
        imported.acknowledged(&lines);
        let mut model = Model::default();
        let mut contents: Contents = lines.into_iter().collect();
        for _ in 0..2 {
            let write = model.begin_write(KEY, Change::Put);
            model.acknowledged(&write, write.expected.as_deref());
            contents.insert(KEY.into(), write.value.unwrap());
        }
        (imported, model, contents)
    }

    #[test]
    fn contents_that_keep_every_promise_are_found_right() {
        let (imported, model, contents) = promised();
        let findings = Promises { imported: &imported, model: &model }.check_contents(&contents);
        assert_eq!(findings, Findings { keys: 3, ..Findings::default() });
        assert!(findings.are_none());
    }

    #[test]
    fn a_lost_line_is_found_and_named() {
        let (imported, model, mut contents) = promised();
        contents.remove("b");
        let findings = Promises { imported: &imported, model: &model }.check_contents(&contents);
        assert_eq!((findings.lost, findings.differing), (1, 0));
        assert_eq!(findings.faults[0].key, "b");
        assert!(!findings.are_none());
    }

    #[test]
    fn a_lost_write_of_a_client_is_found_and_named() {
        let (imported, model, mut contents) = promised();
        // The second write is lost: the value of the first one is back.
        let mut before = Model::default();
        contents.insert(KEY.into(), before.begin_write(KEY, Change::Put).value.unwrap());
        let promises = Promises { imported: &imported, model: &model };
        let findings = promises.check_contents(&contents);
        assert_eq!((findings.lost, findings.differing), (1, 0));
        assert_eq!(findings.faults[0].key, KEY);

        contents.remove(KEY);
        assert_eq!(promises.check_contents(&contents).lost, 1);
    }

    #[test]
    fn wrong_values_and_keys_that_nobody_wrote_are_found() {
        let (imported, model, mut contents) = promised();
        contents.insert("a".into(), b"not what was imported".to_vec());
        contents.insert(KEY.into(), b"not what was written".to_vec());
        contents.insert("c".into(), b"not written at all".to_vec());
        let findings = Promises { imported: &imported, model: &model }.check_contents(&contents);
        assert_eq!((findings.lost, findings.differing), (0, 3));
        let keys: Vec<&str> = findings.faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["a", KEY, "c"]);
    }

    #[test]
    fn many_wrong_keys_are_all_counted_and_the_first_listed() {
        let mut imported = Imported::default();
        let lines: Vec<_> = (0..1000).map(|i| (format!("{i:04}"), b"x".to_vec())).collect();
        imported.sent(&lines);
        imported.acknowledged(&lines);
        let model = Model::default();
        let findings = Promises { imported: &imported, model: &model }.check_contents(&Contents::new());
        assert_eq!(findings.lost, 1000);
        assert_eq!(findings.faults.len(), LISTED_MAX);
    }

    #[test]
    fn a_sample_is_judged_like_the_whole() {
        let (imported, model, contents) = promised();
        let promises = Promises { imported: &imported, model: &model };
        let mut sample = vec![("a".to_owned(), contents.get("a").cloned()), ("b".to_owned(), None)];
        assert_eq!(promises.check_sample(&sample).lost, 1);
        sample[1].1 = contents.get("b").cloned();
        assert!(promises.check_sample(&sample).are_none());
    }

    #[test]
    fn a_differing_checksum_is_found_and_the_node_named() {
        let checksums = [1, 2, 3].map(|node| Checksum { node, applied: 10, checksum: 0xabcd });
        assert_eq!(one_checksum(&checksums).unwrap().checksum, 0xabcd);

        let mut differing = checksums;
        differing[2].checksum = 0xabce;
        assert_eq!(
            one_checksum(&differing).unwrap_err(),
            "the state machines differ: node 1 has 0000abcd at entry 10, node 2 has 0000abcd at entry 10, \
             node 3 has 0000abce at entry 10"
        );
        let mut elsewhere = checksums;
        elsewhere[1].applied = 9;
        assert!(one_checksum(&elsewhere).unwrap_err().contains("node 2 has 0000abcd at entry 9"));
        assert!(one_checksum(&[]).is_err());
    }
}
