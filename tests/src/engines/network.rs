//! What is under way between nodes, and whether it arrives.

use openconsensus::engine::{Input, SnapshotId};
use openconsensus::{Body, InstallSnapshot, InstallSnapshotResponse, Message, Term};

use super::node::{Arrival, Image, Node};
use super::{Cluster, Test};

/// Something on its way from one node to another.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Who sent it.
    pub from: u64,
    /// Who is to get it.
    pub to: u64,
    /// What it is.
    pub what: What,
}

/// What is on its way.
#[derive(Clone, Debug)]
pub enum What {
    /// A message.
    Message(Message<Test>),
    /// A snapshot with its bytes, and how the sender names the transfer.
    Snapshot {
        /// How the sender names the transfer.
        id: SnapshotId,
        /// What is announced.
        request: InstallSnapshot<Test>,
        /// The bytes.
        image: Box<Image>,
    },
    /// What became of a snapshot; `None` when it did not arrive.
    SnapshotAnswer {
        /// How the sender names the transfer.
        id: SnapshotId,
        /// What the receiver said.
        response: Option<InstallSnapshotResponse>,
    },
}

impl Letter {
    /// The body, if it is a message.
    pub fn body(&self) -> Option<&Body<Test>> {
        match &self.what {
            What::Message(message) => Some(&message.body),
            What::Snapshot { .. } | What::SnapshotAnswer { .. } => None,
        }
    }

    /// The term, if it is a message.
    pub fn term(&self) -> Option<Term> {
        match &self.what {
            What::Message(message) => Some(message.term),
            What::Snapshot { .. } | What::SnapshotAnswer { .. } => None,
        }
    }

    /// Whether it carries entries or probes.
    pub fn is_append(&self) -> bool {
        matches!(self.body(), Some(Body::Append { .. }))
    }

    /// Whether it answers an append.
    pub fn is_append_response(&self) -> bool {
        matches!(self.body(), Some(Body::AppendResponse { .. }))
    }

    /// Whether it is a heartbeat.
    pub fn is_heartbeat(&self) -> bool {
        matches!(self.body(), Some(Body::Heartbeat { .. }))
    }

    /// Whether it answers a heartbeat.
    pub fn is_heartbeat_response(&self) -> bool {
        matches!(self.body(), Some(Body::HeartbeatResponse { .. }))
    }

    /// Whether it asks for a vote or a pre-vote.
    pub fn is_vote_request(&self) -> bool {
        matches!(self.body(), Some(Body::VoteRequest { .. }))
    }

    /// Whether it answers such a question.
    pub fn is_vote_response(&self) -> bool {
        matches!(self.body(), Some(Body::VoteResponse { .. }))
    }

    /// Whether it is a snapshot on its way.
    pub fn is_snapshot(&self) -> bool {
        matches!(self.what, What::Snapshot { .. })
    }
}

impl Cluster {
    /// Loses everything between these nodes, in both directions, until [`heal`](Self::heal).
    pub fn cut(&mut self, one: u64, other: u64) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Loses everything from `from` to `to` from now on.
    pub fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Cuts `ids` off from all other nodes, and what is under way between them with it.
    pub fn isolate(&mut self, ids: &[u64]) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|id| !ids.contains(id)).collect();
        for (one, other) in ids.iter().flat_map(|id| others.iter().map(move |other| (*id, *other))) {
            self.cut(one, other);
        }
        let cut = self.cut.clone();
        let lost = self.intercept(|letter| cut.contains(&(letter.from, letter.to)));
        lost.into_iter().for_each(|letter| self.lose(letter));
    }

    /// Loses nothing any more.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Takes what is under way and fits, out of the network: it is lost unless the test delivers it.
    pub fn intercept(&mut self, fits: impl Fn(&Letter) -> bool) -> Vec<Letter> {
        let letters = std::mem::take(&mut self.letters).into_iter();
        let (taken, kept): (Vec<Letter>, Vec<Letter>) = letters.partition(|letter| fits(letter));
        self.letters = kept.into();
        taken
    }

    /// Loses everything that is under way.
    pub fn lose_all(&mut self) {
        let lost = self.intercept(|_| true);
        lost.into_iter().for_each(|letter| self.lose(letter));
    }

    /// Hands a letter over, be it the first time or not.
    pub fn deliver(&mut self, letter: Letter) {
        let is_there = self.nodes.get(&letter.to).is_some_and(Node::is_alive);
        let is_lost = !is_there || self.cut.contains(&(letter.from, letter.to));
        self.arrive(letter, is_lost);
    }

    /// The letter does not arrive. Whoever sends a snapshot learns of it.
    pub fn lose(&mut self, letter: Letter) {
        self.arrive(letter, true);
    }

    fn arrive(&mut self, letter: Letter, is_lost: bool) {
        let Letter { from, to, what } = letter;
        match what {
            What::Message(message) if !is_lost => self.receive(to, from, message),
            What::Message(_) => {}
            What::Snapshot { id, .. } if is_lost => {
                self.step(from, Input::SnapshotSent { id, response: None });
            }
            What::Snapshot { id, request: snapshot, image } => {
                let request = self.request();
                self.node_mut(to).arrivals.insert(request, Arrival { from, id, image: *image });
                self.step(to, Input::InstallSnapshot { request, snapshot });
            }
            What::SnapshotAnswer { id, response } => {
                let response = if is_lost { None } else { response };
                self.step(to, Input::SnapshotSent { id, response });
            }
        }
    }

    /// Sends a letter that was taken off its way, behind all others.
    pub fn put_back(&mut self, letter: Letter) {
        self.letters.push_back(letter);
    }

    /// Takes what was sent first out of the network.
    pub fn take_oldest(&mut self) -> Option<Letter> {
        self.letters.pop_front()
    }

    /// Delivers what was sent first, if there is anything.
    pub fn deliver_oldest(&mut self) {
        if let Some(letter) = self.letters.pop_front() {
            self.deliver(letter);
        }
    }

    /// A message of `from` arrives at `to`, whether anybody has sent it or not.
    pub fn receive(&mut self, to: u64, from: u64, message: Message<Test>) {
        self.step(to, Input::Receive { from, message });
    }

    /// Delivers everything that is under way, and what follows from it, until nothing is. No time passes.
    pub fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// As [`settle`](Self::settle), but loses what fits.
    pub fn settle_but(&mut self, is_lost: impl Fn(&Letter) -> bool) {
        for _ in 0..100_000 {
            let Some(letter) = self.letters.pop_front() else { return };
            if is_lost(&letter) {
                self.lose(letter);
            } else {
                self.deliver(letter);
            }
        }
        panic!("the nodes talk without end: {:#?}", self.letters);
    }
}
