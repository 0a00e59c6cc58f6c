//! The simulator: random runs find nothing wrong with the engine, and everything that is wrong on purpose.
//!
//! Every run is decided by its seed. A run that fails says which, tells its story and prints the command that repeats
//! it. `SEEDS=n` runs the first `n` seeds, `SEED=n` that one alone; the binary `simulate` runs many more.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use openconsensus_tests::simulation::{
    CAMPAIGN_SEEDS_MIN, Count, Effort, Report, Run, Sabotage, Story, campaign, command, replay, run,
};

/// What a test may spend on a shorter list of events.
const EFFORT: Effort = Effort { replays_max: 400, time_max: Duration::from_secs(20) };

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|value| value.parse().expect("a seed is a number"));
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(40),
    }
}

fn fail(run: &Run) -> ! {
    let story = Story::of(run, EFFORT);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulation");
    let files = story.save(&folder).map_or_else(
        |error| error.to_string(),
        |(text, html)| format!("trace: {}\ndiagram: {}", text.display(), html.display()),
    );
    panic!("{}\n{files}", story.summary);
}

/// Figure 3 of the paper, durability, the rules of changes of membership, linearizable reads and true answers to clients
/// hold at every step, while messages are lost, repeated and reordered, disks are slow or fail, clocks go wrong, nodes
/// crash, memberships change, leaders hand over and snapshots are built and sent; and when that ends, the cluster comes
/// to rest (5.5, 5.6).
#[test]
fn safety_and_liveness_hold_under_random_faults() {
    let seeds = seeds();
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let report = campaign(seeds.clone(), threads, None, &|_| {});
    if let Some(run) = report.violations.first() {
        fail(run);
    }
    assert_eq!(report.missing(), Vec::<&str>::new(), "these have never happened in {} runs", report.runs);
    if 40 <= report.runs {
        let often = [
            (Count::CommandsCommitted, 200),
            (Count::ElectionsWon, 2),
            (Count::Crashes, 2),
            (Count::MembershipsCommitted, 1),
            (Count::ReadsServed, 5),
        ];
        for (count, times) in often {
            let seen = report.coverage.of(count);
            assert!(times * report.runs <= seen, "{count:?}: only {seen} in {} runs", report.runs);
        }
        let some = [
            Count::Truncations,
            Count::SnapshotsInstalled,
            Count::JointLeft,
            Count::TransfersDone,
            Count::CatchUpReads,
            Count::DiskFailures,
            Count::CrashesWithWrites,
        ];
        for count in some {
            assert!(0 < report.coverage.of(count), "no {count:?} in {} runs", report.runs);
        }
    }
}

#[test]
fn a_seed_decides_everything_that_happens() {
    let mut hashes = Vec::new();
    for seed in [3, 17, 29] {
        let (first, second) = (run(seed, None), run(seed, None));
        assert_eq!(first.hash, second.hash, "seed {seed} gives two traces");
        assert_eq!(first.events, second.events);
        assert_eq!((first.steps, &first.coverage), (second.steps, &second.coverage));
        hashes.push(first.hash);
        // The list of events is all that there is to it.
        let replayed = replay(seed, None, &first.events, true, false);
        assert_eq!((replayed.hash, replayed.steps), (first.hash, first.steps));
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 3, "another seed is another run");
}

/// Whatever is left out of a list of events, the rest is a world in which things go wrong in another way. So nothing that
/// is promised may be broken in it either: otherwise leaving out would lead from one violation to another.
#[test]
fn what_is_left_of_a_run_when_events_are_left_out_is_a_run_too() {
    for seed in 0..6 {
        let whole = run(seed, None);
        for part in 2..5 {
            let events: Vec<_> = (0..)
                .zip(&whole.events)
                // The first two begin the cluster; without it there is nothing that could come to rest.
                .filter(|(place, _)| *place < 2 || !((place * 2_654_435_761_u64) >> 7).is_multiple_of(part))
                .map(|(_, event)| *event)
                .collect();
            let rest = replay(seed, None, &events, true, false);
            assert_eq!(rest.violation, None, "seed {seed}, without one of {part} events");
        }
    }
}

/// The first run that notices what is wrong on purpose, and its story.
fn story(sabotage: Sabotage) -> (Run, Story) {
    let found = (0..200).map(|seed| run(seed, Some(sabotage))).find(|run| run.violation.is_some());
    let run = found.unwrap_or_else(|| panic!("nobody notices {sabotage} in 200 runs"));
    let story = Story::of(&run, EFFORT);
    let left = &story.minimised.run;
    assert_eq!(
        left.violation.as_ref().map(|violation| &violation.place),
        run.violation.as_ref().map(|violation| &violation.place),
        "{sabotage}: a shorter list leads to the same check"
    );
    assert!(left.events.len() <= run.events.len());
    let repeat = format!("--seed {} --sabotage {sabotage}", run.seed);
    assert!(command(&run).ends_with(&repeat), "{}", command(&run));
    assert!(story.summary.contains(&repeat), "{}", story.summary);
    assert!(story.html.contains("<svg") && story.html.ends_with("</html>\n"));
    assert!(!story.html.contains("http-equiv") && !story.html.contains("src="), "it needs nothing else");
    (run, story)
}

fn message(run: &Run) -> &str {
    &run.violation.as_ref().expect("it was found").message
}

#[test]
fn a_disk_that_acknowledges_before_it_has_written_is_noticed() {
    let (run, _) = story(Sabotage::AckBeforeFlush);
    let expected =
        ["before it is durable", "no quorum", "its disk", "before its own is durable", "has saved"];
    assert!(expected.iter().any(|part| message(&run).contains(part)), "{}", message(&run));
}

#[test]
fn a_disk_that_loses_a_completed_write_is_noticed() {
    story(Sabotage::LoseCompletedWrite);
}

#[test]
fn a_vote_that_is_forgotten_is_noticed() {
    let (run, _) = story(Sabotage::ForgetVote);
    assert!(message(&run).contains("has forgotten it"), "{}", message(&run));
}

#[test]
fn a_vote_of_another_node_is_noticed() {
    let (run, story) = story(Sabotage::StealVotes);
    assert!(message(&run).contains("no quorum") || message(&run).contains("lead"), "{}", message(&run));
    assert!(story.trace.contains("vote Normal granted"), "{}", story.trace);
}

#[test]
fn a_state_machine_that_leaves_out_a_command_is_noticed() {
    let (run, _) = story(Sabotage::SkipCommand);
    assert!(message(&run).contains("State Machine Safety"), "{}", message(&run));
}

#[test]
fn a_stale_read_is_noticed() {
    let (run, story) = story(Sabotage::ReadAtOnce);
    assert!(message(&run).contains("was committed before"), "{}", message(&run));
    assert!(story.minimised.run.events.len() < 60, "{}", story.summary);
}

#[test]
fn a_false_answer_to_a_client_is_noticed() {
    let (run, _) = story(Sabotage::AnswerByIndex);
    assert!(message(&run).contains("a client was told"), "{}", message(&run));
}

#[test]
fn a_cluster_that_does_not_come_to_rest_is_noticed() {
    let (run, _) = story(Sabotage::StayCut);
    assert!(run.violation.is_some_and(|violation| violation.in_calm));
}

/// A lease is safe as long as the clocks keep to what is promised of them, and no longer.
#[test]
fn clocks_that_differ_by_more_than_leases_allow_for_are_noticed() {
    let (run, _) = story(Sabotage::SkewClocks);
    assert!(message(&run).contains("was committed when it was asked for"), "{}", message(&run));
}

#[test]
fn a_suspension_that_nobody_is_told_of_is_noticed() {
    let (run, story) = story(Sabotage::MissSuspensions);
    assert!(message(&run).contains("was committed when it was asked for"), "{}", message(&run));
    assert!(story.trace.contains("suspended"), "{}", story.trace);
}

/// The shortest list is one from which no single event can be left out.
#[test]
fn no_event_of_a_shortest_list_can_be_left_out() {
    let (run, _) = story(Sabotage::StealVotes);
    // A list is the shortest only if nobody has given up before.
    let story = Story::of(&run, Effort { replays_max: 20_000, time_max: Duration::from_secs(120) });
    let left = &story.minimised.run;
    assert!(left.events.len() < run.events.len() / 2, "{}", story.summary);
    for place in 0..left.events.len() {
        let mut events = left.events.clone();
        events.remove(place);
        let rest = replay(run.seed, run.sabotage, &events, false, false);
        let is_same = rest.violation.is_some_and(|violation| {
            Some(violation.place) == left.violation.as_ref().map(|violation| violation.place.clone())
        });
        assert!(!is_same, "event {place} can be left out:\n{}", story.summary);
    }
}

#[test]
fn a_silent_simulation_is_noticed() {
    let mut report = Report { runs: CAMPAIGN_SEEDS_MIN, ..Report::default() };
    assert!(report.missing().contains(&"elections won"));
    assert!(report.missing().contains(&"crashes in the middle of a write"));
    report.coverage.add(Count::ElectionsWon);
    assert!(!report.missing().contains(&"elections won"));
    report.runs = CAMPAIGN_SEEDS_MIN - 1;
    assert!(report.missing().is_empty(), "a few runs need not have everything");
}
