//! `Histograms`: how long the stages of writes and reads, and the calls of the stores, have taken.

use std::sync::Arc;

use super::histogram::Histogram;

/// How long things have taken on this node since it was started, and how much went into one call. Cheap to clone.
///
/// What happens to many commands at once is measured once and counts as often as there are commands. All times are in
/// nanoseconds. Published with other metrics, but at most once in twenty times
/// [`metrics_interval_ms`](crate::Config::metrics_interval_ms).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Histograms {
    /// Writes that were asked of this node while it led.
    pub writes: WriteTimes,
    /// Reads that were asked of this node.
    pub reads: ReadTimes,
    /// Calls of the log storage.
    pub disk: DiskTimes,
    /// Calls of the state machine.
    pub apply: ApplyTimes,
}

/// The stages of a write. `queued`, then `stable` and `committed` side by side, then `applied`; `whole` spans them.
///
/// A batch counts in a stage when its last command has come through, and commands that came together count as having
/// come with the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct WriteTimes {
    /// From the call until [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) admits the command. Only
    /// calls that had to wait are counted, one for each call.
    pub admission: Arc<Histogram>,
    /// From admission until the command is appended to the log of this leader.
    pub queued: Arc<Histogram>,
    /// From being appended until it is durable on this node.
    pub stable: Arc<Histogram>,
    /// From being appended until it is committed.
    pub committed: Arc<Histogram>,
    /// From being committed until it is applied here and the caller has its answer.
    pub applied: Arc<Histogram>,
    /// From admission until the caller has its answer.
    pub whole: Arc<Histogram>,
}

/// Reads, from the call until they may be served here: confirmed, and the state machine has come as far. Those that
/// are sent away are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ReadTimes {
    /// Asked for with [`Raft::read`](crate::Raft::read).
    pub by_round: Arc<Histogram>,
    /// Asked for with [`Raft::read_by_lease`](crate::Raft::read_by_lease), also where a round had to confirm them; the
    /// counter [`reads_by_lease`](crate::Counters::reads_by_lease) says how often a lease was enough.
    pub by_lease: Arc<Histogram>,
}

/// Calls of the log storage, each from the call until it has returned: durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DiskTimes {
    /// Saving the hard state.
    pub save_hard_state: Arc<Histogram>,
    /// Appending entries.
    pub append: Arc<Histogram>,
    /// Truncating the log.
    pub truncate: Arc<Histogram>,
    /// Purging the log.
    pub purge: Arc<Histogram>,
    /// How many entries were appended by one call.
    pub append_entries: Arc<Histogram>,
    /// How many bytes of entries were appended by one call.
    pub append_bytes: Arc<Histogram>,
}

/// Calls of the state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ApplyTimes {
    /// How long one call took, with answering those who waited.
    pub call: Arc<Histogram>,
    /// How many entries were applied by one call.
    pub entries: Arc<Histogram>,
}
