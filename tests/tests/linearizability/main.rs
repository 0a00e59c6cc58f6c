//! The linearizability checker: known histories, random ones against a naive search, large ones, and the file format.

mod format;
mod known;
mod large;
mod naive;
mod random;

use std::time::Duration;

use openconsensus_tests::linearizability::{
    History, KvModel, KvRequest, KvResponse, Limits, Outcome, Report, check,
};

type KvHistory = History<KvRequest<u32>, KvResponse<u32>>;

const KEY: &str = "k";

fn get() -> KvRequest<u32> {
    KvRequest::get(KEY)
}

fn put(value: u32) -> KvRequest<u32> {
    KvRequest::put(KEY, value)
}

fn delete() -> KvRequest<u32> {
    KvRequest::delete(KEY)
}

fn cas(expected: Option<u32>, value: Option<u32>) -> KvRequest<u32> {
    KvRequest::compare_and_set(KEY, expected, value)
}

/// An operation: called and ended at these times, which are all different.
type Line = (u64, u64, KvRequest<u32>, Outcome<KvResponse<u32>>);

fn done(called: u64, ended: u64, request: KvRequest<u32>) -> Line {
    (called, ended, request, Outcome::Returned(KvResponse::Done))
}

fn read(called: u64, ended: u64, value: Option<u32>) -> Line {
    (called, ended, get(), Outcome::Returned(KvResponse::Value(value)))
}

fn answered(called: u64, ended: u64, request: KvRequest<u32>, response: KvResponse<u32>) -> Line {
    (called, ended, request, Outcome::Returned(response))
}

fn unknown(called: u64, ended: u64, request: KvRequest<u32>) -> Line {
    (called, ended, request, Outcome::Unknown)
}

fn absent(called: u64, ended: u64, request: KvRequest<u32>) -> Line {
    (called, ended, request, Outcome::Absent)
}

/// The history of these operations. Each is of a client of its own, numbered from 1.
fn history(lines: &[Line]) -> KvHistory {
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (at, (called, ended, ..)) in lines.iter().enumerate() {
        assert!(called < ended, "line {at} ends before it begins");
        moments.extend([(*called, at, true), (*ended, at, false)]);
    }
    moments.sort();
    let mut history = History::new();
    let mut ids = vec![None; lines.len()];
    for (time, at, is_call) in moments {
        let (_, _, request, outcome) = &lines[at];
        let time = Duration::from_millis(time);
        if is_call {
            ids[at] = Some(history.call(at as u64 + 1, time, request.clone()));
        } else {
            history.end(ids[at].expect("it was called"), time, outcome.clone());
        }
    }
    history
}

fn check_kv(history: &KvHistory) -> Report {
    check(&KvModel::new(), history, &Limits::default())
}
