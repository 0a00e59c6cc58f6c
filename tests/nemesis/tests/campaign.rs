//! Short campaigns: one that must find nothing, and one whose reads are stale, which must be found; stored histories.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use openconsensus_nemesis::{Campaign, Fault, KvHistory, Reads, recheck};
use openconsensus_tests::linearizability::{KvRequest, KvResponse, Outcome};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openconsensus-nemesis");

fn campaign(folder: &Path, reads: Reads, seconds: u64) -> Campaign {
    let seed = std::env::var("SEED").ok().map_or(1, |seed| seed.parse().expect("SEED is a number"));
    let duration = Duration::from_secs(seconds);
    Campaign {
        program: PathBuf::from(PROGRAM),
        duration,
        seed,
        clients: 10,
        reads,
        folder: folder.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_under_faults_are_linearizable() {
    let folder = tempfile::tempdir().unwrap();
    let campaign = campaign(folder.path(), Reads::Linearizable, 10);
    let summary = match campaign.run(|what| println!("{what}")).await {
        Ok(summary) => summary,
        Err(failed) => {
            let kept = folder.keep();
            panic!("{}\n\nkept in {}; SEED={} repeats it", failed.error, kept.display(), campaign.seed);
        }
    };
    println!("{summary}");
    assert!(summary.faults.values().sum::<u64>() >= 3, "hardly anything was done to the cluster");
    assert!(summary.counts.returned > 100 && summary.keys > 0, "hardly anything was asked of the cluster");
    assert_eq!(recheck(&folder.path().join("history.jsonl")).unwrap(), summary.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_reads_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let failed = campaign(folder.path(), Reads::Stale, 2).run(|_| {}).await.unwrap_err();
    let report = failed.report.expect("the history was checked");
    println!("{report}");
    assert!(!report.violations.is_empty(), "{}", failed.error);
    let again = recheck(&failed.history.expect("the history was kept")).unwrap();
    assert_eq!(again.violations, report.violations);
}

#[test]
fn a_stored_history_is_checked_again_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    let checked = |second: &str| {
        let mut history = KvHistory::new();
        for (client, value) in [(1, "a"), (2, second)] {
            let write = history.call(client, Duration::from_millis(client), KvRequest::put("k", value));
            history.end(write, Duration::from_millis(client), Outcome::Returned(KvResponse::Done));
        }
        let read = history.call(3, Duration::from_millis(3), KvRequest::get("k"));
        let seen = KvResponse::Value(Some("a".to_string()));
        history.end(read, Duration::from_millis(4), Outcome::Returned(seen));
        history.write(File::create(&file).unwrap()).unwrap();
        Command::new(PROGRAM).arg("--check").arg(&file).output().unwrap()
    };
    let right = checked("a");
    assert!(right.status.success() && String::from_utf8_lossy(&right.stdout).starts_with("linearizable"));
    let wrong = checked("b");
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && text.contains("client 3: get → \"a\""), "{text}");
    std::fs::write(&file, "no history").unwrap();
    let none = Command::new(PROGRAM).arg("--check").arg(&file).output().unwrap();
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("line 1"));
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(Fault::to_string).collect();
    assert_eq!(names.len(), Fault::ALL.len());
}
