//! The log of a node in its data folder: where it is, what `kv log` tells of it, and what becomes of it when it is damaged,
//! lost, or out of room.

mod nodes;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nodes::{Cluster, Node, kv};

/// The files of the log that hold a part of it, in order.
fn segments(node: &Node) -> Vec<PathBuf> {
    let json = kv(&["log", "inspect", "--json", node.dir.to_str().unwrap()]).json();
    let segments = json["segments"].as_array().unwrap().iter();
    let used = segments.filter(|segment| segment["frames"] != 0);
    used.map(|segment| node.dir.join("log").join(segment["file"].as_str().unwrap())).collect()
}

fn verify(node: &Node) -> nodes::Ended {
    kv(&["log", "verify", node.dir.to_str().unwrap()])
}

/// Where the frames with entries begin in the last file of the log. Their bodies begin 40 bytes behind that.
fn frames(node: &Node) -> Vec<u64> {
    let file = segments(node).pop().unwrap();
    let file = file.file_name().unwrap().to_str().unwrap();
    let out = kv(&["log", "inspect", "--frames", "--json", node.dir.to_str().unwrap()]).ok();
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let frames =
        lines.filter(|line| line["file"] == file && line["frame"]["entries"] != serde_json::Value::Null);
    frames.map(|frame| frame["offset"].as_u64().unwrap()).collect()
}

fn flip(file: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn with_some_keys(more: &[&str]) -> Cluster {
    let cluster = Cluster::start(1, more);
    for number in 0..20 {
        cluster.kv(&["put", &format!("k{number}"), "v"]).ok();
    }
    cluster
}

#[test]
fn a_new_node_has_a_write_ahead_log_and_an_operator_can_look_at_it() {
    let mut cluster = with_some_keys(&[]);
    let node = &cluster.nodes[0];
    let dir = node.dir.to_str().unwrap().to_owned();
    let dir = dir.as_str();
    kv(&["log", "verify", dir]).fails(5, "stop the node first");
    kv(&["log", "inspect", dir]).fails(5, "stop the node first");
    assert!(!node.dir.join("log.redb").exists());
    assert!(0 < cluster.status_of(1)["status"]["log_bytes"].as_u64().unwrap());
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    let node = &cluster.nodes[0];
    let before = fs::read(&segments(node)[0]).unwrap();
    let sound = verify(node).ok();
    assert!(sound.starts_with("sound: "), "{sound}");
    let text = kv(&["log", "inspect", dir]).ok();
    for part in [
        "node 1 of cluster \"kv\"",
        "postcard",
        "term 2, vote 1",
        "closed by its process",
        "ready for what comes",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let json = kv(&["log", "inspect", "--json", node.dir.join("log").to_str().unwrap()]).json();
    assert_eq!((&json["cluster"], &json["node"]), (&"kv".into(), &"1".into()));
    // The membership, the blank entry of the leader, and the keys.
    assert_eq!(json["groups"][0]["last"]["index"].as_u64(), Some(23), "{json}");
    assert_eq!(json["damage"], serde_json::Value::Null);
    let with_frames = kv(&["log", "inspect", "--frames", dir]).ok();
    assert!(with_frames.contains("entries 23(t2) to 23(t2)"), "{with_frames}");
    assert_eq!(fs::read(&segments(node)[0]).unwrap(), before, "it was changed");
    cluster.nodes[0].start(&[]);
    assert_eq!(cluster.kv(&["get", "k19"]).ok(), "v\n");
}

#[test]
fn a_log_whose_process_was_killed_is_whole_and_a_torn_end_is_said_and_cut_off() {
    let mut cluster = with_some_keys(&[]);
    cluster.nodes[0].kill();
    let node = &cluster.nodes[0];
    let text = kv(&["log", "inspect", node.dir.to_str().unwrap()]).ok();
    assert!(text.contains("whole; its process was killed"), "{text}");
    // A write was under way, and a part of it reached the disk: it looks like the last frame again.
    let frames = frames(node);
    let offset = frames.last().unwrap();
    let file = segments(node).pop().unwrap();
    flip(&file, offset + 41);
    let sound = verify(node).ok();
    assert!(sound.contains(&format!("torn at offset {offset}")), "{sound}");
    let json = kv(&["log", "verify", "--json", node.dir.to_str().unwrap()]).json();
    assert_eq!(json["torn_tail"]["offset"].as_u64(), Some(*offset));
    assert_eq!(json["sound"], true);
    cluster.nodes[0].start(&[]);
    assert!(cluster.nodes[0].log().contains("a write was under way"), "{}", cluster.nodes[0].log());
}

#[test]
fn a_damaged_log_is_refused_with_file_and_offset_by_tool_and_node() {
    let mut cluster = with_some_keys(&[]);
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    let node = &cluster.nodes[0];
    let (file, frames) = (segments(node).pop().unwrap(), frames(node));
    let name = file.file_name().unwrap().to_str().unwrap();
    let offset = &frames[frames.len() / 2];
    // In its body, in its head, in the header of the file.
    for (at, says) in [(offset + 41, *offset), (offset + 9, *offset), (100, 0)] {
        flip(&file, at);
        for refused in [verify(node), kv(&["log", "inspect", node.dir.to_str().unwrap()])] {
            assert!(refused.err.contains(&format!("offset {says}")), "{refused:?}");
            assert!(refused.err.contains("restore it from a copy"), "{refused:?}");
            refused.fails(1, name);
        }
        let json = kv(&["log", "verify", "--json", node.dir.to_str().unwrap()]);
        assert_eq!(json.code, Some(1));
        assert!(json.out.contains("\"sound\":false"), "{json:?}");
        let refused = node.start_fails(&[]);
        assert!(refused.err.contains(&format!("offset {says}")), "{refused:?}");
        refused.fails(5, name);
        flip(&file, at);
    }
    verify(node).ok();
    cluster.nodes[0].start(&[]);
    assert_eq!(cluster.kv(&["get", "k19"]).ok(), "v\n");
}

#[test]
fn there_is_something_to_say_where_there_is_no_log_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().to_str().unwrap();
    kv(&["log", "verify", text]).fails(5, "there is no log in");
    kv(&["log", "inspect", "/nowhere/at/all"]).fails(5, "is no folder");
    fs::write(folder.path().join("log.redb"), "x").unwrap();
    kv(&["log", "inspect", text]).fails(5, "log.redb, a database");
    kv(&["log", "inspect"]).fails(2, "FOLDER");
}

#[test]
fn a_node_keeps_its_log_where_it_is() {
    let mut cluster = with_some_keys(&["--log-store", "redb"]);
    assert!(cluster.nodes[0].dir.join("log.redb").exists());
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    cluster.nodes[0].start_fails(&["--log-store", "wal"]).fails(5, "--log-store redb");
    assert!(!cluster.nodes[0].dir.join("log").exists(), "a log was made");
    // As before, without a word about it on the command line.
    cluster.nodes[0].start(&[]);
    assert!(cluster.nodes[0].log().contains("log.redb, and stays there"), "{}", cluster.nodes[0].log());
    assert_eq!(cluster.kv(&["get", "k19"]).ok(), "v\n");
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    cluster.nodes[0].start(&["--log-store", "redb"]);
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));

    let mut cluster = with_some_keys(&[]);
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    cluster.nodes[0].start_fails(&["--log-store", "redb"]).fails(5, "--log-store wal");
    assert!(!cluster.nodes[0].dir.join("log.redb").exists(), "a log was made");
    fs::write(cluster.nodes[0].dir.join("log.redb"), "").unwrap();
    cluster.nodes[0].start_fails(&[]).fails(5, "there are two logs");
    kv(&["log", "verify", cluster.nodes[0].dir.to_str().unwrap()]).fails(5, "there are two logs");
    fs::remove_file(cluster.nodes[0].dir.join("log.redb")).unwrap();
    cluster.nodes[0].start(&["--log-store", "wal"]);
    assert_eq!(cluster.kv(&["get", "k19"]).ok(), "v\n");
}

#[test]
fn a_lost_log_or_state_is_never_taken_for_an_empty_one() {
    let mut cluster = with_some_keys(&[]);
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    let node = &cluster.nodes[0];
    let away = node.dir.join("away");
    for (name, says) in [
        ("log", "the file is missing, though the state is of"),
        ("state.redb", "the file is missing, though the log is there"),
    ] {
        fs::rename(node.dir.join(name), &away).unwrap();
        node.start_fails(&[]).fails(5, says);
        // Also when only the empty folder is left.
        if name == "log" {
            fs::create_dir_all(node.dir.join(name)).unwrap();
            node.start_fails(&[]).fails(5, says);
            node.start_fails(&["--log-store", "redb"]).fails(5, says);
            assert_eq!(fs::read_dir(node.dir.join(name)).unwrap().count(), 0, "a log was made");
            fs::remove_dir(node.dir.join(name)).unwrap();
        }
        assert!(!node.dir.join(name).exists(), "{name} was made");
        fs::rename(&away, node.dir.join(name)).unwrap();
    }
    cluster.nodes[0].start(&[]);
    assert_eq!(cluster.kv(&["get", "k19"]).ok(), "v\n");
}

#[test]
fn a_log_that_has_no_room_is_refused_or_ends_the_node_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path(), 1);
    let list = format!("1={}", node.address);
    // Room for the files of the state, and not for a file of the log.
    node.start_with_small_disk_fails(6 << 20, &["--init", &list, "--log-segment-bytes", "8388608"])
        .fails(5, "log");
    // With room for its files the log begins, and the node goes on in the same folder.
    let small = ["--log-segment-bytes", "65536", "--command-bytes", "16777216"];
    node.start_with_small_disk(6 << 20, &[&["--init", list.as_str()], &small[..]].concat());
    node.kv(&["put", "small", "value"]).ok();
    // A command that needs a file of its own, which is too large.
    let file = folder.path().join("value");
    fs::write(&file, vec![b'x'; 8 << 20]).unwrap();
    let ended = node.kv_with_input(&["put", "large", "-", "--timeout", "5"], &fs::read(&file).unwrap());
    assert!(matches!(ended.code, Some(3 | 4)), "{ended:?}");
    assert_eq!(node.wait().code(), Some(6));
    assert!(node.log().contains("the node has stopped"), "{}", node.log());
    node.start(&[]);
    assert_eq!(node.kv(&["get", "small"]).ok(), "value\n");
    node.kv(&["put", "later", "value"]).ok();
}
