//! `Sim` and `SimRuntime`: a simulation, and the runtime of one process in it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use openconsensus::{AsyncRuntime, MaybeSend};

use super::clock::NodeClock;
use super::executor::{Executor, ProcessId};
use super::machine::Machine;
use super::trace::TraceText;
use crate::any_runtime::{AnyRuntime, Notes};

/// A simulation: processes that run on one thread, in virtual time, in an order that a seed chooses.
///
/// The same seed and the same program give the same run, decision by decision, as long as the program asks nothing but
/// its [`SimRuntime`] for time and chance, keeps to the thread, and never depends on the order of a hash map. Two runs
/// can be compared by [`trace_hash`](Self::trace_hash).
///
/// Dropping it ends every task.
pub struct Sim {
    world: SimRuntime,
}

/// The runtime of one process in a [`Sim`]: its tasks and its clock. A clone is another handle to the same process.
///
/// Which of the tasks that are ready runs next is chosen by the seed of the simulation. Time passes only when none is,
/// up to the next timer. A task can be woken from another thread too, but when that happens is not up to the seed.
#[derive(Clone)]
pub struct SimRuntime {
    executor: Arc<Executor>,
    process: ProcessId,
    clock: NodeClock,
    machine: Machine,
}

impl Sim {
    /// The simulation of `seed`. Its trace is a hash only.
    pub fn new(seed: u64) -> Self {
        Self::with_trace(seed, TraceText::None)
    }

    /// As [`new`](Self::new), with the trace as text too.
    pub fn with_trace(seed: u64, text: TraceText) -> Self {
        let executor = Executor::new(seed, text);
        let process = executor.add_process("world".into());
        let (clock, machine) = (NodeClock::exact(), Machine::default());
        Self { world: SimRuntime { executor, process, clock, machine } }
    }

    /// Its seed.
    pub fn seed(&self) -> u64 {
        self.world.executor.seed
    }

    /// What is outside of all nodes: a process with an exact clock, which is never killed. For clients, networks, disks
    /// and whoever makes things go wrong.
    pub fn world(&self) -> SimRuntime {
        self.world.clone()
    }

    /// Runs `main` to its end, and every other task as far as it comes meanwhile.
    ///
    /// # Panics
    ///
    /// When `main` or a task panics; when nothing can happen any more; when tasks wake each other for ever without any
    /// time passing.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        self.world.executor.run(main)
    }

    /// How much true time has passed.
    pub fn elapsed(&self) -> Duration {
        self.world.executor.elapsed()
    }

    /// How often a task was chosen and polled.
    pub fn decisions(&self) -> u64 {
        self.world.executor.decisions()
    }

    /// A hash over all that has happened: every decision of the scheduler and every note, each with its time.
    pub fn trace_hash(&self) -> u64 {
        self.world.executor.with_trace(|trace| trace.hash())
    }

    /// All that has happened, a line for each event, with the seconds since the beginning. Empty unless it was asked for
    /// by [`with_trace`](Self::with_trace).
    pub fn trace(&self) -> String {
        self.world.executor.with_trace(|trace| trace.text().to_owned())
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.world.executor.end();
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Sim");
        debug.field("seed", &self.seed()).field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

impl SimRuntime {
    /// Another process of the same simulation. `name` stands for it in the trace.
    pub fn process(&self, name: impl Into<String>, clock: NodeClock) -> Self {
        let process = self.executor.add_process(name.into());
        Self { executor: self.executor.clone(), process, clock, machine: Machine::default() }
    }

    /// Kills the process: all of its tasks are dropped where they stand, between two polls, and it runs no others from
    /// now on.
    pub fn kill(&self) {
        self.executor.kill(self.process);
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        self.executor.is_killed(self.process)
    }

    /// None of its tasks runs until [`resume`](Self::resume), while time goes on, on its clock too: as when a process is
    /// stopped by a signal.
    pub fn pause(&self) {
        self.executor.pause(self.process);
    }

    /// As [`pause`](Self::pause), but its clock stands still until [`resume`](Self::resume), and only its
    /// [`wall_clock`](AsyncRuntime::wall_clock) goes on: as when a machine is suspended.
    pub fn suspend(&self) {
        self.pause();
        self.machine.suspend(self.elapsed());
    }

    /// Ends a [`pause`](Self::pause) or a [`suspend`](Self::suspend).
    pub fn resume(&self) {
        self.machine.resume(self.elapsed());
        self.executor.resume(self.process);
    }

    /// Sets its [`wall_clock`](AsyncRuntime::wall_clock) to so much more or less than it would show. No other clock changes.
    pub fn set_wall_clock(&self, ahead_ms: i64) {
        self.machine.set_wall_clock(ahead_ms);
    }

    /// Resolves when `duration` has passed on the clock of this process.
    pub async fn let_pass(&self, duration: Duration) {
        self.any().let_pass(duration).await;
    }

    /// A random number that the seed of the simulation chooses.
    pub fn random(&self) -> u64 {
        self.executor.random()
    }

    /// A generator of random numbers that is seeded by the simulation.
    pub fn generator(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.random())
    }

    /// Adds a line to the trace.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.executor.note(what);
    }

    /// How much true time has passed since the simulation began, whatever the clock of this process shows.
    pub fn elapsed(&self) -> Duration {
        self.executor.elapsed()
    }

    /// Shows [`elapsed`](Self::elapsed): the clock for a [`Recorder`](crate::linearizability::Recorder).
    pub fn clock(&self) -> impl Fn() -> Duration + Send + Sync + 'static + use<> {
        self.executor.clock()
    }

    /// The same process for those who do not care what runs them. What they note is added to the trace.
    pub fn any(&self) -> AnyRuntime {
        AnyRuntime::with_notes(self.clone(), self.clone())
    }

    /// The true time at which a timer for `deadline` goes off.
    fn timer(&self, deadline: Instant) -> Duration {
        let now = self.executor.elapsed();
        let shown = deadline.saturating_duration_since(self.executor.origin);
        // It goes off earlier on its own clock if the machine is suspended before.
        let due = (self.clock.when_shown(shown) + self.machine.lost(now)).max(now);
        let NodeClock { lateness_max, early_share, .. } = self.clock;
        if lateness_max.is_zero() && early_share == 0.0 {
            return due;
        }
        let mut random = self.generator();
        if random.f64() < early_share {
            return now + (due - now).mul_f64(random.f64());
        }
        due.saturating_add(lateness_max.mul_f64(random.f64()))
    }
}

impl AsyncRuntime for SimRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        self.executor.spawn(self.process, Box::pin(task));
    }

    fn now(&self) -> Instant {
        let elapsed = self.executor.elapsed();
        self.executor.origin + self.clock.shown_at(elapsed - self.machine.lost(elapsed))
    }

    fn wall_clock(&self) -> SystemTime {
        self.machine.wall_clock(self.clock.shown_at(self.executor.elapsed()))
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        Sleep { executor: self.executor.clone(), at: self.timer(deadline), key: None }
    }

    fn seed(&self) -> u64 {
        self.executor.random()
    }
}

impl Notes for SimRuntime {
    fn note(&self, what: fmt::Arguments<'_>) {
        self.executor.note(what);
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SimRuntime");
        debug.field("process", &self.process).field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A timer. It is armed when it is polled for the first time.
struct Sleep {
    executor: Arc<Executor>,
    /// In true time.
    at: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.key = self.executor.arm(self.at, self.key, cx.waker());
        if self.key.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.executor.disarm(key);
        }
    }
}
