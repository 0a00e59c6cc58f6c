//! Opens a log: recovers what is there, makes it whole, or makes a new one.

use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openconsensus_store_common::{About, Identity, OpenError};

use crate::disk::{Disk, DiskFile};
use crate::format::{SegmentHeader, TEXTS_BYTES_MAX, segment_name};
use crate::frame::{Head, Kind, begin_body, put_frame};
use crate::options::WalOptions;
use crate::scan::{Owner, Scan, scan};
use crate::segment::{AnyDisk, Blocks, Seed, Segment};
use crate::stock::{Maker, Stock, write_zeros};
use crate::writer::{Group, Place, Shared, Writer};

/// The only group of a log that is one node's.
pub(crate) const GROUP: u64 = 0;

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// There was no log: a new one was made.
    pub is_new: bool,
    /// It had been closed: everything that was written to it was synced, and nothing was under way.
    pub was_closed: bool,
    /// What was found of the one write that was under way when the log was left, if something was. Nobody had been told that
    /// it was done.
    pub torn: Option<TornTail>,
    /// Something stood behind the end that was not the end of the log, and has been erased: what a recycled segment held
    /// before, or a piece of the write that was under way of which not even its head was left.
    pub was_erased: bool,
    /// How many segments hold the log.
    pub segments: u64,
    /// How many frames were read.
    pub frames: u64,
    /// How many bytes were read.
    pub read_bytes: u64,
    /// How long it took, until the log could be written.
    pub time: Duration,
}

/// The end of a log that was being written when its process or its machine stopped: it has been cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The file.
    pub file: std::path::PathBuf,
    /// Frames before it are whole; what was behind it is gone.
    pub offset: u64,
}

/// A log that is open.
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) stock: Arc<Stock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: Arc<Group>,
    pub(crate) report: OpenReport,
}

/// Opens the log on `disk`, which is locked, or makes a new one.
pub(crate) fn open<D: Disk>(
    disk: Arc<D>,
    owner: &Owner<'_>,
    options: &WalOptions,
) -> Result<Opened, OpenError> {
    let begun = Instant::now();
    let folder = disk.path("");
    let about = About(&folder);
    options.check().map_err(|error| about.io(error))?;
    let texts = owner.identity.cluster.len() + owner.identity.node.len() + owner.codec.len();
    if TEXTS_BYTES_MAX < texts {
        let what =
            format!("the names of cluster, node and codec have {texts} bytes, at most {TEXTS_BYTES_MAX}");
        return Err(about.io(io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    let found = scan(&*disk, Some(owner))?;
    let mut report = OpenReport { is_new: found.is_none(), ..OpenReport::default() };
    let any: Arc<dyn AnyDisk> = disk.clone();
    let scan = match found {
        Some(mut scan) => {
            repair(&*disk, &mut scan)?;
            report.was_closed = scan.is_clean;
            report.was_erased = scan.is_erased();
            let file = scan.segments.last().map(|last| disk.path(&last.name())).unwrap_or_default();
            report.torn = scan.is_torn.then_some(TornTail { file, offset: scan.end });
            scan
        }
        None => create(&*disk, owner.identity, owner.codec, options)?,
    };
    report.segments = scan.segments.len() as u64;
    report.frames = scan.frames;
    report.read_bytes = scan.read_bytes;
    let place = Place { end: scan.end, next_sequence: scan.next_sequence };
    let (maker, next_number) = (maker(any, &scan, options), next_number(&scan));
    let ready = scan.spares.into_iter().map(|spare| spare.segment).collect();
    let stock = Arc::new(Stock::new(maker, ready, next_number, options));
    let mut groups = scan.groups;
    groups.entry(GROUP).or_default();
    let group = |(id, state)| Arc::new(Group { id, state: std::sync::Mutex::new(state), ..Group::default() });
    let groups: Vec<_> = groups.into_iter().map(group).collect();
    let group = groups.iter().find(|group| group.id == GROUP).expect("it was added").clone();
    let segments = std::sync::Mutex::new(scan.segments.into());
    let shared = Arc::new(Shared { segments, groups });
    let mut writer = Writer::new(shared.clone(), stock.clone(), &place, options);
    if !options.housekeeping_aside {
        while stock.work_once() {}
    }
    writer.mark(Kind::Opened).map_err(|error| about.io(error))?;
    report.time = begun.elapsed();
    tell(&folder, &report);
    Ok(Opened { writer, stock, shared, group, report })
}

fn maker(disk: Arc<dyn AnyDisk>, scan: &Scan, options: &WalOptions) -> Maker {
    // Segments that are made from now on are as long as this opening wants them.
    Maker::new(disk, SegmentHeader { segment_bytes: options.segment_bytes, ..scan.header.clone() })
}

fn next_number(scan: &Scan) -> u64 {
    let last = scan.spares.last().map(|spare| &spare.segment).or(scan.segments.last());
    last.map_or(1, |segment| segment.number + 1)
}

fn tell(folder: &std::path::Path, report: &OpenReport) {
    let folder = folder.display();
    if let Some(TornTail { file, offset }) = &report.torn {
        tracing::warn!(
            name: "wal.torn", file = %file.display(), offset,
            "a write was under way when the log was left: what there was of it behind the offset has been cut"
        );
    }
    let OpenReport { is_new, was_closed, was_erased, segments, frames, read_bytes, time, torn: _ } = report;
    let time_ms = time.as_millis() as u64;
    tracing::info!(
        name: "wal.open", %folder, is_new, was_closed, was_erased, segments, frames, read_bytes, time_ms,
        "opened the log"
    );
}

/// Makes a log of one segment.
fn create<D: Disk>(
    disk: &D,
    identity: &Identity,
    codec: &str,
    options: &WalOptions,
) -> Result<Scan, OpenError> {
    let header = SegmentHeader {
        log: disk.unique_number(),
        number: 1,
        segment_bytes: options.segment_bytes,
        identity: identity.clone(),
        codec: codec.into(),
    };
    let path = disk.path(&segment_name(1));
    remove_leftovers(disk)?;
    let segment = make_first(disk, &header).map_err(|error| About(&path).io(error))?;
    let end = segment.end;
    Ok(Scan {
        header,
        segments: vec![Arc::new(segment.segment)],
        spares: Vec::new(),
        groups: Default::default(),
        end,
        next_sequence: 2,
        unsynced_from: end,
        is_clean: true,
        is_dirty: false,
        is_torn: false,
        frames: 0,
        read_bytes: 0,
    })
}

struct First {
    segment: Segment,
    end: u64,
}

fn make_first<D: Disk>(disk: &D, header: &SegmentHeader) -> io::Result<First> {
    let name = crate::format::unfinished_name(1);
    let file = Disk::create(disk, &name)?;
    let mut bytes = header.encode();
    let head = Head { sum: 0, body_bytes: 0, sequence: 1, synced: 0, group: 0, kind: Kind::Begin };
    put_frame(&mut bytes, &header.seed(), head, &begin_body(0, &[]));
    let end = bytes.len() as u64;
    file.write_at(0, &[IoSlice::new(&bytes)])?;
    write_zeros(&file, end, header.segment_bytes, &|| true)?;
    file.sync_data()?;
    Disk::rename(disk, &name, &segment_name(1))?;
    Disk::sync_folder(disk)?;
    let seed = Seed(header.seed());
    let segment = Segment { number: 1, file: Arc::new(file), bytes: header.segment_bytes, seed };
    Ok(First { segment, end })
}

fn remove_leftovers<D: Disk>(disk: &D) -> Result<(), OpenError> {
    let folder = disk.path("");
    let names = disk.list().map_err(|error| About(&folder).io(error))?;
    for name in names.iter().filter(|name| crate::format::is_unfinished(name)) {
        Disk::remove(disk, name).map_err(|error| About(&disk.path(name)).io(error))?;
    }
    Ok(())
}

/// Makes sure that what was found is durable, and that what was not taken for good never will be.
///
/// Whatever of this a crash leaves behind is found as what was there before, and is done again.
fn repair<D: Disk>(disk: &D, scan: &mut Scan) -> Result<(), OpenError> {
    remove_leftovers(disk)?;
    if !scan.is_clean {
        // Before the end is made clean: they may hold a piece of the same write. From the last one on: no gap arises.
        while scan.spares.last().is_some_and(|spare| spare.is_dirty)
            || scan.spares.iter().any(|spare| spare.is_dirty)
        {
            let spare = scan.spares.pop().expect("there is one");
            let path = disk.path(&spare.segment.name());
            let removed = Disk::remove(disk, &spare.segment.name()).and_then(|()| Disk::sync_folder(disk));
            removed.map_err(|error| About(&path).io(error))?;
        }
    }
    let last = scan.segments.last().expect("a log has a segment").clone();
    let path = disk.path(&last.name());
    rewrite_end(scan, &last).map_err(|error| About(&path).io(error))
}

/// Writes once more what nobody has seen synced: a sync of it may have failed, and then the operating system may show what
/// the disk does not have. And zeros over what is behind the end.
fn rewrite_end(scan: &Scan, last: &Segment) -> io::Result<()> {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut blocks = Blocks::new(&*last.file, PIECE_BYTES as usize)?;
    let mut at = scan.unsynced_from;
    while at < scan.end {
        let count = (scan.end - at).min(PIECE_BYTES);
        let bytes = blocks.at(at, count as usize)?;
        last.file.write_at(at, &[IoSlice::new(bytes)])?;
        at += count;
    }
    if scan.is_erased() {
        write_zeros(&*last.file, scan.end, blocks.len_bytes(), &|| true)?;
    }
    last.file.sync_data()
}
