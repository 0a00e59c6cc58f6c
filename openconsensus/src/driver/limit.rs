//! How much may be admitted: a limit in bytes, first come, first served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::channel::oneshot;

use super::sync::lock;

/// A number of bytes that may be out at the same time. Who comes when it is used up waits; nobody overtakes who waits.
pub(crate) struct Limit {
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    waiting: VecDeque<Waiting>,
    closed: bool,
}

struct Waiting {
    bytes: u64,
    grant: oneshot::Sender<Permit>,
}

/// Bytes of a limit. They are free again when it is dropped.
pub(crate) struct Permit {
    limit: Arc<Limit>,
    bytes: u64,
}

impl Limit {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, state: Mutex::default() })
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Waits for `bytes`. What is larger than the whole limit gets in when nothing else is out. `None` when the limit
    /// is closed.
    pub(crate) async fn acquire(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let grant = {
            let mut state = lock(&self.state);
            if state.closed {
                return None;
            }
            if state.waiting.is_empty() && self.fits(&state, bytes) {
                state.used += bytes;
                return Some(Permit { limit: self.clone(), bytes });
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(Waiting { bytes, grant: sender });
            receiver
        };
        let mut place = PlaceInQueue { limit: self, grant };
        (&mut place.grant).await.ok()
    }

    fn fits(&self, state: &State, bytes: u64) -> bool {
        state.used == 0 || state.used.saturating_add(bytes) <= self.bytes_max
    }

    /// Lets in whoever is first in the queue and fits.
    fn admit(self: &Arc<Self>) {
        while let Some(next) = self.next_to_admit() {
            let permit = Permit { limit: self.clone(), bytes: next.bytes };
            if let Err(mut unwanted) = next.grant.send(permit) {
                // It stopped waiting at the last moment. Not by dropping the permit, which would come back here.
                lock(&self.state).used -= std::mem::take(&mut unwanted.bytes);
            }
        }
    }

    fn next_to_admit(&self) -> Option<Waiting> {
        let mut state = lock(&self.state);
        while state.waiting.front().is_some_and(|first| first.grant.is_canceled()) {
            state.waiting.pop_front();
        }
        let bytes = state.waiting.front()?.bytes;
        if !self.fits(&state, bytes) {
            return None;
        }
        state.used += bytes;
        state.waiting.pop_front()
    }

    /// Sends everybody away who waits, and everybody who comes later.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}

impl Permit {
    /// Joins two permits of one limit, so that many are given back in one go.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.limit, &other.limit));
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let somebody_waits = {
            let mut state = lock(&self.limit.state);
            state.used -= self.bytes;
            !state.waiting.is_empty()
        };
        if somebody_waits {
            self.limit.admit();
        }
    }
}

/// Who stops waiting must not hold up those behind it.
struct PlaceInQueue<'a> {
    limit: &'a Arc<Limit>,
    grant: oneshot::Receiver<Permit>,
}

impl Drop for PlaceInQueue<'_> {
    fn drop(&mut self) {
        self.grant.close();
        self.limit.admit();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    fn used(limit: &Limit) -> u64 {
        lock(&limit.state).used
    }

    #[test]
    fn who_comes_later_waits_behind_who_waits_even_if_it_would_fit() {
        let limit = Limit::new(10);
        let first = block_on(limit.acquire(8)).unwrap();
        let mut large = Box::pin(limit.acquire(5));
        let mut small = Box::pin(limit.acquire(1));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(small.as_mut().now_or_never().is_none());
        drop(first);
        assert!(block_on(large).is_some());
        assert!(block_on(small).is_some());
        assert_eq!(used(&limit), 0);
    }

    #[test]
    fn who_stops_waiting_lets_those_behind_it_in() {
        let limit = Limit::new(10);
        let first = block_on(limit.acquire(8)).unwrap();
        let mut large = Box::pin(limit.acquire(5));
        let mut small = Box::pin(limit.acquire(1));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(small.as_mut().now_or_never().is_none());
        drop(large);
        let small = small.now_or_never().flatten().unwrap();
        assert_eq!(used(&limit), 9);
        drop((first, small));
        assert_eq!(used(&limit), 0);
    }

    #[test]
    fn a_permit_that_was_granted_to_nobody_is_given_back() {
        let limit = Limit::new(10);
        let first = block_on(limit.acquire(10)).unwrap();
        let mut second = Box::pin(limit.acquire(10));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(used(&limit), 10);
        drop(second);
        assert_eq!(used(&limit), 0);
    }

    #[test]
    fn what_is_larger_than_the_limit_gets_in_alone() {
        let limit = Limit::new(10);
        let small = block_on(limit.acquire(1)).unwrap();
        let mut large = Box::pin(limit.acquire(11));
        assert!(large.as_mut().now_or_never().is_none());
        drop(small);
        let large = block_on(large).unwrap();
        assert!(limit.acquire(1).now_or_never().is_none());
        drop(large);
        assert_eq!(used(&limit), 0);
    }

    #[test]
    fn joined_permits_are_given_back_together_and_once() {
        let limit = Limit::new(10);
        let mut first = block_on(limit.acquire(3)).unwrap();
        first.absorb(block_on(limit.acquire(4)).unwrap());
        assert_eq!(used(&limit), 7);
        drop(first);
        assert_eq!(used(&limit), 0);
    }

    #[test]
    fn a_closed_limit_sends_everybody_away() {
        let limit = Limit::new(1);
        let _first = block_on(limit.acquire(1)).unwrap();
        let mut second = Box::pin(limit.acquire(1));
        assert!(second.as_mut().now_or_never().is_none());
        limit.close();
        assert!(block_on(second).is_none());
        assert!(block_on(limit.acquire(1)).is_none());
    }
}
