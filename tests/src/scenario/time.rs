//! Commands about time: which timers run out, and whether anybody notices that it passes.

use std::time::{Duration, Instant};

use openconsensus::engine::Input;

use crate::engines::ELECTION_TIMEOUT_MS;

use super::network::Except;
use super::stage::{Sent, Stage};
use super::words::{Result, Words, wrong};

/// More timers than this in one command are taken for a mistake.
const TIMERS_MAX: usize = 20_000;

impl Stage {
    /// The next timer of one node runs out, whatever the others' clocks say.
    pub(super) fn timeout(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        if self.cluster.node(id).engine().next_deadline().is_none() {
            return wrong(
                format!("node {id} waits for nothing"),
                "a node whose disk has failed has no timers",
            );
        }
        self.cluster.time_out(id);
        Ok(())
    }

    /// Time passes and timers run out, but nothing arrives.
    pub(super) fn tick(&mut self, words: &mut Words<'_>) -> Result<()> {
        let end = self.end(words)?;
        for _ in 0..TIMERS_MAX {
            let Some((deadline, id)) = self.next_timer().filter(|(deadline, _)| *deadline <= end) else {
                self.cluster.now = self.cluster.now.max(end);
                return Ok(());
            };
            self.cluster.now = self.cluster.now.max(deadline);
            self.cluster.step(id, Input::Timeout);
        }
        wrong("timers run out without end", "tick for a shorter time")
    }

    /// Time passes, timers run out, and what is sent arrives at once.
    pub(super) fn run(&mut self, words: &mut Words<'_>) -> Result<()> {
        let is_until_leader = words.take("until");
        let end = if is_until_leader {
            words.expect("leader")?;
            self.cluster.now + Duration::from_millis(20 * ELECTION_TIMEOUT_MS)
        } else {
            self.end(words)?
        };
        let except = Except::parse(words)?;
        for _ in 0..TIMERS_MAX {
            self.settle_but(&except)?;
            if is_until_leader && self.cluster.leader().is_some() {
                self.report(0, Sent::Silent);
                return Ok(());
            }
            let Some((deadline, id)) = self.next_timer().filter(|(deadline, _)| *deadline <= end) else {
                self.cluster.now = self.cluster.now.max(end);
                if is_until_leader {
                    self.print(0, "no leader is elected");
                }
                self.report(0, Sent::Silent);
                return Ok(());
            };
            self.cluster.now = self.cluster.now.max(deadline);
            if except.is_aloud {
                self.print(0, format!("at {} ms, a timer of {id}", self.elapsed()));
            }
            self.cluster.step(id, Input::Timeout);
            if except.is_aloud {
                self.report(2, Sent::Silent);
            }
        }
        wrong("timers run out without end", "run for a shorter time")
    }

    /// Whose timer runs out next, and when.
    fn next_timer(&self) -> Option<(Instant, u64)> {
        let alive = self.cluster.nodes.values().filter(|node| node.is_alive());
        alive.filter_map(|node| Some((node.engine().next_deadline()?, node.id))).min()
    }

    /// `30` from now on, or `to 300` since the beginning.
    fn end(&self, words: &mut Words<'_>) -> Result<Instant> {
        if !words.take("to") {
            return Ok(self.cluster.now + Duration::from_millis(words.number("a time in ms")?));
        }
        let ms = words.number("a time in ms")?;
        if self.at(ms) < self.cluster.now {
            return wrong(
                format!("{ms} ms are over"),
                format!("it is {} ms since the script began", self.elapsed()),
            );
        }
        Ok(self.at(ms))
    }

    /// Time passes and nobody looks at a timer.
    pub(super) fn skip(&mut self, words: &mut Words<'_>) -> Result<()> {
        let ms = words.number("a time in ms")?;
        self.cluster.skip(ms);
        self.print(0, format!("{ms} ms pass unnoticed"));
        Ok(())
    }

    pub(super) fn clock_jump(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        self.cluster.step(id, Input::ClockJumped);
        Ok(())
    }

    pub(super) fn time(&mut self, _words: &mut Words<'_>) -> Result<()> {
        self.print(0, format!("{} ms", self.elapsed()));
        Ok(())
    }
}
