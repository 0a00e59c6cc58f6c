//! Leaves out of a list of events whatever a violation does not need (delta debugging).

use std::time::{Duration, Instant};

use super::event::{Event, Happening};
use super::run::{Run, Violation, replay};

/// How much may be spent on finding a shorter list.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// So many replays.
    pub replays_max: usize,
    /// So long.
    pub time_max: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self { replays_max: 20_000, time_max: Duration::from_secs(30) }
    }
}

/// The shortest list that was found.
#[derive(Clone, Debug)]
pub struct Minimised {
    /// The last replay, with what was seen in it.
    pub run: Run,
    /// How many events there were at first.
    pub events_before: usize,
    /// How many lists were tried.
    pub replays: usize,
}

/// Finds a short list of events that leads to the violation of `run`, at the same check.
///
/// # Panics
///
/// When `run` has no violation, or when its events do not lead to it again: then the simulation does not repeat itself.
pub fn minimise(run: &Run, effort: Effort) -> Minimised {
    let violation = run.violation.clone().expect("only a violation is minimised");
    let mut search = Search {
        of: run,
        violation,
        events: run.events.clone(),
        replays: 0,
        replays_max: effort.replays_max,
        end: Instant::now() + effort.time_max,
    };
    let repeats = search.take_if_it_fails(run.events.clone());
    assert!(repeats, "the events of seed {} do not lead to the violation again", run.seed);
    search.gather_nothing();
    search.leave_out_kinds();
    search.leave_out_chunks();
    let Search { events, violation, replays, .. } = search;
    let run = replay(run.seed, run.sabotage, &events, violation.in_calm, true);
    Minimised { run, events_before: search.of.events.len(), replays }
}

struct Search<'a> {
    of: &'a Run,
    violation: Violation,
    /// The shortest list so far.
    events: Vec<Event>,
    replays: usize,
    replays_max: usize,
    end: Instant,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.replays_max <= self.replays || self.end <= Instant::now()
    }

    /// Whether `events` lead to the violation too. Then they, as far as they are needed for it, are the shortest list.
    fn take_if_it_fails(&mut self, events: Vec<Event>) -> bool {
        self.replays += 1;
        let run = replay(self.of.seed, self.of.sabotage, &events, self.violation.in_calm, false);
        let fails = run.violation.is_some_and(|violation| {
            violation.place == self.violation.place && violation.in_calm <= self.violation.in_calm
        });
        if fails {
            self.events = run.events;
        }
        fails
    }

    fn try_without(&mut self, is_left_out: impl Fn(usize, &Event) -> bool) -> bool {
        let kept: Vec<Event> = self
            .events
            .iter()
            .enumerate()
            .filter(|(place, event)| !is_left_out(*place, event))
            .map(|(_, event)| *event)
            .collect();
        kept.len() < self.events.len() && !self.is_over() && self.take_if_it_fails(kept)
    }

    /// Everything of one kind at once, and everything of one node: most lists need few of them.
    fn leave_out_kinds(&mut self) {
        let kinds: [fn(&Happening) -> bool; 9] = [
            |what| matches!(what, Happening::Read { .. }),
            |what| matches!(what, Happening::Transfer { .. } | Happening::Campaign { .. }),
            |what| matches!(what, Happening::Change { .. }),
            |what| {
                matches!(
                    what,
                    Happening::SetClock { .. } | Happening::Suspend { .. } | Happening::Unreachable { .. }
                )
            },
            |what| {
                matches!(
                    what,
                    Happening::BuildSnapshot { .. }
                        | Happening::FinishBuilding { .. }
                        | Happening::DamageSnapshot { .. }
                        | Happening::PurgeLog { .. }
                )
            },
            |what| matches!(what, Happening::Cut { .. } | Happening::Mend { .. } | Happening::MendAll),
            |what| {
                matches!(
                    what,
                    Happening::Crash { .. } | Happening::FailDisk { .. } | Happening::Restart { .. }
                )
            },
            |what| matches!(what, Happening::Lose { .. }),
            |what| matches!(what, Happening::Write { .. }),
        ];
        for is_of_kind in kinds {
            self.try_without(|_, event| is_of_kind(&event.what));
        }
        for node in 1..9 {
            self.try_without(|_, event| event.what.concerns(node));
        }
    }

    /// Parts of the list, smaller and smaller ones, until no single event can be left out.
    fn leave_out_chunks(&mut self) {
        let mut chunk = self.events.len().div_ceil(2);
        while 0 < chunk && !self.is_over() {
            let mut has_helped = false;
            // From the end: what is late depends on what is early, not the other way round.
            let mut end = self.events.len();
            while 0 < end && !self.is_over() {
                let start = end.saturating_sub(chunk);
                has_helped |= self.try_without(|place, _| start <= place && place < end);
                end = start.min(self.events.len());
            }
            if chunk == 1 && !has_helped {
                return;
            }
            chunk = if has_helped { chunk.min(self.events.len()) } else { chunk / 2 };
            if has_helped && 1 < chunk {
                chunk = chunk.div_ceil(2);
            }
        }
    }

    /// Effects are taken after every input, if that does not matter.
    fn gather_nothing(&mut self) {
        let mut events = self.events.clone();
        events.iter_mut().for_each(|event| event.waits = false);
        if events != self.events && !self.is_over() {
            self.take_if_it_fails(events);
        }
    }
}
