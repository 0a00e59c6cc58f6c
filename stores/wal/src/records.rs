//! The records of entries, as `EncodedEntries` lays them out: looked at without decoding a command.

use openconsensus::{Index, LogId, Term};

/// The number of bytes that follow, the kind, and the term.
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = LENGTH_BYTES + 9;
const MEMBERSHIP: u8 = 2;
const KIND_MAX: u8 = 2;

/// What the index must know of consecutive entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How many there are.
    pub(crate) count: u32,
    /// The first one, and each one whose term is not that of the one before it.
    pub(crate) term_starts: Vec<LogId>,
    pub(crate) last_term: Term,
    /// Those that carry a membership.
    pub(crate) memberships: Vec<Index>,
}

impl Summary {
    fn note(&mut self, index: Index, record: &Record) {
        if self.count == 0 || record.term != self.last_term {
            self.term_starts.push(LogId::new(record.term, index));
            self.last_term = record.term;
        }
        if record.is_membership {
            self.memberships.push(index);
        }
        self.count += 1;
    }
}

/// The head of one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// With its own length and head.
    pub(crate) bytes: usize,
    term: Term,
    is_membership: bool,
}

impl Record {
    /// The record that `bytes` begin with.
    pub(crate) fn first_of(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_le_bytes(*head.first_chunk().expect("four bytes")) as usize;
        let term = u64::from_le_bytes(*head.last_chunk().expect("eight bytes"));
        let (whole, kind) = (LENGTH_BYTES + length, head[LENGTH_BYTES]);
        let is_one = HEAD_BYTES <= whole && whole <= bytes.len() && kind <= KIND_MAX;
        is_one.then_some(Self { bytes: whole, term, is_membership: kind == MEMBERSHIP })
    }
}

/// As many records as fit into `bytes_max`, at least one: how many bytes they have, and what they are. `None` where
/// `records` does not begin with one, or a term falls below the one before it.
pub(crate) fn take(records: &[u8], first: Index, bytes_max: u64, summary: &mut Summary) -> Option<usize> {
    let mut at = 0;
    while at < records.len() {
        let record = Record::first_of(&records[at..])?;
        if bytes_max < (at + record.bytes) as u64 && summary.count > 0 {
            break;
        }
        if summary.count > 0 && record.term < summary.last_term {
            return None;
        }
        summary.note(first + u64::from(summary.count), &record);
        at += record.bytes;
    }
    Some(at)
}

/// What all of `records` are, which must be `count`.
pub(crate) fn summarize(records: &[u8], first: Index, count: u32) -> Option<Summary> {
    let mut summary = Summary::default();
    take(records, first, u64::MAX, &mut summary)?;
    (summary.count == count && 0 < count && 0 < first).then_some(summary)
}

#[cfg(test)]
mod tests {
    use openconsensus::{Entries, Entry, Membership, Payload, PostcardCodec};
    use openconsensus_memstore::kv::Kv;

    use super::*;
    use crate::testing::put;

    fn records(entries: Vec<Entry<Kv>>) -> Vec<u8> {
        Entries::from(entries).encoded::<PostcardCodec>().unwrap().parts().concat()
    }

    fn entry(term: Term, index: Index, payload: Payload<Kv>) -> Entry<Kv> {
        Entry { log_id: LogId::new(term, index), payload }
    }

    #[test]
    fn records_of_the_core_are_summarized_without_their_codec() {
        let bytes = records(vec![
            entry(1, 5, Payload::Blank),
            entry(1, 6, Payload::Command(put("k", "v"))),
            entry(3, 7, Payload::Membership(Membership::of_voters([(1, "a".into())].into()))),
            entry(4, 8, Payload::Blank),
            entry(4, 9, Payload::Membership(Membership::of_voters([(1, "a".into())].into()))),
        ]);
        let expected = Summary {
            count: 5,
            term_starts: vec![LogId::new(1, 5), LogId::new(3, 7), LogId::new(4, 8)],
            last_term: 4,
            memberships: vec![7, 9],
        };
        assert_eq!(summarize(&bytes, 5, 5), Some(expected));
        assert_eq!(summarize(&bytes, 5, 4), None);
        assert_eq!(summarize(&bytes, 5, 6), None);
        assert_eq!(summarize(&bytes, 0, 5), None);
        assert_eq!(summarize(&[], 1, 0), None);
        for len in 1..bytes.len() {
            assert_eq!(summarize(&bytes[..len], 5, 5), None, "cut to {len}");
        }
    }

    #[test]
    fn a_limit_takes_whole_records_and_at_least_one() {
        let bytes = records((1..=3).map(|index| entry(1, index, Payload::Blank)).collect());
        for (limit, count) in [(0, 1), (13, 1), (25, 1), (26, 2), (38, 2), (39, 3), (u64::MAX, 3)] {
            let mut summary = Summary::default();
            assert_eq!(take(&bytes, 1, limit, &mut summary), Some(13 * count as usize), "{limit}");
            assert_eq!(summary.count, count);
        }
    }

    #[test]
    fn a_term_that_falls_is_no_record_of_ours() {
        let bytes = [records(vec![entry(2, 1, Payload::Blank)]), records(vec![entry(1, 2, Payload::Blank)])];
        assert_eq!(summarize(&bytes.concat(), 1, 2), None);
    }
}
