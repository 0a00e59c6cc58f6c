//! How much may be admitted: a limit in bytes or in number, first come, first served.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;

use super::sync::lock;

/// How much may be out at the same time, in bytes or in number. Who comes when it is used up waits; nobody overtakes who
/// waits.
pub(crate) struct Limit {
    max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    last_ticket: u64,
    /// Those who wait, in the order in which they came. Who gives up is taken out at once: those who come and go behind one
    /// who waits for long would take more and more memory otherwise.
    waiting: BTreeMap<u64, Waiting>,
    closed: bool,
}

struct Waiting {
    amount: u64,
    grant: oneshot::Sender<Permit>,
}

/// A part of a limit. It is free again when it is dropped.
pub(crate) struct Permit {
    limit: Arc<Limit>,
    amount: u64,
}

/// Why [`Limit::try_acquire`] has nothing to give.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// So much is out already, or others wait for it.
    Busy { used: u64 },
    /// The limit is closed.
    Closed,
}

/// What a limit is used for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// How much is out.
    pub(crate) used: u64,
    /// How many wait.
    pub(crate) waiting: u64,
}

impl Limit {
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default() })
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn usage(&self) -> Usage {
        let state = lock(&self.state);
        Usage { used: state.used, waiting: state.waiting.len() as u64 }
    }

    /// Takes a place in the queue for `amount`. What is larger than the whole limit gets in when nothing else is out.
    pub(crate) fn acquire(self: &Arc<Self>, amount: u64) -> Acquire {
        let mut state = lock(&self.state);
        let grant = if state.closed {
            Grant::Decided(None)
        } else if state.waiting.is_empty() && self.fits(&state, amount) {
            state.used += amount;
            Grant::Decided(Some(Permit { limit: self.clone(), amount }))
        } else {
            let (sender, receiver) = oneshot::channel();
            state.last_ticket += 1;
            let ticket = state.last_ticket;
            state.waiting.insert(ticket, Waiting { amount, grant: sender });
            Grant::Awaited { ticket, receiver }
        };
        Acquire { limit: self.clone(), grant }
    }

    /// Takes `amount` if nobody would have to wait for it.
    pub(crate) fn try_acquire(self: &Arc<Self>, amount: u64) -> Result<Permit, Refused> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Refused::Closed);
        }
        if !state.waiting.is_empty() || !self.fits(&state, amount) {
            return Err(Refused::Busy { used: state.used });
        }
        state.used += amount;
        Ok(Permit { limit: self.clone(), amount })
    }

    fn fits(&self, state: &State, amount: u64) -> bool {
        state.used == 0 || state.used.saturating_add(amount) <= self.max
    }

    /// Lets in whoever is first in the queue and fits.
    fn admit(self: &Arc<Self>) {
        while let Some(next) = self.next_to_admit() {
            let permit = Permit { limit: self.clone(), amount: next.amount };
            if let Err(mut unwanted) = next.grant.send(permit) {
                // It stopped waiting at the last moment. Not by dropping the permit, which would come back here.
                lock(&self.state).used -= std::mem::take(&mut unwanted.amount);
            }
        }
    }

    fn next_to_admit(&self) -> Option<Waiting> {
        let mut state = lock(&self.state);
        let amount = state.waiting.first_key_value()?.1.amount;
        if !self.fits(&state, amount) {
            return None;
        }
        state.used += amount;
        state.waiting.pop_first().map(|(_, first)| first)
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
        self.amount += std::mem::take(&mut other.amount);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let somebody_waits = {
            let mut state = lock(&self.limit.state);
            state.used -= self.amount;
            !state.waiting.is_empty()
        };
        if somebody_waits {
            self.limit.admit();
        }
    }
}

/// A place in the queue of a limit. Resolves to the permit, or to `None` when the limit is closed.
pub(crate) struct Acquire {
    limit: Arc<Limit>,
    grant: Grant,
}

enum Grant {
    Decided(Option<Permit>),
    Awaited { ticket: u64, receiver: oneshot::Receiver<Permit> },
}

impl Future for Acquire {
    type Output = Option<Permit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Permit>> {
        match &mut self.grant {
            Grant::Decided(permit) => Poll::Ready(permit.take()),
            Grant::Awaited { receiver, .. } => receiver.poll_unpin(cx).map(Result::ok),
        }
    }
}

/// Who stops waiting must not hold up those behind it.
impl Drop for Acquire {
    fn drop(&mut self) {
        if let Grant::Awaited { ticket, receiver } = &mut self.grant {
            receiver.close();
            let given_up = lock(&self.limit.state).waiting.remove(ticket);
            if given_up.is_some() {
                self.limit.admit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    fn used(limit: &Limit) -> u64 {
        limit.usage().used
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
    fn who_does_not_want_to_wait_never_overtakes_who_does() {
        let limit = Limit::new(10);
        let first = limit.try_acquire(8).ok().unwrap();
        assert_eq!(limit.try_acquire(3).err(), Some(Refused::Busy { used: 8 }));
        let mut large = limit.acquire(5);
        assert!((&mut large).now_or_never().is_none());
        // It would fit, but somebody waits.
        assert_eq!(limit.try_acquire(1).err(), Some(Refused::Busy { used: 8 }));
        assert_eq!(limit.usage(), Usage { used: 8, waiting: 1 });
        drop(large);
        assert!(limit.try_acquire(1).is_ok());
        drop(first);
        limit.close();
        assert_eq!(limit.try_acquire(1).err(), Some(Refused::Closed));
    }

    /// A client in front that waits for ever, and behind it many that come, lose patience and come again: each of them left
    /// its place in the queue behind.
    #[test]
    fn those_who_give_up_behind_one_who_waits_leave_nothing_behind() {
        let limit = Limit::new(10);
        let _first = block_on(limit.acquire(10)).unwrap();
        let mut patient = limit.acquire(10);
        assert!((&mut patient).now_or_never().is_none());
        for _ in 0..1000 {
            assert!(limit.acquire(1).now_or_never().is_none());
        }
        assert_eq!(limit.usage(), Usage { used: 10, waiting: 1 });
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
