//! What a driver does with the effects of an engine. State machines and snapshots are done at once, writes when the
//! checker says so.

use std::sync::Arc;
use std::time::Duration;

use openconsensus::engine::{Effects, Input, LogWrite, Reply, RequestId, SnapshotEffect, SnapshotId};
use openconsensus::{Body, Config, Entries, Entry, InstallSnapshot, Message, Payload, RoleName, Term};
use openconsensus_tests::engines::Test;

use crate::check::Before;
use crate::letter::{Letter, What};
use crate::node::{Arrival, HORIZON, Installation, meta_of, start_engine};
use crate::state::{Event, Rule, State};
use crate::system::{Break, System};

impl System {
    /// One input, and everything that its effects ask for.
    pub(crate) fn step(&self, state: &mut State, id: u64, input: Input<Test>) {
        let before = Before::of(state.node(id));
        let node = state.node_mut(id);
        node.engine.step(node.now, input);
        self.carry_out(state, id);
        self.check(state, id, &before);
    }

    /// The same after so long a time that nothing is recent any more.
    pub(crate) fn step_late(&self, state: &mut State, id: u64, input: Input<Test>) {
        if self.one_clock {
            self.pass_time(state);
        } else {
            state.node_mut(id).now += HORIZON;
        }
        self.step(state, id, input);
    }

    /// Nothing is recent any more, on no node.
    pub(crate) fn pass_time(&self, state: &mut State) {
        for id in 1..=self.size {
            state.node_mut(id).now += HORIZON;
        }
    }

    pub(crate) fn heartbeat(&self, state: &mut State, id: u64) {
        let node = state.node_mut(id);
        node.now += Duration::from_millis(self.config.heartbeat_interval_ms);
        self.step(state, id, Input::Timeout);
    }

    pub(crate) fn deliver(&self, state: &mut State, letter: &Letter, late: bool) {
        let (from, to) = (letter.from, letter.to);
        match &letter.what {
            What::Message(message) => {
                let mut message = message.clone();
                if self.breaks == Break::NetworkGarblesCommands {
                    garble(&mut message);
                }
                let input = Input::Receive { from, message };
                if late {
                    self.step_late(state, to, input);
                } else {
                    self.step(state, to, input);
                }
            }
            What::Snapshot { id, request: snapshot, image } => {
                let node = state.node_mut(to);
                let request = node.next_request();
                node.arrivals.insert(request, Arrival { from, id: *id, image: image.clone() });
                self.step(state, to, Input::InstallSnapshot { request, snapshot: snapshot.clone() });
            }
            What::Answer { id, response } => {
                self.step(state, to, Input::SnapshotSent { id: *id, response: *response });
            }
        }
    }

    /// The oldest write of a node is done.
    pub(crate) fn persist(&self, state: &mut State, id: u64) {
        let write = state.node_mut(id).persist(self.remembers());
        self.drop_void(state, id);
        if self.breaks != Break::DriverAcknowledgesEarly {
            self.step(state, id, Input::Persisted { write });
        }
    }

    /// Whether disks remember what they must forget.
    fn remembers(&self) -> bool {
        matches!(self.breaks, Break::DiskLosesCompletedWrite | Break::DiskRestoresOldVote)
    }

    pub(crate) fn read(&self, state: &mut State, id: u64) {
        let request = RequestId(2000 + u64::from(state.left.reads));
        let floor = state.seen.committed.len() as u64;
        Arc::make_mut(&mut state.seen).reads.insert(request, (id, floor));
        let engine = &state.node(id).engine;
        if self.breaks == Break::DriverReadsWithoutAsking && engine.role() == RoleName::Leader {
            let index = engine.committed();
            return self.take_reply(state, id, request, Reply::ReadReady { index });
        }
        if self.config.lease_clock_drift_ppm_max.is_some() {
            self.step(state, id, Input::ReadByLease { request });
        } else {
            self.step(state, id, Input::Read { request });
        }
    }

    /// A node loses everything but what is on its disk, and starts again.
    pub(crate) fn restart(&self, state: &mut State, id: u64, parts: usize) {
        let arrivals = std::mem::take(&mut state.node_mut(id).arrivals);
        for arrival in arrivals.into_values() {
            // Whoever was sending a snapshot sees the connection end.
            self.post(state, id, arrival.from, What::Answer { id: arrival.id, response: None });
        }
        Arc::make_mut(&mut state.seen).reads.retain(|_, (node, _)| *node != id);
        let node = state.node_mut(id);
        node.starts += 1;
        node.installing = None;
        if 0 < parts {
            let torn = first_parts(&node.writes[0], parts);
            Arc::make_mut(&mut node.disk).carry_out(&torn);
        }
        node.writes.clear();
        match self.breaks {
            Break::DiskLosesCompletedWrite => {
                if let Some(before) = node.disk_before.take() {
                    node.disk = before;
                }
            }
            Break::DiskRestoresOldVote => {
                if let Some(before) = node.hard_state_before.take() {
                    Arc::make_mut(&mut node.disk).hard_state = before;
                }
            }
            Break::Nothing
            | Break::DriverAcknowledgesEarly
            | Break::DriverReadsWithoutAsking
            | Break::RestartForgetsPromise
            | Break::NetworkGarblesCommands
            | Break::SnapshotLacksLastCommand => {}
        }
        if self.volatile_machine {
            node.machine = node.snapshot.clone().unwrap_or_default();
        }
        let mut config = self.config.clone();
        if self.breaks == Break::RestartForgetsPromise {
            let without = Config { lease_clock_drift_ppm_max: None, ..Config::clone(&config) };
            config = without.validate().expect("leases are optional");
        }
        let started = start_engine(
            &config,
            id,
            node.starts,
            Arc::make_mut(&mut node.disk),
            &node.machine,
            node.snapshot.as_deref(),
            node.now,
        );
        match started {
            Ok(engine) => node.engine = engine,
            // It is right to refuse a disk that has lost something, and then nothing happens any more. It must refuse no
            // other.
            Err(_) if self.breaks != Break::Nothing => {
                state.is_over = true;
                return;
            }
            Err(refusal) => panic!("node {id} refuses to start: {refusal}"),
        }
        node.view = node.disk.clone();
        self.carry_out(state, id);
        state.note(Event::Restarted);
        let before = Before::started(state.node(id));
        self.check(state, id, &before);
    }

    pub(crate) fn finish_install(&self, state: &mut State, id: u64) {
        let node = state.node_mut(id);
        let Installation { id: snapshot, request, announced } =
            node.installing.take().expect("a snapshot is being installed");
        let image = node.arrivals[&request].image.clone();
        assert_eq!(meta_of(&image), announced.meta);
        assert!(node.machine.applied.last_applied.index <= announced.meta.last.index, "the state goes back");
        node.machine = image.clone();
        node.snapshot = Some(image);
        state.note(Event::SnapshotInstalled);
        self.step(state, id, Input::SnapshotInstalled { id: snapshot, installed: true });
    }

    /// Carries out effects until there are none.
    pub(crate) fn carry_out(&self, state: &mut State, id: u64) {
        loop {
            let node = state.node_mut(id);
            let now = node.now;
            let effects: Effects<Test> = node.engine.take_effects(now);
            let Effects {
                write,
                messages,
                replies,
                reads,
                apply,
                snapshots,
                leadership: _,
                state_changed: _,
            } = effects;
            let mut has_news = !reads.is_empty() || apply.is_some() || !snapshots.is_empty();
            if let Some(write) = write {
                has_news |= self.take_write(state, id, write);
            }
            for (to, message) in messages {
                self.check_message(state, id, to, &message);
                if !self.is_left_out(&message) {
                    self.post(state, id, to, What::Message(message));
                }
            }
            for (request, reply) in replies {
                self.take_reply(state, id, request, reply);
            }
            let node = state.node_mut(id);
            for read in reads {
                let entries: Entries<Test> = node.disk.read(read.range, read.bytes_max);
                node.engine.step(now, Input::LogRead { read: read.id, entries });
            }
            if let Some(apply) = apply {
                let last = node.apply(apply);
                node.engine.step(now, Input::Applied { last });
            }
            for snapshot in snapshots {
                self.take_snapshot_effect(state, id, snapshot);
            }
            if !has_news {
                return;
            }
        }
    }

    /// Returns whether the engine has been told something.
    fn take_write(&self, state: &mut State, id: u64, write: LogWrite<Test>) -> bool {
        let node = state.node_mut(id);
        Arc::make_mut(&mut node.view).carry_out(&write);
        let number = write.id;
        node.writes.push_back(write);
        let now = node.now;
        if !self.slow_disks {
            let write = node.persist(self.remembers());
            node.engine.step(now, Input::Persisted { write });
            self.drop_void(state, id);
            return true;
        }
        if self.breaks == Break::DriverAcknowledgesEarly {
            node.engine.step(now, Input::Persisted { write: number });
            return true;
        }
        false
    }

    /// Letters that a bound of the exploration lets get lost.
    fn is_left_out(&self, message: &Message<Test>) -> bool {
        matches!(message.body, Body::Heartbeat { round: 1, .. }) && !self.first_heartbeats
    }

    fn post(&self, state: &mut State, from: u64, to: u64, what: What) {
        let letter = Letter::new(from, to, what, &self.ways);
        let term: Term = state.nodes.get(to as usize - 1).map_or(0, |node| node.disk.hard_state.term);
        if to <= self.size && !letter.is_void_in(term) {
            state.letters.insert(letter.prints[0], letter);
        }
    }

    /// Lets go of letters to a node that it will never look at: its term is durable.
    fn drop_void(&self, state: &mut State, id: u64) {
        let term = state.node(id).disk.hard_state.term;
        state.letters.retain(|_, letter| letter.to != id || !letter.is_void_in(term));
    }

    fn take_reply(&self, state: &mut State, id: u64, request: RequestId, reply: Reply<Test>) {
        match reply {
            Reply::ReadReady { index } => {
                let (_, floor) = state.seen.reads[&request];
                Arc::make_mut(&mut state.seen).reads.remove(&request);
                state.note(Event::ReadConfirmed);
                if index < floor {
                    state.violate(Rule::FreshReads, || {
                        format!("node {id} reads at {index}, but {floor} was committed before it was asked")
                    });
                }
            }
            Reply::ReadFailed { .. } => {
                Arc::make_mut(&mut state.seen).reads.remove(&request);
            }
            Reply::InstallFinished(response) => {
                if let Some(arrival) = state.node_mut(id).arrivals.remove(&request) {
                    let what = What::Answer { id: arrival.id, response: Some(response) };
                    self.post(state, id, arrival.from, what);
                }
            }
            // What becomes of the rest is seen in the log.
            _ => {}
        }
    }

    fn take_snapshot_effect(&self, state: &mut State, id: u64, effect: SnapshotEffect<Test>) {
        let node = state.node_mut(id);
        let now = node.now;
        match effect {
            SnapshotEffect::Build { id: snapshot } => {
                let mut image = node.machine.clone();
                if self.breaks == Break::SnapshotLacksLastCommand {
                    Arc::make_mut(&mut image).commands.pop();
                }
                let meta = meta_of(&image);
                node.snapshot = Some(image);
                node.engine.step(now, Input::SnapshotBuilt { id: snapshot, meta });
            }
            SnapshotEffect::Send { id: snapshot, peer, term } => {
                let image = node.snapshot.clone().expect("a snapshot is sent only where there is one");
                let request = InstallSnapshot { term, leader: id, meta: meta_of(&image) };
                self.post(state, id, peer, What::Snapshot { id: snapshot, request, image });
            }
            SnapshotEffect::Install { id, request, snapshot: announced } => {
                assert!(node.installing.is_none(), "two snapshots are installed at once");
                node.installing = Some(Installation { id, request, announced });
            }
            SnapshotEffect::Discard { id: snapshot } => self.discard(state, id, snapshot),
        }
    }

    fn discard(&self, state: &mut State, id: u64, snapshot: SnapshotId) {
        let is_sent = |letter: &Letter| match &letter.what {
            What::Snapshot { id: sent, .. } => letter.from == id && *sent == snapshot,
            What::Message(_) | What::Answer { .. } => false,
        };
        state.letters.retain(|_, letter| !is_sent(letter));
        let node = state.node_mut(id);
        if node.installing.take_if(|installation| installation.id == snapshot).is_some() {
            let now = node.now;
            node.engine.step(now, Input::SnapshotInstalled { id: snapshot, installed: false });
        }
    }
}

/// Changes the commands of a message.
fn garble(message: &mut Message<Test>) {
    if let Body::Append { entries, .. } = &mut message.body {
        let garbled = entries.iter().map(|entry| match entry.payload {
            Payload::Command(command) => {
                Entry { log_id: entry.log_id, payload: Payload::Command(command + 90) }
            }
            Payload::Blank | Payload::Membership(_) => entry.clone(),
        });
        *entries = garbled.collect::<Vec<_>>().into();
    }
}

/// What a crash in the middle leaves of a write.
fn first_parts(write: &LogWrite<Test>, mut parts: usize) -> LogWrite<Test> {
    let mut torn = write.clone();
    let mut keeps = |is_there: bool| {
        let keeps = is_there && 0 < parts;
        parts -= usize::from(keeps);
        keeps
    };
    torn.hard_state = write.hard_state.filter(|_| keeps(true));
    torn.truncate = write.truncate.filter(|_| keeps(true));
    torn.purge = write.purge.filter(|_| keeps(true));
    let entries = write.append.iter().take_while(|_| keeps(true)).cloned().collect::<Vec<_>>();
    let is_whole = entries.len() == write.append.len();
    torn.append = entries.into();
    if !is_whole {
        // The hint rides along with all of them.
        torn.commit = 0;
    }
    torn
}
