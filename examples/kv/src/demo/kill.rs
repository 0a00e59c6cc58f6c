//! Kills the leader under load, measures how long there is none, and brings the node back.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, current_leader, healthy_leader};
use super::load::{KEY_PREFIX, SharedModel, carry_out};
use super::model::Change;
use super::report::KillFigures;
use crate::client::{Client, ClientOptions};
use crate::outcome::{Failure, Result};

/// How long a probe may take before the next one is sent.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);

/// How many entries are committed without the killed node before it comes back, so that it has something to catch up.
const MISSED_ENTRIES: u64 = 500;

/// How many entries a node that has caught up may lack at the moment it is looked at: the load goes on.
const LAG_ENTRIES_MAX: u64 = 1000;

/// Writes one key after the other, each with a short deadline.
#[derive(Debug)]
pub(super) struct Prober {
    name: &'static str,
    model: SharedModel,
    next: u64,
}

impl Prober {
    /// A prober whose keys are in `model` too. Each needs a name of its own.
    pub(super) fn new(name: &'static str, model: &SharedModel) -> Self {
        Self { name, model: model.clone(), next: 0 }
    }

    /// Sends probes until one is acknowledged. Returns when that was.
    pub(super) async fn first_acknowledged(
        &mut self,
        addresses: Vec<String>,
        timeout: Duration,
    ) -> Result<Instant> {
        let client = Client::new(addresses, prober_options());
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            self.next += 1;
            let key = format!("{KEY_PREFIX}{}/{:06}", self.name, self.next);
            let attempt = self.model.lock().begin_write(&key, Change::Put);
            if carry_out(&client, &self.model, &attempt).await {
                return Ok(Instant::now());
            }
        }
        let seconds = timeout.as_secs_f32();
        Err(Failure::negative(format!("no write was acknowledged within {seconds} s")))
    }
}

/// Quick to give up and to try elsewhere, so that it does not add to what it measures.
fn prober_options() -> ClientOptions {
    ClientOptions {
        timeout: PROBE_TIMEOUT,
        connect_timeout: PROBE_TIMEOUT,
        back_off_min: Duration::from_millis(2),
        back_off_max: Duration::from_millis(4),
        ..ClientOptions::default()
    }
}

/// Kills the leader, waits for the next one, and restarts the killed node; returns when it has caught up.
pub(super) async fn kill_leader(
    cluster: &mut Cluster,
    prober: &mut Prober,
    timeout: Duration,
) -> Result<KillFigures> {
    let before = cluster.wait_healthy("a leader to kill", timeout).await?;
    let killed = cluster.kill(before.id).await?;
    let addresses = cluster.running_addresses();
    let elected = async {
        let next = cluster
            .wait_until("a new leader", timeout, |statuses| match current_leader(statuses) {
                Some(leader) if before.term < leader.term => Ok(leader.clone()),
                Some(_) | None => Err("no node leads".into()),
            })
            .await?;
        Ok((next, killed.elapsed()))
    };
    let probed = prober.first_acknowledged(addresses, timeout);
    let ((next, without_leader), acknowledged) = futures::future::try_join(elected, probed).await?;

    let missed = next.committed_index + MISSED_ENTRIES;
    let goes_on = "the load to go on without the killed node";
    cluster
        .wait_until(goes_on, timeout, |statuses| match current_leader(statuses) {
            Some(leader) if missed <= leader.committed_index => Ok(()),
            Some(leader) => Err(format!("{} of {missed} entries are committed", leader.committed_index)),
            None => Err("no node leads".into()),
        })
        .await?;
    let restarted = Instant::now();
    cluster.restart(before.id)?;
    wait_caught_up(cluster, before.id, timeout).await?;
    Ok(KillFigures {
        node: before.id,
        term: before.term,
        next_leader: next.id,
        next_term: next.term,
        leader_ms: millis(without_leader),
        write_ms: millis(acknowledged.duration_since(killed)),
        caught_up_ms: millis(restarted.elapsed()),
    })
}

/// Waits until node `id` has applied all that was committed when this was called, and the cluster is healthy; then
/// lets clients read through it.
pub(super) async fn wait_caught_up(cluster: &mut Cluster, id: u64, timeout: Duration) -> Result<()> {
    let running = cluster.running();
    let mut target = None;
    cluster
        .wait_until(&format!("node {id} to catch up"), timeout, |statuses| {
            if target.is_none() {
                target = current_leader(statuses).map(|leader| leader.committed_index);
            }
            let leader = healthy_leader(&running, statuses)?;
            let target = target.ok_or("no node leads")?;
            let applied = statuses.get(&id).map_or(0, |status| status.applied_index);
            if applied < target {
                return Err(format!("it has applied {applied} of {target} entries"));
            }
            let lag = leader.peers.iter().find(|peer| peer.id == id).map_or(0, |peer| peer.lag_entries);
            if LAG_ENTRIES_MAX < lag {
                return Err(format!("it is {lag} entries behind the leader"));
            }
            Ok(())
        })
        .await?;
    cluster.serve_reads(id)
}

/// In milliseconds.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
