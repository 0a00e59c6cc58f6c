//! What is on its way between nodes.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use openconsensus::engine::{Fingerprint, SnapshotId};
use openconsensus::{AppendResult, Body, InstallSnapshot, InstallSnapshotResponse, Message, Term};
use openconsensus_tests::engines::{Image, Test};

use crate::node::{Folded, HORIZON, Names, print_image, start};

/// Something on its way from one node to another.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub from: u64,
    pub to: u64,
    pub what: What,
    /// Its fingerprint by each way to name the nodes. Two letters whose first fingerprints are equal are one letter.
    pub prints: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Message(Message<Test>),
    /// A snapshot with its bytes, and how the sender names the transfer.
    Snapshot {
        id: SnapshotId,
        request: InstallSnapshot<Test>,
        image: Arc<Image>,
    },
    /// What became of a snapshot; `None` when it did not arrive.
    Answer {
        id: SnapshotId,
        response: Option<InstallSnapshotResponse>,
    },
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.prints[0] == other.prints[0]
    }
}

impl Letter {
    pub(crate) fn new(from: u64, to: u64, what: What, ways: &[Names]) -> Arc<Self> {
        let prints = ways.iter().map(|names| print(from, to, &what, names)).collect();
        Arc::new(Self { from, to, what, prints })
    }

    /// Whether it asks for a vote that the lease of a leader would refuse.
    pub(crate) fn is_vote_request(&self) -> bool {
        matches!(&self.what, What::Message(Message { body: Body::VoteRequest { .. }, .. }))
    }

    /// Whether its receiver, in a later term for good, would do nothing at all with it.
    pub(crate) fn is_void_in(&self, term: Term) -> bool {
        let What::Message(message) = &self.what else { return false };
        message.term < term
            && match message.body {
                Body::VoteResponse { .. }
                | Body::AppendResponse { .. }
                | Body::HeartbeatResponse { .. }
                | Body::Commit { .. }
                | Body::ReadRequest { .. }
                | Body::ReadResponse { .. }
                | Body::TimeoutNow
                | Body::TimeoutNowDeclined
                | Body::TransferRequest { .. }
                | Body::TransferResponse { .. } => true,
                // Answered even so.
                _ => false,
            }
    }
}

fn print(from: u64, to: u64, what: &What, names: &Names) -> u64 {
    let name = |id: u64| names[id as usize];
    let mut hasher = Folded::default();
    let mut out = Fingerprint::new(start(), HORIZON, &name, &mut hasher);
    out.node(from);
    out.node(to);
    match what {
        What::Message(message) => {
            out.value(0);
            out.message(message);
        }
        What::Snapshot { id, request, image } => {
            out.value((1, id));
            out.install_snapshot(request);
            print_image(image, &mut out);
        }
        What::Answer { id, response } => {
            out.value((2, id, response.map(|response| (response.term, response.installed))));
        }
    }
    hasher.finish()
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: ", self.from, self.to)?;
        match &self.what {
            What::Message(Message { term, body }) => {
                write!(f, "[term {term}] ")?;
                describe(body, f)
            }
            What::Snapshot { request, .. } => {
                write!(f, "[term {}] snapshot of {}", request.term, request.meta.last)
            }
            What::Answer { response, .. } => write!(f, "answer to a snapshot: {response:?}"),
        }
    }
}

/// What a message says, in short.
fn describe(body: &Body<Test>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match body {
        Body::VoteRequest { kind, last, .. } => write!(f, "asks for a vote ({kind:?}), last entry {last}"),
        Body::VoteResponse { kind, granted: true, .. } => write!(f, "votes for it ({kind:?})"),
        Body::VoteResponse { kind, granted: false, .. } => write!(f, "refuses the vote ({kind:?})"),
        Body::Append { prev, entries, commit } => {
            write!(f, "append behind {prev}, commit {commit}:")?;
            entries.iter().try_for_each(|entry| write!(f, " {} {:?}", entry.log_id, entry.payload))
        }
        Body::AppendResponse { result: AppendResult::Matched { matched } } => {
            write!(f, "matches up to {matched}")
        }
        Body::AppendResponse { result: AppendResult::Conflict { rejected, hint } } => {
            write!(f, "has another entry at {rejected}, try {hint}")
        }
        Body::AppendResponse { result: AppendResult::StaleTerm } => write!(f, "there is a later term"),
        Body::Heartbeat { round, commit } => write!(f, "heartbeat {round}, commit {commit}"),
        Body::HeartbeatResponse { round, .. } => write!(f, "answers heartbeat {round}"),
        Body::Commit { commit } => write!(f, "commit {commit}"),
        Body::ReadRequest { .. } => write!(f, "asks for a read"),
        Body::ReadResponse { index, .. } => write!(f, "may read at {index}"),
        other => write!(f, "{other:?}"),
    }
}
