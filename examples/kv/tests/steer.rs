//! The commands that steer a node or change the members in other ways than by adding and removing, against clusters of
//! real processes.

mod nodes;

use nodes::{Cluster, Node, free_address, until};

impl Cluster {
    /// The places of the nodes that do not lead.
    fn followers(&self) -> Vec<usize> {
        let leader = self.leader();
        (0..self.nodes.len()).filter(|place| *place != leader).collect()
    }

    /// Waits until a voter at this place says these things of itself, and nothing else.
    fn until_conditions(&self, place: usize, expected: &[&str]) {
        until("the conditions of a node", || {
            let status = &self.kv(&["status", "--json"]).json()["members"][place]["status"];
            let is_as_expected = status["conditions"] == serde_json::json!(expected);
            if is_as_expected && status["standing"] == "voter" { Ok(()) } else { Err(status.to_string()) }
        });
    }
}

#[test]
fn a_node_that_starts_no_elections_leads_when_it_is_told_to() {
    let mut cluster = Cluster::start(3, &[]);
    for node in &cluster.nodes {
        let paused = node.kv(&["elections", "pause"]).ok();
        assert_eq!(paused, format!("{} starts no elections on its own\n", node.address));
    }
    cluster.until_conditions(0, &["its elections are paused"]);
    let leader = cluster.leader();
    let next = (leader + 1) % 3;
    cluster.nodes[leader].kill();
    // Nobody takes over by itself. An election that is asked for is another thing; it needs the vote of the third.
    let elected = until("an election that is won", || {
        let ended = cluster.nodes[next].kv(&["campaign", "--json"]);
        if ended.code == Some(0) { Ok(ended.json()) } else { Err(format!("{ended:?}")) }
    });
    assert!(1 < elected["term"].as_u64().unwrap(), "{elected}");
    assert_eq!(cluster.leader(), next);
    // On the leader it has nothing to do.
    let again = cluster.nodes[next].kv(&["campaign", "--json"]).json();
    assert_eq!(again, elected);
    cluster.kv(&["put", "k", "v"]).ok();
    let resumed = cluster.nodes[next].kv(&["elections", "resume", "--json"]).json();
    assert_eq!(resumed, serde_json::json!({ "elections_paused": false }));
    cluster.until_conditions(next, &[]);
}

#[test]
fn a_leader_that_sends_no_heartbeats_is_replaced() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let address = cluster.nodes[leader].address.clone();
    // Through any endpoint, a node is named.
    let paused = cluster.kv(&["heartbeats", "pause", "--node", &address, "--json"]).json();
    assert_eq!(paused, serde_json::json!({ "heartbeats_paused": true }));
    until("another leader", || {
        let next = cluster.leader();
        if next == leader { Err(format!("node {} leads", next + 1)) } else { Ok(()) }
    });
    let resumed = cluster.nodes[leader].kv(&["heartbeats", "resume"]).ok();
    assert_eq!(resumed, format!("{address} sends heartbeats again while it leads\n"));
}

#[test]
fn a_follower_forgets_its_leader_and_a_leader_does_not_forget_itself() {
    let cluster = Cluster::start(3, &[]);
    let followers = cluster.followers();
    for place in &followers {
        let forgotten = cluster.nodes[*place].kv(&["forget-leader"]).ok();
        assert!(forgotten.contains("may vote for any"), "{forgotten}");
    }
    let leader = cluster.leader();
    cluster.nodes[leader].kv(&["forget-leader"]).fails(5, "transfer leadership");
    cluster.kv(&["put", "k", "v"]).ok();
    cluster.kv(&["forget-leader", "--node", "127.0.0.1:1"]).fails(3, "127.0.0.1:1");
}

#[test]
fn voters_are_demoted_and_members_are_moved() {
    let mut cluster = Cluster::start(3, &[]);
    let place = cluster.followers()[0];
    let id = cluster.nodes[place].id;
    let id_text = id.to_string();
    let change = cluster.kv(&["member", "demote", &id_text, "--json"]).json();
    assert!(1 < change["index"].as_u64().unwrap() && change["note"].is_null(), "{change}");
    assert!(
        cluster
            .kv(&["member", "list"])
            .ok()
            .contains(&format!("{id}\t{}\tlearner", cluster.nodes[place].address))
    );
    cluster.kv(&["member", "demote", &id_text]).fails(5, "needs a voter");
    cluster.kv(&["member", "demote", "9"]).fails(5, "node 9 is not a member");
    cluster.nodes[place].kv(&["campaign"]).fails(5, "does not vote");

    // It moves: it is started at another address, and the others are told.
    let address = free_address();
    assert!(cluster.nodes[place].terminate().success());
    cluster.nodes[place].address.clone_from(&address);
    cluster.nodes[place].start(&[]);
    let moved = format!("{id}={address}");
    let told = cluster.kv(&["member", "address", &moved]).ok();
    assert!(told.starts_with(&format!("node {id} is at {address}")), "{told}");
    cluster.kv(&["put", "after", "the move"]).ok();
    assert_eq!(cluster.nodes[place].kv(&["get", "after"]).ok(), "the move\n");
    assert!(cluster.kv(&["member", "list"]).ok().contains(&format!("{id}\t{address}\tlearner")));
    cluster.kv(&["member", "address", "9=127.0.0.1:9"]).fails(5, "node 9 is not a member");
    cluster.kv(&["member", "address", "1=0.0.0.0:9"]).fails(2, "peers cannot connect");
    cluster.kv(&["member", "promote", &id_text]).ok();
}

#[test]
fn a_read_by_lease_sees_what_was_written() {
    let cluster = Cluster::start(3, &["--lease-drift-ppm", "1000"]);
    for round in 0..5 {
        let value = round.to_string();
        cluster.kv(&["put", "k", &value]).ok();
        for node in &cluster.nodes {
            assert_eq!(node.kv(&["get", "k", "--lease"]).ok(), format!("{value}\n"));
        }
    }
    // Leases rest on promises that a follower does not break.
    let follower = cluster.followers()[0];
    cluster.nodes[follower].kv(&["forget-leader"]).fails(5, "leases");
    cluster.nodes[follower].kv(&["campaign"]).fails(1, "promise");
    cluster.kv(&["get", "k", "--lease", "--local"]).fails(2, "--local");
    cluster.nodes[follower]
        .start_fails(&["--lease-drift-ppm", "0"])
        .fails(2, "lease_clock_drift_ppm_max is 0");
}

#[test]
fn any_node_may_be_asked_to_transfer_leadership() {
    let cluster = Cluster::start(3, &[]);
    for _ in 0..2 {
        let followers = cluster.followers();
        let (asked, target) = (&cluster.nodes[followers[0]], cluster.nodes[followers[1]].id);
        let done = cluster.kv(&["transfer", &target.to_string(), "--node", &asked.address, "--json"]).json();
        assert_eq!(done, serde_json::json!({ "leader": target }));
        // Once more: it leads already.
        assert_eq!(asked.kv(&["transfer", &target.to_string()]).ok(), format!("node {target} leads\n"));
        assert_eq!(cluster.nodes[cluster.leader()].id, target);
    }
    cluster.nodes[cluster.followers()[0]].kv(&["transfer", "9"]).fails(5, "node 9 does not vote");
}

#[test]
fn a_log_is_purged_as_far_as_its_snapshot_goes() {
    let cluster = Cluster::start(1, &[]);
    cluster.kv(&["purge"]).fails(5, "there is no snapshot");
    for key in ["a", "b", "c"] {
        cluster.kv(&["put", key, "v"]).ok();
    }
    let taken = cluster.kv(&["snapshot", "--json"]).json();
    let index = taken["index"].as_u64().unwrap();
    assert!(0 < taken["size_bytes"].as_u64().unwrap(), "{taken}");
    assert_eq!(cluster.kv(&["purge", "2", "--json"]).json()["index"], 2);
    cluster.kv(&["purge", "1000"]).fails(5, "entry 1000 is not in the latest snapshot");
    let text = cluster.kv(&["purge"]).ok();
    assert!(text.contains(&format!("is purged up to entry {index} of term")), "{text}");
    assert_eq!(cluster.status_of(1)["status"]["purged_index"], index);
    let text = cluster.kv(&["snapshot"]).ok();
    assert!(text.contains(&format!("ends with entry {index} of term")) && text.contains(" bytes"), "{text}");
}

#[test]
fn a_write_that_would_have_to_wait_is_refused_at_once_if_it_asks_for_that() {
    // Long enough for a leader that has lost its followers to lead on for the rest of the test.
    let limits = ["--election-timeout-ms", "4000", "--uncommitted-bytes", "2000", "--command-bytes", "2000"];
    let folder = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Node> = (1..=3).map(|id| Node::new(folder.path(), id)).collect();
    let list = nodes.iter().map(|node| format!("{}={}", node.id, node.address)).collect::<Vec<_>>().join(",");
    for node in &mut nodes {
        node.start(&[&["--init", list.as_str()], &limits[..]].concat());
    }
    let leads = until("an election that is won", || {
        let ended = nodes[0].kv(&["campaign"]);
        if ended.code == Some(0) { Ok(ended.out) } else { Err(format!("{ended:?}")) }
    });
    assert!(leads.contains("leads in term"), "{leads}");
    let calm = nodes[0].kv(&["put", "k", "v", "--no-wait", "--json"]).json();
    assert_eq!(calm["previous"]["value"], serde_json::Value::Null);

    let (leader, followers) = nodes.split_at_mut(1);
    followers.iter_mut().for_each(Node::kill);
    let value = "x".repeat(1200);
    std::thread::scope(|scope| {
        // Admitted, and not committed: its outcome stays open.
        let waiting = scope.spawn(|| leader[0].kv(&["put", "waiting", &value, "--timeout", "3"]));
        let refused = until("a leader that is busy", || {
            let ended = leader[0].kv(&["put", "refused", &value, "--no-wait", "--timeout", "0.3"]);
            // The first may have come before the one that waits.
            if ended.err.contains("busy") { Ok(ended) } else { Err(format!("{ended:?}")) }
        });
        refused.fails(3, "the limit uncommitted_bytes_max is 2000");
        waiting.join().unwrap().fails(4, "outcome unknown");
    });
}
