//! What the client does with each answer, against servers that answer as the test tells them.

mod script;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kv::client::{Client, ClientError, ClientOptions, Command, Response};
use kv::proto::failure::Kind;
use script::{Answer, server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// A server that reads until it has seen `needle`, and then closes the connection; each time.
async fn server_that_hangs_up_after(needle: &'static str) -> (String, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(0));
    let counter = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            while connection.read_buf(&mut bytes).await.is_ok_and(|count| 0 < count) {
                if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                    *counter.lock().unwrap() += 1;
                    break;
                }
            }
        }
    });
    (address, seen)
}

/// An address at which nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

fn client(endpoints: &[&String]) -> Client {
    let options = ClientOptions { timeout: Duration::from_secs(20), ..ClientOptions::default() };
    Client::new(endpoints.iter().map(|endpoint| (*endpoint).clone()).collect(), options)
}

fn put() -> Command {
    Command::Put { key: "needle".into(), value: b"v".to_vec() }
}

#[tokio::test]
async fn a_write_follows_the_leader_even_if_it_is_not_an_endpoint() {
    let (leader, at_leader) = server(vec![]).await;
    let (follower, at_follower) = server(vec![Answer::Fails(Kind::NotLeader, Some(leader.clone()))]).await;
    let client = client(&[&follower]);
    assert_eq!(client.apply(put()).await, Ok(Response::Previous(None)));
    assert_eq!(client.apply(put()).await, Ok(Response::Previous(None)));
    assert_eq!((at_leader.asked(), at_follower.asked()), (2, 1));
}

#[tokio::test]
async fn a_write_goes_on_where_nobody_listens() {
    let (node, script) = server(vec![]).await;
    let client = client(&[&nobody().await, &nobody().await, &node]);
    assert_eq!(client.apply(put()).await, Ok(Response::Previous(None)));
    assert_eq!(script.asked(), 1);
}

#[tokio::test]
async fn a_write_is_repeated_when_it_certainly_has_not_happened() {
    let safe = [Kind::NotLeader, Kind::Dropped, Kind::Stopped, Kind::NotReady];
    let (node, script) = server(safe.map(|kind| Answer::Fails(kind, None)).to_vec()).await;
    assert_eq!(client(&[&node]).apply(put()).await, Ok(Response::Previous(None)));
    assert_eq!(script.asked(), 5);
}

#[tokio::test]
async fn a_write_is_not_repeated_when_it_may_have_happened() {
    for kind in [Kind::Unknown, Kind::Unspecified] {
        let (node, script) = server(vec![Answer::Fails(kind, None)]).await;
        let error = client(&[&node]).apply(put()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
        assert_eq!(script.asked(), 1);
    }
}

#[tokio::test]
async fn a_write_is_not_repeated_when_the_connection_breaks_behind_it() {
    let (node, seen) = server_that_hangs_up_after("needle").await;
    let (other, script) = server(vec![]).await;
    let error = client(&[&node, &other]).apply(put()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    assert_eq!((*seen.lock().unwrap(), script.asked()), (1, 0));
}

#[tokio::test]
async fn a_read_is_repeated_when_the_connection_breaks_behind_it() {
    let (node, seen) = server_that_hangs_up_after("needle").await;
    let (other, _) = server(vec![]).await;
    assert_eq!(client(&[&node, &other]).get("needle").await, Ok(Some(b"value".to_vec())));
    assert_eq!(*seen.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_at_the_deadline() {
    let (node, script) = server(vec![Answer::Never]).await;
    let client = client(&[&node]).with_timeout(Duration::from_millis(300));
    let error = client.apply(put()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    assert_eq!(script.asked(), 1);
}

#[tokio::test]
async fn a_read_without_an_answer_goes_to_another_node() {
    let (silent, at_silent) = server(vec![Answer::Never]).await;
    let (node, _) = server(vec![]).await;
    let options = ClientOptions {
        timeout: Duration::from_secs(20),
        read_attempt_timeout: Duration::from_millis(100),
        ..ClientOptions::default()
    };
    let client = Client::new(vec![silent, node], options);
    assert_eq!(client.get("k").await, Ok(Some(b"value".to_vec())));
    assert_eq!(at_silent.asked(), 1);
}

#[tokio::test]
async fn what_is_refused_is_not_repeated() {
    for (kind, is_refused) in [(Kind::Refused, true), (Kind::TooLarge, true), (Kind::Failed, false)] {
        let (node, script) = server(vec![Answer::Fails(kind, None)]).await;
        let error = client(&[&node]).member_remove(&[1]).await.unwrap_err();
        let expected = format!("told to say {}", kind.as_str_name());
        match error {
            ClientError::Refused(text) if is_refused => assert_eq!(text, expected),
            ClientError::Failed(text) if !is_refused => assert_eq!(text, expected),
            other => panic!("{other}"),
        }
        assert_eq!(script.asked(), 1);
    }
}

#[tokio::test]
async fn a_request_over_the_limit_of_the_server_is_refused() {
    let (node, script) = server(vec![]).await;
    let command = Command::Put { key: "k".into(), value: vec![0; 3 << 20] };
    let error = client(&[&node]).apply(command).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(text) if text.contains("too large")), "{error}");
    assert_eq!(script.asked(), 0);
}

#[tokio::test]
async fn without_a_leader_a_write_is_unavailable_and_says_what_was_seen_last() {
    let (node, _) = server(vec![Answer::Fails(Kind::NotLeader, None); 1000]).await;
    let client = client(&[&node]).with_timeout(Duration::from_secs(1));
    match client.apply(put()).await.unwrap_err() {
        ClientError::Unavailable { last, .. } => {
            assert!(last.contains(&node), "{last}");
            assert!(last.contains("NOT_LEADER"), "{last}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn two_nodes_that_name_each_other_are_not_asked_without_a_pause() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first_address = first.local_addr().unwrap().to_string();
    let (second, at_second) =
        server(vec![Answer::Fails(Kind::NotLeader, Some(first_address.clone())); 1000]).await;
    let script = script::serve(first, vec![Answer::Fails(Kind::NotLeader, Some(second)); 1000]);
    let client = client(&[&first_address]).with_timeout(Duration::from_millis(500));
    let error = client.apply(put()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
    // With pauses of 5, 10, 20, 40, 50 ms and so on at least, and two attempts between them.
    let asked = script.asked() + at_second.asked();
    assert!((2..=30).contains(&asked), "{asked} attempts in 500 ms");
}

#[tokio::test]
async fn a_call_to_one_node_does_not_go_to_another() {
    let down = nobody().await;
    let (node, script) = server(vec![]).await;
    let client = client(&[&node]).with_timeout(Duration::from_millis(200));
    for error in [
        client.status(&down).await.unwrap_err(),
        client.get_from(&down, "k").await.unwrap_err(),
        client.checksum(&down).await.unwrap_err(),
        client.snapshot(&down).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
    }
    assert_eq!(script.asked(), 0);
}

#[tokio::test]
async fn a_scan_that_cannot_be_served_goes_to_another_node() {
    let (first, _) = server(vec![Answer::Fails(Kind::NotReady, None)]).await;
    let (second, _) = server(vec![]).await;
    let items = client(&[&first, &second]).scan("", None, 0).await;
    assert_eq!(items, Ok(vec![("k".into(), b"v".to_vec())]));
}

#[tokio::test]
async fn a_client_without_an_endpoint_is_refused() {
    let error = client(&[]).get("k").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_write_that_asks_not_to_wait_is_told_that_it_would_have_to() {
    let (node, asked) = server(vec![Answer::Fails(Kind::Busy, None)]).await;
    let told = client(&[&node]).apply_at_once(put()).await;
    assert!(matches!(&told, Err(ClientError::Busy(text)) if text.contains("BUSY")), "{told:?}");
    assert_eq!(asked.asked(), 1, "it is not repeated");
}

#[tokio::test]
async fn callers_that_write_together_share_requests() {
    let (node, script) = server(vec![]).await;
    let writer = client(&[&node]).writer();
    let calls = (0..200).map(|_| writer.apply(put()));
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(outcome, Ok(Response::Previous(None)));
    }
    assert_eq!(script.batches().iter().sum::<usize>(), 200);
    assert!(script.asked() < 20, "{} requests for 200 commands", script.asked());
}

#[tokio::test]
async fn a_writer_follows_the_leader_and_nobody_notices() {
    let (leader, at_leader) = server(vec![]).await;
    let (follower, at_follower) = server(vec![Answer::Fails(Kind::NotLeader, Some(leader.clone()))]).await;
    let writer = client(&[&follower]).writer();
    assert_eq!(writer.apply(put()).await, Ok(Response::Previous(None)));
    assert_eq!(writer.apply(put()).await, Ok(Response::Previous(None)));
    assert_eq!((at_follower.asked_to("apply_stream"), at_follower.asked()), (1, 1));
    // The first one went alone, because that can be tried again; the second one found a stream.
    assert_eq!((at_leader.asked_to("apply"), at_leader.asked_to("apply_stream")), (1, 1));
}

#[tokio::test]
async fn a_writer_goes_on_where_nobody_listens() {
    let (node, script) = server(vec![]).await;
    let writer = client(&[&nobody().await, &node]).writer();
    for _ in 0..3 {
        assert_eq!(writer.apply(put()).await, Ok(Response::Previous(None)));
    }
    assert_eq!(script.asked(), 3);
}

/// One command that is refused refuses the request that it is in, so its neighbours must be told apart from it.
#[tokio::test]
async fn a_command_that_is_refused_does_not_take_its_neighbours_with_it() {
    let refused = Answer::Fails(Kind::Refused, None);
    // The stream refuses all; alone, one of three is refused.
    let (node, script) = server(vec![refused.clone(), refused]).await;
    let writer = client(&[&node]).writer();
    let outcomes = futures::future::join_all((0..3).map(|_| writer.apply(put()))).await;
    let refusals = outcomes.iter().filter(|outcome| matches!(outcome, Err(ClientError::Refused(_)))).count();
    let done = outcomes.iter().filter(|outcome| **outcome == Ok(Response::Previous(None))).count();
    assert_eq!((refusals, done), (1, 2), "{outcomes:?}");
    assert_eq!(script.asked_to("apply"), 3);
}

#[tokio::test]
async fn a_command_of_a_writer_whose_stream_breaks_is_of_unknown_outcome_and_is_not_sent_again() {
    let (node, seen) = server_that_hangs_up_after("needle").await;
    let writer = client(&[&node]).writer();
    let outcome = writer.apply(put()).await;
    // That server never answers the call that opens the stream, so the command goes alone, once.
    assert!(matches!(outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    assert_eq!(*seen.lock().unwrap(), 1);

    let (node, script) = server(vec![Answer::Fails(Kind::Unknown, None)]).await;
    let writer = client(&[&node]).writer();
    let outcome = writer.apply(put()).await;
    assert!(matches!(outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    assert_eq!((script.asked_to("apply"), script.asked_to("apply_stream")), (0, 1));
}

#[tokio::test]
async fn a_writer_gives_up_a_node_that_is_silent_and_goes_on_with_another_one() {
    let (silent, script) = server(vec![Answer::Never]).await;
    let (node, at_node) = server(vec![]).await;
    let writer = client(&[&silent, &node]).with_timeout(Duration::from_millis(300)).writer();
    let outcome = writer.apply(put()).await;
    assert!(matches!(outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    assert_eq!(script.asked(), 1);
    // Whether the stream is given up before or after the next command comes, that one is carried out in the end.
    let wait = async { while writer.apply(put()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    assert!(1 <= at_node.asked());
}
