//! The durable key-value store does what the one in memory does.

use std::collections::BTreeMap;
use std::ops::Bound;

use fastrand::Rng;
use openconsensus_memstore::kv::{Checksum, Command, Response};
use openconsensus_redb::kv::KvReader;

use crate::helpers::{apply, open_state, put};

#[test]
fn commands_do_what_they_say_and_return_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let cas = |expected: Option<&str>, value: Option<&str>| Command::CompareAndSet {
        key: "k".into(),
        expected: expected.map(Into::into),
        value: value.map(Into::into),
    };
    let compared = |set, actual: Option<&str>| Response::Compared { set, actual: actual.map(Into::into) };
    let (commands, expected): (Vec<_>, Vec<_>) = [
        (put("k", "1"), Response::Previous(None)),
        (put("k", "2"), Response::Previous(Some("1".into()))),
        (cas(Some("1"), Some("3")), compared(false, Some("2"))),
        (cas(Some("2"), Some("3")), compared(true, Some("2"))),
        (cas(Some("3"), None), compared(true, Some("3"))),
        (cas(None, Some("4")), compared(true, None)),
        (Command::Delete { key: "k".into() }, Response::Previous(Some("4".into()))),
        (Command::Delete { key: "k".into() }, Response::Previous(None)),
        (Command::Batch(vec![put("", ""), put("ä", vec![0, 255]), cas(None, Some("5"))]), Response::Batch(3)),
    ]
    .into_iter()
    .unzip();
    assert_eq!(apply(&mut state, commands), expected);
    let reader = KvReader::new(&state);
    let pairs = [("", vec![]), ("k", b"5".to_vec()), ("ä", vec![0, 255])].map(|(k, v)| (k.to_string(), v));
    assert_eq!(reader.scan(.., 10).unwrap(), pairs);
    assert_eq!(reader.len().unwrap(), 3);
    assert!(!reader.is_empty().unwrap());
    assert_eq!(reader.get("").unwrap(), Some(vec![]));
    assert_eq!(reader.get("absent").unwrap(), None);
    assert_eq!(reader.last_applied().unwrap().index, 9);
}

#[test]
fn scans_and_checksums_equal_those_of_a_map() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let mut random = Rng::with_seed(3);
    let mut model = BTreeMap::new();
    let commands: Vec<_> = std::iter::repeat_with(|| {
        let key = format!("{:03}", random.u8(..));
        if random.u8(0..4) == 0 {
            model.remove(&key);
            Command::Delete { key }
        } else {
            let value = vec![random.u8(..); random.usize(..50)];
            model.insert(key.clone(), value.clone());
            Command::Put { key, value }
        }
    })
    .take(600)
    .collect();
    apply(&mut state, commands);
    let view = KvReader::new(&state).view().unwrap();
    let mut checksum = Checksum::new();
    model.iter().for_each(|(key, value)| checksum.add(key, value));
    assert_eq!(view.checksum().unwrap(), checksum.finish());
    let pair = |(key, value): (&String, &Vec<u8>)| (key.clone(), value.clone());
    for _ in 0..200 {
        let (start, end) = (format!("{:03}", random.u8(..)), format!("{:03}", random.u8(..)));
        let limit = random.usize(..60);
        let bounds = (Bound::Excluded(start.clone()), Bound::Included(end.clone()));
        // Where a map would panic, nothing is found.
        let expected = if start < end {
            model.range(bounds.clone()).take(limit).map(pair).collect()
        } else {
            Vec::new()
        };
        assert_eq!(view.scan(bounds, limit).unwrap(), expected, "{start} to {end}");
        let prefix = &start[..random.usize(..4)];
        let expected: Vec<_> =
            model.iter().filter(|(key, _)| key.starts_with(prefix)).take(limit).map(pair).collect();
        assert_eq!(view.scan_prefix(prefix, limit).unwrap(), expected, "{prefix}");
    }
}
