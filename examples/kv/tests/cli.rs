//! The commands of `kv` against clusters of real processes.

mod nodes;

use std::fs;

use nodes::{Cluster, Node, kv, until};

#[test]
fn pairs_are_written_and_read_through_any_node() {
    let cluster = Cluster::start(3, &[]);
    for (number, node) in cluster.nodes.iter().enumerate() {
        let (key, value) = (format!("k{number}"), format!("v{number}"));
        assert_eq!(node.kv(&["put", &key, &value]).ok(), "");
        for reader in &cluster.nodes {
            assert_eq!(reader.kv(&["get", &key]).ok(), format!("{value}\n"));
        }
    }
    cluster.kv(&["get", "absent"]).fails(1, "the key absent is absent");
    assert_eq!(cluster.kv(&["put", "k0", "new", "--json"]).json()["previous"]["value"], "v0");
    assert_eq!(cluster.kv(&["delete", "k0", "--json"]).json()["previous"]["value"], "new");
    cluster.kv(&["get", "k0"]).fails(1, "absent");
    assert_eq!(cluster.kv(&["delete", "k0", "--json"]).json()["previous"]["value"], serde_json::Value::Null);
}

#[test]
fn values_of_any_bytes_are_kept_and_shown() {
    let cluster = Cluster::start(1, &[]);
    cluster.kv(&["put", "bytes", "00ff0a", "--hex"]).ok();
    assert_eq!(cluster.kv(&["get", "bytes"]).ok(), "\\x00\\xff\\n\n");
    assert_eq!(cluster.kv(&["get", "bytes", "--hex"]).ok(), "00ff0a\n");
    assert_eq!(cluster.kv(&["get", "bytes", "--json"]).json()["value_hex"], "00ff0a");
    assert_eq!(cluster.kv(&["get", "bytes", "--local", "--hex"]).ok(), "00ff0a\n");
    cluster.kv_with_input(&["put", "stdin", "-"], b"two\nlines").ok();
    assert_eq!(cluster.kv(&["get", "stdin", "--raw"]).ok(), "two\nlines");
    cluster.kv(&["put", "empty", ""]).ok();
    assert_eq!(cluster.kv(&["get", "empty"]).ok(), "\n");
}

#[test]
fn a_value_is_replaced_only_if_it_is_as_expected() {
    let cluster = Cluster::start(1, &[]);
    cluster.kv(&["cas", "k", "--absent", "--set", "1"]).ok();
    cluster.kv(&["cas", "k", "--absent", "--set", "2"]).fails(1, "it is 1");
    cluster.kv(&["cas", "k", "--expect", "0", "--set", "2"]).fails(1, "it is 1");
    assert_eq!(cluster.kv(&["cas", "k", "--expect", "1", "--set", "2", "--json"]).json()["set"], true);
    cluster.kv(&["cas", "k", "--expect", "2", "--delete"]).ok();
    cluster.kv(&["cas", "k", "--expect", "2", "--delete"]).fails(1, "the key is absent");
    cluster.kv(&["cas", "k", "--set", "2"]).fails(2, "--expect");
}

#[test]
fn a_scan_shows_a_range_in_order() {
    let cluster = Cluster::start(1, &[]);
    let lines: String = (0..5000).map(|number| format!("key{number:05}\tvalue {number}\n")).collect();
    cluster.kv_with_input(&["import"], lines.as_bytes()).ok();
    let all = cluster.kv(&["scan", "--prefix", "key"]).ok();
    assert_eq!(all, lines);
    assert_eq!(
        cluster.kv(&["scan", "--prefix", "key0499", "--limit", "2"]).ok(),
        "key04990\tvalue 4990\nkey04991\tvalue 4991\n"
    );
    assert_eq!(cluster.kv(&["scan", "--start", "key00001", "--end", "key00002"]).ok(), "key00001\tvalue 1\n");
    assert_eq!(cluster.kv(&["scan", "--start", "b", "--end", "a"]).ok(), "");
    let json = cluster.kv(&["scan", "--prefix", "key", "--limit", "1", "--json"]).json();
    assert_eq!(json, serde_json::json!({ "key": "key00000", "value": "value 0" }));
    assert_eq!(cluster.kv(&["scan", "--local", "--prefix", "key"]).ok(), lines);
}

#[test]
fn what_is_exported_is_imported_again() {
    let cluster = Cluster::start(3, &[]);
    let lines = "a\tplain\nb\t\\x00\\xff\nc\\tkey\tline\\nbreak\nempty\t\n";
    cluster.kv_with_input(&["import", "-"], lines.as_bytes()).ok();
    for name in ["out.tsv", "out.jsonl"] {
        let file = cluster.folder.path().join(name);
        let file = file.to_str().unwrap();
        cluster.kv(&["export", file]).ok();
        let exported = fs::read_to_string(file).unwrap();
        assert_eq!(exported.lines().count(), 5, "{exported}");
        for key in ["a", "b", "c\tkey", "empty", "started"] {
            cluster.kv(&["delete", key]).ok();
        }
        assert_eq!(cluster.kv(&["export"]).ok(), "");
        let summary = cluster.kv(&["import", file, "--json"]).json();
        assert_eq!(summary["imported"], 5);
        assert_eq!(cluster.kv(&["export"]).ok(), format!("{lines}started\tyes\n"));
    }
}

#[test]
fn malformed_lines_are_named_and_stop_the_import_or_not() {
    let cluster = Cluster::start(1, &[]);
    let lines = b"a\t1\nno tab here\nb\t2\nc\t\\q\nd\t4\n";
    let stopped = cluster.kv_with_input(&["import"], lines);
    assert!(stopped.out.contains("imported 1 lines"), "{stopped:?}");
    stopped.fails(1, "line 2: malformed: there is no tab");
    cluster.kv(&["get", "b"]).fails(1, "absent");
    let went_on = cluster.kv_with_input(&["import", "--on-error", "continue"], lines);
    assert!(went_on.out.contains("imported 3 lines"), "{went_on:?}");
    assert!(went_on.err.contains("line 2: malformed"), "{went_on:?}");
    went_on.fails(1, "line 4: malformed");
    assert_eq!(cluster.kv(&["get", "d"]).ok(), "4\n");
    let json = b"{\"key\":\"j\",\"value\":\"1\"}\n{\"key\":1}\n";
    cluster
        .kv_with_input(&["import", "--format", "jsonl"], json)
        .fails(1, "line 2: malformed: not a JSON object");
    assert_eq!(cluster.kv(&["get", "j"]).ok(), "1\n");
    cluster.kv(&["import", "/nonexistent/file"]).fails(1, "cannot read /nonexistent/file");
}

#[test]
fn the_status_shows_every_member_and_marks_those_that_are_down() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let down = (leader + 1) % 3;
    let table = cluster.kv(&["status"]).ok();
    assert_eq!(table.matches("follower").count(), 2, "{table}");
    assert_eq!(table.matches("leader").count(), 1, "{table}");
    cluster.nodes[down].kill();
    let table = cluster.kv(&["status"]).ok();
    assert_eq!(table.matches("unreachable").count(), 2, "{table}");
    let status = cluster.status_of(cluster.nodes[down].id);
    assert!(status["status"].is_null());
    let status = cluster.status_of(cluster.nodes[leader].id);
    assert_eq!(status["status"]["role"], "leader");
    assert!(0 < status["status"]["log_bytes"].as_u64().unwrap());
}

#[test]
fn members_are_added_promoted_and_removed() {
    let mut cluster = Cluster::start(3, &[]);
    let mut fourth = Node::new(cluster.folder.path(), 4);
    fourth.start(&["--join"]);
    let named = format!("4={}", fourth.address);
    cluster.kv(&["member", "promote", "4"]).fails(5, "node 4 is not a member");
    cluster.kv(&["member", "add", &named, "--wait", "30"]).ok();
    // Adding it once more, to be sure, does no harm; at another address it is refused.
    cluster.kv(&["member", "add", &named]).ok();
    cluster.kv(&["member", "add", "4=127.0.0.1:9"]).fails(5, "node 4 is a member already");
    assert!(cluster.kv(&["member", "list"]).ok().contains(&format!("4\t{}\tlearner", fourth.address)));
    cluster.kv(&["member", "promote", "4"]).ok();
    assert!(cluster.kv(&["member", "list"]).ok().contains(&format!("4\t{}\tvoter", fourth.address)));
    cluster.kv(&["put", "k", "v"]).ok();
    assert_eq!(fourth.kv(&["get", "k"]).ok(), "v\n");
    cluster.nodes.push(fourth);
    // Also the leader may be removed: another one takes over.
    let leader = cluster.leader();
    let id = cluster.nodes[leader].id;
    cluster.kv(&["member", "remove", &id.to_string()]).ok();
    let removed = cluster.nodes.remove(leader);
    let members = cluster.kv(&["member", "list", "--json"]).json();
    let ids: Vec<u64> =
        members["members"].as_array().unwrap().iter().map(|member| member["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=4).filter(|other| *other != id).collect::<Vec<_>>());
    cluster.kv(&["put", "after", "removal"]).ok();
    drop(removed);
}

#[test]
fn leadership_is_transferred() {
    let cluster = Cluster::start(3, &[]);
    let target = cluster.nodes[(cluster.leader() + 1) % 3].id;
    assert_eq!(cluster.kv(&["transfer", &target.to_string()]).ok(), format!("node {target} leads\n"));
    assert_eq!(cluster.nodes[cluster.leader()].id, target);
    let next = cluster.kv(&["transfer", "--json"]).json()["leader"].as_u64().unwrap();
    assert_ne!(next, target);
}

#[test]
fn a_node_that_was_away_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::start(3, &["--log-keep-entries", "10", "--log-hold-entries", "10"]);
    let away = (cluster.leader() + 1) % 3;
    cluster.nodes[away].kill();
    let lines: String = (0..3000).map(|number| format!("key{number}\t{number}\n")).collect();
    cluster.kv_with_input(&["import", "--batch", "10"], lines.as_bytes()).ok();
    let leader = cluster.leader();
    let taken = cluster.nodes[leader].kv(&["snapshot", "--json"]).json();
    assert!(300 < taken["index"].as_u64().unwrap(), "{taken}");
    let id = cluster.nodes[leader].id;
    until("the log to be purged", || {
        let status = cluster.status_of(id);
        let purged = status["status"]["purged_index"].as_u64().unwrap();
        if 200 < purged { Ok(()) } else { Err(status.to_string()) }
    });
    cluster.nodes[away].start(&[]);
    assert_eq!(cluster.nodes[away].kv(&["get", "key2999"]).ok(), "2999\n");
    let status = cluster.status_of(cluster.nodes[away].id);
    assert_eq!(status["status"]["counters"]["snapshots_installed"], 1, "{status}");
}

#[test]
fn writes_go_on_when_the_leader_is_killed_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3, &[]);
    for round in 0..3 {
        cluster.kv(&["put", &format!("before{round}"), "yes"]).ok();
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        cluster.kv(&["put", &format!("after{round}"), "yes"]).ok();
        cluster.nodes[leader].start(&[]);
    }
    for node in &cluster.nodes {
        for round in 0..3 {
            assert_eq!(node.kv(&["get", &format!("before{round}")]).ok(), "yes\n");
            assert_eq!(node.kv(&["get", &format!("after{round}")]).ok(), "yes\n");
        }
    }
}

#[test]
fn sigterm_stops_a_leader_after_it_has_handed_over() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.kv(&["put", "k", "v"]).ok();
    let leader = cluster.leader();
    let status = cluster.nodes[leader].terminate();
    assert_eq!(status.code(), Some(0));
    let log = cluster.nodes[leader].log();
    assert!(log.contains("SIGTERM: stopping") && log.contains("leads now"), "{log}");
    cluster.kv(&["put", "k2", "v"]).ok();
    // Neither --init nor --join when there are data.
    cluster.nodes[leader].start(&[]);
    assert_eq!(cluster.nodes[leader].kv(&["get", "k2"]).ok(), "v\n");
    for node in &mut cluster.nodes {
        assert_eq!(node.terminate().code(), Some(0));
    }
    let list = cluster.list();
    for node in &mut cluster.nodes {
        node.start(&["--init", &list]);
    }
    assert_eq!(cluster.kv(&["get", "k"]).ok(), "v\n");
}

#[test]
fn the_benchmark_measures_writes_and_reads() {
    let cluster = Cluster::start(1, &[]);
    let args = ["bench", "--clients", "4", "--count", "200", "--read-share", "0.5", "--keys", "10", "--json"];
    let report = cluster.kv(&args).json();
    let count = |kind: &str| report[kind]["count"].as_u64().unwrap();
    assert_eq!(count("writes") + count("reads"), 200, "{report}");
    // Each client always has a request under way, so their latencies add up to the time of all clients.
    let total_us: f64 = ["writes", "reads"]
        .map(|kind| report[kind]["count"].as_f64().unwrap() * report[kind]["mean_us"].as_f64().unwrap())
        .iter()
        .sum();
    let clients_us = report["seconds"].as_f64().unwrap() * 4.0 * 1e6;
    assert!((0.5..=1.01).contains(&(total_us / clients_us)), "{report}");
    let percentiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
    let micros = percentiles.map(|name| report["writes"][name].as_u64().unwrap());
    assert!(micros.is_sorted() && 0 < micros[0], "{report}");
    assert_eq!(report["errors"], serde_json::json!({}));
    // On one stream for all clients.
    let args = ["bench", "--clients", "8", "--count", "200", "--keys", "10", "--stream", "--json"];
    let report = cluster.kv(&args).json();
    assert_eq!(report["writes"]["count"], 200, "{report}");
    let table = cluster.kv(&["bench", "--clients", "2", "--duration", "0.2"]).ok();
    assert!(table.contains("writes") && table.contains("p99 ms"), "{table}");
}

#[test]
fn a_node_says_where_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path(), 7);
    node.address = "127.0.0.1:0".into();
    node.start(&["--join", "--json", "--cluster", "c"]);
    let ready: serde_json::Value = serde_json::from_str(&node.ready).unwrap();
    assert_eq!((&ready["event"], &ready["id"], &ready["cluster"]), (&"ready".into(), &7.into(), &"c".into()));
    node.address = ready["address"].as_str().unwrap().to_owned();
    let status = node.kv(&["status", "--json"]);
    assert_eq!(status.code, Some(1), "it waits to be added: {status:?}");
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["members"][0]["status"]["address"], ready["address"]);
    assert_eq!(status["members"][0]["member"]["kind"], "no member yet");
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(kv(&["completions", shell]).ok().contains("member"));
    }
}
