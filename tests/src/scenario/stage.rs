//! Where a script is played: the cluster, what is held back, and what has changed since the last line of output.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openconsensus::engine::RequestId;
use openconsensus::{Config, Membership, Payload};

use crate::engines::{Cluster, Letter, Outcome, Test};

use super::changes::{self, View};
use super::commands::COMMANDS;
use super::show;
use super::words::{Members, Result, Words, distance, wrong};

/// A request of a client.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) what: String,
    /// Its outcome is told apart from its answer.
    pub(super) is_write: bool,
}

/// What was printed already.
#[derive(Clone, Debug, Default)]
struct Seen {
    nodes: BTreeMap<u64, View>,
    under_way: Vec<String>,
    answered: BTreeSet<RequestId>,
    outcomes: BTreeMap<RequestId, Outcome>,
}

/// The state of a script between its commands.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) config: Config,
    /// When the script began, on the clock of the cluster.
    pub(super) start: Instant,
    /// The membership that logs begin with.
    pub(super) members: Membership<Test>,
    /// Links that are cut.
    pub(super) cuts: BTreeSet<(u64, u64)>,
    /// Taken off their way until they are released.
    pub(super) held: Vec<Letter>,
    /// Nodes whose disk has failed for good.
    pub(super) failed: BTreeSet<u64>,
    pub(super) requests: Vec<Request>,
    /// Nodes that start together with the next command that is not about them: only together do they make sense.
    pub(super) placed: BTreeSet<u64>,
    seen: Seen,
    /// What the command under way has printed.
    pub(super) lines: Vec<String>,
}

/// Whether messages that have been sent are printed when they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Shown,
    Silent,
}

impl Stage {
    pub(super) fn new() -> Self {
        let config = Config::default();
        let cluster = Cluster::empty(config.clone());
        Self {
            start: cluster.now,
            cluster,
            config,
            members: Membership::default(),
            cuts: BTreeSet::new(),
            held: Vec::new(),
            failed: BTreeSet::new(),
            requests: Vec::new(),
            placed: BTreeSet::new(),
            seen: Seen::default(),
            lines: Vec::new(),
        }
    }

    /// Carries out one command, and returns what it prints: never nothing.
    pub(super) fn play(&mut self, text: &str) -> Result<Vec<String>> {
        let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
        let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
            return unknown(name);
        };
        if !command.is_setup {
            self.start_placed();
        }
        let mut words = Words::of(rest, command.usage);
        (command.play)(self, &mut words)?;
        words.end()?;
        self.report(0, Sent::Shown);
        if self.lines.is_empty() {
            self.lines.push("nothing changes".to_string());
        }
        Ok(std::mem::take(&mut self.lines))
    }

    fn start_placed(&mut self) {
        let placed = std::mem::take(&mut self.placed);
        for id in &placed {
            self.cluster.restart(*id);
        }
        for id in placed {
            self.seen.nodes.insert(id, View::of(&self.cluster, id));
        }
    }

    pub(super) fn print(&mut self, indent: usize, line: impl AsRef<str>) {
        self.lines.push(format!("{:indent$}{}", "", line.as_ref()));
    }

    /// Prints what has changed since it was last asked for.
    pub(super) fn report(&mut self, indent: usize, sent: Sent) {
        let ids = self.cluster.nodes.keys().copied().filter(|id| !self.placed.contains(id));
        for id in ids.collect::<Vec<_>>() {
            let view = View::of(&self.cluster, id);
            for line in changes::lines(&self.cluster, id, self.seen.nodes.get(&id), &view) {
                self.print(indent, line);
            }
            self.seen.nodes.insert(id, view);
        }
        let under_way: Vec<String> = self.cluster.letters().map(show::letter).collect();
        if sent == Sent::Shown {
            let (new, gone) = news(&self.seen.under_way, &under_way);
            for line in gone {
                self.print(indent, format!("{line} is given up"));
            }
            for line in new {
                self.print(indent, line);
            }
        }
        self.seen.under_way = under_way;
        self.report_requests(indent);
    }

    /// Takes over what is under way without printing it: the caller has said it.
    pub(super) fn overlook_letters(&mut self) {
        self.seen.under_way = self.cluster.letters().map(show::letter).collect();
    }

    fn report_requests(&mut self, indent: usize) {
        let mut lines = Vec::new();
        for request in &self.requests {
            let Some(reply) = self.cluster.reply(request.id) else { continue };
            if self.seen.answered.insert(request.id) {
                lines.push(format!("r{} {}", request.id.0, show::reply(reply)));
            }
            if !request.is_write {
                continue;
            }
            let outcome = self.cluster.outcome(request.id);
            if self.seen.outcomes.insert(request.id, outcome) != Some(outcome) {
                match outcome {
                    Outcome::Applied => lines.push(format!("r{} is committed", request.id.0)),
                    Outcome::Dropped => {
                        lines.push(format!("r{} is lost: another entry stands there", request.id.0));
                    }
                    Outcome::Open | Outcome::NotLeader | Outcome::Busy => {}
                }
            }
        }
        for line in lines {
            self.print(indent, line);
        }
    }

    /// Remembers a request, so that its answer is printed.
    pub(super) fn ask(&mut self, id: RequestId, what: String) {
        self.requests.push(Request { id, what, is_write: false });
    }

    /// Remembers a write, so that its answer and its outcome are printed.
    pub(super) fn ask_to_write(&mut self, id: RequestId, what: String) {
        self.requests.push(Request { id, what, is_write: true });
    }

    // ---- nodes that a command names

    /// A node that there is.
    pub(super) fn existing(&self, id: u64) -> Result<u64> {
        if self.cluster.nodes.contains_key(&id) {
            return Ok(id);
        }
        let known: BTreeSet<u64> = self.cluster.nodes.keys().copied().collect();
        let right = match known.is_empty() {
            true => "begin with `nodes 1..3`".to_string(),
            false => format!("nodes are {}", show::set(&known)),
        };
        wrong(format!("there is no node {id}"), right)
    }

    /// A node that lives.
    pub(super) fn living(&self, words: &mut Words<'_>) -> Result<u64> {
        let id = self.existing(words.number("a node")?)?;
        if self.cluster.node(id).is_alive() {
            return Ok(id);
        }
        wrong(format!("node {id} is down"), format!("`restart {id}` before"))
    }

    /// All nodes that are named, or all there are.
    pub(super) fn named_or_all(&self, words: &mut Words<'_>) -> Result<Vec<u64>> {
        if words.is_empty() {
            return Ok(self.cluster.nodes.keys().copied().collect());
        }
        let ids = words.numbers("a node")?;
        ids.into_iter().map(|id| self.existing(id)).collect()
    }

    /// Milliseconds since the script began.
    pub(super) fn elapsed(&self) -> u128 {
        self.cluster.now.duration_since(self.start).as_millis()
    }

    pub(super) fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }
}

/// The membership that a script writes.
pub(super) fn membership_of(members: &Members) -> Result<Membership<Test>> {
    let nodes = crate::engines::nodes(members.all());
    if members.outgoing.is_empty() {
        return Ok(Membership::new(members.voters.clone(), nodes).expect("every voter is a member"));
    }
    if members.voters.symmetric_difference(&members.outgoing).count() < 2 {
        return wrong(
            "a joint membership whose voters differ in less than two nodes",
            "one voter changes in one step: write the membership that it leads to",
        );
    }
    // Only an engine makes joint memberships, so one is asked: it leads the outgoing voters.
    let before = Membership::new(members.outgoing.clone(), nodes).expect("every voter is a member");
    let mut cluster = Cluster::empty(Config::default());
    for id in members.all() {
        let mut log = crate::engines::log_of(1, &[1]);
        log[0].payload = Payload::Membership(before.clone());
        let state = openconsensus::HardState { term: 1, voted_for: None, commit: 1 };
        cluster.place(id, crate::engines::Disk::new(state, log));
    }
    members.all().into_iter().for_each(|id| cluster.restart(id));
    let leader = *members.outgoing.first().expect("there are outgoing voters");
    cluster.elect(leader);
    cluster.run(Config::default().heartbeat_interval_ms);
    cluster.change(leader, openconsensus::MembershipChange::SetVoters(members.voters.clone()));
    Ok(cluster.membership(leader))
}

/// What is new in `now`, and what is gone from `before`. Both keep their order, and what is new stands behind.
fn news(before: &[String], now: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut new, mut gone) = (Vec::new(), Vec::new());
    let mut old = before.iter();
    for line in now {
        loop {
            match old.next() {
                Some(known) if known == line => break,
                Some(known) => gone.push(known.clone()),
                None => {
                    new.push(line.clone());
                    break;
                }
            }
        }
    }
    gone.extend(old.cloned());
    (new, gone)
}

fn unknown<T>(name: &str) -> Result<T> {
    let nearest = COMMANDS.iter().min_by_key(|command| distance(name, command.name));
    let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
    let right = match nearest.filter(|command| distance(name, command.name) <= 2) {
        Some(command) => format!("did you mean `{}`?", command.name),
        None => format!("commands are {}", names.join(", ")),
    };
    wrong(format!("`{name}` is not a command"), right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_from_what_is_gone() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        assert_eq!(news(&words("a b c"), &words("a c d")), (words("d"), words("b")));
        assert_eq!(news(&words("a"), &words("a a")), (words("a"), vec![]));
    }

    #[test]
    fn joint_memberships_can_be_written() {
        let members = Members::parse("{3,4,5 & 1,2,3 +6}").unwrap();
        let membership = membership_of(&members).unwrap();
        assert_eq!(show::membership(&membership), "{3,4,5 & 1,2,3 +6}");
        assert!(membership_of(&Members::parse("{1,2 & 1,2,3}").unwrap()).is_err());
    }
}
