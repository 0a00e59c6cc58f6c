//! Thousands of small random histories, right ones and spoilt ones, against the naive search.

use openconsensus_tests::linearizability::{KvAction, Marks, Model};

use super::*;

/// The model without its promises of who sees what: the checker must come to the same results.
struct WithoutMarks;

impl Model for WithoutMarks {
    type Key = String;
    type State = Option<u32>;
    type Request = KvRequest<u32>;
    type Response = KvResponse<u32>;
    type Mark = ();

    fn key(&self, request: &KvRequest<u32>) -> String {
        request.key.clone()
    }

    fn initial(&self, _key: &String) -> Option<u32> {
        None
    }

    fn step(
        &self,
        state: &Option<u32>,
        request: &KvRequest<u32>,
        response: Option<&KvResponse<u32>>,
    ) -> Option<Option<u32>> {
        KvModel::new().step(state, request, response)
    }
}

/// A request with few different values, so that one value is often written twice.
fn request(rng: &mut fastrand::Rng) -> KvRequest<u32> {
    let value = |rng: &mut fastrand::Rng| rng.u32(1..4);
    let maybe = |rng: &mut fastrand::Rng| if rng.u32(0..4) == 0 { None } else { Some(rng.u32(1..4)) };
    match rng.u32(0..8) {
        0..3 => get(),
        3..5 => put(value(rng)),
        5 => delete(),
        _ => cas(maybe(rng), maybe(rng)),
    }
}

/// One of the forms in which a response can be given.
fn response(rng: &mut fastrand::Rng, request: &KvRequest<u32>, state: Option<u32>) -> KvResponse<u32> {
    let is_terse = rng.bool();
    match &request.action {
        KvAction::Get => KvResponse::Value(state),
        KvAction::Put(_) | KvAction::Delete if is_terse => KvResponse::Done,
        KvAction::Put(_) | KvAction::Delete => KvResponse::Previous(state),
        KvAction::CompareAndSet { expected, .. } => match (is_terse, *expected == state) {
            (true, true) => KvResponse::Done,
            (true, false) => KvResponse::NotSet,
            (false, set) => KvResponse::Compared { set, actual: state },
        },
    }
}

/// A history of a right store: each operation takes effect at a moment within its bounds.
pub(super) fn right_history(rng: &mut fastrand::Rng, operations: usize) -> Vec<Line> {
    let span = rng.u64(1..40) + operations as u64;
    let mut effects = Vec::new();
    let mut lines = Vec::new();
    for at in 0..operations {
        // Different for all: the operation is in the low bits.
        let time = |time: u64, kind: u64| (time * 3 + kind) * 64 + at as u64;
        let called = rng.u64(0..span);
        let ended = called + rng.u64(0..12);
        let request = request(rng);
        let effect = rng.u64(called..=ended);
        let outcome = match rng.u32(0..10) {
            0 => Outcome::Absent,
            1 | 2 => {
                // At once, late or never.
                if rng.bool() {
                    effects.push((time(effect + rng.u64(0..20), 1), at));
                }
                Outcome::Unknown
            }
            _ => {
                effects.push((time(effect, 1), at));
                Outcome::Returned(KvResponse::Done)
            }
        };
        lines.push((time(called, 0), time(ended, 2), request, outcome));
    }
    effects.sort();
    let mut state = None;
    for (_, at) in effects {
        let line: &mut Line = &mut lines[at];
        if let Outcome::Returned(to_give) = &mut line.3 {
            *to_give = response(rng, &line.2, state);
        }
        state = KvModel::new().step(&state, &line.2, None).expect("there always is a state");
    }
    lines
}

/// Changes one thing. The history may be right still.
fn spoil(rng: &mut fastrand::Rng, lines: &mut [Line]) {
    let at = rng.usize(0..lines.len());
    match rng.u32(0..4) {
        0 => lines[at].3 = Outcome::Absent,
        1 => {
            let shift = rng.u64(1..2_000);
            (lines[at].0, lines[at].1) = (lines[at].0 + shift * 64, lines[at].1 + shift * 64);
        }
        _ => {
            if let Outcome::Returned(given) = &mut lines[at].3 {
                let state = [None, Some(1), Some(2), Some(3)][rng.usize(0..4)];
                *given = response(rng, &lines[at].2.clone(), state);
            }
        }
    }
}

/// Checks with and without marks, and that what is shown of a violation is one on its own. Returns whether it is right.
fn agreed(history: &KvHistory, seed: u64) -> bool {
    let expected = naive::is_linearizable(history);
    let with_marks = check_kv(history);
    let without_marks = check(&WithoutMarks, history, &Limits::default());
    for report in [&with_marks, &without_marks] {
        assert!(report.undecided.is_empty(), "seed {seed}: {report}");
        assert_eq!(report.is_linearizable(), expected, "seed {seed}: {report}\n{history:#?}");
        for violation in &report.violations {
            assert!(violation.is_minimal, "seed {seed}: {violation}");
            let mut shown = KvHistory::new();
            let mut moments = Vec::new();
            for index in &violation.shown {
                let operation = &history.operations()[*index];
                let outcome = match violation.relaxed.contains(index) {
                    true => Outcome::Unknown,
                    false => operation.outcome.clone(),
                };
                let ended = operation.ended.expect("all of them end").order;
                moments.push((operation.called.order, true, operation, outcome.clone()));
                moments.push((ended, false, operation, outcome));
            }
            moments.sort_by_key(|moment| moment.0);
            let mut ids = std::collections::BTreeMap::new();
            for (_, is_call, operation, outcome) in moments {
                let client = operation.called.order;
                if is_call {
                    ids.insert(client, shown.call(client, Duration::ZERO, operation.request.clone()));
                } else {
                    shown.end(ids[&client], Duration::ZERO, outcome);
                }
            }
            assert!(!naive::is_linearizable(&shown), "seed {seed}: it shows nothing:\n{violation}");
        }
    }
    expected
}

#[test]
fn random_histories_are_judged_as_by_trying_everything() {
    let rounds: u64 = std::env::var("ROUNDS").ok().map_or(3_000, |rounds| rounds.parse().expect("ROUNDS"));
    let (mut right, mut spoilt_right, mut wrong) = (0, 0, 0);
    for seed in 0..rounds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let operations = rng.usize(1..9);
        let mut lines = right_history(&mut rng, operations);
        assert!(agreed(&history(&lines), seed), "seed {seed}: the history of a right store");
        right += 1;
        for _ in 0..rng.u32(1..3) {
            spoil(&mut rng, &mut lines);
        }
        match agreed(&history(&lines), seed) {
            true => spoilt_right += 1,
            false => wrong += 1,
        }
    }
    println!("{right} right, {spoilt_right} spoilt and right still, {wrong} wrong");
    // Otherwise the test looks at nothing.
    assert!(rounds / 5 < wrong && rounds / 5 < spoilt_right, "{wrong} wrong, {spoilt_right} right still");
}

#[test]
fn marks_are_a_promise_that_the_model_keeps() {
    // Whatever leaves a mark that the next one does not see makes no difference to the next one.
    let model = KvModel::<u32>::new();
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let (first, second) = (request(&mut rng), request(&mut rng));
        let state = [None, Some(1), Some(2), Some(3)][rng.usize(0..4)];
        let seen = [None, Some(1), Some(2), Some(3)][rng.usize(0..4)];
        let given = response(&mut rng, &second, seen);
        let given = if rng.bool() { Some(&given) } else { None };
        let after = model.step(&state, &first, None).expect("there always is a state");
        let is_seen = match (model.leaves(&first, None), model.sees(&second, given)) {
            (Marks::These(left), Marks::These(seen)) => left.iter().any(|mark| seen.contains(mark)),
            (Marks::Any, _) | (_, Marks::Any) => true,
        };
        if model.leaves(&first, None).is_none() {
            assert_eq!(after, state, "{first:?} changed {state:?}");
        }
        let is_effective = after != state;
        if let Some(with) = model.step(&after, &second, given)
            && is_effective
            && !is_seen
            && with != after
        {
            assert_eq!(model.step(&state, &second, given), Some(with), "{first:?} then {second:?} {given:?}");
        }
    }
}
