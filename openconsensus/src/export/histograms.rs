//! Records histograms as Prometheus has them.

use crate::metrics::{ApplyTimes, DiskTimes, Histogram, Histograms, ReadTimes, WriteTimes};

use super::Out;

/// The three series of a histogram.
struct HistogramNames {
    bucket: &'static str,
    sum: &'static str,
    count: &'static str,
}

macro_rules! histogram_names {
    ($name:literal) => {
        HistogramNames {
            bucket: concat!($name, "_bucket"),
            sum: concat!($name, "_sum"),
            count: concat!($name, "_count"),
        }
    };
}

const WRITE: HistogramNames = histogram_names!("openconsensus_write_seconds");
const READ: HistogramNames = histogram_names!("openconsensus_read_seconds");
const DISK: HistogramNames = histogram_names!("openconsensus_disk_seconds");
const DISK_SIZE: HistogramNames = histogram_names!("openconsensus_disk_append_size");
const APPLY: HistogramNames = histogram_names!("openconsensus_apply_seconds");
const APPLY_SIZE: HistogramNames = histogram_names!("openconsensus_apply_size");

impl Out<'_> {
    pub(super) fn histograms(&self, histograms: &Histograms) {
        let Histograms { writes, reads, disk, apply } = histograms;
        let WriteTimes { admission, queued, stable, committed, applied, whole } = writes;
        let stages = [
            ("admission", admission),
            ("queued", queued),
            ("stable", stable),
            ("committed", committed),
            ("applied", applied),
            ("whole", whole),
        ];
        for (stage, histogram) in stages {
            self.times(&WRITE, ("stage", stage), histogram);
        }
        let ReadTimes { by_round, by_lease } = reads;
        for (by, histogram) in [("round", by_round), ("lease", by_lease)] {
            self.times(&READ, ("by", by), histogram);
        }
        let DiskTimes { save_hard_state, append, truncate, purge, append_entries, append_bytes } = disk;
        let calls = [
            ("save_hard_state", save_hard_state),
            ("append", append),
            ("truncate", truncate),
            ("purge", purge),
        ];
        for (call, histogram) in calls {
            self.times(&DISK, ("call", call), histogram);
        }
        let ApplyTimes { call, entries } = apply;
        self.times(&APPLY, ("call", "apply"), call);
        for (unit, histogram) in [("entries", append_entries), ("bytes", append_bytes)] {
            self.sizes(&DISK_SIZE, ("unit", unit), histogram);
        }
        self.sizes(&APPLY_SIZE, ("unit", "entries"), entries);
    }

    fn times(&self, names: &HistogramNames, label: (&'static str, &str), histogram: &Histogram) {
        // From 4 microseconds to 17 seconds.
        self.histogram(names, label, histogram, (12..=34).map(|bits| 1 << bits), 1e9);
    }

    fn sizes(&self, names: &HistogramNames, label: (&'static str, &str), histogram: &Histogram) {
        self.histogram(names, label, histogram, (0..=26).step_by(2).map(|bits| 1 << bits), 1.0);
    }

    /// Not through the histograms of the facade: those take one value after the other, and there may be a million of
    /// them in a second. As Prometheus has them: so many values were not above `le`.
    fn histogram(
        &self,
        names: &HistogramNames,
        label: (&'static str, &str),
        histogram: &Histogram,
        bounds: impl Iterator<Item = u64>,
        unit: f64,
    ) {
        for bound in bounds {
            let le = (bound as f64 / unit).to_string();
            self.counter(names.bucket, &[label, ("le", &le)], histogram.count_up_to(bound));
        }
        self.counter(names.bucket, &[label, ("le", "+Inf")], histogram.count());
        self.gauge(names.sum, &[label], histogram.sum() as f64 / unit);
        self.counter(names.count, &[label], histogram.count());
    }
}
