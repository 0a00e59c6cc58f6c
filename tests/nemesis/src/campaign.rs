//! `Campaign`: faults one after the other under load, and then the checks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openconsensus_tests::linearizability::{KvModel, Limits, Outcome, Report, check};

use crate::Error;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::load::{KvHistory, Load, Reads};
use crate::seen::Seen;
use crate::summary::Summary;

/// How many nodes there are.
const NODES: u64 = 5;

/// How long the cluster may take to serve, or to come to the same state, when nothing is wrong with it any more.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// A fault lasts so long, in milliseconds: from less than an election timeout to many of them.
const FAULT_MS: std::ops::Range<u64> = 100..2_500;

/// Between a healing and the next fault, in milliseconds: sometimes there is hardly time to breathe.
const CALM_MS: std::ops::Range<u64> = 0..600;

/// A campaign of this length has injected each fault at least once, and must have seen what comes of them.
const LONG: Duration = Duration::from_secs(100);

/// The name of the history in the folder of a campaign.
const HISTORY: &str = "history.jsonl";

/// Faults against a cluster of five processes under load, for so long.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The program that runs a node when it is called with `kv serve` and its arguments.
    pub program: PathBuf,
    /// How long faults are injected.
    pub duration: Duration,
    /// What all choices follow from. What the machine does between them does not.
    pub seed: u64,
    /// How many clients there are.
    pub clients: u64,
    /// How the clients read.
    pub reads: Reads,
    /// Where data, logs and the history go.
    pub folder: PathBuf,
}

/// Why a campaign has failed. All that is known stays in its folder.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What is wrong.
    pub error: Error,
    /// Where the history is, if there is one.
    pub history: Option<PathBuf>,
    /// What the checker says, if it came to that.
    pub report: Option<Report>,
}

impl Campaign {
    /// Runs it: starts the cluster, injects faults, heals, compares the nodes, and checks the history.
    ///
    /// `progress` is told what happens, for people.
    ///
    /// # Errors
    ///
    /// Whatever the cluster must not do, and whatever keeps the campaign from telling.
    pub async fn run(&self, mut progress: impl FnMut(&str)) -> Result<Summary, Failed> {
        let early = |error| Failed { error, history: None, report: None };
        let mut cluster =
            Cluster::start(&self.program, &self.folder, NODES, RECOVERY_TIMEOUT).await.map_err(early)?;
        let mut load = Load::start(self.clients, cluster.addresses(), self.reads, self.seed);
        let mut log = Log::default();
        let ended = self.disturb(&mut cluster, &mut load, &mut log, &mut progress).await;
        // Whatever has happened, what the clients have seen by now is worth keeping.
        let history = load.history();
        let path = self.folder.join(HISTORY);
        let stored = File::create(&path).and_then(|file| history.write(BufWriter::new(file)));
        let failed = |error, report| Failed { error, history: Some(path.clone()), report };
        if let Err(error) = stored {
            return Err(early(format!("{}: {error}", path.display())));
        }
        progress("checking the history");
        let report = check(&KvModel::new(), &history, &Limits::default());
        if !report.is_linearizable() {
            let also = ended.err().map(|error| format!("\n\nand: {error}")).unwrap_or_default();
            return Err(failed(format!("{report}{also}"), Some(report)));
        }
        let keys = match ended {
            Ok(keys) => keys,
            Err(error) => return Err(failed(cluster.explain(error), Some(report))),
        };
        for id in cluster.ids() {
            cluster.stop(id).await.map_err(|error| failed(error, Some(report.clone())))?;
        }
        if cluster.has_logged("panicked at") {
            return Err(failed(
                "a node has panicked, or its log cannot be read: see the logs".into(),
                Some(report),
            ));
        }
        let seen = cluster.seen().clone();
        if LONG <= self.duration && !seen.missing().is_empty() {
            let missing = seen.missing().join(", ");
            return Err(failed(
                format!("the campaign tests less than it should: no {missing}"),
                Some(report),
            ));
        }
        Ok(log.summary(self.seed, &history, keys, seen, report))
    }

    /// All that happens to the cluster while its clients are at work, and what must hold in the end. Returns how many
    /// keys there are.
    async fn disturb(
        &self,
        cluster: &mut Cluster,
        load: &mut Load,
        log: &mut Log,
        progress: &mut impl FnMut(&str),
    ) -> Result<u64, Error> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut faults = Vec::new();
        if !load.is_served(Duration::ZERO, RECOVERY_TIMEOUT).await {
            return Err("no write was acknowledged before the first fault".into());
        }
        while load.now() < self.duration {
            let count = if rng.u32(0..3) == 0 { 2 } else { 1 };
            for _ in 0..count {
                // Each fault once, in a new order every time, so that a short campaign misses none of them by chance.
                if faults.is_empty() {
                    faults = Fault::ALL.to_vec();
                    rng.shuffle(&mut faults);
                }
                let fault = faults.pop().expect("they have been filled up");
                progress(&format!("{:7.3} s  {fault}", load.now().as_secs_f32()));
                let before = load.now();
                fault.inject(cluster, &mut rng).await?;
                log.injected(fault, before, count == 1);
            }
            let hold = Duration::from_millis(rng.u64(FAULT_MS));
            tokio::time::sleep(hold).await; // paces the faults
            // What a process has counted is gone when it is killed, so this is the time to ask.
            cluster.look().await;
            let healed = load.now();
            log.held_until(healed);
            cluster.heal()?;
            if !load.is_served(healed, RECOVERY_TIMEOUT).await {
                return Err(format!("no write was acknowledged {RECOVERY_TIMEOUT:?} after all was healed"));
            }
            log.after_healing.push(load.now() - healed);
            cluster.restore_members(RECOVERY_TIMEOUT).await?;
            cluster.look().await;
            cluster.check_running()?;
            tokio::time::sleep(Duration::from_millis(rng.u64(CALM_MS))).await; // paces the faults
        }
        progress("stopping the clients");
        load.stop().await;
        cluster.wait_healthy("all nodes to follow one leader", RECOVERY_TIMEOUT).await?;
        let checksum = cluster.wait_equal(RECOVERY_TIMEOUT).await?;
        load.read_all(RECOVERY_TIMEOUT).await?;
        Ok(checksum.keys)
    }
}

/// What was done when.
#[derive(Debug, Default)]
struct Log {
    faults: BTreeMap<Fault, u64>,
    /// Faults that took the leader and nothing else happened: from when to when.
    leader_taken: Vec<(Duration, Option<Duration>)>,
    after_healing: Vec<Duration>,
}

impl Log {
    fn injected(&mut self, fault: Fault, at: Duration, is_alone: bool) {
        *self.faults.entry(fault).or_default() += 1;
        if is_alone && fault.takes_the_leader() {
            self.leader_taken.push((at, None));
        }
    }

    fn held_until(&mut self, healed: Duration) {
        if let Some((_, until @ None)) = self.leader_taken.last_mut() {
            *until = Some(healed);
        }
    }

    fn summary(self, seed: u64, history: &KvHistory, keys: u64, seen: Seen, report: Report) -> Summary {
        let operations = history.operations();
        let end = operations.iter().filter_map(|operation| operation.ended).map(|ended| ended.at_ns).max();
        Summary {
            seed,
            took: Duration::from_nanos(end.unwrap_or_default()),
            faults: self.faults,
            counts: history.counts(),
            without_service: self
                .leader_taken
                .iter()
                .filter_map(|(from, until)| {
                    let served = served_after(history, *from)?;
                    // What came only with the healing says nothing of the election.
                    until.is_some_and(|until| served < until).then(|| served - *from)
                })
                .collect(),
            after_healing: self.after_healing,
            keys,
            seen,
            report,
        }
    }
}

/// When the first write that began at `from` or later and was acknowledged had ended.
fn served_after(history: &KvHistory, from: Duration) -> Option<Duration> {
    let writes = history.operations().iter().filter(|operation| {
        let is_answered = match operation.outcome {
            Outcome::Returned(_) => true,
            Outcome::Absent | Outcome::Unknown => false,
        };
        let is_write = operation.request.action != openconsensus_tests::linearizability::KvAction::Get;
        is_answered && is_write && from <= Duration::from_nanos(operation.called.at_ns)
    });
    writes.filter_map(|operation| operation.ended).map(|ended| Duration::from_nanos(ended.at_ns)).min()
}

/// Checks a history that a campaign has left behind.
///
/// # Errors
///
/// The file cannot be read, or is not a history.
pub fn recheck(path: &Path) -> Result<Report, Error> {
    let read = File::open(path).and_then(|file| KvHistory::read(BufReader::new(file)));
    let history = read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(check(&KvModel::new(), &history, &Limits::default()))
}
