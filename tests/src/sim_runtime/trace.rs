//! `Trace`: everything that happens in a simulation, as a hash and, on demand, as text.

use std::fmt::{self, Write};
use std::time::Duration;

/// How much of a trace is kept as text. The hash always covers everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceText {
    /// Nothing: the fastest.
    #[default]
    None,
    /// Messages, writes, requests and their answers, faults.
    Events,
    /// Also every decision of the scheduler.
    All,
}

pub(super) struct Trace {
    hash: Hash,
    text: String,
    level: TraceText,
}

impl Trace {
    pub(super) fn new(level: TraceText) -> Self {
        Self { hash: Hash(0x9E37_79B9_7F4A_7C15), text: String::new(), level }
    }

    /// The scheduler has chosen a task, whose name is made only where somebody reads it.
    pub(super) fn decision(&mut self, now: Duration, task: u64, name: impl FnOnce() -> String) {
        self.hash.add(now.as_nanos() as u64);
        self.hash.add(task);
        if self.level == TraceText::All {
            self.line(now, format_args!("run {}", name()));
        }
    }

    /// Something has happened that a reader wants to see.
    pub(super) fn event(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        self.hash.add(now.as_nanos() as u64);
        // Writing into a hash does not fail.
        let _ = self.hash.write_fmt(what);
        if self.level != TraceText::None {
            self.line(now, what);
        }
    }

    fn line(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        // Nor does writing into a string.
        let _ = writeln!(self.text, "{:>12.6} {what}", now.as_secs_f64());
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A hash that is the same on every machine and in every process.
struct Hash(u64);

impl Hash {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x2545_F491_4F6C_DD1D);
        self.0 ^= self.0 >> 29;
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
        self.add(text.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_event_is_in_the_hash() {
        let hash = |ms, text: &str| {
            let mut trace = Trace::new(TraceText::None);
            trace.event(Duration::from_millis(ms), format_args!("{text}"));
            trace.hash()
        };
        assert_eq!(hash(1, "n1 writes"), hash(1, "n1 writes"));
        assert_ne!(hash(1, "n1 writes"), hash(2, "n1 writes"));
        assert_ne!(hash(1, "n1 writes"), hash(1, "n2 writes"));
        assert_ne!(hash(1, "a longer text, a"), hash(1, "a longer text, b"));
        assert_ne!(hash(1, "a"), hash(1, "a\0"));
    }

    #[test]
    fn the_text_has_what_was_asked_for_and_does_not_change_the_hash() {
        let run = |level| {
            let mut trace = Trace::new(level);
            trace.decision(Duration::from_millis(1500), 3, || "n1#3".into());
            trace.event(Duration::from_millis(1501), format_args!("n1 writes"));
            (trace.hash(), trace.text().to_owned())
        };
        let (hash, text) = run(TraceText::All);
        assert_eq!(text, "    1.500000 run n1#3\n    1.501000 n1 writes\n");
        assert_eq!(run(TraceText::Events), (hash, "    1.501000 n1 writes\n".to_owned()));
        assert_eq!(run(TraceText::None), (hash, String::new()));
    }
}
