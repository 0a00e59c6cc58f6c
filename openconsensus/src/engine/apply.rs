//! Hands committed entries to the state machine, within limits.

use std::collections::VecDeque;

use crate::entry::{Index, LogId};
use crate::leadership::LeadershipEvent;
use crate::type_config::TypeConfig;

use super::{Apply, Engine, Role};

/// Entries in memory that were handed to the state machine and not applied: they stay in memory until then, so their
/// bytes are limited. Entries that have to be read from the log storage are not in memory yet and count nothing.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Backlog {
    handed: VecDeque<Handed>,
    bytes: u64,
}

#[derive(Clone, Debug, Hash)]
struct Handed {
    last: Index,
    bytes: u64,
}

impl Backlog {
    fn push(&mut self, last: Index, bytes: u64) {
        self.handed.push_back(Handed { last, bytes });
        self.bytes += bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A part that is applied in the middle counts until its end.
    fn applied_to(&mut self, applied: Index) {
        while let Some(first) = self.handed.front() {
            if applied < first.last {
                break;
            }
            self.bytes -= first.bytes;
            self.handed.pop_front();
        }
    }
}

impl<C: TypeConfig> Engine<C> {
    /// Hands over committed and stable entries, as many as the state machine may have before it. Called once for each
    /// time that the effects are taken.
    pub(super) fn apply(&mut self) {
        if self.snapshots.is_installing() {
            return;
        }
        let start = self.log.dispatched() + 1;
        let ready = self.log.committed().min(self.log.stable());
        let waiting = self.log.dispatched() - self.log.applied().index;
        // Four calls ahead keep the state machine busy; more would only take memory.
        let entries_max = (4 * self.config.apply_entries_max).saturating_sub(waiting);
        let mut end = (ready + 1).min(start.saturating_add(entries_max));
        let bytes_max = self.config.apply_bytes_max.saturating_sub(self.backlog.bytes);
        if end <= start || bytes_max == 0 {
            return;
        }
        let mut entries = self.log.recent_range(start..end);
        if entries.range().start == start {
            // In memory from the start, so the limit can be kept to the entry. One that is larger goes alone.
            entries = entries.limit_bytes(bytes_max);
            end = entries.range().end;
            if bytes_max < entries.size_bytes() && 0 < self.backlog.bytes {
                return;
            }
        } else if let Some(first) = entries.first() {
            // What is not in memory goes first, and is read piece by piece.
            entries = crate::Entries::empty();
            end = first.index;
        }
        self.backlog.push(end - 1, entries.size_bytes());
        self.log.dispatched_to(end - 1);
        self.effects.apply = Some(Apply { range: start..end, entries });
    }

    pub(super) fn on_applied(&mut self, last: LogId) {
        let before = self.log.applied().index;
        self.log.applied_to(last);
        self.backlog.applied_to(last.index);
        if let Role::Leader(leader) = &self.role
            && before < leader.term_start
            && leader.term_start <= last.index
        {
            self.effects.leadership.push(LeadershipEvent::Ready { term: self.term });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::engine::{Input, Recovered, RequestId};
    use crate::metrics::RoleName;
    use crate::testing::U64;

    #[test]
    fn bytes_count_until_the_whole_part_is_applied() {
        let mut backlog = Backlog::default();
        backlog.push(3, 100);
        backlog.push(7, 50);
        backlog.applied_to(2);
        assert_eq!(backlog.bytes, 150);
        backlog.applied_to(3);
        assert_eq!(backlog.bytes, 50);
        backlog.applied_to(9);
        assert_eq!(backlog.bytes, 0);
    }

    /// The only voter, elected, with its disk always done.
    fn leader(config: Config) -> (Engine<U64>, Instant) {
        let start = Instant::now();
        let mut engine = Engine::new(config.validate().unwrap(), Recovered::empty(1, 1), start).unwrap();
        engine.step(start, Input::Initialize { request: RequestId(1), nodes: [(1, ())].into() });
        let mut now = start;
        while engine.metrics(now).role != RoleName::Leader {
            while let Some(write) = engine.take_effects(now).write {
                engine.step(now, Input::Persisted { write: write.id });
            }
            now = now.max(engine.next_deadline().unwrap());
            engine.step(now, Input::Timeout);
        }
        (engine, now)
    }

    /// Lets the disk complete everything, and returns what is handed to the state machine.
    fn handed(engine: &mut Engine<U64>, now: Instant) -> Vec<Apply<U64>> {
        let mut handed = Vec::new();
        loop {
            let effects = engine.take_effects(now);
            handed.extend(effects.apply);
            match effects.write {
                Some(write) => engine.step(now, Input::Persisted { write: write.id }),
                None => return handed,
            }
        }
    }

    #[test]
    fn a_slow_state_machine_has_no_more_before_it_than_the_limit_in_bytes() {
        let (mut engine, now) = leader(Config { apply_bytes_max: 1024, ..Config::default() });
        for parts in handed(&mut engine, now) {
            engine.step(now, Input::Applied { last: parts.entries.last().unwrap() });
        }
        for request in 2..102 {
            engine.step(now, Input::Write { request: RequestId(request), commands: vec![request] });
        }
        // Many turns pass, and the state machine does nothing.
        let parts: Vec<_> = (0..50).flat_map(|_| handed(&mut engine, now)).collect();
        let bytes: u64 = parts.iter().map(|part| part.entries.size_bytes()).sum();
        assert!(0 < bytes && bytes <= 1024, "{bytes} bytes are handed over");
        // What it has applied makes room for as much again.
        engine.step(now, Input::Applied { last: parts.last().unwrap().entries.last().unwrap() });
        let parts = (0..50).flat_map(|_| handed(&mut engine, now));
        let more: u64 = parts.map(|part| part.entries.size_bytes()).sum();
        assert!(0 < more && more <= 1024, "{more} bytes are handed over");
        // Nothing is counted any more when everything is applied, however often that is.
        loop {
            let rest = handed(&mut engine, now);
            engine.step(now, Input::Applied { last: engine.log.log_id_at(engine.log.dispatched()).unwrap() });
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(engine.backlog.bytes, 0);
    }
}
