//! What a frame does to the state of its group: the same when it is written as when it is found.

use openconsensus::LogId;

use crate::frame::Said;
use crate::index::GroupState;
use crate::records::summarize;

/// Brings `state` up to date with a frame at `offset` of a segment. Fails with what is wrong when it cannot follow.
pub(crate) fn replay(
    state: &mut GroupState,
    segment: u64,
    offset: u64,
    said: &Said<'_>,
) -> Result<(), String> {
    let (purged, last) = (state.cursors().purged, state.cursors().last);
    match said {
        Said::Begin { .. } | Said::Opened | Said::Closed => {}
        Said::HardState(hard) => state.set_hard(hard.clone()),
        Said::Entries { first, commit, count, records } => {
            let summary = summarize(records, *first, *count)
                .ok_or_else(|| format!("the records of entries from {first} on make no sense"))?;
            GroupState::check_append(last, summary.term_starts[0])?;
            state.append(segment, offset, summary, *commit);
        }
        Said::Truncate { from } => {
            check_truncate(purged, last, *from)?;
            state.truncate(*from);
        }
        Said::Purge { upto } => {
            check_purge(state, *upto)?;
            state.purge(*upto);
        }
    }
    Ok(())
}

/// Whether entries from `from` on can be removed; there must be some.
pub(crate) fn check_truncate(purged: LogId, last: LogId, from: u64) -> Result<(), String> {
    if from <= purged.index || last.index < from {
        return Err(format!("a log from {purged} to {last} cannot be truncated from {from}"));
    }
    Ok(())
}

/// Whether entries up to `upto` can be removed; it must be behind the purged one.
pub(crate) fn check_purge(state: &GroupState, upto: LogId) -> Result<(), String> {
    let (purged, last) = (state.cursors().purged, state.cursors().last);
    let term = if upto.index <= last.index { state.term_at(upto.index) } else { upto.term };
    if upto.index <= purged.index || (term != upto.term && term != 0) {
        return Err(format!("a log from {purged} to {last} cannot be purged up to {upto}"));
    }
    Ok(())
}
