//! What goes wrong is refused with what would be right, and nothing is lost.

mod nodes;

use std::fs;

use nodes::{Cluster, Node, free_address, kv, until};

#[test]
fn a_folder_without_data_needs_to_be_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 1);
    node.start_fails(&[]).fails(2, "--init 1=HOST:PORT");
    assert!(!node.dir.exists());
}

#[test]
fn a_wrong_list_of_first_members_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 1);
    let own = format!("1={}", node.address);
    for (list, says) in [
        (String::new(), "the list is empty"),
        (format!("{own},1=127.0.0.1:9"), "node 1 is named twice"),
        (format!("{own},2={}", node.address), "nodes 1 and 2 have the same address"),
        ("2=127.0.0.1:9".into(), "not this one, node 1"),
        ("1=127.0.0.1:9".into(), "node 1 is at 127.0.0.1:9, but this node is at"),
        (format!("{own},two=127.0.0.1:9"), "not the id of a node"),
    ] {
        node.start_fails(&["--init", &list]).fails(2, says);
        assert!(!node.dir.exists());
    }
}

#[test]
fn an_occupied_port_is_named() {
    let cluster = Cluster::start(1, &[]);
    let mut other = Node::new(cluster.folder.path(), 2);
    other.address.clone_from(&cluster.nodes[0].address);
    other.start_fails(&["--join"]).fails(5, &format!("cannot listen on {}", other.address));
    assert_eq!(cluster.kv(&["get", "started"]).ok(), "yes\n");
}

#[test]
fn a_folder_that_another_process_uses_is_refused() {
    let cluster = Cluster::start(1, &[]);
    let mut other = Node::new(cluster.folder.path(), 1);
    other.address = free_address();
    other.start_fails(&[]).fails(5, "in use");
    assert_eq!(cluster.kv(&["get", "started"]).ok(), "yes\n");
}

#[test]
fn the_folder_of_another_node_or_cluster_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start(1, &[]);
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    let mut second = Node::new(cluster.folder.path(), 2);
    second.dir.clone_from(&cluster.nodes[0].dir);
    let refused = second.start_fails(&[]);
    assert!(refused.err.contains("node 1 of cluster \"kv\""), "{refused:?}");
    refused.fails(5, "node 2 of cluster \"kv\"");
    let refused = cluster.nodes[0].start_fails(&["--cluster", "other"]);
    assert!(refused.err.contains("node 1 of cluster \"kv\""), "{refused:?}");
    refused.fails(5, "node 1 of cluster \"other\"");
    cluster.nodes[0].start(&[]);
    assert_eq!(cluster.kv(&["get", "started"]).ok(), "yes\n");
}

#[test]
fn garbage_in_a_data_file_is_refused_and_the_cluster_goes_on() {
    let mut cluster = Cluster::start(3, &[]);
    let victim = (cluster.leader() + 1) % 3;
    assert_eq!(cluster.nodes[victim].terminate().code(), Some(0));
    let segments = fs::read_dir(cluster.nodes[victim].dir.join("log")).unwrap();
    let names = segments.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let first = names.filter(|name| name.ends_with(".segment")).min().unwrap();
    for name in [&format!("log/{first}"), "state.redb"] {
        let file = cluster.nodes[victim].dir.join(name);
        let sound = fs::read(&file).unwrap();
        for damaged in [vec![0x5a; sound.len()], sound[..sound.len() / 2].to_vec(), Vec::new()] {
            fs::write(&file, &damaged).unwrap();
            cluster.nodes[victim].start_fails(&[]).fails(5, name);
            assert_eq!(fs::read(&file).unwrap(), damaged, "the file was changed");
        }
        fs::write(&file, &sound).unwrap();
    }
    cluster.kv(&["put", "meanwhile", "yes"]).ok();
    cluster.nodes[victim].start(&[]);
    assert_eq!(cluster.nodes[victim].kv(&["get", "meanwhile"]).ok(), "yes\n");
}

#[test]
fn the_lowest_first_member_does_not_found_a_second_cluster_when_its_data_is_lost() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.nodes[0].kill();
    fs::remove_dir_all(&cluster.nodes[0].dir).unwrap();
    let list = cluster.list();
    cluster.nodes[0].start_fails(&["--init", &list]).fails(5, "has a log of");
    assert_eq!(cluster.kv(&["get", "started"]).ok(), "yes\n");
}

#[test]
fn a_wrong_node_at_the_address_of_a_member_is_named() {
    let mut cluster = Cluster::start(3, &[]);
    // Where a follower was, a node of another id answers now.
    let gone = (cluster.leader() + 1) % 3;
    cluster.nodes[gone].kill();
    let mut wrong = Node::new(cluster.folder.path(), 9);
    wrong.address.clone_from(&cluster.nodes[gone].address);
    wrong.start(&["--join"]);
    let id = cluster.nodes[gone].id;
    let table = cluster.kv(&["status"]).ok();
    assert!(table.contains(&format!("node {id}: wrong node")), "{table}");
    assert!(table.contains("answers as node 9"), "{table}");
    let leader = &cluster.nodes[cluster.leader()];
    until("the leader to say so in its status", || {
        let status = cluster.status_of(leader.id);
        let errors = status["status"]["peer_errors"].to_string();
        if errors.contains('9') && errors.contains(&id.to_string()) { Ok(()) } else { Err(errors) }
    });
    cluster.kv(&["put", "k", "v"]).ok();
    assert_eq!(wrong.kv(&["status", "--json"]).code, Some(1), "it has no leader");
}

#[test]
fn a_node_of_another_cluster_is_not_listened_to() {
    let mut cluster = Cluster::start(3, &[]);
    let gone = (cluster.leader() + 1) % 3;
    cluster.nodes[gone].kill();
    let mut wrong = Node::new(cluster.folder.path(), 9);
    wrong.id = cluster.nodes[gone].id;
    wrong.address.clone_from(&cluster.nodes[gone].address);
    wrong.start(&["--join", "--cluster", "other"]);
    let leader = &cluster.nodes[cluster.leader()];
    until("the leader to name both clusters", || {
        let status = cluster.status_of(leader.id);
        let errors = status["status"]["peer_errors"].to_string();
        if errors.contains("other") && errors.contains("kv") { Ok(()) } else { Err(errors) }
    });
    cluster.kv(&["put", "k", "v"]).ok();
}

#[test]
fn a_command_over_the_limit_is_refused() {
    let cluster = Cluster::start(1, &["--command-bytes", "10000"]);
    let value = "x".repeat(20_000);
    cluster.kv(&["put", "large", &value]).fails(5, "the limit command_bytes_max is 10000");
    cluster.kv_with_input(&["put", "large", "-"], &vec![b'x'; 8 << 20]).fails(5, "too large");
    cluster.kv(&["get", "large"]).fails(1, "absent");
    let lines = format!("a\t1\nlarge\t{value}\nb\t2\n");
    let import = cluster.kv_with_input(&["import", "--on-error", "continue"], lines.as_bytes());
    assert!(import.out.contains("imported 2 lines"), "{import:?}");
    import.fails(5, "line 2: refused");
    assert_eq!(cluster.kv(&["get", "b"]).ok(), "2\n");
    cluster.kv(&["put", "", "v"]).fails(2, "the key is empty");
}

#[test]
fn changes_of_the_membership_that_cannot_be_are_refused() {
    let cluster = Cluster::start(1, &[]);
    cluster.kv(&["member", "remove", "7"]).fails(5, "node 7 is not a member");
    cluster.kv(&["member", "promote", "7"]).fails(5, "node 7 is not a member");
    cluster.kv(&["member", "remove", "1"]).fails(5, "no voter");
    cluster.kv(&["member", "promote", "1"]).fails(5, "node 1 is");
    cluster.kv(&["transfer", "7"]).fails(5, "node 7 does not vote");
    cluster.kv(&["transfer"]).fails(5, "no other voter");
    cluster.kv(&["member", "add", "2"]).fails(2, "not id=host:port");
    cluster.kv(&["member", "add", "2=0.0.0.0:1"]).fails(2, "cannot connect");
    let members = cluster.kv(&["member", "list"]).ok();
    assert_eq!(members, format!("1\t{}\tvoter\n", cluster.nodes[0].address));
    cluster.kv(&["put", "k", "v"]).ok();
}

#[test]
fn a_full_disk_ends_the_node_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path(), 1);
    let list = format!("1={}", node.address);
    node.start_with_small_disk(6 << 20, &["--init", &list]);
    let value = "x".repeat(50_000);
    let mut acknowledged = 0;
    let last = loop {
        let ended = node.kv(&["put", &format!("key{acknowledged:05}"), &value, "--timeout", "3"]);
        if ended.code != Some(0) {
            break ended;
        }
        acknowledged += 1;
        assert!(acknowledged < 1000, "the disk does not fill up");
    };
    assert!(matches!(last.code, Some(3 | 4)), "{last:?}");
    assert!(0 < acknowledged);
    assert_eq!(node.wait().code(), Some(6));
    assert!(node.log().contains("the node has stopped"), "{}", node.log());
    node.start(&[]);
    let keys = node.kv(&["scan", "--prefix", "key"]).ok().lines().count();
    assert!(acknowledged <= keys && keys <= acknowledged + 1, "{keys} of {acknowledged}");
}

#[test]
fn without_a_node_to_talk_to_a_command_is_unavailable() {
    let nobody = free_address();
    for args in
        [&["get", "k"][..], &["put", "k", "v"], &["status"], &["scan"], &["member", "list"], &["bench"]]
    {
        let all = [args, &["--endpoints", &nobody, "--timeout", "0.3"]].concat();
        kv(&all).fails(3, &nobody);
    }
    kv(&["get", "k"]).fails(2, "--endpoints");
    kv(&["get", "k", "--endpoints", "nonsense"]).fails(2, "host:port");
}

#[test]
fn without_a_quorum_a_write_is_not_acknowledged() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.nodes[other].kill();
    }
    let ended = cluster.nodes[leader].kv(&["put", "k", "v", "--timeout", "1"]);
    assert!(matches!(ended.code, Some(3 | 4)), "{ended:?}");
    cluster.nodes[leader].kv(&["get", "started", "--timeout", "1"]).fails(3, "no node could serve");
    assert_eq!(cluster.nodes[leader].kv(&["get", "started", "--local"]).ok(), "yes\n");
}
