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

mod out;
mod series;

use std::collections::BTreeSet;
use std::time::Duration;

use metrics_facade::with_recorder;

use crate::metrics::{PeerMetrics, RaftMetrics};
use crate::raft::Raft;
use crate::runtime::MaybeSend;
use crate::type_config::TypeConfig;

use out::{Out, ROLES, STANDINGS, flag, or_nan, seconds};
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
            last,
            stable,
            committed,
            applied,
            snapshot,
            snapshot_bytes,
            snapshot_age_ms,
            // With the other conditions.
            is_building_snapshot: _,
            is_installing_snapshot: _,
            purged,
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
        out.positions(&[
            ("last", last.index),
            ("stable", *stable),
            ("committed", *committed),
            ("applied", applied.index),
            ("snapshot", snapshot.index),
            ("purged", purged.index),
            ("membership", membership.log_id.index),
        ]);
        out.log_bytes(&[("all", *log_bytes), ("since_snapshot", *log_bytes_since_snapshot)]);
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

#[cfg(test)]
mod tests;
