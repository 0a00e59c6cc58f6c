//! Messages that wait for one peer in one lane. Bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use openconsensus::{Message, TypeConfig};

/// Which message gives way when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// For votes, heartbeats and answers: each says what holds now, so a later one is worth more than an earlier one.
    DropOldest,
    /// For appends: each builds on the one before. Those that wait in an unbroken row are useful, what comes after a
    /// gap is refused by the peer. So the row is kept and its continuation dropped: the leader sends that again.
    DropNewest,
}

/// One consumer takes from it: the call that is open to the peer, or whoever waits to open one. Calls are numbered, so
/// that one that is over but not yet gone cannot take what the next one should carry.
#[derive(Debug)]
pub(crate) struct Queue<C: TypeConfig> {
    messages_max: u64,
    bytes_max: u64,
    when_full: WhenFull,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C: TypeConfig> {
    messages: VecDeque<(Message<C>, u64)>,
    bytes: u64,
    dropped: u64,
    /// The number of the call that may take.
    call: u64,
    waker: Option<Waker>,
}

impl<C: TypeConfig> Queue<C> {
    pub(crate) fn new(messages_max: u64, bytes_max: u64, when_full: WhenFull) -> Self {
        let state = State { messages: VecDeque::new(), bytes: 0, dropped: 0, call: 0, waker: None };
        Self { messages_max, bytes_max, when_full, state: Mutex::new(state) }
    }

    /// Adds messages at the end and drops what does not fit.
    pub(crate) fn push(&self, messages: impl IntoIterator<Item = Message<C>>) {
        let mut state = self.state();
        for message in messages {
            let bytes = message.size_bytes();
            if self.make_room(&mut state, bytes) {
                state.messages.push_back((message, bytes));
                state.bytes += bytes;
            } else {
                state.dropped += 1;
            }
        }
        if let Some(waker) = state.take_waker_if_filled() {
            drop(state);
            waker.wake();
        }
    }

    /// Whether there is room for a message of `bytes`, after dropping older ones where that is the rule. An empty
    /// queue has room for any message.
    fn make_room(&self, state: &mut State<C>, bytes: u64) -> bool {
        let fits = |state: &State<C>| {
            let has_place = (state.messages.len() as u64) < self.messages_max;
            state.messages.is_empty() || has_place && state.bytes.saturating_add(bytes) <= self.bytes_max
        };
        while self.when_full == WhenFull::DropOldest && !fits(state) {
            state.pop();
            state.dropped += 1;
        }
        fits(state)
    }

    /// Begins a call: from now on only it can take.
    pub(crate) fn begin_call(&self) -> u64 {
        let mut state = self.state();
        state.call += 1;
        state.call
    }

    /// Ends the call that is open: its consumer finds the end of its stream.
    pub(crate) fn end_call(&self) {
        let mut state = self.state();
        state.call += 1;
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Takes messages from the front, at least one and else not more than `bytes_max`. `None` when `call` is over.
    pub(crate) fn poll_take(
        &self,
        call: u64,
        bytes_max: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Vec<Message<C>>>> {
        let mut state = self.state();
        if state.call != call {
            return Poll::Ready(None);
        }
        let Some((first, mut bytes)) = state.pop() else {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let mut taken = vec![first];
        while let Some((_, next)) = state.messages.front()
            && bytes.saturating_add(*next) <= bytes_max
            && let Some((message, size)) = state.pop()
        {
            bytes += size;
            taken.push(message);
        }
        Poll::Ready(Some(taken))
    }

    /// Resolves when there is something to take.
    pub(crate) async fn filled(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state();
            if state.messages.is_empty() {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.dropped += state.messages.len() as u64;
        state.messages.clear();
        state.bytes = 0;
    }

    /// How many messages wait, how many bytes they have, and how many were dropped so far.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.messages.len() as u64, state.bytes, state.dropped)
    }

    /// Counts messages that were taken and could not be sent.
    pub(crate) fn count_dropped(&self, messages: u64) {
        self.state().dropped += messages;
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        // Nothing in here can panic half way, so a poisoned lock protects a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: TypeConfig> State<C> {
    fn pop(&mut self) -> Option<(Message<C>, u64)> {
        let (message, bytes) = self.messages.pop_front()?;
        self.bytes -= bytes;
        Some((message, bytes))
    }

    fn take_waker_if_filled(&mut self) -> Option<Waker> {
        if self.messages.is_empty() { None } else { self.waker.take() }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::task::noop_waker;
    use openconsensus::{Body, Entry, LogId, Payload};

    use super::*;
    use crate::testing::Text;

    fn heartbeat(round: u64) -> Message<Text> {
        Message { term: 1, body: Body::Heartbeat { round, commit: LogId::ZERO } }
    }

    fn append(bytes: usize) -> Message<Text> {
        let entry = Entry { log_id: LogId::new(1, 1), payload: Payload::Command("x".repeat(bytes)) };
        Message { term: 1, body: Body::Append { prev: LogId::ZERO, entries: vec![entry].into(), commit: 0 } }
    }

    fn rounds(messages: Vec<Message<Text>>) -> Vec<u64> {
        let round = |message: Message<Text>| match message.body {
            Body::Heartbeat { round, .. } => round,
            _ => panic!("only heartbeats were pushed"),
        };
        messages.into_iter().map(round).collect()
    }

    fn take(queue: &Queue<Text>, call: u64, bytes_max: u64) -> Poll<Option<Vec<u64>>> {
        let taken = queue.poll_take(call, bytes_max, &mut Context::from_waker(&noop_waker()));
        taken.map(|taken| taken.map(rounds))
    }

    #[test]
    fn a_full_queue_of_urgent_messages_drops_the_oldest() {
        let queue = Queue::new(3, u64::MAX, WhenFull::DropOldest);
        queue.push((1..=5).map(heartbeat));
        let call = queue.begin_call();
        assert_eq!(take(&queue, call, u64::MAX), Poll::Ready(Some(vec![3, 4, 5])));
        assert_eq!(queue.counts(), (0, 0, 2));
    }

    #[test]
    fn a_full_queue_of_appends_drops_the_newest() {
        let queue = Queue::new(3, u64::MAX, WhenFull::DropNewest);
        queue.push((1..=5).map(heartbeat));
        let call = queue.begin_call();
        assert_eq!(take(&queue, call, u64::MAX), Poll::Ready(Some(vec![1, 2, 3])));
        assert_eq!(queue.counts(), (0, 0, 2));
    }

    #[test]
    fn bytes_are_bounded_but_one_message_always_fits() {
        let queue = Queue::new(100, 1000, WhenFull::DropNewest);
        queue.push([append(5000)]);
        assert_eq!(queue.counts().0, 1);
        queue.push([append(10)]);
        let (messages, bytes, dropped) = queue.counts();
        assert_eq!((messages, dropped), (1, 1));
        assert!(5000 < bytes);
        queue.clear();
        assert_eq!(queue.counts(), (0, 0, 2));
    }

    #[test]
    fn a_batch_has_at_least_one_message_and_else_keeps_to_the_limit() {
        let queue = Queue::new(100, u64::MAX, WhenFull::DropNewest);
        queue.push((1..=4).map(heartbeat));
        let call = queue.begin_call();
        let size = heartbeat(1).size_bytes();
        assert_eq!(take(&queue, call, 0), Poll::Ready(Some(vec![1])));
        assert_eq!(take(&queue, call, 2 * size), Poll::Ready(Some(vec![2, 3])));
        assert_eq!(take(&queue, call, 2 * size), Poll::Ready(Some(vec![4])));
        assert_eq!(take(&queue, call, 2 * size), Poll::Pending);
    }

    #[test]
    fn a_call_that_is_over_takes_nothing() {
        let queue = Queue::new(100, u64::MAX, WhenFull::DropNewest);
        let old = queue.begin_call();
        assert_eq!(take(&queue, old, 1), Poll::Pending);
        let new = queue.begin_call();
        queue.push([heartbeat(1)]);
        assert_eq!(take(&queue, old, 1), Poll::Ready(None));
        assert!(queue.filled().now_or_never().is_some());
        assert_eq!(take(&queue, new, 1), Poll::Ready(Some(vec![1])));
        queue.end_call();
        assert_eq!(take(&queue, new, 1), Poll::Ready(None));
    }
}
