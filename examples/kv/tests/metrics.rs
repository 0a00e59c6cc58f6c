//! What real nodes expose for Prometheus, and what `kv status` says of latencies and queues.

mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use nodes::{Cluster, Node, PATIENCE, free_address, kv_with_input, until};

/// Sends a request and returns status line, headers and body.
fn ask(address: &str, request: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let (status, headers) = head.split_once("\r\n").unwrap();
    (status.to_owned(), headers.to_lowercase(), body.to_owned())
}

/// One scrape: the kind of each name, and the value of each series.
struct Scrape {
    kinds: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Scrape {
    fn of(address: &str) -> Self {
        let (status, headers, body) = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(headers.contains("content-type: text/plain; version=0.0.4"), "{headers}");
        Self::parse(&body)
    }

    /// Parses the text format, and is strict about it.
    fn parse(text: &str) -> Self {
        let mut scrape = Self { kinds: BTreeMap::new(), values: BTreeMap::new() };
        assert!(text.ends_with('\n'));
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let words: Vec<_> = comment.splitn(3, ' ').collect();
                assert!(is_name(words[1]), "{line}");
                match words[0] {
                    "HELP" => assert!(words.len() == 3 && !words[2].is_empty(), "{line}"),
                    "TYPE" => {
                        assert!(["counter", "gauge"].contains(&words[2]), "{line}");
                        let before = scrape.kinds.insert(words[1].to_owned(), words[2].to_owned());
                        assert_eq!(before, None, "told twice: {line}");
                    }
                    _ => panic!("neither HELP nor TYPE: {line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(name) && scrape.kinds.contains_key(name), "a value before its TYPE: {line}");
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels do not end: {line}"));
            for label in labels.split("\",") {
                let (label, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(is_name(label) && !value.trim_end_matches('"').contains(['"', '\n']), "{line}");
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert_eq!(scrape.values.insert(series.to_owned(), value), None, "told twice: {line}");
        }
        scrape
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("{series} is not there: {:#?}", self.values.keys()))
    }

    /// All series of counters.
    fn counters(&self) -> impl Iterator<Item = (&String, f64)> {
        let name = |series: &str| series.split('{').next().unwrap_or_default().to_owned();
        let is_counter = move |series: &str| self.kinds[&name(series)] == "counter";
        self.values
            .iter()
            .filter(move |(series, _)| is_counter(series))
            .map(|(series, value)| (series, *value))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where the node says that its metrics are.
fn metrics_address(node: &Node) -> String {
    let url = node.ready.split("metrics at http://").nth(1).unwrap_or_else(|| panic!("{}", node.ready));
    url.trim().strip_suffix("/metrics").unwrap().to_owned()
}

fn put_many(cluster: &Cluster, prefix: &str, count: usize) {
    let lines: String = (0..count).map(|n| format!("{prefix}{n}\t{n}\n")).collect();
    kv_with_input(&["import", "-"], &cluster.endpoints(), lines.as_bytes()).ok();
}

#[test]
fn prometheus_sees_what_real_nodes_do() {
    let cluster = Cluster::start(3, &["--metrics", "127.0.0.1:0", "--election-timeout-ms", "2000"]);
    put_many(&cluster, "a", 500);
    let leader = cluster.leader();
    let id = cluster.nodes[leader].id;
    let address = metrics_address(&cluster.nodes[leader]);
    // Histograms are published every 100 ms.
    let whole = format!("openconsensus_write_seconds_count{{node=\"{id}\",stage=\"whole\"}}");
    let first = until("the writes to be counted", || {
        let scrape = Scrape::of(&address);
        if 0.0 < scrape.value(&whole) { Ok(scrape) } else { Err("none is".into()) }
    });
    let of = |name: &str, labels: &str| format!("openconsensus_{name}{{node=\"{id}\"{labels}}}");
    assert_eq!(first.value(&of("role", ",role=\"leader\"")), 1.0);
    assert_eq!(first.value(&of("role", ",role=\"follower\"")), 0.0);
    assert_eq!(first.value(&of("leader", &format!(",leader=\"{id}\""))), 1.0);
    assert_eq!(first.value(&of("members", ",kind=\"voter\"")), 3.0);
    assert_eq!(first.value(&of("condition", ",condition=\"stopped\"")), 0.0);
    assert!(1.0 <= first.value(&of("term", "")));
    let applied = first.value(&of("log_index", ",position=\"applied\""));
    assert!(2.0 < applied && applied <= first.value(&of("log_index", ",position=\"last\"")));
    assert!(first.value(&of("quorum_contact_seconds", "")) < PATIENCE.as_secs_f64());
    for peer in cluster.nodes.iter().map(|node| node.id).filter(|peer| *peer != id) {
        assert_eq!(first.value(&of("peer_active", &format!(",peer=\"{peer}\""))), 1.0);
        assert!(0.0 <= first.value(&of("peer_lag_entries", &format!(",peer=\"{peer}\""))));
    }
    // Every stage of every write, and the seconds make sense.
    for stage in ["queued", "stable", "committed", "applied"] {
        let labels = format!(",stage=\"{stage}\"");
        let count = first.value(&of("write_seconds_count", &labels));
        let sum = first.value(&of("write_seconds_sum", &labels));
        assert!(0.0 < count && sum / count < PATIENCE.as_secs_f64(), "{stage}: {sum} s for {count} writes");
        let all = first.value(&of("write_seconds_bucket", &format!("{labels},le=\"+Inf\"")));
        assert_eq!(all, count);
    }
    // A follower tells its own view.
    let follower = (leader + 1) % 3;
    let other = Scrape::of(&metrics_address(&cluster.nodes[follower]));
    let other_id = cluster.nodes[follower].id;
    assert_eq!(other.value(&format!("openconsensus_leader{{node=\"{other_id}\",leader=\"{id}\"}}")), 1.0);

    put_many(&cluster, "b", 500);
    let expected = [
        "write_seconds_count",
        "commands_appended_total",
        "messages_total",
        "message_bytes_total",
        "disk_seconds_bucket",
    ];
    // Counters and histograms are not published at the same time.
    until("more writes to be counted", || {
        let now = Scrape::of(&address);
        let mut grown = BTreeSet::new();
        for (series, before) in first.counters() {
            let now = now.value(series);
            assert!(before <= now, "{series} fell from {before} to {now}");
            if before < now {
                grown.insert(series.split('{').next().unwrap_or_default().to_owned());
            }
        }
        let has_grown = |name: &&str| grown.contains(&format!("openconsensus_{name}"));
        match expected.iter().find(|name| !has_grown(name)) {
            None => Ok(()),
            Some(name) => Err(format!("{name} has not grown: {grown:?}")),
        }
    });
    let (status, ..) = ask(&address, "GET /other HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(status.contains("404"), "{status}");
    let (status, headers, _) =
        ask(&address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    assert!(status.contains("405") && headers.contains("allow: get"), "{status} {headers}");
}

#[test]
fn a_port_for_metrics_that_is_taken_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 1);
    let taken = free_address();
    let _listener = TcpListener::bind(&taken).unwrap();
    let says = format!("cannot listen on {taken} for metrics");
    node.start_fails(&["--init", &format!("1={}", node.address), "--metrics", &taken]).fails(5, &says);
    assert!(!node.dir.exists(), "it got as far as its files");
}

#[test]
fn the_status_tells_latencies_by_stage_lag_and_queues() {
    let cluster = Cluster::start(3, &["--election-timeout-ms", "2000"]);
    put_many(&cluster, "a", 100);
    let leader = &cluster.nodes[cluster.leader()];
    let status = until("latencies of writes", || {
        let status = cluster.status_of(leader.id)["status"].clone();
        let latencies = status["latencies"].as_array().cloned().unwrap_or_default();
        let all: BTreeSet<_> = latencies.iter().filter_map(|one| one["what"].as_str()).collect();
        let wanted = [
            "write.queued",
            "write.stable",
            "write.committed",
            "write.applied",
            "write.whole",
            "disk.append",
        ];
        if wanted.iter().all(|what| all.contains(what)) { Ok(status) } else { Err(status.to_string()) }
    });
    for latency in status["latencies"].as_array().unwrap() {
        let number = |field: &str| latency[field].as_u64().unwrap();
        assert!(number("p50_ns") <= number("p99_ns") && number("p99_ns") <= number("max_ns"), "{latency}");
        assert!(0 < number("count"), "{latency}");
    }
    assert!(status["quorum_contact_ms"].is_u64() && status["leader_contact_ms"].is_null(), "{status}");
    assert!(status["queues"]["admitted_bytes"].is_u64(), "{status}");
    let peers = status["peers"].as_array().unwrap();
    assert!(peers.iter().all(|peer| peer["lag_bytes"].is_u64() && peer["contact_ms"].is_u64()), "{peers:?}");
    let table = cluster.kv(&["status"]).ok();
    for word in ["p50", "p99", "write.committed", "disk.append", "waiting on node"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
}
