//! A queue that many push to under a short lock and one loop takes whole: draining it is batching.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::poll_fn;
use futures::task::AtomicWaker;

use super::sync::lock;

/// A queue with any number of producers and one consumer. It has no limit of its own: what goes in has been admitted by
/// a [`Limit`](super::limit::Limit) or is bounded by what the engine has asked for.
pub(crate) struct Inbox<Q> {
    state: Mutex<State<Q>>,
    /// The queue has ceased to be quiet, or was closed, since it was taken last. Set before the consumer is woken.
    has_news: AtomicBool,
    consumer: Arc<AtomicWaker>,
}

struct State<Q> {
    queue: Q,
    closed: bool,
}

/// What is put into an inbox.
pub(crate) trait Queue: Default {
    /// Whether the consumer may go on sleeping.
    fn is_quiet(&self) -> bool;
}

impl<T> Queue for Vec<T> {
    fn is_quiet(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Inbox<Vec<T>> {
    /// Queues an item. `Err` gives it back when the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        self.put(item, |queue, item| queue.push(item))
    }
}

impl<Q: Queue> Inbox<Q> {
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State { queue: Q::default(), closed: false });
        Self { state, has_news: AtomicBool::new(false), consumer: Arc::default() }
    }

    /// Wakes the consumer, once it has looked into the inbox with a waker.
    pub(crate) fn consumer(&self) -> &Arc<AtomicWaker> {
        &self.consumer
    }

    /// Lets `how` put `what` into the queue. `Err` gives it back when the queue is closed.
    pub(crate) fn put<T, R>(&self, what: T, how: impl FnOnce(&mut Q, T) -> R) -> Result<R, T> {
        let (result, begins) = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(what);
            }
            let was_quiet = state.queue.is_quiet();
            let result = how(&mut state.queue, what);
            (result, was_quiet && !state.queue.is_quiet())
        };
        // A wake-up is what costs: only the first of many that are taken together pays for it.
        if begins {
            self.tell_consumer();
        }
        Ok(result)
    }

    /// Lets nothing more in and wakes the consumer.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.tell_consumer();
    }

    fn tell_consumer(&self) {
        self.has_news.store(true, Ordering::Release);
        self.consumer.wake();
    }

    /// Whether there may be something to take, for a consumer that has not slept since it looked last. Takes no lock.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Takes what is queued, be the queue closed or not.
    pub(crate) fn drain(&self) -> Q {
        std::mem::take(&mut lock(&self.state).queue)
    }

    /// Has the consumer woken from now on when there is something to take.
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        self.consumer.register(cx.waker());
    }

    /// Exchanges the queue for `taken`, which must be empty, if `is_wanted` says so of the queue.
    pub(crate) fn take_if(&self, taken: &mut Q, is_wanted: impl FnOnce(&mut Q) -> bool) -> bool {
        let mut state = lock(&self.state);
        let is_wanted = is_wanted(&mut state.queue);
        if is_wanted {
            self.swap(&mut state, taken);
        }
        is_wanted
    }

    /// Exchanges the queue for `taken`, which must be empty, be it quiet or not.
    pub(crate) fn take_all(&self, taken: &mut Q) {
        self.swap(&mut lock(&self.state), taken);
    }

    fn swap(&self, state: &mut State<Q>, taken: &mut Q) {
        self.has_news.store(false, Ordering::Release);
        std::mem::swap(&mut state.queue, taken);
    }

    /// Waits for something to take and moves it into `taken`, which must be empty and gives its allocation in exchange.
    /// `false` when the queue is closed; what is still queued is then for [`drain`](Self::drain).
    pub(crate) async fn take(&self, taken: &mut Q) -> bool {
        poll_fn(|cx| {
            // Register first: a push between the look and the registration would be lost otherwise.
            self.listen(cx);
            let mut state = lock(&self.state);
            if state.closed {
                return Poll::Ready(false);
            }
            if state.queue.is_quiet() {
                return Poll::Pending;
            }
            self.swap(&mut state, taken);
            Poll::Ready(true)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn items_come_out_in_the_order_of_each_producer_and_none_is_lost() {
        let inbox = Arc::new(Inbox::<Vec<_>>::new());
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
    fn a_closed_queue_gives_the_item_back_and_wakes_the_consumer() {
        let inbox = Arc::new(Inbox::<Vec<_>>::new());
        let consumer = std::thread::spawn({
            let inbox = inbox.clone();
            move || block_on(inbox.take(&mut Vec::<i32>::new()))
        });
        inbox.close();
        assert!(!consumer.join().unwrap());
        assert_eq!(inbox.push(7), Err(7));
    }
}
