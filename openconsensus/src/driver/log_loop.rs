//! The single writer of the log. Groups queued writes into as few calls of the storage as possible: group commit.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use anyerror::AnyError;

use crate::engine::{LogWrite, WriteId};
use crate::entries::Entries;
use crate::entry::{HardState, Index, LogId};
use crate::error::Fatal;
use crate::metrics::DiskTimes;
use crate::storage::RaftLogStorage;
use crate::type_config::TypeConfig;

use super::shared::Clock;
use super::stages::record;
use super::sync::lock;

/// Writes on their way from the core loop to the log loop, and completions on their way back.
///
/// It wakes nobody: both loops are polled by one task, one after the other, until neither has anything for the other.
pub(super) struct LogQueue<C: TypeConfig> {
    state: Mutex<State<C>>,
    /// The last write that has become durable and that the core loop has not been told; 0 when there is none.
    done: AtomicU64,
    /// Whether the log loop has something to do.
    is_busy: AtomicBool,
}

struct State<C: TypeConfig> {
    queued: Vec<LogWrite<C>>,
    times: DiskTimes,
    closed: bool,
}

impl<C: TypeConfig> LogQueue<C> {
    pub(super) fn new() -> Arc<Self> {
        let state = State { queued: Vec::new(), times: DiskTimes::default(), closed: false };
        Arc::new(Self {
            state: Mutex::new(state),
            done: AtomicU64::new(0),
            // Until it has looked for the first time.
            is_busy: AtomicBool::new(true),
        })
    }

    pub(super) fn push(&self, write: LogWrite<C>) {
        lock(&self.state).queued.push(write);
        self.is_busy.store(true, Ordering::Release);
    }

    /// The last write that has become durable since the last call.
    pub(super) fn take_done(&self) -> Option<WriteId> {
        self.has_done().then(|| WriteId(self.done.swap(0, Ordering::AcqRel)))
    }

    pub(super) fn has_done(&self) -> bool {
        self.done.load(Ordering::Acquire) != 0
    }

    /// Whether the log loop has something to do, so that it must be polled.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// No more writes will come. The log loop ends when it has carried out those that are queued.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
    }

    /// Waits for writes and takes them all, into `taken`, which must be empty. They stay none when the queue is closed.
    async fn take(&self, taken: &mut Vec<LogWrite<C>>) {
        poll_fn(|_| {
            let mut state = lock(&self.state);
            if state.queued.is_empty() && !state.closed {
                self.is_busy.store(false, Ordering::Release);
                return Poll::Pending;
            }
            std::mem::swap(&mut state.queued, taken);
            Poll::Ready(())
        })
        .await;
    }

    /// How long the calls of the storage have taken.
    pub(super) fn times(&self) -> DiskTimes {
        lock(&self.state).times.clone()
    }

    fn set_done(&self, last: WriteId) {
        self.done.store(last.0, Ordering::Release);
    }
}

/// Carries out what is queued until the queue is closed. Must not be dropped before it ends unless the node crashes.
pub(super) async fn log_loop<C, L>(
    mut log: L,
    queue: Arc<LogQueue<C>>,
    clock: Arc<dyn Clock>,
) -> Result<(), Fatal>
where
    C: TypeConfig,
    L: RaftLogStorage<C>,
{
    let mut writes = Vec::new();
    let mut calls = Vec::new();
    loop {
        queue.take(&mut writes).await;
        let Some(last) = writes.last().map(|write| write.id) else {
            return Ok(());
        };
        plan(writes.drain(..), &mut calls);
        for call in calls.drain(..) {
            let kind = call.kind();
            let began = clock.now();
            call.carry_out(&mut log)
                .await
                .map_err(|error| Fatal::LogStorage(AnyError::new(&error).add_context(|| kind.describe())))?;
            kind.count(&mut lock(&queue.state).times, began, clock.now());
        }
        queue.set_done(last);
    }
}

/// One call of the storage.
#[derive(Debug)]
enum Call<C: TypeConfig> {
    SaveHardState(HardState<C>),
    Truncate(Index),
    /// `more` come behind `entries`.
    Append {
        entries: Entries<C>,
        more: Vec<Entries<C>>,
        commit: Index,
    },
    Purge(LogId),
}

/// Plans the calls that carry out `writes`, in order. Calls of one kind that follow each other directly become one.
fn plan<C: TypeConfig>(writes: impl Iterator<Item = LogWrite<C>>, calls: &mut Vec<Call<C>>) {
    for write in writes {
        if let Some(state) = write.hard_state {
            if let Some(Call::SaveHardState(last)) = calls.last_mut() {
                *last = state;
            } else {
                calls.push(Call::SaveHardState(state));
            }
        }
        calls.extend(write.truncate.map(Call::Truncate));
        if let Some(upto) = write.purge {
            if let Some(Call::Purge(last)) = calls.last_mut() {
                *last = upto;
            } else {
                calls.push(Call::Purge(upto));
            }
        }
        if !write.append.is_empty() {
            if let Some(Call::Append { more, commit, .. }) = calls.last_mut() {
                more.push(write.append);
                *commit = write.commit;
            } else {
                let (entries, more) = (write.append, Vec::new());
                calls.push(Call::Append { entries, more, commit: write.commit });
            }
        }
    }
}

impl<C: TypeConfig> Call<C> {
    async fn carry_out<L: RaftLogStorage<C>>(self, log: &mut L) -> io::Result<()> {
        match self {
            Self::SaveHardState(state) => log.save_hard_state(state).await,
            Self::Truncate(from) => log.truncate(from).await,
            Self::Append { entries, more, commit } if more.is_empty() => log.append(entries, commit).await,
            Self::Append { entries, more, commit } => {
                log.append(Entries::concat(std::iter::once(entries).chain(more)), commit).await
            }
            Self::Purge(upto) => log.purge(upto).await,
        }
    }

    fn kind(&self) -> CallKind {
        match self {
            Self::SaveHardState(_) => CallKind::SaveHardState,
            Self::Truncate(_) => CallKind::Truncate,
            Self::Append { entries, more, .. } => CallKind::Append {
                entries: entries.len() as u64 + more.iter().map(|part| part.len() as u64).sum::<u64>(),
                bytes: entries.size_bytes() + more.iter().map(Entries::size_bytes).sum::<u64>(),
            },
            Self::Purge(_) => CallKind::Purge,
        }
    }
}

/// What is remembered of a call while it is carried out.
enum CallKind {
    SaveHardState,
    Truncate,
    Append { entries: u64, bytes: u64 },
    Purge,
}

impl CallKind {
    /// What it does, for the error message.
    fn describe(&self) -> &'static str {
        match self {
            Self::SaveHardState => "while saving the hard state",
            Self::Truncate => "while truncating the log",
            Self::Append { .. } => "while appending entries",
            Self::Purge => "while purging the log",
        }
    }

    /// It was carried out from `began` to `ended`.
    fn count(&self, times: &mut DiskTimes, began: Instant, ended: Instant) {
        let time = match self {
            Self::SaveHardState => &mut times.save_hard_state,
            Self::Truncate => &mut times.truncate,
            Self::Append { entries, bytes } => {
                Arc::make_mut(&mut times.append_entries).record(*entries);
                Arc::make_mut(&mut times.append_bytes).record(*bytes);
                &mut times.append
            }
            Self::Purge => &mut times.purge,
        };
        record(time, began, ended, 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::driver::fakes::{FakeLog, FakeRuntime, entries};
    use crate::testing::U64;

    fn write(id: u64) -> LogWrite<U64> {
        LogWrite {
            id: WriteId(id),
            hard_state: None,
            truncate: None,
            append: Entries::empty(),
            commit: id,
            purge: None,
        }
    }

    fn append(id: u64, range: std::ops::Range<Index>) -> LogWrite<U64> {
        LogWrite { append: entries(1, range), ..write(id) }
    }

    /// The calls that a storage sees, and the write that is reported to be durable.
    fn run(log: FakeLog, writes: Vec<LogWrite<U64>>) -> (Result<(), Fatal>, Vec<String>, Option<u64>) {
        let queue = LogQueue::new();
        writes.into_iter().for_each(|write| queue.push(write));
        let mut running = Box::pin(log_loop(log.clone(), queue.clone(), Arc::new(FakeRuntime::new())));
        let first = futures::FutureExt::now_or_never(running.as_mut());
        queue.close();
        let result = first.unwrap_or_else(|| block_on(running));
        (result, log.calls(), queue.take_done().map(|id| id.0))
    }

    #[test]
    fn appends_that_follow_each_other_become_one_call_with_the_latest_commit_index() {
        let state = HardState { term: 1, voted_for: None, commit: 0 };
        let first = LogWrite { hard_state: Some(state), ..append(1, 1..3) };
        let (result, calls, done) = run(FakeLog::default(), vec![first, append(2, 3..4), append(3, 4..9)]);
        assert_eq!(result, Ok(()));
        assert_eq!(calls, ["save_hard_state term 1", "append 1..9 commit 3"]);
        assert_eq!(done, Some(3));
    }

    #[test]
    fn nothing_overtakes_a_truncation_a_purge_or_a_hard_state() {
        let state = HardState { term: 2, voted_for: Some(2), commit: 1 };
        let writes = vec![
            append(1, 1..4),
            LogWrite { truncate: Some(2), append: entries(2, 2..3), ..write(2) },
            LogWrite { purge: Some(LogId::new(1, 1)), ..append(3, 3..4) },
            append(4, 4..5),
            LogWrite { hard_state: Some(state), ..append(5, 5..6) },
        ];
        let mut writes = writes;
        for write in &mut writes[2..] {
            let range = write.append.range();
            write.append = entries(2, range);
        }
        let (result, calls, done) = run(FakeLog::default(), writes);
        assert_eq!(result, Ok(()));
        assert_eq!(
            calls,
            [
                "append 1..4 commit 1",
                "truncate 2",
                "append 2..3 commit 2",
                "purge 1(t1)",
                "append 3..5 commit 4",
                "save_hard_state term 2",
                "append 5..6 commit 5",
            ]
        );
        assert_eq!(done, Some(5));
    }

    #[test]
    fn a_failed_call_is_the_last_one_and_nothing_is_reported_durable() {
        let log = FakeLog::default();
        log.fail_at("append 1..3 commit 1");
        let writes = vec![append(1, 1..3), LogWrite { purge: Some(LogId::new(1, 1)), ..write(2) }];
        let (result, calls, done) = run(log, writes);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("while appending entries"), "{error}");
        assert_eq!(calls, ["append 1..3 commit 1"]);
        assert_eq!(done, None);
    }
}
