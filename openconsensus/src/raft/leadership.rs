//! A watch over the leadership of one node: every start and stop, in order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use futures::future::poll_fn;

use crate::driver::lock;
use crate::entry::Term;
use crate::leadership::LeadershipEvent;

/// So many of the latest events are kept for those who are slow to look.
const EVENTS_MAX: usize = 256;

/// The latest events, where the core loop puts them and where any number of [`LeadershipWatch`] look.
pub(crate) struct LeadershipLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: VecDeque<LeadershipEvent>,
    /// The number of the first of `events`: so many have been forgotten.
    first: u64,
    /// How many starts are among those.
    starts_forgotten: u64,
    /// How many starts there were at all.
    starts: u64,
    /// The leadership that goes on, as far as events tell.
    current: Option<Current>,
    closed: bool,
    next_key: u64,
    waiting: BTreeMap<u64, Waker>,
}

#[derive(Clone, Copy)]
struct Current {
    started: LeadershipEvent,
    is_ready: bool,
}

impl State {
    fn push(&mut self, event: LeadershipEvent) {
        match event {
            LeadershipEvent::Started { .. } => {
                self.starts += 1;
                self.current = Some(Current { started: event, is_ready: false });
            }
            LeadershipEvent::Ready { .. } => {
                if let Some(current) = &mut self.current {
                    current.is_ready = true;
                }
            }
            LeadershipEvent::Stopped { .. } => self.current = None,
        }
        self.events.push_back(event);
        if EVENTS_MAX < self.events.len() {
            let forgotten = self.events.pop_front();
            self.starts_forgotten += u64::from(forgotten.is_some_and(is_start));
            self.first += 1;
        }
    }

    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

fn is_start(event: LeadershipEvent) -> bool {
    matches!(event, LeadershipEvent::Started { .. })
}

impl LeadershipLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    pub(crate) fn publish(&self, events: Vec<LeadershipEvent>) {
        let mut state = lock(&self.state);
        events.into_iter().for_each(|event| state.push(event));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    /// The node has stopped: it leads no more, and never again.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        if let Some(current) = state.current {
            state.push(LeadershipEvent::Stopped { term: current.started.term() });
        }
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }
}

/// Every start and stop of this node's leadership, in order. Made by [`Raft::leadership`](crate::Raft::leadership); it
/// does not keep the node alive.
///
/// Nothing is lost, however often leadership changes between two looks and however metrics are published: also one that
/// begins and ends at once is told. Only who falls behind by more than 256 events does not see all of them, so that memory
/// stays bounded: whole leaderships are left out then, the oldest ones, and [`missed`](Self::missed) counts them. The rule
/// that each `Started` is followed by its `Stopped` before the next `Started` holds in any case.
///
/// ```no_run
/// # async fn example<C: openconsensus::TypeConfig>(raft: openconsensus::Raft<C>) {
/// use openconsensus::LeadershipEvent;
///
/// let mut leadership = raft.leadership();
/// while let Some(event) = leadership.next().await {
///     match event {
///         LeadershipEvent::Ready { term } => println!("term {term}: the jobs of the leader begin here"),
///         LeadershipEvent::Stopped { term } => println!("term {term}: they end here"),
///         _ => {}
///     }
/// }
/// # }
/// ```
pub struct LeadershipWatch {
    log: Arc<LeadershipLog>,
    /// The number of the event that is told next.
    next: u64,
    /// How many starts came before it.
    starts_passed: u64,
    /// What has to be told before it.
    first: VecDeque<LeadershipEvent>,
    /// The leadership whose start has been told and whose end has not.
    open: Option<Term>,
    missed: u64,
    /// Where its waker is kept.
    key: u64,
}

impl LeadershipWatch {
    /// Begins with the leadership that goes on, if one does.
    pub(crate) fn new(log: Arc<LeadershipLog>) -> Self {
        let mut state = lock(&log.state);
        state.next_key += 1;
        let (key, next, starts_passed, current) = (state.next_key, state.end(), state.starts, state.current);
        drop(state);
        let mut first = VecDeque::new();
        if let Some(Current { started, is_ready }) = current {
            first.push_back(started);
            first.extend(is_ready.then(|| LeadershipEvent::Ready { term: started.term() }));
        }
        Self { log, next, starts_passed, first, open: None, missed: 0, key }
    }

    /// The next event; `None` when the node has stopped and everything has been told. The first ones tell of a leadership
    /// that had begun before this watch was made and goes on: there is no need to look at the metrics too.
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<LeadershipEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// How many whole leaderships were left out because this watch was not looked at for too long.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LeadershipEvent>> {
        if let Some(event) = self.first.pop_front() {
            return Poll::Ready(Some(self.told(event)));
        }
        let log = self.log.clone();
        let mut state = lock(&log.state);
        if self.next < state.first {
            // What was forgotten ends the leadership that has been told of, and holds whole ones that never will be.
            self.next = state.first;
            self.missed += state.starts_forgotten - self.starts_passed;
            self.starts_passed = state.starts_forgotten;
            if let Some(term) = self.open
                && state.events.front().is_none_or(|event| event.term() != term)
            {
                return Poll::Ready(Some(self.told(LeadershipEvent::Stopped { term })));
            }
        }
        while let Some(event) = state.events.get((self.next - state.first) as usize).copied() {
            self.next += 1;
            self.starts_passed += u64::from(is_start(event));
            // Not the rest of a leadership whose start was forgotten.
            if is_start(event) || self.open == Some(event.term()) {
                return Poll::Ready(Some(self.told(event)));
            }
        }
        if state.closed {
            return Poll::Ready(None);
        }
        let previous = state.waiting.insert(self.key, cx.waker().clone());
        // Dropping a waker may drop a task and with it another watch, which takes the lock.
        drop(state);
        drop(previous);
        Poll::Pending
    }

    fn told(&mut self, event: LeadershipEvent) -> LeadershipEvent {
        match event {
            LeadershipEvent::Started { term, .. } => self.open = Some(term),
            LeadershipEvent::Ready { .. } => {}
            LeadershipEvent::Stopped { .. } => self.open = None,
        }
        event
    }
}

impl Stream for LeadershipWatch {
    type Item = LeadershipEvent;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LeadershipEvent>> {
        self.poll_event(cx)
    }
}

impl Drop for LeadershipWatch {
    fn drop(&mut self) {
        let waker = lock(&self.log.state).waiting.remove(&self.key);
        drop(waker);
    }
}

impl fmt::Debug for LeadershipWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeadershipWatch").field("open", &self.open).field("missed", &self.missed).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn started(term: Term) -> LeadershipEvent {
        LeadershipEvent::Started { term, ready_at: 10 * term }
    }

    fn stopped(term: Term) -> LeadershipEvent {
        LeadershipEvent::Stopped { term }
    }

    fn ready(term: Term) -> LeadershipEvent {
        LeadershipEvent::Ready { term }
    }

    /// Everything that is there to be told; whether the watch has ended.
    fn all(watch: &mut LeadershipWatch) -> (Vec<LeadershipEvent>, bool) {
        let mut told = Vec::new();
        loop {
            match watch.next().now_or_never() {
                Some(Some(event)) => told.push(event),
                Some(None) => return (told, true),
                None => return (told, false),
            }
        }
    }

    #[test]
    fn everybody_sees_each_event_once_and_in_order() {
        let log = LeadershipLog::new();
        let mut early = LeadershipWatch::new(log.clone());
        assert_eq!(all(&mut early), (vec![], false));
        log.publish(vec![started(1), ready(1), stopped(1), started(4)]);
        let mut late = LeadershipWatch::new(log.clone());
        assert_eq!(all(&mut late), (vec![started(4)], false));
        log.publish(vec![ready(4)]);
        assert_eq!(all(&mut LeadershipWatch::new(log.clone())), (vec![started(4), ready(4)], false));
        assert_eq!(all(&mut late), (vec![ready(4)], false));
        assert_eq!(all(&mut early), (vec![started(1), ready(1), stopped(1), started(4), ready(4)], false));
    }

    #[test]
    fn a_node_that_stops_leads_no_more_and_says_nothing_after_that() {
        let log = LeadershipLog::new();
        let mut watch = LeadershipWatch::new(log.clone());
        log.publish(vec![started(3)]);
        log.close();
        log.close();
        assert_eq!(all(&mut watch), (vec![started(3), stopped(3)], true));
        assert_eq!(all(&mut LeadershipWatch::new(log)), (vec![], true));
    }

    #[test]
    fn who_waits_is_woken() {
        let log = LeadershipLog::new();
        let mut watch = LeadershipWatch::new(log.clone());
        let waiting = std::thread::spawn(move || futures::executor::block_on(watch.next()));
        while lock(&log.state).waiting.is_empty() {
            std::thread::yield_now();
        }
        log.publish(vec![started(2)]);
        assert_eq!(waiting.join().unwrap(), Some(started(2)));
        assert!(lock(&log.state).waiting.is_empty());
    }

    /// Whatever is left out: a start is followed by its own end, terms rise, the latest is told, and what is missing is
    /// counted.
    #[test]
    fn a_slow_listener_misses_whole_leaderships_only_and_knows_how_many() {
        for seen_before in 0..4_usize {
            for terms in [1, 50, 85, 86, 100, 300, 1000_u64] {
                let log = LeadershipLog::new();
                let mut watch = LeadershipWatch::new(log.clone());
                let mut told = Vec::new();
                for term in 1..=terms {
                    log.publish(vec![started(term), ready(term), stopped(term)]);
                    if term == 1 {
                        told.extend((0..seen_before).filter_map(|_| watch.next().now_or_never().flatten()));
                    }
                }
                log.publish(vec![started(terms + 1)]);
                told.extend(all(&mut watch).0);
                let mut open = None;
                let mut starts = 0;
                let mut latest = 0;
                for event in &told {
                    match event {
                        LeadershipEvent::Started { term, .. } => {
                            assert_eq!(open.replace(*term), None, "{told:?}");
                            assert!(latest < *term, "{told:?}");
                            latest = *term;
                            starts += 1;
                        }
                        LeadershipEvent::Ready { term } => assert_eq!(open, Some(*term), "{told:?}"),
                        LeadershipEvent::Stopped { term } => assert_eq!(open.take(), Some(*term), "{told:?}"),
                    }
                }
                assert_eq!((open, latest), (Some(terms + 1), terms + 1));
                assert_eq!(starts + watch.missed(), terms + 1, "{seen_before} seen before, {terms} terms");
                assert!(lock(&log.state).events.len() <= EVENTS_MAX);
            }
        }
    }
}
