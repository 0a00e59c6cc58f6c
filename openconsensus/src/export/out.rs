//! Everything that is recorded, series by series.

use metrics_facade::{Key, Label, Level, Metadata, with_recorder};

use crate::entry::Index;
use crate::membership::Membership;
use crate::metrics::{
    ApplyTimes, Counters, DiskTimes, Histogram, Histograms, MessageCounters, PeerMetrics, ProgressName,
    QueueMetrics, RaftMetrics, ReadTimes, RoleName, Standing, WriteTimes,
};
use crate::type_config::TypeConfig;

pub(super) const ROLES: [RoleName; 4] =
    [RoleName::Follower, RoleName::PreCandidate, RoleName::Candidate, RoleName::Leader];
pub(super) const STANDINGS: [Standing; 4] =
    [Standing::Voter, Standing::Learner, Standing::Removed, Standing::Outsider];
const PROGRESS: [ProgressName; 3] = [ProgressName::Probe, ProgressName::Replicate, ProgressName::Snapshot];

/// Where nothing can be said a gauge is not a number.
pub(super) fn or_nan(value: Option<u64>) -> f64 {
    value.map_or(f64::NAN, |value| value as f64)
}

pub(super) fn seconds(ms: Option<u64>) -> f64 {
    or_nan(ms) / 1000.0
}

pub(super) fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The recorder that is installed, and the node that all series are labelled with.
pub(super) struct Out<'a> {
    pub(super) node: &'a str,
}

const METADATA: Metadata<'static> = Metadata::new("openconsensus", Level::INFO, None);

impl Out<'_> {
    fn key(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let mut all = vec![Label::new("node", self.node.to_owned())];
        all.extend(labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())));
        Key::from_parts(name, all)
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let key = self.key(name, labels);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA)).set(value);
    }

    pub(super) fn counter(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        let key = self.key(name, labels);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA)).absolute(value);
    }

    /// One of several: 1 for that one, 0 for all others.
    pub(super) fn choice<T: PartialEq + ToString>(
        &self,
        name: &'static str,
        label: &'static str,
        all: &[T],
        chosen: &T,
    ) {
        for one in all {
            self.gauge(name, &[(label, &one.to_string())], flag(one == chosen));
        }
    }

    pub(super) fn positions(&self, positions: &[(&str, Index)]) {
        for (position, index) in positions {
            self.gauge("openconsensus_log_index", &[("position", position)], *index as f64);
        }
    }

    pub(super) fn log_bytes(&self, parts: &[(&str, u64)]) {
        for (part, bytes) in parts {
            self.gauge("openconsensus_log_bytes", &[("part", part)], *bytes as f64);
        }
    }

    pub(super) fn conditions<C: TypeConfig>(&self, metrics: &RaftMetrics<C>) {
        let conditions = [
            ("building_snapshot", metrics.is_building_snapshot),
            ("installing_snapshot", metrics.is_installing_snapshot),
            ("transferring", metrics.transfer_to.is_some()),
            ("elections_paused", metrics.elections_paused),
            ("heartbeats_paused", metrics.heartbeats_paused),
            ("disk_stalled", metrics.disk_stalled),
            ("stopped", metrics.fatal.is_some()),
        ];
        for (condition, holds) in conditions {
            self.gauge("openconsensus_condition", &[("condition", condition)], flag(holds));
        }
    }

    pub(super) fn members<C: TypeConfig>(&self, membership: &Membership<C>) {
        let voters = membership.all_voters().count();
        let kinds = [("voter", voters), ("learner", membership.nodes().len() - voters)];
        for (kind, count) in kinds {
            self.gauge("openconsensus_members", &[("kind", kind)], count as f64);
        }
        let condition = [("condition", "joint_membership")];
        self.gauge("openconsensus_condition", &condition, flag(membership.is_joint()));
    }

    /// What the leader knows of a peer, or that there is no such peer any more.
    pub(super) fn peer(&self, id: &str, peer: Option<&PeerMetrics>) {
        for progress in PROGRESS {
            let labels = [("peer", id), ("progress", &*progress.to_string())];
            let holds = peer.is_some_and(|peer| peer.progress == progress);
            self.gauge("openconsensus_peer_progress", &labels, flag(holds));
        }
        let is_active = peer.is_some_and(|peer| peer.active);
        self.gauge("openconsensus_peer_active", &[("peer", id)], flag(is_active));
        let is_unreachable = peer.is_some_and(|peer| peer.unreachable);
        self.gauge("openconsensus_peer_unreachable", &[("peer", id)], flag(is_unreachable));
        let gauges: [(&'static str, f64); 8] = match peer {
            None => PEER_GAUGES.map(|name| (name, f64::NAN)),
            Some(peer) => {
                let PeerMetrics {
                    progress: _,
                    matched,
                    next,
                    lag_entries,
                    lag_bytes,
                    inflight_appends,
                    inflight_bytes,
                    contact_ms,
                    active: _,
                    unreachable: _,
                    backoff_ms,
                } = peer;
                let values = [
                    *matched as f64,
                    *next as f64,
                    *lag_entries as f64,
                    or_nan(*lag_bytes),
                    *inflight_appends as f64,
                    *inflight_bytes as f64,
                    seconds(*contact_ms),
                    *backoff_ms as f64 / 1000.0,
                ];
                let mut values = values.into_iter();
                PEER_GAUGES.map(|name| (name, values.next().unwrap_or(f64::NAN)))
            }
        };
        for (name, value) in gauges {
            self.gauge(name, &[("peer", id)], value);
        }
    }

    pub(super) fn queues(&self, queues: &QueueMetrics) {
        let QueueMetrics {
            admitted_bytes,
            writers_waiting,
            uncommitted_bytes,
            received_bytes,
            received_urgent_bytes,
            apply_backlog_bytes,
            reads_under_way,
            readers_waiting,
            requests_under_way,
        } = *queues;
        let bytes = [
            ("admitted", admitted_bytes),
            ("uncommitted", uncommitted_bytes),
            ("received", received_bytes),
            ("received_urgent", received_urgent_bytes),
            ("apply", apply_backlog_bytes),
        ];
        for (queue, bytes) in bytes {
            self.gauge("openconsensus_queue_bytes", &[("queue", queue)], bytes as f64);
        }
        let lengths = [
            ("writers", writers_waiting),
            ("reads", reads_under_way),
            ("readers", readers_waiting),
            ("requests", requests_under_way),
        ];
        for (queue, length) in lengths {
            self.gauge("openconsensus_queue_length", &[("queue", queue)], length as f64);
        }
    }

    pub(super) fn counters(&self, counters: &Counters) {
        let Counters {
            elections_started,
            elections_won,
            truncations,
            snapshots_built,
            snapshots_failed,
            snapshots_damaged,
            snapshots_installed,
            snapshots_refused,
            snapshots_sent,
            snapshots_unsent,
            commands_appended,
            catch_up_reads,
            transfers_begun,
            transfers_succeeded,
            transfers_failed,
            reads_by_lease,
            reads_by_round,
            campaigns_refused,
            clock_jumps,
            heartbeats_skipped,
            sent,
            received,
        } = counters;
        let simple = [
            ("openconsensus_elections_started_total", elections_started),
            ("openconsensus_elections_won_total", elections_won),
            ("openconsensus_campaigns_refused_total", campaigns_refused),
            ("openconsensus_truncations_total", truncations),
            ("openconsensus_commands_appended_total", commands_appended),
            ("openconsensus_catch_up_reads_total", catch_up_reads),
            ("openconsensus_clock_jumps_total", clock_jumps),
            ("openconsensus_heartbeats_skipped_total", heartbeats_skipped),
        ];
        for (name, count) in simple {
            self.counter(name, &[], *count);
        }
        let snapshots = [
            ("built", snapshots_built),
            ("failed", snapshots_failed),
            ("damaged", snapshots_damaged),
            ("installed", snapshots_installed),
            ("refused", snapshots_refused),
            ("sent", snapshots_sent),
            ("unsent", snapshots_unsent),
        ];
        let transfers =
            [("begun", transfers_begun), ("succeeded", transfers_succeeded), ("failed", transfers_failed)];
        let reads = [("lease", reads_by_lease), ("round", reads_by_round)];
        self.family("openconsensus_snapshots_total", "what", &snapshots);
        self.family("openconsensus_transfers_total", "what", &transfers);
        self.family("openconsensus_reads_confirmed_total", "by", &reads);
        self.messages("sent", sent);
        self.messages("received", received);
    }

    fn family(&self, name: &'static str, label: &'static str, counts: &[(&str, &u64)]) {
        for (value, count) in counts {
            self.counter(name, &[(label, value)], **count);
        }
    }

    fn messages(&self, direction: &str, counters: &MessageCounters) {
        for (kind, count) in counters.by_kind() {
            let labels = [("direction", direction), ("kind", kind)];
            self.counter("openconsensus_messages_total", &labels, count);
        }
        let direction = [("direction", direction)];
        self.counter("openconsensus_message_entries_total", &direction, counters.entries);
        self.counter("openconsensus_message_bytes_total", &direction, counters.bytes);
    }

    pub(super) fn histograms(&self, histograms: &Histograms) {
        let Histograms { writes, reads, disk, apply } = histograms;
        let WriteTimes { admission, queued, stable, committed, applied, whole } = writes;
        let stages = [
            ("admission", admission),
            ("queued", queued),
            ("stable", stable),
            ("committed", committed),
            ("applied", applied),
            ("whole", whole),
        ];
        for (stage, histogram) in stages {
            self.times(&WRITE, ("stage", stage), histogram);
        }
        let ReadTimes { by_round, by_lease } = reads;
        for (by, histogram) in [("round", by_round), ("lease", by_lease)] {
            self.times(&READ, ("by", by), histogram);
        }
        let DiskTimes { save_hard_state, append, truncate, purge, append_entries, append_bytes } = disk;
        let calls = [
            ("save_hard_state", save_hard_state),
            ("append", append),
            ("truncate", truncate),
            ("purge", purge),
        ];
        for (call, histogram) in calls {
            self.times(&DISK, ("call", call), histogram);
        }
        let ApplyTimes { call, entries } = apply;
        self.times(&APPLY, ("call", "apply"), call);
        for (unit, histogram) in [("entries", append_entries), ("bytes", append_bytes)] {
            self.sizes(&DISK_SIZE, ("unit", unit), histogram);
        }
        self.sizes(&APPLY_SIZE, ("unit", "entries"), entries);
    }

    fn times(&self, names: &HistogramNames, label: (&'static str, &str), histogram: &Histogram) {
        // From 4 microseconds to 17 seconds.
        self.histogram(names, label, histogram, (12..=34).map(|bits| 1 << bits), 1e9);
    }

    fn sizes(&self, names: &HistogramNames, label: (&'static str, &str), histogram: &Histogram) {
        self.histogram(names, label, histogram, (0..=26).step_by(2).map(|bits| 1 << bits), 1.0);
    }

    /// Not through the histograms of the facade: those take one value after the other, and there may be a million of
    /// them in a second. As Prometheus has them: so many values were not above `le`.
    fn histogram(
        &self,
        names: &HistogramNames,
        label: (&'static str, &str),
        histogram: &Histogram,
        bounds: impl Iterator<Item = u64>,
        unit: f64,
    ) {
        for bound in bounds {
            let le = (bound as f64 / unit).to_string();
            self.counter(names.bucket, &[label, ("le", &le)], histogram.count_up_to(bound));
        }
        self.counter(names.bucket, &[label, ("le", "+Inf")], histogram.count());
        self.gauge(names.sum, &[label], histogram.sum() as f64 / unit);
        self.counter(names.count, &[label], histogram.count());
    }
}

const PEER_GAUGES: [&str; 8] = [
    "openconsensus_peer_matched_index",
    "openconsensus_peer_next_index",
    "openconsensus_peer_lag_entries",
    "openconsensus_peer_lag_bytes",
    "openconsensus_peer_inflight_appends",
    "openconsensus_peer_inflight_bytes",
    "openconsensus_peer_contact_seconds",
    "openconsensus_peer_backoff_seconds",
];

/// The three series of a histogram.
struct HistogramNames {
    bucket: &'static str,
    sum: &'static str,
    count: &'static str,
}

macro_rules! histogram_names {
    ($name:literal) => {
        HistogramNames {
            bucket: concat!($name, "_bucket"),
            sum: concat!($name, "_sum"),
            count: concat!($name, "_count"),
        }
    };
}

const WRITE: HistogramNames = histogram_names!("openconsensus_write_seconds");
const READ: HistogramNames = histogram_names!("openconsensus_read_seconds");
const DISK: HistogramNames = histogram_names!("openconsensus_disk_seconds");
const DISK_SIZE: HistogramNames = histogram_names!("openconsensus_disk_append_size");
const APPLY: HistogramNames = histogram_names!("openconsensus_apply_seconds");
const APPLY_SIZE: HistogramNames = histogram_names!("openconsensus_apply_size");
