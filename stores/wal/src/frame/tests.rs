//! Frames: what is written comes back, and what is damaged does not.

use super::*;

fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let head = Head { sum: 0, body_bytes: 0, sequence: 0x0102, synced: 0x0101, group: 3, kind };
    let mut out = Vec::new();
    put_frame(&mut out, &Sum::of_segment(7, 9), head, body);
    out
}

/// The head of [`frame`] behind its checksum.
fn head_of(kind: u8, body_bytes: u8) -> Vec<u8> {
    let mut bytes = vec![body_bytes, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, kind, 1, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn frames_are_laid_out_as_documented_and_come_back() {
    let hard = |vote: Option<Vec<u8>>| Hard { term: 4, commit: 5, vote };
    let hard_body = |vote: &[u8], has: u8| {
        let mut body = vec![4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, has, 0, 0, 0];
        body.extend([vote.len() as u8, 0, 0, 0]);
        body.extend(vote);
        body
    };
    let put = |hard: &Hard| {
        let mut body = Vec::new();
        hard.put(&mut body);
        body
    };
    let cursors =
        Cursors { purged: LogId::new(1, 2), last: LogId::new(3, 6), hint: 6, hard: hard(Some(vec![8])) };
    let mut begin = vec![0, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    for number in [3, 1, 2, 3, 6, 6] {
        begin.extend([number, 0, 0, 0, 0, 0, 0, 0]);
    }
    begin.extend(hard_body(&[8], 1));
    let entries = [&entries_head(2, 1, 1)[..], b"records"].concat();
    let entries_expected =
        [&[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &b"records"[..]];
    let groups = [(3, cursors)];
    let cases = [
        (
            Kind::Begin,
            begin_body(4096, &groups),
            begin,
            Said::Begin { previous_end: 4096, groups: groups.to_vec() },
        ),
        (Kind::HardState, put(&hard(None)), hard_body(&[], 0), Said::HardState(hard(None))),
        (Kind::HardState, put(&hard(Some(vec![]))), hard_body(&[], 1), Said::HardState(hard(Some(vec![])))),
        (
            Kind::HardState,
            put(&hard(Some(vec![9, 8]))),
            hard_body(&[9, 8], 1),
            Said::HardState(hard(Some(vec![9, 8]))),
        ),
        (
            Kind::Entries,
            entries,
            entries_expected.concat(),
            Said::Entries { first: 2, commit: 1, count: 1, records: b"records" },
        ),
        (
            Kind::Truncate,
            7_u64.to_le_bytes().to_vec(),
            vec![7, 0, 0, 0, 0, 0, 0, 0],
            Said::Truncate { from: 7 },
        ),
        (
            Kind::Purge,
            purge_body(LogId::new(2, 5)).to_vec(),
            vec![2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            Said::Purge { upto: LogId::new(2, 5) },
        ),
        (Kind::Opened, vec![], vec![], Said::Opened),
        (Kind::Closed, vec![], vec![], Said::Closed),
    ];
    for (number, (kind, body, expected, said)) in cases.into_iter().enumerate() {
        assert_eq!(body, expected, "{kind:?}");
        let bytes = frame(kind, &body);
        let mut all = bytes[..4].to_vec();
        all.extend(head_of(kind as u8, body.len() as u8));
        all.extend(&body);
        let unpadded = all.len();
        all.resize(unpadded.next_multiple_of(8), 0);
        assert_eq!(bytes, all, "{number}: {kind:?}");
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        hasher.update(&bytes[4..unpadded]);
        assert_eq!(bytes[..4], hasher.finalize().to_le_bytes());
        let head = Head::decode(&bytes).unwrap();
        assert_eq!(
            (head.kind, head.padded(), head.sequence, head.synced),
            (kind, all.len() as u64, 0x0102, 0x0101)
        );
        assert!(head.fits(&Sum::of_segment(7, 9), &bytes[..unpadded]));
        assert!(!head.fits(&Sum::of_segment(7, 8), &bytes[..unpadded]), "in another segment");
        assert!(!head.fits(&Sum::of_segment(8, 9), &bytes[..unpadded]), "in another log");
        assert_eq!(Said::decode(kind, &body), Some(said));
        if kind != Kind::Entries {
            for len in 0..body.len() {
                assert_eq!(Said::decode(kind, &body[..len]), None, "{kind:?} cut to {len}");
            }
            assert_eq!(Said::decode(kind, &[&body[..], &[0]].concat()), None, "{kind:?} and more");
        }
    }
}

#[test]
fn a_frame_with_any_bit_changed_is_refused() {
    let good = frame(Kind::Truncate, &7_u64.to_le_bytes());
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let fits = Head::decode(&bytes).is_some_and(|head| {
            let end = HEAD_BYTES + head.body_bytes as usize;
            end <= bytes.len() && head.fits(&Sum::of_segment(7, 9), &bytes[..end])
        });
        assert!(!fits, "bit {bit}");
    }
    assert_eq!(Head::decode(&[0; 64]), None, "zeros");
    assert_eq!(Head::decode(&good[..HEAD_BYTES - 1]), None);
}

#[test]
fn a_begin_frame_that_promises_more_groups_than_it_has_is_refused() {
    let mut body = begin_body(0, &[]);
    body[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(Said::decode(Kind::Begin, &body), None);
}
