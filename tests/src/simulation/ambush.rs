//! Elections behind the back of a leader that goes on serving reads by its lease: what leases must survive.

use std::ops::Range;

use openconsensus::RoleName;

use super::agenda::Due;
use super::clock::RIGHT_PPM;
use super::coverage::Count;
use super::event::{Happening, Ids};
use super::letters::Sent;
use super::planner::Planner;
use super::world::World;

/// What makes an election possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    /// A voter that has promised is started anew.
    Restart,
    /// A voter that has promised is asked to campaign.
    Campaign,
    /// Nothing but time.
    Wait,
    /// The machine of the leader is suspended.
    Suspend,
    /// The leader has asked a voter to take over.
    Transfer,
    /// What is sent to the leader arrives late, and what it sends does not.
    Late,
    /// A voter that has promised hears of a later term, from somebody whom it had asked before.
    LaterTerm,
}

/// Links that take a long time.
#[derive(Clone, Debug)]
pub(super) struct Sluggish {
    from: Ids,
    to: u64,
    when: Range<u64>,
}

impl Sluggish {
    pub(super) fn are_taken_by(&self, sent: Sent, now_us: u64) -> bool {
        self.to == sent.to && self.from.iter().any(|id| id == sent.from) && self.when.contains(&now_us)
    }
}

const TRICKS: [Trick; 7] = [
    Trick::Restart,
    Trick::Campaign,
    Trick::Wait,
    Trick::Suspend,
    Trick::Transfer,
    Trick::Late,
    Trick::LaterTerm,
];

/// Who takes part.
struct Cast {
    leader: u64,
    /// So many that the others are a quorum without them, with or without the leader.
    away: Vec<u64>,
    /// One of those that the leader needs for its lease.
    voter: u64,
    /// All but the leader.
    others: Vec<u64>,
}

impl Planner {
    /// Some voters lose the leader, so that it needs the promises of all the others. Later the leader is cut off without
    /// knowing it, and whoever has lost it wants to be elected. Meanwhile clients read by lease.
    pub(super) fn ambush(&mut self, world: &mut World) -> Option<Happening> {
        let election_us = self.plan.election_us;
        let again = self.rng.u64(3 * election_us..5 * election_us);
        self.push(again, Due::Ambush);
        let cast = self.cast(world)?;
        world.coverage.add(Count::Ambushes);
        self.skew(&cast);
        let lasts = self.rng.u64(2 * election_us..3 * election_us);
        for id in cast.away.clone() {
            self.part(0, lasts, cast.leader, id);
        }
        let trick = TRICKS[self.rng.usize(0..TRICKS.len())];
        // Whoever is away has given up the leader by then, or not yet.
        let at = match trick {
            Trick::LaterTerm => 3 * election_us / 2,
            _ => self.rng.u64(election_us / 4..5 * election_us / 4),
        };
        let asleep = self.play(trick, &cast, at);
        // Now nobody but itself tells the leader that it leads.
        let hidden = match trick {
            Trick::Transfer => at + self.rng.u64(0..election_us / 8),
            Trick::LaterTerm => at + self.heartbeat_us() * 3 / 2,
            _ => at,
        };
        for id in cast.others.clone() {
            if trick == Trick::Late && !cast.away.contains(&id) {
                self.push(hidden, Due::Planned(Happening::Cut { from: cast.leader, to: id }));
                self.push(hidden + election_us, Due::Mend(cast.leader, id));
            } else {
                self.part(hidden, 3 * election_us / 2, cast.leader, id);
            }
        }
        for _ in 0..3 {
            let later = at + self.rng.u64(0..election_us);
            // Those who are away may lack what is committed meanwhile.
            let is_away = self.percent(40);
            let node = if is_away { cast.away[self.rng.usize(0..cast.away.len())] } else { cast.voter };
            self.push(later, Due::Planned(Happening::Campaign { node }));
        }
        for _ in 0..10 {
            let later = at + asleep + self.rng.u64(0..election_us);
            self.push(later, Due::Planned(Happening::Read { node: cast.leader, by_lease: true }));
        }
        self.at_once.pop_front()
    }

    fn cast(&mut self, world: &World) -> Option<Cast> {
        let leader = world.leader()?;
        let engine = world.nodes[&leader].engine();
        debug_assert_eq!(engine.role(), RoleName::Leader);
        let mut others: Vec<u64> = engine.membership().all_voters().filter(|id| *id != leader).collect();
        if others.len() < 2 {
            return None;
        }
        self.rng.shuffle(&mut others);
        let away = others[..others.len() / 2].to_vec();
        Some(Cast { leader, voter: others[others.len() - 1], away, others })
    }

    /// The leader's clock is the slowest that is allowed, those of the others are the fastest.
    fn skew(&mut self, cast: &Cast) {
        let skew = self.plan.skew_ppm;
        if skew == 0 || self.percent(30) {
            return;
        }
        let set = |node, rate_ppm| Happening::SetClock { node, rate_ppm, jump_us: 0 };
        self.at_once.push_back(set(cast.leader, RIGHT_PPM - skew));
        let fast = cast.others.iter().map(|id| set(*id, RIGHT_PPM + skew));
        self.at_once.extend(fast);
    }

    /// From `at` on, two nodes do not hear each other for a while.
    fn part(&mut self, at: u64, lasts: u64, one: u64, other: u64) {
        for (from, to) in [(one, other), (other, one)] {
            self.push(at, Due::Planned(Happening::Cut { from, to }));
            self.push(at + lasts, Due::Mend(from, to));
        }
    }

    /// Most of the time in which a lease may last.
    pub(super) fn late(&mut self) -> u64 {
        self.rng.u64(self.plan.election_us / 4..self.plan.election_us / 2)
    }

    /// Returns for how long the leader will be asleep.
    fn play(&mut self, trick: Trick, cast: &Cast, at: u64) -> u64 {
        let (node, election_us) = (cast.voter, self.plan.election_us);
        match trick {
            Trick::Restart => {
                self.push(
                    at,
                    Due::Planned(Happening::Crash { node, writes: 1_000, parts: 0, forgets: false }),
                );
                let down = self.rng.u64(1..election_us / 8);
                self.push(at + down, Due::Restart(node));
            }
            Trick::Campaign => self.push(at, Due::Planned(Happening::Campaign { node })),
            Trick::Wait => {}
            Trick::Late => {
                let from = cast.others.iter().copied().collect();
                self.slow_down(from, cast.leader, at.saturating_sub(election_us / 4), at + election_us);
            }
            Trick::Suspend => {
                let for_us = self.rng.u64(election_us / 4..2 * election_us);
                self.push(at, Due::Planned(Happening::Suspend { node: cast.leader, for_us }));
                return for_us;
            }
            Trick::LaterTerm => self.tell_of_a_later_term(cast, at),
            Trick::Transfer => {
                let transfer = Happening::Transfer { node: cast.leader, target: Some(node) };
                self.push(at, Due::Planned(transfer));
            }
        }
        0
    }

    /// The voter loses the leader, asks those who are away, and hears the leader once more before their answers, which
    /// are of a later term, arrive.
    fn tell_of_a_later_term(&mut self, cast: &Cast, at: u64) {
        let (leader, voter, election_us) = (cast.leader, cast.voter, self.plan.election_us);
        for node in &cast.away {
            self.push(at - election_us, Due::Planned(Happening::Campaign { node: *node }));
        }
        let cut = Due::Planned(Happening::Cut { from: leader, to: voter });
        self.push(at - election_us, cut);
        self.push(at, Due::Mend(leader, voter));
        let again = self.heartbeat_us() * 5 / 4;
        self.push(at + again, cut);
        let from = cast.away.iter().copied().collect();
        self.slow_down(from, voter, at - election_us / 2, at);
    }

    fn heartbeat_us(&self) -> u64 {
        1000 * self.plan.config.heartbeat_interval_ms
    }

    fn slow_down(&mut self, from: Ids, to: u64, begin: u64, end: u64) {
        self.sluggish = Some(Sluggish { from, to, when: self.now_us + begin..self.now_us + end });
    }
}
