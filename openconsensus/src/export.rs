//! Publishes all that a node shows of itself through the facade of the crate `metrics`, under names that stay.
//!
//! Whatever is installed there then has it: an exporter for Prometheus, OpenTelemetry, StatsD. Every series has the label
//! `node`. [`SERIES`] lists them all; so does the table in [the guide](crate::guide::names).
//!
//! ```
//! # async fn example<C: openconsensus::TypeConfig>(raft: openconsensus::Raft<C>) {
//! // Once in a second, until the node stops. Or call `MetricsExporter::record` whenever somebody asks.
//! let exporting = openconsensus::export::export(&raft, std::time::Duration::from_secs(1));
//! # exporting.await;
//! # }
//! ```

mod histograms;
mod series;

use std::collections::BTreeSet;
use std::time::Duration;

use metrics_facade::{Key, Label, Level, Metadata, with_recorder};

use crate::membership::Membership;
use crate::metrics::{
    Counters, MessageCounters, PeerMetrics, ProgressName, QueueMetrics, RaftMetrics, RoleName, Standing,
};
use crate::raft::Raft;
use crate::runtime::MaybeSend;
use crate::type_config::TypeConfig;

pub use series::{SERIES, Series, SeriesKind};

/// Records the metrics of a node at once and then again and again, `interval` apart, until the node has stopped. To be
/// spawned as a task; it does not keep the node alive.
pub fn export<C: TypeConfig>(
    raft: &Raft<C>,
    interval: Duration,
) -> impl Future<Output = ()> + MaybeSend + 'static {
    let (watch, clock) = (raft.metrics(), raft.clock());
    async move {
        let mut exporter = MetricsExporter::new();
        loop {
            let metrics = watch.latest();
            exporter.record(&metrics);
            if metrics.fatal.is_some() {
                return;
            }
            clock.sleep_until(clock.now() + interval).await;
        }
    }
}

/// Records metrics of one node in whatever recorder is installed: [`metrics::set_global_recorder`][set], or the one of the
/// thread.
///
/// It remembers of which peers it has told, so that what was said of one that is none any more can be taken back. Cheap
/// enough for every scrape, or for once in a second; there is nothing to be gained from more.
///
/// [set]: https://docs.rs/metrics/latest/metrics/fn.set_global_recorder.html
#[derive(Clone, Debug, Default)]
pub struct MetricsExporter {
    peers: BTreeSet<String>,
    leaders: BTreeSet<String>,
}

impl MetricsExporter {
    /// Describes all series to the recorder that is installed.
    pub fn new() -> Self {
        with_recorder(|recorder| SERIES.iter().for_each(|series| series.describe(recorder)));
        Self::default()
    }

    /// Records what `metrics` say.
    pub fn record<C: TypeConfig>(&mut self, metrics: &RaftMetrics<C>) {
        let node = metrics.id.to_string();
        let out = Out { node: &node };
        // All fields by name: one that is added must be exported, or it must be said here why not.
        let RaftMetrics {
            id: _,
            role,
            term,
            // Of use to nobody who looks at a graph.
            voted_for: _,
            leader,
            // Told with the other positions and conditions.
            last: _,
            stable: _,
            committed: _,
            applied: _,
            snapshot: _,
            snapshot_bytes,
            snapshot_age_ms,
            is_building_snapshot: _,
            is_installing_snapshot: _,
            purged: _,
            log_bytes,
            log_bytes_since_snapshot,
            membership,
            standing,
            transfer_to: _,
            peers,
            quorum_contact_ms,
            leader_contact_ms,
            lease_ms,
            elections_paused: _,
            heartbeats_paused: _,
            disk_stalled: _,
            tail_bytes,
            queues,
            counters,
            histograms,
            fatal: _,
        } = metrics;
        out.choice("openconsensus_role", "role", &ROLES, role);
        out.choice("openconsensus_standing", "standing", &STANDINGS, standing);
        self.leader(&out, leader.map(|leader| leader.to_string()));
        out.gauge("openconsensus_term", &[], *term as f64);
        out.positions(metrics);
        for (part, bytes) in [("all", *log_bytes), ("since_snapshot", *log_bytes_since_snapshot)] {
            out.gauge("openconsensus_log_bytes", &[("part", part)], bytes as f64);
        }
        out.gauge("openconsensus_tail_bytes", &[], *tail_bytes as f64);
        out.gauge("openconsensus_snapshot_bytes", &[], or_nan(*snapshot_bytes));
        out.gauge("openconsensus_snapshot_age_seconds", &[], seconds(*snapshot_age_ms));
        out.gauge("openconsensus_quorum_contact_seconds", &[], seconds(*quorum_contact_ms));
        out.gauge("openconsensus_leader_contact_seconds", &[], seconds(*leader_contact_ms));
        out.gauge("openconsensus_lease_seconds", &[], seconds(*lease_ms));
        out.conditions(metrics);
        out.members(&membership.membership);
        self.peers(&out, peers.iter().map(|(id, peer)| (id.to_string(), peer)));
        out.queues(queues);
        out.counters(counters);
        out.histograms(histograms);
    }

    fn leader(&mut self, out: &Out<'_>, leader: Option<String>) {
        self.leaders.extend(leader.clone());
        for known in &self.leaders {
            let leads = leader.as_ref() == Some(known);
            out.gauge("openconsensus_leader", &[("leader", known)], flag(leads));
        }
    }

    fn peers<'a>(&mut self, out: &Out<'_>, peers: impl Iterator<Item = (String, &'a PeerMetrics)>) {
        let mut gone = self.peers.clone();
        for (id, peer) in peers {
            out.peer(&id, Some(peer));
            gone.remove(&id);
            self.peers.insert(id);
        }
        gone.iter().for_each(|id| out.peer(id, None));
    }
}

const ROLES: [RoleName; 4] =
    [RoleName::Follower, RoleName::PreCandidate, RoleName::Candidate, RoleName::Leader];
const STANDINGS: [Standing; 4] = [Standing::Voter, Standing::Learner, Standing::Removed, Standing::Outsider];
const PROGRESS: [ProgressName; 3] = [ProgressName::Probe, ProgressName::Replicate, ProgressName::Snapshot];

/// Where nothing can be said a gauge is not a number.
fn or_nan(value: Option<u64>) -> f64 {
    value.map_or(f64::NAN, |value| value as f64)
}

fn seconds(ms: Option<u64>) -> f64 {
    or_nan(ms) / 1000.0
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The recorder that is installed, and the node that all series are labelled with.
struct Out<'a> {
    node: &'a str,
}

const METADATA: Metadata<'static> = Metadata::new("openconsensus", Level::INFO, None);

impl Out<'_> {
    fn key(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let mut all = vec![Label::new("node", self.node.to_owned())];
        all.extend(labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())));
        Key::from_parts(name, all)
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let key = self.key(name, labels);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA)).set(value);
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        let key = self.key(name, labels);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA)).absolute(value);
    }

    /// One of several: 1 for that one, 0 for all others.
    fn choice<T: PartialEq + ToString>(
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

    fn positions<C: TypeConfig>(&self, metrics: &RaftMetrics<C>) {
        let positions = [
            ("last", metrics.last.index),
            ("stable", metrics.stable),
            ("committed", metrics.committed),
            ("applied", metrics.applied.index),
            ("snapshot", metrics.snapshot.index),
            ("purged", metrics.purged.index),
            ("membership", metrics.membership.log_id.index),
        ];
        for (position, index) in positions {
            self.gauge("openconsensus_log_index", &[("position", position)], index as f64);
        }
    }

    fn conditions<C: TypeConfig>(&self, metrics: &RaftMetrics<C>) {
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

    fn members<C: TypeConfig>(&self, membership: &Membership<C>) {
        let voters = membership.all_voters().count();
        let kinds = [("voter", voters), ("learner", membership.nodes().len() - voters)];
        for (kind, count) in kinds {
            self.gauge("openconsensus_members", &[("kind", kind)], count as f64);
        }
        let condition = [("condition", "joint_membership")];
        self.gauge("openconsensus_condition", &condition, flag(membership.is_joint()));
    }

    /// What the leader knows of a peer, or that there is no such peer any more.
    fn peer(&self, id: &str, peer: Option<&PeerMetrics>) {
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

    fn queues(&self, queues: &QueueMetrics) {
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

    fn counters(&self, counters: &Counters) {
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

#[cfg(test)]
mod tests;
