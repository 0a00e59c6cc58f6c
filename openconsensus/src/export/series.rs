//! The names of all series, and what they mean.

use metrics_facade::{KeyName, Recorder, Unit};

/// A name under which [`MetricsExporter`](super::MetricsExporter) records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The name. That of a histogram stands for three: with `_bucket` and the label `le`, with `_sum` and with `_count`.
    pub name: &'static str,
    /// What it is.
    pub kind: SeriesKind,
    /// Its labels besides `node`.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// What a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKind {
    /// A value that comes and goes.
    Gauge,
    /// A number that only grows while the node runs.
    Counter,
    /// How often values of which size have occurred: buckets and count as counters, the sum as a gauge.
    Histogram,
}

impl SeriesKind {
    /// In small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Series {
    fn unit(&self) -> Option<Unit> {
        if self.name.ends_with("_seconds") {
            return Some(Unit::Seconds);
        }
        let is_bytes = self.name.ends_with("_bytes") || self.name.ends_with("_bytes_total");
        is_bytes.then_some(Unit::Bytes)
    }

    /// Tells a recorder what it means.
    pub(super) fn describe(&self, recorder: &dyn Recorder) {
        let name = |ending: &str| KeyName::from(format!("{}{ending}", self.name));
        match self.kind {
            SeriesKind::Gauge => recorder.describe_gauge(name(""), self.unit(), self.help.into()),
            SeriesKind::Counter => recorder.describe_counter(name(""), self.unit(), self.help.into()),
            SeriesKind::Histogram => {
                recorder.describe_counter(name("_bucket"), None, self.help.into());
                recorder.describe_counter(name("_count"), None, self.help.into());
                recorder.describe_gauge(name("_sum"), self.unit(), self.help.into());
            }
        }
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Series {
    Series { name, kind: SeriesKind::Gauge, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Series {
    Series { name, kind: SeriesKind::Counter, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Series {
    Series { name, kind: SeriesKind::Histogram, labels, help }
}

/// All series, in the order of the documentation. A gauge of which nothing can be said is NaN.
pub const SERIES: &[Series] = &[
    gauge("openconsensus_role", &["role"], "1 for the role of the node, 0 for the others"),
    gauge("openconsensus_standing", &["standing"], "1 for what the node is in its cluster, 0 for the others"),
    gauge("openconsensus_leader", &["leader"], "1 for who leads as far as the node knows, 0 for who led"),
    gauge("openconsensus_term", &[], "The term"),
    gauge("openconsensus_condition", &["condition"], "1 while the node is in this condition, else 0"),
    gauge("openconsensus_members", &["kind"], "Members of each kind in the membership in force"),
    gauge("openconsensus_log_index", &["position"], "How far the log has come in each respect"),
    gauge(
        "openconsensus_log_bytes",
        &["part"],
        "Bytes of the log, of all entries and of those behind the snapshot",
    ),
    gauge("openconsensus_tail_bytes", &[], "Bytes of entries kept in memory"),
    gauge("openconsensus_queue_bytes", &["queue"], "Bytes that wait in each queue"),
    gauge("openconsensus_queue_length", &["queue"], "How many wait, or are under way, in each queue"),
    gauge("openconsensus_snapshot_bytes", &[], "Bytes of the latest snapshot"),
    gauge(
        "openconsensus_snapshot_age_seconds",
        &[],
        "How long ago the latest snapshot was built or installed",
    ),
    gauge("openconsensus_quorum_contact_seconds", &[], "How long ago this leader has heard of a quorum"),
    gauge("openconsensus_leader_contact_seconds", &[], "How long ago this follower has heard of its leader"),
    gauge("openconsensus_lease_seconds", &[], "For how long this leader may still read by its lease"),
    gauge("openconsensus_peer_active", &["peer"], "1 while a peer answers this leader, else 0"),
    gauge(
        "openconsensus_peer_progress",
        &["peer", "progress"],
        "1 for how this leader sends to a peer, else 0",
    ),
    gauge(
        "openconsensus_peer_matched_index",
        &["peer"],
        "Up to where the log of a peer equals this leader's",
    ),
    gauge("openconsensus_peer_next_index", &["peer"], "The next entry that is sent to a peer"),
    gauge("openconsensus_peer_lag_entries", &["peer"], "Entries that a peer is not known to have"),
    gauge(
        "openconsensus_peer_lag_bytes",
        &["peer"],
        "Bytes of the entries that a peer is not known to have; NaN when they are not all in memory",
    ),
    gauge("openconsensus_peer_inflight_appends", &["peer"], "Appends that a peer has not answered"),
    gauge(
        "openconsensus_peer_inflight_bytes",
        &["peer"],
        "Bytes of the entries in appends that a peer has not answered",
    ),
    gauge("openconsensus_peer_contact_seconds", &["peer"], "How long ago a peer has answered last"),
    gauge("openconsensus_peer_unreachable", &["peer"], "1 while the network cannot reach a peer, else 0"),
    gauge(
        "openconsensus_peer_backoff_seconds",
        &["peer"],
        "How far apart what is sent to a peer in vain is at present",
    ),
    counter("openconsensus_elections_started_total", &[], "Elections that this node started"),
    counter("openconsensus_elections_won_total", &[], "Elections that this node won"),
    counter(
        "openconsensus_campaigns_refused_total",
        &[],
        "Campaigns not begun because of a promise to a leader",
    ),
    counter(
        "openconsensus_transfers_total",
        &["what"],
        "Transfers of leadership begun here, and how they ended",
    ),
    counter("openconsensus_truncations_total", &[], "Times that conflicting entries were cut from the log"),
    counter("openconsensus_snapshots_total", &["what"], "Snapshots, by what became of them"),
    counter("openconsensus_commands_appended_total", &[], "Commands appended as the leader"),
    counter(
        "openconsensus_reads_confirmed_total",
        &["by"],
        "Reads confirmed as the leader; those that came together count once",
    ),
    counter(
        "openconsensus_heartbeats_skipped_total",
        &[],
        "Periodic heartbeats that answered appends made unnecessary",
    ),
    counter("openconsensus_catch_up_reads_total", &[], "Reads of old entries for peers that lag"),
    counter(
        "openconsensus_clock_jumps_total",
        &[],
        "Times that the clock was seen to have stopped or jumped",
    ),
    counter("openconsensus_messages_total", &["direction", "kind"], "Messages sent to peers and received"),
    counter(
        "openconsensus_message_entries_total",
        &["direction"],
        "Entries in messages sent to peers and received",
    ),
    counter(
        "openconsensus_message_bytes_total",
        &["direction"],
        "Bytes of messages sent to peers and received, as limits count them",
    ),
    histogram("openconsensus_write_seconds", &["stage"], "Stages of writes while this node leads"),
    histogram(
        "openconsensus_read_seconds",
        &["by"],
        "Linearizable reads, from the call until they may be served",
    ),
    histogram("openconsensus_disk_seconds", &["call"], "Calls of the log storage"),
    histogram(
        "openconsensus_disk_append_size",
        &["unit"],
        "Entries and bytes appended to the log by one call",
    ),
    histogram("openconsensus_apply_seconds", &["call"], "Calls of the state machine"),
    histogram("openconsensus_apply_size", &["unit"], "Entries applied by one call"),
];
