//! The limits that are measured.

use clap::ValueEnum;
use openconsensus::Config;
use openconsensus_network_grpc::GrpcConfig;

/// Which limits the nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limits {
    /// Those of `Config::default()`.
    Default,
    /// A fraction of them: what grows where it should not is seen sooner.
    Small,
}

const MIB: u64 = 1 << 20;

/// The configuration of a node. Elections are slow: a machine that is busy with the load must not take its leader for dead.
/// Little of the log is kept, for this is about memory and not about disks.
pub(crate) fn node(limits: Limits) -> Config {
    let config = Config {
        election_timeout_ms_min: 2000,
        election_timeout_ms_max: 4000,
        heartbeat_interval_ms: 100,
        write_stall_timeout_ms: 60_000,
        snapshot_after_entries: Some(5000),
        log_keep_entries: 2000,
        log_hold_entries_max: 50_000,
        ..Config::default()
    };
    match limits {
        Limits::Default => config,
        Limits::Small => Config {
            append_bytes_max: MIB / 4,
            command_bytes_max: MIB / 4,
            inflight_bytes_max: 4 * MIB,
            uncommitted_bytes_max: 16 * MIB,
            tail_bytes_max: 8 * MIB,
            apply_bytes_max: 8 * MIB,
            receive_bytes_max: 8 * MIB,
            reads_waiting_max: 1000,
            ..config
        },
    }
}

/// The configuration of its network.
pub(crate) fn network(limits: Limits) -> GrpcConfig {
    let config = GrpcConfig::new("memory");
    match limits {
        Limits::Default => config,
        Limits::Small => GrpcConfig {
            queue_bytes_max: 5 * MIB,
            message_bytes_max: 2 * MIB,
            stream_window_bytes: MIB,
            snapshot_chunk_bytes: 65_536,
            ..config
        },
    }
}
