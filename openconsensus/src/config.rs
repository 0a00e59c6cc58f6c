//! Timeouts and limits, validated once at start.

use std::ops::{Deref, RangeInclusive};

use crate::error::ConfigError;

/// Timeouts and limits of one node. Each has its unit in its name. [`Config::default`] suits a cluster in one data
/// centre; nodes of one cluster should have the same timeouts.
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
    /// How often a leader says that it lives. At most half of `election_timeout_ms_min`; default 30.
    pub heartbeat_interval_ms: u64,
    /// Whether a node asks if it could win before it raises the term (thesis 9.6). Default true.
    pub pre_vote: bool,
    /// Whether a leader that has not heard from a quorum for `election_timeout_ms_max` steps down (thesis 6.2).
    /// Default true.
    pub check_quorum: bool,
    /// A leader whose log storage takes longer than this over one write gives up its leadership, and a node in that
    /// state does not campaign: its clients would wait for as long as the disk hangs. Must be longer than any sync that
    /// is merely slow. 10 to 3,600,000; default 5000.
    pub write_stall_timeout_ms: u64,

    /// The most bytes of entries in one append. An entry larger than this travels alone. 1 KiB to 1 GiB; default
    /// 1 MiB.
    pub append_bytes_max: u64,
    /// The most appends that one peer may owe an answer for. 1 to 1,000,000; default 256.
    pub inflight_appends_max: u64,
    /// The most bytes of entries that one peer may owe an answer for. At least `append_bytes_max`; default 16 MiB.
    pub inflight_bytes_max: u64,
    /// The most bytes of one command. At most `uncommitted_bytes_max`; default 4 MiB.
    pub command_bytes_max: u64,
    /// The most bytes of commands that this node has admitted and not answered. Beyond it a writer waits. 1 KiB to
    /// 1 TiB; default 64 MiB.
    pub uncommitted_bytes_max: u64,
    /// The most bytes of recent stable entries kept in memory for peers and the state machine. Entries that are not
    /// stable yet are kept on top of that. 0 to 1 TiB; default 32 MiB.
    pub tail_bytes_max: u64,
    /// The most bytes of messages that wait to be looked at. Beyond it [`Raft::receive`](crate::Raft::receive) waits.
    /// 1 KiB to 1 TiB; default 64 MiB.
    pub receive_bytes_max: u64,
    /// The most inputs that the core takes before it lets their effects go. 1 to 1,000,000; default 4096.
    pub inputs_per_turn_max: u64,
    /// The most entries in one call of [`apply`](crate::RaftStateMachine::apply). 1 to 1,000,000; default 4096.
    pub apply_entries_max: u64,
    /// The most committed bytes handed to the state machine and not applied. Beyond it they wait in the log. 1 KiB to
    /// 1 TiB; default 32 MiB.
    pub apply_bytes_max: u64,

    /// A snapshot is built when so many entries have been applied since the last one. `None`: only when asked.
    /// At least 1; default 100,000.
    pub snapshot_after_entries: Option<u64>,
    /// How many entries stay in the log behind a snapshot, for peers that are a little late. Default 10,000.
    pub log_keep_entries: u64,
    /// A peer that answers, and one that is being sent a snapshot, keeps the entries it will need from being purged,
    /// up to so many entries behind the snapshot. At least `log_keep_entries`; default 1,000,000.
    pub log_hold_entries_max: u64,
    /// A transfer of a snapshot is given up when no byte moves for so long. 100 to 3,600,000; default 10,000.
    pub snapshot_progress_timeout_ms: u64,
    /// A transfer is given up when the peer has not said that it is installed so long after its last byte. 100 to
    /// 86,400,000; default 300,000.
    pub snapshot_install_timeout_ms: u64,

    /// How many entries a learner may lack and still be promoted. Default 1000.
    pub promotion_lag_entries_max: u64,
    /// How long a transfer of leadership may take; writes wait meanwhile. 10 to 600,000; default 500.
    pub transfer_timeout_ms: u64,
    /// How long a node that has lost leadership waits to learn what became of its writes before it answers
    /// [`Unknown`](crate::WriteError::Unknown). 0 to 600,000; default 2000.
    pub write_outcome_timeout_ms: u64,
    /// How long a read waits for a leader to confirm it, and then for the state machine to come as far. 10 to 600,000;
    /// default 5000.
    pub read_timeout_ms: u64,
    /// How often metrics are published at most. 0 to 60,000; default 5.
    pub metrics_interval_ms: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

impl Default for Config {
    fn default() -> Self {
        Self {
            election_timeout_ms_min: 150,
            election_timeout_ms_max: 300,
            heartbeat_interval_ms: 30,
            pre_vote: true,
            check_quorum: true,
            write_stall_timeout_ms: 5000,
            append_bytes_max: MIB,
            inflight_appends_max: 256,
            inflight_bytes_max: 16 * MIB,
            command_bytes_max: 4 * MIB,
            uncommitted_bytes_max: 64 * MIB,
            tail_bytes_max: 32 * MIB,
            receive_bytes_max: 64 * MIB,
            inputs_per_turn_max: 4096,
            apply_entries_max: 4096,
            apply_bytes_max: 32 * MIB,
            snapshot_after_entries: Some(100_000),
            log_keep_entries: 10_000,
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

/// A configuration whose values have been checked. Only [`Config::validate`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidConfig(Config);

impl Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Default for ValidConfig {
    /// [`Config::default`], which is valid.
    fn default() -> Self {
        Self(Config::default())
    }
}

impl Config {
    /// Checks every value, and the relations between them.
    ///
    /// # Errors
    ///
    /// The first value that is wrong, with the reason and the range that is allowed.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        self.check_timeouts()?;
        self.check_limits()?;
        Ok(ValidConfig(self))
    }

    fn check_timeouts(&self) -> Result<(), ConfigError> {
        let election_min = self.election_timeout_ms_min;
        check(
            "election_timeout_ms_min",
            election_min,
            10..=600_000,
            "timers are coarse below and failover is slow above",
        )?;
        check(
            "election_timeout_ms_max",
            self.election_timeout_ms_max,
            election_min + election_min.div_ceil(2)..=1_200_000,
            "timeouts that are drawn too close together split the vote",
        )?;
        check(
            "heartbeat_interval_ms",
            self.heartbeat_interval_ms,
            1..=election_min / 2,
            "a follower must be able to lose a heartbeat without starting an election",
        )?;
        let too_short_or_long = "too short to succeed, or so long that nobody would notice a failure";
        let day = 86_400_000;
        check("write_stall_timeout_ms", self.write_stall_timeout_ms, 10..=3_600_000, too_short_or_long)?;
        check(
            "snapshot_progress_timeout_ms",
            self.snapshot_progress_timeout_ms,
            100..=3_600_000,
            too_short_or_long,
        )?;
        check("snapshot_install_timeout_ms", self.snapshot_install_timeout_ms, 100..=day, too_short_or_long)?;
        check("transfer_timeout_ms", self.transfer_timeout_ms, 10..=600_000, too_short_or_long)?;
        check("write_outcome_timeout_ms", self.write_outcome_timeout_ms, 0..=600_000, too_short_or_long)?;
        check("read_timeout_ms", self.read_timeout_ms, 10..=600_000, too_short_or_long)?;
        check("metrics_interval_ms", self.metrics_interval_ms, 0..=60_000, too_short_or_long)
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let memory = "a limit must let one batch through and fit into memory";
        check("append_bytes_max", self.append_bytes_max, KIB..=1 << 30, memory)?;
        check("inflight_appends_max", self.inflight_appends_max, 1..=1_000_000, memory)?;
        check("inflight_bytes_max", self.inflight_bytes_max, self.append_bytes_max..=TIB, memory)?;
        check("uncommitted_bytes_max", self.uncommitted_bytes_max, KIB..=TIB, memory)?;
        check(
            "command_bytes_max",
            self.command_bytes_max,
            1..=self.uncommitted_bytes_max,
            "a command that is larger than all that is admitted would wait for ever",
        )?;
        check("tail_bytes_max", self.tail_bytes_max, 0..=TIB, memory)?;
        check("receive_bytes_max", self.receive_bytes_max, KIB..=TIB, memory)?;
        check("inputs_per_turn_max", self.inputs_per_turn_max, 1..=1_000_000, memory)?;
        check("apply_entries_max", self.apply_entries_max, 1..=1_000_000, memory)?;
        check("apply_bytes_max", self.apply_bytes_max, KIB..=TIB, memory)?;
        if let Some(entries) = self.snapshot_after_entries {
            check("snapshot_after_entries", entries, 1..=u64::MAX, "use None for no automatic snapshots")?;
        }
        check(
            "log_hold_entries_max",
            self.log_hold_entries_max,
            self.log_keep_entries..=u64::MAX,
            "holding entries for a peer cannot mean keeping fewer than are kept anyway",
        )
    }
}

fn check(
    name: &'static str,
    value: u64,
    allowed: RangeInclusive<u64>,
    reason: &'static str,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let allowed = match *allowed.end() {
        u64::MAX => format!("{} or more", allowed.start()),
        end => format!("{} to {end}", allowed.start()),
    };
    Err(ConfigError { name, value, reason, allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert!(Config::default().validate().is_ok());
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_reason_and_the_allowed_range() {
        let error = Config { heartbeat_interval_ms: 100, ..Config::default() }.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "heartbeat_interval_ms is 100: a follower must be able to lose a heartbeat without starting an election; \
             allowed: 1 to 75"
        );
        type Spoil = fn(&mut Config);
        let wrong: [(&str, Spoil); 13] = [
            ("write_stall_timeout_ms", |c| c.write_stall_timeout_ms = 0),
            ("election_timeout_ms_min", |c| c.election_timeout_ms_min = 0),
            ("election_timeout_ms_max", |c| c.election_timeout_ms_max = 160),
            ("heartbeat_interval_ms", |c| c.heartbeat_interval_ms = 0),
            ("append_bytes_max", |c| c.append_bytes_max = 0),
            ("inflight_appends_max", |c| c.inflight_appends_max = 0),
            ("inflight_bytes_max", |c| c.inflight_bytes_max = 1),
            ("command_bytes_max", |c| c.command_bytes_max = u64::MAX),
            ("uncommitted_bytes_max", |c| c.uncommitted_bytes_max = 0),
            ("snapshot_after_entries", |c| c.snapshot_after_entries = Some(0)),
            ("log_hold_entries_max", |c| c.log_hold_entries_max = 1),
            ("transfer_timeout_ms", |c| c.transfer_timeout_ms = 0),
            ("inputs_per_turn_max", |c| c.inputs_per_turn_max = 0),
        ];
        for (name, spoil) in wrong {
            let mut config = Config::default();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().name, name);
        }
    }
}
