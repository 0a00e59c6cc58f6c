//! Writes as a stream: one outcome for each command, in order, each as soon as it is known.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};

use crate::driver::{Acquire, Admitted, Answer, Patience};
use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::Raft;
use super::write::WRITE_OVERHEAD_BYTES;

/// So many commands are handed over in one poll before other tasks of the thread get their turn.
const COMMANDS_PER_POLL_MAX: usize = 1024;

impl<C: TypeConfig> Raft<C> {
    /// Replicates commands in their order, and returns a stream of what becomes of each: one outcome for each command, in
    /// the order of the commands, each as soon as it is known and all before it have been taken.
    ///
    /// Every command is a [`write`](Self::write) of its own: others may come between them, and each has an outcome of its
    /// own, with the meaning that [`WriteError`] gives it. After one that failed the following ones are still written.
    /// Those that are applied are applied in the order of the stream.
    ///
    /// Nothing happens before the stream is polled. Then as many commands are taken from `commands` and handed over as
    /// [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) admits, without waiting for the answers of those
    /// before them; the others follow as earlier ones are answered. So `commands` may be longer than memory, and need
    /// not exist before they are asked for. Like other writers the stream waits for its turn, and during a transfer of
    /// leadership. It holds outcomes of no more commands than are admitted at once: who does not take them slows it down.
    ///
    /// A stream that is dropped gives up the answers, not the writes: what was handed over may be carried out, what was
    /// not never will be. It keeps the node alive until then.
    ///
    /// ```no_run
    /// # async fn example<C: openconsensus::TypeConfig>(raft: openconsensus::Raft<C>, commands: Vec<C::Command>) {
    /// use futures::StreamExt;
    ///
    /// let mut outcomes = std::pin::pin!(raft.write_stream(commands));
    /// while let Some(outcome) = outcomes.next().await {
    ///     match outcome {
    ///         Ok(response) => println!("applied: {response:?}"),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn write_stream<I>(
        &self,
        commands: I,
    ) -> impl Stream<Item = Result<C::Response, WriteError<C>>> + use<C, I>
    where
        I: IntoIterator<Item = C::Command>,
    {
        WriteStream {
            raft: self.clone(),
            commands: Some(commands.into_iter()),
            next: None,
            open: VecDeque::new(),
            open_bytes: 0,
        }
    }
}

/// The stream. It is not self-referential: whatever is polled in it can be moved.
struct WriteStream<C: TypeConfig, I> {
    raft: Raft<C>,
    /// What has not been looked at; `None` when there is no more.
    commands: Option<I>,
    /// The command that waits to be admitted.
    next: Option<(C::Command, u64, Acquire)>,
    /// Outcomes that have not been taken, in order.
    open: VecDeque<Open<C>>,
    /// What their commands were admitted with.
    open_bytes: u64,
}

/// The outcome of one command.
struct Open<C: TypeConfig> {
    bytes: u64,
    outcome: Outcome<C>,
}

enum Outcome<C: TypeConfig> {
    Awaited(Answer<C>),
    /// It was never handed over, for this reason.
    Refused(WriteError<C>),
}

impl<C: TypeConfig, I> Unpin for WriteStream<C, I> {}

impl<C: TypeConfig, I: Iterator<Item = C::Command>> WriteStream<C, I> {
    /// Hands over as many commands as are admitted.
    fn hand_over(&mut self, cx: &mut Context<'_>) {
        let raft = self.raft.clone();
        let writes = &raft.shared().writes;
        for _ in 0..COMMANDS_PER_POLL_MAX {
            if let Some((_, _, acquire)) = &mut self.next {
                let Poll::Ready(permit) = acquire.poll_unpin(cx) else { return };
                let Some((command, bytes, _)) = self.next.take() else { return };
                let admitted = permit.map(|permit| permit.into_admitted(writes));
                self.push(&raft, command, bytes, admitted, cx);
                continue;
            }
            // So much is handed over and its outcomes have not been taken.
            if writes.max() <= self.open_bytes {
                return;
            }
            let Some(command) = self.commands.as_mut().and_then(Iterator::next) else {
                self.commands = None;
                return;
            };
            match raft.check_size(&command) {
                Ok(bytes) => match writes.try_admit(bytes) {
                    Ok(admitted) => self.push(&raft, command, bytes, Some(admitted), cx),
                    Err(_) => self.next = Some((command, bytes, writes.acquire(bytes))),
                },
                Err(too_large) => self.open(WRITE_OVERHEAD_BYTES, Outcome::Refused(too_large)),
            }
        }
        cx.waker().wake_by_ref();
    }

    fn push(
        &mut self,
        raft: &Raft<C>,
        command: C::Command,
        bytes: u64,
        admitted: Option<Admitted<'_>>,
        cx: &mut Context<'_>,
    ) {
        let shared = raft.shared();
        let now = || shared.clock.now();
        let pushed = admitted.and_then(|admitted| {
            shared.inbox.push_write(command, cx.waker(), Patience::Waits, admitted, now).ok()
        });
        let outcome = pushed.map_or_else(|| Outcome::Refused(shared.reason().into()), Outcome::Awaited);
        self.open(bytes, outcome);
    }

    fn open(&mut self, bytes: u64, outcome: Outcome<C>) {
        self.open_bytes += bytes;
        self.open.push_back(Open { bytes, outcome });
    }
}

impl<C: TypeConfig, I: Iterator<Item = C::Command>> Stream for WriteStream<C, I> {
    type Item = Result<C::Response, WriteError<C>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.hand_over(cx);
        let Some(first) = self.open.front_mut() else {
            return if self.commands.is_none() && self.next.is_none() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        let outcome = match &mut first.outcome {
            Outcome::Awaited(answer) => match answer.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => outcome,
            },
            Outcome::Refused(error) => Err(error.clone()),
        };
        if let Some(taken) = self.open.pop_front() {
            self.open_bytes -= taken.bytes;
        }
        Poll::Ready(Some(outcome))
    }
}
