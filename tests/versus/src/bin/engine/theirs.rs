//! Three nodes of raft-rs in one thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::storage::{GetEntriesContext, RaftState, Storage};
use raft::{Config, RawNode, StateRole, StorageError};

use super::{Applied, Group, KEPT_ENTRIES, NODES, command};

/// How commands are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each by a call of its own; with `batch_append` the appends that follow are joined.
    Each,
    /// All in one message.
    Together,
}

/// Its log storage in memory: takes entries over as they come out of a `Ready`, and so has nothing to clone, which the
/// storage that comes with it has.
struct Log {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before the first one.
    before: (u64, u64),
    entries: VecDeque<Entry>,
}

impl Log {
    fn append(&mut self, entries: Vec<Entry>) {
        self.entries.extend(entries);
        // Old entries are let go of so that a run takes bounded memory.
        let surplus = self.entries.len().saturating_sub(KEPT_ENTRIES);
        if let Some(last) = self.entries.drain(..surplus).last() {
            self.before = (last.index, last.term);
        }
    }

    fn place(&self, index: u64) -> raft::Result<usize> {
        index.checked_sub(self.before.0 + 1).map(|place| place as usize).ok_or(StorageError::Compacted.into())
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let mut entries: Vec<_> = self.entries.range(self.place(low)?..self.place(high)?).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        self.entries.get(self.place(index)?).map(|entry| entry.term).ok_or(StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + self.entries.len() as u64)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

struct Node {
    raw: RawNode<Log>,
    applied: Applied,
}

impl Node {
    fn apply(&mut self, entries: &[Entry]) {
        // What a new leader appends has no data.
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            self.applied.count(&entry.data);
        }
    }
}

pub(crate) struct Theirs {
    nodes: Vec<Node>,
    mode: Mode,
    ticked: Instant,
}

const TICK: Duration = Duration::from_millis(10);

impl Theirs {
    /// A group that has elected its leader.
    pub(crate) fn new(mode: Mode) -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let voters: Vec<u64> = (1..=NODES).collect();
        let node = |id| {
            let config = Config {
                id,
                // As ours: heartbeats every 30 ms, elections after 150 to 300 ms, appends of 1 MiB, 256 of them in flight.
                heartbeat_tick: 3,
                election_tick: 15,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                check_quorum: true,
                pre_vote: true,
                batch_append: true,
                ..Config::default()
            };
            let conf_state = ConfState::from((voters.clone(), vec![]));
            let log = Log {
                hard_state: HardState::default(),
                conf_state,
                before: (0, 0),
                entries: VecDeque::new(),
            };
            let raw = RawNode::new(&config, log, &logger).expect("the configuration is valid");
            Node { raw, applied: Applied::default() }
        };
        let mut group =
            Self { nodes: voters.iter().map(|id| node(*id)).collect(), mode, ticked: Instant::now() };
        group.nodes[0].raw.campaign().expect("it may campaign");
        group.settle();
        assert_eq!(group.nodes[0].raw.raft.state, StateRole::Leader);
        group
    }

    /// Carries out everything that there is to do.
    fn settle(&mut self) {
        loop {
            let mut is_settled = true;
            for place in 0..self.nodes.len() {
                while self.nodes[place].raw.has_ready() {
                    is_settled = false;
                    self.carry_out(place);
                }
            }
            if is_settled {
                return;
            }
        }
    }

    fn carry_out(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let mut ready = node.raw.ready();
        let messages = ready.take_messages();
        node.apply(&ready.take_committed_entries());
        let entries = ready.take_entries();
        if !entries.is_empty() {
            node.raw.mut_store().append(entries);
        }
        if let Some(hard_state) = ready.hs() {
            node.raw.mut_store().hard_state = hard_state.clone();
        }
        let persisted = ready.take_persisted_messages();
        let mut light = node.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.raw.mut_store().hard_state.commit = commit;
        }
        node.apply(&light.take_committed_entries());
        let later = light.take_messages();
        node.raw.advance_apply();
        for messages in [messages, persisted, later] {
            for message in messages {
                let to = message.to as usize - 1;
                self.nodes[to].raw.step(message).expect("it is a message of a member");
            }
        }
    }
}

impl Group for Theirs {
    fn commit(&mut self, now: Instant, template: &[u8], batch: u64) {
        if TICK <= now.saturating_duration_since(self.ticked) {
            self.ticked = now;
            self.nodes.iter_mut().for_each(|node| {
                node.raw.tick();
            });
        }
        let leader = &mut self.nodes[0].raw;
        match self.mode {
            Mode::Each => {
                for _ in 0..batch {
                    let data = template.to_vec();
                    leader.propose(vec![], data).expect("it leads");
                }
            }
            Mode::Together => {
                let entry = |_| Entry { data: command(template), ..Entry::default() };
                let mut message = Message { from: leader.raft.id, ..Message::default() };
                message.set_msg_type(MessageType::MsgPropose);
                message.set_entries((0..batch).map(entry).collect::<Vec<_>>().into());
                leader.step(message).expect("it leads");
            }
        }
        self.settle();
    }

    fn applied(&self) -> Vec<Applied> {
        self.nodes.iter().map(|node| node.applied).collect()
    }
}
