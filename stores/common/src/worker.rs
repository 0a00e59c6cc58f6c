//! A thread that owns a value and carries out calls on it, one at a time and in order.
//!
//! All I/O happens on such threads: whoever polls a future of a store is never blocked by a disk.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::channel::oneshot;

/// What a thread owns, and what it does when nobody calls.
pub trait Work: Send + 'static {
    /// How long after the last call [`idle`](Self::idle) is to run; `None` when there is nothing to do.
    fn idle_after(&self) -> Option<Duration> {
        None
    }

    /// Does a short piece of what can wait.
    fn idle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Does what is due after each call, when its caller has been answered.
    fn after_call(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Ends the work, before the value is dropped.
    fn stop(&mut self) {}
}

/// The thread. Dropping it carries out the calls that are queued, then ends the thread and waits for that: what the
/// thread owned has been dropped, and its files are closed.
pub struct Worker<W> {
    handle: Handle<W>,
    thread: Option<JoinHandle<()>>,
}

/// Calls a [`Worker`]. Does not keep it alive.
pub struct Handle<W> {
    sender: mpsc::Sender<Message<W>>,
    name: Arc<str>,
}

type Job<W> = Box<dyn FnOnce(&mut Slot<W>) + Send>;

enum Message<W> {
    Call(Job<W>),
    Stop,
}

struct Slot<W> {
    work: W,
    failure: Option<Failure>,
}

/// The first error of a thread, which every later call returns: nobody knows what reached the disk.
#[derive(Clone)]
struct Failure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl<W: Work> Worker<W> {
    /// Starts a thread called `thread` that owns `work`; `name` says in errors what it works on.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread left.
    pub fn spawn(thread: &str, name: impl Into<Arc<str>>, work: W) -> io::Result<Self> {
        let name = name.into();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(thread.into())
            .spawn(move || run(Slot { work, failure: None }, &receiver))?;
        Ok(Self { handle: Handle { sender, name }, thread: Some(thread) })
    }

    /// Calls it.
    pub fn handle(&self) -> &Handle<W> {
        &self.handle
    }
}

impl<W> Drop for Worker<W> {
    fn drop(&mut self) {
        // It fails only when the thread is gone already.
        let _ = self.handle.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported to whoever waited for its answer.
            let _ = thread.join();
        }
    }
}

impl<W> Clone for Handle<W> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), name: self.name.clone() }
    }
}

impl<W: Work> Handle<W> {
    /// Queues a call, at once; the future is its answer. An error is remembered, and all later calls return it.
    pub fn call<R, F>(&self, f: F) -> Call<R>
    where
        R: Send + 'static,
        F: FnOnce(&mut W) -> io::Result<R> + Send + 'static,
    {
        self.queue(move |slot, _| {
            let result = f(&mut slot.work);
            if let Err(error) = &result {
                slot.fail(error);
            }
            Some(result)
        })
    }

    /// As [`call`](Self::call), but nothing is done when the answer is not wanted any more by the time it would begin.
    pub fn call_if_wanted<R, F>(&self, f: F) -> Call<R>
    where
        R: Send + 'static,
        F: FnOnce(&mut W) -> io::Result<R> + Send + 'static,
    {
        self.queue(move |slot, is_wanted| {
            if !is_wanted {
                return None;
            }
            let result = f(&mut slot.work);
            if let Err(error) = &result {
                slot.fail(error);
            }
            Some(result)
        })
    }

    /// As [`call`](Self::call), but an error is not remembered: it changed nothing.
    pub fn read<R, F>(&self, f: F) -> Call<R>
    where
        R: Send + 'static,
        F: FnOnce(&mut W) -> io::Result<R> + Send + 'static,
    {
        self.queue(move |slot, _| Some(f(&mut slot.work)))
    }

    fn queue<R, F>(&self, f: F) -> Call<R>
    where
        R: Send + 'static,
        F: FnOnce(&mut Slot<W>, bool) -> Option<io::Result<R>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let name = self.name.clone();
        let call = Box::new(move |slot: &mut Slot<W>| {
            let result = match &slot.failure {
                Some(failure) => Some(Err(failure.error())),
                None => f(slot, !reply.is_canceled()),
            };
            if let Some(result) = result {
                // Whoever asked may have gone; the call was carried out all the same.
                let _ = reply.send(result.map_err(|error| named(&name, &error)));
            }
        });
        // When the thread is gone the message is dropped here, the reply with it, and the future sees that.
        let _ = self.sender.send(Message::Call(call));
        Call { answer, name: self.name.clone() }
    }
}

impl<W> Slot<W> {
    fn fail(&mut self, error: &io::Error) {
        if self.failure.is_none() {
            self.failure = Some(Failure { kind: error.kind(), text: error.to_string().into() });
        }
    }
}

impl Failure {
    fn error(&self) -> io::Error {
        io::Error::new(self.kind, format!("an earlier operation failed: {}", self.text))
    }
}

/// The error with the name of what it happened to.
fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn run<W: Work>(mut slot: Slot<W>, receiver: &mpsc::Receiver<Message<W>>) {
    loop {
        let idle_after = slot.failure.is_none().then(|| slot.work.idle_after()).flatten();
        let received = match idle_after {
            Some(time) => receiver.recv_timeout(time),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let result = match received {
            Ok(Message::Call(call)) => {
                call(&mut slot);
                if slot.failure.is_none() { slot.work.after_call() } else { Ok(()) }
            }
            Err(RecvTimeoutError::Timeout) => slot.work.idle(),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(error) = result {
            tracing::error!(%error, "work between calls failed");
            slot.fail(&error);
        }
    }
    if slot.failure.is_none() {
        slot.work.stop();
    }
}

/// The answer to a call.
#[must_use = "the answer may be an error"]
pub struct Call<R> {
    answer: oneshot::Receiver<io::Result<R>>,
    name: Arc<str>,
}

impl<R> Future for Call<R> {
    type Output = io::Result<R>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        Poll::Ready(match ready!(Pin::new(&mut self.answer).poll(context)) {
            Ok(result) => result,
            Err(oneshot::Canceled) => {
                Err(io::Error::other(format!("{}: the store is closed, or its thread panicked", self.name)))
            }
        })
    }
}

/// Runs `f` on a thread of its own, called `thread`. It can ask whether its result is still wanted. `name` says in errors
/// what it works on.
///
/// # Errors
///
/// When the operating system has no thread left.
pub fn run_aside<R, F>(thread: &str, name: impl Into<Arc<str>>, f: F) -> io::Result<Call<R>>
where
    R: Send + 'static,
    F: FnOnce(&dyn Fn() -> bool) -> io::Result<R> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let name: Arc<str> = name.into();
    let on_thread = name.clone();
    std::thread::Builder::new().name(thread.into()).spawn(move || {
        let result = f(&|| !reply.is_canceled());
        let _ = reply.send(result.map_err(|error| named(&on_thread, &error)));
    })?;
    Ok(Call { answer, name })
}
