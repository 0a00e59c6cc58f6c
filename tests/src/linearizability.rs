//! Linearizability: whether what clients saw can be explained by one copy of the state that does one thing at a time.
//!
//! Clients record what they ask for and what becomes of it in a [`History`]. A [`Model`] says what one copy of the state
//! would have answered. [`check`] looks for an order of the operations in which each takes effect at one moment
//! between its call and its end, and in which the model gives every answer that was seen. If there is none, the
//! smallest part of the history that shows it is printed as a chart over time.
//!
//! An operation has one of three outcomes, and the checker treats each as what it is:
//!
//! | outcome | what is allowed |
//! | --- | --- |
//! | [`Outcome::Returned`] | took effect once, between call and end, with this response |
//! | [`Outcome::Absent`] | never takes effect |
//! | [`Outcome::Unknown`] | takes effect once at any moment after its call, however late, or never |
//!
//! ```
//! use openconsensus_tests::linearizability::{KvModel, KvRequest, KvResponse, Limits, Recorder, check};
//!
//! let recorder = Recorder::new();
//! let write = recorder.call(1, KvRequest::put("key", 5));
//! // … ask the cluster …
//! write.returned(KvResponse::Done);
//! let read = recorder.call(2, KvRequest::get("key"));
//! read.returned(KvResponse::Value(Some(5)));
//! check(&KvModel::new(), &recorder.history(), &Limits::default()).assert_linearizable();
//! ```
//!
//! The search is that of Wing and Gong with the memoisation of Lowe: a configuration, which is the set of operations
//! that have taken effect and the state after them, is entered once. Operations on different [keys](Model::key) are
//! checked apart, which is sound because linearizability is local. Three further rules keep histories with many
//! unknown outcomes feasible; `search.rs` says why each is sound.

mod chart;
mod check;
mod history;
mod kv;
mod model;
mod search;
mod shrink;

pub use check::{Limits, Report, Undecided, Violation, check};
pub use history::{Call, Counts, History, Moment, Operation, OperationId, Outcome, Recorder};
pub use kv::{KvAction, KvModel, KvRequest, KvResponse};
pub use model::{Marks, Model};
