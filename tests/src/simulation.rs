//! Many engines in one world under one seed: a faulty network, faulty disks, clocks that go wrong, crashes, changes of
//! membership, snapshots, transfers, clients. After every step all oracles are asked.
//!
//! A run begins with a storm that its seed decides and ends with calm, in which the cluster must come to rest. What
//! happens is recorded as a list of [`Event`]s. A run that contradicts an oracle can be repeated by its seed, and
//! [`minimise`] leaves out of its list whatever the violation does not need.
//!
//! The binary `simulate` runs campaigns: `cargo run --release -p openconsensus-tests --bin simulate -- --seeds 1000`.

mod agenda;
mod ambush;
mod answers;
mod campaign;
mod clock;
mod coverage;
mod diagram;
mod event;
mod faults;
mod happenings;
mod letters;
mod minimise;
mod plan;
mod planner;
mod requests;
mod run;
mod sabotage;
mod snapshots;
mod story;
mod suspend;
mod trace;
mod watch;
mod world;

pub use campaign::{CAMPAIGN_SEEDS_MIN, Report, campaign};
pub use coverage::{Count, Coverage};
pub use event::Event;
pub use minimise::{Effort, Minimised, minimise};
pub use run::{Run, Violation, replay, run};
pub use sabotage::Sabotage;
pub use story::{Story, command};
pub use trace::{Sight, Trace};
