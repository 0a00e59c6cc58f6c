//! Records into a recorder of its own, and compares with what is promised.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use metrics_facade::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram as FacadeHistogram, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, with_local_recorder,
};

use super::*;
use crate::config::Config;
use crate::engine::{Engine, Recovered};
use crate::metrics::{Histogram, Histograms, ProgressName};
use crate::testing::U64;

/// What was recorded: by kind, name and labels, the last value.
#[derive(Default)]
struct Recorded {
    values: Mutex<BTreeMap<(Told, String), f64>>,
    described: Mutex<BTreeMap<String, Told>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Gauge,
    Counter,
}

#[derive(Clone, Default)]
struct TestRecorder(Arc<Recorded>);

struct Cell {
    recorded: Arc<Recorded>,
    key: (Told, String),
}

impl Cell {
    fn set(&self, value: f64) {
        self.recorded.values.lock().unwrap().insert(self.key.clone(), value);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _value: f64) {
        panic!("gauges are set");
    }
    fn decrement(&self, _value: f64) {
        panic!("gauges are set");
    }
    fn set(&self, value: f64) {
        Self::set(self, value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, _value: u64) {
        panic!("counters are told as they are");
    }
    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl TestRecorder {
    fn cell(&self, kind: Told, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let key = (kind, format!("{} {}", key.name(), labels.join(",")));
        Arc::new(Cell { recorded: self.0.clone(), key })
    }

    fn value(&self, name_and_labels: &str) -> Option<f64> {
        let values = self.0.values.lock().unwrap();
        values.iter().find(|((_, name), _)| name == name_and_labels).map(|(_, value)| *value)
    }

    fn record(&self, exporter: &mut MetricsExporter, metrics: &RaftMetrics<U64>) {
        with_local_recorder(self, || exporter.record(metrics));
    }
}

impl Recorder for TestRecorder {
    fn describe_counter(&self, key: KeyName, _unit: Option<Unit>, _help: SharedString) {
        self.0.described.lock().unwrap().insert(key.as_str().to_owned(), Told::Counter);
    }
    fn describe_gauge(&self, key: KeyName, _unit: Option<Unit>, _help: SharedString) {
        self.0.described.lock().unwrap().insert(key.as_str().to_owned(), Told::Gauge);
    }
    fn describe_histogram(&self, key: KeyName, _unit: Option<Unit>, _help: SharedString) {
        panic!("{key:?} would be dear");
    }
    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(Told::Counter, key))
    }
    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(Told::Gauge, key))
    }
    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> FacadeHistogram {
        panic!("{key:?} would be dear");
    }
}

fn metrics() -> RaftMetrics<U64> {
    let now = Instant::now();
    let engine = Engine::new(Config::default().validate().unwrap(), Recovered::empty(1, 1), now).unwrap();
    engine.metrics(now)
}

fn peer() -> PeerMetrics {
    PeerMetrics {
        progress: ProgressName::Replicate,
        matched: 7,
        next: 10,
        lag_entries: 3,
        lag_bytes: None,
        inflight_appends: 2,
        inflight_bytes: 300,
        contact_ms: Some(250),
        active: true,
        unreachable: false,
        backoff_ms: 0,
    }
}

#[test]
fn what_is_recorded_is_what_is_listed_with_the_kinds_and_labels_of_the_list() {
    let recorder = TestRecorder::default();
    let mut exporter = with_local_recorder(&recorder, MetricsExporter::new);
    let metrics = RaftMetrics { leader: Some(2), peers: [(2, peer())].into(), ..metrics() };
    recorder.record(&mut exporter, &metrics);
    let mut listed = BTreeMap::new();
    for series in SERIES {
        assert!(series.name.starts_with("openconsensus_") && !series.help.is_empty());
        let mut labels = vec!["node"];
        labels.extend(series.labels);
        let mut add = |ending: &str, kind, labels: Vec<&str>| {
            let before = listed.insert(format!("{}{ending}", series.name), (kind, labels.join(",")));
            assert_eq!(before, None, "{} is listed twice", series.name);
        };
        match series.kind {
            SeriesKind::Gauge => add("", Told::Gauge, labels),
            SeriesKind::Counter => add("", Told::Counter, labels),
            SeriesKind::Histogram => {
                add("_sum", Told::Gauge, labels.clone());
                add("_count", Told::Counter, labels.clone());
                labels.push("le");
                add("_bucket", Told::Counter, labels);
            }
        }
    }
    let mut recorded = BTreeMap::new();
    for (kind, name) in recorder.0.values.lock().unwrap().keys() {
        let (name, labels) = name.split_once(' ').unwrap();
        let labels: Vec<_> = labels.split(',').map(|label| label.split_once('=').unwrap().0).collect();
        recorded.insert(name.to_owned(), (*kind, labels.join(",")));
    }
    assert_eq!(recorded, listed);
    let described = recorder.0.described.lock().unwrap().clone();
    let kinds = listed.into_iter().map(|(name, (kind, _))| (name, kind)).collect();
    assert_eq!(described, kinds);
}

#[test]
fn the_documentation_lists_the_series_as_they_are() {
    let table: String = SERIES
        .iter()
        .map(|series| {
            let labels: Vec<_> = series.labels.iter().map(|label| format!("`{label}`")).collect();
            format!(
                "| `{}` | {} | {} | {} |\n",
                series.name,
                series.kind.name(),
                labels.join(", "),
                series.help
            )
        })
        .collect();
    let text = include_str!("../../guide/names.md");
    assert!(text.contains(&table), "the table of series in guide/names.md should be:\n\n{table}");
}

#[test]
fn what_was_said_of_a_peer_or_leader_that_is_none_any_more_is_taken_back() {
    let recorder = TestRecorder::default();
    let mut exporter = MetricsExporter::default();
    let leading = RaftMetrics { leader: Some(1), peers: [(2, peer())].into(), ..metrics() };
    recorder.record(&mut exporter, &leading);
    assert_eq!(recorder.value("openconsensus_leader node=1,leader=1"), Some(1.0));
    assert_eq!(recorder.value("openconsensus_peer_active node=1,peer=2"), Some(1.0));
    assert_eq!(recorder.value("openconsensus_peer_contact_seconds node=1,peer=2"), Some(0.25));
    assert!(recorder.value("openconsensus_peer_lag_bytes node=1,peer=2").unwrap().is_nan());
    let following = RaftMetrics { leader: Some(3), peers: BTreeMap::new(), ..metrics() };
    recorder.record(&mut exporter, &following);
    assert_eq!(recorder.value("openconsensus_leader node=1,leader=1"), Some(0.0));
    assert_eq!(recorder.value("openconsensus_leader node=1,leader=3"), Some(1.0));
    assert_eq!(recorder.value("openconsensus_peer_active node=1,peer=2"), Some(0.0));
    assert_eq!(recorder.value("openconsensus_peer_progress node=1,peer=2,progress=replicate"), Some(0.0));
    assert!(recorder.value("openconsensus_peer_lag_entries node=1,peer=2").unwrap().is_nan());
}

#[test]
fn buckets_of_histograms_are_cumulative_and_times_are_in_seconds() {
    let recorder = TestRecorder::default();
    let mut stable = Histogram::default();
    stable.record_time(Duration::from_millis(5), 3);
    stable.record_time(Duration::from_millis(80), 1);
    let mut histograms = Histograms::default();
    histograms.writes.stable = Arc::new(stable);
    let metrics = RaftMetrics { histograms: Arc::new(histograms), ..metrics() };
    recorder.record(&mut MetricsExporter::default(), &metrics);
    let value = |of: &str| recorder.value(&format!("openconsensus_write_seconds{of}")).unwrap();
    assert_eq!(value("_count node=1,stage=stable"), 4.0);
    assert!((value("_sum node=1,stage=stable") - 0.095).abs() < 1e-9);
    assert_eq!(value("_bucket node=1,stage=stable,le=0.004194304"), 0.0);
    assert_eq!(value("_bucket node=1,stage=stable,le=0.008388608"), 3.0);
    assert_eq!(value("_bucket node=1,stage=stable,le=0.134217728"), 4.0);
    assert_eq!(value("_bucket node=1,stage=stable,le=+Inf"), 4.0);
    assert_eq!(value("_count node=1,stage=queued"), 0.0);
}
