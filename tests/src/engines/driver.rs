//! What a driver does with effects, at once or when a test says so: disks, state machines, snapshots, crashes.

use openconsensus::engine::{Apply, Effects, Input, Reply, RequestId, SnapshotEffect, SnapshotId};
use openconsensus::{AnyError, Body};

use super::network::{Letter, What};
use super::node::{Installation, Work};
use super::{Cluster, Test};

impl Cluster {
    /// One input, and everything that its effects ask for. Messages are on their way afterwards.
    pub fn step(&mut self, id: u64, input: Input<Test>) {
        self.step_all(id, [input]);
    }

    /// Several inputs, and then the effects of all of them: what a busy driver does.
    pub fn step_all(&mut self, id: u64, inputs: impl IntoIterator<Item = Input<Test>>) {
        let now = self.now;
        let Some(engine) = &mut self.node_mut(id).engine else { return };
        for input in inputs {
            engine.step(now, input);
        }
        self.carry_out(id);
        self.oracle.check(&self.nodes);
    }

    pub(super) fn carry_out(&mut self, id: u64) {
        let now = self.now;
        loop {
            let node = self.nodes.get_mut(&id).expect("the node was stepped");
            let Some(engine) = &mut node.engine else { return };
            let effects: Effects<Test> = engine.take_effects(now);
            let Effects { write, messages, replies, reads, apply, snapshots, leadership, state_changed: _ } =
                effects;
            self.oracle.saw_leadership(id, engine, &leadership);
            if let Some(write) = write {
                node.view.carry_out(&write);
                self.oracle.saw_write(node, &write);
                node.writes.push_back(write);
            }
            for (to, message) in messages {
                self.oracle.saw_message(&self.nodes, id, to, &message);
                if let Body::VoteRequest { campaign, .. } = message.body {
                    self.campaigns.insert(id, campaign);
                }
                self.letters.push_back(Letter { from: id, to, what: What::Message(message) });
            }
            for (request, reply) in replies {
                self.take_reply(id, request, reply);
            }
            let mut has_news = !reads.is_empty();
            for read in reads {
                let node = self.node_mut(id);
                let entries = node.disk.read(read.range, read.bytes_max);
                let engine = node.engine.as_mut().expect("the node lives");
                engine.step(now, Input::LogRead { read: read.id, entries });
            }
            let node = self.node_mut(id);
            node.to_do.extend(apply.map(Work::Apply));
            has_news |= !snapshots.is_empty();
            for snapshot in snapshots {
                self.take_snapshot_effect(id, snapshot);
            }
            if !has_news && !self.work(id) {
                return;
            }
        }
    }

    fn take_reply(&mut self, id: u64, request: RequestId, reply: Reply<Test>) {
        if let Reply::ReadReady { index } = &reply {
            let floor = self.reads[&request];
            assert!(
                floor <= *index,
                "a read at {index} on node {id}, but {floor} was committed when it was asked for"
            );
        }
        let node = self.node_mut(id);
        if let (Reply::InstallFinished(response), Some(arrival)) = (&reply, node.arrivals.remove(&request)) {
            let what = What::SnapshotAnswer { id: arrival.id, response: Some(*response) };
            self.letters.push_back(Letter { from: id, to: arrival.from, what });
            return;
        }
        let twice = node.replies.insert(request, reply);
        assert!(twice.is_none(), "request {request:?} is answered twice, first by {twice:?}");
    }

    fn take_snapshot_effect(&mut self, id: u64, effect: SnapshotEffect<Test>) {
        let node = self.node_mut(id);
        match effect {
            SnapshotEffect::Build { id: snapshot } => node.to_do.push_back(Work::Build(snapshot)),
            SnapshotEffect::Send { id: snapshot, .. } if node.is_snapshot_damaged => {
                let last = node.snapshot.as_ref().map(|image| image.applied.last_applied);
                let now = self.now;
                let engine = self.node_mut(id).engine.as_mut().expect("the node lives");
                engine.step(now, Input::SnapshotUnreadable { id: snapshot, last });
            }
            SnapshotEffect::Send { id: snapshot, peer, term } => {
                let image =
                    Box::new(node.snapshot.clone().expect("a snapshot is sent only where there is one"));
                let request = openconsensus::InstallSnapshot { term, leader: id, meta: image.meta() };
                let what = What::Snapshot { id: snapshot, request, image };
                self.letters.push_back(Letter { from: id, to: peer, what });
            }
            SnapshotEffect::Install { id, request, snapshot: announced } => {
                node.to_do.push_back(Work::Install(Installation { id, request, announced }));
            }
            SnapshotEffect::Discard { id: snapshot } => self.discard(id, snapshot),
        }
    }

    /// Nobody wants this snapshot any more: it is not sent, and an installation that has not begun does not begin.
    fn discard(&mut self, id: u64, snapshot: SnapshotId) {
        let now = self.now;
        let is_sent = |letter: &Letter| match &letter.what {
            What::Snapshot { id: sent, .. } => letter.from == id && *sent == snapshot,
            What::Message(_) | What::SnapshotAnswer { .. } => false,
        };
        self.letters.retain(|letter| !is_sent(letter));
        let node = self.node_mut(id);
        let waiting = node.to_do.len();
        node.to_do.retain(|work| !matches!(work, Work::Install(installation) if installation.id == snapshot));
        if node.to_do.len() < waiting {
            let engine = node.engine.as_mut().expect("the node lives");
            engine.step(now, Input::SnapshotInstalled { id: snapshot, installed: false });
        }
    }

    /// Does one piece of the work of the disk or of the state machine, and tells the engine. False when there is none.
    fn work(&mut self, id: u64) -> bool {
        let node = self.node_mut(id);
        if !node.is_disk_slow && !node.writes.is_empty() {
            self.finish_write(id);
            return true;
        }
        if !node.is_building_slow && !node.to_build.is_empty() {
            self.finish_building(id);
            return true;
        }
        if node.installing.is_some() {
            let may_finish = !node.is_installing_slow;
            if may_finish {
                self.finish_installing(id);
            }
            return may_finish;
        }
        if node.is_machine_slow {
            return false;
        }
        match node.to_do.pop_front() {
            None => return false,
            Some(Work::Apply(apply)) => self.finish_apply(id, apply),
            Some(Work::Build(snapshot)) => node.to_build.push_back((snapshot, node.machine.clone())),
            Some(Work::Install(installation)) => node.installing = Some(installation),
        }
        true
    }

    fn finish_write(&mut self, id: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        let write = node.writes.pop_front().expect("a write is in flight");
        node.disk.carry_out(&write);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::Persisted { write: write.id });
    }

    fn finish_apply(&mut self, id: u64, apply: Apply<Test>) {
        let now = self.now;
        let node = self.node_mut(id);
        let last = node.apply(apply);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::Applied { last });
    }

    fn finish_building(&mut self, id: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        let (snapshot, image) = node.to_build.pop_front().expect("a snapshot is to be built");
        let meta = image.meta();
        // A later one may have been installed meanwhile.
        if node.snapshot_index() <= meta.last.index {
            node.replace_snapshot(image);
        }
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::SnapshotBuilt { id: snapshot, meta });
    }

    fn finish_installing(&mut self, id: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        let Installation { id: snapshot, request, announced } =
            node.installing.take().expect("a snapshot is being installed");
        let image = node.arrivals[&request].image.clone();
        assert_eq!(image.meta(), announced.meta);
        let applied = node.machine.applied.last_applied;
        assert!(applied.index <= announced.meta.last.index, "node {id} would go back from {applied}");
        node.machine = image.clone();
        node.replace_snapshot(image);
        self.oracle.state_replaced(id);
        let node = self.node_mut(id);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::SnapshotInstalled { id: snapshot, installed: true });
    }

    /// The oldest write of a slow disk is done.
    pub fn complete_write(&mut self, id: u64) {
        self.finish_write(id);
        self.carry_out(id);
        self.oracle.check(&self.nodes);
    }

    /// All writes of a slow disk are done, and the engine is told of the last one only. Returns how many there were.
    pub fn complete_all_writes_at_once(&mut self, id: u64) -> usize {
        let node = self.node_mut(id);
        let writes: Vec<_> = node.writes.drain(..).collect();
        for write in &writes {
            node.disk.carry_out(write);
        }
        let last = writes.last().expect("a write is in flight").id;
        self.step(id, Input::Persisted { write: last });
        writes.len()
    }

    /// Whether the node's disk has writes that are not done.
    pub fn has_writes(&self, id: u64) -> bool {
        !self.node(id).writes.is_empty()
    }

    /// The disk is slow from now on: writes are done only by [`complete_write`](Self::complete_write).
    pub fn slow_disk(&mut self, id: u64) {
        self.node_mut(id).is_disk_slow = true;
    }

    /// Everything that waits is done, and nothing waits from now on.
    pub fn speed_up(&mut self, id: u64) {
        let node = self.node_mut(id);
        node.is_disk_slow = false;
        node.is_machine_slow = false;
        node.is_building_slow = false;
        node.is_installing_slow = false;
        if node.is_alive() {
            self.work(id);
            self.carry_out(id);
            self.oracle.check(&self.nodes);
        }
    }

    /// Installing the snapshot that has arrived fails: its stream broke off.
    pub fn fail_installing(&mut self, id: u64) {
        let installation = self.node_mut(id).installing.take().expect("a snapshot is being installed");
        self.step(id, Input::SnapshotInstalled { id: installation.id, installed: false });
    }

    /// The snapshot that is being built cannot be: its disk is full.
    pub fn fail_building(&mut self, id: u64) {
        let (snapshot, _) = self.node_mut(id).to_build.pop_front().expect("a snapshot is being built");
        let error = AnyError::error("no space left on the device");
        self.step(id, Input::SnapshotBuildFailed { id: snapshot, error });
    }

    /// A node loses everything that is not on its disk.
    pub fn crash(&mut self, id: u64) {
        // Whoever was sending a snapshot here sees the connection end.
        for arrival in std::mem::take(&mut self.node_mut(id).arrivals).into_values() {
            let what = What::SnapshotAnswer { id: arrival.id, response: None };
            self.letters.push_back(Letter { from: id, to: arrival.from, what });
        }
        self.node_mut(id).crash();
    }

    /// Starts a node from what is on its disk.
    pub fn restart(&mut self, id: u64) {
        let (config, now) = (self.config.clone(), self.now);
        self.node_mut(id)
            .start(&config, now)
            .unwrap_or_else(|error| panic!("node {id} refuses to start: {error}"));
        self.oracle.restarted(&self.nodes[&id]);
        self.oracle.saw_entries(&self.nodes[&id].view, 0);
        self.carry_out(id);
        self.oracle.check(&self.nodes);
    }
}
