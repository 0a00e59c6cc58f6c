//! The executor: order, time, clocks, and the end of processes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::oneshot;
use openconsensus::AsyncRuntime;
use openconsensus_tests::sim_runtime::{NodeClock, Sim, SimRuntime, TraceText, for_seeds, run_seed};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Several tasks that take random turns; returns the order in which they have.
fn turns(sim: &Sim) -> Vec<u64> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let world = sim.world();
    for number in 0..10 {
        let (order, world_there) = (order.clone(), world.clone());
        world.spawn(async move {
            let mut random = world_there.generator();
            for _ in 0..5 {
                world_there.let_pass(ms(random.u64(0..4))).await;
                world_there.note(format_args!("turn of {number}"));
                order.lock().unwrap().push(number);
            }
        });
    }
    sim.run(world.let_pass(ms(100)));
    Arc::try_unwrap(order).unwrap().into_inner().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let turns = turns(&sim);
        assert_eq!(turns.len(), 50);
        (turns, sim.trace_hash(), sim.decisions())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
    assert_ne!(run(1).1, run(2).1);
}

#[test]
fn the_trace_as_text_does_not_change_the_run() {
    let run = |text| {
        let sim = Sim::with_trace(3, text);
        turns(&sim);
        (sim.trace_hash(), sim.trace())
    };
    let (hash, nothing) = run(TraceText::None);
    let (hash_of_events, events) = run(TraceText::Events);
    let (hash_of_all, all) = run(TraceText::All);
    assert_eq!((hash_of_events, hash_of_all), (hash, hash));
    assert_eq!((nothing.as_str(), events.lines().count()), ("", 50));
    assert!(events.lines().count() < all.lines().count() && all.contains("run world#"), "{all}");
}

#[test]
fn time_passes_only_when_nothing_is_ready_and_then_to_the_next_timer() {
    let sim = Sim::new(1);
    let world = sim.world();
    sim.run(async {
        let begin = world.now();
        for _ in 0..100 {
            let (sender, receiver) = oneshot::channel();
            world.spawn(async move { sender.send(()).unwrap() });
            receiver.await.unwrap();
        }
        assert_eq!(world.now(), begin);
        world.sleep_until(begin + Duration::from_secs(3600)).await;
        assert_eq!(world.now(), begin + Duration::from_secs(3600));
        assert_eq!(sim.elapsed(), Duration::from_secs(3600));
    });
}

#[test]
fn every_process_has_a_clock_of_its_own() {
    let sim = Sim::new(1);
    let world = sim.world();
    let fast = world.process("fast", NodeClock { drift_ppm: 500_000, ..NodeClock::exact() });
    let ahead = world.process("ahead", NodeClock { offset: ms(7), ..NodeClock::exact() });
    assert_eq!(ahead.now() - world.now(), ms(7));
    sim.run(async {
        let begin = fast.now();
        fast.sleep_until(begin + ms(1500)).await;
        assert_eq!((sim.elapsed(), fast.now() - begin), (ms(1000), ms(1500)));
        assert_eq!(ahead.now() - world.now(), ms(7));
    });
}

#[test]
fn timers_of_a_bad_clock_are_late_or_early_and_never_before_they_are_armed() {
    let sim = Sim::new(5);
    let clock = NodeClock { lateness_max: ms(5), early_share: 0.2, ..NodeClock::exact() };
    let node = sim.world().process("node", clock);
    sim.run(async {
        let (mut early, mut late) = (0, 0);
        for _ in 0..500 {
            let deadline = node.now() + ms(20);
            node.sleep_until(deadline).await;
            early += u32::from(node.now() < deadline);
            late += u32::from(deadline < node.now());
            assert!(node.now() <= deadline + ms(5));
        }
        assert!((50..200).contains(&early), "{early} of 500 early");
        assert!(300 < late, "{late} of 500 late");
    });
}

/// Counts for ever, once a millisecond.
fn count(runtime: &SimRuntime) -> Arc<AtomicU64> {
    let counter = Arc::new(AtomicU64::new(0));
    let (counter_there, runtime_there) = (counter.clone(), runtime.clone());
    runtime.spawn(async move {
        loop {
            counter_there.fetch_add(1, Ordering::SeqCst);
            runtime_there.let_pass(ms(1)).await;
        }
    });
    counter
}

#[test]
fn a_process_that_is_killed_drops_all_that_its_tasks_own_and_runs_no_more() {
    let sim = Sim::new(1);
    let world = sim.world();
    let node = world.process("node", NodeClock::exact());
    let (counter, other) = (count(&node), count(&world));
    let (sender, mut receiver) = oneshot::channel::<()>();
    node.spawn(async move {
        std::future::pending::<()>().await;
        drop(sender);
    });
    sim.run(world.let_pass(ms(10)));
    assert_eq!(receiver.try_recv(), Ok(None));
    node.kill();
    assert!(node.is_killed() && receiver.try_recv().is_err());
    let counted = counter.load(Ordering::SeqCst);
    assert_eq!(Arc::strong_count(&counter), 1);
    let never = count(&node);
    sim.run(world.let_pass(ms(10)));
    assert_eq!((counter.load(Ordering::SeqCst), never.load(Ordering::SeqCst)), (counted, 0));
    assert!(15 < other.load(Ordering::SeqCst));
}

#[test]
fn a_task_that_kills_its_own_process_ends_at_the_end_of_its_poll() {
    let sim = Sim::new(1);
    let node = sim.world().process("node", NodeClock::exact());
    let (steps, node_there) = (Arc::new(AtomicU64::new(0)), node.clone());
    let steps_there = steps.clone();
    node.spawn(async move {
        node_there.kill();
        steps_there.fetch_add(1, Ordering::SeqCst);
        node_there.let_pass(ms(1)).await;
        steps_there.fetch_add(1, Ordering::SeqCst);
    });
    sim.run(sim.world().let_pass(ms(10)));
    assert_eq!((steps.load(Ordering::SeqCst), Arc::strong_count(&steps)), (1, 1));
}

#[test]
fn a_process_that_is_paused_stands_still_while_time_goes_on() {
    let sim = Sim::new(1);
    let world = sim.world();
    let node = world.process("node", NodeClock::exact());
    let counter = count(&node);
    sim.run(world.let_pass(ms(10)));
    node.pause();
    let before = counter.load(Ordering::SeqCst);
    sim.run(world.let_pass(ms(100)));
    assert_eq!(counter.load(Ordering::SeqCst), before);
    node.resume();
    sim.run(world.let_pass(ms(10)));
    let after = counter.load(Ordering::SeqCst) - before;
    assert!(
        (9..=12).contains(&after),
        "{after}: it must go on where it stood, and not make up for the pause"
    );
}

#[test]
fn a_simulation_that_is_dropped_drops_its_tasks() {
    let sim = Sim::new(1);
    let counter = count(&sim.world());
    sim.run(sim.world().let_pass(ms(3)));
    assert_eq!(Arc::strong_count(&counter), 2);
    drop(sim);
    assert_eq!(Arc::strong_count(&counter), 1);
}

fn panic_of(simulation: impl Fn(&Sim)) -> String {
    let sim = Sim::new(1);
    let panic = catch_unwind(AssertUnwindSafe(|| simulation(&sim))).expect_err("it must panic");
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string())
}

#[test]
fn a_simulation_that_cannot_go_on_says_so() {
    let stuck = panic_of(|sim| sim.run(std::future::pending()));
    assert!(stuck.contains("nothing can happen any more"), "{stuck}");
    let restless = panic_of(|sim| {
        sim.run(async {
            loop {
                let (sender, receiver) = oneshot::channel();
                sim.world().spawn(async move { sender.send(()).unwrap() });
                receiver.await.unwrap();
            }
        });
    });
    assert!(restless.contains("wake each other for ever"), "{restless}");
}

#[test]
fn a_seed_that_fails_is_repeated_with_its_trace_and_says_how() {
    let simulation = |sim: &Sim| {
        turns(sim);
        assert!(sim.seed() != 2, "seed 2 is bad");
    };
    assert_eq!(run_seed(1, simulation).unwrap().seed, 1);
    let failure = run_seed(2, simulation).unwrap_err();
    let text = failure.describe("cargo test bad");
    assert_eq!(failure.trace.lines().count(), 50);
    for part in ["turn of 7", "seed 2 failed", "seed 2 is bad", "SEED=2 cargo test bad"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn a_simulation_that_does_not_obey_its_seed_is_noticed() {
    if std::env::var("SEED").is_ok() || std::env::var("SEEDS").is_ok() {
        return;
    }
    let runs = RefCell::new(0);
    let disobeys = |sim: &Sim| {
        *runs.borrow_mut() += 1;
        sim.world().note(format_args!("run {}", runs.borrow()));
    };
    let panic = catch_unwind(AssertUnwindSafe(|| for_seeds("cargo test", 1, disobeys)));
    assert!(panic.is_err());
}
