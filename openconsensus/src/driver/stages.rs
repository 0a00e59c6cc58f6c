//! How long writes take, stage by stage: one measurement for each batch, which counts as often as it has commands.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::entry::{Index, LogId, Term};
use crate::metrics::{ApplyTimes, Histogram, WriteTimes};
use crate::type_config::TypeConfig;

/// Batches on their way from the log of this leader to their callers, and how long earlier ones have taken. Everything
/// is measured in the turns of the core loop, whose time is at hand anyway.
pub(super) struct Stages {
    times: WriteTimes,
    apply: ApplyTimes,
    /// In the order of their entries, all of one term.
    batches: VecDeque<Batch>,
    /// So many of them, from the first one on, are durable here.
    stable: usize,
    /// So many of them, from the first one on, are committed.
    committed: usize,
}

struct Batch {
    last: LogId,
    commands: u64,
    asked: Instant,
    appended: Instant,
    committed: Instant,
}

/// When a call of the state machine began, and when those who waited for it had their answers.
pub(crate) struct ApplyTiming {
    pub(super) began: Instant,
    pub(super) answered: Instant,
}

impl Stages {
    pub(super) fn new() -> Self {
        Self {
            times: WriteTimes::default(),
            apply: ApplyTimes::default(),
            batches: VecDeque::new(),
            stable: 0,
            committed: 0,
        }
    }

    pub(super) fn write_times(&self) -> WriteTimes {
        self.times.clone()
    }

    pub(super) fn apply_times(&self) -> ApplyTimes {
        self.apply.clone()
    }

    /// Commands that were asked for at `asked`, or soon after it, were appended up to `last`.
    pub(super) fn appended(&mut self, now: Instant, asked: Instant, last: LogId, commands: u64) {
        record(&mut self.times.queued, asked, now, commands);
        self.batches.push_back(Batch { last, commands, asked, appended: now, committed: now });
    }

    /// What `engine` has come to in this turn.
    pub(super) fn look<C: TypeConfig>(&mut self, now: Instant, engine: &Engine<C>) {
        if !self.batches.is_empty() {
            self.come_to(now, engine.leading_term(), engine.stable(), engine.committed());
        }
    }

    fn come_to(&mut self, now: Instant, leading: Option<Term>, stable: Index, committed: Index) {
        // What becomes of the writes of an earlier leadership is not up to this node.
        if self.batches.front().is_some_and(|batch| Some(batch.last.term) != leading) {
            *self = Self { times: self.times.clone(), apply: self.apply.clone(), ..Self::new() };
            return;
        }
        while let Some(batch) = self.batches.get(self.stable)
            && batch.last.index <= stable
        {
            record(&mut self.times.stable, batch.appended, now, batch.commands);
            self.stable += 1;
        }
        while let Some(batch) = self.batches.get_mut(self.committed)
            && batch.last.index <= committed
        {
            record(&mut self.times.committed, batch.appended, now, batch.commands);
            batch.committed = now;
            self.committed += 1;
        }
    }

    /// The state machine has applied `entries` entries, the last of them `last`, by one call.
    pub(super) fn applied(&mut self, last: LogId, entries: u64, timing: &ApplyTiming) {
        record(&mut self.apply.call, timing.began, timing.answered, 1);
        Arc::make_mut(&mut self.apply.entries).record(entries);
        // Only what is committed and durable here is applied, and that was seen in an earlier turn.
        while 0 < self.committed.min(self.stable)
            && let Some(batch) = self.batches.front()
            && batch.last.index <= last.index
        {
            record(&mut self.times.applied, batch.committed, timing.answered, batch.commands);
            record(&mut self.times.whole, batch.asked, timing.answered, batch.commands);
            self.batches.pop_front();
            self.stable -= 1;
            self.committed -= 1;
        }
    }
}

/// Counts the time from `from` to `to`. Two tasks may read their clocks in another order than things happen.
pub(super) fn record(histogram: &mut Arc<Histogram>, from: Instant, to: Instant, times: u64) {
    record_time(histogram, to.saturating_duration_since(from), times);
}

pub(super) fn record_time(histogram: &mut Arc<Histogram>, time: Duration, times: u64) {
    // Copied when it was published since the last time, and not otherwise.
    Arc::make_mut(histogram).record_time(time, times);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    fn ms(histogram: &Histogram) -> (u64, u64) {
        (histogram.count(), histogram.sum() / 1_000_000)
    }

    #[test]
    fn each_stage_is_counted_once_for_each_command_when_the_last_of_the_batch_has_come_through() {
        let start = start();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut stages = Stages::new();
        stages.appended(at(2), at(1), LogId::new(3, 10), 5);
        stages.appended(at(4), at(3), LogId::new(3, 12), 2);
        stages.come_to(at(7), Some(3), 9, 11);
        stages.come_to(at(10), Some(3), 12, 11);
        stages.come_to(at(12), Some(3), 12, 20);
        let times = stages.write_times();
        assert_eq!(ms(&times.queued), (7, 5 + 2));
        assert_eq!(ms(&times.stable), (7, 5 * 8 + 2 * 6));
        assert_eq!(ms(&times.committed), (7, 5 * 5 + 2 * 8));
        stages.applied(LogId::new(3, 11), 11, &ApplyTiming { began: at(12), answered: at(15) });
        assert_eq!(ms(&stages.write_times().applied), (5, 5 * 8));
        assert_eq!(ms(&stages.write_times().whole), (5, 5 * 14));
        stages.applied(LogId::new(3, 12), 1, &ApplyTiming { began: at(15), answered: at(16) });
        assert_eq!(ms(&stages.write_times().applied), (7, 5 * 8 + 2 * 4));
        assert_eq!(ms(&stages.write_times().whole), (7, 5 * 14 + 2 * 13));
        assert_eq!(ms(&stages.apply_times().call), (2, 4));
        assert_eq!((stages.apply_times().entries.max(), stages.apply_times().entries.sum()), (11, 12));
        // Published histograms are not changed any more.
        assert_eq!(ms(&times.applied), (0, 0));
    }

    #[test]
    fn writes_of_a_lost_leadership_are_not_counted_any_further() {
        for leading in [None, Some(4)] {
            let (mut stages, now) = (Stages::new(), start());
            stages.appended(now, now, LogId::new(3, 10), 1);
            stages.come_to(now, Some(3), 10, 9);
            stages.come_to(now, leading, 10, 10);
            stages.applied(LogId::new(3, 10), 1, &ApplyTiming { began: now, answered: now });
            let times = stages.write_times();
            assert_eq!((times.stable.count(), times.committed.count(), times.whole.count()), (1, 0, 0));
            stages.appended(now, now, LogId::new(4, 11), 1);
            stages.come_to(now, Some(4), 11, 11);
            assert_eq!(stages.write_times().committed.count(), 1);
        }
    }
}
