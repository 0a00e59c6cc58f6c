//! What has come in for the core loop and what it has not looked at.

use std::task::{Context, Waker};
use std::time::Instant;

use crate::entry::LogId;
use crate::error::{Fatal, WriteError};
use crate::type_config::TypeConfig;

use super::answers::{Answer, ManyAnswers};
use super::inbox::{Inbox, Queue};
use super::item::{Item, Patience, refuse};
use super::limit::Admitted;
use super::stages::ApplyTiming;
use super::writes::Writes;

/// What has come in. Commands stand together from the start, as they are handed to the engine: there are many of them.
pub(crate) struct Arrivals<C: TypeConfig> {
    pub(super) items: Vec<Item<C>>,
    pub(super) writes: Writes<C>,
    /// When the first writer or reader in it was queued.
    pub(super) since: Option<Instant>,
    /// How far the state machine has come, call by call.
    pub(super) applied: Vec<(LogId, ApplyTiming)>,
    /// Whether the core loop waits for that. Otherwise it learns it when it looks for another reason.
    pub(super) wants_applied: bool,
}

impl<C: TypeConfig> Default for Arrivals<C> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            writes: Writes::default(),
            since: None,
            applied: Vec::new(),
            wants_applied: false,
        }
    }
}

impl<C: TypeConfig> Queue for Arrivals<C> {
    fn is_quiet(&self) -> bool {
        self.items.is_empty() && self.writes.is_empty() && (self.applied.is_empty() || !self.wants_applied)
    }
}

impl<C: TypeConfig> Arrivals<C> {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.writes.is_empty() && self.applied.is_empty()
    }

    /// Whether there are only clients who write.
    pub(super) fn has_only_writes(&self) -> bool {
        self.items.is_empty() && !self.writes.is_empty()
    }

    /// Answers everybody in it: the engine will never see it.
    pub(super) fn refuse(self, reason: &Fatal) {
        self.writes.waiters.fail(&WriteError::Fatal(reason.clone()));
        self.items.into_iter().for_each(|item| refuse(item, reason));
    }
}

impl<C: TypeConfig> Inbox<Arrivals<C>> {
    /// Queues an item. `Err` gives it back when the queue is closed.
    pub(crate) fn push(&self, item: Item<C>) -> Result<(), Item<C>> {
        self.put(item, |arrivals, item| arrivals.items.push(item))
    }

    /// Queues an item whose wait is measured. The clock is asked once for all that are taken together: for the first.
    pub(crate) fn push_timed(&self, item: Item<C>, now: impl FnOnce() -> Instant) -> Result<(), Item<C>> {
        self.put(item, |arrivals, item| {
            arrivals.since.get_or_insert_with(now);
            arrivals.items.push(item);
        })
    }

    /// Queues a command of a caller who is woken when its answer is there. `Err` gives it back when the queue is closed.
    pub(crate) fn push_write(
        &self,
        command: C::Command,
        caller: &Waker,
        patience: Patience,
        admitted: Admitted<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Result<Answer<C>, C::Command> {
        self.put((command, admitted), |arrivals, (command, admitted)| {
            arrivals.since.get_or_insert_with(now);
            arrivals.writes.push_one(command, caller, patience, admitted)
        })
        .map_err(|(command, _admitted)| command)
    }

    /// Queues commands of one caller, at least one.
    pub(crate) fn push_writes(
        &self,
        commands: Vec<C::Command>,
        cx: &Context<'_>,
        patience: Patience,
        admitted: Admitted<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Result<ManyAnswers<C>, Vec<C::Command>> {
        self.put((commands, admitted), |arrivals, (commands, admitted)| {
            arrivals.since.get_or_insert_with(now);
            arrivals.writes.push_many(commands, cx, patience, admitted)
        })
        .map_err(|(commands, _admitted)| commands)
    }

    /// The state machine has applied everything up to `last`.
    pub(super) fn push_applied(&self, last: LogId, timing: ApplyTiming) {
        // A closed inbox means that the node stops.
        let _ = self.put((last, timing), |arrivals, applied| arrivals.applied.push(applied));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::U64;

    #[test]
    fn the_clock_is_asked_once_for_all_that_are_taken_together() {
        let inbox = Inbox::<Arrivals<U64>>::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let item = || Item::Superseded { entry: LogId::ZERO };
        let push = |item| assert!(inbox.push(item).is_ok());
        let push_timed = |item, ms: u64| assert!(inbox.push_timed(item, || at(ms)).is_ok());
        push(item());
        push_timed(item(), 1);
        assert!(inbox.push_timed(item(), || panic!("the clock was asked twice")).is_ok());
        assert_eq!(inbox.drain().since, Some(at(1)));
        push(item());
        assert_eq!(inbox.drain().since, None);
        push_timed(item(), 4);
        assert_eq!(inbox.drain().since, Some(at(4)));
    }

    /// By which a core loop that looks for work without sleeping knows when to take the lock.
    #[test]
    fn there_is_news_from_the_first_item_that_matters_until_it_is_taken() {
        let inbox = Inbox::<Arrivals<U64>>::new();
        let item = || Item::Superseded { entry: LogId::ZERO };
        let now = Instant::now();
        inbox.push_applied(LogId::new(1, 1), ApplyTiming { began: now, answered: now });
        assert!(!inbox.has_news());
        assert!(inbox.push(item()).is_ok());
        assert!(inbox.has_news());
        assert!(!inbox.take_if(&mut Arrivals::default(), |_| false));
        assert!(inbox.has_news());
        assert!(inbox.take_if(&mut Arrivals::default(), |_| true));
        assert!(!inbox.has_news());
        assert!(inbox.push(item()).is_ok());
        inbox.take_all(&mut Arrivals::default());
        assert!(!inbox.has_news());
        inbox.close();
        assert!(inbox.has_news());
    }

    /// A state machine that applies wakes the core loop only where that has asked for it.
    #[test]
    fn what_was_applied_is_taken_with_something_else_unless_it_is_waited_for() {
        let now = Instant::now();
        let inbox = Inbox::<Arrivals<U64>>::new();
        let mut taken = Arrivals::default();
        let apply = |index| {
            inbox.push_applied(LogId::new(1, index), ApplyTiming { began: now, answered: now });
        };
        apply(1);
        assert!(!inbox.take_if(&mut taken, |queue| !queue.is_quiet()));
        assert!(inbox.push(Item::Superseded { entry: LogId::ZERO }).is_ok());
        assert!(inbox.take_if(&mut taken, |queue| !queue.is_quiet()));
        assert_eq!((taken.applied.len(), taken.items.len()), (1, 1));
        taken = Arrivals::default();
        apply(2);
        assert!(inbox.take_if(&mut taken, |queue| {
            queue.wants_applied = true;
            !queue.is_quiet()
        }));
        assert_eq!(taken.applied.len(), 1);
    }
}
