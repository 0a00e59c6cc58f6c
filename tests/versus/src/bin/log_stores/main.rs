//! Logs on a disk: what it takes to append entries and to sync them.
//!
//! ```sh
//! cd tests/versus
//! cargo run --release --bin log_stores -- --folder /a/folder/on/a/disk
//! cargo run --release --bin log_stores -- --batch 1,256 --only wal,raw
//! ```
//!
//! One caller appends a batch of entries of 256 bytes, waits until it is synced, and appends the next one: as a node of Raft
//! does that has one append under way. The bytes are random and all different, so that nobody can compress them. When a
//! log has 100,000 entries more than the 10,000 that a node keeps, the others are purged, as behind a snapshot.
//!
//! `raw` is what the disk allows: a file that was filled with zeros before, a frame with length and checksum for each
//! batch, one write and one sync by the thread that calls. It is no log: it finds nothing again. All others can be read,
//! truncated and recovered. `raft-engine` compresses nothing here, which is faster with such entries. For stores that are
//! databases, the key of an entry is its index, and a batch is one transaction.

#![forbid(unsafe_code)]

mod ours;
mod peers;
mod raw;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use openconsensus_bench::{Contender, Failure, Latencies, Options, Report, Sample, Stopwatch, parameters};
use openconsensus_versus::version_of;

/// Measure appends to logs on a disk
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Only with so many entries in each append
    #[arg(long, value_delimiter = ',')]
    batch: Vec<u64>,
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Where the logs are; by default where temporary files are
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Wal,
    Raw,
    RaftEngine,
    Fjall,
    Redb,
    OursOnRedb,
}

/// How many bytes an entry has.
const ENTRY_BYTES: usize = 256;
/// How many entries are in one append.
const BATCHES: &[u64] = &[1, 16, 256];
/// How many entries a log has before all but the last are purged.
const PURGE_AT_ENTRIES: u64 = 110_000;
/// How many of them are kept.
const KEPT_ENTRIES: u64 = 10_000;

/// A log on a disk. The first entry has the index 1.
trait Log {
    /// Appends entries behind the last one; the first of them gets this index. They are synced when it returns.
    fn append(&mut self, first: u64, entries: &[Bytes]) -> Result<(), Failure>;

    /// Entries up to this one are not needed any more.
    fn purge(&mut self, upto: u64) -> Result<(), Failure>;
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Wal, Self::Raw, Self::RaftEngine, Self::Fjall, Self::Redb, Self::OursOnRedb];

    fn name(self) -> &'static str {
        match self {
            Self::Wal => "openconsensus wal",
            Self::Raw => "raw file",
            Self::RaftEngine => "raft-engine",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::OursOnRedb => "openconsensus on redb",
        }
    }

    fn open(self, folder: &Path) -> Result<Box<dyn Log>, Failure> {
        Ok(match self {
            Self::Wal => Box::new(ours::wal(folder)?),
            Self::Raw => Box::new(raw::Raw::create(folder)?),
            Self::RaftEngine => Box::new(peers::OnRaftEngine::open(folder)?),
            Self::Fjall => Box::new(peers::OnFjall::open(folder)?),
            Self::Redb => Box::new(peers::OnRedb::open(folder)?),
            Self::OursOnRedb => Box::new(ours::on_redb(folder)?),
        })
    }
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = match &args.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            tempfile::tempdir_in(folder)?
        }
        None => tempfile::tempdir()?,
    };
    let mut report = Report::new("log_stores", &args.options).on_disk_of(folder.path())?;
    for peer in ["raft-engine", "fjall", "redb"] {
        report = report.version(peer, &version_of(peer));
    }
    let kinds = Kind::ALL.into_iter().filter(|kind| args.only.is_empty() || args.only.contains(kind));
    let kinds: Vec<Kind> = kinds.collect();
    let random = random_bytes();
    for &batch in BATCHES.iter().filter(|batch| args.batch.is_empty() || args.batch.contains(batch)) {
        let mut contenders: Vec<Contender<'_>> = Vec::new();
        for &kind in &kinds {
            let (folder, random, options) = (folder.path(), &random, &args.options);
            contenders.push((kind.name(), Box::new(move |_| round(kind, folder, batch, random, options))));
        }
        report.compare(parameters! { batch: batch, entry_bytes: ENTRY_BYTES }, &mut contenders)?;
    }
    report.finish()
}

/// Bytes that entries are cut from.
fn random_bytes() -> Bytes {
    let mut bytes = vec![0; 32 << 20];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes.into()
}

/// Opens a new log and appends to it for as long as the options say.
fn round(
    kind: Kind,
    folder: &Path,
    batch: u64,
    random: &Bytes,
    options: &Options,
) -> Result<Sample, Failure> {
    let folder = tempfile::tempdir_in(folder)?;
    let mut appending =
        Appending { log: kind.open(folder.path())?, random, batch, next: 1, kept_from: 1, place: 0 };
    let begun = Instant::now();
    while begun.elapsed() < options.duration() / 5 {
        appending.append()?;
    }
    let mut latencies = Latencies::new();
    let watch = Stopwatch::start();
    let begun = Instant::now();
    while begun.elapsed() < options.duration() {
        let begun = Instant::now();
        appending.append()?;
        latencies.record(begun.elapsed());
    }
    let elapsed = watch.stop();
    let appends = latencies.count();
    let seconds = elapsed.wall.as_secs_f64();
    Ok(Sample::new()
        .with("entries_per_s", (appends * batch) as f64 / seconds)
        .with("syncs_per_s", appends as f64 / seconds)
        .with("cpu_us", elapsed.processor.as_secs_f64() * 1e6 / appends as f64)
        .latencies(&latencies))
}

/// One caller of a log.
struct Appending<'a> {
    log: Box<dyn Log>,
    random: &'a Bytes,
    batch: u64,
    /// The index of the next entry.
    next: u64,
    /// The index of the first one that was not purged.
    kept_from: u64,
    /// Where the next entry is cut from.
    place: usize,
}

impl Appending<'_> {
    /// Appends the next batch, and purges where it is time.
    fn append(&mut self) -> Result<(), Failure> {
        let entries: Vec<Bytes> = (0..self.batch)
            .map(|_| {
                // A stride that is odd goes through all places before it comes back to the first.
                self.place = (self.place + ENTRY_BYTES + 1) % (self.random.len() - ENTRY_BYTES);
                self.random.slice(self.place..self.place + ENTRY_BYTES)
            })
            .collect();
        self.log.append(self.next, &entries)?;
        self.next += self.batch;
        if PURGE_AT_ENTRIES <= self.next - self.kept_from {
            self.kept_from = self.next - KEPT_ENTRIES;
            self.log.purge(self.kept_from - 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_takes_appends_and_purges() {
        for kind in Kind::ALL {
            let folder = tempfile::tempdir().unwrap();
            let mut log = kind.open(folder.path()).unwrap();
            let entries = vec![Bytes::from(vec![7; ENTRY_BYTES]); 16];
            for first in [1, 17, 33] {
                log.append(first, &entries).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
            }
            log.purge(20).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
            log.append(49, &entries).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
        }
    }
}
