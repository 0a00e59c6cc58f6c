//! What the measurements of openconsensus have in common, here and beside its peers.
//!
//! A benchmark compares *contenders* that do the same work. Each *case* (so many clients, so many bytes) is measured in
//! *rounds*: in every round each contender has its turn, in an order that alternates, so that whatever else the machine
//! does falls on all of them alike. What may be quoted are medians over the rounds, and ratios, each the median of the
//! ratios within the rounds.
//!
//! ```no_run
//! use openconsensus_bench::{Failure, Options, Report, Sample, Stopwatch, parameters};
//!
//! # fn work() {}
//! # fn other_work() {}
//! fn main() -> Result<(), Failure> {
//!     let options: Options = clap::Parser::parse();
//!     let mut report = Report::new("example", &options);
//!     for clients in [1, 64] {
//!         let ours = |_round: usize| {
//!             let watch = Stopwatch::start();
//!             work();
//!             Ok(Sample::new().throughput(1000, &watch.stop()))
//!         };
//!         let theirs = |_round: usize| {
//!             let watch = Stopwatch::start();
//!             other_work();
//!             Ok(Sample::new().throughput(1000, &watch.stop()))
//!         };
//!         let case = parameters! { clients: clients, payload_bytes: 16 };
//!         report.compare(case, &mut [("openconsensus", Box::new(ours)), ("other", Box::new(theirs))])?;
//!     }
//!     report.finish()
//! }
//! ```

mod allocations;
mod lock_file;
mod machine;
mod options;
mod processor;
mod report;
mod resident;
mod rounds;
mod sample;
mod table;

pub use allocations::{Allocations, Counting, CountingAllocator};
pub use lock_file::version_in;
pub use machine::{Disk, Machine};
pub use options::Options;
pub use processor::{Elapsed, Stopwatch, processor_time, processor_time_of};
pub use report::{Case, Contender, Measured, Metric, Parameters, Report, Run, Value};
pub use resident::{resident_bytes, resident_bytes_of};
pub use rounds::{Spread, median, turns};
pub use sample::{Latencies, Sample};
pub use table::number;

/// Whatever ends a measurement early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
