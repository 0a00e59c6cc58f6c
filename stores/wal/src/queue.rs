//! The hand-over between those who write and the thread that does the I/O, and back.
//!
//! To wake a thread that sleeps costs as much as a short write to a fast disk. So the thread is woken only when it sleeps;
//! before it falls asleep it looks for more for a short while, as long as that pays; and whoever waits is woken once for
//! each call, before anything else is done.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;

/// What waits for the thread, in order.
pub(crate) struct Queue<R> {
    waiting: Mutex<Vec<R>>,
    /// Whether there is something to do: `waiting`, or the end.
    is_due: AtomicBool,
    is_asleep: AtomicBool,
    is_closed: AtomicBool,
    /// The thread that takes.
    taker: OnceLock<Thread>,
}

impl<R> Queue<R> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(Vec::new()),
            is_due: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            taker: OnceLock::new(),
        }
    }

    pub(crate) fn push(&self, request: R) {
        lock(&self.waiting).push(request);
        self.rouse();
    }

    /// No more will come; what is waiting is still taken.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.rouse();
    }

    fn rouse(&self) {
        // In one order with `is_asleep`: either this thread sees that the other one sleeps, or that one sees that there
        // is something to do before it falls asleep.
        self.is_due.store(true, Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(taker) = self.taker.get()
        {
            taker.unpark();
        }
    }

    /// Makes the thread that calls it the one that takes.
    pub(crate) fn set_taker(&self) {
        let _ = self.taker.set(std::thread::current());
    }

    /// Whether there is something to take, or the end.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::SeqCst)
    }

    /// Waits for something and moves all of it into `taken`, which is empty. `false` when nothing will come any more.
    pub(crate) fn take(&self, taken: &mut Vec<R>, patience: &mut Patience) -> bool {
        loop {
            if !self.is_due() && !patience.spin(|| self.is_due()) {
                self.sleep();
            }
            // Before the look: what is pushed after it is seen by the next call.
            self.is_due.store(false, Ordering::SeqCst);
            let is_closed = self.is_closed.load(Ordering::SeqCst);
            std::mem::swap(taken, &mut *lock(&self.waiting));
            if !taken.is_empty() {
                if is_closed {
                    self.is_due.store(true, Ordering::SeqCst);
                }
                return true;
            }
            if is_closed {
                return false;
            }
        }
    }

    fn sleep(&self) {
        while !self.is_due() {
            self.is_asleep.store(true, Ordering::SeqCst);
            if !self.is_due() {
                std::thread::park();
            }
            self.is_asleep.store(false, Ordering::SeqCst);
        }
    }
}

/// How long to look for more before falling asleep: it is learned whether that pays.
pub(crate) struct Patience {
    spin_max: Duration,
    /// From 0 to [`TRUST_MAX`](Self::TRUST_MAX): how often looking has paid lately.
    trust: u32,
    /// Falls asleep at once so many times more.
    skips: u32,
}

impl Patience {
    const TRUST_MAX: u32 = 8;
    /// Without any trust it is tried once in so many times.
    const SKIPS: u32 = 16;

    pub(crate) fn new(spin_us_max: u64) -> Self {
        Self { spin_max: Duration::from_micros(spin_us_max), trust: Self::TRUST_MAX / 2, skips: 0 }
    }

    /// Looks for a while, and says whether something has come.
    fn spin(&mut self, is_due: impl Fn() -> bool) -> bool {
        if self.spin_max.is_zero() {
            return false;
        }
        if self.trust == 0 && self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        let begun = Instant::now();
        loop {
            // Whoever is waited for may be waiting for this processor.
            std::thread::yield_now();
            if is_due() {
                self.trust = (self.trust + 1).min(Self::TRUST_MAX);
                return true;
            }
            if self.spin_max <= begun.elapsed() {
                break;
            }
        }
        self.trust = self.trust.saturating_sub(1);
        self.skips = Self::SKIPS;
        false
    }
}

/// The first error, which every later call returns: nobody knows what reached the disk.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl Failure {
    pub(crate) fn new(kind: io::ErrorKind, text: impl Into<Arc<str>>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.to_string())
    }
}

/// How far the calls of one group have been carried out, and who waits for them.
#[derive(Default)]
pub(crate) struct Progress {
    issued: AtomicU64,
    done: AtomicU64,
    /// Set once: no call behind `done` will be carried out.
    failure: OnceLock<Failure>,
    waker: AtomicWaker,
}

impl Progress {
    /// The number of the next call.
    pub(crate) fn issue(&self) -> u64 {
        self.issued.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All calls up to number `call` are durable.
    pub(crate) fn complete(&self, call: u64) {
        self.done.store(call, Ordering::Release);
        self.waker.wake();
    }

    /// No further call will be carried out.
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
        self.waker.wake();
    }

    fn outcome(&self, call: u64) -> Option<io::Result<()>> {
        if call <= self.done.load(Ordering::Acquire) {
            return Some(Ok(()));
        }
        let failure = self.failure.get()?;
        // It may have been done right before the end.
        if call <= self.done.load(Ordering::Acquire) { Some(Ok(())) } else { Some(Err(failure.error())) }
    }
}

/// The outcome of one call. Calls of one group are waited for one at a time.
#[must_use = "the outcome may be an error"]
pub(crate) struct Done {
    progress: Arc<Progress>,
    call: u64,
}

impl Done {
    pub(crate) fn new(progress: Arc<Progress>, call: u64) -> Self {
        Self { progress, call }
    }
}

impl Future for Done {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(outcome) = self.progress.outcome(self.call) {
            return Poll::Ready(outcome);
        }
        self.progress.waker.register(context.waker());
        // It may have come to an end before the waker was there.
        self.progress.outcome(self.call).map_or(Poll::Pending, Poll::Ready)
    }
}

/// A panic elsewhere does not make the data worse: every change is complete before the lock is given back.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn everything_that_is_pushed_is_taken_in_order_and_then_the_end() {
        for spin_us_max in [0, 50] {
            let queue = Arc::new(Queue::new());
            let taker = std::thread::spawn({
                let queue = queue.clone();
                move || {
                    queue.set_taker();
                    let mut patience = Patience::new(spin_us_max);
                    let (mut all, mut taken) = (Vec::new(), Vec::new());
                    while queue.take(&mut taken, &mut patience) {
                        all.append(&mut taken);
                    }
                    all
                }
            });
            for number in 0..2000 {
                queue.push(number);
                if number % 7 == 0 {
                    std::thread::yield_now();
                }
            }
            queue.close();
            assert_eq!(taker.join().unwrap(), (0..2000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_call_is_answered_when_it_is_done_and_all_others_when_none_will_be() {
        let progress = Arc::new(Progress::default());
        let calls = [progress.issue(), progress.issue()];
        let [first, second] = calls.map(|call| Done::new(progress.clone(), call));
        let waiting = std::thread::spawn(move || block_on(first));
        progress.complete(1);
        waiting.join().unwrap().unwrap();
        progress.fail(Failure::new(io::ErrorKind::StorageFull, "full"));
        progress.fail(Failure::new(io::ErrorKind::Other, "later"));
        let error = block_on(second).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::StorageFull, "full".into()));
        block_on(Done::new(progress, 1)).unwrap();
    }

    #[test]
    fn looking_for_more_ends_when_it_does_not_pay_and_begins_again_when_it_does() {
        let mut patience = Patience::new(1);
        while 0 < patience.trust {
            assert!(!patience.spin(|| false));
        }
        let calls = std::iter::repeat_with(|| patience.spin(|| true)).take_while(|found| !found).count();
        assert_eq!(calls, Patience::SKIPS as usize, "it looks once in so many times");
        assert!(patience.spin(|| true));
    }
}
