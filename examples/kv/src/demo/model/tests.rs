//! What the model allows to be read, and what the checks find.

use super::*;

const KEY: &str = "~demo/00/000";

fn put(model: &mut Model) -> Attempt {
    model.begin_write(KEY, Change::Put)
}

fn acknowledge(model: &mut Model, attempt: &Attempt) {
    let previous = attempt.expected.clone();
    model.acknowledged(attempt, previous.as_deref());
}

fn read(model: &mut Model, value: Option<&[u8]>) {
    let reading = model.begin_read(KEY);
    model.finish_read(&reading, value);
}

fn fault_kinds(model: &Model) -> Vec<FaultKind> {
    model.faults().iter().map(|fault| fault.kind).collect()
}

#[test]
fn an_acknowledged_write_must_be_read_back() {
    let mut model = Model::default();
    let first = put(&mut model);
    acknowledge(&mut model, &first);
    assert_eq!(model.judge(KEY, first.value.as_deref()), Ok(()));
    assert_eq!(model.judge(KEY, None).unwrap_err().kind, FaultKind::Outdated);

    let second = put(&mut model);
    acknowledge(&mut model, &second);
    let fault = model.judge(KEY, first.value.as_deref()).unwrap_err();
    assert_eq!(fault.to_string(), "~demo/00/000: is at version 1, but version 2 has happened (outdated)");
    assert_eq!(model.judge(KEY, second.value.as_deref()), Ok(()));
    assert_eq!(model.tally(), Tally { acknowledged: 2, ..Tally::default() });
}

#[test]
fn an_unknown_put_may_have_happened_or_not_and_keeps_its_key_from_being_written() {
    let mut model = Model::default();
    let first = put(&mut model);
    acknowledge(&mut model, &first);
    let second = put(&mut model);
    assert!(!model.is_writable(KEY));
    model.unknown(&second);
    assert!(!model.is_writable(KEY));
    assert_eq!(model.judge(KEY, first.value.as_deref()), Ok(()));
    assert_eq!(model.judge(KEY, second.value.as_deref()), Ok(()));
    assert_eq!(model.judge(KEY, None).unwrap_err().kind, FaultKind::Outdated);

    // Once seen it has happened: there is no way back, and nothing is left that could arrive.
    read(&mut model, second.value.as_deref());
    assert!(model.is_writable(KEY));
    assert_eq!(model.judge(KEY, first.value.as_deref()).unwrap_err().kind, FaultKind::Outdated);
    assert!(model.faults().is_empty());
}

#[test]
fn a_read_must_not_be_older_than_what_was_known_when_it_began() {
    let mut model = Model::default();
    let first = put(&mut model);
    let early = model.begin_read(KEY);
    acknowledge(&mut model, &first);
    let second = put(&mut model);
    acknowledge(&mut model, &second);
    // It began before the first write was acknowledged: all three states are legal.
    for value in [None, first.value.as_deref(), second.value.as_deref()] {
        model.finish_read(&early, value);
    }
    assert!(model.faults().is_empty());

    read(&mut model, first.value.as_deref());
    assert_eq!(fault_kinds(&model), [FaultKind::Outdated]);
    assert_eq!(model.tally().reads, 4);
}

#[test]
fn what_one_reader_has_seen_a_later_reader_must_see_too() {
    let mut model = Model::default();
    let write = put(&mut model);
    read(&mut model, write.value.as_deref());
    read(&mut model, None);
    assert_eq!(fault_kinds(&model), [FaultKind::Outdated]);
}

#[test]
fn a_deleted_key_is_absent_until_it_is_written_again() {
    let mut model = Model::default();
    let first = put(&mut model);
    acknowledge(&mut model, &first);
    let delete = model.begin_write(KEY, Change::Delete);
    assert_eq!(delete.value, None);
    model.acknowledged(&delete, first.value.as_deref());
    assert_eq!(model.judge(KEY, None), Ok(()));
    assert_eq!(model.judge(KEY, first.value.as_deref()).unwrap_err().kind, FaultKind::Outdated);

    let third = put(&mut model);
    model.acknowledged(&third, None);
    assert_eq!(model.judge(KEY, None).unwrap_err().kind, FaultKind::Outdated);
    assert!(model.faults().is_empty());
}

#[test]
fn of_several_unknown_replacements_at_most_one_happens() {
    let mut model = Model::default();
    let first = model.begin_write(KEY, Change::Replace);
    assert_eq!(first.expected, None);
    acknowledge(&mut model, &first);
    let second = model.begin_write(KEY, Change::Replace);
    assert_eq!(second.expected, first.value);
    model.unknown(&second);
    assert!(model.is_writable(KEY));
    let third = model.begin_write(KEY, Change::Replace);
    assert_eq!(third.expected, first.value);
    model.unknown(&third);
    for attempt in [&first, &second, &third] {
        assert_eq!(model.judge(KEY, attempt.value.as_deref()), Ok(()));
    }

    read(&mut model, second.value.as_deref());
    assert_eq!(model.judge(KEY, second.value.as_deref()), Ok(()));
    assert_eq!(model.judge(KEY, third.value.as_deref()).unwrap_err().kind, FaultKind::Refused);
    assert_eq!(model.judge(KEY, first.value.as_deref()).unwrap_err().kind, FaultKind::Outdated);
}

#[test]
fn a_replacement_that_lost_to_an_unknown_one_shows_what_became_of_that() {
    let mut model = Model::default();
    let first = model.begin_write(KEY, Change::Replace);
    model.unknown(&first);
    let second = model.begin_write(KEY, Change::Replace);
    model.not_replaced(&second, first.value.as_deref());
    assert_eq!(model.judge(KEY, first.value.as_deref()), Ok(()));
    assert_eq!(model.judge(KEY, None).unwrap_err().kind, FaultKind::Outdated);
    assert_eq!(model.begin_write(KEY, Change::Replace).expected, first.value);
    assert!(model.faults().is_empty());
}

#[test]
fn a_replacement_in_flight_whose_expectation_has_gone_is_known_not_to_happen() {
    let mut model = Model::default();
    let first = model.begin_write(KEY, Change::Replace);
    model.unknown(&first);
    let second = model.begin_write(KEY, Change::Replace);
    read(&mut model, first.value.as_deref());
    model.unknown(&second);
    assert_eq!(model.judge(KEY, second.value.as_deref()).unwrap_err().kind, FaultKind::Refused);
}

#[test]
fn the_effect_of_a_refused_write_is_a_fault() {
    let mut model = Model::default();
    let write = put(&mut model);
    model.refused(&write);
    assert_eq!(model.judge(KEY, None), Ok(()));
    read(&mut model, write.value.as_deref());
    assert_eq!(fault_kinds(&model), [FaultKind::Refused]);

    let mut model = Model::default();
    let write = put(&mut model);
    read(&mut model, write.value.as_deref());
    model.refused(&write);
    assert_eq!(fault_kinds(&model), [FaultKind::Refused]);
}

#[test]
fn a_write_that_finds_itself_has_happened_twice() {
    let mut model = Model::default();
    let write = put(&mut model);
    model.acknowledged(&write, write.value.as_deref());
    assert_eq!(fault_kinds(&model), [FaultKind::Twice]);
}

#[test]
fn a_write_that_finds_an_older_state_than_the_last_acknowledged_one_shows_a_loss() {
    let mut model = Model::default();
    let first = put(&mut model);
    acknowledge(&mut model, &first);
    let second = put(&mut model);
    model.acknowledged(&second, None);
    assert_eq!(fault_kinds(&model), [FaultKind::Outdated]);
}

#[test]
fn a_value_that_nobody_wrote_is_a_fault() {
    let mut model = Model::default();
    let write = put(&mut model);
    acknowledge(&mut model, &write);
    let mut damaged = write.value.clone().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    for foreign in [damaged, b"something else".to_vec(), value_of(KEY, 2), value_of("other", 1)] {
        assert_eq!(model.judge(KEY, Some(&foreign)).unwrap_err().kind, FaultKind::Foreign);
    }
    assert_eq!(model.judge("never written", None), Ok(()));
    assert_eq!(model.judge("never written", Some(b"x")).unwrap_err().kind, FaultKind::Foreign);
}

#[test]
fn the_keys_that_were_written_last_are_known() {
    let mut model = Model::default();
    for number in 0..RECENT_KEYS + 2 {
        let write = model.begin_write(&number.to_string(), Change::Put);
        model.acknowledged(&write, None);
    }
    let write = model.begin_write("refused", Change::Put);
    model.refused(&write);
    let expected: Vec<String> = (2..RECENT_KEYS + 2).map(|number| number.to_string()).collect();
    assert!(model.recent().iter().eq(&expected), "{:?}", model.recent());
}
