//! One run: a storm that a seed decides, then calm, in which the cluster must come to rest; and the same again from a
//! list of events.
use std::cell::{Cell, RefCell};

use openconsensus::RoleName;

use crate::panics::{Caught, catch};

use super::coverage::Coverage;
use super::event::Event;
use super::plan::Plan;
use super::planner::Planner;
use super::sabotage::Sabotage;
use super::trace::Trace;
use super::watch::Standing;
use super::world::World;

/// After so many election timeouts of calm a cluster is at rest.
const CALM_TIMEOUTS: u64 = 20;
/// Beyond that so many more, as long as there still is something to send or to apply.
const BACKLOG_TIMEOUTS_MAX: u64 = 500;

/// What contradicted the oracles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What was seen.
    pub message: String,
    /// Where in the code the check stands: two failures of one check are taken for one failure.
    pub place: String,
    /// Whether it was seen in the calm after the storm.
    pub in_calm: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed that decided it.
    pub seed: u64,
    /// What is wrong on purpose, if anything is.
    pub sabotage: Option<Sabotage>,
    /// What happened in the storm. After a violation in the storm, up to it.
    pub events: Vec<Event>,
    /// Steps of engines.
    pub steps: u64,
    /// A hash of everything that has happened. Two runs of one seed have the same.
    pub hash: u64,
    /// What has happened, and how often.
    pub coverage: Coverage,
    /// What contradicted the oracles, if anything did.
    pub violation: Option<Violation>,
    /// What was seen, if that was asked for.
    pub trace: Option<Trace>,
}

/// Runs what `seed` decides.
pub fn run(seed: u64, sabotage: Option<Sabotage>) -> Run {
    let plan = Plan::of(seed);
    go(&plan, sabotage, None, |world, events| {
        let mut planner = Planner::stormy(&plan, world);
        while events.borrow().len() < plan.events {
            let event = planner.next(world);
            events.borrow_mut().push(event);
            world.apply(&event);
            planner.follow(world);
        }
        true
    })
}

/// Runs the world of `seed` with these events instead of those that the seed decides; with calm behind them only if
/// `until_calm`.
pub fn replay(
    seed: u64,
    sabotage: Option<Sabotage>,
    events: &[Event],
    until_calm: bool,
    traced: bool,
) -> Run {
    let plan = Plan::of(seed);
    go(&plan, sabotage, traced.then(Trace::default), |world, replayed| {
        for event in events {
            replayed.borrow_mut().push(*event);
            world.apply(event);
            world.letters.sent.clear();
        }
        until_calm
    })
}

/// A storm, and calm if the storm says so.
fn go(
    plan: &Plan,
    sabotage: Option<Sabotage>,
    trace: Option<Trace>,
    storm: impl FnOnce(&mut World, &RefCell<Vec<Event>>) -> bool,
) -> Run {
    let events = RefCell::new(Vec::with_capacity(plan.events));
    let in_calm = Cell::new(false);
    let mut world = World::new(plan, sabotage);
    world.trace = trace;
    let result = catch(|| {
        if storm(&mut world, &events) {
            in_calm.set(true);
            calm(plan, &mut world);
        }
    });
    world.count_engines();
    Run {
        seed: plan.seed,
        sabotage,
        events: events.into_inner(),
        steps: world.steps,
        hash: world.hash,
        violation: result.err().map(|Caught { message, place }| Violation {
            message,
            place,
            in_calm: in_calm.get(),
        }),
        coverage: world.coverage,
        trace: world.trace,
    }
}

/// Everything works and nobody asks for anything: the cluster must come to rest.
fn calm(plan: &Plan, world: &mut World) {
    let mut planner = Planner::calm(plan, world);
    let start = world.now_us;
    let mut pass = |world: &mut World, until_us: u64| {
        while world.now_us < until_us {
            let event = planner.next(world);
            world.apply(&event);
            planner.follow(world);
        }
    };
    pass(world, start + CALM_TIMEOUTS * plan.election_us / 2);
    let terms: Vec<_> = standings(world).into_iter().map(|(id, standing)| (id, standing.term)).collect();
    pass(world, start + CALM_TIMEOUTS * plan.election_us);
    // A long backlog takes its time, but only as long as it becomes shorter.
    let mut before = done_by_all(world);
    for _ in 0..BACKLOG_TIMEOUTS_MAX {
        let until_us = world.now_us + plan.election_us;
        pass(world, until_us);
        let done = done_by_all(world);
        if done == before {
            break;
        }
        before = done;
    }
    check_rest(world, &terms);
}

/// How much is in all logs and state machines.
fn done_by_all(world: &World) -> u64 {
    world.nodes.values().map(|node| node.machine.applied.last_applied.index + node.disk.last().index).sum()
}

fn standings(world: &World) -> Vec<(u64, Standing)> {
    let standing = |node: &crate::engines::node::Node| {
        let engine = node.engine.as_ref()?;
        let standing = Standing {
            leader: engine.leader(),
            term: engine.term(),
            last: engine.last(),
            committed: engine.committed(),
            applied: engine.applied(),
        };
        Some((node.id, standing))
    };
    world.nodes.values().filter_map(standing).collect()
}

/// One leader whom all members follow, in a term that has stopped growing; equal logs, all of them committed and
/// applied; nobody waits, and no snapshot is on its way.
fn check_rest(world: &mut World, terms: &[(u64, u64)]) {
    let leaders: Vec<u64> = world
        .nodes
        .values()
        .filter(|node| node.engine.as_ref().is_some_and(|engine| engine.role() == RoleName::Leader))
        .map(|node| node.id)
        .collect();
    let [leader] = leaders[..] else {
        panic!(
            "after {CALM_TIMEOUTS} election timeouts of calm the leaders are {leaders:?}:\n{}",
            world.describe()
        );
    };
    let engine = world.nodes[&leader].engine();
    let membership = engine.membership().clone();
    assert!(!membership.is_joint(), "a joint membership is never left:\n{}", world.describe());
    let last = engine.last();
    let expected =
        Standing { leader: Some(leader), term: engine.term(), last, committed: last.index, applied: last };
    for (id, standing) in standings(world) {
        if membership.is_member(id) {
            let view = world.describe();
            assert_eq!(standing, expected, "node {id} is not at rest with leader {leader}:\n{view}");
            let before = terms.iter().find(|(node, _)| *node == id).map(|(_, term)| *term);
            assert_eq!(before, Some(standing.term), "the term of node {id} goes on growing:\n{view}");
        }
    }
    let waiting = world.answers.waiting();
    assert!(waiting.is_empty(), "these are never answered: {waiting:?}:\n{}", world.describe());
    assert!(!world.has_snapshots_under_way(), "snapshots are sent without end:\n{}", world.describe());
}
