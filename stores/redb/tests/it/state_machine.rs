//! One test for each sentence of the contract of `RaftStateMachine`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use futures::executor::block_on;
use openconsensus::{AppliedState, ApplyBatch, Entry, LogId, Payload, RaftStateMachine};
use openconsensus_memstore::kv::{Command, Kv, Response};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::redb::TableDefinition;
use openconsensus_redb::{Application, BoxError, Options, RedbStateMachine, StateTable, Transaction};

use crate::helpers::{apply, batch_after, identity, membership_entry, numbered, open_state, pairs, put};

#[test]
fn applying_returns_a_response_for_each_command_and_remembers_the_applied_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let commands = [put("a", "1"), put("a", "2"), Command::Delete { key: "b".into() }];
    let expected = [None, Some("1".into()), None].map(Response::Previous);
    assert_eq!(apply(&mut state, commands), expected);
    // Entries without a command have no response, but count as applied.
    let before = block_on(state.applied_state()).unwrap();
    let blank = Entry { log_id: LogId::new(2, 5), payload: Payload::Blank };
    let entries = vec![membership_entry(LogId::new(2, 4)), blank];
    let batch = ApplyBatch::new(&before, entries.into());
    let expected = batch.applied_state().clone();
    assert!(block_on(state.apply(batch)).unwrap().is_empty());
    drop(state);
    let mut state = open_state(dir.path());
    assert_eq!(block_on(state.applied_state()).unwrap(), expected);
    assert_eq!(expected.membership.log_id, LogId::new(2, 4));
    assert_eq!(pairs(&state), [("a".to_string(), b"2".to_vec())]);
}

#[test]
fn a_batch_that_does_not_follow_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let batch = batch_after(&AppliedState::default(), [put("a", "1")]);
    block_on(state.apply(batch.clone())).unwrap();
    let error = block_on(state.apply(batch)).unwrap_err();
    assert!(error.to_string().contains("entry 1(t1) cannot be applied behind entry 1(t1)"), "{error}");
}

/// Does as `KvApplication`, and then what its test wants.
struct Rebellious<F>(F);

impl<F> Application<Kv> for Rebellious<F>
where
    F: Fn(&Transaction<'_>, Vec<Response>) -> Result<Vec<Response>, BoxError> + Send + 'static,
{
    fn tables(&self) -> Vec<StateTable> {
        KvApplication.tables()
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        batch: &ApplyBatch<Kv>,
    ) -> Result<Vec<Response>, BoxError> {
        let responses = KvApplication.apply(transaction, batch)?;
        self.0(transaction, responses)
    }
}

fn failed_apply<F>(rebel: F) -> io::Error
where
    F: Fn(&Transaction<'_>, Vec<Response>) -> Result<Vec<Response>, BoxError> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    apply(&mut open_state(dir.path()), [put("a", "1")]);
    let (path, snapshots) = (dir.path().join("state.redb"), dir.path().join("snapshots"));
    let mut state = RedbStateMachine::open(path, snapshots, &identity(), Rebellious(rebel)).unwrap();
    let before = block_on(state.applied_state()).unwrap();
    let batch = || batch_after(&before, [put("a", "2"), put("b", "3")]);
    let error = block_on(state.apply(batch())).unwrap_err();
    let later = block_on(state.apply(batch()));
    assert!(later.is_err(), "the state machine went on");
    drop(state);
    let mut state = open_state(dir.path());
    assert_eq!(block_on(state.applied_state()).unwrap(), before, "half of a batch was applied");
    assert_eq!(pairs(&state), [("a".to_string(), b"1".to_vec())]);
    error
}

#[test]
fn an_error_of_the_application_undoes_the_batch_and_stops() {
    let error = failed_apply(|_, _| Err("out of numbers".into()));
    assert!(error.to_string().ends_with("state.redb: out of numbers"), "{error}");
    let error = failed_apply(|_, _| Err(io::Error::new(io::ErrorKind::StorageFull, "full").into()));
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_panic_of_the_application_undoes_the_batch_and_stops() {
    let error = failed_apply(|_, _| panic!("a bug of the application"));
    assert!(error.to_string().contains("state.redb: the store is closed, or its thread panicked"), "{error}");
}

#[test]
fn a_wrong_number_of_responses_undoes_the_batch_and_stops() {
    let error = failed_apply(|_, mut responses| {
        responses.pop();
        Ok(responses)
    });
    assert!(error.to_string().contains("gave 1 responses to 2 commands"), "{error}");
}

#[test]
fn a_table_that_is_not_declared_cannot_be_opened() {
    let error = failed_apply(|transaction, responses| {
        transaction.open_table(TableDefinition::<u64, u64>::new("secret"))?;
        Ok(responses)
    });
    assert!(error.to_string().contains("secret (Application::tables does not declare it)"), "{error}");
    let error = failed_apply(|transaction, responses| {
        transaction.open_table(TableDefinition::<&str, &[u8]>::new("openconsensus.meta"))?;
        Ok(responses)
    });
    assert!(error.to_string().contains("does not declare it"), "{error}");
}

#[test]
fn readers_see_whole_batches_beside_apply() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let reader = KvReader::new(&state);
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let (reader, done) = (reader.clone(), done.clone());
            std::thread::spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Acquire) || last < 100 {
                    let view =
                        if number == 0 { reader.view() } else { block_on(reader.fresh_view()) }.unwrap();
                    let applied = view.last_applied().unwrap().index / 2;
                    // Each batch sets both keys to its number.
                    let (a, b) = (view.get("a").unwrap(), view.get("b").unwrap());
                    assert_eq!(a, b);
                    assert_eq!(
                        a.unwrap_or_default(),
                        applied.to_string().into_bytes()[..].repeat((applied > 0).into())
                    );
                    assert!(last <= applied);
                    last = applied;
                }
            })
        })
        .collect();
    for number in 1..=100 {
        apply(&mut state, [put("a", number.to_string()), put("b", number.to_string())]);
    }
    done.store(true, Ordering::Release);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_reader_sees_at_once_what_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let reader = KvReader::new(&state);
    for number in 0..50_u64 {
        apply(&mut state, [put("a", number.to_string())]);
        let seen = if number % 2 == 0 { reader.view() } else { block_on(reader.fresh_view()) }.unwrap();
        assert_eq!(seen.get("a").unwrap(), Some(number.to_string().into_bytes()));
        assert_eq!(seen.last_applied().unwrap().index, number + 1);
    }
}

/// Batches that were answered and not committed are given up with the one that fails. A reader must not be shown the
/// state before them as if it were that of now.
#[test]
fn after_an_error_a_reader_is_not_shown_less_than_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let rebel = |_: &Transaction<'_>, responses: Vec<Response>| match responses.as_slice() {
        [Response::Previous(Some(_))] => Err("out of numbers".into()),
        _ => Ok(responses),
    };
    let (path, snapshots) = (dir.path().join("state.redb"), dir.path().join("snapshots"));
    let mut state = RedbStateMachine::open(path, snapshots, &identity(), Rebellious(rebel)).unwrap();
    let reader = state.reader();
    let first = batch_after(&AppliedState::default(), [put("a", "1")]);
    let second = batch_after(first.applied_state(), [put("a", "2")]);
    block_on(state.apply(first)).unwrap();
    block_on(state.apply(second)).unwrap_err();
    let error = reader.view().unwrap_err();
    assert!(error.to_string().ends_with("out of numbers"), "{error}");
    assert!(block_on(reader.fresh_view()).is_err());
    drop(state);
    // It begins before both, and gets them from the log again.
    let mut state = open_state(dir.path());
    assert_eq!(block_on(state.applied_state()).unwrap(), AppliedState::default());
    assert_eq!(pairs(&state), []);
}

#[test]
fn readers_do_not_keep_a_state_machine_open() {
    let dir = tempfile::tempdir().unwrap();
    let state = open_state(dir.path());
    let reader = KvReader::new(&state);
    drop(state);
    let error = reader.get("a").unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    drop(open_state(dir.path()));
}

/// Waits inside `apply` until the test lets it go.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn wait(&self) {
        let (is_open, changed) = &*self.0;
        drop(changed.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[test]
fn a_slow_application_blocks_nobody_who_polls() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let waiting = gate.clone();
    let application = Rebellious(move |_: &Transaction<'_>, responses| {
        waiting.wait();
        Ok(responses)
    });
    let (path, snapshots) = (dir.path().join("state.redb"), dir.path().join("snapshots"));
    let mut state = RedbStateMachine::open(path, snapshots, &identity(), application).unwrap();
    let batch = batch_after(&AppliedState::default(), [put("a", "1")]);
    let mut applying = Box::pin(state.apply(batch));
    assert!(futures::FutureExt::now_or_never(&mut applying).is_none(), "it has not waited for its thread");
    gate.open();
    assert_eq!(block_on(applying).unwrap(), [Response::Previous(None)]);
}

#[test]
fn the_state_is_synced_when_enough_was_applied() {
    use crate::disk::Disk;
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let open = |disk: &Disk, options: &Options| {
        let application = KvApplication;
        RedbStateMachine::<Kv, _>::open_on(
            "disk",
            disk.clone(),
            dir.path(),
            &identity(),
            application,
            options,
        )
        .unwrap()
    };
    let never = Options {
        state_sync_entries_max: u64::MAX,
        state_sync_bytes_max: u64::MAX,
        state_sync_idle_ms: 1 << 40,
        ..Options::default()
    };
    let applied = |disk: &Disk, count: u64, options: &Options| {
        let mut state = open(disk, options);
        apply(&mut state, numbered(0..count));
        // The next call comes behind the sync.
        block_on(state.applied_state()).unwrap();
        let crashed = open(&disk.crash_point().strict(), &never);
        KvReader::new(&crashed).last_applied().unwrap().index
    };
    drop(open(&disk, &never));
    assert_eq!(applied(&disk.with_space(None), 100, &never), 0);
    let by_entries = Options { state_sync_entries_max: 100, ..never.clone() };
    assert_eq!(applied(&disk.with_space(None), 99, &by_entries), 0);
    assert_eq!(applied(&disk.with_space(None), 100, &by_entries), 100);
    let by_bytes = Options { state_sync_bytes_max: 1000, ..never.clone() };
    assert_eq!(applied(&disk.with_space(None), 100, &by_bytes), 100);
    // When it is idle, and when it is dropped.
    let when_idle = Options { state_sync_idle_ms: 1, ..never.clone() };
    let synced = disk.with_space(None);
    let mut state = open(&synced, &when_idle);
    apply(&mut state, numbered(0..5));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let crashed = open(&synced.crash_point().strict(), &never);
        if KvReader::new(&crashed).last_applied().unwrap().index == 5 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the state is not synced when it is idle");
    }
    let dropped = disk.with_space(None);
    apply(&mut open(&dropped, &never), numbered(0..5));
    assert_eq!(
        KvReader::new(&open(&dropped.crash_point().strict(), &never)).last_applied().unwrap().index,
        5
    );
}
