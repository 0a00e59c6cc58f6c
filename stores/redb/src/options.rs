//! Limits of the stores.

/// Limits of the stores, each with its unit in its name. The defaults suit a node with some hundred MiB to spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most memory in which redb keeps pages of the log. Recent entries are served from the core's memory, so it
    /// need not be large. Default 32 MiB.
    pub log_cache_bytes: usize,
    /// The most memory in which redb keeps pages of the state. Default 256 MiB.
    pub state_cache_bytes: usize,
    /// The state is synced when so many entries have been applied since the last sync; fewer mean less to apply again
    /// after a crash, and more syncs: each writes every page that has changed. Default 100,000, as much as a node
    /// applies between two snapshots by default.
    pub state_sync_entries_max: u64,
    /// The state is synced when commands of so many bytes have been applied since the last sync. Default 128 MiB.
    pub state_sync_bytes_max: u64,
    /// The state is synced when nothing has been applied for so long. Default 200.
    pub state_sync_idle_ms: u64,
    /// How many snapshots stay in their folder: the current one, and so many less one of those before it. The store itself
    /// never goes back to an older one; they are for an operator to copy, or to look at. At least 1; default 1.
    pub snapshots_kept: usize,
    /// Whether the checksum of every page of the state is checked when it is opened, which reads the whole file.
    /// Without it damage is found when, and if, a page is read. The log is always checked. Default true.
    pub check_state_at_open: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_cache_bytes: 32 << 20,
            state_cache_bytes: 256 << 20,
            state_sync_entries_max: 100_000,
            state_sync_bytes_max: 128 << 20,
            state_sync_idle_ms: 200,
            snapshots_kept: 1,
            check_state_at_open: true,
        }
    }
}
