//! How long a node with a long log takes to come back, beside what its disk takes to read the same files.

use std::path::{Path, PathBuf};

use openconsensus::{
    AppliedState, Config, Entries, Entry, HardState, Index, LogId, Membership, MembershipAt, Payload, Raft,
    RaftLogStorage, RoleName, TokioRuntime,
};
use openconsensus_bench::{Failure, Sample, Stopwatch, resident_bytes};
use openconsensus_redb::{Identity, RedbLog};
use serde::{Deserialize, Serialize};

use super::blob::{Blob, Payload as Bytes};
use super::cold;
use super::machine::Table;
use super::network::{Net, Switch};
use super::nodes::{LogKind, PATIENCE, open_wal, patient, pieces};

/// A log that is made, or looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restart {
    pub(crate) log: LogKind,
    pub(crate) folder: PathBuf,
    pub(crate) entries: u64,
    pub(crate) payload: usize,
    /// The entries are of so many terms.
    pub(crate) terms: u64,
    pub(crate) what: What,
}

/// What is done in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// Writes the log.
    Fill,
    /// Reads its files, as fast as the disk gives them.
    Files,
    /// Opens it as a log storage.
    Store,
    /// Starts a node on it whose state machine is up to date, until it leads and has answered a read.
    Node,
}

/// The node is the only voter, so that nothing but itself keeps it from coming back.
fn membership() -> MembershipAt<Blob> {
    MembershipAt {
        log_id: LogId::new(1, 1),
        membership: Membership::of_voters([(1, "node-1:1".into())].into()),
    }
}

impl Restart {
    fn term(&self, index: Index) -> u64 {
        1 + index * self.terms / (self.entries + 1)
    }

    fn last(&self) -> LogId {
        LogId::new(self.term(self.entries), self.entries)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

pub(crate) async fn run(task: Restart) -> Result<Sample, Failure> {
    match task.what {
        What::Fill => {
            std::fs::create_dir_all(&task.folder)?;
            let watch = Stopwatch::start();
            match task.log {
                LogKind::Memory => return Err("a log in memory does not come back".into()),
                LogKind::Redb => fill(&task, open_redb(&task.path())?).await?,
                LogKind::Wal => fill(&task, open_wal(&task.path(), 1)?).await?,
            }
            let bytes: u64 = cold::files(&task.folder)?.iter().map(|(_, bytes)| bytes).sum();
            let seconds = watch.stop().wall.as_secs_f64();
            Ok(Sample::new().with("mib_per_s", mib(bytes) / seconds).with("files_mib", mib(bytes)))
        }
        What::Files => {
            measure(&task, async |task: &Restart| {
                cold::read_all(&task.folder)?;
                Ok(())
            })
            .await
        }
        What::Store => match task.log {
            LogKind::Memory => Err("a log in memory does not come back".into()),
            LogKind::Redb => measure(&task, async |task| load(task, open_redb(&task.path())?).await).await,
            LogKind::Wal => measure(&task, async |task| load(task, open_wal(&task.path(), 1)?).await).await,
        },
        What::Node => match task.log {
            LogKind::Memory => Err("a log in memory does not come back".into()),
            LogKind::Redb => measure(&task, async |task| start(task, open_redb(&task.path())?).await).await,
            LogKind::Wal => measure(&task, async |task| start(task, open_wal(&task.path(), 1)?).await).await,
        },
    }
}

fn open_redb(path: &Path) -> Result<RedbLog<Blob>, Failure> {
    Ok(RedbLog::open(path, &Identity::new("scaling", 1))?)
}

/// Empties the page cache of the files, then does it. What it returns is kept until the memory has been looked at.
async fn measure<T>(
    task: &Restart,
    what: impl AsyncFnOnce(&Restart) -> Result<T, Failure>,
) -> Result<Sample, Failure> {
    cold::evict(&task.folder)?;
    let bytes: u64 = cold::files(&task.folder)?.iter().map(|(_, bytes)| bytes).sum();
    let from_device = cold::device_bytes()?;
    let watch = Stopwatch::start();
    let result = what(task).await?;
    let elapsed = watch.stop();
    let resident = resident_bytes()?;
    drop(result);
    Ok(Sample::new()
        .with("mib_per_s", mib(bytes) / elapsed.wall.as_secs_f64())
        .with("wall_s", elapsed.wall.as_secs_f64())
        .with("cpu_s", elapsed.processor.as_secs_f64())
        .with("device_mib", mib(cold::device_bytes()? - from_device))
        .with("resident_mib", mib(resident))
        .with("peak_mib", mib(cold::resident_peak_bytes()?)))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Writes the log as a node would have: the membership first, then commands.
async fn fill<L: RaftLogStorage<Blob>>(task: &Restart, mut log: L) -> Result<(), Failure> {
    log.load().await?;
    log.save_hard_state(HardState { term: task.term(task.entries), voted_for: Some(1), commit: 0 }).await?;
    // As large as a group of writes under load.
    let batch = (1 << 20) / task.payload.max(1) as u64;
    for range in pieces(1..task.entries + 1, batch.max(1)) {
        let commit = range.start - 1;
        let entry = |index| Entry {
            log_id: LogId::new(task.term(index), index),
            payload: match index {
                1 => Payload::Membership(membership().membership),
                _ => Payload::Command(Bytes::new(index, task.payload)),
            },
        };
        log.append(Entries::from(range.map(entry).collect::<Vec<_>>()), commit).await?;
    }
    Ok(())
}

async fn load<L: RaftLogStorage<Blob>>(task: &Restart, mut log: L) -> Result<L, Failure> {
    let state = log.load().await?;
    if state.last.index < task.entries {
        return Err(format!("the log ends with {}, before entry {}", state.last, task.entries).into());
    }
    Ok(log)
}

async fn start<L: RaftLogStorage<Blob>>(task: &Restart, log: L) -> Result<Raft<Blob>, Failure> {
    let applied = AppliedState { last_applied: task.last(), membership: membership() };
    let config = Config {
        // The only voter need not wait for others.
        election_timeout_ms_min: 10,
        election_timeout_ms_max: 20,
        heartbeat_interval_ms: 5,
        snapshot_after_entries: None,
        ..patient()
    };
    let network = Net::Call { id: 1, switch: Switch::default() };
    let raft = Raft::start(1, config, TokioRuntime, network, log, Table::up_to_date(applied)).await?;
    raft.wait(PATIENCE).role(RoleName::Leader).await?;
    raft.read().await?;
    Ok(raft)
}
