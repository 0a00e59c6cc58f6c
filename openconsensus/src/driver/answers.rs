//! The way back to those who have written: the answers to several writes in one allocation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::entry::LogId;
use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::sync::lock;

/// So many callers share one allocation for their answers at most. One who does not take its answer keeps all of it.
pub(super) const SHARED_BY_MAX: u32 = 64;

/// So many bytes are allocated at most for answers that nobody may ever need.
const TOLD_BYTES: usize = 1024;

/// The outcome of a write whose waiter was lost with the task that knew it: after a panic, or when the executor was
/// shut down. Which entry it has, if it has one, nobody can tell.
const UNKNOWN_ENTRY: LogId = LogId::ZERO;

/// Answers to commands that were handed over one behind the other, each at its place among them.
pub(super) struct Answers<C: TypeConfig> {
    state: Mutex<State<C>>,
}

struct State<C: TypeConfig> {
    /// By their places; those that are missing at the end are not told yet.
    told: Vec<Told<C>>,
    callers: Callers,
}

enum Callers {
    /// Each command has a caller of its own. Here are those, by their places, who have asked again before they had an
    /// answer: the waker that came with the command may not be the right one any more.
    Many(BTreeMap<u32, Waker>),
    /// One caller waits until all commands have an answer.
    One {
        open: u32,
        /// The entry of the first command, if one is known.
        first: Option<LogId>,
        waker: Option<Waker>,
    },
}

/// What is told of one command.
pub(super) enum Told<C: TypeConfig> {
    /// Nothing yet, or it has been taken.
    Nothing,
    /// It was applied, with this response.
    Applied(C::Response),
    /// It was not, or nobody knows. Boxed, so that what is told mostly is small.
    Failed(Box<WriteError<C>>),
}

impl<C: TypeConfig> Told<C> {
    pub(super) fn failed(error: WriteError<C>) -> Self {
        Self::Failed(Box::new(error))
    }

    /// The outcome is lost.
    pub(super) fn lost() -> Self {
        Self::failed(WriteError::Unknown { log_id: UNKNOWN_ENTRY })
    }
}

impl<C: TypeConfig> Answers<C> {
    /// For callers of one command each, of whom so many are expected.
    pub(super) fn to_many(expected: usize) -> Arc<Self> {
        let small = TOLD_BYTES / size_of::<Told<C>>().max(1);
        Self::new(Callers::Many(BTreeMap::new()), small.min(expected))
    }

    /// For one caller of `count` commands.
    fn to_one(count: u32, waker: Waker) -> Arc<Self> {
        Self::new(Callers::One { open: count, first: None, waker: Some(waker) }, count as usize)
    }

    /// With room for what is told of `count` commands: made by those who will drop it.
    fn new(callers: Callers, count: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { told: Vec::with_capacity(count), callers }) })
    }

    /// Tells what became of as many commands as `told` has, from `place` on. `entry` is that of the command at `place`,
    /// if it has one. `expected` is how many are told in all.
    pub(super) fn tell(
        &self,
        place: u32,
        entry: Option<LogId>,
        expected: u32,
        told: impl Iterator<Item = Told<C>>,
    ) {
        let to_wake = {
            let mut state = lock(&self.state);
            let state = &mut *state;
            if state.told.is_empty() {
                state.told.reserve_exact((place + expected) as usize);
            }
            if state.told.len() <= place as usize {
                // What comes before may be told later, where waiters were cut.
                state.told.resize_with(place as usize, || Told::Nothing);
                state.told.extend(told);
            } else {
                let end = state.told.len();
                for (at, told) in (place as usize..).zip(told) {
                    if at < end { state.told[at] = told } else { state.told.push(told) }
                }
            }
            state.callers.after(place, entry, expected)
        };
        to_wake.into_iter().for_each(Waker::wake);
    }
}

impl Callers {
    /// Those who have to be woken when `count` commands from `place` on are told.
    fn after(&mut self, place: u32, entry: Option<LogId>, count: u32) -> Vec<Waker> {
        match self {
            Self::Many(moved) if moved.is_empty() => Vec::new(),
            Self::Many(moved) => {
                let mut told = moved.split_off(&place);
                moved.extend(told.split_off(&(place + count)));
                told.into_values().collect()
            }
            Self::One { open, first, waker } => {
                if let Some(entry) = entry {
                    first.get_or_insert(LogId::new(entry.term, entry.index - u64::from(place)));
                }
                *open -= count;
                if *open == 0 { waker.take().into_iter().collect() } else { Vec::new() }
            }
        }
    }
}

/// Gets the answer to one command.
pub(crate) struct Answer<C: TypeConfig> {
    answers: Arc<Answers<C>>,
    place: u32,
}

impl<C: TypeConfig> Answer<C> {
    pub(super) fn new(answers: &Arc<Answers<C>>, place: u32) -> Self {
        Self { answers: answers.clone(), place }
    }

    /// Ready when the answer is there. Not to be asked again then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<C::Response, WriteError<C>>> {
        let mut state = lock(&self.answers.state);
        let told = state.told.get_mut(self.place as usize);
        match told.map_or(Told::Nothing, |told| std::mem::replace(told, Told::Nothing)) {
            Told::Applied(response) => Poll::Ready(Ok(response)),
            Told::Failed(error) => Poll::Ready(Err(*error)),
            Told::Nothing => {
                match &mut state.callers {
                    Callers::Many(moved) => {
                        moved
                            .entry(self.place)
                            .and_modify(|waker| waker.clone_from(cx.waker()))
                            .or_insert_with(|| cx.waker().clone());
                    }
                    Callers::One { .. } => {}
                }
                Poll::Pending
            }
        }
    }
}

/// What a `write_many` returns: the entry of the first command, and all responses.
#[derive(Debug)]
pub(crate) struct ManyResponses<C: TypeConfig> {
    pub(crate) first: LogId,
    pub(crate) responses: Vec<C::Response>,
}

/// Gets the answers to all commands of one call.
pub(crate) struct ManyAnswers<C: TypeConfig> {
    answers: Arc<Answers<C>>,
}

impl<C: TypeConfig> ManyAnswers<C> {
    pub(super) fn new(count: u32, cx: &Context<'_>) -> Self {
        Self { answers: Answers::to_one(count, cx.waker().clone()) }
    }

    pub(super) fn answers(&self) -> &Arc<Answers<C>> {
        &self.answers
    }

    /// Ready when all answers are there. Not to be asked again then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ManyResponses<C>, WriteError<C>>> {
        let mut state = lock(&self.answers.state);
        let State { told, callers } = &mut *state;
        match callers {
            Callers::One { open: 0, first, .. } => {
                let first = first.unwrap_or(UNKNOWN_ENTRY);
                Poll::Ready(result_of(first, std::mem::take(told)))
            }
            Callers::One { waker: Some(waker), .. } => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Callers::One { waker: None, .. } | Callers::Many(_) => Poll::Pending,
        }
    }
}

/// `Ok` when all were applied, and what happened to all of them when certainly none was. Anything between them must not be
/// retried blindly, and that is what `Unknown` says.
fn result_of<C: TypeConfig>(first: LogId, mut told: Vec<Told<C>>) -> Result<ManyResponses<C>, WriteError<C>> {
    let is_applied = |told: &Told<C>| matches!(told, Told::Applied(_));
    let Some(open) = told.iter().position(|told| !is_applied(told)) else {
        let responses = told.into_iter().filter_map(|told| match told {
            Told::Applied(response) => Some(response),
            Told::Nothing | Told::Failed(_) => None,
        });
        return Ok(ManyResponses { first, responses: responses.collect() });
    };
    let is_unknown = |told: &Told<C>| match told {
        Told::Nothing => true,
        Told::Applied(_) => false,
        Told::Failed(error) => matches!(**error, WriteError::Unknown { .. }),
    };
    if !told.iter().any(|told| is_applied(told) || is_unknown(told))
        && let Told::Failed(error) = std::mem::replace(&mut told[open], Told::Nothing)
    {
        return Err(*error);
    }
    // Where no entry is known there is none to look for.
    let index = if first == UNKNOWN_ENTRY { 0 } else { first.index + open as u64 };
    Err(WriteError::Unknown { log_id: LogId::new(first.term, index) })
}
