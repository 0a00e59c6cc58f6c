//! Tests of waiters, and what other tests need to have some.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake};

use super::*;
use crate::testing::U64;

pub(in crate::driver) type OneReply = Answer<U64>;

/// One that never holds anybody up.
pub(in crate::driver) fn limit() -> &'static Arc<Limit> {
    static LIMIT: std::sync::OnceLock<Arc<Limit>> = std::sync::OnceLock::new();
    LIMIT.get_or_init(|| Limit::new(u64::MAX))
}

pub(in crate::driver) fn permit() -> Permit {
    limit().try_acquire(1).ok().unwrap()
}

fn admitted() -> u64 {
    limit().try_admit(1).ok().unwrap().keep()
}

pub(in crate::driver) fn one() -> (Waiters<U64>, OneReply) {
    let mut waiters = Waiters::new();
    let reply = waiters.push_one(Waker::noop(), Patience::Waits, admitted(), limit());
    (waiters, reply)
}

pub(in crate::driver) fn batch(first: LogId, count: usize) -> (Batch<U64>, Vec<OneReply>) {
    let mut waiters = Waiters::new();
    let mut push = || waiters.push_one(Waker::noop(), Patience::Waits, admitted(), limit());
    let replies = (0..count).map(|_| push()).collect();
    (Batch::new(first, waiters), replies)
}

/// What was answered and not asked for so far, `None` where nothing was.
pub(in crate::driver) fn answers(replies: &mut [OneReply]) -> Vec<Option<Result<u64, WriteError<U64>>>> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut ask = |reply: &mut OneReply| match reply.poll(&mut cx) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    };
    replies.iter_mut().map(&mut ask).collect()
}

pub(in crate::driver) fn command(log_id: LogId) -> Entry<U64> {
    Entry { log_id, payload: Payload::Command(0) }
}

/// Applies commands of these terms from index `start` on, with ten times the index as the response.
fn apply(start: Index, terms: &[u64], batch: &mut Vec<Batch<U64>>) -> Vec<LogId> {
    let log_ids = terms.iter().zip(start..).map(|(term, index)| LogId::new(*term, index));
    let entries: Vec<_> = log_ids.map(command).collect();
    let responses: Vec<_> = entries.iter().map(|entry| entry.log_id.index * 10).collect();
    answer(&entries.into(), responses.len(), responses.into_iter(), batch)
}

fn many(waiters: &mut Waiters<U64>, count: u32) -> ManyAnswers<U64> {
    let cx = Context::from_waker(Waker::noop());
    waiters.push_many(count, &cx, Patience::Waits, admitted(), limit())
}

fn many_answers(
    reply: &mut ManyAnswers<U64>,
) -> Option<Result<super::super::answers::ManyResponses<U64>, WriteError<U64>>> {
    match reply.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn a_waiter_gets_the_response_of_its_own_entry_and_of_no_other_at_that_index() {
    let (waiting, mut replies) = batch(LogId::new(2, 5), 3);
    let (other, mut other_replies) = batch(LogId::new(3, 7), 1);
    let mut waiting = vec![waiting, other];
    assert_eq!(apply(4, &[2, 2, 2, 3, 3], &mut waiting), [LogId::new(2, 7)]);
    assert_eq!(answers(&mut replies), [Some(Ok(50)), Some(Ok(60)), Some(Err(WriteError::Dropped))]);
    // The response at index 7 went to the waiter to whom it belongs.
    assert_eq!(answers(&mut other_replies), [Some(Ok(70))]);
    assert!(waiting.is_empty());
}

#[test]
fn what_stands_behind_a_superseded_entry_is_dropped_too() {
    let (waiting, mut replies) = batch(LogId::new(2, 5), 3);
    assert_eq!(apply(5, &[3], &mut vec![waiting]), [LogId::new(2, 5)]);
    assert_eq!(answers(&mut replies), [(); 3].map(|()| Some(Err(WriteError::Dropped))));
}

#[test]
fn what_was_not_applied_stays_open() {
    let (waiting, mut replies) = batch(LogId::new(1, 5), 3);
    let mut waiting = vec![waiting];
    assert_eq!(apply(1, &[1; 4], &mut waiting), []);
    assert_eq!(answers(&mut replies), [None, None, None]);
    assert_eq!(apply(5, &[1], &mut waiting), []);
    assert_eq!(answers(&mut replies[..2]), [Some(Ok(50)), None]);
    assert_eq!(waiting[0].next(), LogId::new(1, 6));
}

#[test]
fn responses_find_their_commands_between_entries_that_have_none() {
    let (first, mut first_reply) = batch(LogId::new(1, 6), 1);
    let (last, mut last_reply) = batch(LogId::new(1, 9), 1);
    let entry = |index: u64| {
        let payload = if index % 3 == 1 { Payload::Blank } else { Payload::Command(0) };
        Entry { log_id: LogId::new(1, index), payload }
    };
    let entries: Entries<U64> = (4..10).map(entry).collect::<Vec<_>>().into();
    // Commands 5, 6, 8 and 9. In whatever order those who wait were handed over.
    let mut waiting = vec![last, first];
    let mut responses = [50, 60, 80, 90, 110].into_iter();
    assert_eq!(answer(&entries, 4, responses.by_ref(), &mut waiting), []);
    assert_eq!(responses.next(), Some(110), "what stands behind belongs to others");
    assert_eq!(answers(std::slice::from_mut(&mut first_reply[0])), [Some(Ok(60))]);
    assert_eq!(answers(std::slice::from_mut(&mut last_reply[0])), [Some(Ok(90))]);
}

#[test]
fn a_dropped_batch_tells_that_the_outcome_is_unknown() {
    let (waiting, mut replies) = batch(LogId::new(1, 5), 2);
    let mut waiting = vec![waiting];
    apply(5, &[1], &mut waiting);
    drop(waiting);
    assert_eq!(
        answers(&mut replies),
        [Some(Ok(50)), Some(Err(WriteError::Unknown { log_id: LogId::new(1, 6) }))]
    );
}

#[test]
fn waiters_that_are_lost_before_their_commands_have_entries_are_told_so() {
    let (waiters, reply) = one();
    drop(waiters);
    assert_eq!(answers(&mut [reply]), [Some(Err(WriteError::Unknown { log_id: LogId::ZERO }))]);
    let mut waiters = Waiters::new();
    let mut reply = many(&mut waiters, 3);
    drop(waiters);
    let answer = many_answers(&mut reply).unwrap().unwrap_err();
    assert_eq!(answer, WriteError::Unknown { log_id: LogId::ZERO });
}

#[test]
fn many_commands_are_answered_together_in_order_however_the_batch_is_cut() {
    for cut in 2..7 {
        for is_head_first in [true, false] {
            let (mut waiters, _a) = one();
            let mut b = many(&mut waiters, 4);
            let c = waiters.push_one(Waker::noop(), Patience::Waits, admitted(), limit());
            let mut head = Batch::new(LogId::new(1, 1), waiters);
            let tail = head.split_off(cut);
            let mut parts = if is_head_first { [head, tail] } else { [tail, head] }.map(|part| vec![part]);
            let mut answer = None;
            let mut open = 2..6;
            for part in &mut parts {
                assert!(answer.is_none() || open.is_empty(), "cut at {cut}");
                let own = part[0].next().index..part[0].end();
                open = if own.start <= open.start {
                    own.end.max(open.start)..open.end
                } else {
                    open.start..own.start
                };
                apply(1, &[1; 6], part);
                answer = answer.or_else(|| many_answers(&mut b));
            }
            let answer = answer.unwrap().unwrap();
            assert_eq!((answer.first, answer.responses), (LogId::new(1, 2), vec![20, 30, 40, 50]));
            assert_eq!(answers(&mut [c]), [Some(Ok(60))]);
        }
    }
}

#[test]
fn single_commands_keep_their_own_answers_however_the_batch_is_cut() {
    for cut in 2..7 {
        let (mut head, mut replies) = batch(LogId::new(1, 1), 6);
        let tail = head.split_off(cut);
        // The end is told first.
        drop(tail);
        apply(1, &[1; 6], &mut vec![head]);
        let expected = (1..7).map(|index| {
            let unknown = || Err(WriteError::Unknown { log_id: LogId::new(1, index) });
            Some(if index < cut { Ok(index * 10) } else { unknown() })
        });
        assert_eq!(answers(&mut replies), expected.collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[test]
fn many_commands_of_which_some_were_applied_are_never_called_dropped() {
    let outcome = |terms: [u64; 3]| {
        let mut waiters = Waiters::new();
        let mut reply = many(&mut waiters, 3);
        apply(1, &terms, &mut vec![Batch::new(LogId::new(1, 1), waiters)]);
        many_answers(&mut reply).unwrap().map(|answer| answer.responses)
    };
    assert_eq!(outcome([1, 1, 1]), Ok(vec![10, 20, 30]));
    assert_eq!(outcome([2, 2, 2]), Err(WriteError::Dropped));
    assert_eq!(outcome([1, 2, 2]), Err(WriteError::Unknown { log_id: LogId::new(1, 2) }));
}

#[test]
fn permits_are_given_back_when_the_answer_is_given() {
    let limit = Limit::new(10);
    let mut waiters = Waiters::<U64>::new();
    let _replies = [(); 2].map(|()| {
        waiters.push_one(Waker::noop(), Patience::Waits, limit.try_admit(5).ok().unwrap().keep(), &limit)
    });
    let mut waiting = vec![Batch::new(LogId::new(1, 1), waiters)];
    assert_eq!(limit.usage().used, 10);
    apply(1, &[1], &mut waiting);
    assert_eq!(limit.usage().used, 5);
    drop(waiting);
    assert_eq!(limit.usage().used, 0);
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn every_caller_is_woken_when_its_own_answer_is_there() {
    let callers: Vec<Arc<Count>> = (0..3 * SHARED_BY_MAX / 2).map(|_| Arc::default()).collect();
    let mut waiters = Waiters::<U64>::new();
    let push = |caller: &Arc<Count>| {
        waiters.push_one(&Waker::from(caller.clone()), Patience::Waits, admitted(), limit())
    };
    let mut replies: Vec<_> = callers.iter().map(push).collect();
    // One of them has moved to another task meanwhile.
    let moved = Arc::<Count>::default();
    assert!(replies[7].poll(&mut Context::from_waker(&Waker::from(moved.clone()))).is_pending());
    let mut waiting = vec![Batch::new(LogId::new(1, 1), waiters)];
    for index in 0..callers.len() {
        assert_eq!(moved.0.load(Ordering::SeqCst), usize::from(7 < index));
        apply(index as u64 + 1, &[1], &mut waiting);
        let woken = callers.iter().map(|caller| caller.0.load(Ordering::SeqCst));
        assert_eq!(
            woken.collect::<Vec<_>>(),
            [vec![1; index + 1], vec![0; callers.len() - index - 1]].concat()
        );
        assert_eq!(answers(&mut replies[index..=index]), [Some(Ok(10 * (index as u64 + 1)))]);
    }
}

#[test]
fn the_caller_of_many_commands_is_woken_once_and_where_it_has_asked_last() {
    let (first, second) = (Arc::<Count>::default(), Arc::<Count>::default());
    let mut waiters = Waiters::<U64>::new();
    let waker = Waker::from(first.clone());
    let mut reply = waiters.push_many(3, &Context::from_waker(&waker), Patience::Waits, admitted(), limit());
    assert!(reply.poll(&mut Context::from_waker(&Waker::from(second.clone()))).is_pending());
    let mut waiting = vec![Batch::new(LogId::new(1, 1), waiters)];
    for index in 1..4 {
        assert_eq!(second.0.load(Ordering::SeqCst), 0);
        apply(index, &[1], &mut waiting);
    }
    assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
    assert!(reply.poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
