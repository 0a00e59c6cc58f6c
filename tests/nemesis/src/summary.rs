//! `Summary`: what a campaign has done and found, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use openconsensus_tests::linearizability::{Counts, Report};

use crate::fault::Fault;
use crate::seen::Seen;

/// What a campaign has done and found.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The seed that its choices followed from.
    pub seed: u64,
    /// How long it took, from the first operation to the last.
    pub took: Duration,
    /// How often each fault was injected.
    pub faults: BTreeMap<Fault, u64>,
    /// How many operations ended how.
    pub counts: Counts,
    /// The times without service: from each fault that took the leader away, and that came alone, to the end of the
    /// first write that began after it and was acknowledged.
    pub without_service: Vec<Duration>,
    /// The times from each healing to service.
    pub after_healing: Vec<Duration>,
    /// How many keys the nodes held in the end.
    pub keys: u64,
    /// What the nodes told of themselves.
    pub seen: Seen,
    /// What the checker says.
    pub report: Report,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:.1} s", self.seed, self.took.as_secs_f32())?;
        writeln!(f, "faults:")?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:5}  {fault}")?;
        }
        let Counts { returned, absent, unknown } = self.counts;
        writeln!(
            f,
            "operations: {returned} answered, {absent} certainly not carried out, {unknown} unknown"
        )?;
        spread(f, "without service after the leader was taken", &self.without_service)?;
        spread(f, "without service after healing", &self.after_healing)?;
        writeln!(f, "{}", self.seen)?;
        writeln!(f, "all nodes are equal: {} keys", self.keys)?;
        write!(f, "{}", self.report)
    }
}

fn spread(f: &mut fmt::Formatter<'_>, what: &str, times: &[Duration]) -> fmt::Result {
    let mut times = times.to_vec();
    times.sort();
    match times.last() {
        Some(most) => {
            let (median, most) = (times[times.len() / 2].as_millis(), most.as_millis());
            writeln!(f, "{what}: median {median} ms, most {most} ms of {}", times.len())
        }
        None => writeln!(f, "{what}: never"),
    }
}
