//! What is under way between nodes, named so that a name still means something when other events are left out.

use std::collections::VecDeque;
use std::fmt;

use openconsensus::{AppendResult, Body, Message, VoteKind};

use super::coverage::Count;
use crate::engines::{Test, What};

/// More nodes than any simulation has.
const IDS: usize = 9;

/// What a letter is, for its name and for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A request for a pre-vote.
    PreVote,
    /// A request for a vote.
    Vote,
    /// A request for a vote in a transfer.
    TransferVote,
    /// A pre-vote, or its refusal.
    PreVoteAnswer,
    /// A vote, or its refusal.
    VoteAnswer,
    /// Entries, or a probe.
    Append,
    /// Entries match and are durable.
    Matched,
    /// Entries do not fit.
    Conflict,
    /// The term of the sender is over.
    StaleTerm,
    /// The leader lives.
    Heartbeat,
    /// So does the follower.
    HeartbeatAnswer,
    /// News of a commit.
    Commit,
    /// A read that is forwarded.
    ReadRequest,
    /// Where it may be served.
    ReadAnswer,
    /// The receiver is to campaign.
    TimeoutNow,
    /// It cannot.
    Declined,
    /// A transfer that is asked for through another node.
    TransferRequest,
    /// What the leader says to that.
    TransferAnswer,
    /// The receiver is no member.
    Removed,
    /// A snapshot with its bytes.
    Snapshot,
    /// What became of it.
    SnapshotAnswer,
}

/// How many kinds there are.
const KINDS: usize = Kind::SnapshotAnswer as usize + 1;

impl Kind {
    pub(super) fn of(what: &What) -> Self {
        match what {
            What::Message(message) => Self::of_message(message),
            What::Snapshot { .. } => Self::Snapshot,
            What::SnapshotAnswer { .. } => Self::SnapshotAnswer,
        }
    }

    fn of_message(message: &Message<Test>) -> Self {
        match &message.body {
            Body::VoteRequest { kind: VoteKind::Pre, .. } => Self::PreVote,
            Body::VoteRequest { kind: VoteKind::Normal, .. } => Self::Vote,
            Body::VoteRequest { kind: VoteKind::Transfer, .. } => Self::TransferVote,
            Body::VoteResponse { kind: VoteKind::Pre, .. } => Self::PreVoteAnswer,
            Body::VoteResponse { kind: VoteKind::Normal | VoteKind::Transfer, .. } => Self::VoteAnswer,
            Body::Append { .. } => Self::Append,
            Body::AppendResponse { result: AppendResult::Matched { .. } } => Self::Matched,
            Body::AppendResponse { result: AppendResult::Conflict { .. } } => Self::Conflict,
            Body::AppendResponse { result: AppendResult::StaleTerm } => Self::StaleTerm,
            Body::Heartbeat { .. } => Self::Heartbeat,
            Body::HeartbeatResponse { .. } => Self::HeartbeatAnswer,
            Body::Commit { .. } => Self::Commit,
            Body::ReadRequest { .. } => Self::ReadRequest,
            Body::ReadResponse { .. } => Self::ReadAnswer,
            Body::TimeoutNow => Self::TimeoutNow,
            Body::TimeoutNowDeclined => Self::Declined,
            Body::TransferRequest { .. } => Self::TransferRequest,
            Body::TransferResponse { .. } => Self::TransferAnswer,
            Body::Removed { .. } => Self::Removed,
            body => panic!("the simulation does not know {body:?}"),
        }
    }

    /// What its arrival counts as.
    pub(super) fn count(self) -> Count {
        match self {
            Self::PreVote => Count::PreVotes,
            Self::Vote => Count::Votes,
            Self::TransferVote => Count::TransferVotes,
            Self::PreVoteAnswer => Count::PreVoteAnswers,
            Self::VoteAnswer => Count::VoteAnswers,
            Self::Append => Count::Appends,
            Self::Matched => Count::Acknowledgements,
            Self::Conflict => Count::Conflicts,
            Self::StaleTerm => Count::StaleTerms,
            Self::Heartbeat => Count::Heartbeats,
            Self::HeartbeatAnswer => Count::HeartbeatAnswers,
            Self::Commit => Count::CommitMessages,
            Self::ReadRequest => Count::ReadRequests,
            Self::ReadAnswer => Count::ReadAnswers,
            Self::TimeoutNow => Count::TimeoutNows,
            // What makes a target that has everything decline is too rare to count on.
            Self::Declined => Count::TimeoutNows,
            Self::TransferRequest => Count::TransferRequests,
            Self::TransferAnswer => Count::TransferAnswers,
            Self::Removed => Count::RemovedTold,
            Self::Snapshot => Count::SnapshotStreams,
            Self::SnapshotAnswer => Count::SnapshotAnswers,
        }
    }
}

/// Names a letter under way: on which link, of which kind, and how many older ones of that kind are under way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Who sent it.
    pub(super) from: u64,
    /// Who is to get it.
    pub(super) to: u64,
    /// What it is.
    pub(super) kind: Kind,
    /// How many older ones there are.
    pub(super) place: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} n{} -> n{}", self.kind, self.from, self.to)?;
        if self.place > 0 { write!(f, " past {} older ones", self.place) } else { Ok(()) }
    }
}

/// A letter under way.
#[derive(Clone, Debug)]
pub(super) struct Flying {
    pub(super) id: u64,
    pub(super) sent_us: u64,
    pub(super) what: What,
}

/// A letter that was sent and whose fate is to be decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) kind: Kind,
    pub(super) id: u64,
    /// It tells a sender what its own driver has found out, so it always arrives.
    pub(super) is_certain: bool,
}

/// Everything that is under way.
#[derive(Debug)]
pub(super) struct Letters {
    queues: Vec<VecDeque<Flying>>,
    last_id: u64,
    /// Sent since this was last looked at.
    pub(super) sent: Vec<Sent>,
}

impl Letters {
    pub(super) fn new() -> Self {
        let queues = (0..IDS * IDS * KINDS).map(|_| VecDeque::new()).collect();
        Self { queues, last_id: 0, sent: Vec::new() }
    }

    fn queue(&mut self, from: u64, to: u64, kind: Kind) -> &mut VecDeque<Flying> {
        let place = (from as usize * IDS + to as usize) * KINDS + kind as usize;
        &mut self.queues[place]
    }

    pub(super) fn push(&mut self, from: u64, to: u64, what: What, now_us: u64) {
        self.last_id += 1;
        let (id, kind) = (self.last_id, Kind::of(&what));
        let is_certain = matches!(what, What::SnapshotAnswer { response: None, .. });
        self.queue(from, to, kind).push_back(Flying { id, sent_us: now_us, what });
        self.sent.push(Sent { from, to, kind, id, is_certain });
    }

    pub(super) fn name_of(&mut self, sent: Sent) -> Option<Name> {
        let Sent { from, to, kind, id, .. } = sent;
        let place = self.queue(from, to, kind).iter().position(|flying| flying.id == id)?;
        Some(Name { from, to, kind, place })
    }

    pub(super) fn take(&mut self, name: Name) -> Option<Flying> {
        self.queue(name.from, name.to, name.kind).remove(name.place)
    }

    pub(super) fn copy(&mut self, name: Name) -> Option<Flying> {
        self.queue(name.from, name.to, name.kind).get(name.place).cloned()
    }

    /// Takes out the snapshots from `from` that fit.
    pub(super) fn take_snapshots(&mut self, from: u64, fits: impl Fn(&What) -> bool) -> Vec<(u64, Flying)> {
        let mut taken = Vec::new();
        for to in 1..IDS as u64 {
            let queue = self.queue(from, to, Kind::Snapshot);
            while let Some(place) = queue.iter().position(|flying| fits(&flying.what)) {
                taken.extend(queue.remove(place).map(|flying| (to, flying)));
            }
        }
        taken
    }

    /// Whether anything of this kind is under way.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.queues.iter().skip(kind as usize).step_by(KINDS).any(|queue| !queue.is_empty())
    }

    /// All that is under way, as if it had just been sent.
    pub(super) fn resend(&mut self) {
        self.sent.clear();
        for from in 1..IDS as u64 {
            for to in 1..IDS as u64 {
                let place = (from as usize * IDS + to as usize) * KINDS;
                for queue in &self.queues[place..place + KINDS] {
                    self.sent.extend(queue.iter().map(|flying| {
                        let is_certain = matches!(flying.what, What::SnapshotAnswer { response: None, .. });
                        Sent { from, to, kind: Kind::of(&flying.what), id: flying.id, is_certain }
                    }));
                }
            }
        }
    }
}
