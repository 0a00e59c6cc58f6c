//! What a log in memory keeps, and what it refuses.

use futures::executor::block_on;
use openconsensus::{Entry, Payload};

use super::*;
use crate::kv::{Command, Kv};

fn entries(term: Term, range: Range<Index>) -> Entries<Kv> {
    range
        .map(|index| Entry {
            log_id: LogId::new(term, index),
            payload: Payload::Command(Command::Delete { key: format!("{index}") }),
        })
        .collect::<Vec<_>>()
        .into()
}

/// A loaded log with one batch for each of `batches`.
fn log_of(batches: impl IntoIterator<Item = (Term, Range<Index>)>) -> MemLog<Kv> {
    let mut log = MemLog::new();
    block_on(log.load()).unwrap();
    for (term, range) in batches {
        block_on(log.append(entries(term, range), 0)).unwrap();
    }
    log
}

/// The message of a refusal.
fn refusal(result: io::Result<()>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    error.to_string()
}

fn hard_state(term: Term, voted_for: Option<u64>, commit: Index) -> HardState<Kv> {
    HardState { term, voted_for, commit }
}

#[test]
fn the_commit_hint_is_the_latest_of_both_sources() {
    let mut log = log_of([(1, 1..4)]);
    block_on(log.append(entries(1, 4..5), 3)).unwrap();
    assert_eq!(log.state().hard_state.commit, 3);
    block_on(log.save_hard_state(hard_state(1, Some(2), 1))).unwrap();
    assert_eq!(log.state().hard_state, hard_state(1, Some(2), 3));
    block_on(log.save_hard_state(hard_state(1, Some(2), 4))).unwrap();
    assert_eq!(log.state().hard_state.commit, 4);
}

#[test]
fn what_breaks_the_contract_is_refused_and_changes_nothing() {
    let mut log = log_of([(3, 1..7)]);
    block_on(log.purge(LogId::new(3, 2))).unwrap();
    block_on(log.append(Entries::empty(), 4)).unwrap();
    block_on(log.save_hard_state(hard_state(3, Some(1), 0))).unwrap();
    let before = log.state();

    let gap = refusal(block_on(log.append(entries(3, 8..9), 0)));
    assert_eq!(gap, "entry 8(t3) cannot be appended: the last entry is 6(t3), the next one must be at 7");
    assert!(refusal(block_on(log.append(entries(3, 6..8), 0))).contains("must be at 7"));
    assert!(refusal(block_on(log.append(entries(2, 7..8), 0))).contains("term is below"));
    assert!(refusal(block_on(log.truncate(2))).contains("purged up to 2(t3), the least is 3"));
    assert!(refusal(block_on(log.truncate(4))).contains("entries up to 4 are known to be committed"));
    assert!(refusal(block_on(log.purge(LogId::new(3, 1)))).contains("purged up to 2(t3) already"));
    assert!(refusal(block_on(log.purge(LogId::new(4, 5)))).contains("the stored entry is 5(t3)"));
    assert!(refusal(block_on(log.purge(LogId::new(4, 2)))).contains("the stored entry is 2(t3)"));
    assert!(refusal(block_on(log.save_hard_state(hard_state(2, None, 0)))).contains("stored term 3"));
    let vote = refusal(block_on(log.save_hard_state(hard_state(3, Some(2), 0))));
    assert_eq!(vote, "the vote of term 3 went to 1 and must not change to 2");
    assert!(refusal(block_on(log.save_hard_state(hard_state(3, None, 0)))).contains("to nobody"));

    assert_eq!(log.state(), before);
    assert_eq!(log.entries(3..99).range(), 3..7);
}

#[test]
fn only_the_handle_that_was_loaded_last_may_write() {
    let mut first = log_of([(1, 1..3)]);
    let mut second = first.clone();
    assert!(refusal(block_on(second.append(entries(1, 3..4), 0))).contains("load must be called"));
    assert_eq!(block_on(second.load()).unwrap().last, LogId::new(1, 2));
    block_on(second.append(entries(1, 3..4), 0)).unwrap();
    assert!(refusal(block_on(first.append(entries(1, 4..5), 0))).contains("loaded again"));
    assert_eq!(first.state().last, LogId::new(1, 3), "both are handles to one log");
}
