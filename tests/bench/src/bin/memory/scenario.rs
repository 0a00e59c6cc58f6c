//! What is slow or dead while the leader is under full load.

use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use openconsensus_bench::resident_bytes_of;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::node::{LogKind, Sample};
use super::{Arguments, Failure, proxy};

/// A follower that is slow takes so much in a second.
const SLOW_LINK_BYTES_PER_SECOND: u64 = 16 << 10;
/// A state machine that is slow applies so much in a second.
const SLOW_MACHINE_BYTES_PER_SECOND: u64 = 4 << 20;
/// A write to a disk that is slow takes so long.
const SLOW_DISK_MS: u64 = 50;
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is slow or dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing.
    Healthy,
    /// One follower is killed after a quarter of the time.
    DeadFollower,
    /// One follower is killed after a quarter of the time, and started again after half of it.
    Returning,
    /// The connection to one follower carries 16 KiB in a second.
    SlowFollower,
    /// Each write to the leader's log takes 50 ms, and a second for each 16 MiB.
    SlowDisk,
    /// The leader's state machine applies 4 MiB in a second.
    SlowMachine,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::Healthy,
        Self::DeadFollower,
        Self::Returning,
        Self::SlowFollower,
        Self::SlowDisk,
        Self::SlowMachine,
    ];

    /// A node that comes back must not have forgotten what it has acknowledged.
    pub(crate) fn works_with(self, log: LogKind) -> bool {
        log.is_durable() || self != Self::Returning
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::DeadFollower => "dead follower",
            Self::Returning => "returning follower",
            Self::SlowFollower => "slow follower",
            Self::SlowDisk => "slow disk",
            Self::SlowMachine => "slow state machine",
        }
    }
}

/// A node in a process of its own. It ends when this is dropped.
struct Node {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Node {
    async fn start(id: u64, arguments: &Arguments, more: &[String]) -> Result<Self, Failure> {
        let limits = arguments.limits.to_possible_value().ok_or("limits without a name")?;
        let log = arguments.log.to_possible_value().ok_or("a log without a name")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["node", "--id", &id.to_string(), "--limits", limits.get_name(), "--log", log.get_name()])
            .arg("--folder")
            .arg(arguments.data.join(id.to_string()))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("a node without an output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = timeout(PATIENCE, lines.next_line()).await??.ok_or("a node that ends at once")?;
        Ok(Self { process, lines, address })
    }
}

impl Node {
    /// 0 when it has ended.
    fn resident_bytes(&self) -> std::io::Result<u64> {
        self.process.id().map_or(Ok(0), resident_bytes_of)
    }
}

/// Plays one scenario, and returns what was seen of the leader.
pub(crate) async fn run(scenario: Scenario, arguments: &Arguments) -> Result<Vec<Sample>, Failure> {
    if arguments.data.exists() {
        std::fs::remove_dir_all(&arguments.data)?;
    }
    let near = Node::start(2, arguments, &[]).await?;
    let mut far = Node::start(3, arguments, &[]).await?;
    let far_address = match scenario {
        Scenario::SlowFollower => {
            proxy::slow(far.address.clone(), SLOW_LINK_BYTES_PER_SECOND).await?.to_string()
        }
        Scenario::Healthy
        | Scenario::DeadFollower
        | Scenario::Returning
        | Scenario::SlowDisk
        | Scenario::SlowMachine => far.address.clone(),
    };
    let mut more = vec![
        format!("--peer=2={}", near.address),
        format!("--peer=3={far_address}"),
        format!("--seconds={}", arguments.seconds),
        format!("--bytes-min={}", arguments.bytes_min),
        format!("--bytes-max={}", arguments.bytes_max),
    ];
    match scenario {
        Scenario::SlowDisk => more.push(format!("--disk-ms={SLOW_DISK_MS}")),
        Scenario::SlowMachine => {
            more.push(format!("--apply-bytes-per-second={SLOW_MACHINE_BYTES_PER_SECOND}"));
        }
        Scenario::Healthy | Scenario::DeadFollower | Scenario::Returning | Scenario::SlowFollower => {}
    }
    let mut leader = Node::start(1, arguments, &more).await?;
    let mut samples: Vec<Sample> = Vec::new();
    let (mut has_died, mut is_back) = (false, false);
    while let Some(line) = timeout(PATIENCE, leader.lines.next_line()).await?? {
        let mut sample: Sample = serde_json::from_str(&line)?;
        let dies = matches!(scenario, Scenario::DeadFollower | Scenario::Returning);
        if dies && !has_died && 250 * arguments.seconds <= sample.ms {
            has_died = true;
            far.process.kill().await?;
        }
        if scenario == Scenario::Returning && !is_back && 500 * arguments.seconds <= sample.ms {
            is_back = true;
            far = Node::start(3, arguments, &[format!("--listen={}", far.address)]).await?;
        }
        sample.follower_bytes = near.resident_bytes()?.max(far.resident_bytes()?);
        samples.push(sample);
    }
    let ended = leader.process.wait().await?;
    if !ended.success() || samples.is_empty() {
        return Err(format!("the leader has ended with {ended} after {} samples", samples.len()).into());
    }
    drop((near, far));
    std::fs::remove_dir_all(&arguments.data)?;
    Ok(samples)
}
