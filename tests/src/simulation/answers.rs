//! The clients: what they have asked, what they were told, and whether that is true.

use std::collections::{BTreeMap, VecDeque};

use openconsensus::engine::{Reply, RequestId};
use openconsensus::{ChangeMembershipError, Index, LogId, Payload, Term};

use super::coverage::{Count, Coverage};
use crate::engines::{Oracle, Test, number_of, sized_command};

/// What a client knows of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing yet.
    Open,
    /// It was applied.
    Applied,
    /// It was not appended, and never will be.
    Refused,
    /// It was appended, and will never be applied.
    Dropped,
    /// Nobody can tell.
    Unknown,
}

/// A question that the engine has not answered.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Write {
        first: u64,
        count: u64,
    },
    /// What was committed anywhere when it was asked.
    Read {
        floor: Index,
    },
    Change,
    /// In which term it was asked, and who is to lead.
    Transfer {
        term: Term,
        target: Option<u64>,
    },
    Snapshot,
    Purge,
    Initialize,
    ForgetLeader,
}

/// A command that was appended and whose outcome is open.
#[derive(Clone, Copy, Debug)]
struct Appended {
    id: LogId,
    command: u64,
}

/// A read whose index is known and not applied yet.
#[derive(Clone, Copy, Debug)]
struct Reader {
    index: Index,
    floor: Index,
    until_us: u64,
}

/// The clients of one node.
#[derive(Clone, Debug, Default)]
struct Clients {
    appended: VecDeque<Appended>,
    /// Until when commands of an earlier leadership are waited for.
    orphans_until_us: Option<u64>,
    readers: Vec<Reader>,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Answers {
    /// By the number of the command.
    fates: Vec<Fate>,
    /// Where each command is committed, by its number.
    committed_at: Vec<Index>,
    asked: BTreeMap<RequestId, (u64, Asked)>,
    clients: Vec<Clients>,
    last_request: u64,
    outcome_timeout_us: u64,
    read_timeout_us: u64,
    /// Wrong on purpose: a command counts as applied when anything is applied at its index.
    pub(super) by_index_only: bool,
    /// Wrong on purpose: a read is served without asking anybody.
    pub(super) reads_at_once: bool,
}

impl Answers {
    pub(super) fn new(nodes: usize, outcome_timeout_us: u64, read_timeout_us: u64) -> Self {
        Self {
            fates: Vec::new(),
            committed_at: Vec::new(),
            asked: BTreeMap::new(),
            clients: vec![Clients::default(); nodes + 1],
            last_request: 0,
            outcome_timeout_us,
            read_timeout_us,
            by_index_only: false,
            reads_at_once: false,
        }
    }

    /// A name for a request that no client waits for.
    pub(super) fn request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    fn ask(&mut self, node: u64, asked: Asked) -> RequestId {
        let request = self.request();
        self.asked.insert(request, (node, asked));
        request
    }

    /// A client of `node` writes so many commands of up to `bytes_max`. No two commands are equal.
    pub(super) fn write(&mut self, node: u64, count: u64, bytes_max: u64) -> (RequestId, Vec<u64>) {
        let first = self.fates.len() as u64;
        self.fates.resize((first + count) as usize, Fate::Open);
        self.committed_at.resize((first + count) as usize, 0);
        let command = |number: u64| sized_command(number, number.wrapping_mul(7_919) % bytes_max);
        (self.ask(node, Asked::Write { first, count }), (first..first + count).map(command).collect())
    }

    /// A client of `node` reads, when everything up to `floor` is known to be committed.
    pub(super) fn read(
        &mut self,
        node: u64,
        floor: Index,
        applied: Index,
        coverage: &mut Coverage,
    ) -> RequestId {
        if self.reads_at_once {
            assert_fresh(node, floor, applied);
            coverage.add(Count::ReadsServed);
        }
        self.ask(node, Asked::Read { floor })
    }

    pub(super) fn change(&mut self, node: u64) -> RequestId {
        self.ask(node, Asked::Change)
    }

    pub(super) fn transfer(&mut self, node: u64, term: Term, target: Option<u64>) -> RequestId {
        self.ask(node, Asked::Transfer { term, target })
    }

    pub(super) fn build_snapshot(&mut self, node: u64) -> RequestId {
        self.ask(node, Asked::Snapshot)
    }

    pub(super) fn purge_log(&mut self, node: u64) -> RequestId {
        self.ask(node, Asked::Purge)
    }

    pub(super) fn initialize(&mut self, node: u64) -> RequestId {
        self.ask(node, Asked::Initialize)
    }

    pub(super) fn forget_leader(&mut self, node: u64) -> RequestId {
        self.ask(node, Asked::ForgetLeader)
    }

    /// The engine of `node` answers at `now_us` of its clock.
    pub(super) fn on_reply(
        &mut self,
        request: RequestId,
        reply: &Reply<Test>,
        now_us: u64,
        oracle: &Oracle,
        coverage: &mut Coverage,
    ) {
        let (node, asked) =
            self.asked.remove(&request).unwrap_or_else(|| panic!("{request:?} is answered twice: {reply:?}"));
        match (asked, reply) {
            (Asked::Write { first, count }, Reply::Appended { first: at }) => {
                let clients = &mut self.clients[node as usize];
                clients.appended.extend((0..count).map(|place| Appended {
                    id: LogId::new(at.term, at.index + place),
                    command: first + place,
                }));
            }
            (Asked::Write { first, count }, Reply::NotLeader { .. }) => {
                coverage.add_many(Count::WritesRefused, count);
                (first..first + count).for_each(|command| self.never(command, Fate::Refused));
            }
            (Asked::Write { first, count }, Reply::Busy { bytes, limit }) => {
                assert!(limit <= bytes, "node {node} is busy with {bytes} bytes, {limit} are allowed");
                coverage.add_many(Count::WritesBusy, count);
                (first..first + count).for_each(|command| self.never(command, Fate::Refused));
            }
            (Asked::Read { floor }, Reply::ReadReady { index }) => {
                assert!(
                    floor <= *index,
                    "a read at {index} on node {node}, but {floor} was committed when it was asked for"
                );
                let until_us = now_us + self.read_timeout_us;
                self.clients[node as usize].readers.push(Reader { index: *index, floor, until_us });
            }
            (Asked::Read { .. }, Reply::ReadFailed { .. }) => coverage.add(Count::ReadsFailed),
            (Asked::Change, Reply::MembershipChanged { log_id }) => {
                check_changed(*log_id, oracle);
                coverage.add(Count::ChangesDone);
            }
            (Asked::Change, Reply::ChangeMembershipFailed(ChangeMembershipError::Unknown { .. })) => {
                coverage.add(Count::ChangesUnknown);
            }
            (Asked::Change, Reply::ChangeMembershipFailed(_)) => coverage.add(Count::ChangesRefused),
            (Asked::Transfer { term, target }, Reply::Transferred { leader }) => {
                assert!(
                    target.is_none_or(|target| target == *leader),
                    "a transfer to {target:?} is done, it is said, but node {leader} leads"
                );
                let has_led = oracle.latest_leader().is_some_and(|(latest, _)| {
                    (term..=latest).any(|term| oracle.leader_of(term) == Some(*leader))
                });
                assert!(has_led, "a transfer of term {term} is done, but node {leader} has not led since");
                coverage.add(Count::TransfersDone);
            }
            (Asked::Transfer { .. }, Reply::TransferFailed(_)) => coverage.add(Count::TransfersFailed),
            (Asked::Snapshot, Reply::SnapshotBuilt(meta)) => {
                let last = meta.last;
                assert_eq!(oracle.committed_at(last.index), Some(last), "a snapshot ends with {last}");
            }
            (Asked::Purge, Reply::LogPurged { .. } | Reply::PurgeFailed(_))
            | (Asked::Snapshot, Reply::SnapshotFailed(_))
            | (Asked::Initialize, Reply::Initialized | Reply::InitializeFailed(_)) => {}
            (Asked::ForgetLeader, Reply::LeaderForgotten) => coverage.add(Count::LeadersForgotten),
            (Asked::ForgetLeader, Reply::ForgetLeaderFailed(_)) => coverage.add(Count::LeadersKept),
            (asked, reply) => panic!("node {node} answers {asked:?} with {reply:?}"),
        }
    }

    /// The state machine of `node` has applied the entries from `first` on, each with whether it carries a command.
    pub(super) fn on_applied(&mut self, node: u64, applied: &[LogId], coverage: &mut Coverage) {
        let (Some(first), Some(last)) = (applied.first(), applied.last()) else { return };
        let mut open = std::mem::take(&mut self.clients[node as usize].appended);
        let mut superseded = Vec::new();
        open.retain(|appended| {
            if last.index < appended.id.index {
                return true;
            }
            let is_it = applied
                .get((appended.id.index - first.index) as usize)
                .is_some_and(|id| *id == appended.id || self.by_index_only);
            if is_it {
                self.applied(appended.command);
                coverage.add(Count::WritesApplied);
            } else {
                superseded.push(appended.id);
                coverage.add(Count::WritesDropped);
                self.never(appended.command, Fate::Dropped);
            }
            false
        });
        // What the same leader has put behind an entry that is superseded will never be committed either.
        open.retain(|appended| {
            let is_lost = superseded.iter().any(|id| id.term == appended.id.term);
            if is_lost {
                coverage.add(Count::WritesDropped);
                self.never(appended.command, Fate::Dropped);
            }
            !is_lost
        });
        self.clients[node as usize].appended = open;
        self.serve(node, last.index, coverage);
    }

    fn serve(&mut self, node: u64, applied: Index, coverage: &mut Coverage) {
        self.clients[node as usize].readers.retain(|reader| {
            if applied < reader.index {
                return true;
            }
            assert_fresh(node, reader.floor, applied);
            coverage.add(Count::ReadsServed);
            false
        });
    }

    /// Readers of `node` whose entry had been applied before their answer came are served.
    pub(super) fn serve_ready(&mut self, node: u64, applied: Index, coverage: &mut Coverage) {
        if !self.clients[node as usize].readers.is_empty() {
            self.serve(node, applied, coverage);
        }
    }

    /// A snapshot has taken the place of the entries up to `last`: whether it contains a command nobody can tell.
    pub(super) fn on_installed(&mut self, node: u64, last: Index, coverage: &mut Coverage) {
        let mut open = std::mem::take(&mut self.clients[node as usize].appended);
        open.retain(|appended| last < appended.id.index || self.unknown(appended.command, coverage));
        self.clients[node as usize].appended = open;
        self.serve(node, last, coverage);
    }

    /// Answers those who have waited long enough, at `now_us` of the node's clock.
    pub(super) fn expire(&mut self, node: u64, now_us: u64, leads_in: Option<Term>, coverage: &mut Coverage) {
        let clients = &mut self.clients[node as usize];
        if !clients.readers.is_empty() {
            let before = clients.readers.len();
            clients.readers.retain(|reader| now_us < reader.until_us);
            coverage.add_many(Count::ReadsFailed, (before - clients.readers.len()) as u64);
        }
        let Some(oldest) = clients.appended.front() else {
            clients.orphans_until_us = None;
            return;
        };
        if Some(oldest.id.term) == leads_in {
            clients.orphans_until_us = None;
            return;
        }
        let until_us = *clients.orphans_until_us.get_or_insert(now_us + self.outcome_timeout_us);
        if until_us <= now_us {
            clients.orphans_until_us = None;
            let mut open = std::mem::take(&mut clients.appended);
            open.retain(|appended| {
                Some(appended.id.term) == leads_in || self.unknown(appended.command, coverage)
            });
            self.clients[node as usize].appended = open;
        }
    }

    /// Whoever has asked `node` gets no answer any more.
    pub(super) fn on_crash(&mut self, node: u64, coverage: &mut Coverage) {
        let clients = std::mem::take(&mut self.clients[node as usize]);
        coverage.add_many(Count::ReadsFailed, clients.readers.len() as u64);
        for appended in clients.appended {
            self.unknown(appended.command, coverage);
        }
        let lost: Vec<_> = self.asked.extract_if(.., |_, (asked, _)| *asked == node).collect();
        for (_, (_, asked)) in lost {
            match asked {
                Asked::Write { first, count } => {
                    for command in first..first + count {
                        self.unknown(command, coverage);
                    }
                }
                Asked::Read { .. } => coverage.add(Count::ReadsFailed),
                Asked::Change
                | Asked::Transfer { .. }
                | Asked::Snapshot
                | Asked::Purge
                | Asked::Initialize
                | Asked::ForgetLeader => {}
            }
        }
    }

    /// An entry is committed for the first time anywhere.
    pub(super) fn on_committed(&mut self, id: LogId, payload: &Payload<Test>) {
        let Payload::Command(command) = payload else { return };
        let command = number_of(*command);
        let place = command as usize;
        let fate = self.fates[place];
        assert!(
            !matches!(fate, Fate::Refused | Fate::Dropped),
            "command {command} is committed at {id}, but its client was told {fate:?}"
        );
        let before = std::mem::replace(&mut self.committed_at[place], id.index);
        assert_eq!(before, 0, "command {command} is committed twice, at {id} too");
    }

    /// Who still waits: nobody, when a cluster is at rest.
    pub(super) fn waiting(&self) -> Vec<String> {
        let asked = self.asked.values().map(|(node, asked)| format!("{asked:?} on node {node}"));
        let clients = (0..).zip(&self.clients).flat_map(|(node, clients)| {
            let appended = clients.appended.iter();
            let readers = clients.readers.iter();
            appended
                .map(move |appended| format!("{appended:?} on node {node}"))
                .chain(readers.map(move |reader| format!("{reader:?} on node {node}")))
        });
        asked.chain(clients).collect()
    }

    fn applied(&mut self, command: u64) {
        let committed_at = self.committed_at[command as usize];
        assert!(0 < committed_at, "a client was told that command {command} is applied; it is not committed");
        self.decide(command, Fate::Applied);
    }

    fn never(&mut self, command: u64, fate: Fate) {
        let committed_at = self.committed_at[command as usize];
        assert_eq!(committed_at, 0, "command {command} is committed, but its client is told {fate:?}");
        self.decide(command, fate);
    }

    /// Returns false: it is not waited for any more.
    fn unknown(&mut self, command: u64, coverage: &mut Coverage) -> bool {
        coverage.add(Count::WritesUnknown);
        self.decide(command, Fate::Unknown);
        false
    }

    fn decide(&mut self, command: u64, fate: Fate) {
        let before = std::mem::replace(&mut self.fates[command as usize], fate);
        assert_eq!(before, Fate::Open, "command {command} is answered twice, now {fate:?}");
    }
}

/// Linearizability of reads: whatever was committed when one was asked for is seen by it.
fn assert_fresh(node: u64, floor: Index, applied: Index) {
    assert!(floor <= applied, "a read on node {node} sees {applied}, but {floor} was committed before");
}

fn check_changed(log_id: LogId, oracle: &Oracle) {
    assert_eq!(oracle.committed_at(log_id.index), Some(log_id), "a change is answered as done at {log_id}");
    let is_final =
        matches!(oracle.payload_of(log_id), Some(Payload::Membership(membership)) if !membership.is_joint());
    assert!(is_final, "a change is answered as done at {log_id}, which is no membership or a joint one");
}
