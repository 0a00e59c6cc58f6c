//! What has happened in a run, for people: lines of text, and a diagram of who sent what to whom.

use std::fmt::Write as _;

use openconsensus::{AppendResult, Body, Message};

use crate::engines::{Test, What};

/// One thing to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Something on one node.
    On {
        /// The node.
        node: u64,
        /// What.
        text: String,
    },
    /// Something that arrived from another node, or did not.
    Letter {
        /// Who sent it.
        from: u64,
        /// Who was to get it.
        to: u64,
        /// When it was sent, in microseconds.
        sent_us: u64,
        /// Whether it arrived.
        arrives: bool,
        /// What.
        text: String,
    },
    /// Something of no node.
    All {
        /// What.
        text: String,
    },
}

/// A run as a sequence of sights, each with its time in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In the order in which they happened.
    pub sights: Vec<(u64, Sight)>,
}

impl Trace {
    /// One line for each sight.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at_us, sight) in &self.sights {
            let line = match sight {
                Sight::On { node, text } => format!("n{node}  {text}"),
                Sight::Letter { from, to, arrives: true, text, .. } => format!("n{from} -> n{to}  {text}"),
                Sight::Letter { from, to, arrives: false, text, .. } => {
                    format!("n{from} -x n{to}  {text} (lost)")
                }
                Sight::All { text } => text.clone(),
            };
            writeln!(text, "{:>10.3} ms  {line}", *at_us as f64 / 1000.0).expect("a string takes everything");
        }
        text
    }
}

/// What a letter says, in a few words.
pub(super) fn describe(what: &What) -> String {
    match what {
        What::Message(message) => describe_message(message),
        What::Snapshot { request, .. } => {
            format!("snapshot to {} in term {}", request.meta.last, request.term)
        }
        What::SnapshotAnswer { response: Some(response), .. } => match response.installed {
            Some(installed) => format!("snapshot installed to {installed}, term {}", response.term),
            None => format!("snapshot refused, term {}", response.term),
        },
        What::SnapshotAnswer { response: None, .. } => "snapshot did not arrive".to_owned(),
    }
}

fn describe_message(message: &Message<Test>) -> String {
    let term = message.term;
    match &message.body {
        Body::VoteRequest { kind, last, .. } => format!("t{term} vote? {kind:?}, last {last}"),
        Body::VoteResponse { kind, granted, .. } => {
            format!("t{term} vote {kind:?} {}", if *granted { "granted" } else { "refused" })
        }
        Body::Append { prev, entries, commit } => {
            let range = entries.range();
            if range.is_empty() {
                format!("t{term} probe behind {prev}, commit {commit}")
            } else {
                format!("t{term} append {}..={} behind {prev}, commit {commit}", range.start, range.end - 1)
            }
        }
        Body::AppendResponse { result: AppendResult::Matched { matched } } => {
            format!("t{term} matched {matched}")
        }
        Body::AppendResponse { result: AppendResult::Conflict { rejected, hint } } => {
            format!("t{term} conflict at {rejected}, hint {hint}")
        }
        Body::AppendResponse { result: AppendResult::StaleTerm } => format!("t{term} stale term"),
        Body::Heartbeat { round, commit } => format!("t{term} heartbeat {round}, commit {commit}"),
        Body::HeartbeatResponse { round, promise_ms: 0 } => format!("t{term} heartbeat {round} answered"),
        Body::HeartbeatResponse { round, promise_ms } => {
            format!("t{term} heartbeat {round} answered, promises {promise_ms} ms")
        }
        Body::Commit { commit } => format!("t{term} commit {commit}"),
        Body::ReadRequest { by_lease: false, .. } => format!("t{term} read?"),
        Body::ReadRequest { by_lease: true, .. } => format!("t{term} read by lease?"),
        Body::ReadResponse { index, .. } => format!("t{term} read at {index}"),
        Body::TimeoutNow => format!("t{term} campaign now"),
        Body::TimeoutNowDeclined => format!("t{term} cannot campaign"),
        Body::TransferRequest { target: Some(target), .. } => format!("t{term} transfer to {target}?"),
        Body::TransferRequest { target: None, .. } => format!("t{term} transfer?"),
        Body::TransferResponse { answer, .. } => format!("t{term} transfer {answer:?}"),
        Body::Removed { membership, .. } => format!("t{term} you were removed by {membership}"),
        body => format!("t{term} {body:?}"),
    }
}
