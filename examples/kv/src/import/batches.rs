//! Reads a file on a thread of its own and makes batches of puts out of its lines.

use std::collections::BTreeSet;
use std::io::BufRead;

use tokio::sync::mpsc;

use super::lines::Lines;
use crate::client::Command;
use crate::format::{Backslashes, Format};

/// The most bytes of keys and values in one batch, unless a single line has more. Well below the default limit of a
/// command, so that only a line that is too large itself is refused.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Puts that travel together, in the order of their lines.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The lines, numbered, each of them a [`Command::Put`].
    pub(crate) puts: Vec<(u64, Command)>,
    /// The keys of them.
    pub(crate) keys: BTreeSet<String>,
    /// How many bytes of the file it took.
    pub(crate) bytes: u64,
}

/// What the reading thread has to say.
#[derive(Debug)]
pub(crate) enum Event {
    /// Lines that are well formed.
    Batch(Batch),
    /// A line that is not. Comes after the batch with the lines before it when reading stops here.
    Malformed {
        /// Its number.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read on.
    Failed {
        /// The last line that was read.
        line: u64,
        /// The error of the system.
        reason: String,
    },
}

/// What to do at a malformed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnError {
    /// Import the lines before it, and stop.
    Stop,
    /// Report it and go on.
    Continue,
}

/// How to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// How lines are written.
    pub(crate) format: Format,
    /// What a backslash means.
    pub(crate) backslashes: Backslashes,
    /// The most lines in one batch.
    pub(crate) batch_lines: usize,
    /// What to do at a malformed line.
    pub(crate) on_error: OnError,
}

/// Reads all of `reader` into `events`; ends early when nobody listens. Blank lines are skipped. Blocks: run it on a
/// thread of its own.
pub(crate) fn read_batches(reader: impl BufRead, reading: Reading, events: &mpsc::Sender<Event>) {
    // Nobody listens when the import was given up: then there is nothing left to do.
    let _ = read_until_closed(reader, reading, events);
}

fn read_until_closed(
    reader: impl BufRead,
    reading: Reading,
    events: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    let mut batch = Pending::default();
    let mut last_line = 0;
    for line in Lines::new(reader) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                batch.send(events)?;
                return events.blocking_send(Event::Failed { line: last_line, reason: error.to_string() });
            }
        };
        last_line = line.number;
        batch.file_bytes += line.bytes;
        let parsed = match line.text {
            Ok(text) if text.is_empty() => continue,
            Ok(text) => reading.format.parse_line(&text, reading.backslashes),
            Err(reason) => Err(reason),
        };
        match parsed {
            Ok((key, value)) => {
                if batch.bytes + key.len() + value.len() > BATCH_BYTES_MAX {
                    batch.send(events)?;
                }
                batch.push(line.number, key, value);
                if batch.puts.len() >= reading.batch_lines {
                    batch.send(events)?;
                }
            }
            Err(reason) => {
                let malformed = Event::Malformed { line: line.number, reason };
                match reading.on_error {
                    OnError::Continue => events.blocking_send(malformed)?,
                    OnError::Stop => {
                        batch.send(events)?;
                        return events.blocking_send(malformed);
                    }
                }
            }
        }
    }
    batch.send(events)
}

/// The batch that is being filled.
#[derive(Debug, Default)]
struct Pending {
    puts: Vec<(u64, Command)>,
    keys: BTreeSet<String>,
    bytes: usize,
    file_bytes: u64,
}

impl Pending {
    fn push(&mut self, line: u64, key: String, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.keys.insert(key.clone());
        self.puts.push((line, Command::Put { key, value }));
    }

    fn send(&mut self, events: &mpsc::Sender<Event>) -> Result<(), mpsc::error::SendError<Event>> {
        let Self { puts, keys, bytes: _, file_bytes } = std::mem::take(self);
        if puts.is_empty() {
            return Ok(());
        }
        events.blocking_send(Event::Batch(Batch { puts, keys, bytes: file_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, batch_lines: usize, on_error: OnError) -> Vec<String> {
        let (sender, mut events) = mpsc::channel(100);
        let reading =
            Reading { format: Format::Tsv, backslashes: Backslashes::Escape, batch_lines, on_error };
        read_batches(text.as_bytes(), reading, &sender);
        drop(sender);
        let mut seen = Vec::new();
        while let Some(event) = events.blocking_recv() {
            seen.push(match event {
                Event::Batch(batch) => {
                    let lines: Vec<String> = batch.puts.iter().map(|(line, _)| line.to_string()).collect();
                    format!("batch {}", lines.join(","))
                }
                Event::Malformed { line, .. } => format!("malformed {line}"),
                Event::Failed { line, reason } => format!("failed {line} {reason}"),
            });
        }
        seen
    }

    #[test]
    fn lines_travel_in_batches_in_order() {
        let seen = read("a\t1\nb\t2\n\nc\t3\nd\t4\ne\t5", 2, OnError::Stop);
        assert_eq!(seen, ["batch 1,2", "batch 4,5", "batch 6"]);
    }

    #[test]
    fn a_malformed_line_stops_behind_the_lines_before_it() {
        let seen = read("a\t1\nb\t2\nc\t3\nwrong\nd\t4", 2, OnError::Stop);
        assert_eq!(seen, ["batch 1,2", "batch 3", "malformed 4"]);
    }

    #[test]
    fn reading_goes_on_behind_a_malformed_line_when_asked() {
        let seen = read("wrong\na\t1\nwrong\nb\t2\nc\t3", 2, OnError::Continue);
        assert_eq!(seen, ["malformed 1", "malformed 3", "batch 2,4", "batch 5"]);
    }

    #[test]
    fn large_lines_make_small_batches() {
        let value = "x".repeat(BATCH_BYTES_MAX / 2);
        let seen = read(&format!("a\t{value}\nb\t{value}\nc\t1\n"), 100, OnError::Stop);
        assert_eq!(seen, ["batch 1", "batch 2,3"]);
    }

    #[test]
    fn a_stream_that_breaks_is_reported_behind_the_lines_before() {
        struct Broken;
        impl std::io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the disk is gone"))
            }
        }
        let (sender, mut events) = mpsc::channel(10);
        let reading = Reading {
            format: Format::Tsv,
            backslashes: Backslashes::Escape,
            batch_lines: 10,
            on_error: OnError::Stop,
        };
        let stream = std::io::BufReader::new(std::io::Read::chain("a\t1\n".as_bytes(), Broken));
        read_batches(stream, reading, &sender);
        assert!(matches!(events.blocking_recv(), Some(Event::Batch(_))));
        assert!(matches!(events.blocking_recv(), Some(Event::Failed { line: 1, .. })));
    }
}
