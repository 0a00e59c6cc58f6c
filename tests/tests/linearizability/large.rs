//! Histories as large as those of a long run, and what happens when one is too much.

use std::time::Instant;

use openconsensus_tests::linearizability::{KvAction, Model};

use super::*;

/// A right history of `clients` clients that each do one thing after the other on one of `keys` keys. Each value is
/// written once. One of `unknown_one_in` operations has an unknown outcome, and took effect at once, late or never.
fn large(seed: u64, operations: usize, clients: usize, keys: usize, unknown_one_in: u32) -> Vec<Line> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut free_at = vec![0; clients];
    let mut lines: Vec<Line> = Vec::new();
    let mut effects = Vec::new();
    for at in 0..operations {
        let client = (0..clients).min_by_key(|client| free_at[*client]).expect("there are clients");
        let unique = at as u64;
        let called = free_at[client] + rng.u64(1..50);
        let ended = called + rng.u64(10..200);
        free_at[client] = ended;
        let scale = operations as u64 * 3;
        let key = format!("key {}", rng.usize(0..keys));
        // Values of compare-and-set are filled in when it takes effect.
        let action = match rng.u32(0..10) {
            0..4 => KvAction::Get,
            4..8 => KvAction::Put(at as u32),
            8 => KvAction::CompareAndSet { expected: None, value: Some(at as u32) },
            _ => KvAction::Delete,
        };
        let mut effect = rng.u64(called..ended);
        let outcome = if rng.u32(0..unknown_one_in) == 0 {
            if rng.bool() {
                effect += rng.u64(0..1_000);
            }
            Outcome::Unknown
        } else {
            Outcome::Returned(KvResponse::Done)
        };
        if outcome != Outcome::Unknown || rng.u32(0..3) != 0 {
            effects.push((effect * scale + unique, at));
        }
        lines.push((called * scale + unique, ended * scale + unique, KvRequest { key, action }, outcome));
    }
    effects.sort();
    let mut states = std::collections::BTreeMap::new();
    for (_, at) in effects {
        let (_, _, request, outcome) = &mut lines[at];
        let state = states.entry(request.key.clone()).or_insert(None);
        if let KvAction::CompareAndSet { expected, .. } = &mut request.action
            && rng.u32(0..4) != 0
        {
            *expected = *state;
        }
        if let Outcome::Returned(response) = outcome {
            *response = match &request.action {
                KvAction::Get => KvResponse::Value(*state),
                KvAction::Put(_) | KvAction::Delete => KvResponse::Done,
                KvAction::CompareAndSet { expected, .. } if expected == state => KvResponse::Done,
                KvAction::CompareAndSet { .. } => KvResponse::Compared { set: false, actual: *state },
            };
        }
        *state = KvModel::new().step(state, request, None).expect("there always is a state");
    }
    lines
}

/// Makes a read late in the history see a value that was overwritten long before.
fn make_stale(lines: &mut [Line]) -> KvRequest<u32> {
    let reads: Vec<usize> = (0..lines.len())
        .filter(|at| matches!(lines[*at].3, Outcome::Returned(KvResponse::Value(Some(_)))))
        .collect();
    let late = reads[reads.len() * 9 / 10];
    let early = reads.iter().find(|at| lines[**at].2 == lines[late].2).expect("the key was read before");
    assert!(*early < late / 2, "the read is not stale");
    lines[late].3 = lines[*early].3.clone();
    lines[late].2.clone()
}

#[test]
fn a_hundred_thousand_operations_are_checked_in_seconds() {
    let mut lines = large(1, 100_000, 16, 50, 10);
    let right = history(&lines);
    let begin = Instant::now();
    let report = check_kv(&right);
    report.assert_linearizable();
    println!("right: {report}, {:?}", begin.elapsed());
    let stale = make_stale(&mut lines);
    let begin = Instant::now();
    let report = check_kv(&history(&lines));
    println!("stale: {report}, {:?}", begin.elapsed());
    let [violation] = &report.violations[..] else { panic!("one key is wrong: {report}") };
    assert_eq!(violation.key, stale.key);
    assert!(violation.is_minimal && violation.shown.len() <= 4, "{violation}");
}

#[test]
fn one_key_that_everybody_uses_is_checked_in_seconds() {
    let mut lines = large(2, 1_000, 8, 1, 20);
    let begin = Instant::now();
    let report = check_kv(&history(&lines));
    report.assert_linearizable();
    println!("right: {report}, {:?}", begin.elapsed());
    make_stale(&mut lines);
    let begin = Instant::now();
    let report = check_kv(&history(&lines));
    println!("stale: {report}, {:?}", begin.elapsed());
    assert!(report.violations.len() == 1, "{report}");
}

#[test]
fn what_is_too_much_work_is_undecided_and_not_passed() {
    // Many writes at once and then a comparison that none of them explains: every order must be tried.
    let mut lines: Vec<Line> = (0..24).map(|at| done(at, 100 + at, put(at as u32))).collect();
    lines.extend(
        (0..24).map(|at| {
            answered(200 + 2 * at, 201 + 2 * at, cas(Some(at as u32), Some(999)), KvResponse::NotSet)
        }),
    );
    lines.push(answered(300, 301, cas(Some(1_000), Some(999)), KvResponse::Done));
    let history = history(&lines);
    let few = Limits { steps_max: 10_000, ..Limits::default() };
    let little = Limits { configurations_max: 1_000, ..Limits::default() };
    let short = Limits { time_max: Duration::ZERO, ..Limits::default() };
    for (limits, name) in [(few, "steps_max"), (little, "configurations_max"), (short, "time_max")] {
        let report = check(&KvModel::new(), &history, &limits);
        assert!(!report.is_linearizable() && report.violations.is_empty(), "{report}");
        assert_eq!(report.undecided.iter().map(|key| key.limit).collect::<Vec<_>>(), [name]);
        assert!(report.to_string().contains("UNDECIDED"), "{report}");
    }
}
