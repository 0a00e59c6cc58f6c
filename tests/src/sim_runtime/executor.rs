//! The executor of a simulation: tasks, timers and virtual time, in an order that a seed chooses.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use openconsensus::BoxFuture;

use super::trace::{Trace, TraceText};

/// More decisions than this without any time passing mean that tasks wake each other for ever.
const DECISIONS_AT_ONCE_MAX: u64 = 200_000;

/// How long, in real time, a simulation in which nothing can happen any more waits for a thread outside of it.
const OUTSIDE_PATIENCE: Duration = Duration::from_millis(500);

/// The future that [`Executor::run`] was given.
const MAIN: TaskId = 0;

pub(super) type TaskId = u64;

/// A process: the tasks that are killed and paused together.
pub(super) type ProcessId = usize;

/// What all handles of one simulation share.
pub(super) struct Executor {
    pub(super) seed: u64,
    /// Some moment to count from. It is never compared with anything outside.
    pub(super) origin: Instant,
    /// Nanoseconds of true time since the beginning. Beside the state, because clocks are read all the time.
    elapsed: Arc<AtomicU64>,
    state: Mutex<State>,
    ready: Arc<Ready>,
}

struct State {
    random: fastrand::Rng,
    tasks: BTreeMap<TaskId, Task>,
    processes: Vec<Process>,
    /// By the true time at which they go off, and a number that keeps those apart that go off together.
    timers: BTreeMap<(Duration, u64), Waker>,
    /// Tasks that were spawned and timers that were armed so far.
    numbers: u64,
    decisions: u64,
    /// Those since time has passed.
    decisions_at_once: u64,
    is_over: bool,
    trace: Trace,
}

struct Task {
    process: ProcessId,
    /// `None` while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
}

struct Process {
    name: String,
    is_killed: bool,
    is_paused: bool,
    /// Tasks that were woken while it was paused.
    held: Vec<TaskId>,
}

/// The tasks that are ready, in the order of their numbers: which of them runs next must depend on the seed alone, not
/// on who was woken first.
#[derive(Default)]
struct Ready {
    tasks: Mutex<Vec<TaskId>>,
    /// Something became ready. Only a simulation that has nothing left to do waits for it.
    woken: Condvar,
}

struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.add(self.task);
    }
}

impl Ready {
    fn add(&self, task: TaskId) {
        let mut tasks = lock(&self.tasks);
        if let Err(place) = tasks.binary_search(&task) {
            tasks.insert(place, task);
            self.woken.notify_one();
        }
    }

    fn waker(self: &Arc<Self>, task: TaskId) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, ready: self.clone() }))
    }
}

/// What the scheduler has decided.
enum Decision {
    Poll(TaskId),
    /// Time has passed, or a task was put aside: decide again.
    Again,
    /// Nothing is ready and no timer runs.
    Stuck,
}

impl Executor {
    pub(super) fn new(seed: u64, text: TraceText) -> Arc<Self> {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            tasks: BTreeMap::new(),
            processes: Vec::new(),
            timers: BTreeMap::new(),
            numbers: MAIN,
            decisions: 0,
            decisions_at_once: 0,
            is_over: false,
            trace: Trace::new(text),
        };
        Arc::new(Self {
            seed,
            origin: Instant::now(),
            elapsed: Arc::default(),
            state: Mutex::new(state),
            ready: Arc::default(),
        })
    }

    /// Runs `main` to its end, and everything else as far as it comes meanwhile.
    pub(super) fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let waker = self.ready.waker(MAIN);
        self.ready.add(MAIN);
        loop {
            match self.decide() {
                Decision::Poll(MAIN) => {
                    if let Poll::Ready(result) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return result;
                    }
                }
                Decision::Poll(task) => self.poll(task),
                Decision::Again => {}
                Decision::Stuck => self.wait_for_outside(),
            }
        }
    }

    fn decide(&self) -> Decision {
        let mut state = self.lock();
        let mut ready = lock(&self.ready.tasks);
        if ready.is_empty() {
            drop(ready);
            let Some(due) = self.pass_time(&mut state) else { return Decision::Stuck };
            drop(state);
            due.into_iter().for_each(Waker::wake);
            return Decision::Again;
        }
        let place = state.random.usize(..ready.len());
        let task = ready.remove(place);
        drop(ready);
        if task == MAIN {
            state.count(self.elapsed(), MAIN, None);
            return Decision::Poll(MAIN);
        }
        // It may have ended after it was woken.
        let Some(process) = state.tasks.get(&task).map(|task| task.process) else { return Decision::Again };
        if state.processes[process].is_paused {
            state.processes[process].held.push(task);
            return Decision::Again;
        }
        state.count(self.elapsed(), task, Some(process));
        Decision::Poll(task)
    }

    /// Nothing is ready: lets time pass until the next timers go off, and returns whom they wake.
    fn pass_time(&self, state: &mut State) -> Option<Vec<Waker>> {
        let (at, _) = *state.timers.first_key_value()?.0;
        self.elapsed.store(at.as_nanos() as u64, Ordering::Relaxed);
        state.decisions_at_once = 0;
        let later = state.timers.split_off(&(at, u64::MAX));
        Some(std::mem::replace(&mut state.timers, later).into_values().collect())
    }

    fn poll(&self, task: TaskId) {
        let taken = {
            let mut state = self.lock();
            let task = state.tasks.get_mut(&task);
            task.and_then(|task| Some((task.future.take()?, task.waker.clone())))
        };
        let Some((mut future, waker)) = taken else { return };
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        let mut state = self.lock();
        let gone = match (polled, state.tasks.get_mut(&task)) {
            (Poll::Pending, Some(task)) => {
                task.future = Some(future);
                return;
            }
            // It was killed by what it did.
            (Poll::Pending, None) | (Poll::Ready(()), None) => future,
            (Poll::Ready(()), Some(_)) => {
                state.tasks.remove(&task);
                future
            }
        };
        // What a task owns may do anything when it is dropped.
        drop(state);
        drop(gone);
    }

    fn wait_for_outside(&self) {
        let ready = lock(&self.ready.tasks);
        let is_empty = |ready: &mut Vec<TaskId>| ready.is_empty();
        let waited = self.ready.woken.wait_timeout_while(ready, OUTSIDE_PATIENCE, is_empty);
        let (_ready, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(
            !timeout.timed_out(),
            "nothing can happen any more: every task waits, no timer runs, and the simulation is not over"
        );
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::Relaxed))
    }

    /// Shows [`elapsed`](Self::elapsed), also to other threads.
    pub(super) fn clock(&self) -> impl Fn() -> Duration + Send + Sync + 'static + use<> {
        let elapsed = self.elapsed.clone();
        move || Duration::from_nanos(elapsed.load(Ordering::Relaxed))
    }

    pub(super) fn add_process(&self, name: String) -> ProcessId {
        let mut state = self.lock();
        state.processes.push(Process { name, is_killed: false, is_paused: false, held: Vec::new() });
        state.processes.len() - 1
    }

    pub(super) fn spawn(&self, process: ProcessId, future: BoxFuture<'static, ()>) {
        let mut state = self.lock();
        if state.is_over || state.processes[process].is_killed {
            drop(state);
            drop(future);
            return;
        }
        state.numbers += 1;
        let task = state.numbers;
        let waker = self.ready.waker(task);
        state.tasks.insert(task, Task { process, future: Some(future), waker });
        drop(state);
        self.ready.add(task);
    }

    pub(super) fn kill(&self, process: ProcessId) {
        let dropped: Vec<Task> = {
            let mut state = self.lock();
            state.processes[process].is_killed = true;
            state.tasks.extract_if(.., |_, task| task.process == process).map(|(_, task)| task).collect()
        };
        drop(dropped);
    }

    pub(super) fn is_killed(&self, process: ProcessId) -> bool {
        self.lock().processes[process].is_killed
    }

    pub(super) fn pause(&self, process: ProcessId) {
        self.lock().processes[process].is_paused = true;
    }

    pub(super) fn resume(&self, process: ProcessId) {
        let held = {
            let mut state = self.lock();
            let process = &mut state.processes[process];
            process.is_paused = false;
            std::mem::take(&mut process.held)
        };
        held.into_iter().for_each(|task| self.ready.add(task));
    }

    /// Arms a timer or gives it another waker; `None` when it has gone off.
    pub(super) fn arm(
        &self,
        at: Duration,
        key: Option<(Duration, u64)>,
        waker: &Waker,
    ) -> Option<(Duration, u64)> {
        if at <= self.elapsed() {
            return None;
        }
        let mut state = self.lock();
        let key = key.unwrap_or_else(|| {
            state.numbers += 1;
            (at, state.numbers)
        });
        let before = state.timers.insert(key, waker.clone());
        // Dropping a waker may drop whatever a task of another executor owns.
        drop(state);
        drop(before);
        Some(key)
    }

    pub(super) fn disarm(&self, key: (Duration, u64)) {
        let waker = self.lock().timers.remove(&key);
        drop(waker);
    }

    /// The next random number of the simulation.
    pub(super) fn random(&self) -> u64 {
        self.lock().random.u64(..)
    }

    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let now = self.elapsed();
        self.lock().trace.event(now, what);
    }

    pub(super) fn decisions(&self) -> u64 {
        self.lock().decisions
    }

    pub(super) fn with_trace<R>(&self, look: impl FnOnce(&Trace) -> R) -> R {
        look(&self.lock().trace)
    }

    /// Drops every task: they hold handles of this executor, which would otherwise never go.
    pub(super) fn end(&self) {
        let (tasks, timers) = {
            let mut state = self.lock();
            state.is_over = true;
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers))
        };
        drop(tasks);
        drop(timers);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Task `task` of `process` is polled next; the main future, without a process.
    fn count(&mut self, now: Duration, task: TaskId, process: Option<ProcessId>) {
        self.decisions += 1;
        self.decisions_at_once += 1;
        assert!(
            self.decisions_at_once < DECISIONS_AT_ONCE_MAX,
            "{DECISIONS_AT_ONCE_MAX} decisions and no time has passed: tasks wake each other for ever"
        );
        let processes = &self.processes;
        self.trace.decision(now, task, || match process {
            Some(process) => format!("{}#{task}", processes[process].name),
            None => "main".into(),
        });
    }
}

/// A panic elsewhere leaves nothing half changed: every change is complete before the lock is given back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
