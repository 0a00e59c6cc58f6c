//! What `kv import` sends, and what it does with each answer.

mod nodes;
mod script;

use kv::proto::failure::Kind;
use nodes::{Ended, kv_with_input};
use script::{Answer, server};

/// Imports `lines` through the server at `address`.
async fn import(address: &str, args: &[&str], lines: String) -> Ended {
    let args: Vec<String> = ["import"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    let address = address.to_owned();
    let run = move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        kv_with_input(&args, &address, lines.as_bytes())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn two_lines_with_one_key_are_never_on_their_way_at_the_same_time() {
    let (address, script) = server(vec![]).await;
    let lines = (0..200).map(|number| format!("same{}\t{number}\n", number % 5)).collect();
    import(&address, &["--batch", "2", "--in-flight", "16"], lines).await.ok();
    assert_eq!(script.overlaps(), Vec::<String>::new());
    assert_eq!(script.asked(), 100);
}

#[tokio::test]
async fn lines_with_different_keys_are_on_their_way_together() {
    let (address, script) = server(vec![Answer::Meet(4)]).await;
    let lines = (0..40).map(|number| format!("key{number}\t{number}\n")).collect();
    // The first four batches are answered when all of them are there.
    import(&address, &["--batch", "10", "--in-flight", "4"], lines).await.ok();
    assert_eq!(script.asked(), 4);
}

#[tokio::test]
async fn a_batch_of_unknown_outcome_is_sent_again_and_counted() {
    let (address, script) = server(vec![Answer::Fails(Kind::Unknown, None)]).await;
    let summary = import(&address, &["--json"], "a\t1\nb\t2\n".into()).await.json();
    assert_eq!(summary["unknown_retried"], 1, "{summary}");
    assert_eq!(summary["imported"], 2, "{summary}");
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn an_import_stops_when_the_cluster_cannot_be_written_to() {
    let (address, _) = server(vec![Answer::Fails(Kind::NotReady, None); 10_000]).await;
    let ended = import(&address, &["--timeout", "0.5"], "a\t1\n".into()).await;
    assert!(ended.out.contains("imported 0 lines"), "{ended:?}");
    ended.fails(3, "stopped at line 1");
}
