//! Raft inside an event loop of one's own: three engines in one thread, without the driver, a runtime or async.
//! `cargo run -p embedded` tells what happens.
//!
//! [`Node`] carries out what its engine asks for. What stands here is the application: a loop that knows three kinds of
//! events (a letter arrives, a disk has done a write, a deadline passes) and the story that it plays.

mod node;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use node::{Disk, Node, Sum, What};
use openconsensus::engine::{Input, Reply, RequestId};
use openconsensus::{LeaderHint, MembershipChange, RoleName};

/// A letter is under way for so long.
const LATENCY: Duration = Duration::from_millis(1);

struct Application {
    /// Time is an argument of everything that an engine does, so any clock will do. This one jumps to the next event
    /// instead of waiting for it.
    now: Instant,
    nodes: BTreeMap<u64, Node>,
    /// When it is due, from whom, to whom, what. A network may lose letters, repeat them and let them overtake each other.
    letters: VecDeque<(Instant, u64, u64, What)>,
    requests: u64,
}

impl Application {
    /// One turn of the event loop.
    fn turn(&mut self) {
        // When something happens next. A loop with sockets and files would poll them until then.
        let letter = self.letters.front().map(|(due, ..)| *due);
        let next = letter.into_iter().chain(self.nodes.values().filter_map(Node::next_event)).min();
        let now = next.expect("an engine has a deadline").max(self.now);
        self.now = now;
        // First everything that has happened, however much it is ...
        let due = self.letters.partition_point(|(due, ..)| *due <= now);
        for (_, from, to, what) in self.letters.drain(..due).collect::<Vec<_>>() {
            if let Some(node) = self.nodes.get_mut(&to) {
                node.receive(now, from, what);
            } else if let (What::Snapshot { id, .. }, Some(sender)) = (what, self.nodes.get_mut(&from)) {
                // Whoever sends a snapshot must learn that it did not arrive, be it by a deadline. Messages may be lost.
                sender.engine.step(now, Input::SnapshotSent { id, response: None });
            }
        }
        self.nodes.values_mut().for_each(|node| node.look_at_disk_and_clock(now));
        // ... then what is to be done about all of it: at most one write to the disk for each node.
        for (from, node) in &mut self.nodes {
            for (to, what) in node.carry_out(now) {
                self.letters.push_back((now + LATENCY, *from, to, what));
            }
        }
    }

    /// Takes turns until `look` finds something.
    fn until<T>(&mut self, what: &str, look: impl Fn(&BTreeMap<u64, Node>) -> Option<T>) -> T {
        let deadline = self.now + Duration::from_secs(10);
        loop {
            if let Some(found) = look(&self.nodes) {
                return found;
            }
            assert!(self.now < deadline, "still waiting for {what}");
            self.turn();
        }
    }

    /// Steps an engine with a request, and takes turns until it is answered.
    fn ask(&mut self, id: u64, input: impl FnOnce(RequestId) -> Input<Sum>) -> Reply<Sum> {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.nodes.get_mut(&id).expect("it runs").engine.step(self.now, input(request));
        self.until("a reply", |nodes| nodes[&id].replies.get(&request).cloned())
    }

    /// Adds `number` and returns the sum, or says where to ask instead.
    fn add(&mut self, id: u64, number: u64) -> Result<u64, Option<LeaderHint<Sum>>> {
        match self.ask(id, |request| Input::Write { request, commands: vec![number] }) {
            // It is in the log of the leader. What becomes of it shows when this index is applied: another entry there
            // would mean that it never happens.
            Reply::Appended { first } => {
                let sum = self.until("the entry", |nodes| nodes[&id].sum_at(first));
                Ok(sum.expect("nothing disturbs the leader"))
            }
            Reply::NotLeader { leader } => Err(leader),
            other => panic!("a write is answered by {other:?}"),
        }
    }

    /// Reads linearizably, at any node.
    fn read(&mut self, id: u64) -> u64 {
        match self.ask(id, |request| Input::Read { request }) {
            // Once so much is applied here, every write is seen that was acknowledged before the question.
            Reply::ReadReady { index } => self.until("the state", |nodes| nodes[&id].sum_from(index)),
            other => panic!("a read is answered by {other:?}"),
        }
    }

    fn change(&mut self, id: u64, change: MembershipChange<Sum>) {
        let reply = self.ask(id, |request| Input::ChangeMembership { request, change, expected: None });
        assert!(matches!(reply, Reply::MembershipChanged { .. }), "{reply:?}");
    }

    /// Waits for a leader that has applied an entry of its own term.
    fn leader(&mut self) -> u64 {
        self.until("a leader", |nodes| {
            let mut engines = nodes.iter().map(|(id, node)| (*id, &node.engine));
            engines.find_map(|(id, engine)| {
                let leads = engine.role() == RoleName::Leader && engine.applied().term == engine.term();
                leads.then_some(id)
            })
        })
    }

    /// Everything is lost but the disk.
    fn crash(&mut self, id: u64) -> Disk {
        self.nodes.remove(&id).expect("it runs").disk
    }

    fn start(&mut self, id: u64, disk: Disk) {
        self.requests += 1;
        // The seed of its election timeouts must differ from node to node and from start to start.
        self.nodes.insert(id, Node::start(id, self.requests, disk, self.now));
    }
}

/// Plays the story and returns what there is to tell.
fn play() -> Vec<String> {
    let mut told = Vec::new();
    let (nodes, letters) = (BTreeMap::new(), VecDeque::new());
    let mut app = Application { now: Instant::now(), nodes, letters, requests: 0 };
    (1..=3).for_each(|id| app.start(id, Disk::default()));
    let voters = (1..=3).map(|id| (id, ())).collect();
    let begun = app.ask(1, |request| Input::Initialize { request, nodes: voters });
    assert!(matches!(begun, Reply::Initialized), "{begun:?}");
    let leader = app.leader();
    told.push(format!("node {leader} leads"));

    (1..=10).for_each(|number| assert!(app.add(leader, number).is_ok()));
    let follower = 1 + leader % 3;
    let refused = app.add(follower, 1);
    assert!(matches!(&refused, Err(Some(hint)) if hint.id == leader), "{refused:?}");
    told.push(format!("node {follower} follows and reads {}", app.read(follower)));
    let early = app.nodes[&leader].sent_before_durable;
    told.push(format!("{early} messages left the leader before its own disk had what they carry"));

    // A follower is lost, and comes back when the log begins behind what it has: it is sent a snapshot.
    let disk = app.crash(follower);
    (1..=100).for_each(|_| assert!(app.add(leader, 1).is_ok()));
    app.start(follower, disk);
    app.until("the snapshot", |nodes| {
        (nodes[&follower].engine.counters().snapshots_installed == 1).then_some(())
    });
    told.push(format!("node {follower} comes back, is sent a snapshot and reads {}", app.read(follower)));

    // A fourth node comes, first as a learner. Then it takes the place of the follower: two voters change at once, so
    // the cluster goes through a joint membership.
    app.start(4, Disk::default());
    app.change(leader, MembershipChange::AddLearners([(4, ())].into()));
    app.until("the learner", |nodes| {
        let engine = &nodes[&leader].engine;
        (engine.matched(4)? == engine.last().index).then_some(())
    });
    app.change(leader, MembershipChange::SetVoters((1..=4).filter(|id| *id != follower).collect()));
    app.crash(follower);
    told.push(format!("node 4 votes in place of node {follower}"));

    // The leader is lost. The others elect another, and it comes back with what its log holds.
    let disk = app.crash(leader);
    let next = app.leader();
    app.add(next, 1).expect("it leads");
    app.start(leader, disk);
    told.push(format!(
        "node {next} leads when node {leader} is lost, which comes back and reads {}",
        app.read(leader)
    ));
    told
}

fn main() {
    play().iter().for_each(|line| println!("{line}"));
}

#[cfg(test)]
mod tests {
    /// The sum of the first ten writes is 55; a hundred ones follow, and one more.
    #[test]
    fn the_story_is_told_to_its_end() {
        let told = super::play();
        assert_eq!(told.len(), 6);
        for (line, end) in [(1, "reads 55"), (3, "reads 155"), (5, "reads 156")] {
            assert!(told[line].ends_with(end), "{}", told[line]);
        }
        assert!(!told[2].starts_with("0 "), "{}", told[2]);
    }
}
