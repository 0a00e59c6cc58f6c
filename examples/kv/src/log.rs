//! `kv log`: looks at the log of a node that does not run, without changing anything.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use openconsensus::{EntryCodec, LogId, PostcardCodec};
use openconsensus_memstore::kv::Kv;
use openconsensus_wal::OpenError;
use openconsensus_wal::inspect::{
    FrameContent, FrameInfo, GroupInfo, Inspection, SegmentInfo, SegmentUse, inspect,
};
use serde_json::{Value, json};

use crate::outcome::{Exit, Failure, Result, unless_closed};
use crate::serve::LogStore;

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
        LogCommand::Inspect { place, frames } => show(&place, frames),
        LogCommand::Verify { place } => verify(&place),
    }
}

/// The folder of the log that belongs to what was named.
fn find(folder: &Path) -> Result<PathBuf> {
    if !folder.is_dir() {
        return Err(Failure::refused(format!("{} is no folder: give the data folder of a node", folder.display())));
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

fn look(folder: &Path, on_frame: impl FnMut(FrameInfo)) -> Result<Inspection> {
    inspect(folder, on_frame).map_err(|error| match error {
        OpenError::Locked { .. } => Failure::refused(format!(
            "{} is in use: stop the node first; a log that is being written cannot be looked at",
            folder.display()
        )),
        OpenError::Foreign { .. } => Failure::refused(format!(
            "there is no log in {}: give the data folder of a node, or the folder of its log",
            folder.display()
        )),
        error => Failure::negative(error),
    })
}

fn show(place: &Place, frames: bool) -> Result<Exit> {
    let folder = find(&place.folder)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut written: Result<bool> = Ok(true);
    let inspection = look(&folder, |frame| {
        if frames && matches!(written, Ok(true)) {
            let line = if place.json { frame_json(&frame).to_string() } else { frame_line(&frame) };
            written = unless_closed(writeln!(out, "{line}"));
        }
    })?;
    if !written? {
        return Ok(Exit::Done);
    }
    let text = if place.json { format!("{}\n", summary_json(&folder, &inspection)) } else { summary(&folder, &inspection) };
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    match inspection.damage {
        None => Ok(Exit::Done),
        Some(damage) => Err(Failure::negative(damage)),
    }
}

fn verify(place: &Place) -> Result<Exit> {
    let folder = find(&place.folder)?;
    let mut frames: u64 = 0;
    let inspection = look(&folder, |_| frames += 1)?;
    let bytes: u64 = inspection.segments.iter().map(|segment| segment.end).sum();
    let mut out = io::stdout().lock();
    let text = if place.json {
        json!({
            "log": folder.display().to_string(),
            "sound": inspection.damage.is_none(),
            "frames": frames,
            "bytes": bytes,
            "torn_tail": torn_json(&inspection),
            "damage": inspection.damage,
        })
        .to_string()
    } else if inspection.damage.is_none() {
        let torn = torn_text(&inspection).map_or_else(String::new, |torn| format!("; {torn}"));
        format!("sound: {frames} frames in {bytes} bytes of {} segments{torn}", inspection.segments.len())
    } else {
        format!("damaged: {frames} frames can be read")
    };
    unless_closed(writeln!(out, "{text}").and_then(|()| out.flush()))?;
    match inspection.damage {
        None => Ok(Exit::Done),
        Some(damage) => Err(Failure::negative(damage)),
    }
}

fn summary(folder: &Path, inspection: &Inspection) -> String {
    let mut text = String::new();
    let owner = inspection.identity.as_ref().map_or("unknown".into(), ToString::to_string);
    let codec = inspection.codec.as_deref().unwrap_or("unknown");
    // Writing to a text does not fail.
    let _ = writeln!(text, "log       {}", folder.display());
    let _ = writeln!(text, "owner     {owner}");
    let _ = writeln!(text, "encoding  {codec}");
    for segment in &inspection.segments {
        let _ = writeln!(text, "{}", segment_line(segment));
    }
    for group in &inspection.groups {
        let _ = writeln!(text, "{}", group_line(group));
    }
    let end = match (&inspection.damage, torn_text(inspection)) {
        (Some(_), _) => "damaged: the log cannot be opened".into(),
        (None, Some(torn)) => torn,
        (None, None) if inspection.is_closed => "closed by its process".into(),
        (None, None) => "whole; its process was killed, or the machine went down".into(),
    };
    let _ = writeln!(text, "end       {end}");
    text
}

fn segment_line(segment: &SegmentInfo) -> String {
    let SegmentInfo { file, use_, bytes, end, frames, entries } = segment;
    let what = match use_ {
        SegmentUse::Log => {
            let entries = entries.map_or_else(|| "no entries".into(), |(first, last)| format!("entries {first} to {last}"));
            format!("{frames} frames up to offset {end}, {entries}")
        }
        SegmentUse::Ready => "ready for what comes next".into(),
        SegmentUse::Leftover => "a leftover, removed when the node starts".into(),
        SegmentUse::Unreadable => "its header cannot be read".into(),
    };
    format!("segment   {file}  {bytes} bytes: {what}")
}

fn group_line(group: &GroupInfo) -> String {
    let GroupInfo { group, term, vote, commit, commit_hint, purged, last } = group;
    let vote = vote_text(vote.as_ref()).map_or_else(|| "none".into(), |vote| vote.to_string());
    format!(
        "group     {group}: term {term}, vote {vote}, commit {}, purged up to {purged}, last entry {last}",
        commit.max(commit_hint)
    )
}

fn torn_text(inspection: &Inspection) -> Option<String> {
    let torn = inspection.torn_tail.as_ref()?;
    Some(format!(
        "torn at offset {} of {}: a write was under way that was never acknowledged; it is cut off when the node starts",
        torn.offset,
        torn.file.display()
    ))
}

/// The node that was voted for.
fn vote_text(vote: Option<&Vec<u8>>) -> Option<Value> {
    let bytes = Bytes::copy_from_slice(vote?);
    let id = <PostcardCodec as EntryCodec<Kv>>::decode_node_id(bytes);
    Some(id.map_or_else(|error| Value::from(error.to_string()), Value::from))
}

fn frame_line(frame: &FrameInfo) -> String {
    let FrameInfo { file, offset, bytes, sequence, synced, group, content, .. } = frame;
    let content = match content {
        FrameContent::Begin { groups } => format!("begin of a segment with {groups} groups"),
        FrameContent::HardState { term, vote, commit } => {
            let vote = vote_text(vote.as_ref()).map_or_else(|| "none".into(), |vote| vote.to_string());
            format!("hard state: term {term}, vote {vote}, commit {commit}")
        }
        FrameContent::Entries { first, last, commit } => format!("entries {first} to {last}, commit {commit}"),
        FrameContent::Truncate { from } => format!("truncated from {from}"),
        FrameContent::Purge { upto } => format!("purged up to {upto}"),
        FrameContent::Opened => "opened".into(),
        FrameContent::Closed => "closed".into(),
        FrameContent::Nonsense => "whole, but makes no sense".into(),
    };
    format!("frame     {file} {offset} {bytes} bytes, number {sequence}, synced {synced}, group {group}: {content}")
}

fn log_id_json(log_id: LogId) -> Value {
    json!({ "term": log_id.term, "index": log_id.index })
}

fn frame_json(frame: &FrameInfo) -> Value {
    let FrameInfo { file, offset, bytes, padded_bytes: _, sequence, synced, group, content } = frame;
    let mut value = json!({
        "file": file,
        "offset": offset,
        "bytes": bytes,
        "number": sequence,
        "synced": synced,
        "group": group,
    });
    value["frame"] = match content {
        FrameContent::Begin { groups } => json!({ "begin": { "groups": groups } }),
        FrameContent::HardState { term, vote, commit } => {
            json!({ "hard_state": { "term": term, "vote": vote_text(vote.as_ref()), "commit": commit } })
        }
        FrameContent::Entries { first, last, commit } => {
            json!({ "entries": { "first": log_id_json(*first), "last": log_id_json(*last), "commit": commit } })
        }
        FrameContent::Truncate { from } => json!({ "truncate": { "from": from } }),
        FrameContent::Purge { upto } => json!({ "purge": { "upto": log_id_json(*upto) } }),
        FrameContent::Opened => json!("opened"),
        FrameContent::Closed => json!("closed"),
        FrameContent::Nonsense => json!("nonsense"),
    };
    value
}

fn torn_json(inspection: &Inspection) -> Value {
    let torn = inspection.torn_tail.as_ref();
    torn.map_or(Value::Null, |torn| json!({ "file": torn.file.display().to_string(), "offset": torn.offset }))
}

fn summary_json(folder: &Path, inspection: &Inspection) -> Value {
    let segments = inspection.segments.iter().map(|segment| {
        let SegmentInfo { file, use_, bytes, end, frames, entries } = segment;
        json!({
            "file": file,
            "use": match use_ {
                SegmentUse::Log => "log",
                SegmentUse::Ready => "ready",
                SegmentUse::Leftover => "leftover",
                SegmentUse::Unreadable => "unreadable",
            },
            "bytes": bytes,
            "end": end,
            "frames": frames,
            "first": entries.map(|(first, _)| log_id_json(first)),
            "last": entries.map(|(_, last)| log_id_json(last)),
        })
    });
    let groups = inspection.groups.iter().map(|found| {
        let GroupInfo { group, term, vote, commit, commit_hint, purged, last } = found;
        json!({
            "group": group,
            "term": term,
            "vote": vote_text(vote.as_ref()),
            "commit": commit,
            "commit_hint": commit_hint,
            "purged": log_id_json(*purged),
            "last": log_id_json(*last),
        })
    });
    json!({
        "log": folder.display().to_string(),
        "cluster": inspection.identity.as_ref().map(|identity| &identity.cluster),
        "node": inspection.identity.as_ref().map(|identity| &identity.node),
        "encoding": inspection.codec,
        "segments": segments.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "closed": inspection.is_closed,
        "torn_tail": torn_json(inspection),
        "damage": inspection.damage,
    })
}
