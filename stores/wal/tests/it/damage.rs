//! Damage at rest: what was synced is changed, lost or replaced by something older.
//!
//! A log must not open with anything else than what was stored. Where the damage is behind everything that is known to be
//! synced it may take it for a write that was torn by a crash, and cut it off; then it says so.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fastrand::Rng;
use openconsensus_wal::inspect::{Item, verify, walk};

use crate::disk::{SECTOR, SimDisk};
use crate::explore::{for_seeds, make_calls_and_keep};
use crate::helpers::open;
use crate::model::History;
use crate::workload::Workload;

const SEGMENT_BYTES: usize = 65_536;
const HEADER_BYTES: usize = 4096;
const HEAD_BYTES: usize = 40;

type Files = BTreeMap<String, Vec<u8>>;

/// A log that was used for a while, and what is in it.
struct Stored {
    files: Files,
    /// What it held before `earlier`, and behind it.
    before: History,
    history: History,
    frames: Vec<Frame>,
    /// An earlier state of the same log.
    earlier: Files,
}

/// How the process ended that used a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Killed,
}

fn stored(seed: u64, end: End) -> Result<Stored, String> {
    let disk = SimDisk::default();
    disk.number_logs_from(seed);
    let mut workload = Workload::new(seed, SEGMENT_BYTES);
    let opened = open(&disk, SEGMENT_BYTES).map_err(|error| error.to_string())?;
    let (before, opened) = make_calls_and_keep(&disk, opened, &mut workload, 12)?;
    let earlier = disk.all_bytes();
    drop(opened);
    let opened = open(&disk, SEGMENT_BYTES).map_err(|error| error.to_string())?;
    let (history, opened) = make_calls_and_keep(&disk, opened, &mut workload, 25)?;
    let killed = disk.all_bytes();
    drop(opened);
    let files = if end == End::Closed { disk.all_bytes() } else { killed };
    let frames = frames(&files).map_err(|error| error.to_string())?;
    Ok(Stored { files, before, history, frames, earlier })
}

/// A frame, and where it is.
struct Frame {
    file: String,
    start: usize,
    end: usize,
    sequence: u64,
    synced: u64,
}

fn frames(files: &Files) -> std::io::Result<Vec<Frame>> {
    let mut frames = Vec::new();
    let mut name = String::new();
    walk(&SimDisk::with(files.clone()), |item| {
        match item {
            Item::Segment { file, .. } => name = file.file_name().unwrap().to_str().unwrap().to_owned(),
            Item::Frame(frame) => {
                let start = frame.offset as usize;
                let end = start + frame.bytes as usize;
                let (sequence, synced) = (frame.sequence, frame.synced);
                frames.push(Frame { file: name.clone(), start, end, sequence, synced });
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(frames)
}

/// Where damage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Region {
    /// The first bytes of a segment that has frames.
    Header,
    /// A frame that others say was synced before them.
    Synced,
    /// A frame behind which nothing says that it was synced.
    Last,
    /// The head of the first of such frames. What it leaves cannot be told from what a file holds that was used before.
    LastHead,
    /// Behind the last frame, and files that hold none.
    Unused,
}

impl Stored {
    /// What was at `offset` of the file, `len` bytes long: the part of it for which damage is worst.
    fn region(&self, file: &str, offset: usize, len: usize) -> Region {
        let is_in_use = self.frames.iter().any(|frame| frame.file == file);
        if !is_in_use {
            return Region::Unused;
        }
        if offset < HEADER_BYTES {
            return Region::Header;
        }
        let is_hit = |frame: &&Frame| frame.file == file && offset < frame.end && frame.start < offset + len;
        let (hit, rest): (Vec<_>, Vec<_>) = self.frames.iter().partition(is_hit);
        let Some(first) = hit.iter().min_by_key(|frame| frame.sequence) else { return Region::Unused };
        let synced = rest.iter().map(|frame| frame.synced).max().unwrap_or(0);
        if first.sequence <= synced {
            Region::Synced
        } else if offset < first.start + HEAD_BYTES {
            Region::LastHead
        } else {
            Region::Last
        }
    }
}

/// What became of damaged logs, by where the damage was.
#[derive(Debug, Default)]
struct Outcomes {
    refused: BTreeMap<Region, usize>,
    cut: BTreeMap<Region, usize>,
    harmless: BTreeMap<Region, usize>,
}

impl Outcomes {
    /// Opens the damaged log and notes what comes of it. Fails where it had no right to.
    fn note(&mut self, stored: &Stored, region: Region, damaged: Files) -> Result<(), String> {
        let disk = SimDisk::with(damaged.clone());
        let verdict = verify(&disk);
        let opened = open(&disk, SEGMENT_BYTES);
        let (opened, verified) = match (opened, verdict) {
            (Err(error), Err(verdict)) => {
                let (text, verdict) = (error.to_string(), verdict.to_string());
                if text != verdict {
                    return Err(format!("it was refused: {text}\nand looked at:  {verdict}"));
                }
                if !text.contains(".segment") || !text.contains("offset") && !text.contains("file") {
                    return Err(format!("the error names no place: {text}"));
                }
                if !["restore it", "give the path", "the version of the program"]
                    .iter()
                    .any(|help| text.contains(help))
                {
                    return Err(format!("the error does not say what to do: {text}"));
                }
                if disk.all_bytes() != damaged {
                    return Err(format!("it was refused, and files were changed: {text}"));
                }
                *self.refused.entry(region).or_default() += 1;
                return Ok(());
            }
            (Ok(opened), Ok(verified)) => (opened, verified.ok_or("no log was found by those who look")?),
            (Ok(_), Err(verdict)) => return Err(format!("it opened, but whoever looks finds: {verdict}")),
            (Err(error), Ok(_)) => return Err(format!("it does not open, but looks whole: {error}")),
        };
        if verified.is_torn != opened.cut.is_some() {
            return Err("whoever looks at it sees another end".into());
        }
        let lost = stored.history.last().differs(&opened.found);
        let Some(lost) = lost else {
            *self.harmless.entry(region).or_default() += 1;
            return match region {
                Region::Header => Err("a damaged header was not noticed".into()),
                Region::Synced | Region::Last | Region::LastHead | Region::Unused => Ok(()),
            };
        };
        stored.history.check_any(&opened.found)?;
        let is_told = opened.cut.is_some() || region == Region::LastHead && opened.was_erased;
        if !is_told {
            return Err(format!("the end was cut off without a word: {lost}"));
        }
        *self.cut.entry(region).or_default() += 1;
        match region {
            Region::Last | Region::LastHead => Ok(()),
            Region::Header | Region::Synced | Region::Unused => {
                Err(format!("what was synced was cut off: {lost}"))
            }
        }
    }
}

/// Damages `len` bytes of a file at `offset`.
fn damage(
    stored: &Stored,
    outcomes: &mut Outcomes,
    (file, offset, len): (&str, usize, usize),
    change: impl FnOnce(&mut [u8]),
) -> Result<(), String> {
    let mut files = stored.files.clone();
    let bytes = files.get_mut(file).expect("the file is there");
    let end = (offset + len).min(bytes.len());
    let before = bytes[offset..end].to_vec();
    change(&mut bytes[offset..end]);
    if before == bytes[offset..end] {
        return Ok(());
    }
    // What is written with the value that it had is not damaged.
    let first = (offset..end).find(|at| before[at - offset] != bytes[*at]).expect("it was changed");
    let last = (offset..end).rfind(|at| before[at - offset] != bytes[*at]).expect("it was changed");
    let region = stored.region(file, first, last + 1 - first);
    outcomes
        .note(stored, region, files)
        .map_err(|error| format!("bytes {first} to {last} of {file} ({region:?}):\n{error}"))
}

#[test]
fn a_bit_that_flips_anywhere_is_noticed_where_it_counts() {
    let mut outcomes = Outcomes::default();
    for_seeds("damage::a_bit_that_flips", 0..1, |seed| {
        for end in [End::Closed, End::Killed] {
            let stored = stored(seed, end)?;
            let mut random = Rng::with_seed(seed);
            let mut places = Vec::new();
            for (name, bytes) in &stored.files {
                // All kinds of places of a header, and some of what is not used.
                places.extend((0..64).map(|at| (name.as_str(), at)));
                places.extend((0..10).map(|_| (name.as_str(), random.usize(64..bytes.len().max(65)))));
            }
            for (number, frame) in stored.frames.iter().enumerate() {
                let Frame { file, start, end, .. } = frame;
                // Every byte of some heads, and some of all.
                let step = if number % 16 == 0 { 1 } else { 11 };
                places.extend((0..40).step_by(step).map(|at| (file.as_str(), start + at)));
                places.extend((0..3).map(|_| (file.as_str(), random.usize(*start..*end))));
                // The end of the body, and what fills it up.
                places.extend((0..9).map(|at| (file.as_str(), end - 1 - at)));
            }
            for (file, at) in places {
                if at < stored.files[file].len() {
                    let bit = 1 << random.u8(0..8);
                    damage(&stored, &mut outcomes, (file, at, 1), |bytes| bytes[0] ^= bit)?;
                }
            }
        }
        Ok(())
    });
    println!("{outcomes:?}");
    assert!(outcomes.refused[&Region::Header] > 0 && outcomes.refused[&Region::Synced] > 0);
}

#[test]
fn a_bit_that_flips_anywhere_in_a_short_log_is_noticed_where_it_counts() {
    let mut outcomes = Outcomes::default();
    let disk = SimDisk::default();
    let mut workload = Workload::new(3, SEGMENT_BYTES);
    let opened = open(&disk, SEGMENT_BYTES).unwrap();
    let (history, opened) = make_calls_and_keep(&disk, opened, &mut workload, 4).unwrap();
    let files = disk.all_bytes();
    drop(opened);
    let frames = frames(&files).unwrap();
    let end = frames.iter().map(|frame| frame.end).max().unwrap().min(HEADER_BYTES + 800);
    let file = frames[0].file.clone();
    let before = History::new(history.state(0).clone());
    let stored = Stored { earlier: files.clone(), files, before, history, frames };
    for at in HEADER_BYTES..end {
        let bit = 1 << (at % 8);
        damage(&stored, &mut outcomes, (&file, at, 1), |bytes| bytes[0] ^= bit).unwrap();
    }
    assert!(outcomes.refused[&Region::Synced] > 300, "{outcomes:?}");
}

#[test]
fn a_sector_that_is_lost_old_or_of_another_place_is_noticed_where_it_counts() {
    let mut outcomes = Outcomes::default();
    for_seeds("damage::a_sector_that_is_lost", 0..1, |seed| {
        for end in [End::Closed, End::Killed] {
            let stored = stored(seed, end)?;
            let mut random = Rng::with_seed(seed);
            let last = |file: &str| {
                stored.frames.iter().filter(|frame| frame.file == file).map(|frame| frame.end).max()
            };
            for (name, bytes) in &stored.files {
                let used = last(name).unwrap_or(HEADER_BYTES);
                for at in (0..used).step_by(SECTOR) {
                    let place = (name.as_str(), at, SECTOR);
                    damage(&stored, &mut outcomes, place, |sector| sector.fill(0))?;
                    if let Some(earlier) = stored.earlier.get(name) {
                        damage(&stored, &mut outcomes, place, |sector| {
                            let from = earlier.get(at..at + sector.len()).unwrap_or_default();
                            sector[..from.len()].copy_from_slice(from);
                        })?;
                    }
                    let other = SECTOR * random.usize(0..bytes.len() / SECTOR);
                    damage(&stored, &mut outcomes, place, |sector| {
                        let from = &bytes[other..(other + sector.len()).min(bytes.len())];
                        sector[..from.len()].copy_from_slice(from);
                    })?;
                }
            }
        }
        Ok(())
    });
    println!("{outcomes:?}");
    assert!(outcomes.refused[&Region::Header] > 0 && outcomes.refused[&Region::Synced] > 0);
}

#[test]
fn a_segment_that_is_missing_short_old_or_of_another_log_is_noticed() {
    for_seeds("damage::a_segment_that_is_missing", 0..4, |seed| {
        let stored = stored(seed, End::Killed)?;
        let other = self::stored(seed + 100, End::Killed)?;
        let in_use = |name: &String| stored.frames.iter().any(|frame| frame.file == *name);
        let used: Vec<_> = stored.files.keys().filter(|name| in_use(name)).cloned().collect();
        for name in &used {
            let mut cases: Vec<(&str, Files)> = Vec::new();
            let mut without = stored.files.clone();
            without.remove(name);
            cases.push(("missing", without));
            for len in [0, 100, HEADER_BYTES, HEADER_BYTES + 1] {
                let mut short = stored.files.clone();
                short.get_mut(name).expect("it is there").truncate(len);
                cases.push(("short", short));
            }
            for (what, files) in [("earlier", &stored.earlier), ("of another log", &other.files)] {
                // The only segment, with nothing that stands ready behind it, is the whole log: another log, be it an older one of the
                // same node, is as good as this one.
                if stored.files.len() == 1 {
                    continue;
                }
                if let Some(bytes) = files.get(name).filter(|bytes| **bytes != stored.files[name]) {
                    let mut old = stored.files.clone();
                    old.insert(name.clone(), bytes.clone());
                    cases.push((what, old));
                }
            }
            for twin in used.iter().filter(|twin| *twin != name) {
                let mut double = stored.files.clone();
                double.insert(name.clone(), stored.files[twin].clone());
                cases.push(("the same as another", double));
            }
            for (what, files) in cases {
                let about = |error: String| format!("{name} is {what}:\n{error}");
                if let Ok(opened) = open(&SimDisk::with(files), SEGMENT_BYTES) {
                    let found = &opened.found;
                    // One that nobody needs any more is as good as removed. Lost with its name, the last one may never have been
                    // begun, as far as anybody can tell.
                    let is_last = used.last() == Some(name);
                    match stored.history.last().differs(found) {
                        None => {}
                        Some(lost) if !is_last => return Err(about(format!("it opened: {found} ({lost})"))),
                        Some(_) if stored.before.check_any(found).is_ok() => {}
                        Some(_) => stored.history.check_any(found).map_err(about)?,
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_no_segment_is_left_alone_or_refused() {
    let stored = stored(1, End::Closed).unwrap();
    for (name, bytes) in [("notes.txt", b"hello".to_vec()), ("00000000000000000001.segment.bak", vec![0; 10])]
    {
        let mut files = stored.files.clone();
        files.insert(name.into(), bytes.clone());
        let disk = SimDisk::with(files);
        let Ok(opened) = open(&disk, SEGMENT_BYTES) else { continue };
        assert_eq!(stored.history.last().differs(&opened.found), None, "{name}");
        assert_eq!(disk.bytes(name), bytes);
    }
    let mut files = stored.files.clone();
    files.insert("09999999999999999999.segment".into(), b"hello".to_vec());
    assert!(open(&SimDisk::with(files), SEGMENT_BYTES).is_err(), "a segment that is none");
}
