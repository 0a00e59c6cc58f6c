//! Histories in files, and the recorder that clients share.

use std::io::ErrorKind;

use openconsensus_tests::linearizability::{Counts, Recorder};

use super::*;

#[test]
fn a_history_is_the_same_after_writing_and_reading() {
    for seed in 0..50 {
        let written = history(&random::right_history(&mut fastrand::Rng::with_seed(seed), 20));
        let mut file = Vec::new();
        written.write(&mut file).unwrap();
        assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 20, "one line for each");
        assert_eq!(KvHistory::read(&file[..]).unwrap(), written);
    }
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    let mut file = Vec::new();
    history(&[done(0, 1, put(1)), read(2, 3, Some(1))]).write(&mut file).unwrap();
    let text = String::from_utf8(file).unwrap();
    let cases = [
        (text.replace("\"Get\"", "\"Got\""), "line 2: "),
        (text.lines().rev().collect::<Vec<_>>().join("\n"), "line 2: its call, 0, is not after"),
        (text.replace("\"order\":3", "\"order\":1"), "line 2: it ends at 1, not after"),
        (
            text.replace("\"ended\":{\"order\":3,\"at_ns\":3000000}", "\"ended\":null"),
            "line 2: it has an outcome",
        ),
        (text[..text.len() - 5].to_string(), "line 2: "),
    ];
    for (text, expected) in cases {
        let error = KvHistory::read(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn a_recorder_keeps_the_order_of_what_many_clients_do() {
    let recorder: Recorder<KvRequest<u32>, KvResponse<u32>> = Recorder::with_clock(|| Duration::ZERO);
    let write = recorder.call(1, put(1));
    let late = recorder.clone().call(2, get());
    write.returned(KvResponse::Done);
    recorder.call(3, put(2)).absent();
    recorder.call(3, put(3)).unknown();
    drop(recorder.call(4, put(4)));
    assert_eq!(recorder.counts(), Counts { returned: 1, absent: 1, unknown: 3 });
    late.returned(KvResponse::Value(None));
    assert_eq!(recorder.counts(), Counts { returned: 2, absent: 1, unknown: 2 });
    let history = recorder.history();
    let orders: Vec<_> =
        history.operations().iter().map(|o| (o.called.order, o.ended.unwrap().order)).collect();
    assert_eq!(
        orders,
        [(0, 2), (1, 9), (3, 4), (5, 6), (7, 8)],
        "the clock stands still, the order does not"
    );
    check_kv(&history).assert_linearizable();
}
