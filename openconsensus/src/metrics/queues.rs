//! `QueueMetrics`: what waits in a node, and how much memory it counts with.

/// What waits in a node, and how much memory it counts with. Each stays below the limit that it names, but for what is
/// larger than the whole limit by itself and then waits alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueMetrics {
    /// Bytes of commands that are admitted and not answered; limit `uncommitted_bytes_max`.
    pub admitted_bytes: u64,
    /// Writers that wait to be admitted. They hold their commands themselves.
    pub writers_waiting: u64,
    /// Bytes of entries in the log that are not committed, or not durable here; limit `uncommitted_bytes_max` for what a
    /// leader appends.
    pub uncommitted_bytes: u64,
    /// Bytes of appends that have arrived and that nobody has looked at; limit `receive_bytes_max`.
    pub received_bytes: u64,
    /// Bytes of all other messages that have arrived; limit `receive_urgent_bytes_max`.
    pub received_urgent_bytes: u64,
    /// Bytes of committed entries that the state machine has before it; limit `apply_bytes_max`.
    pub apply_backlog_bytes: u64,
    /// Reads under way; limit `reads_waiting_max`.
    pub reads_under_way: u64,
    /// Readers that wait for their turn.
    pub readers_waiting: u64,
    /// Requests of operators that are not answered; limit `requests_waiting_max`.
    pub requests_under_way: u64,
}
