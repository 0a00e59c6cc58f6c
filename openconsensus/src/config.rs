//! Timeouts and limits, validated once at start.

mod check;
mod memory;

use std::ops::Deref;
use std::time::Duration;

/// Timeouts and limits of one node. Each has its unit in its name. [`Config::default`] suits a cluster in one data
/// centre; nodes of one cluster should have the same timeouts. [The guide](crate::guide::limits) says how to choose them,
/// and how much memory they amount to.
///
/// ```
/// use openconsensus::Config;
///
/// // Between data centres: longer than the slowest round trip by an order of magnitude.
/// let config = Config { election_timeout_ms_min: 1000, election_timeout_ms_max: 2000, heartbeat_interval_ms: 200, ..Config::default() };
/// assert!(config.validate().is_ok());
/// let wrong = Config { heartbeat_interval_ms: 5000, ..Config::default() };
/// println!("{}", wrong.validate().unwrap_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A follower that hears of no leader for a time drawn from this to `election_timeout_ms_max` starts an election;
    /// the time is drawn afresh for each (Raft paper, 5.2). Also how long a node that hears from its leader refuses
    /// to vote for others (thesis 4.2.3). 10 to 600,000; default 150.
    pub election_timeout_ms_min: u64,
    /// See `election_timeout_ms_min`. Above it, by half of it or more, so that elections rarely split. At most
    /// 1,200,000; default 300.
    pub election_timeout_ms_max: u64,
    /// How often a leader says that it lives. 1 to half of `election_timeout_ms_min`; default 30.
    pub heartbeat_interval_ms: u64,
    /// Whether a node asks if it could win before it raises the term (thesis 9.6). Default true.
    pub pre_vote: bool,
    /// Whether a leader that has not heard from a quorum for `election_timeout_ms_max` steps down (thesis 6.2). Without
    /// it, one that is cut off from a quorum keeps its clients waiting, and those that still hear it from electing
    /// another. Default true.
    pub check_quorum: bool,
    /// `Some`: leases. A leader whom a quorum has promised to elect nobody else for a while answers
    /// [`Raft::read_by_lease`](crate::Raft::read_by_lease) without asking anybody meanwhile. The value is the most by which
    /// the clocks of two nodes may differ in speed, in parts per million: 10,000 says that what takes 100 seconds on one
    /// clock takes from 99 to 101 on another. **A read by lease rests on it**: if clocks differ by more, it may return
    /// what is out of date. Common clocks are off by less than 200 and are corrected by no more than 500. `None`: no
    /// leases, every read asks a quorum. 1 to 500,000; default `None`.
    ///
    /// A lease lasts `election_timeout_ms_min` less what the clocks may differ by and less a sixteenth, which is the longest
    /// stop of the clock that may go unnoticed ([`AsyncRuntime::wall_clock`](crate::AsyncRuntime::wall_clock)). Nodes may
    /// differ here: each voter's promise says how long it is, and that of a node without leases is empty.
    ///
    /// What leases change otherwise: a node refuses to vote for `election_timeout_ms_min` after a restart, because it does
    /// not remember what it has promised, and [`Raft::campaign`](crate::Raft::campaign) does nothing while the node is bound
    /// by a promise. A node that is restarted without leases, or with a shorter `election_timeout_ms_min`, must have been
    /// down for its former `election_timeout_ms_min`.
    pub lease_clock_drift_ppm_max: Option<u64>,
    /// A leader whose log storage takes longer than this over one write gives up its leadership, and a node in that
    /// state does not campaign: its clients would wait for as long as the disk hangs. Must be longer than any sync that
    /// is merely slow, and than the disk takes for `uncommitted_bytes_max` bytes: so much may go into one write. 10 to 3,600,000; default 5000.
    pub write_stall_timeout_ms: u64,
    /// So long a leader waits with the word to a peer that entries are committed: the next append tells it too, and
    /// mostly follows soon. Followers apply later by as much; writers and readers do not wait for it, as whatever else is
    /// sent to a peer takes it along. `0`: it is sent at once, in a message of its own. 0 to `heartbeat_interval_ms`;
    /// default 1.
    pub commit_delay_ms_max: u64,
    /// A peer that the network reports as unreachable hears fewer heartbeats, and one that answers heartbeats but no
    /// appends is sent fewer appends: each time the distance doubles, from `heartbeat_interval_ms` up to this. Any answer
    /// ends it at once. Heartbeats are never further apart than half of `election_timeout_ms_min`, whatever stands here, so
    /// that a peer that comes back hears its leader before it campaigns. At least `heartbeat_interval_ms`, at most
    /// 600,000; default 1000.
    pub unreachable_backoff_ms_max: u64,

    /// The most bytes of entries in one append. An entry larger than this travels alone. 1 KiB to 1 GiB; default
    /// 1 MiB.
    pub append_bytes_max: u64,
    /// The most appends that one peer may owe an answer for. 1 to 1,000,000; default 256.
    pub inflight_appends_max: u64,
    /// The most bytes of entries that one peer may owe an answer for. At least `append_bytes_max`; default 16 MiB.
    pub inflight_bytes_max: u64,
    /// The most bytes of one command. At most `uncommitted_bytes_max`; default 4 MiB.
    pub command_bytes_max: u64,
    /// The most bytes of commands that this node has admitted and not answered; each counts with 256 bytes on top of its
    /// own. Beyond it [`write`](crate::Raft::write) waits and [`try_write`](crate::Raft::try_write) is refused. A
    /// leader whose log holds as much that is not committed or not durable, be it from earlier leaders, takes nothing
    /// more until that is settled. 1 KiB to 1 TiB; default 64 MiB.
    pub uncommitted_bytes_max: u64,
    /// The most reads that are under way; beyond it [`read`](crate::Raft::read) waits for its turn. 1 to 100,000,000;
    /// default 65,536.
    pub reads_waiting_max: u64,
    /// The most requests of operators (changes of membership, transfers, snapshots) that are not answered. Beyond it
    /// further ones wait for their turn. 1 to 1,000,000; default 1024.
    pub requests_waiting_max: u64,
    /// The most bytes of recent stable entries kept in memory for peers and the state machine. Entries that are not
    /// stable yet are kept on top of that. 0 to 1 TiB; default 32 MiB.
    pub tail_bytes_max: u64,
    /// The most bytes of appends that wait to be looked at. Beyond it [`Raft::receive`](crate::Raft::receive) waits.
    /// 1 KiB to 1 TiB; default 64 MiB.
    pub receive_bytes_max: u64,
    /// The same for heartbeats, votes, answers and all else that is small, so that they never wait behind appends. 1 KiB
    /// to 1 TiB; default 1 MiB.
    pub receive_urgent_bytes_max: u64,
    /// The most inputs that the core takes before it lets their effects go. 1 to 1,000,000; default 4096.
    pub inputs_per_turn_max: u64,
    /// How often the core loop looks for something to do before it sleeps, with the other tasks of its thread between
    /// two looks. To wake a thread that sleeps takes tens of microseconds, a look a tenth of one. It looks only where
    /// that was worth it lately, so that a node with little to do sleeps. `0`: it sleeps at once. 0 to 1,000,000;
    /// default 512.
    pub idle_looks_max: u64,
    /// The most entries in one call of [`apply`](crate::RaftStateMachine::apply). 1 to 1,000,000; default 4096.
    pub apply_entries_max: u64,
    /// The most committed bytes handed to the state machine and not applied. Beyond it they wait in the log. 1 KiB to
    /// 1 TiB; default 32 MiB.
    pub apply_bytes_max: u64,

    /// A snapshot is built when so many entries have been applied since the last one. `None`: only when asked.
    /// At least 1; default 100,000. Whichever of this, `snapshot_after_bytes` and `snapshot_after_ms` comes first counts.
    pub snapshot_after_entries: Option<u64>,
    /// A snapshot is built when entries of so many bytes have been applied since the last one. A node remembers sizes
    /// of entries roughly, and does not know those of entries that it finds in its log when it is started. `None`:
    /// whatever they have. At least 1; default `None`.
    pub snapshot_after_bytes: Option<u64>,
    /// A snapshot is built when the last one, or the start of the node, is so long ago, and something has been applied
    /// since. `None`: however old it is. At least 1; default `None`.
    pub snapshot_after_ms: Option<u64>,
    /// The three limits above are lowered by up to so many percent, drawn afresh for each snapshot, so that nodes which
    /// apply the same entries do not all build at the same time. 0 to 50; default 10.
    pub snapshot_jitter_percent: u64,
    /// How many entries stay in the log behind a snapshot, for peers that are a little late. Any number; default 10,000.
    pub log_keep_entries: u64,
    /// The most bytes of entries that stay in the log behind a snapshot; where `log_keep_entries` would keep more, this
    /// counts. Entries that a node finds in its log when it is started have unknown sizes and count nothing.
    /// [`u64::MAX`]: no limit. Default 1 GiB.
    pub log_keep_bytes: u64,
    /// A peer that answers, and one that is being sent a snapshot, keeps the entries it will need from being purged,
    /// up to so many entries behind the snapshot. At least `log_keep_entries`; default 1,000,000.
    pub log_hold_entries_max: u64,
    /// A transfer of a snapshot is given up when nothing moves for so long. What moves is seen in pieces of 64 KiB: a network
    /// must be able to move one in this time. 100 to 3,600,000; default 10,000.
    pub snapshot_progress_timeout_ms: u64,
    /// A transfer is given up when the peer has not said that it is installed so long after its last byte. 100 to
    /// 86,400,000; default 300,000.
    pub snapshot_install_timeout_ms: u64,

    /// How many entries a learner may lack and still be promoted, and how many may have to be sent to the target of a
    /// transfer of leadership. Any number; default 1000.
    pub promotion_lag_entries_max: u64,
    /// How long a transfer of leadership may take; writes wait meanwhile. 10 to 600,000; default 500.
    pub transfer_timeout_ms: u64,
    /// How long a node that has lost leadership waits to learn what became of its writes before it answers
    /// [`Unknown`](crate::WriteError::Unknown). 0 to 600,000; default 2000.
    pub write_outcome_timeout_ms: u64,
    /// How long a read waits for a leader to confirm it, and then for the state machine to come as far. 10 to 600,000;
    /// default 5000.
    pub read_timeout_ms: u64,
    /// How often metrics are published at most; histograms at most with every twentieth of these intervals. 0 to 60,000;
    /// default 5.
    pub metrics_interval_ms: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

impl Default for Config {
    fn default() -> Self {
        Self {
            election_timeout_ms_min: 150,
            election_timeout_ms_max: 300,
            heartbeat_interval_ms: 30,
            pre_vote: true,
            check_quorum: true,
            lease_clock_drift_ppm_max: None,
            write_stall_timeout_ms: 5000,
            unreachable_backoff_ms_max: 1000,
            append_bytes_max: MIB,
            inflight_appends_max: 256,
            inflight_bytes_max: 16 * MIB,
            command_bytes_max: 4 * MIB,
            uncommitted_bytes_max: 64 * MIB,
            reads_waiting_max: 65_536,
            requests_waiting_max: 1024,
            tail_bytes_max: 32 * MIB,
            receive_bytes_max: 64 * MIB,
            receive_urgent_bytes_max: MIB,
            commit_delay_ms_max: 1,
            inputs_per_turn_max: 4096,
            idle_looks_max: 512,
            apply_entries_max: 4096,
            apply_bytes_max: 32 * MIB,
            snapshot_after_entries: Some(100_000),
            snapshot_after_bytes: None,
            snapshot_after_ms: None,
            snapshot_jitter_percent: 10,
            log_keep_entries: 10_000,
            log_keep_bytes: GIB,
            log_hold_entries_max: 1_000_000,
            snapshot_progress_timeout_ms: 10_000,
            snapshot_install_timeout_ms: 300_000,
            promotion_lag_entries_max: 1000,
            transfer_timeout_ms: 500,
            write_outcome_timeout_ms: 2000,
            read_timeout_ms: 5000,
            metrics_interval_ms: 5,
        }
    }
}

impl Config {
    /// Whether snapshots are built without being asked for.
    pub(crate) fn snapshots_by_themselves(&self) -> bool {
        self.snapshot_after_entries.or(self.snapshot_after_bytes).or(self.snapshot_after_ms).is_some()
    }

    /// Whether it matters how many bytes the entries of the log have.
    pub(crate) fn limits_log_bytes(&self) -> bool {
        self.snapshot_after_bytes.is_some() || self.log_keep_bytes < u64::MAX
    }
}

/// A configuration whose values have been checked. Only [`Config::validate`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidConfig(Config);

impl Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl ValidConfig {
    /// The longest stop of this node's clock that may go unnoticed. Leases are shorter by as much.
    pub(crate) fn clock_stop_allowance(&self) -> Duration {
        Duration::from_millis(self.election_timeout_ms_min) / 16
    }
}

impl Default for ValidConfig {
    /// [`Config::default`], which is valid.
    fn default() -> Self {
        Self(Config::default())
    }
}
