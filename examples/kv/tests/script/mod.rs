//! A server of the client protocol that answers as a test tells it.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kv::proto::failure::Kind;
use kv::proto::kv_server::{Kv, KvServer};
use kv::proto::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, Streaming};

/// One answer of a server.
#[derive(Clone, Debug)]
pub enum Answer {
    Done,
    Fails(Kind, Option<String>),
    Never,
    /// Answers when so many requests are there at the same time; so do those after it.
    Meet(usize),
}

/// Answers as it is told, and then that all is done. Counts what it was asked.
#[derive(Clone, Debug, Default)]
pub struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
    /// The keys of requests that are under way.
    keys: Arc<Mutex<BTreeSet<String>>>,
    overlaps: Arc<Mutex<Vec<String>>>,
    /// How many commands the requests of streams had.
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Script {
    async fn next(&self, what: &'static str) -> Option<Failure> {
        self.asked.lock().unwrap().push(what);
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Done);
        match answer {
            Answer::Done => None,
            Answer::Never => std::future::pending().await,
            Answer::Meet(count) => {
                for _ in 1..count {
                    self.answers.lock().unwrap().push_back(Answer::Done);
                }
                while self.asked() < count {
                    tokio::time::sleep(Duration::from_millis(1)).await; // paces the questions
                }
                None
            }
            Answer::Fails(kind, leader_address) => {
                let text = format!("told to say {}", kind.as_str_name());
                Some(Failure { kind: kind.into(), text, leader_id: None, leader_address })
            }
        }
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// How often it was asked for this.
    pub fn asked_to(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| **asked == what).count()
    }

    /// How many commands the requests of streams had that it carried out.
    pub fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }
}

impl Script {
    /// The keys that two requests set at the same time.
    pub fn overlaps(&self) -> Vec<String> {
        self.overlaps.lock().unwrap().clone()
    }

    /// Notes the keys of a request for a moment in which others may come.
    async fn set(&self, commands: &[Command]) {
        let keys: Vec<String> = commands.iter().flat_map(keys_of).collect();
        for key in &keys {
            if !self.keys.lock().unwrap().insert(key.clone()) {
                self.overlaps.lock().unwrap().push(key.clone());
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await; // paces the answers, so that requests meet
        for key in &keys {
            self.keys.lock().unwrap().remove(key);
        }
    }
}

fn keys_of(command: &Command) -> Vec<String> {
    match &command.command {
        Some(command::Command::Put(put)) => vec![put.key.clone()],
        Some(command::Command::Batch(batch)) => batch.commands.iter().flat_map(keys_of).collect(),
        other => panic!("{other:?} sets no key"),
    }
}

type Answered<T> = Result<tonic::Response<T>, Status>;

#[async_trait::async_trait]
impl Kv for Script {
    type ApplyStreamStream = BoxStream<'static, Result<ApplyResponse, Status>>;
    type ScanStream = tokio_stream::Iter<std::vec::IntoIter<Result<ScanPage, Status>>>;

    async fn apply(&self, request: Request<ApplyRequest>) -> Answered<ApplyResponse> {
        let failure = self.next("apply").await;
        self.set(&request.get_ref().commands).await;
        let count = request.get_ref().commands.len();
        let response = CommandResponse::from(openconsensus_memstore::kv::Response::Previous(None));
        let responses = vec![response; if failure.is_some() { 0 } else { count }];
        Ok(tonic::Response::new(ApplyResponse { failure, responses }))
    }

    async fn apply_stream(
        &self,
        requests: Request<Streaming<ApplyRequest>>,
    ) -> Answered<Self::ApplyStreamStream> {
        let script = self.clone();
        let answer = move |request: Result<ApplyRequest, Status>| {
            let script = script.clone();
            async move {
                let failure = script.next("apply_stream").await;
                let count = if failure.is_some() { 0 } else { request?.commands.len() };
                script.batches.lock().unwrap().push(count);
                let response = CommandResponse::from(openconsensus_memstore::kv::Response::Previous(None));
                Ok(ApplyResponse { failure, responses: vec![response; count] })
            }
        };
        Ok(tonic::Response::new(requests.into_inner().map(answer).buffered(64).boxed()))
    }

    async fn get(&self, _: Request<GetRequest>) -> Answered<GetResponse> {
        let failure = self.next("get").await;
        Ok(tonic::Response::new(GetResponse { failure, value: Some(b"value".to_vec()) }))
    }

    async fn scan(&self, _: Request<ScanRequest>) -> Answered<Self::ScanStream> {
        let failure = self.next("scan").await;
        let items = vec![KeyValue { key: "k".into(), value: b"v".to_vec() }];
        Ok(tonic::Response::new(tokio_stream::iter(vec![Ok(ScanPage { failure, items })])))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answered<StatusResponse> {
        self.next("status").await;
        Ok(tonic::Response::new(StatusResponse { status: Some(NodeStatus::default()) }))
    }

    async fn checksum(&self, _: Request<ChecksumRequest>) -> Answered<ChecksumResponse> {
        let failure = self.next("checksum").await;
        Ok(tonic::Response::new(ChecksumResponse { failure, ..ChecksumResponse::default() }))
    }

    async fn add_member(&self, _: Request<AddMemberRequest>) -> Answered<MemberResponse> {
        let failure = self.next("add_member").await;
        Ok(tonic::Response::new(MemberResponse { failure, index: 7, note: None }))
    }

    async fn promote_members(&self, _: Request<PromoteMembersRequest>) -> Answered<MemberResponse> {
        let failure = self.next("promote_members").await;
        Ok(tonic::Response::new(MemberResponse { failure, index: 7, note: None }))
    }

    async fn remove_members(&self, _: Request<RemoveMembersRequest>) -> Answered<MemberResponse> {
        let failure = self.next("remove_members").await;
        Ok(tonic::Response::new(MemberResponse { failure, index: 7, note: None }))
    }

    async fn demote_members(&self, _: Request<DemoteMembersRequest>) -> Answered<MemberResponse> {
        let failure = self.next("demote_members").await;
        Ok(tonic::Response::new(MemberResponse { failure, index: 7, note: None }))
    }

    async fn move_member(&self, _: Request<MoveMemberRequest>) -> Answered<MemberResponse> {
        let failure = self.next("move_member").await;
        Ok(tonic::Response::new(MemberResponse { failure, index: 7, note: None }))
    }

    async fn campaign(&self, _: Request<CampaignRequest>) -> Answered<CampaignResponse> {
        let failure = self.next("campaign").await;
        Ok(tonic::Response::new(CampaignResponse { failure, term: 3 }))
    }

    async fn pause_elections(&self, _: Request<PauseRequest>) -> Answered<DoneResponse> {
        Ok(tonic::Response::new(DoneResponse { failure: self.next("pause_elections").await }))
    }

    async fn pause_heartbeats(&self, _: Request<PauseRequest>) -> Answered<DoneResponse> {
        Ok(tonic::Response::new(DoneResponse { failure: self.next("pause_heartbeats").await }))
    }

    async fn forget_leader(&self, _: Request<ForgetLeaderRequest>) -> Answered<DoneResponse> {
        Ok(tonic::Response::new(DoneResponse { failure: self.next("forget_leader").await }))
    }

    async fn transfer(&self, _: Request<TransferRequest>) -> Answered<TransferResponse> {
        let failure = self.next("transfer").await;
        Ok(tonic::Response::new(TransferResponse { failure, leader: 2 }))
    }

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Answered<SnapshotResponse> {
        let failure = self.next("snapshot").await;
        Ok(tonic::Response::new(SnapshotResponse { failure, index: 9, term: 2, size_bytes: None }))
    }

    async fn purge(&self, _: Request<PurgeRequest>) -> Answered<PurgeResponse> {
        let failure = self.next("purge").await;
        Ok(tonic::Response::new(PurgeResponse { failure, index: 9, term: 2 }))
    }
}

/// Starts a server. Returns where it is and what it was asked.
pub async fn server(answers: Vec<Answer>) -> (String, Script) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, serve(listener, answers))
}

/// Starts a server at a port that is taken already.
pub fn serve(listener: TcpListener, answers: Vec<Answer>) -> Script {
    let script = Script { answers: Arc::new(Mutex::new(answers.into())), ..Script::default() };
    let service = KvServer::new(script.clone()).max_decoding_message_size(1 << 20);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    script
}
