//! A queue that many push to under a short lock and one loop takes whole: draining it is batching.

use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::poll_fn;
use futures::task::AtomicWaker;

use super::sync::lock;

/// A queue with any number of producers and one consumer. It has no limit of its own: what goes in has been admitted by
/// a [`Limit`](super::limit::Limit) or is bounded by what the engine has asked for.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    consumer: AtomicWaker,
}

struct State<T> {
    items: Vec<T>,
    /// When the first of them was queued that came with a time.
    since: Option<Instant>,
    closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        let state = State { items: Vec::new(), since: None, closed: false };
        Self { state: Mutex::new(state), consumer: AtomicWaker::new() }
    }

    /// Queues an item. `Err` gives it back when the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        self.push_in(item, |_| {})
    }

    /// Queues an item whose wait is measured. The clock is asked once for all that are taken together: for the first.
    pub(crate) fn push_timed(&self, item: T, now: impl FnOnce() -> Instant) -> Result<(), T> {
        self.push_in(item, |since| {
            since.get_or_insert_with(now);
        })
    }

    fn push_in(&self, item: T, note: impl FnOnce(&mut Option<Instant>)) -> Result<(), T> {
        let was_empty = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(item);
            }
            note(&mut state.since);
            state.items.push(item);
            state.items.len() == 1
        };
        // A wake-up is what costs: only the first of many that are taken together pays for it.
        if was_empty {
            self.consumer.wake();
        }
        Ok(())
    }

    /// Lets nothing more in and wakes the consumer.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.consumer.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Takes what is queued, be the queue closed or not.
    pub(crate) fn drain(&self) -> Vec<T> {
        std::mem::take(&mut lock(&self.state).items)
    }

    /// Moves everything into `taken`, which must be empty and gives its allocation in exchange. Ready when there is
    /// something, or when the queue is closed: with the time since when the first of what is measured has waited.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, taken: &mut Vec<T>) -> Poll<Option<Instant>> {
        debug_assert!(taken.is_empty());
        // Register first: a push between the look and the registration would be lost otherwise.
        self.consumer.register(cx.waker());
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.items, taken);
        let since = state.since.take();
        if taken.is_empty() && !state.closed { Poll::Pending } else { Poll::Ready(since) }
    }

    /// Waits for something to take. `false` when the queue is closed; what is still queued is then for
    /// [`drain`](Self::drain).
    pub(crate) async fn take(&self, taken: &mut Vec<T>) -> bool {
        poll_fn(|cx| self.poll_take(cx, taken)).await;
        !self.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn items_come_out_in_the_order_of_each_producer_and_none_is_lost() {
        let inbox = Arc::new(Inbox::new());
        let producers: Vec<_> = (0..4_u64)
            .map(|producer| {
                let inbox = inbox.clone();
                std::thread::spawn(move || (0..5000_u64).for_each(|n| inbox.push((producer, n)).unwrap()))
            })
            .collect();
        let mut next = [0_u64; 4];
        let mut taken = Vec::new();
        while next.iter().sum::<u64>() < 20_000 {
            assert!(block_on(inbox.take(&mut taken)));
            for (producer, n) in taken.drain(..) {
                assert_eq!(n, next[producer as usize]);
                next[producer as usize] += 1;
            }
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    }

    #[test]
    fn the_clock_is_asked_once_for_all_that_are_taken_together() {
        let inbox = Inbox::new();
        let start = Instant::now();
        let at = |ms| start + std::time::Duration::from_millis(ms);
        let take = || block_on(poll_fn(|cx| inbox.poll_take(cx, &mut Vec::new())));
        inbox.push(0).unwrap();
        inbox.push_timed(1, || at(1)).unwrap();
        inbox.push_timed(2, || panic!("the clock was asked twice")).unwrap();
        assert_eq!(take(), Some(at(1)));
        inbox.push(3).unwrap();
        assert_eq!(take(), None);
        inbox.push_timed(4, || at(4)).unwrap();
        assert_eq!(take(), Some(at(4)));
    }

    #[test]
    fn a_closed_queue_gives_the_item_back_and_wakes_the_consumer() {
        let inbox = Arc::new(Inbox::new());
        let consumer = std::thread::spawn({
            let inbox = inbox.clone();
            move || block_on(inbox.take(&mut Vec::new()))
        });
        inbox.close();
        assert!(!consumer.join().unwrap());
        assert_eq!(inbox.push(7), Err(7));
    }
}
