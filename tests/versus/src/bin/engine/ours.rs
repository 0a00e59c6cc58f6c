//! Three engines of openconsensus in one thread.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use openconsensus::engine::{Effects, Engine, Input, LogWrite, Recovered, Reply, RequestId};
use openconsensus::{Config, Entries, Entry, Message, Payload, TypeConfig};

use super::{Applied, Group, KEPT_ENTRIES, NODES, command};

/// Commands are bytes, as the peer's are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct App;

impl TypeConfig for App {
    type Command = Bytes;
    type Response = ();
    type NodeId = u64;
    type Node = ();

    fn command_bytes(command: &Bytes) -> u64 {
        command.len() as u64
    }
}

struct Node {
    engine: Engine<App>,
    /// Something has happened since its effects were taken last.
    is_due: bool,
    /// The log storage: batches of entries as they came, and how many entries there are.
    log: VecDeque<Entries<App>>,
    logged: usize,
    applied: Applied,
}

impl Node {
    /// Stores what is to be written, in the order of the fields.
    fn write(&mut self, write: LogWrite<App>) {
        let LogWrite { id: _, hard_state: _, truncate, purge, append, commit: _ } = write;
        assert!(truncate.is_none() && purge.is_none(), "nothing fails here, and there are no snapshots");
        self.logged += append.len();
        self.log.push_back(append);
        // Old entries are let go of so that a run takes bounded memory.
        while KEPT_ENTRIES < self.logged {
            self.logged -= self.log.pop_front().map_or(0, |batch| batch.len());
        }
    }

    fn apply(&mut self, entries: &Entries<App>) {
        for entry in entries.iter() {
            match &entry.payload {
                Payload::Command(command) => self.applied.count(command),
                Payload::Blank | Payload::Membership(_) => {}
            }
        }
    }
}

pub(crate) struct Ours {
    nodes: Vec<Node>,
}

impl Ours {
    /// A group that has elected its leader.
    pub(crate) fn new(payload_bytes: u64) -> Self {
        let now = Instant::now();
        let entry_bytes = Entry::<App>::OVERHEAD_BYTES + payload_bytes;
        let config = Config {
            snapshot_after_entries: None,
            tail_bytes_max: KEPT_ENTRIES as u64 * entry_bytes,
            ..Config::default()
        };
        let node = |id| Node {
            engine: Engine::new(
                config.clone().validate().expect("these values are allowed"),
                Recovered::empty(id, id),
                now,
            )
            .expect("an empty store does not contradict itself"),
            is_due: true,
            log: VecDeque::new(),
            logged: 0,
            applied: Applied::default(),
        };
        let mut group = Self { nodes: (1..=NODES).map(node).collect() };
        let nodes = (1..=NODES).map(|id| (id, ())).collect();
        group.step(0, now, Input::Initialize { request: RequestId(0), nodes });
        group.settle(now);
        group.step(0, now, Input::Campaign);
        group.settle(now);
        assert_eq!(group.nodes[0].engine.leader(), Some(1));
        group
    }

    fn step(&mut self, node: usize, now: Instant, input: Input<App>) {
        self.nodes[node].engine.step(now, input);
        self.nodes[node].is_due = true;
    }

    /// Carries out everything that there is to do.
    fn settle(&mut self, now: Instant) {
        loop {
            let mut is_settled = true;
            for place in 0..self.nodes.len() {
                while std::mem::take(&mut self.nodes[place].is_due) {
                    is_settled = false;
                    self.carry_out(place, now);
                }
            }
            if is_settled {
                return;
            }
        }
    }

    fn carry_out(&mut self, place: usize, now: Instant) {
        let node = &mut self.nodes[place];
        let Effects { write, messages, replies, reads, apply, snapshots, .. } = node.engine.take_effects(now);
        assert!(reads.is_empty() && snapshots.is_empty(), "everything is in memory");
        if let Some(write) = write {
            let id = write.id;
            node.write(write);
            node.engine.step(now, Input::Persisted { write: id });
            node.is_due = true;
        }
        for (_, reply) in &replies {
            assert!(matches!(reply, Reply::Initialized | Reply::Appended { .. }), "{reply:?}");
        }
        if let Some(apply) = apply {
            node.apply(&apply.entries);
            let last = apply.entries.last().expect("it is in memory");
            node.engine.step(now, Input::Applied { last });
            node.is_due = true;
        }
        let from = place as u64 + 1;
        for (to, message) in messages {
            self.receive(to, now, from, message);
        }
    }

    fn receive(&mut self, to: u64, now: Instant, from: u64, message: Message<App>) {
        self.step(to as usize - 1, now, Input::Receive { from, message });
    }
}

impl Group for Ours {
    fn commit(&mut self, now: Instant, template: &[u8], batch: u64) {
        for place in 0..self.nodes.len() {
            if self.nodes[place].engine.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.step(place, now, Input::Timeout);
            }
        }
        let commands = (0..batch).map(|_| command(template)).collect();
        self.step(0, now, Input::Write { request: RequestId(1), commands });
        self.settle(now);
    }

    fn applied(&self) -> Vec<Applied> {
        self.nodes.iter().map(|node| node.applied).collect()
    }
}
