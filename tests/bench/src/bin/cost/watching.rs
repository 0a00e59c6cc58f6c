//! Who watches the nodes while they work.

use std::io;
use std::time::Duration;

use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use openconsensus_bench::Failure;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Watching {
    /// Nobody.
    Nothing,
    /// An exporter that records all nodes and is read.
    Exporter,
    /// A subscriber of tracing at `info`.
    Tracing,
    /// Both.
    All,
}

/// Watches until it is told to end.
#[derive(Default)]
pub(crate) struct Watched {
    tasks: Vec<JoinHandle<()>>,
    recorder: Option<PrometheusHandle>,
}

/// How often the exporter records, and how often it is read. More often than anybody does.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Watching {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Exporter => "exporter",
            Self::Tracing => "tracing",
            Self::All => "all",
        }
    }

    /// Before the nodes are started: what they open spans in.
    pub(crate) fn subscribe(self) {
        if matches!(self, Self::Tracing | Self::All) {
            tracing_subscriber::fmt().with_env_filter("info").with_writer(io::sink).init();
        }
    }

    pub(crate) fn begin(self, cluster: &Cluster) -> Result<Watched, Failure> {
        if matches!(self, Self::Nothing | Self::Tracing) {
            return Ok(Watched::default());
        }
        let recorder = PrometheusBuilder::new().install_recorder()?;
        let exporting = cluster.nodes().map(|raft| openconsensus::export::export(raft, EXPORT_INTERVAL));
        let mut tasks: Vec<_> = exporting.map(tokio::spawn).collect();
        let read = recorder.clone();
        tasks.push(tokio::spawn(async move {
            loop {
                tokio::time::sleep(EXPORT_INTERVAL).await;
                assert!(!read.render().is_empty());
            }
        }));
        Ok(Watched { tasks, recorder: Some(recorder) })
    }
}

impl Watched {
    /// Ends, and makes sure that something was seen.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let Some(recorder) = self.recorder else { return Ok(()) };
        let text = recorder.render();
        let count = text.lines().find(|line| line.starts_with("openconsensus_write_seconds_count"));
        if count.is_none() { Err("the exporter has seen nothing".into()) } else { Ok(()) }
    }
}
