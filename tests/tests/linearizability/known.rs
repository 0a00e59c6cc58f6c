//! Histories of which one knows what they are.

use openconsensus_tests::linearizability::{KvRequest, KvResponse, Violation};

use super::*;

#[track_caller]
fn good(lines: &[Line]) {
    check_kv(&history(lines)).assert_linearizable();
}

/// Insists on a violation that `shown` operations show, and returns it.
#[track_caller]
fn bad(lines: &[Line], shown: usize) -> Violation {
    let mut report = check_kv(&history(lines));
    assert!(!report.is_linearizable(), "not noticed: {lines:?}");
    let violation = report.violations.remove(0);
    assert!(
        violation.is_minimal && violation.shown.len() == shown,
        "{shown} operations show it\n{violation}"
    );
    violation
}

#[test]
fn an_empty_history_is_linearizable() {
    good(&[]);
}

#[test]
fn a_read_sees_the_write_before_it_and_either_state_beside_it() {
    good(&[done(0, 1, put(1)), read(2, 3, Some(1))]);
    good(&[done(0, 9, put(1)), read(2, 3, Some(1)), read(4, 5, Some(1))]);
    good(&[done(0, 9, put(1)), read(2, 3, None), read(4, 5, Some(1))]);
    good(&[done(0, 1, put(1)), done(2, 3, delete()), read(4, 5, None)]);
}

#[test]
fn a_stale_read_is_noticed() {
    let violation = bad(
        &[
            done(0, 1, put(1)),
            read(2, 3, Some(1)),
            done(4, 5, put(2)),
            read(6, 7, Some(1)),
            read(8, 9, Some(2)),
        ],
        3,
    );
    assert!(violation.chart.contains("client 4: get → 1"), "{violation}");
}

#[test]
fn a_lost_write_is_noticed() {
    bad(&[done(0, 1, put(1)), read(2, 3, None)], 2);
    bad(&[done(0, 1, put(1)), done(2, 3, put(2)), unknown(4, 5, put(3)), read(6, 7, Some(1))], 3);
}

#[test]
fn a_value_that_was_never_written_is_noticed() {
    bad(&[done(0, 1, put(1)), read(2, 3, Some(7)), read(4, 5, Some(1))], 1);
}

#[test]
fn a_value_that_is_written_only_later_is_noticed() {
    bad(&[read(0, 1, Some(1)), done(2, 3, put(1))], 1);
    bad(&[read(0, 1, Some(1)), unknown(2, 3, put(1))], 1);
}

#[test]
fn a_comparison_that_succeeds_twice_is_noticed() {
    bad(&[done(0, 1, put(1)), done(2, 9, cas(Some(1), Some(2))), done(3, 8, cas(Some(1), Some(3)))], 3);
    // The same request, carried out twice by a retry: the second one must have failed.
    bad(&[done(0, 1, put(1)), done(2, 3, cas(Some(1), Some(2))), done(4, 5, cas(Some(1), Some(2)))], 3);
}

#[test]
fn a_failed_comparison_says_what_was_there() {
    let failed = |actual| KvResponse::Compared { set: false, actual };
    good(&[done(0, 1, put(1)), answered(2, 3, cas(Some(2), Some(3)), failed(Some(1))), read(4, 5, Some(1))]);
    bad(&[done(0, 1, put(1)), answered(2, 3, cas(Some(1), Some(3)), failed(Some(1)))], 2);
    bad(&[done(0, 1, put(1)), answered(2, 3, cas(Some(2), Some(3)), failed(None))], 2);
    bad(&[done(0, 1, put(1)), answered(2, 3, cas(Some(1), Some(3)), KvResponse::NotSet)], 2);
}

#[test]
fn a_write_says_what_was_there() {
    let previous = |called, ended, request: KvRequest<u32>, value| {
        answered(called, ended, request, KvResponse::Previous(value))
    };
    good(&[previous(0, 5, put(1), None), previous(1, 6, put(2), Some(1)), previous(7, 8, delete(), Some(2))]);
    bad(&[previous(0, 5, put(1), None), previous(1, 6, put(2), None)], 2);
}

#[test]
fn a_dirty_read_of_a_failed_write_is_noticed() {
    bad(&[done(0, 1, put(1)), absent(2, 3, put(2)), read(4, 5, Some(2))], 1);
    good(&[done(0, 1, put(1)), absent(2, 3, put(2)), read(4, 5, Some(1))]);
}

#[test]
fn reads_that_go_back_are_noticed() {
    // Each read alone could be explained while the write is under way.
    bad(&[done(0, 1, put(1)), done(2, 9, put(2)), read(3, 4, Some(2)), read(5, 6, Some(1))], 4);
    good(&[done(0, 1, put(1)), done(2, 9, put(2)), read(3, 6, Some(2)), read(4, 5, Some(1))]);
}

#[test]
fn an_unknown_write_may_take_effect_late_or_never() {
    good(&[unknown(0, 1, put(1)), done(2, 3, put(2)), read(4, 5, Some(2)), read(6, 7, Some(1))]);
    good(&[unknown(0, 1, put(1)), done(2, 3, put(2)), read(4, 5, Some(2))]);
    good(&[unknown(0, 1, delete()), done(2, 3, put(2)), read(4, 5, Some(2)), read(6, 7, None)]);
    good(&[
        done(0, 1, put(1)),
        unknown(2, 3, cas(Some(1), Some(2))),
        read(4, 5, Some(1)),
        read(6, 7, Some(2)),
    ]);
}

#[test]
fn an_unknown_write_that_takes_effect_twice_is_noticed() {
    let lines = [
        unknown(0, 1, put(1)),
        read(2, 3, Some(1)),
        done(4, 5, put(2)),
        read(6, 7, Some(2)),
        read(8, 9, Some(1)),
    ];
    bad(&lines, 4);
    // A second one of the same value explains it.
    let mut lines = lines.to_vec();
    lines.push(unknown(10, 11, put(1)));
    bad(&lines, 4);
    lines.pop();
    lines.insert(0, unknown(12, 20, put(3)));
    lines[0] = unknown(0, 20, put(1));
    lines[1].0 = 1;
    lines[1].1 = 19;
    good(&lines);
}

#[test]
fn an_unknown_write_does_not_take_effect_before_its_call() {
    bad(&[done(0, 1, put(1)), read(2, 3, Some(2)), unknown(4, 5, put(2)), read(6, 7, Some(2))], 1);
}

#[test]
fn an_unknown_comparison_takes_effect_only_where_it_is_met() {
    good(&[
        done(0, 1, put(1)),
        unknown(2, 3, cas(Some(3), Some(2))),
        done(4, 5, put(3)),
        read(6, 7, Some(2)),
    ]);
    bad(&[done(0, 1, put(1)), unknown(2, 3, cas(Some(3), Some(2))), read(6, 7, Some(2))], 2);
}

#[test]
fn a_chain_of_unknown_comparisons_explains_a_read() {
    let chain = [
        unknown(0, 9, cas(Some(2), Some(3))),
        unknown(1, 9 + 1, cas(Some(1), Some(2))),
        unknown(2, 9 + 2, put(1)),
    ];
    let with = |read: Line| [chain.to_vec(), vec![read]].concat();
    good(&with(read(20, 21, Some(3))));
    bad(&with(read(20, 21, Some(4))), 1);
    // Each may be used once.
    bad(&[with(read(20, 21, Some(3))), vec![done(22, 23, put(5)), read(24, 25, Some(3))]].concat(), 6);
}

#[test]
fn a_comparison_that_fails_for_an_unknown_reason_is_explained_by_any_unknown_write() {
    good(&[
        done(0, 1, put(1)),
        unknown(2, 3, put(2)),
        answered(4, 5, cas(Some(1), Some(3)), KvResponse::NotSet),
        read(6, 7, Some(2)),
    ]);
    bad(
        &[
            done(0, 1, put(1)),
            unknown(2, 3, put(2)),
            answered(4, 5, cas(Some(1), Some(3)), KvResponse::NotSet),
            read(6, 7, Some(1)),
        ],
        4,
    );
}

#[test]
fn what_happens_on_one_key_does_not_matter_to_another() {
    let other =
        |called, ended, value| answered(called, ended, KvRequest::get("other"), KvResponse::Value(value));
    good(&[done(0, 1, put(1)), other(2, 3, None)]);
    let report = check_kv(&history(&[done(0, 1, put(1)), other(2, 3, Some(1)), read(4, 5, Some(1))]));
    assert_eq!(
        report.violations.iter().map(|violation| violation.key.as_str()).collect::<Vec<_>>(),
        ["other"]
    );
    assert_eq!((report.keys, report.operations), (2, 3));
}

#[test]
fn responses_of_another_kind_are_never_right() {
    bad(&[answered(0, 1, put(1), KvResponse::Value(Some(1)))], 1);
    bad(&[answered(0, 1, get(), KvResponse::Done)], 1);
    bad(&[answered(0, 1, cas(None, Some(1)), KvResponse::Previous(None))], 1);
}

#[test]
fn a_violation_is_drawn_over_time() {
    let violation =
        bad(&[done(0, 3, put(1)), done(4, 8, put(2)), unknown(5, 9, put(3)), read(10, 11, Some(1))], 3);
    let expected = "\
key k: no order explains 3 of its 4 operations (the fewest that show it):
  client 1: put 1    ├────┤                           0.000 to 3.000 ms
  client 2: put 2              ├────┤                 4.000 to 8.000 ms
  client 4: get → 1                      ├────┤       10.000 to 11.000 ms
  The longest order is: client 1: put 1; client 2: put 2. Then the state is Some(2),
  and nothing makes this possible before its end: client 4: get → 1.
";
    assert_eq!(violation.to_string(), expected, "\n{violation}");
}
