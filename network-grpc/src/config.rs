//! `GrpcConfig`: limits and times of the transport; validated once, when the network is made.

use std::ops::RangeInclusive;
use std::time::Duration;

use openconsensus::ConfigError;

/// The name of the cluster, and the limits and times of its transport. Each has its unit in its name.
///
/// [`GrpcConfig::new`] has values that suit a data centre. Nodes of one cluster must have the same `cluster`, and
/// should have the same limits.
///
/// ```
/// use openconsensus_network_grpc::GrpcConfig;
///
/// let config = GrpcConfig { backoff_ms_max: 500, ..GrpcConfig::new("orders") };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// The name of the cluster: nodes of clusters with different names refuse each other. It guards against mistakes
    /// of configuration and is no secret: keep the ports of nodes inside a trusted network. Not empty.
    pub cluster: String,

    /// The most messages that wait for one peer in one lane. 1 to 1,000,000; default 4096.
    pub queue_messages_max: u64,
    /// The most bytes of messages that wait for one peer in one lane. A message that is larger waits alone. Should be
    /// more than the core's `inflight_bytes_max`. 1 KiB to 1 TiB; default 32 MiB.
    pub queue_bytes_max: u64,
    /// The largest request in bytes that this node sends or accepts. A message that does not fit is never sent, so it
    /// must be well above the core's `append_bytes_max` and `command_bytes_max`. 1 KiB to 1 GiB; default 16 MiB.
    pub message_bytes_max: u64,
    /// The most bytes of one call that a peer may have sent and this node not yet looked at. 64 KiB to 1 GiB; default
    /// 4 MiB.
    pub stream_window_bytes: u64,
    /// The most bytes of a snapshot in one request. 512 to half of `message_bytes_max`; default 256 KiB.
    pub snapshot_chunk_bytes: u64,

    /// How long it may take to connect to a peer and to be welcomed by it. 10 to 600,000; default 1000.
    pub connect_timeout_ms: u64,
    /// After a failed attempt the next one waits for a random time up to this, and up to twice as long after every
    /// further one. 1 to 60,000; default 20.
    pub backoff_ms_min: u64,
    /// An attempt never waits longer. A message that arrives from the peer ends the wait. At least `backoff_ms_min`,
    /// at most 600,000; default 1000.
    pub backoff_ms_max: u64,
    /// How often a silent connection is tested, and a peer that could not be reached although there is nothing to send
    /// to it. 10 to 3,600,000; default 2000.
    pub keepalive_interval_ms: u64,
    /// A connection is given up when such a test is not answered for so long. 10 to 3,600,000; default 5000.
    pub keepalive_timeout_ms: u64,
    /// How long [`Serving::shutdown`](crate::Serving::shutdown) waits for calls under way. 0 to 3,600,000; default
    /// 2000.
    pub shutdown_grace_ms: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// What a vote, a heartbeat or an answer takes.
const SMALL_MESSAGE_BYTES: u64 = 256;

impl GrpcConfig {
    /// The defaults, for the cluster of this name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            queue_messages_max: 4096,
            queue_bytes_max: 32 * MIB,
            message_bytes_max: 16 * MIB,
            stream_window_bytes: 4 * MIB,
            snapshot_chunk_bytes: 256 * KIB,
            connect_timeout_ms: 1000,
            backoff_ms_min: 20,
            backoff_ms_max: 1000,
            keepalive_interval_ms: 2000,
            keepalive_timeout_ms: 5000,
            shutdown_grace_ms: 2000,
        }
    }

    /// Checks every value. [`GrpcNetwork::new`](crate::GrpcNetwork::new) does it too.
    ///
    /// # Errors
    ///
    /// The first value that is wrong, with the reason and the range that is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.cluster.is_empty() {
            return Err(ConfigError {
                name: "cluster (length)",
                value: 0,
                reason: "without a name nodes of different clusters could not tell each other apart",
                allowed: "1 or more characters".into(),
            });
        }
        self.check_limits()?;
        self.check_times()
    }

    /// The most bytes that the network keeps in memory for so many peers: what waits and is encoded for them, and what they
    /// have sent and the node has not taken. Snapshots come on top, with a few chunks for each that travels.
    pub fn memory_bytes_max(&self, peers: u64) -> u64 {
        let urgent = self.queue_bytes_max.min(self.queue_messages_max.saturating_mul(SMALL_MESSAGE_BYTES));
        let bulk = self.queue_bytes_max.max(self.message_bytes_max);
        // In each lane: one portion that is being sent, one request that is put together of what has arrived, and the
        // windows of both directions.
        let lane = self
            .message_bytes_max
            .saturating_mul(2)
            .saturating_add(self.stream_window_bytes.saturating_mul(2));
        urgent.saturating_add(bulk).saturating_add(lane.saturating_mul(2)).saturating_mul(peers)
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let memory = "a limit must let one message through and fit into memory";
        check("queue_messages_max", self.queue_messages_max, 1..=1_000_000, memory)?;
        check("queue_bytes_max", self.queue_bytes_max, KIB..=TIB, memory)?;
        check("message_bytes_max", self.message_bytes_max, KIB..=GIB, memory)?;
        check(
            "stream_window_bytes",
            self.stream_window_bytes,
            64 * KIB..=GIB,
            "HTTP/2 starts with 64 KiB, and what is in flight must fit into memory",
        )?;
        check(
            "snapshot_chunk_bytes",
            self.snapshot_chunk_bytes,
            // A chunk travels in a request, beside a few bytes that frame it.
            512..=self.message_bytes_max / 2,
            "a chunk must fit into a request",
        )
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        let attempts = "attempts that are too frequent burden the peer, rare ones delay its return";
        check("connect_timeout_ms", self.connect_timeout_ms, 10..=600_000, attempts)?;
        check("backoff_ms_min", self.backoff_ms_min, 1..=60_000, attempts)?;
        check("backoff_ms_max", self.backoff_ms_max, self.backoff_ms_min..=600_000, attempts)?;
        let tests = "tests that are too frequent burden the peer, rare ones find a dead connection late";
        check("keepalive_interval_ms", self.keepalive_interval_ms, 10..=3_600_000, tests)?;
        check("keepalive_timeout_ms", self.keepalive_timeout_ms, 10..=3_600_000, tests)?;
        check(
            "shutdown_grace_ms",
            self.shutdown_grace_ms,
            0..=3_600_000,
            "a shutdown that takes longer would look like one that hangs",
        )
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn keepalive_interval(&self) -> Duration {
        Duration::from_millis(self.keepalive_interval_ms)
    }

    pub(crate) fn keepalive_timeout(&self) -> Duration {
        Duration::from_millis(self.keepalive_timeout_ms)
    }

    /// [`message_bytes_max`](Self::message_bytes_max) for interfaces that count in `usize`.
    pub(crate) fn message_bytes_max_usize(&self) -> usize {
        usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX)
    }

    /// [`stream_window_bytes`](Self::stream_window_bytes) for interfaces that count in `u32`: at most 1 GiB, so it
    /// always fits.
    pub(crate) fn stream_window_u32(&self) -> u32 {
        u32::try_from(self.stream_window_bytes).unwrap_or(u32::MAX / 4)
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
    let allowed = format!("{} to {}", allowed.start(), allowed.end());
    Err(ConfigError { name, value, reason, allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(GrpcConfig::new("c").validate(), Ok(()));
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_reason_and_the_allowed_range() {
        let wrong = GrpcConfig { backoff_ms_max: 1, ..GrpcConfig::new("c") };
        assert_eq!(
            wrong.validate().unwrap_err().to_string(),
            "backoff_ms_max is 1: attempts that are too frequent burden the peer, rare ones delay its return; \
             allowed: 20 to 600000"
        );
        type Spoil = fn(&mut GrpcConfig);
        let wrong: [(&str, Spoil); 12] = [
            ("cluster (length)", |c| c.cluster.clear()),
            ("queue_messages_max", |c| c.queue_messages_max = 0),
            ("queue_bytes_max", |c| c.queue_bytes_max = 0),
            ("message_bytes_max", |c| c.message_bytes_max = u64::MAX),
            ("stream_window_bytes", |c| c.stream_window_bytes = 1),
            ("snapshot_chunk_bytes", |c| c.snapshot_chunk_bytes = c.message_bytes_max),
            ("connect_timeout_ms", |c| c.connect_timeout_ms = 0),
            ("backoff_ms_min", |c| c.backoff_ms_min = 0),
            ("backoff_ms_max", |c| c.backoff_ms_max = u64::MAX),
            ("keepalive_interval_ms", |c| c.keepalive_interval_ms = 0),
            ("keepalive_timeout_ms", |c| c.keepalive_timeout_ms = 0),
            ("shutdown_grace_ms", |c| c.shutdown_grace_ms = u64::MAX),
        ];
        for (name, spoil) in wrong {
            let mut config = GrpcConfig::new("c");
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().name, name);
        }
    }
}
