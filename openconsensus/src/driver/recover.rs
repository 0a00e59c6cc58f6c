//! Finds out what a node has stored, and refuses what cannot be.
//!
//! The log and the state machine are two stores that are never written together, so after a crash either may be ahead of
//! the other. What a crash can leave behind is put in order here; anything else means that something is lost, and a
//! node that has lost something must not vote.

use std::io;
use std::ops::Range;

use anyerror::AnyError;

use crate::engine::Recovered;
use crate::entries::Entries;
use crate::entry::{Index, LogId, Payload};
use crate::error::StartError;
use crate::membership::MembershipAt;
use crate::storage::{AppliedState, LogState, RaftLogReader, RaftLogStorage, RaftStateMachine};
use crate::type_config::TypeConfig;

/// Reads all cursors from the log storage and the state machine. `read_bytes_max` bounds each read of the log. Returns
/// a reader of the log too: there is none before the log is loaded.
pub(super) async fn recover<C, L, S>(
    id: C::NodeId,
    seed: u64,
    read_bytes_max: u64,
    log: &mut L,
    state_machine: &mut S,
) -> Result<(Recovered<C>, L::Reader), StartError>
where
    C: TypeConfig,
    L: RaftLogStorage<C>,
    S: RaftStateMachine<C>,
{
    let mut state = log.load().await.map_err(log_error("while loading the log"))?;
    let mut reader = log.reader();
    if let Some(contradiction) = state.contradiction() {
        return Err(damaged(contradiction));
    }
    let (applied, snapshot) = recover_state_machine(state_machine, &mut reader, &state).await?;
    if applied.last_applied.index < state.purged.index {
        return Err(damaged(format!(
            "the state machine has applied entries up to {} and the log begins behind {}: the entries between are lost, \
             and the latest snapshot ends with {snapshot}",
            applied.last_applied, state.purged
        )));
    }
    if let Some(contradiction) = state.unseen_term(applied.last_applied) {
        return Err(damaged(contradiction));
    }
    join_log_with_state(log, &mut reader, &mut state, applied.last_applied, snapshot).await?;
    let mut log_reader = LogScan { reader: &mut reader, state: &state, read_bytes_max };
    let term_starts = log_reader.term_starts().await?;
    let memberships = log_reader.memberships_behind(applied.last_applied.index).await?;
    let LogState { hard_state, purged, last } = state;
    let recovered =
        Recovered { id, seed, hard_state, purged, last, term_starts, memberships, applied, snapshot };
    Ok((recovered, reader))
}

/// How far the state machine has come, and the entry that its snapshot ends with. A state that is older than its own
/// snapshot (a volatile state machine after a restart) is brought up to it.
///
/// A snapshot that cannot be read counts as none, and is replaced by another one, but only where it is certain that
/// nothing is lost with it.
async fn recover_state_machine<C, D, S>(
    state_machine: &mut S,
    reader: &mut D,
    log: &LogState<C>,
) -> Result<(AppliedState<C>, LogId), StartError>
where
    C: TypeConfig,
    D: RaftLogReader<C>,
    S: RaftStateMachine<C>,
{
    let applied = state_machine
        .applied_state()
        .await
        .map_err(state_machine_error("while reading the applied state"))?;
    let snapshot = match state_machine.current_snapshot().await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            // Nobody knows what it covers. A state that is not empty is a persistent one, which has what it covers.
            let is_needed =
                applied.last_applied == LogId::ZERO || applied.last_applied.index < log.purged.index;
            let lost = is_needed.then_some("what it covers is in it only");
            return without_snapshot(applied, lost, "opening the current snapshot", &error);
        }
    };
    let Some(snapshot) = snapshot else {
        return Ok((applied, LogId::ZERO));
    };
    let meta = snapshot.meta.clone();
    if meta.last.index == applied.last_applied.index && meta.last != applied.last_applied {
        return Err(damaged(format!(
            "the state machine has applied entries up to {}, but its snapshot ends with {}: one of them is of another \
             cluster or not committed",
            applied.last_applied, meta.last
        )));
    }
    if meta.last.index <= applied.last_applied.index {
        return Ok((applied, meta.last));
    }
    tracing::info!(
        name: "raft.snapshot.restore", applied = %applied.last_applied, snapshot = %meta.last,
        "restoring the state machine from its own snapshot"
    );
    if let Err(error) = state_machine.install_snapshot(snapshot).await {
        let is_in_log = log.purged.index <= applied.last_applied.index
            && meta.last.index <= log.last.index
            && entry_at(reader, meta.last.index).await? == meta.last;
        let lost = (!is_in_log).then_some("the log does not have all that it covers");
        return without_snapshot(applied, lost, "restoring the state from the current snapshot", &error);
    }
    Ok((AppliedState { last_applied: meta.last, membership: meta.membership }, meta.last))
}

/// The current snapshot cannot be read. The node starts without it, unless something is `lost` with it.
fn without_snapshot<C: TypeConfig>(
    applied: AppliedState<C>,
    lost: Option<&str>,
    what: &'static str,
    error: &io::Error,
) -> Result<(AppliedState<C>, LogId), StartError> {
    let Some(lost) = lost else {
        tracing::error!(
            name: "raft.snapshot.damaged", applied = %applied.last_applied, %error,
            "the current snapshot cannot be read; another one takes its place"
        );
        return Ok((applied, LogId::ZERO));
    };
    // Of anything else another attempt may find the snapshot whole.
    let is_damage = matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
    );
    Err(if is_damage {
        damaged(format!("{what} failed: {error}; {lost}"))
    } else {
        StartError::StateMachine(AnyError::new(error).add_context(|| format!("while {what}")))
    })
}

/// Makes sure that the log continues the state of the state machine.
///
/// A crash between installing a snapshot and clearing the log leaves a log that ends before the snapshot, or that has
/// another, uncommitted entry in its place. Then the snapshot counts: the log begins anew behind it. Without a snapshot
/// at exactly that entry the state machine has something that the log has lost.
async fn join_log_with_state<C, L>(
    log: &mut L,
    reader: &mut L::Reader,
    state: &mut LogState<C>,
    applied: LogId,
    snapshot: LogId,
) -> Result<(), StartError>
where
    C: TypeConfig,
    L: RaftLogStorage<C>,
{
    let in_log = if applied.index == state.purged.index {
        Some(state.purged)
    } else if applied.index <= state.last.index {
        Some(entry_at(reader, applied.index).await?)
    } else {
        None
    };
    if in_log == Some(applied) {
        return Ok(());
    }
    let can_begin_anew = applied == snapshot && state.purged.index < applied.index;
    if !can_begin_anew {
        return Err(damaged(match in_log {
            Some(entry) => format!(
                "the state machine has applied entry {applied}, but the log has {entry} in its place and no snapshot \
                 ends there (the latest ends with {snapshot})"
            ),
            None => format!(
                "the state machine has applied entries up to {applied}, but the log ends with {} and no snapshot ends \
                 with {applied} (the latest ends with {snapshot}): acknowledged entries are lost from the log",
                state.last
            ),
        }));
    }
    if in_log.is_some() {
        log.truncate(applied.index).await.map_err(log_error("while clearing the log behind a snapshot"))?;
    }
    log.purge(applied).await.map_err(log_error("while clearing the log behind a snapshot"))?;
    state.purged = applied;
    state.last = applied;
    Ok(())
}

/// Entries so near to each other are read together: a store that reads by the block reads them anyway.
const BISECTED_ENTRIES_MIN: u64 = 64;

/// Looks into a log without reading all of it.
struct LogScan<'a, C: TypeConfig, D> {
    reader: &'a mut D,
    state: &'a LogState<C>,
    read_bytes_max: u64,
}

impl<C: TypeConfig, D: RaftLogReader<C>> LogScan<'_, C, D> {
    /// The first entry of each term behind the purged ones. Terms never fall, so between two entries of one term there is
    /// nothing to look for; the others are bisected, all terms together.
    async fn term_starts(&mut self) -> Result<Vec<LogId>, StartError> {
        let (purged, last) = (self.state.purged, self.state.last);
        if purged.index == last.index {
            return Ok(Vec::new());
        }
        let found = entry_at(self.reader, last.index).await?;
        if found != last {
            return Err(damaged(format!(
                "the log is said to end with {last}, but its reader finds {found} there"
            )));
        }
        let first = entry_at(self.reader, purged.index + 1).await?;
        let mut starts = vec![first];
        // Pairs of entries, the earliest on top; what lies between them has not been looked at.
        let mut open = vec![(first, last)];
        while let Some((before, after)) = open.pop() {
            if before.term == after.term {
                continue;
            }
            if after.index - before.index <= BISECTED_ENTRIES_MIN {
                self.term_starts_between(before, after, &mut starts).await?;
                continue;
            }
            let middle = before.index + (after.index - before.index) / 2;
            let middle = entry_at(self.reader, middle).await?;
            open.extend([(middle, after), (before, middle)]);
        }
        Ok(starts)
    }

    /// Adds the entries behind `before` and up to `after` with which terms begin.
    async fn term_starts_between(
        &mut self,
        mut before: LogId,
        after: LogId,
        starts: &mut Vec<LogId>,
    ) -> Result<(), StartError> {
        let mut next = before.index + 1;
        while next < after.index {
            let entries = read(self.reader, next..after.index, self.read_bytes_max).await?;
            for entry in entries.iter().map(|entry| entry.log_id) {
                starts.extend((entry.term != before.term).then_some(entry));
                before = entry;
            }
            next = entries.range().end;
        }
        starts.extend((after.term != before.term).then_some(after));
        Ok(())
    }

    /// The memberships in the entries behind `applied`.
    async fn memberships_behind(&mut self, applied: Index) -> Result<Vec<MembershipAt<C>>, StartError> {
        let end = self.state.last.index + 1;
        let mut next = applied + 1;
        // A storage that knows them saves decoding all entries.
        let known = self.reader.memberships(next..end).await;
        if let Some(known) = known.map_err(log_error("while looking for memberships"))? {
            let indexes = known.iter().map(|membership| membership.log_id.index);
            let bounded: Vec<_> = [applied].into_iter().chain(indexes).chain([end]).collect();
            if bounded.windows(2).any(|pair| pair[1] <= pair[0]) {
                let found = &bounded[1..bounded.len() - 1];
                return Err(damaged(format!(
                    "asked for memberships among entries {next}..{end}, the log reader named entries {found:?}"
                )));
            }
            return Ok(known);
        }
        let mut memberships = Vec::new();
        while next < end {
            let entries = read(self.reader, next..end, self.read_bytes_max).await?;
            memberships.extend(entries.iter().filter_map(|entry| match &entry.payload {
                Payload::Membership(membership) => {
                    Some(MembershipAt { log_id: entry.log_id, membership: membership.clone() })
                }
                Payload::Blank | Payload::Command(_) => None,
            }));
            next = entries.range().end;
        }
        Ok(memberships)
    }
}

/// The name of one entry, which must be there.
async fn entry_at<C, D>(reader: &mut D, index: Index) -> Result<LogId, StartError>
where
    C: TypeConfig,
    D: RaftLogReader<C>,
{
    let entries = read(reader, index..index + 1, 0).await?;
    entries.first().ok_or_else(|| missing(index))
}

/// Some entries, at least the first of `range`, which must be there.
async fn read<C, D>(reader: &mut D, range: Range<Index>, bytes_max: u64) -> Result<Entries<C>, StartError>
where
    C: TypeConfig,
    D: RaftLogReader<C>,
{
    let start = range.start;
    let entries: Entries<C> = super::catch_up::read(reader, range, bytes_max).await.map_err(|error| {
        // The reader answers with entries that nobody has asked for.
        if error.kind() == io::ErrorKind::InvalidData {
            damaged(error.to_string())
        } else {
            StartError::LogStorage(AnyError::new(&error))
        }
    })?;
    if entries.is_empty() { Err(missing(start)) } else { Ok(entries) }
}

fn missing(index: Index) -> StartError {
    damaged(format!(
        "entry {index} is missing from the log, although entries before and behind it are said to be there"
    ))
}

/// `Damaged`, with what to do about it.
pub(super) fn damaged(what: String) -> StartError {
    StartError::Damaged(format!(
        "{what}. Do not start this node on these stores again: remove it from the cluster and add it anew with empty ones"
    ))
}

fn log_error(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::LogStorage(AnyError::new(&error).add_context(|| what))
}

fn state_machine_error(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::StateMachine(AnyError::new(&error).add_context(|| what))
}

#[cfg(test)]
mod tests;
