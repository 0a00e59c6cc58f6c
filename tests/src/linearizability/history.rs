//! `History`: what clients asked for and what became of it, in the order in which it happened.

use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One thing that a client asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<O, R> {
    /// Who asked: only for people.
    pub client: u64,
    /// When it was asked for: not later than the moment at which the request was sent.
    pub called: Moment,
    /// What was asked for.
    pub request: O,
    /// When the outcome was known: not earlier than the moment at which the response arrived. `None` if nobody was told
    /// anything.
    pub ended: Option<Moment>,
    /// What became of it.
    pub outcome: Outcome<R>,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<R> {
    /// It took effect, and this was the response.
    Returned(R),
    /// It certainly did not take effect and never will.
    Absent,
    /// It may have taken effect, may still do so at any time, or never.
    Unknown,
}

/// A moment of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Its place among all moments of the history. Only this decides what came before what; clocks may be coarse.
    pub order: u64,
    /// The time since the beginning in nanoseconds: only for people.
    pub at_ns: u64,
}

/// What clients asked for and what became of it, in the order of the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<O, R> {
    operations: Vec<Operation<O, R>>,
    next_order: u64,
    counts: Counts,
}

/// Names an operation of a [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(usize);

/// How many operations of a [`History`] ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations with a response.
    pub returned: usize,
    /// Operations that certainly did not take effect.
    pub absent: usize,
    /// Operations of which nobody knows, including those that are not ended.
    pub unknown: usize,
}

impl Counts {
    fn of<R>(&mut self, outcome: &Outcome<R>) -> &mut usize {
        match outcome {
            Outcome::Returned(_) => &mut self.returned,
            Outcome::Absent => &mut self.absent,
            Outcome::Unknown => &mut self.unknown,
        }
    }
}

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        Self { operations: Vec::new(), next_order: 0, counts: Counts::default() }
    }
}

impl<O, R> History<O, R> {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that `client` asks for `request`, before it is sent. Until [`end`](Self::end) its outcome is unknown.
    pub fn call(&mut self, client: u64, at: Duration, request: O) -> OperationId {
        let called = self.moment(at);
        self.operations.push(Operation { client, called, request, ended: None, outcome: Outcome::Unknown });
        self.counts.unknown += 1;
        OperationId(self.operations.len() - 1)
    }

    /// Records what has become of an operation, after the response has arrived.
    ///
    /// # Panics
    ///
    /// When the operation was ended before, or is not of this history.
    pub fn end(&mut self, id: OperationId, at: Duration, outcome: Outcome<R>) {
        let ended = self.moment(at);
        let operation = &mut self.operations[id.0];
        assert!(operation.ended.is_none(), "operation {} was ended twice", id.0);
        operation.ended = Some(ended);
        self.counts.unknown -= 1;
        *self.counts.of(&outcome) += 1;
        operation.outcome = outcome;
    }

    /// All operations, in the order of their calls.
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }

    /// How many operations ended how.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn moment(&mut self, at: Duration) -> Moment {
        let order = self.next_order;
        self.next_order += 1;
        Moment { order, at_ns: u64::try_from(at.as_nanos()).unwrap_or(u64::MAX) }
    }
}

impl<O: Serialize, R: Serialize> History<O, R> {
    /// Writes the history: one operation on a line, as JSON.
    ///
    /// # Errors
    ///
    /// Those of `to`.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut to = io::BufWriter::new(to);
        for operation in &self.operations {
            serde_json::to_writer(&mut to, operation)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }
}

impl<O: DeserializeOwned, R: DeserializeOwned> History<O, R> {
    /// Reads what [`write`](Self::write) has written.
    ///
    /// # Errors
    ///
    /// Those of `from`; [`io::ErrorKind::InvalidData`] with the number of the line where it is not a history.
    pub fn read(from: impl BufRead) -> io::Result<Self> {
        let mut history = Self::new();
        let mut last_call = None;
        for (line, number) in from.lines().zip(1_u64..) {
            let wrong =
                |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {what}"));
            let operation: Operation<O, R> =
                serde_json::from_str(&line?).map_err(|error| wrong(error.to_string()))?;
            let called = operation.called.order;
            if last_call.is_some_and(|last| called <= last) {
                return Err(wrong(format!("its call, {called}, is not after that of the line before")));
            }
            last_call = Some(called);
            history.next_order = history.next_order.max(called + 1);
            match (&operation.ended, &operation.outcome) {
                (Some(ended), _) if ended.order <= called => {
                    return Err(wrong(format!("it ends at {}, not after its call at {called}", ended.order)));
                }
                (Some(ended), _) => history.next_order = history.next_order.max(ended.order + 1),
                (None, Outcome::Unknown) => {}
                (None, Outcome::Returned(_) | Outcome::Absent) => {
                    return Err(wrong("it has an outcome and no end".to_string()));
                }
            }
            *history.counts.of(&operation.outcome) += 1;
            history.operations.push(operation);
        }
        Ok(history)
    }
}

/// Records the operations of many clients in one [`History`]. Clones record in the same history.
pub struct Recorder<O, R> {
    history: Arc<Mutex<History<O, R>>>,
    clock: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// An operation that has been called and is not ended. Dropped before it is ended, it has an unknown outcome.
#[must_use = "say what has become of it"]
#[derive(Debug)]
pub struct Call<O, R> {
    recorder: Recorder<O, R>,
    id: OperationId,
    outcome: Outcome<R>,
}

impl<O, R> Clone for Recorder<O, R> {
    fn clone(&self) -> Self {
        Self { history: Arc::clone(&self.history), clock: Arc::clone(&self.clock) }
    }
}

impl<O, R> Default for Recorder<O, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O, R> std::fmt::Debug for Recorder<O, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("counts", &self.lock().counts()).finish()
    }
}

impl<O, R> Recorder<O, R> {
    /// An empty history with the monotonic clock of this process, which begins now.
    pub fn new() -> Self {
        let begin = Instant::now();
        Self::with_clock(move || begin.elapsed())
    }

    /// An empty history with a clock of one's own, for example that of a simulation. The clock must not record anything.
    pub fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { history: Arc::new(Mutex::new(History::new())), clock: Arc::new(clock) }
    }

    /// Records that `client` asks for `request`. To be called before the request is sent.
    pub fn call(&self, client: u64, request: O) -> Call<O, R> {
        let id = self.lock().call(client, (self.clock)(), request);
        Call { recorder: self.clone(), id, outcome: Outcome::Unknown }
    }

    /// The history so far. Operations that are not ended have an unknown outcome in it.
    pub fn history(&self) -> History<O, R>
    where
        O: Clone,
        R: Clone,
    {
        self.lock().clone()
    }

    /// How many operations ended how, so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, History<O, R>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O, R> Call<O, R> {
    /// It took effect, and this is the response. To be called after the response has arrived.
    pub fn returned(self, response: R) {
        self.ended(Outcome::Returned(response));
    }

    /// It certainly did not take effect and never will.
    pub fn absent(self) {
        self.ended(Outcome::Absent);
    }

    /// It may have taken effect, may still do so, or never.
    pub fn unknown(self) {
        self.ended(Outcome::Unknown);
    }

    /// What has become of it.
    pub fn ended(mut self, outcome: Outcome<R>) {
        self.outcome = outcome;
    }
}

impl<O, R> Drop for Call<O, R> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Unknown);
        let at = (self.recorder.clock)();
        self.recorder.lock().end(self.id, at, outcome);
    }
}
