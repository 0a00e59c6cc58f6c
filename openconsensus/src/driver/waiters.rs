//! Who gets the outcome of a write: one caller for one command, or one for many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::channel::oneshot;

use crate::entry::{Index, LogId};
use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::limit::Permit;
use super::sync::lock;

/// What became of one command that was appended.
#[derive(Debug)]
pub(crate) enum Outcome<C: TypeConfig> {
    /// Applied, with this response.
    Applied(C::Response),
    /// Another entry was applied in its place.
    Dropped,
    /// It may be committed or not, now or later.
    Unknown,
}

/// Waits for the outcome of one command or of some that follow each other.
pub(crate) enum Waiter<C: TypeConfig> {
    /// A caller of `write`.
    One {
        /// To whom it goes.
        reply: oneshot::Sender<Result<C::Response, WriteError<C>>>,
        /// What the command was admitted with.
        permit: Permit,
    },
    /// A caller of `write_many`.
    Many(ManyPart<C>),
}

/// Some of the commands of one `write_many`.
pub(crate) struct ManyPart<C: TypeConfig> {
    many: Arc<Mutex<Many<C>>>,
    /// The place of the next one among all commands of the call.
    place: usize,
    left: usize,
}

/// Collects the outcomes of one `write_many`.
struct Many<C: TypeConfig> {
    responses: Vec<Option<C::Response>>,
    open: usize,
    some_unknown: bool,
    reply: Option<oneshot::Sender<Result<ManyResponses<C>, WriteError<C>>>>,
    permit: Option<Permit>,
}

/// What a `write_many` returns: the entry of the first command, and all responses.
#[derive(Debug)]
pub(crate) struct ManyResponses<C: TypeConfig> {
    pub(crate) first: LogId,
    pub(crate) responses: Vec<C::Response>,
}

impl<C: TypeConfig> Waiter<C> {
    /// Waits for `count` commands, at least one.
    pub(crate) fn many(
        count: usize,
        reply: oneshot::Sender<Result<ManyResponses<C>, WriteError<C>>>,
        permit: Permit,
    ) -> Self {
        let responses = (0..count).map(|_| None).collect();
        let many =
            Many { responses, open: count, some_unknown: false, reply: Some(reply), permit: Some(permit) };
        Self::Many(ManyPart { many: Arc::new(Mutex::new(many)), place: 0, left: count })
    }

    /// How many commands it waits for.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::One { .. } => 1,
            Self::Many(part) => part.left as u64,
        }
    }

    /// The commands were not appended: the outcome of all of them at once.
    pub(crate) fn fail(self, error: WriteError<C>) {
        match self {
            Self::One { reply, .. } => drop(reply.send(Err(error))),
            Self::Many(part) => {
                let reply = lock(&part.many).reply.take();
                drop(reply.map(|reply| reply.send(Err(error))));
            }
        }
    }
}

impl<C: TypeConfig> ManyPart<C> {
    /// Cuts off the first `count` commands.
    fn split_front(&mut self, count: usize) -> Self {
        let front = Self { many: self.many.clone(), place: self.place, left: count };
        self.place += count;
        self.left -= count;
        front
    }

    /// Tells the outcome of the next command. Returns the permit when no outcome of the call is open any more.
    fn tell(&mut self, log_id: LogId, outcome: Outcome<C>) -> Option<Permit> {
        let mut many = lock(&self.many);
        match outcome {
            Outcome::Applied(response) => many.responses[self.place] = Some(response),
            Outcome::Dropped => {}
            Outcome::Unknown => many.some_unknown = true,
        }
        many.open -= 1;
        let first = LogId::new(log_id.term, log_id.index - self.place as u64);
        self.place += 1;
        self.left -= 1;
        if 0 < many.open {
            return None;
        }
        let result = many.result(first);
        if let Some(reply) = many.reply.take() {
            drop(reply.send(result));
        }
        many.permit.take()
    }
}

impl<C: TypeConfig> Many<C> {
    /// `Ok` when all were applied, `Dropped` when certainly none was. Anything between them must not be retried
    /// blindly, and that is what `Unknown` says.
    fn result(&mut self, first: LogId) -> Result<ManyResponses<C>, WriteError<C>> {
        let none_applied = self.responses.iter().all(Option::is_none);
        let Some(open) = self.responses.iter().position(Option::is_none) else {
            let responses = std::mem::take(&mut self.responses).into_iter().flatten().collect();
            return Ok(ManyResponses { first, responses });
        };
        if none_applied && !self.some_unknown {
            return Err(WriteError::Dropped);
        }
        Err(WriteError::Unknown { log_id: LogId::new(first.term, first.index + open as u64) })
    }
}

/// Waiters of commands that were appended one behind the other by one leader.
///
/// Dropping it tells those that still wait that their outcome is unknown: whatever happens to a loop, nobody is left
/// without an answer.
pub(crate) struct Batch<C: TypeConfig> {
    /// The entry whose outcome is told next.
    next: LogId,
    /// Behind the last one.
    end: Index,
    waiters: VecDeque<Waiter<C>>,
}

impl<C: TypeConfig> Batch<C> {
    pub(crate) fn new(first: LogId, waiters: VecDeque<Waiter<C>>) -> Self {
        let count: u64 = waiters.iter().map(Waiter::len).sum();
        Self { next: first, end: first.index + count, waiters }
    }

    /// The first entry whose outcome is open.
    pub(crate) fn next(&self) -> LogId {
        self.next
    }

    /// The index behind the last entry.
    pub(crate) fn end(&self) -> Index {
        self.end
    }

    /// Cuts off the entries from `at` on, which must be inside.
    pub(crate) fn split_off(&mut self, at: Index) -> Self {
        assert!(
            self.next.index < at && at < self.end,
            "cannot cut waiters {}..{} at {at}",
            self.next.index,
            self.end
        );
        let mut index = self.next.index;
        let mut whole = 0;
        for waiter in &self.waiters {
            if at < index + waiter.len() {
                break;
            }
            index += waiter.len();
            whole += 1;
        }
        let mut tail = self.waiters.split_off(whole);
        if let Some(Waiter::Many(part)) = tail.front_mut()
            && index < at
        {
            self.waiters.push_back(Waiter::Many(part.split_front((at - index) as usize)));
        }
        let tail = Self { next: LogId::new(self.next.term, at), end: self.end, waiters: tail };
        self.end = at;
        tail
    }

    /// Tells the outcomes of entries that were applied. `applied` are those from index `start` on, each with its
    /// response if it carried a command. What lies outside of them stays open.
    ///
    /// An entry is known by its whole name. Whatever else is applied at the index, our command will never be, and nor
    /// will those behind it: a log that has any of them has this one too (Log Matching, Raft paper 5.3). Returns the
    /// first that was superseded in this way.
    pub(crate) fn resolve(
        &mut self,
        start: Index,
        applied: &mut [(LogId, Option<C::Response>)],
    ) -> Option<LogId> {
        let mut released: Option<Permit> = None;
        while let Some(offset) = self.next.index.checked_sub(start)
            && self.next.index < self.end
            && let Some((log_id, response)) = applied.get_mut(offset as usize)
        {
            if *log_id != self.next {
                let superseded = self.next;
                self.supersede();
                return Some(superseded);
            }
            let Some(response) = response.take() else {
                panic!("entry {log_id} was applied without a response");
            };
            if let Some(permit) = self.tell(Outcome::Applied(response)) {
                match &mut released {
                    Some(sum) => sum.absorb(permit),
                    None => released = Some(permit),
                }
            }
        }
        None
    }

    /// None of the commands whose outcome is open will ever be committed.
    pub(crate) fn supersede(&mut self) {
        while self.next.index < self.end {
            self.tell(Outcome::Dropped);
        }
    }

    /// Tells the outcome of the next entry. Returns the permit of a waiter that has been answered.
    fn tell(&mut self, outcome: Outcome<C>) -> Option<Permit> {
        let log_id = self.next;
        self.next.index += 1;
        if let Some(Waiter::Many(part)) = self.waiters.front_mut()
            && 1 < part.left
        {
            return part.tell(log_id, outcome);
        }
        match self.waiters.pop_front()? {
            Waiter::One { reply, permit } => {
                let result = match outcome {
                    Outcome::Applied(response) => Ok(response),
                    Outcome::Dropped => Err(WriteError::Dropped),
                    Outcome::Unknown => Err(WriteError::Unknown { log_id }),
                };
                // Who does not listen any more does not want to know.
                drop(reply.send(result));
                Some(permit)
            }
            Waiter::Many(mut part) => part.tell(log_id, outcome),
        }
    }
}

impl<C: TypeConfig> Drop for Batch<C> {
    fn drop(&mut self) {
        while self.next.index < self.end {
            self.tell(Outcome::Unknown);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;
    use crate::driver::limit::Limit;
    use crate::testing::U64;

    type ManyReply = oneshot::Receiver<Result<ManyResponses<U64>, WriteError<U64>>>;
    pub(in crate::driver) type OneReply = oneshot::Receiver<Result<u64, WriteError<U64>>>;

    /// All permits are of one limit, which never holds anybody up.
    pub(in crate::driver) fn permit() -> Permit {
        static LIMIT: std::sync::OnceLock<Arc<Limit>> = std::sync::OnceLock::new();
        block_on(LIMIT.get_or_init(|| Limit::new(u64::MAX)).acquire(1)).unwrap()
    }

    pub(in crate::driver) fn one() -> (Waiter<U64>, OneReply) {
        let (reply, receiver) = oneshot::channel();
        (Waiter::One { reply, permit: permit() }, receiver)
    }

    pub(in crate::driver) fn batch(first: LogId, count: usize) -> (Batch<U64>, Vec<OneReply>) {
        let (waiters, replies): (VecDeque<_>, _) = (0..count).map(|_| one()).unzip();
        (Batch::new(first, waiters), replies)
    }

    /// What was answered so far, `None` where nothing was.
    pub(in crate::driver) fn answers(replies: &mut [OneReply]) -> Vec<Option<Result<u64, WriteError<U64>>>> {
        replies.iter_mut().map(|reply| reply.try_recv().unwrap()).collect()
    }

    fn applied(term: u64, range: std::ops::Range<Index>) -> Vec<(LogId, Option<u64>)> {
        range.map(|index| (LogId::new(term, index), Some(index * 10))).collect()
    }

    fn many(count: usize) -> (Waiter<U64>, ManyReply) {
        let (reply, receiver) = oneshot::channel();
        (Waiter::many(count, reply, permit()), receiver)
    }

    #[test]
    fn a_waiter_gets_the_response_of_its_own_entry_and_of_no_other_at_that_index() {
        let (mut batch, mut replies) = batch(LogId::new(2, 5), 3);
        let mut entries = applied(2, 4..7);
        entries.extend(applied(3, 7..9));
        assert_eq!(batch.resolve(4, &mut entries), Some(LogId::new(2, 7)));
        assert_eq!(answers(&mut replies), [Some(Ok(50)), Some(Ok(60)), Some(Err(WriteError::Dropped))]);
        // The response at index 7 is still there for the waiter to whom it belongs.
        assert_eq!(entries[3].1, Some(70));
    }

    #[test]
    fn what_stands_behind_a_superseded_entry_is_dropped_too() {
        let (mut batch, mut replies) = batch(LogId::new(2, 5), 3);
        assert_eq!(batch.resolve(5, &mut applied(3, 5..6)), Some(LogId::new(2, 5)));
        assert_eq!(answers(&mut replies), [(); 3].map(|()| Some(Err(WriteError::Dropped))));
    }

    #[test]
    fn what_was_not_applied_stays_open() {
        let (mut batch, mut replies) = batch(LogId::new(1, 5), 3);
        assert_eq!(batch.resolve(1, &mut applied(1, 1..5)), None);
        assert_eq!(answers(&mut replies), [None, None, None]);
        batch.resolve(5, &mut applied(1, 5..6));
        assert_eq!(answers(&mut replies[..2]), [Some(Ok(50)), None]);
        assert_eq!(batch.next(), LogId::new(1, 6));
    }

    #[test]
    fn a_dropped_batch_tells_that_the_outcome_is_unknown() {
        let (mut batch, mut replies) = batch(LogId::new(1, 5), 2);
        batch.resolve(5, &mut applied(1, 5..6));
        drop(batch);
        assert_eq!(
            answers(&mut replies),
            [Some(Ok(50)), Some(Err(WriteError::Unknown { log_id: LogId::new(1, 6) }))]
        );
    }

    #[test]
    fn many_commands_are_answered_together_in_order_however_the_batch_is_cut() {
        for cut in 2..7 {
            let (a, _a) = one();
            let (b, b_reply) = many(4);
            let (c, c_reply) = one();
            let mut head = Batch::new(LogId::new(1, 1), VecDeque::from([a, b, c]));
            let mut tail = head.split_off(cut);
            tail.resolve(1, &mut applied(1, 1..7));
            head.resolve(1, &mut applied(1, 1..7));
            let answer = block_on(b_reply).unwrap().unwrap();
            assert_eq!((answer.first, answer.responses), (LogId::new(1, 2), vec![20, 30, 40, 50]));
            assert_eq!(block_on(c_reply).unwrap(), Ok(60));
        }
    }

    #[test]
    fn many_commands_of_which_some_were_applied_are_never_called_dropped() {
        let outcome = |terms: [u64; 3]| {
            let (waiter, reply) = many(3);
            let mut batch = Batch::new(LogId::new(1, 1), VecDeque::from([waiter]));
            let mut entries: Vec<_> =
                terms.iter().zip(1..).map(|(term, index)| (LogId::new(*term, index), Some(0))).collect();
            batch.resolve(1, &mut entries);
            reply.now_or_never().unwrap().unwrap().map(|answer| answer.responses)
        };
        assert_eq!(outcome([1, 1, 1]), Ok(vec![0, 0, 0]));
        assert_eq!(outcome([2, 2, 2]), Err(WriteError::Dropped));
        assert_eq!(outcome([1, 2, 2]), Err(WriteError::Unknown { log_id: LogId::new(1, 2) }));
    }

    #[test]
    fn permits_are_given_back_when_the_answer_is_given() {
        let limit = Limit::new(10);
        let mut waiters = VecDeque::new();
        let mut replies = Vec::new();
        for _ in 0..2 {
            let (reply, receiver) = oneshot::channel();
            waiters.push_back(Waiter::<U64>::One { reply, permit: block_on(limit.acquire(5)).unwrap() });
            replies.push(receiver);
        }
        let mut batch = Batch::new(LogId::new(1, 1), waiters);
        assert!(limit.acquire(1).now_or_never().is_none());
        batch.resolve(1, &mut applied(1, 1..2));
        assert!(limit.acquire(5).now_or_never().is_some());
        drop(batch);
        assert!(limit.acquire(10).now_or_never().is_some());
    }
}
