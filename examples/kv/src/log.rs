//! `kv log`: looks at the log of a node that does not run, without changing anything.

mod read_only;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use openconsensus::{EntryCodec, LogId, PostcardCodec};
use openconsensus_memstore::kv::Kv;
use openconsensus_wal::inspect::{Content, Frame, GroupContent, Item, Verified, verify, walk};
use openconsensus_wal::{OpenError, SegmentHeader};
use serde_json::{Value, json};

use crate::outcome::{Exit, Failure, Result, unless_closed};
use crate::serve::LogStore;
use read_only::ReadOnly;

/// `kv log`.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum LogCommand {
    /// Show what is in the log of a node that does not run: segments, entries, hard state, where it ends
    Inspect {
        #[command(flatten)]
        place: Place,
        /// Show every frame, too
        #[arg(long)]
        frames: bool,
    },
    /// Check every checksum in the log of a node that does not run; exit code 1 if it is damaged
    Verify {
        #[command(flatten)]
        place: Place,
    },
}

/// Where a log is, and how to tell of it.
#[derive(Clone, Debug, Args)]
struct Place {
    /// The data folder of the node, or the folder of its log
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Print JSON: an object, and with --frames one in each line for each frame before it
    #[arg(long)]
    json: bool,
}

/// Looks at a log.
///
/// # Errors
///
/// There is none, it is in use, it is damaged, or it cannot be read.
pub fn log(args: LogArgs) -> Result<Exit> {
    match args.command {
        LogCommand::Inspect { place, frames } => inspect(&place, frames),
        LogCommand::Verify { place } => check(&place),
    }
}

/// The folder of the log that belongs to what was named.
fn find(folder: &Path) -> Result<PathBuf> {
    if !folder.is_dir() {
        return Err(Failure::refused(format!(
            "{} is no folder: give the data folder of a node",
            folder.display()
        )));
    }
    match LogStore::of(folder)? {
        Some(LogStore::Wal) => Ok(LogStore::Wal.path(folder)),
        Some(LogStore::Redb) => Err(Failure::refused(format!(
            "the log of this node is in {}, a database that is checked whenever the node starts; only a write-ahead log can \
             be looked at",
            LogStore::Redb.path(folder).display()
        ))),
        // The folder of the log itself; if it is none, the inspection says so.
        None => Ok(folder.into()),
    }
}

/// What is in the log, or why it cannot be opened.
type Verdict = std::result::Result<Verified, String>;

fn look(folder: &Path) -> Result<Verdict> {
    match verify(&ReadOnly::new(folder)) {
        Ok(Some(verified)) => Ok(Ok(verified)),
        Ok(None) => Err(Failure::refused(format!(
            "there is no log in {}: give the data folder of a node, or the folder of its log",
            folder.display()
        ))),
        Err(OpenError::Locked { .. }) => Err(Failure::refused(format!(
            "{} is in use: stop the node first; a log that is being written cannot be looked at",
            folder.display()
        ))),
        Err(error @ OpenError::Io { .. }) => Err(Failure::negative(error)),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// What can be read of one file of the log, be it whole or not.
#[derive(Default)]
struct Segment {
    file: PathBuf,
    header: Option<SegmentHeader>,
    frames: u64,
    /// Where the last frame ends that can be read.
    end: u64,
    /// The first and the last entry in it, as they were written.
    entries: Option<(LogId, LogId)>,
}

fn inspect(place: &Place, frames: bool) -> Result<Exit> {
    let folder = find(&place.folder)?;
    let verdict = look(&folder)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut written: io::Result<()> = Ok(());
    let mut segments: Vec<Segment> = Vec::new();
    let walked = walk(&ReadOnly::new(&folder), |item| {
        match item {
            Item::Segment { file, header } => {
                segments.push(Segment { file, header: Some(header), ..Segment::default() });
            }
            Item::Unreadable { file, .. } => segments.push(Segment { file, ..Segment::default() }),
            Item::Frame(frame) => {
                let Some(segment) = segments.last_mut() else { return ControlFlow::Break(()) };
                if frames {
                    let file = segment.file.file_name().unwrap_or_default().to_string_lossy();
                    written = match place.json {
                        true => writeln!(out, "{}", frame_json(&file, &frame)),
                        false => writeln!(out, "{}", frame_line(&file, &frame)),
                    };
                }
                segment.note(&frame);
            }
            _ => {}
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if !unless_closed(written)? {
        return Ok(Exit::Done);
    }
    walked.map_err(|error| Failure::negative(format!("cannot read {}: {error}", folder.display())))?;
    let text = match place.json {
        true => format!("{}\n", summary_json(&folder, &segments, &verdict)),
        false => summary(&folder, &segments, &verdict),
    };
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    verdict.map(|_| Exit::Done).map_err(Failure::negative)
}

fn check(place: &Place) -> Result<Exit> {
    let folder = find(&place.folder)?;
    let verdict = look(&folder)?;
    let mut out = io::stdout().lock();
    let text = match (&verdict, place.json) {
        (Ok(found), true) => json!({
            "log": folder.display().to_string(),
            "sound": true,
            "frames": found.frames,
            "read_bytes": found.read_bytes,
            "torn_tail": torn_json(found),
            "damage": null,
        })
        .to_string(),
        (Err(damage), true) => {
            json!({ "log": folder.display().to_string(), "sound": false, "damage": damage }).to_string()
        }
        (Ok(found), false) => {
            let torn = torn_text(found).map_or_else(String::new, |torn| format!("; {torn}"));
            format!("sound: {} frames in {} segments{torn}", found.frames, found.segments)
        }
        (Err(_), false) => "damaged".into(),
    };
    unless_closed(writeln!(out, "{text}").and_then(|()| out.flush()))?;
    verdict.map(|_| Exit::Done).map_err(Failure::negative)
}

impl Segment {
    fn note(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        self.end = frame.offset + frame.bytes;
        if let Some(Content::Entries { first, last, .. }) = &frame.content {
            let begin = self.entries.map_or(*first, |(begin, _)| begin);
            self.entries = Some((begin, *last));
        }
    }

    fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn line(&self) -> String {
        let what = match (&self.header, self.frames) {
            (None, _) => "its header cannot be read".into(),
            (Some(_), 0) => "ready for what comes next".into(),
            (Some(_), frames) => {
                let entries = self.entries.map(|(first, last)| format!(", entries {first} to {last}"));
                format!("{frames} frames up to offset {}{}", self.end, entries.unwrap_or_default())
            }
        };
        format!("segment   {}: {what}", self.name())
    }
}

fn summary(folder: &Path, segments: &[Segment], verdict: &Verdict) -> String {
    let header = segments.iter().find_map(|segment| segment.header.as_ref());
    let mut lines = vec![
        format!("log       {}", folder.display()),
        format!("owner     {}", header.map_or("unknown".into(), |header| header.identity.to_string())),
        format!("encoding  {}", header.map_or("unknown", |header| &header.codec)),
    ];
    lines.extend(segments.iter().map(Segment::line));
    match verdict {
        Ok(found) => {
            lines.extend(found.groups.iter().map(group_line));
            let end = torn_text(found).unwrap_or_else(|| match found.is_closed {
                true => "closed by its process".into(),
                false => "whole; its process was killed, or the machine went down".into(),
            });
            lines.push(format!("end       {end}"));
        }
        Err(_) => lines.push("end       damaged: the node refuses to start".into()),
    }
    lines.iter().fold(String::new(), |mut text, line| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{line}");
        text
    })
}

fn group_line(group: &GroupContent) -> String {
    let vote = vote(group.vote.as_deref()).map_or_else(|| "none".into(), |vote| vote.to_string());
    format!(
        "group     {}: term {}, vote {vote}, commit {}, purged up to {}, last entry {}",
        group.group, group.term, group.commit, group.purged, group.last
    )
}

fn torn_text(found: &Verified) -> Option<String> {
    found.is_torn.then(|| {
        format!(
            "torn at offset {} of {}: a write was under way that nobody was told of; it is cut off when the node starts",
            found.end,
            found.file.display()
        )
    })
}

/// The node that was voted for.
fn vote(encoded: Option<&[u8]>) -> Option<Value> {
    let id = <PostcardCodec as EntryCodec<Kv>>::decode_node_id(Bytes::copy_from_slice(encoded?));
    Some(id.map_or_else(|error| Value::from(error.to_string()), Value::from))
}

fn frame_line(file: &str, frame: &Frame<'_>) -> String {
    let content = match &frame.content {
        Some(Content::Begin { groups, .. }) => format!("a segment begins, with {} groups", groups.len()),
        Some(Content::HardState { term, vote: voted, commit }) => {
            let vote = vote(voted.as_deref()).map_or_else(|| "none".into(), |vote| vote.to_string());
            format!("hard state: term {term}, vote {vote}, commit {commit}")
        }
        Some(Content::Entries { first, last, commit, .. }) => {
            format!("entries {first} to {last}, commit {commit}")
        }
        Some(Content::Truncate { from }) => format!("truncated from {from}"),
        Some(Content::Purge { upto }) => format!("purged up to {upto}"),
        Some(Content::Opened) => "opened".into(),
        Some(Content::Closed) => "closed".into(),
        Some(_) => "of a kind that this program does not know".into(),
        None => "whole, but makes no sense".into(),
    };
    let Frame { offset, bytes, sequence, synced, group, .. } = frame;
    format!(
        "frame     {file} {offset} {bytes} bytes, number {sequence}, synced {synced}, group {group}: {content}"
    )
}

fn log_id_json(log_id: LogId) -> Value {
    json!({ "term": log_id.term, "index": log_id.index })
}

fn frame_json(file: &str, frame: &Frame<'_>) -> Value {
    let content = match &frame.content {
        Some(Content::Begin { groups, .. }) => json!({ "begin": { "groups": groups.len() } }),
        Some(Content::HardState { term, vote: voted, commit }) => {
            json!({ "hard_state": { "term": term, "vote": vote(voted.as_deref()), "commit": commit } })
        }
        Some(Content::Entries { first, last, commit, .. }) => {
            json!({ "entries": { "first": log_id_json(*first), "last": log_id_json(*last), "commit": commit } })
        }
        Some(Content::Truncate { from }) => json!({ "truncate": { "from": from } }),
        Some(Content::Purge { upto }) => json!({ "purge": { "upto": log_id_json(*upto) } }),
        Some(Content::Opened) => json!("opened"),
        Some(Content::Closed) => json!("closed"),
        Some(_) => json!("unknown"),
        None => Value::Null,
    };
    json!({
        "file": file,
        "offset": frame.offset,
        "bytes": frame.bytes,
        "number": frame.sequence,
        "synced": frame.synced,
        "group": frame.group,
        "frame": content,
    })
}

fn torn_json(found: &Verified) -> Value {
    match found.is_torn {
        true => json!({ "file": found.file.display().to_string(), "offset": found.end }),
        false => Value::Null,
    }
}

fn summary_json(folder: &Path, segments: &[Segment], verdict: &Verdict) -> Value {
    let header = segments.iter().find_map(|segment| segment.header.as_ref());
    let segments = segments.iter().map(|segment| {
        json!({
            "file": segment.name(),
            "readable": segment.header.is_some(),
            "frames": segment.frames,
            "end": segment.end,
            "first": segment.entries.map(|(first, _)| log_id_json(first)),
            "last": segment.entries.map(|(_, last)| log_id_json(last)),
        })
    });
    let found = verdict.as_ref().ok();
    let groups = found.into_iter().flat_map(|found| &found.groups).map(|group| {
        json!({
            "group": group.group,
            "term": group.term,
            "vote": vote(group.vote.as_deref()),
            "commit": group.commit,
            "purged": log_id_json(group.purged),
            "last": log_id_json(group.last),
        })
    });
    json!({
        "log": folder.display().to_string(),
        "cluster": header.map(|header| &header.identity.cluster),
        "node": header.map(|header| &header.identity.node),
        "encoding": header.map(|header| &header.codec),
        "segments": segments.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "closed": found.map(|found| found.is_closed),
        "torn_tail": found.map_or(Value::Null, torn_json),
        "damage": verdict.as_ref().err(),
    })
}
