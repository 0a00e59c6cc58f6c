//! What disks, state machines, crashes and the network do to the nodes of a world.

use openconsensus::engine::{Apply, Input, LogWrite, SnapshotId};
use openconsensus::{Body, Index, LogId, Message};

use super::coverage::Count;
use super::letters::{Flying, Kind, Name};
use super::sabotage::Sabotage;
use super::trace::{Sight, describe};
use super::world::World;
use crate::engines::node::{Arrival, Installation, Node, Work};
use crate::engines::{Disk, Test, What};

impl World {
    // ---- disk

    pub(super) fn finish_writes(&mut self, id: u64, count: usize, waits: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_alive()) else { return };
        let mut last = None;
        let count = count.min(node.writes.len());
        for _ in 0..count {
            let Some(write) = node.writes.pop_front() else { break };
            last = Some(write.id);
            write_down(node, write, self.sabotage, &mut self.sides[id as usize], self.keeps_commit_hint);
        }
        if 1 < count {
            self.coverage.add(Count::Coalesced);
        }
        if let Some(write) = last {
            self.step(id, Input::Persisted { write }, waits);
        }
    }

    pub(super) fn fail_disk(&mut self, id: u64, writes: usize, parts: usize) {
        let now = self.clock_of(id);
        let Some(engine) = self.nodes.get_mut(&id).and_then(|node| node.engine.as_mut()) else { return };
        self.coverage.add(Count::DiskFailures);
        engine.step(now, Input::StorageFailed);
        self.steps += 1;
        let effects = engine.take_effects(now);
        assert!(effects.write.is_none(), "node {id} writes to a disk that has failed");
        // A leader may ask another node to take over; that depends on no disk.
        let is_hand_over = |message: &Message<Test>| matches!(message.body, Body::TimeoutNow);
        for (to, message) in effects.messages {
            assert!(is_hand_over(&message), "node {id} goes on speaking without a disk");
            self.coverage.add(Count::HandOvers);
            self.send(id, to, message);
        }
        assert!(effects.apply.is_none(), "node {id} goes on applying without a disk");
        for (request, reply) in effects.replies {
            self.take_reply(id, request, &reply);
        }
        self.crash(id, writes, parts, false);
    }

    /// The node dies; a legal beginning of what it was writing is on the disk.
    pub(super) fn crash(&mut self, id: u64, writes: usize, parts: usize, forgets: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(engine) = &node.engine else { return };
        let side = &mut self.sides[id as usize];
        self.coverage.add_counters(engine.counters());
        self.coverage.add(Count::Crashes);
        self.coverage.add_many(Count::CrashesWithWrites, u64::from(writes < node.writes.len()));
        for _ in 0..writes {
            let Some(write) = node.writes.pop_front() else { break };
            node.disk.carry_out(&write);
        }
        if let Some(write) = node.writes.pop_front() {
            let is_torn = 0 < parts && parts < Disk::parts_of(&write);
            self.coverage.add_many(Count::CrashesMidWrite, u64::from(is_torn));
            node.disk.carry_out_parts(&write, parts);
        }
        side.unflushed.clear();
        if let Some(disk) = side.before_last.take() {
            node.disk = disk;
        }
        // Whoever was sending a snapshot here sees the connection end.
        let arrivals = std::mem::take(&mut node.arrivals);
        node.crash();
        // With neither state nor snapshot it would not start again.
        if forgets && !node.is_snapshot_damaged {
            self.coverage.add(Count::StatesForgotten);
            node.lose_state();
        }
        side.to_read.clear();
        side.to_send.clear();
        side.has_effects = false;
        for arrival in arrivals.into_values() {
            let what = What::SnapshotAnswer { id: arrival.id, response: None };
            self.letters.push(id, arrival.from, what, self.now_us);
        }
        self.answers.on_crash(id, &mut self.coverage);
        self.wake_up(id);
        self.touched |= 1 << id;
    }

    pub(super) fn restart(&mut self, id: u64) {
        let now = self.clock_of(id);
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.is_alive()) else { return };
        if self.sabotage == Some(Sabotage::ForgetVote) {
            node.disk.hard_state.voted_for = None;
        }
        let seed = (self.seed ^ id << 48 ^ node.starts << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if 0 < node.starts {
            self.coverage.add(Count::Restarts);
        }
        if let Err(error) = node.start_seeded(&self.config, seed, now) {
            panic!("node {id} refuses to start: {error}");
        }
        self.oracle.restarted(&self.nodes[&id]);
        self.oracle.saw_entries(&self.nodes[&id].view, 0);
        self.oracle.check_node(id, &self.nodes);
        self.touched |= 1 << id;
    }

    /// Old entries for a peer have been read. Some of them may be purged by now.
    pub(super) fn finish_reading(&mut self, id: u64, waits: bool) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.is_alive()) else { return };
        let Some(read) = self.sides[id as usize].to_read.pop_front() else { return };
        let entries = node.disk.read(read.range, read.bytes_max);
        self.step(id, Input::LogRead { read: read.id, entries }, waits);
    }

    // ---- state machine and snapshots

    pub(super) fn work(&mut self, id: u64, entries: u64, waits: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_alive()) else { return };
        if node.installing.is_some() {
            return;
        }
        match node.to_do.pop_front() {
            None => {}
            Some(Work::Apply(apply)) => {
                let (now, later) = split(apply, entries.max(1));
                if let Some(later) = later {
                    node.to_do.push_front(Work::Apply(later));
                }
                self.apply_entries(id, now, waits);
            }
            Some(Work::Build(snapshot)) => {
                node.to_build.push_back((snapshot, node.machine.clone()));
                self.touched |= 1 << id;
            }
            Some(Work::Install(installation)) => {
                node.installing = Some(installation);
                self.touched |= 1 << id;
            }
        }
    }

    fn apply_entries(&mut self, id: u64, apply: Apply<Test>, waits: bool) {
        let range = apply.range.clone();
        let node = self.nodes.get_mut(&id).expect("the node lives");
        let last = node.apply(apply);
        if self.sabotage == Some(Sabotage::SkipCommand) && id == 2 && last.index.is_multiple_of(16) {
            node.machine.commands.pop();
        }
        let applied: Vec<LogId> = range.filter_map(|index| node.disk.id_at(index)).collect();
        // The oracle first: a command is told to be applied only when it is known to be the right one.
        self.oracle.saw_state(&self.nodes[&id]);
        self.answers.on_applied(id, &applied, &mut self.coverage);
        self.step(id, Input::Applied { last }, waits);
    }

    pub(super) fn finish_installing(&mut self, id: u64, succeeds: bool, waits: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_alive()) else { return };
        let Some(Installation { id: snapshot, request, announced }) = node.installing.take() else { return };
        if succeeds {
            let image = node.arrivals[&request].image.clone();
            assert_eq!(
                image.meta(),
                announced.meta,
                "the bytes are those of the snapshot that was announced"
            );
            let applied = node.machine.applied.last_applied;
            let last = announced.meta.last;
            assert!(applied.index <= last.index, "node {id} would go back from {applied} to {last}");
            node.machine = image.clone();
            node.replace_snapshot(image);
            self.oracle.state_replaced(id);
            self.answers.on_installed(id, last.index, &mut self.coverage);
        } else {
            self.coverage.add(Count::SnapshotsBroken);
        }
        self.step(id, Input::SnapshotInstalled { id: snapshot, installed: succeeds }, waits);
    }

    /// Nobody wants this snapshot any more: it is not sent, and an installation that has not begun does not begin.
    pub(super) fn discard(&mut self, id: u64, snapshot: SnapshotId) {
        self.coverage.add(Count::SnapshotsDiscarded);
        let is_it = |what: &What| matches!(what, What::Snapshot { id, .. } if *id == snapshot);
        for (to, letter) in self.letters.take_snapshots(id, is_it) {
            self.return_to_sender(id, to, letter);
        }
        let side = &mut self.sides[id as usize];
        let node = self.nodes.get_mut(&id).expect("the node lives");
        let before = (side.to_send.len(), node.to_do.len());
        side.to_send.retain(|(sent, ..)| *sent != snapshot);
        node.to_do.retain(|work| !matches!(work, Work::Install(installation) if installation.id == snapshot));
        if side.to_send.len() < before.0 {
            self.step(id, Input::SnapshotSent { id: snapshot, response: None }, true);
        }
        if self.nodes[&id].to_do.len() < before.1 {
            self.step(id, Input::SnapshotInstalled { id: snapshot, installed: false }, true);
        }
    }

    // ---- network

    pub(super) fn lose(&mut self, name: Name) {
        if let Some(letter) = self.letters.take(name) {
            self.coverage.add(Count::LettersLost);
            self.show_letter(name, &letter, false);
            self.return_to_sender(name.from, name.to, letter);
        }
    }

    pub(super) fn deliver(&mut self, name: Name, keep: bool, waits: bool) {
        let Name { from, to, kind, place } = name;
        let letter = if keep { self.letters.copy(name) } else { self.letters.take(name) };
        let Some(letter) = letter else { return };
        let is_certain = matches!(letter.what, What::SnapshotAnswer { response: None, .. });
        let arrives = self.is_alive(to) && (is_certain || !self.is_cut(from, to));
        self.show_letter(name, &letter, arrives);
        if !arrives {
            self.coverage.add(Count::LettersLost);
            if !keep {
                self.return_to_sender(from, to, letter);
            }
            return;
        }
        self.coverage.add(kind.count());
        self.coverage.add_many(Count::LettersReordered, u64::from(0 < place));
        self.coverage.add_many(Count::LettersRepeated, u64::from(keep));
        match letter.what {
            What::Message(message) => self.step(to, Input::Receive { from, message }, waits),
            What::Snapshot { id, request: snapshot, image } => {
                let request = self.answers.request();
                let node = self.nodes.get_mut(&to).expect("the node lives");
                node.arrivals.insert(request, Arrival { from, id, image: *image });
                self.step(to, Input::InstallSnapshot { request, snapshot }, waits);
            }
            What::SnapshotAnswer { id, response } => {
                self.step(to, Input::SnapshotSent { id, response }, waits);
            }
        }
    }

    /// A letter did not arrive. Whoever sends a snapshot learns it from its own driver.
    fn return_to_sender(&mut self, from: u64, to: u64, letter: Flying) {
        match letter.what {
            What::Message(_) | What::SnapshotAnswer { response: None, .. } => {}
            What::Snapshot { id, .. } => {
                self.letters.push(to, from, What::SnapshotAnswer { id, response: None }, self.now_us);
            }
            What::SnapshotAnswer { id, response: Some(_) } => {
                self.letters.push(from, to, What::SnapshotAnswer { id, response: None }, self.now_us);
            }
        }
    }

    fn show_letter(&mut self, name: Name, letter: &Flying, arrives: bool) {
        self.mix(name.from << 8 | name.to << 4 | u64::from(arrives));
        if self.trace.is_some() {
            let (Name { from, to, .. }, sent_us) = (name, letter.sent_us);
            let text = describe(&letter.what);
            self.show(Sight::Letter { from, to, sent_us, arrives, text });
        }
    }

    /// Whether a snapshot is on its way, for the oracle of liveness.
    pub(super) fn has_snapshots_under_way(&mut self) -> bool {
        self.letters.has(Kind::Snapshot) || self.nodes.values().any(|node| node.installing.is_some())
    }
}

/// Puts a write on the disk, unless the disk lies on purpose.
fn write_down(
    node: &mut Node,
    write: LogWrite<Test>,
    sabotage: Option<Sabotage>,
    side: &mut super::world::Side,
    keeps_commit_hint: bool,
) {
    match sabotage {
        Some(Sabotage::AckBeforeFlush) => {
            side.unflushed.push_back(write);
            while 2 < side.unflushed.len() {
                if let Some(write) = side.unflushed.pop_front() {
                    node.disk.carry_out(&write);
                }
            }
        }
        Some(Sabotage::LoseCompletedWrite) => {
            side.before_last = Some(node.disk.clone());
            node.disk.carry_out(&write);
        }
        Some(
            Sabotage::ForgetVote
            | Sabotage::StealVotes
            | Sabotage::SkipCommand
            | Sabotage::ReadAtOnce
            | Sabotage::AnswerByIndex
            | Sabotage::StayCut
            | Sabotage::SkewClocks
            | Sabotage::MissSuspensions,
        )
        | None => {
            let hint = node.disk.hard_state.commit;
            node.disk.carry_out(&write);
            if !keeps_commit_hint && write.hard_state.is_none() {
                // A storage may drop the hint that rides along with entries.
                node.disk.hard_state.commit = hint;
            }
        }
    }
}

/// The first `count` entries of an apply, and the rest.
fn split(apply: Apply<Test>, count: u64) -> (Apply<Test>, Option<Apply<Test>>) {
    let at: Index = apply.range.start + count;
    if apply.range.end <= at {
        return (apply, None);
    }
    let part = |range: std::ops::Range<Index>| Apply { entries: apply.entries.slice(range.clone()), range };
    (part(apply.range.start..at), Some(part(at..apply.range.end)))
}
