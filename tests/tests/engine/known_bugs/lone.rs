//! One engine whose effects a test carries out by hand: for what the disk and the state machine of the harness do at once.

use std::time::Instant;

use openconsensus::engine::{Effects, Engine, Input, LogRead, LogWrite, RequestId, SnapshotEffect};
use openconsensus::{
    AppendResult, AppliedState, ApplyBatch, Body, Config, Entries, HardState, Index, LogId, Message,
    SnapshotMeta, Term,
};
use openconsensus_tests::engines::{Disk, Test, log_of};

/// Node 1 of three.
pub(super) struct Lone {
    pub(super) engine: Engine<Test>,
    pub(super) now: Instant,
    pub(super) disk: Disk,
    applied: AppliedState<Test>,
    /// Writes are done at once unless this is set.
    pub(super) is_disk_slow: bool,
    /// Writes that are not done, oldest first.
    pub(super) writes: Vec<LogWrite<Test>>,
    /// What was sent and asked for, and not looked at.
    pub(super) messages: Vec<(u64, Message<Test>)>,
    pub(super) reads: Vec<LogRead>,
    pub(super) snapshots: Vec<SnapshotEffect<Test>>,
}

impl Lone {
    /// A follower with `last` entries of term 1, the first of which is the membership.
    pub(super) fn follower(last: usize, config: Config) -> Self {
        let now = Instant::now();
        let state = HardState { term: 1, voted_for: None, commit: last as Index };
        let disk = Disk::new(state, log_of(3, &vec![1; last]));
        let recovered = disk.recover(1, 1, AppliedState::default(), LogId::ZERO);
        let config = config.validate().expect("the configuration of a test is valid");
        let engine = Engine::new(config, recovered, now).expect("the disk is whole");
        let mut lone = Self {
            engine,
            now,
            disk,
            applied: AppliedState::default(),
            is_disk_slow: false,
            writes: Vec::new(),
            messages: Vec::new(),
            reads: Vec::new(),
            snapshots: Vec::new(),
        };
        lone.carry_out();
        lone
    }

    /// The same as the leader of term 2: its first entry stands behind the others.
    pub(super) fn leader(last: usize, config: Config) -> Self {
        let mut lone = Self::follower(last, config);
        lone.campaign();
        lone
    }

    /// Node 2 votes for this one.
    pub(super) fn campaign(&mut self) {
        self.step(Input::Campaign);
        let asked = self.messages.iter().rev().find_map(|(_, message)| match message.body {
            Body::VoteRequest { kind, campaign, .. } => Some((kind, campaign)),
            _ => None,
        });
        let (kind, campaign) = asked.expect("a campaign asks for votes");
        let body = Body::VoteResponse { kind, campaign, granted: true };
        self.receive(2, self.term(), body);
        assert_eq!(self.engine.metrics(self.now).role, openconsensus::RoleName::Leader);
    }

    pub(super) fn term(&self) -> Term {
        self.engine.metrics(self.now).term
    }

    pub(super) fn receive(&mut self, from: u64, term: Term, body: Body<Test>) {
        self.step(Input::Receive { from, message: Message { term, body } });
    }

    /// A peer answers an append.
    pub(super) fn hear(&mut self, from: u64, result: AppendResult) {
        self.receive(from, self.term(), Body::AppendResponse { result });
    }

    pub(super) fn step(&mut self, input: Input<Test>) {
        self.engine.step(self.now, input);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            let Effects { write, messages, reads, apply, snapshots, .. } = self.engine.take_effects(self.now);
            self.messages.extend(messages);
            self.reads.extend(reads);
            self.snapshots.extend(snapshots);
            self.writes.extend(write);
            if let Some(apply) = apply {
                let entries: Entries<Test> = match apply.entries.is_empty() {
                    true => self.disk.read(apply.range.clone(), u64::MAX),
                    false => apply.entries,
                };
                self.applied = ApplyBatch::new(&self.applied, entries).applied_state().clone();
                self.engine.step(self.now, Input::Applied { last: self.applied.last_applied });
            } else if !self.is_disk_slow && !self.writes.is_empty() {
                self.complete();
            } else {
                return;
            }
        }
    }

    /// The oldest write is done, and the engine is told.
    fn complete(&mut self) {
        let write = self.writes.remove(0);
        self.disk.carry_out(&write);
        self.engine.step(self.now, Input::Persisted { write: write.id });
    }

    /// Builds a snapshot of what is applied.
    pub(super) fn build_snapshot(&mut self) {
        self.step(Input::BuildSnapshot { request: RequestId(1) });
        let build = self.snapshots.pop();
        let Some(SnapshotEffect::Build { id }) = build else { panic!("{build:?}") };
        let AppliedState { last_applied, membership } = self.applied.clone();
        let meta = SnapshotMeta { last: last_applied, membership, size_bytes: None };
        self.step(Input::SnapshotBuilt { id, meta });
    }
}
