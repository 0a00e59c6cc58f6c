//! Reads a whole log and finds out what is in it, without changing anything: where it ends, and whether that is all.
//!
//! The argument why a torn end is told from damage stands in `FORMAT.md`, under "Recovery".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openconsensus_store_common::{About, Identity, OpenError};

use crate::disk::{Disk, DiskFile};
use crate::format::{HEADER_BYTES, NoHeader, SegmentHeader, VERSION, segment_name, segment_number};
use crate::frame::{ALIGN, Cursors, HEAD_BYTES, Head, Kind, Said};
use crate::index::GroupState;
use crate::replay::replay;
use crate::segment::{Blocks, Seed, Segment};

/// How much is read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// What a log holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The header of the last segment.
    pub(crate) header: SegmentHeader,
    /// The segments that hold the log, in order. The last one takes what comes next.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Segments behind those, in which nothing counts.
    pub(crate) spares: Vec<Spare>,
    pub(crate) groups: BTreeMap<u64, GroupState>,
    /// Where frames end in the last segment.
    pub(crate) end: u64,
    /// The frame that comes next has this number.
    pub(crate) next_sequence: u64,
    /// Where the frames begin that nobody has seen synced, in the last segment.
    pub(crate) unsynced_from: u64,
    /// The log was closed, and not written since.
    pub(crate) is_clean: bool,
    /// Behind the end, in the last segment, there is something other than zeros.
    pub(crate) is_dirty: bool,
    /// There is a piece of a write there that was under way when the log was left.
    pub(crate) is_torn: bool,
    pub(crate) frames: u64,
    pub(crate) read_bytes: u64,
}

impl Scan {
    /// Whether what stands behind the end has to go before anything is written there. Where the log was closed no write can
    /// have been under way: what stands there is what a recycled segment held before, and never counts.
    pub(crate) fn is_erased(&self) -> bool {
        self.is_dirty && !self.is_clean
    }
}

/// A segment in which nothing counts.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) segment: Arc<Segment>,
    /// There is something other than zeros behind its header.
    pub(crate) is_dirty: bool,
}

/// Whose log is expected, and in which encoding.
pub(crate) struct Owner<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) codec: &'a str,
}

/// Reads the log on `disk`. `None` when there is none.
pub(crate) fn scan<D: Disk>(disk: &D, owner: Option<&Owner<'_>>) -> Result<Option<Scan>, OpenError> {
    let folder = disk.path("");
    let names = disk.list().map_err(|error| About(&folder).io(error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[0] + 1 != pair[1] {
            return Err(About(&disk.path(&segment_name(pair[0] + 1))).damaged("the file is missing"));
        }
    }
    let mut headers = Vec::new();
    let mut segments = Vec::new();
    for number in numbers {
        let (header, segment) = open_segment(disk, number, owner, headers.last())?;
        headers.push(header);
        segments.push(Arc::new(segment));
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let mut walk = Walk::default();
    let (last, end) = walk.all(disk, &segments)?;
    let spares = segments.split_off(last + 1).into_iter();
    let spares = spares.map(|segment| Spare { segment, is_dirty: false }).collect();
    let mut scan = Scan {
        header: headers.swap_remove(last),
        segments,
        spares,
        groups: walk.groups,
        end,
        next_sequence: walk.next_sequence,
        unsynced_from: walk.unsynced_from,
        is_clean: walk.last_kind == Some(Kind::Closed),
        is_dirty: false,
        is_torn: false,
        frames: walk.frames,
        read_bytes: walk.read_bytes,
    };
    check_end(disk, &mut scan)?;
    check_groups(disk, &scan)?;
    Ok(Some(scan))
}

fn open_segment<D: Disk>(
    disk: &D,
    number: u64,
    owner: Option<&Owner<'_>>,
    before: Option<&SegmentHeader>,
) -> Result<(SegmentHeader, Segment), OpenError> {
    let name = segment_name(number);
    let path = disk.path(&name);
    let about = About(&path);
    let file = Disk::open(disk, &name).map_err(|error| about.io(error))?;
    let header = read_header(&file, about)?;
    if let Some(Owner { identity, codec }) = owner {
        if header.identity != **identity {
            let (found, expected) = (header.identity, (*identity).clone());
            return Err(OpenError::WrongIdentity { file: path, found, expected });
        }
        if header.codec != *codec {
            return Err(OpenError::UnsupportedFormat {
                file: path,
                found: format!("entries in the encoding {:?}", header.codec),
                supported: format!("the encoding {codec:?}"),
            });
        }
    }
    if header.number != number {
        return Err(about.damaged(format!("it is segment {}, under the name of another", header.number)));
    }
    if before.is_some_and(|before| before.log != header.log) {
        return Err(about.damaged("it is a segment of another log than the one before it"));
    }
    let len_bytes = file.len_bytes().map_err(|error| about.io(error))?;
    if len_bytes < header.segment_bytes {
        let whole = header.segment_bytes;
        return Err(about.damaged(format!("it was cut off: it had {whole} bytes, and has {len_bytes}")));
    }
    let seed = Seed(header.seed());
    let segment = Segment { number, file: Arc::new(file), bytes: header.segment_bytes, seed };
    Ok((header, segment))
}

pub(crate) fn read_header(file: &dyn DiskFile, about: About<'_>) -> Result<SegmentHeader, OpenError> {
    let mut blocks = Blocks::new(file, HEADER_BYTES).map_err(|error| about.io(error))?;
    let bytes = blocks.at(0, HEADER_BYTES).map_err(|error| about.io(error))?;
    SegmentHeader::decode(bytes).map_err(|reason| match reason {
        NoHeader::Damaged(what) => about.damaged(format!("{what} (offset 0)")),
        NoHeader::Foreign => about.foreign("it does not begin as a segment of a log"),
        NoHeader::Version(found) => OpenError::UnsupportedFormat {
            file: about.0.into(),
            found: format!("version {found} of the format of logs"),
            supported: format!("version {VERSION}"),
        },
    })
}

/// What is known when all frames up to some place have been read.
#[derive(Default)]
struct Walk {
    groups: BTreeMap<u64, GroupState>,
    /// 0 before the first frame, which may have any number.
    next_sequence: u64,
    /// What the last frame says of how far the log was synced before it.
    synced: u64,
    /// Where the frames behind `synced` begin in the segment that is being read.
    unsynced_from: u64,
    last_kind: Option<Kind>,
    frames: u64,
    read_bytes: u64,
}

impl Walk {
    /// Reads the frames of all segments. Returns the place of the segment in which they end, and where.
    fn all<D: Disk>(&mut self, disk: &D, segments: &[Arc<Segment>]) -> Result<(usize, u64), OpenError> {
        let mut previous: Option<(PathBuf, u64)> = None;
        for (place, segment) in segments.iter().enumerate() {
            // While one is checked, the next one comes.
            if let Some(next) = segments.get(place + 1) {
                next.file.will_read();
            }
            let path = disk.path(&segment.name());
            let end = self.segment(&path, segment, previous.as_ref())?;
            if end == HEADER_BYTES as u64 {
                // No frame at all. The first segment always has one: it is written before the segment gets its name.
                let Some((_, end)) = previous else {
                    let what = format!("the frame at offset {end}, its first one, cannot be read");
                    return Err(About(&path).damaged(what));
                };
                return Ok((place - 1, end));
            }
            previous = Some((path, end));
        }
        Ok((segments.len() - 1, previous.map_or(0, |(_, end)| end)))
    }

    /// Reads the frames of one segment, as far as each is whole and the next one in order.
    fn segment(
        &mut self,
        path: &Path,
        segment: &Segment,
        previous: Option<&(PathBuf, u64)>,
    ) -> Result<u64, OpenError> {
        let about = About(path);
        let mut blocks = Blocks::new(&*segment.file, BLOCK_BYTES).map_err(|error| about.io(error))?;
        let mut offset = HEADER_BYTES as u64;
        loop {
            let frame = blocks.frame(offset, &segment.seed.0).map_err(|error| about.io(error))?;
            let Some((head, body)) = frame else { break };
            let is_first = offset == HEADER_BYTES as u64;
            if !is_first && head.sequence != self.next_sequence {
                break;
            }
            let damaged = |what: String| about.damaged(format!("{what} (offset {offset})"));
            let said = Said::decode(head.kind, body);
            let said = said.ok_or_else(|| damaged("a frame is whole, but makes no sense".into()))?;
            match (is_first, &said) {
                (true, Said::Begin { previous_end, groups }) => {
                    if let Some(previous) = previous {
                        self.check_continued(previous, &head, *previous_end, path)?;
                        self.check_begin(groups).map_err(damaged)?;
                    } else {
                        let known =
                            groups.iter().map(|(id, cursors)| (*id, GroupState::new(cursors.clone())));
                        self.groups = known.collect();
                    }
                }
                (false, Said::Begin { .. }) | (true, _) => {
                    return Err(damaged("a segment begins where none can".into()));
                }
                (false, Said::Opened | Said::Closed) => {}
                (false, _) => {
                    let group = self.groups.entry(head.group).or_default();
                    replay(group, segment.number, offset, &said).map_err(damaged)?;
                }
            }
            self.note(&head, offset).map_err(damaged)?;
            offset += head.padded();
        }
        self.read_bytes += blocks.read_bytes;
        Ok(offset)
    }

    /// Whether a segment that begins with the frame `head` continues the one before it, whose frames could be read up to
    /// some offset and reached to `previous_end`.
    fn check_continued(
        &self,
        (previous, end): &(PathBuf, u64),
        head: &Head,
        previous_end: u64,
        path: &Path,
    ) -> Result<(), OpenError> {
        if head.sequence == self.next_sequence && previous_end == *end {
            return Ok(());
        }
        Err(About(previous).damaged(format!(
            "frame {} at offset {end} cannot be read: {} says that the frames before it reach to frame {} and offset \
             {previous_end}",
            self.next_sequence,
            path.display(),
            head.sequence.saturating_sub(1),
        )))
    }

    /// Whether a segment says the same of each group as the older ones did.
    fn check_begin(&self, found: &[(u64, Cursors)]) -> Result<(), String> {
        if let Some(id) = self.groups.keys().find(|id| found.iter().all(|(found, _)| found != *id)) {
            return Err(format!("it says nothing of group {id}, of which the segments before it know"));
        }
        for (id, cursors) in found {
            let mut known = self.groups.get(id).map(|group| group.cursors().clone()).unwrap_or_default();
            // The term of the last entry may be known to segments only that are gone.
            if known.last.term == 0 {
                known.last.term = cursors.last.term;
            }
            if known != *cursors {
                return Err(format!(
                    "it begins with purged entry {} and last entry {} of group {id}, but the segments before it say {} \
                     and {}, or another hard state",
                    cursors.purged, cursors.last, known.purged, known.last
                ));
            }
        }
        Ok(())
    }

    fn note(&mut self, head: &Head, offset: u64) -> Result<(), String> {
        if head.synced < self.synced {
            return Err(format!("frame {} says that less was synced than the one before it", head.sequence));
        }
        if self.synced < head.synced || offset == HEADER_BYTES as u64 {
            self.synced = head.synced;
            self.unsynced_from = offset;
        }
        self.next_sequence = head.sequence + 1;
        self.last_kind = Some(head.kind);
        self.frames += 1;
        Ok(())
    }
}

/// Behind the end there may be pieces of the one write that was under way when the log was left. Anything that proves
/// that more had been synced means that the log is damaged where it seems to end.
fn check_end<D: Disk>(disk: &D, scan: &mut Scan) -> Result<(), OpenError> {
    let (end, expected) = (scan.end, scan.next_sequence);
    let last = scan.segments.last().expect("a log has a segment");
    let end_path = disk.path(&last.name());
    let mut look = |segment: &Segment, from: u64, place: &str| {
        let path = disk.path(&segment.name());
        let remains = look_behind(segment, from, expected).map_err(|error| About(&path).io(error))?;
        if let Some((offset, head)) = remains.proof {
            return Err(About(&end_path).damaged(format!(
                "frame {expected}, at offset {end}{place}, cannot be read, although frame {} at offset {offset} of {} \
                 shows that it was synced",
                head.sequence,
                path.display()
            )));
        }
        scan.is_torn |= remains.is_torn;
        scan.read_bytes += remains.read_bytes;
        Ok(remains.is_dirty)
    };
    scan.is_dirty = look(last, end, "")?;
    for spare in &mut scan.spares {
        let place = format!(" or at the front of {}", spare.segment.name());
        spare.is_dirty = look(&spare.segment, HEADER_BYTES as u64, &place)?;
    }
    Ok(())
}

static ZEROS: [u8; 4096] = [0; 4096];

/// Compares whole pages, which is fast in every build.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// What stands behind the last frame of a segment.
#[derive(Default)]
struct Remains {
    /// A frame that was written when the one that is expected at the end had been synced.
    proof: Option<(u64, Head)>,
    /// There is something other than zeros.
    is_dirty: bool,
    /// There is a frame, or the head of one, that was to be the next.
    is_torn: bool,
    read_bytes: u64,
}

fn look_behind(segment: &Segment, from: u64, expected: u64) -> std::io::Result<Remains> {
    let mut blocks = Blocks::new(&*segment.file, BLOCK_BYTES)?;
    let mut remains = Remains::default();
    let mut at = from;
    while at < blocks.len_bytes() {
        let window = blocks.at(at, BLOCK_BYTES + HEAD_BYTES)?;
        let steps = window.len().min(BLOCK_BYTES);
        let mut candidates = Vec::new();
        for page in (0..steps).step_by(ZEROS.len()) {
            let page_end = (page + ZEROS.len()).min(steps);
            // A frame that begins in a page has its kind, which is not 0, in it or in the next one.
            let reach = (page_end + HEAD_BYTES).min(window.len());
            if is_zero(&window[page..reach]) {
                continue;
            }
            remains.is_dirty |= !is_zero(&window[page..page_end]);
            for step in (page..page_end).step_by(ALIGN as usize) {
                // The number of the frame is looked at first: it rules out nearly everything.
                let Some(bytes) = window.get(step + 8..step + 16) else { break };
                let sequence = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                if sequence < expected || expected.saturating_add(u64::from(u32::MAX)) < sequence {
                    continue;
                }
                let head = Head::decode(&window[step..]);
                candidates.extend(head.map(|head| (at + step as u64, head)));
            }
        }
        for (offset, head) in candidates {
            remains.is_torn |= offset == from && head.sequence == expected;
            let Some((head, _)) = blocks.frame(offset, &segment.seed.0)? else { continue };
            remains.is_torn = true;
            if expected <= head.synced {
                remains.proof = Some((offset, head));
                return Ok(remains);
            }
        }
        at += steps as u64;
    }
    remains.read_bytes = blocks.read_bytes;
    Ok(remains)
}

/// Whether all entries are there that must be: those at the front may be in segments that are missing.
fn check_groups<D: Disk>(disk: &D, scan: &Scan) -> Result<(), OpenError> {
    let first = scan.segments.first().expect("a log has a segment").number;
    for group in scan.groups.values() {
        let (live, known) = (group.live(), group.first_known());
        if !live.is_empty() && live.start < known {
            let path = disk.path(&segment_name(first.saturating_sub(1)));
            return Err(About(&path).damaged(format!(
                "the file is missing, or another one before segment {first}: entries {} to {} are in it",
                live.start,
                known - 1
            )));
        }
    }
    Ok(())
}
