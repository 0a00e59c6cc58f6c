//! Looks into a log without changing anything: what each frame says and where it is, and whether all of it is whole.
//!
//! [`verify`] says what opening the log would say. [`walk`] shows everything that can be read, also of a log that is
//! damaged: for whoever has to find out what has become of one.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use openconsensus::{Index, LogId, Term};
use openconsensus_store_common::{About, OpenError};

use crate::disk::Disk;
use crate::format::{HEADER_BYTES, SegmentHeader, segment_name, segment_number};
use crate::frame::{ALIGN, Cursors, HEAD_BYTES, Hard, Head, Said, Sum};
use crate::records::summarize;
use crate::scan::{read_header, scan};
use crate::segment::Blocks;

/// How much is read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// What was found in a log that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// What its last segment says of the log.
    pub header: SegmentHeader,
    /// What is stored of each group, in the order of their numbers.
    pub groups: Vec<GroupContent>,
    /// How many segments hold the log, and how many stand ready behind them.
    pub segments: u64,
    /// Segments behind those, in which nothing counts.
    pub segments_ready: u64,
    /// How many frames were read.
    pub frames: u64,
    /// How many bytes were read.
    pub read_bytes: u64,
    /// The last segment.
    pub file: PathBuf,
    /// Where the frames end in it.
    pub end: u64,
    /// It was closed, and not written since.
    pub is_closed: bool,
    /// Behind the end there is a piece of a write that was under way when the log was left. It will be cut when the log is
    /// opened.
    pub is_torn: bool,
}

/// What is stored of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupContent {
    /// Its number. A log that belongs to one node has group 0 only.
    pub group: u64,
    /// The entry up to which it was purged.
    pub purged: LogId,
    /// The last entry, or the purged one.
    pub last: LogId,
    /// The latest term.
    pub term: Term,
    /// The vote in it, as the codec writes node ids.
    pub vote: Option<Vec<u8>>,
    /// The commit index of the hard state, raised to the latest hint.
    pub commit: Index,
}

impl GroupContent {
    fn new(group: u64, cursors: Cursors) -> Self {
        let Cursors { purged, last, hint, hard: Hard { term, commit, vote } } = cursors;
        Self { group, purged, last, term, vote, commit: commit.max(hint) }
    }
}

/// Reads all of the log on `disk` as opening it would, and changes nothing. `None` when there is no log. The log must not be
/// open.
///
/// # Errors
///
/// What opening the log would return: with file, offset and what to do, where it is damaged.
pub fn verify<D: Disk>(disk: &D) -> Result<Option<Verified>, OpenError> {
    let folder = disk.path("");
    let _lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => OpenError::Locked { file: folder.clone() },
        _ => About(&folder).io(error),
    })?;
    let Some(scan) = scan(disk, None)? else { return Ok(None) };
    let last = scan.segments.last().expect("a log has a segment");
    let groups = scan.groups.iter().map(|(id, group)| GroupContent::new(*id, group.cursors().clone()));
    Ok(Some(Verified {
        groups: groups.collect(),
        segments: scan.segments.len() as u64,
        segments_ready: scan.spares.len() as u64,
        frames: scan.frames,
        read_bytes: scan.read_bytes,
        file: disk.path(&last.name()),
        end: scan.end,
        is_closed: scan.is_clean,
        is_torn: scan.is_torn,
        header: scan.header,
    }))
}

/// Something that stands in a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A segment begins.
    Segment {
        /// Its file.
        file: PathBuf,
        /// What it says of itself.
        header: SegmentHeader,
    },
    /// A file that has the name of a segment, and no header that can be read. Its frames cannot be read either.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: OpenError,
    },
    /// A frame whose checksum is right.
    Frame(Frame<'a>),
    /// Bytes in which there is no frame: behind the last one of a segment, where zeros are or what an older segment has left,
    /// and where it is damaged.
    Gap {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// There is nothing but zeros.
        is_zero: bool,
    },
}

/// A frame.
#[derive(Debug)]
#[non_exhaustive]
pub struct Frame<'a> {
    /// Where it begins in the file of its segment.
    pub offset: u64,
    /// How much it takes there.
    pub bytes: u64,
    /// Its number: all frames of a log are counted.
    pub sequence: u64,
    /// All frames up to this number were synced when it was written.
    pub synced: u64,
    /// Whose it is. A log that belongs to one node has group 0 only.
    pub group: u64,
    /// What it says. `None` when it makes no sense, although it is whole.
    pub content: Option<Content<'a>>,
}

/// What a frame says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content<'a> {
    /// A segment begins: what the older ones have said and is still true.
    Begin {
        /// Where the frames end in the segment before; 0 in the first segment of the log.
        previous_end: u64,
        /// What was stored of each group.
        groups: Vec<GroupContent>,
    },
    /// A hard state was saved.
    HardState {
        /// The term.
        term: Term,
        /// The vote in it, as the codec writes node ids.
        vote: Option<Vec<u8>>,
        /// The commit index.
        commit: Index,
    },
    /// Entries were appended.
    Entries {
        /// The first one.
        first: LogId,
        /// The last one.
        last: LogId,
        /// The commit index that came with them.
        commit: Index,
        /// Those that carry a membership.
        memberships: Vec<Index>,
        /// Their records, in the form of [`EncodedEntries`](openconsensus::EncodedEntries).
        records: &'a [u8],
    },
    /// The entries from this one on were removed.
    Truncate {
        /// The first one.
        from: Index,
    },
    /// The entries up to this one were removed.
    Purge {
        /// The last one.
        upto: LogId,
    },
    /// The log was opened.
    Opened,
    /// The log was closed.
    Closed,
}

impl<'a> Content<'a> {
    fn new(said: Said<'a>) -> Option<Self> {
        Some(match said {
            Said::Begin { previous_end, groups } => {
                let groups = groups.into_iter().map(|(id, cursors)| GroupContent::new(id, cursors));
                Self::Begin { previous_end, groups: groups.collect() }
            }
            Said::HardState(Hard { term, commit, vote }) => Self::HardState { term, vote, commit },
            Said::Entries { first, commit, count, records } => {
                let summary = summarize(records, first, count)?;
                Self::Entries {
                    first: summary.term_starts[0],
                    last: LogId::new(summary.last_term, first + u64::from(count) - 1),
                    commit,
                    memberships: summary.memberships,
                    records,
                }
            }
            Said::Truncate { from } => Self::Truncate { from },
            Said::Purge { upto } => Self::Purge { upto },
            Said::Opened => Self::Opened,
            Said::Closed => Self::Closed,
        })
    }
}

/// Calls `visit` with everything that stands in the log on `disk`, from the oldest segment to the newest, until it breaks.
/// Works on a damaged log too, and on one that is open; then what is being written may be seen in pieces.
///
/// # Errors
///
/// When a file cannot be opened or read.
pub fn walk<D: Disk>(disk: &D, mut visit: impl FnMut(Item<'_>) -> ControlFlow<()>) -> io::Result<()> {
    let mut numbers: Vec<u64> = disk.list()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    for number in numbers {
        let name = segment_name(number);
        let path = disk.path(&name);
        let file = disk.open(&name)?;
        let shown = match read_header(&file, About(&path)) {
            Ok(header) => {
                let seed = header.seed();
                if visit(Item::Segment { file: path, header }).is_break() {
                    return Ok(());
                }
                walk_frames(&mut Blocks::new(&file, BLOCK_BYTES)?, &seed, &mut visit)?
            }
            Err(OpenError::Io { error, .. }) => return Err(error),
            Err(error) => visit(Item::Unreadable { file: path, error }),
        };
        if shown.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn walk_frames(
    blocks: &mut Blocks<'_>,
    seed: &Sum,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let end = blocks.len_bytes();
    let mut at = HEADER_BYTES as u64;
    while at < end {
        if let Some((head, body)) = blocks.frame(at, seed)? {
            let Head { sequence, synced, group, kind, .. } = head;
            let content = Said::decode(kind, body).and_then(Content::new);
            let frame = Frame { offset: at, bytes: head.padded(), sequence, synced, group, content };
            if visit(Item::Frame(frame)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at += head.padded();
            continue;
        }
        let (next, is_zero) = next_frame(blocks, at, seed)?;
        if visit(Item::Gap { offset: at, bytes: next - at, is_zero }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        at = next;
    }
    Ok(ControlFlow::Continue(()))
}

/// Where the next frame begins behind `from`, or the file ends; and whether there are only zeros up to it.
fn next_frame(blocks: &mut Blocks<'_>, from: u64, seed: &Sum) -> io::Result<(u64, bool)> {
    let end = blocks.len_bytes();
    let (mut at, mut is_zero) = (from, true);
    while at < end {
        let window = blocks.at(at, BLOCK_BYTES + HEAD_BYTES)?;
        let steps = window.len().min(BLOCK_BYTES);
        let heads =
            (0..steps).step_by(ALIGN as usize).filter(|step| Head::decode(&window[*step..]).is_some());
        let heads: Vec<usize> = heads.collect();
        let zeros = window[..steps].iter().take_while(|byte| **byte == 0).count();
        for step in heads {
            let offset = at + step as u64;
            if offset != from && blocks.frame(offset, seed)?.is_some() {
                return Ok((offset, is_zero && step <= zeros));
            }
        }
        is_zero &= zeros == steps;
        at += steps as u64;
    }
    Ok((end, is_zero))
}
