//! Three engines of openconsensus in one thread.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use openconsensus::engine::{Effects, Engine, Input, LogWrite, Recovered, Reply, RequestId};
use openconsensus::{Config, Entries, Entry, Payload, TypeConfig};

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
    fn step(&mut self, now: Instant, input: Input<App>) {
        self.engine.step(now, input);
        self.is_due = true;
    }

    /// Does everything but sending.
    fn carry_out(&mut self, now: Instant, effects: &mut Effects<App>) {
        self.engine.take_effects_into(now, effects);
        assert!(effects.reads.is_empty() && effects.snapshots.is_empty(), "everything is in memory");
        if let Some(write) = effects.write.take() {
            let id = write.id;
            self.write(write);
            self.step(now, Input::Persisted { write: id });
        }
        for (_, reply) in effects.replies.drain(..) {
            assert!(matches!(reply, Reply::Initialized | Reply::Appended { .. }), "{reply:?}");
        }
        if let Some(apply) = effects.apply.take() {
            self.apply(&apply.entries);
            let last = apply.entries.last().expect("it is in memory");
            self.step(now, Input::Applied { last });
        }
    }

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
    /// Used again in every turn.
    effects: Effects<App>,
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
        let mut group = Self { nodes: (1..=NODES).map(node).collect(), effects: Effects::default() };
        let nodes = (1..=NODES).map(|id| (id, ())).collect();
        group.step(0, now, Input::Initialize { request: RequestId(0), nodes });
        group.settle(now);
        group.step(0, now, Input::Campaign);
        group.settle(now);
        assert_eq!(group.nodes[0].engine.leader(), Some(1));
        group
    }

    fn step(&mut self, place: usize, now: Instant, input: Input<App>) {
        self.nodes[place].step(now, input);
    }

    /// Carries out everything that there is to do.
    fn settle(&mut self, now: Instant) {
        loop {
            let mut is_settled = true;
            for place in 0..self.nodes.len() {
                while std::mem::take(&mut self.nodes[place].is_due) {
                    is_settled = false;
                    self.nodes[place].carry_out(now, &mut self.effects);
                    let from = place as u64 + 1;
                    for (to, message) in self.effects.messages.drain(..) {
                        self.nodes[to as usize - 1].step(now, Input::Receive { from, message });
                    }
                }
            }
            if is_settled {
                return;
            }
        }
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
