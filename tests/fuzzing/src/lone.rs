//! One engine whose peers say anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use openconsensus::engine::{
    Effects, Engine, Input, LogReadId, LogWrite, RequestId, SnapshotEffect, SnapshotId, WriteId,
};
use openconsensus::{
    AppendResult, AppliedState, Body, Config, Entries, Entry, HardState, InstallSnapshot,
    InstallSnapshotResponse, LogId, Membership, MembershipAt, MembershipChange, Message, Payload, RoleName,
    SnapshotMeta, Term, TransferAnswer, TransferRefusal, VoteKind,
};
use openconsensus_tests::engines::{Disk, Test, log_of, nodes};

use crate::bytes_in::BytesIn;
use openconsensus_tests::panics::{self, Caught};

const ME: u64 = 1;

/// Texts of panics by which an engine says that somebody has broken Raft.
const CONTRADICTIONS: &[&str] = &["both lead in term", "has another entry where"];

struct Lone {
    engine: Engine<Test>,
    now: Instant,
    disk: Disk,
    writes: VecDeque<LogWrite<Test>>,
    applied: AppliedState<Test>,
    building: Vec<SnapshotId>,
    installing: Vec<(SnapshotId, InstallSnapshot<Test>)>,
    sending: Vec<SnapshotId>,
    reading: Vec<LogReadId>,
    /// Who has claimed to lead, by term: one node in each, as elections have it.
    claims: BTreeMap<Term, u64>,
    led: BTreeSet<Term>,
    requests: u64,
}

pub(crate) fn run(input: &mut BytesIn<'_>) {
    let choice = input.byte();
    let config = Config {
        pre_vote: choice & 1 == 0,
        check_quorum: choice & 2 == 0,
        snapshot_after_entries: (choice & 4 == 0).then_some(3),
        log_keep_entries: 0,
        tail_bytes_max: if choice & 8 == 0 { 0 } else { 1 << 20 },
        ..Config::default()
    };
    let now = Instant::now();
    let terms = &[1, 1, 2, 2, 4][..1 + input.below(5) as usize];
    let term = terms.last().copied().unwrap_or_default();
    let disk = Disk::new(HardState { term, voted_for: None, commit: 1 }, log_of(3, terms));
    let applied = AppliedState::default();
    let recovered = disk.recover(ME, 7, applied.clone(), LogId::ZERO);
    let config = config.validate().expect("the configuration is valid");
    let engine = Engine::new(config, recovered, now).expect("the disk is in order");
    let mut lone = Lone {
        engine,
        now,
        disk,
        writes: VecDeque::new(),
        applied,
        building: Vec::new(),
        installing: Vec::new(),
        sending: Vec::new(),
        reading: Vec::new(),
        claims: BTreeMap::new(),
        led: BTreeSet::new(),
        requests: 0,
    };
    let run = || {
        while !input.is_empty() {
            lone.happen(input);
        }
    };
    if let Err(Caught { message, place }) = panics::catch(run) {
        let is_known = CONTRADICTIONS.iter().any(|known| message.contains(known));
        assert!(is_known, "{place}: {message}");
    }
}

/// What operators may ask of elections.
fn operate(input: &mut BytesIn<'_>, request: RequestId) -> Input<Test> {
    match input.below(8) {
        0 => Input::PauseElections { paused: true },
        1 => Input::PauseElections { paused: false },
        2 => Input::PauseHeartbeats { paused: true },
        3 => Input::PauseHeartbeats { paused: false },
        4 => Input::ForgetLeader { request },
        _ => Input::Campaign,
    }
}

impl Lone {
    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn happen(&mut self, input: &mut BytesIn<'_>) {
        let request = self.request();
        let event = match input.below(24) {
            0..=9 => self.message(input),
            10 => Some(Input::Timeout),
            11 => {
                self.now += Duration::from_millis(input.below(256) * 2);
                Some(Input::Timeout)
            }
            12 => Some(operate(input, request)),
            13 => Some(Input::Write { request, commands: (0..=input.below(3)).collect() }),
            14 => Some(Input::Read { request }),
            15 => Some(Input::ChangeMembership { request, change: change(input), expected: None }),
            16 => Some(Input::TransferLeadership { request, target: Some(input.below(5)) }),
            17 => Some(Input::Unreachable { peer: input.below(5) }),
            18 | 19 => self.finish_write(),
            20 => Some(Input::BuildSnapshot { request }),
            21 => self.snapshot(input, request),
            22 => self.finish(input),
            _ => Some(Input::Initialize { request, nodes: nodes(1..=input.below(4)) }),
        };
        if let Some(event) = event {
            self.engine.step(self.now, event);
        }
        self.carry_out();
        if self.engine.role() == RoleName::Leader {
            self.led.insert(self.engine.term());
        }
    }

    /// The oldest write is done.
    fn finish_write(&mut self) -> Option<Input<Test>> {
        let write = self.writes.pop_front()?;
        self.disk.carry_out(&write);
        Some(Input::Persisted { write: write.id })
    }

    /// Whether `from` may speak as the leader of `term`: nobody else has, and this node never did.
    fn may_lead(&mut self, from: u64, term: Term) -> bool {
        !self.led.contains(&term) && *self.claims.entry(term).or_insert(from) == from
    }

    fn message(&mut self, input: &mut BytesIn<'_>) -> Option<Input<Test>> {
        let from = input.below(5);
        let term = input.number();
        let body = body(input);
        let is_leader = matches!(body, Body::Append { .. } | Body::Heartbeat { .. } | Body::Commit { .. });
        if is_leader && !self.may_lead(from, term) {
            return None;
        }
        Some(Input::Receive { from, message: Message { term, body } })
    }

    fn snapshot(&mut self, input: &mut BytesIn<'_>, request: RequestId) -> Option<Input<Test>> {
        let (leader, term) = (input.below(5), input.number());
        let last = log_id(input);
        let membership = MembershipAt { log_id: log_id(input), membership: membership(input) };
        let meta = SnapshotMeta { last, membership, size_bytes: None };
        if !self.may_lead(leader, term) {
            return None;
        }
        Some(Input::InstallSnapshot { request, snapshot: InstallSnapshot { term, leader, meta } })
    }

    /// Something that the engine has asked for is done, or something that it never asked for.
    fn finish(&mut self, input: &mut BytesIn<'_>) -> Option<Input<Test>> {
        match input.below(5) {
            0 => {
                let id = self.building.pop()?;
                let AppliedState { last_applied, membership } = self.applied.clone();
                let meta = SnapshotMeta { last: last_applied, membership, size_bytes: None };
                Some(Input::SnapshotBuilt { id, meta })
            }
            1 => {
                let (id, snapshot) = self.installing.pop()?;
                let installed = input.below(3) != 0;
                if installed {
                    let SnapshotMeta { last, membership, .. } = snapshot.meta;
                    self.applied = AppliedState { last_applied: last, membership };
                }
                Some(Input::SnapshotInstalled { id, installed })
            }
            2 => {
                let id = self.sending.pop().unwrap_or(SnapshotId(input.number()));
                let installed = (input.below(2) == 0).then(|| input.number());
                let response = InstallSnapshotResponse { term: input.number(), installed };
                Some(Input::SnapshotSent { id, response: (input.below(3) != 0).then_some(response) })
            }
            3 => {
                let read = self.reading.pop().unwrap_or(LogReadId(input.number()));
                Some(Input::LogRead { read, entries: entries(input, LogId::ZERO) })
            }
            _ => Some(Input::Persisted { write: WriteId(0) }),
        }
    }

    /// Carries out effects until there are none.
    fn carry_out(&mut self) {
        loop {
            let effects: Effects<Test> = self.engine.take_effects(self.now);
            let Effects { write, messages, apply, snapshots, reads, .. } = effects;
            self.writes.extend(write);
            for (to, message) in messages {
                self.check_message(to, &message);
            }
            self.reading.extend(reads.into_iter().map(|read| read.id));
            for snapshot in snapshots {
                match snapshot {
                    SnapshotEffect::Build { id } => self.building.push(id),
                    SnapshotEffect::Send { id, .. } => self.sending.push(id),
                    SnapshotEffect::Install { id, snapshot, .. } => self.installing.push((id, snapshot)),
                    // One that can no longer be stopped ends as it likes.
                    SnapshotEffect::Discard { .. } => {}
                }
            }
            let Some(apply) = apply else { return };
            let last = apply.range.end - 1;
            let id = self.disk.id_at(last).expect("what is applied is on the disk");
            for index in apply.range {
                if let Some(Entry { log_id, payload: Payload::Membership(membership) }) = self.disk.at(index)
                {
                    self.applied.membership =
                        MembershipAt { log_id: *log_id, membership: membership.clone() };
                }
            }
            self.applied.last_applied = id;
            self.engine.step(self.now, Input::Applied { last: id });
        }
    }

    /// What this node promises must be on its disk.
    fn check_message(&self, to: u64, message: &Message<Test>) {
        let (saved, term) = (self.disk.hard_state, message.term);
        let has_voted =
            |candidate| term < saved.term || term == saved.term && saved.voted_for == Some(candidate);
        match &message.body {
            Body::VoteRequest { kind: VoteKind::Normal | VoteKind::Transfer, .. } => {
                assert!(has_voted(ME), "it asks for votes before its own is durable");
            }
            Body::VoteResponse { kind: VoteKind::Normal | VoteKind::Transfer, granted: true, .. } => {
                assert!(has_voted(to), "it votes for {to} before that is durable");
            }
            Body::AppendResponse { result: AppendResult::Matched { matched } } => {
                let last = self.disk.last().index.max(self.applied.last_applied.index);
                assert!(term <= saved.term, "it acknowledges in a term that is not durable");
                assert!(*matched <= last, "it acknowledges {matched}, and its disk ends at {last}");
            }
            _ => {}
        }
    }
}

fn log_id(input: &mut BytesIn<'_>) -> LogId {
    LogId::new(input.number(), input.number())
}

fn membership(input: &mut BytesIn<'_>) -> Membership<Test> {
    let mask = input.byte();
    let of = |shift: u32| (0..4).filter(move |id| mask >> shift >> id & 1 == 1);
    Membership::new(of(0).collect(), nodes(of(0).chain(of(4)))).expect("every voter is a member")
}

/// Consecutive entries behind `prev`, as the type has it, with terms that do not fall.
fn entries(input: &mut BytesIn<'_>, prev: LogId) -> Entries<Test> {
    let first = if input.below(8) == 0 { input.number().max(1) } else { prev.index.saturating_add(1) };
    let mut term = if input.below(4) == 0 { input.number() } else { prev.term };
    let mut entries = Vec::new();
    for place in 0..input.below(5) {
        let Some(index) = first.checked_add(place).filter(|index| *index < u64::MAX) else { break };
        term = term.saturating_add(input.below(3) / 2);
        let payload = match input.below(4) {
            0 => Payload::Blank,
            1 => Payload::Membership(membership(input)),
            _ => Payload::Command(input.number()),
        };
        entries.push(Entry { log_id: LogId::new(term, index), payload });
    }
    entries.into()
}

fn kind(input: &mut BytesIn<'_>) -> VoteKind {
    [VoteKind::Pre, VoteKind::Normal, VoteKind::Transfer][input.below(3) as usize]
}

fn body(input: &mut BytesIn<'_>) -> Body<Test> {
    match input.below(12) {
        0 => Body::VoteRequest { kind: kind(input), campaign: input.number(), last: log_id(input) },
        1 => Body::VoteResponse { kind: kind(input), campaign: input.number(), granted: input.below(2) == 0 },
        2..=4 => {
            let prev = log_id(input);
            Body::Append { prev, entries: entries(input, prev), commit: input.number() }
        }
        5 | 6 => {
            let result = match input.below(4) {
                0 | 1 => AppendResult::Matched { matched: input.number() },
                2 => AppendResult::Conflict { rejected: input.number(), hint: log_id(input) },
                _ => AppendResult::StaleTerm,
            };
            Body::AppendResponse { result }
        }
        7 => Body::Heartbeat { round: input.number(), commit: log_id(input) },
        8 => Body::HeartbeatResponse { round: input.number(), promise_ms: input.number() },
        9 => Body::Commit { commit: log_id(input) },
        10 => match input.below(2) {
            0 => Body::ReadRequest { read: input.number(), by_lease: input.below(2) == 0 },
            _ => Body::ReadResponse { read: input.number(), index: input.number() },
        },
        _ => match input.below(8) {
            0..=3 => Body::TimeoutNow,
            4 => Body::TimeoutNowDeclined,
            5 => Body::TransferRequest {
                transfer: input.number(),
                target: Some(input.below(5)).filter(|id| *id != 0),
            },
            6 => Body::TransferResponse { transfer: input.number(), answer: answer(input) },
            _ => Body::Removed { campaign: input.number(), membership: log_id(input) },
        },
    }
}

fn answer(input: &mut BytesIn<'_>) -> TransferAnswer<Test> {
    let node = input.below(5);
    match input.below(4) {
        0 => TransferAnswer::Begun { target: node },
        1 => TransferAnswer::Leads { leader: node },
        2 => TransferAnswer::Refused(TransferRefusal::NoTarget),
        _ => TransferAnswer::Refused(TransferRefusal::TimedOut { target: node }),
    }
}

fn change(input: &mut BytesIn<'_>) -> MembershipChange<Test> {
    let mask = input.byte();
    let set: BTreeSet<u64> = (0..5).filter(|id| mask >> id & 1 == 1).collect();
    match input.below(7) {
        0 => MembershipChange::AddLearners(nodes(set)),
        1 => MembershipChange::Promote(set),
        2 => MembershipChange::Demote(set),
        3 => MembershipChange::Remove(set),
        4 => MembershipChange::UpdateNodes(nodes(set)),
        5 => MembershipChange::Set { voters: set, nodes: nodes(0..input.below(6)) },
        _ => MembershipChange::SetVoters(set),
    }
}
