//! How much may be admitted: a limit in bytes or in number, first come, first served.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;

use super::sync::lock;

/// How much may be out at the same time, in bytes or in number. Who comes when it is used up waits; nobody overtakes who
/// waits.
///
/// While nobody waits no lock is taken.
pub(crate) struct Limit {
    max: u64,
    /// How much is out; and [`QUEUE`] while somebody waits, and after the limit was closed.
    used: AtomicU64,
    queue: Mutex<Queue>,
}

/// Says in `used` that everybody has to look at the queue. Changed only under its lock.
const QUEUE: u64 = 1 << 63;
/// No amount and no limit is larger, so that sums do not reach [`QUEUE`].
const AMOUNT_MAX: u64 = 1 << 61;

#[derive(Default)]
struct Queue {
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

/// A part of a limit for a short time: it is dropped, or [kept](Self::keep) for whoever gives it back.
pub(crate) struct Admitted<'a> {
    limit: &'a Arc<Limit>,
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
        Arc::new(Self { max: max.min(AMOUNT_MAX), used: AtomicU64::new(0), queue: Mutex::default() })
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn usage(&self) -> Usage {
        let waiting = lock(&self.queue).waiting.len() as u64;
        Usage { used: self.used(), waiting }
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire) & !QUEUE
    }

    /// Takes a place in the queue for `amount`. What is larger than the whole limit gets in when nothing else is out.
    pub(crate) fn acquire(self: &Arc<Self>, amount: u64) -> Acquire {
        let amount = amount.min(AMOUNT_MAX);
        let grant = if self.take(amount) {
            Grant::Decided(Some(Permit { limit: self.clone(), amount }))
        } else {
            self.queue_for(amount)
        };
        Acquire { limit: self.clone(), grant }
    }

    fn queue_for(self: &Arc<Self>, amount: u64) -> Grant {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Grant::Decided(None);
        }
        // Before the look at what is out: who gives back from now on comes to the queue.
        self.used.fetch_or(QUEUE, Ordering::AcqRel);
        if queue.waiting.is_empty() && self.take_queued(amount) {
            self.leave_queue(&queue);
            return Grant::Decided(Some(Permit { limit: self.clone(), amount }));
        }
        let (grant, receiver) = oneshot::channel();
        queue.last_ticket += 1;
        let ticket = queue.last_ticket;
        queue.waiting.insert(ticket, Waiting { amount, grant });
        Grant::Awaited { ticket, receiver }
    }

    /// Takes `amount` if nobody would have to wait for it.
    pub(crate) fn try_acquire(self: &Arc<Self>, amount: u64) -> Result<Permit, Refused> {
        self.try_admit(amount).map(|admitted| Permit { limit: self.clone(), amount: admitted.keep() })
    }

    /// As [`try_acquire`](Self::try_acquire), for a moment.
    pub(crate) fn try_admit(self: &Arc<Self>, amount: u64) -> Result<Admitted<'_>, Refused> {
        let amount = amount.min(AMOUNT_MAX);
        if self.take(amount) {
            return Ok(Admitted { limit: self, amount });
        }
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(Refused::Closed);
        }
        // Something may have been given back meanwhile.
        if self.take(amount) {
            return Ok(Admitted { limit: self, amount });
        }
        Err(Refused::Busy { used: self.used() })
    }

    /// Takes `amount` if it fits and nobody has to look at the queue.
    fn take(&self, amount: u64) -> bool {
        let taken = |used| (used & QUEUE == 0 && self.fits(used, amount)).then(|| used + amount);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok()
    }

    /// Takes `amount` if it fits, for who is first in the queue. Under the lock of the queue, and with [`QUEUE`] set: what
    /// is out can only become less meanwhile.
    fn take_queued(&self, amount: u64) -> bool {
        let fits = self.fits(self.used(), amount);
        if fits {
            self.used.fetch_add(amount, Ordering::AcqRel);
        }
        fits
    }

    /// Nobody has to look at the queue any more, if it is empty.
    fn leave_queue(&self, queue: &Queue) {
        if queue.waiting.is_empty() && !queue.closed {
            self.used.fetch_and(!QUEUE, Ordering::AcqRel);
        }
    }

    fn fits(&self, used: u64, amount: u64) -> bool {
        used == 0 || used + amount <= self.max
    }

    /// Takes back what somebody else has kept.
    pub(crate) fn give_back(self: &Arc<Self>, amount: u64) {
        if 0 < amount && self.used.fetch_sub(amount, Ordering::AcqRel) & QUEUE != 0 {
            self.admit();
        }
    }

    /// Lets in whoever is first in the queue and fits.
    fn admit(self: &Arc<Self>) {
        while let Some(next) = self.next_to_admit() {
            let permit = Permit { limit: self.clone(), amount: next.amount };
            if let Err(mut unwanted) = next.grant.send(permit) {
                // It stopped waiting at the last moment. Not by dropping the permit, which would come back here.
                self.used.fetch_sub(std::mem::take(&mut unwanted.amount), Ordering::AcqRel);
            }
        }
    }

    fn next_to_admit(&self) -> Option<Waiting> {
        let mut queue = lock(&self.queue);
        let amount = queue.waiting.first_key_value()?.1.amount;
        if !self.take_queued(amount) {
            return None;
        }
        let first = queue.waiting.pop_first().map(|(_, first)| first);
        self.leave_queue(&queue);
        first
    }

    /// Sends everybody away who waits, and everybody who comes later.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            self.used.fetch_or(QUEUE, Ordering::AcqRel);
            std::mem::take(&mut queue.waiting)
        };
        drop(waiting);
    }
}

impl Permit {
    /// For what was [kept](Admitted::keep).
    pub(crate) fn of_kept(limit: &Arc<Limit>, amount: u64) -> Self {
        Self { limit: limit.clone(), amount }
    }

    /// Adds what was [kept](Admitted::keep) of the same limit, so that many are given back in one go.
    pub(crate) fn add_kept(&mut self, amount: u64) {
        self.amount += amount;
    }

    /// The same for a moment: without counting who knows the limit.
    pub(crate) fn into_admitted(mut self, limit: &Arc<Limit>) -> Admitted<'_> {
        debug_assert!(Arc::ptr_eq(&self.limit, limit));
        Admitted { limit, amount: std::mem::take(&mut self.amount) }
    }

    /// Cuts off a share: `part` of `whole`.
    pub(crate) fn split(&mut self, part: u64, whole: u64) -> Self {
        // As large as they may be, their product is larger than their type.
        let amount = (u128::from(self.amount) * u128::from(part) / u128::from(whole)) as u64;
        self.amount -= amount;
        Self { limit: self.limit.clone(), amount }
    }

    /// Gives back a share: `part` of `whole`.
    pub(crate) fn give_back(&mut self, part: u64, whole: u64) {
        let amount = if part == whole { self.amount } else { self.amount / whole * part };
        self.amount -= amount;
        self.limit.give_back(amount);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.give_back(self.amount);
    }
}

impl<'a> Admitted<'a> {
    pub(crate) fn limit(&self) -> &'a Arc<Limit> {
        self.limit
    }

    /// It is not given back when this is dropped. Who gets the amount has to.
    pub(crate) fn keep(mut self) -> u64 {
        std::mem::take(&mut self.amount)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.limit.give_back(self.amount);
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
            let given_up = {
                let mut queue = lock(&self.limit.queue);
                let given_up = queue.waiting.remove(ticket);
                self.limit.leave_queue(&queue);
                given_up
            };
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
    fn joined_permits_are_given_back_together_and_once_however_they_are_cut() {
        for cut in 1..=7 {
            let limit = Limit::new(10);
            let mut permit = Permit::of_kept(&limit, limit.try_admit(3).ok().unwrap().keep());
            permit.add_kept(limit.try_admit(4).ok().unwrap().keep());
            assert_eq!(used(&limit), 7);
            let part = permit.split(cut, 7);
            assert_eq!(used(&limit), 7);
            drop(part);
            assert_eq!(used(&limit), 7 - cut);
            permit.give_back(1, 2);
            permit.give_back(1, 1);
            assert_eq!(used(&limit), 0);
            drop(permit);
            assert_eq!(used(&limit), 0);
        }
    }

    #[test]
    fn what_was_admitted_for_a_moment_is_given_back_unless_it_is_kept() {
        let limit = Limit::new(10);
        drop(limit.try_admit(8));
        assert_eq!(used(&limit), 0);
        let kept = limit.acquire(8).now_or_never().flatten().unwrap().into_admitted(&limit).keep();
        assert_eq!(used(&limit), 8);
        let mut second = Box::pin(limit.acquire(3));
        assert!(second.as_mut().now_or_never().is_none());
        limit.give_back(kept);
        assert!(second.now_or_never().flatten().is_some());
        assert_eq!(used(&limit), 0);
    }

    /// Threads that take and give back what is scarce: whoever looks at the queue too late waits for ever.
    #[test]
    fn nobody_who_waits_is_forgotten_and_never_is_more_out_than_may_be() {
        let limit = Limit::new(3);
        let out = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (limit, out) = (&limit, &out);
                scope.spawn(move || {
                    for n in 0..3000 {
                        let amount = 1 + (thread + n) % 3;
                        let permit = block_on(limit.acquire(amount)).unwrap();
                        assert!(out.fetch_add(amount, Ordering::SeqCst) + amount <= 3);
                        out.fetch_sub(amount, Ordering::SeqCst);
                        drop(permit);
                        drop(limit.try_admit(1));
                    }
                });
            }
        });
        assert_eq!(limit.usage(), Usage { used: 0, waiting: 0 });
        assert_eq!(limit.used.load(Ordering::SeqCst), 0, "nobody has to look at the queue any more");
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
