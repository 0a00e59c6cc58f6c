//! What values a configuration may have, and why.

use std::ops::RangeInclusive;

use crate::error::ConfigError;

use super::{Config, KIB, TIB, ValidConfig};

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
        if let Some(drift) = self.lease_clock_drift_ppm_max {
            check(
                "lease_clock_drift_ppm_max",
                drift,
                1..=500_000,
                "no two clocks go alike, and a lease must outlast the next heartbeat; use None for no leases",
            )?;
        }
        check(
            "unreachable_backoff_ms_max",
            self.unreachable_backoff_ms_max,
            self.heartbeat_interval_ms..=600_000,
            "a peer that cannot be reached is tried less often than others, and still in time when it comes back",
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
        check("receive_urgent_bytes_max", self.receive_urgent_bytes_max, KIB..=TIB, memory)?;
        check("reads_waiting_max", self.reads_waiting_max, 1..=100_000_000, memory)?;
        check("requests_waiting_max", self.requests_waiting_max, 1..=1_000_000, memory)?;
        check("inputs_per_turn_max", self.inputs_per_turn_max, 1..=1_000_000, memory)?;
        check(
            "idle_looks_max",
            self.idle_looks_max,
            0..=1_000_000,
            "a node without work would keep a processor busy",
        )?;
        check(
            "commit_delay_ms_max",
            self.commit_delay_ms_max,
            0..=self.heartbeat_interval_ms,
            "a heartbeat tells it too",
        )?;
        check("apply_entries_max", self.apply_entries_max, 1..=1_000_000, memory)?;
        check("apply_bytes_max", self.apply_bytes_max, KIB..=TIB, memory)?;
        for (name, limit) in [
            ("snapshot_after_entries", self.snapshot_after_entries),
            ("snapshot_after_bytes", self.snapshot_after_bytes),
            ("snapshot_after_ms", self.snapshot_after_ms),
        ] {
            check(name, limit.unwrap_or(1), 1..=NUMBER_MAX, "use None for no such snapshots")?;
        }
        check(
            "snapshot_jitter_percent",
            self.snapshot_jitter_percent,
            0..=50,
            "snapshots must not come twice as often as they are asked for",
        )?;
        check(
            "log_hold_entries_max",
            self.log_hold_entries_max,
            self.log_keep_entries..=u64::MAX,
            "holding entries for a peer cannot mean keeping fewer than are kept anyway",
        )
    }
}

/// Times are added to: so far from their end nothing overflows.
const NUMBER_MAX: u64 = u64::MAX >> 16;

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
        let wrong: &[(&str, Spoil)] = &[
            ("unreachable_backoff_ms_max", |c| c.unreachable_backoff_ms_max = 1),
            ("write_stall_timeout_ms", |c| c.write_stall_timeout_ms = 0),
            ("election_timeout_ms_min", |c| c.election_timeout_ms_min = 0),
            ("election_timeout_ms_max", |c| c.election_timeout_ms_max = 160),
            ("heartbeat_interval_ms", |c| c.heartbeat_interval_ms = 0),
            ("lease_clock_drift_ppm_max", |c| c.lease_clock_drift_ppm_max = Some(0)),
            ("lease_clock_drift_ppm_max", |c| c.lease_clock_drift_ppm_max = Some(500_001)),
            ("append_bytes_max", |c| c.append_bytes_max = 0),
            ("inflight_appends_max", |c| c.inflight_appends_max = 0),
            ("inflight_bytes_max", |c| c.inflight_bytes_max = 1),
            ("command_bytes_max", |c| c.command_bytes_max = u64::MAX),
            ("uncommitted_bytes_max", |c| c.uncommitted_bytes_max = 0),
            ("snapshot_after_entries", |c| c.snapshot_after_entries = Some(0)),
            ("snapshot_after_bytes", |c| c.snapshot_after_bytes = Some(0)),
            ("snapshot_after_ms", |c| c.snapshot_after_ms = Some(0)),
            ("snapshot_jitter_percent", |c| c.snapshot_jitter_percent = 51),
            ("log_hold_entries_max", |c| c.log_hold_entries_max = 1),
            ("transfer_timeout_ms", |c| c.transfer_timeout_ms = 0),
            ("inputs_per_turn_max", |c| c.inputs_per_turn_max = 0),
            ("idle_looks_max", |c| c.idle_looks_max = 1_000_001),
            ("commit_delay_ms_max", |c| c.commit_delay_ms_max = c.heartbeat_interval_ms + 1),
            ("receive_urgent_bytes_max", |c| c.receive_urgent_bytes_max = 0),
            ("reads_waiting_max", |c| c.reads_waiting_max = 0),
            ("requests_waiting_max", |c| c.requests_waiting_max = 0),
        ];
        for (name, spoil) in wrong {
            let mut config = Config::default();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().name, *name);
        }
    }
}
