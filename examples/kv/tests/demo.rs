//! `kv demo` with small numbers, and what it does when it cannot run or is interrupted.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.arg("demo").args(args);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until `condition` holds.
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(5)); // paces the polling
    }
}

/// The processes whose command line names `folder`.
fn processes_of(folder: &Path) -> Vec<u32> {
    let folder = folder.to_str().unwrap();
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).split('\0').any(|arg| arg.starts_with(folder))
    })
    .collect()
}

#[test]
fn nothing_is_lost_when_the_leader_is_killed_under_load() {
    let output = demo(&["--lines", "2000", "--clients", "4", "--kills", "1", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["lost"], 0);
    assert_eq!(report["differing"], 0);
    assert_eq!(report["stale_reads"], 0);
    assert_eq!(report["import"]["lines"], 2000);
    assert_eq!(report["kills"].as_array().unwrap().len(), 1);
    let kill = &report["kills"][0];
    assert!(kill["term"].as_u64() < kill["next_term"].as_u64());
    assert_ne!(kill["node"], kill["next_leader"]);
    assert!(0.0 < kill["write_ms"].as_f64().unwrap());
    // Node 4 came, and one of the first three went.
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert_eq!(nodes[2]["node"], 4);
    for node in nodes {
        assert!(2000 < node["contents"]["keys"].as_u64().unwrap());
        assert_eq!(node["checksum"]["checksum"], report["checksum"]["checksum"]);
        assert_eq!(node["checksum"]["applied"], report["checksum"]["applied"]);
        assert!(0 < node["log_bytes"].as_u64().unwrap());
    }
    assert!(100 < report["load"]["acknowledged"].as_u64().unwrap());
    assert!(100 < report["load"]["reads"].as_u64().unwrap());
    assert_eq!(report["folder"], Value::Null);
}

#[test]
fn a_lost_and_a_foreign_key_are_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let args =
        ["--dir", data.to_str().unwrap(), "--lines", "2000", "--clients", "2", "--kills", "1", "--json"];
    let child = demo(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Somebody else takes away what was acknowledged, and puts in what was not.
    let log = data.join("node-1.log");
    until("node 1 to serve", || fs::read_to_string(&log).is_ok_and(|log| log.contains("ready: ")));
    let log = fs::read_to_string(&log).unwrap();
    let address = log.split_once("--listen ").unwrap().1.split_whitespace().next().unwrap();
    let kv = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(args).args(["--endpoints", address]).output().unwrap().status.success()
    };
    until("a line to be imported", || kv(&["get", "person/00000007"]));
    until("it to be deleted", || kv(&["delete", "person/00000007"]));
    until("another to be written", || kv(&["put", "intruder", "x"]));

    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["lost"], 1);
    assert_eq!(report["differing"], 1);
    assert_eq!(report["stale_reads"], 0);
    assert_eq!(report["folder"], data.to_str().unwrap());
    for node in report["nodes"].as_array().unwrap() {
        let faults = node["contents"]["faults"].as_array().unwrap();
        let keys: Vec<_> = faults.iter().map(|fault| fault["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["person/00000007", "intruder"]);
    }
}

#[test]
fn a_file_is_imported_and_the_report_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.jsonl");
    // The last of several lines with one key counts, and a line that is no record is left out.
    let mut lines: String =
        (0..300).map(|i| format!("{{\"key\":\"k{}\",\"value\":\"{i}\"}}\n", i % 100)).collect();
    lines.push_str("not a record\n");
    fs::write(&input, lines).unwrap();
    let data = folder.path().join("data");
    let args = [
        "--input",
        input.to_str().unwrap(),
        "--dir",
        data.to_str().unwrap(),
        "--kills",
        "0",
        "--clients",
        "2",
    ];
    let output = demo(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("Nothing is lost"), "{report}");
    assert!(report.contains("300 lines"), "{report}");
    assert!(report.contains("1 lines, left out"), "{report}");
    // A folder that was asked for by name stays.
    assert!(data.join("node-4.log").exists());
    assert!(processes_of(&data).is_empty());
}

#[test]
fn an_interrupted_demonstration_ends_its_nodes_and_names_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let child = demo(&["--dir", data.to_str().unwrap(), "--lines", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Itself and three nodes.
    until("the nodes to run", || processes_of(&data).len() == 4);
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = text(&output);
    assert!(told.contains("interrupted by SIGINT"), "{told}");
    assert!(told.contains(data.to_str().unwrap()), "{told}");
    until("the nodes to end", || processes_of(&data).is_empty());
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "data").unwrap();
    let output = demo(&["--dir", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output);
    assert!(told.contains("is not empty: name a new or an empty one"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_input_without_records_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.tsv");
    fs::write(&input, "no tab\n").unwrap();
    let output = demo(&["--input", input.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output);
    assert!(told.contains("there is nothing to import: line 1: "), "{told}");
}
