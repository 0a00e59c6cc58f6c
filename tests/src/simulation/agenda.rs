//! What is due, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::Happening;
use super::letters::Sent;

/// Something that is due at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Letter(Sent),
    /// A letter arrives, and a copy of it stays under way.
    FirstCopy(Sent),
    Loss(Sent),
    Timer(u64),
    Disk(u64),
    Machine(u64),
    Building(u64),
    Installing(u64),
    Reading(u64),
    Sending(u64),
    Effects(u64),
    Restart(u64),
    /// A node dies, or is cut off, if it still leads.
    Strike(u64),
    Mend(u64, u64),
    /// What was decided before.
    Planned(Happening),
    /// Somebody is elected behind the back of a leader with a lease.
    Ambush,
    Client,
    Admin,
    Fault,
    Spell,
}

/// A list of what is due, in the order of time. What a node was to do is void when it has died meanwhile.
#[derive(Debug)]
pub(super) struct Agenda {
    /// When, in which order where times are equal, and where it stands.
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// What is due, and in which life of its node.
    dues: Vec<(Due, u32)>,
    /// Places that are free.
    free: Vec<usize>,
    order: u64,
    /// Counts the lives of each node.
    lives: Vec<u32>,
}

impl Agenda {
    pub(super) fn new(ids: usize) -> Self {
        Self { queue: BinaryHeap::new(), dues: Vec::new(), free: Vec::new(), order: 0, lives: vec![0; ids] }
    }

    pub(super) fn push(&mut self, at_us: u64, due: Due) {
        let life = due.node().map_or(0, |node| self.lives[node as usize]);
        self.order += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.dues[place] = (due, life);
                place
            }
            None => {
                self.dues.push((due, life));
                self.dues.len() - 1
            }
        };
        self.queue.push(Reverse((at_us, self.order, place)));
    }

    /// The next that is not void.
    pub(super) fn pop(&mut self) -> (u64, Due) {
        loop {
            let Reverse((at_us, _, place)) = self.queue.pop().expect("timers run for ever");
            let (due, life) = self.dues[place];
            self.free.push(place);
            if due.node().is_none_or(|node| self.lives[node as usize] == life) {
                return (at_us, due);
            }
        }
    }

    /// A node has died.
    pub(super) fn forget(&mut self, node: u64) {
        self.lives[node as usize] += 1;
    }
}

impl Due {
    /// The node that does it.
    pub(super) fn acts_on(self) -> Option<u64> {
        match self {
            Self::Letter(sent) | Self::FirstCopy(sent) => Some(sent.to),
            due => due.node(),
        }
    }

    /// The node whose work it is: it is void when the node dies.
    pub(super) fn node(self) -> Option<u64> {
        match self {
            Self::Timer(node)
            | Self::Disk(node)
            | Self::Machine(node)
            | Self::Building(node)
            | Self::Installing(node)
            | Self::Reading(node)
            | Self::Sending(node)
            | Self::Effects(node) => Some(node),
            Self::Letter(_)
            | Self::FirstCopy(_)
            | Self::Loss(_)
            | Self::Restart(_)
            | Self::Strike(_)
            | Self::Mend(..)
            | Self::Planned(_)
            | Self::Ambush
            | Self::Client
            | Self::Admin
            | Self::Fault
            | Self::Spell => None,
        }
    }
}
