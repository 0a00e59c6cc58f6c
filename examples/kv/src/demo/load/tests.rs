//! The load and the import against a server that keeps its promises, and against ones that break them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status};

use super::{Load, Serving, SharedModel};
use crate::client::{Client, ClientOptions, Command, Response};
use crate::demo::check::{Findings, Promises};
use crate::demo::import::{Import, SharedImported};
use crate::demo::model::{FaultKind, Tally};
use crate::proto::failure::Kind;
use crate::proto::kv_server::{Kv, KvServer};
use crate::proto::{
    AddMemberRequest, ApplyRequest, ApplyResponse, CampaignRequest, CampaignResponse, ChecksumRequest,
    ChecksumResponse, CommandResponse, DemoteMembersRequest, DoneResponse, Failure, ForgetLeaderRequest,
    GetRequest, GetResponse, MemberResponse, MoveMemberRequest, PauseRequest, PromoteMembersRequest,
    PurgeRequest, PurgeResponse, RemoveMembersRequest, ScanPage, ScanRequest, SnapshotRequest,
    SnapshotResponse, StatusRequest, StatusResponse, TransferRequest, TransferResponse,
};

/// What a server does wrong, every now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Says that it does not know what became of a write. That is allowed.
    Unknown,
    /// Says that nothing has happened. That is allowed.
    Refuses,
    /// Acknowledges a write and does not carry it out.
    Forgets,
    /// Says that nothing has happened, but it has.
    Lies,
    /// Carries out a write twice.
    Repeats,
    /// Answers a read with the value before the last write.
    ReadsLate,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<String, Vec<u8>>,
    before: BTreeMap<String, Option<Vec<u8>>>,
    requests: u64,
}

#[derive(Clone, Debug)]
struct Server {
    fault: Fault,
    state: Arc<Mutex<State>>,
}

impl State {
    fn apply(&mut self, command: Command) -> Response {
        match command {
            Command::Put { key, value } => Response::Previous(self.set(key, Some(value))),
            Command::Delete { key } => Response::Previous(self.set(key, None)),
            Command::CompareAndSet { key, expected, value } => {
                let actual = self.values.get(&key).cloned();
                let set = actual == expected;
                if set {
                    self.set(key, value);
                }
                Response::Compared { set, actual }
            }
            Command::Batch(_) => panic!("the demonstration sends none"),
        }
    }

    fn set(&mut self, key: String, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let previous = match value {
            Some(value) => self.values.insert(key.clone(), value),
            None => self.values.remove(&key),
        };
        self.before.insert(key, previous.clone());
        previous
    }
}

fn failure(kind: Kind) -> Option<Failure> {
    Some(Failure { kind: kind.into(), text: "as the test wants it".into(), ..Failure::default() })
}

type Answered<T> = Result<tonic::Response<T>, Status>;

#[async_trait::async_trait]
impl Kv for Server {
    type ApplyStreamStream = tokio_stream::Empty<Result<ApplyResponse, Status>>;
    type ScanStream = tokio_stream::Empty<Result<ScanPage, Status>>;

    async fn apply(&self, request: Request<ApplyRequest>) -> Answered<ApplyResponse> {
        let commands = request.into_inner().commands.into_iter();
        let commands: Vec<Command> = commands.map(|command| command.try_into().unwrap()).collect();
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        // Unknown outcomes are of both kinds.
        let (now, next) = (state.requests.is_multiple_of(20), state.requests % 20 == 10);
        let (carried_out, repeated, failure) = match self.fault {
            Fault::Unknown if now => (true, false, failure(Kind::Unknown)),
            Fault::Unknown if next => (false, false, failure(Kind::Unknown)),
            Fault::Refuses if now => (false, false, failure(Kind::Dropped)),
            Fault::Forgets if now => (false, false, None),
            Fault::Lies if now => (true, false, failure(Kind::Dropped)),
            Fault::Repeats if now => (true, true, None),
            _ => (true, false, None),
        };
        let mut forgetful = State { values: state.values.clone(), ..State::default() };
        let target = if carried_out { &mut *state } else { &mut forgetful };
        let mut responses: Vec<_> = commands.iter().cloned().map(|command| target.apply(command)).collect();
        if repeated {
            responses = commands.into_iter().map(|command| target.apply(command)).collect();
        }
        let responses = if failure.is_some() { vec![] } else { responses };
        let responses = responses.into_iter().map(CommandResponse::from).collect();
        Ok(tonic::Response::new(ApplyResponse { failure, responses }))
    }

    async fn apply_stream(
        &self,
        _: Request<tonic::Streaming<ApplyRequest>>,
    ) -> Answered<Self::ApplyStreamStream> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answered<GetResponse> {
        let key = request.into_inner().key;
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        let value = match state.before.get(&key) {
            Some(before) if self.fault == Fault::ReadsLate && state.requests.is_multiple_of(20) => {
                before.clone()
            }
            Some(_) | None => state.values.get(&key).cloned(),
        };
        Ok(tonic::Response::new(GetResponse { failure: None, value }))
    }

    async fn scan(&self, _: Request<ScanRequest>) -> Answered<Self::ScanStream> {
        Err(Status::unimplemented("not needed"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answered<StatusResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn checksum(&self, _: Request<ChecksumRequest>) -> Answered<ChecksumResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn add_member(&self, _: Request<AddMemberRequest>) -> Answered<MemberResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn promote_members(&self, _: Request<PromoteMembersRequest>) -> Answered<MemberResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn remove_members(&self, _: Request<RemoveMembersRequest>) -> Answered<MemberResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn transfer(&self, _: Request<TransferRequest>) -> Answered<TransferResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Answered<SnapshotResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn purge(&self, _: Request<PurgeRequest>) -> Answered<PurgeResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn demote_members(&self, _: Request<DemoteMembersRequest>) -> Answered<MemberResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn move_member(&self, _: Request<MoveMemberRequest>) -> Answered<MemberResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn campaign(&self, _: Request<CampaignRequest>) -> Answered<CampaignResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pause_elections(&self, _: Request<PauseRequest>) -> Answered<DoneResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pause_heartbeats(&self, _: Request<PauseRequest>) -> Answered<DoneResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn forget_leader(&self, _: Request<ForgetLeaderRequest>) -> Answered<DoneResponse> {
        Err(Status::unimplemented("not needed"))
    }
}

/// What a run against a server has shown.
#[derive(Debug)]
struct Seen {
    tally: Tally,
    faults: Vec<FaultKind>,
    contents: Findings,
}

/// Lets clients and an import work until there were 1500 requests, and checks what the server contains then.
async fn run(fault: Fault) -> Seen {
    let server = Server { fault, state: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = tonic::transport::Server::builder().add_service(KvServer::new(server.clone()));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));

    let client = Client::new(vec![address.clone()], ClientOptions::default());
    let (model, imported, serving) = (SharedModel::default(), SharedImported::default(), Serving::default());
    serving.add(&address);
    let load = Load::start(4, &client, &serving, &model, 1);
    let batches = (0..50).map(|batch| (0..4).map(|line| (format!("{batch}/{line}"), vec![batch])).collect());
    let import = Import::start(batches.collect(), &client, &imported);
    let figures = import.finish((0, Duration::ZERO)).await.unwrap();
    assert_eq!(figures.lines, 200);
    let enough = async {
        while server.state.lock().unwrap().requests < 1500 {
            tokio::time::sleep(Duration::from_millis(5)).await; // paces the polling
        }
    };
    tokio::time::timeout(Duration::from_secs(60), enough).await.expect("too few requests");
    let figures = load.stop().await.unwrap();

    let (model, imported) = (model.lock(), imported.lock());
    let contents = server.state.lock().unwrap().values.clone();
    Seen {
        tally: figures.tally,
        faults: model.faults().iter().map(|fault| fault.kind).collect(),
        contents: Promises { imported: &imported, model: &model }.check_contents(&contents),
    }
}

#[tokio::test]
async fn nothing_is_found_wrong_with_a_server_that_keeps_its_promises() {
    let seen = run(Fault::Nothing).await;
    assert!(seen.faults.is_empty() && seen.contents.are_none(), "{seen:?}");
    assert_eq!((seen.tally.unknown, seen.tally.reads_failed), (0, 0));
    assert!(200 < seen.tally.acknowledged && 200 < seen.tally.reads, "{seen:?}");
}

#[tokio::test]
async fn unknown_outcomes_and_refusals_are_allowed() {
    let seen = run(Fault::Unknown).await;
    assert!(seen.faults.is_empty() && seen.contents.are_none(), "{seen:?}");
    assert!(20 < seen.tally.unknown, "{seen:?}");
    let seen = run(Fault::Refuses).await;
    assert!(seen.faults.is_empty() && seen.contents.are_none(), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_forgets_acknowledged_writes_is_found_out() {
    let seen = run(Fault::Forgets).await;
    assert!(seen.faults.contains(&FaultKind::Outdated), "{seen:?}");
    assert!(0 < seen.contents.lost, "{seen:?}");
}

#[tokio::test]
async fn a_server_that_carries_out_what_it_refused_is_found_out() {
    // The client sends it again, and so it happens twice.
    let seen = run(Fault::Lies).await;
    assert!(seen.faults.contains(&FaultKind::Twice), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_carries_out_writes_twice_is_found_out() {
    let seen = run(Fault::Repeats).await;
    assert!(seen.faults.contains(&FaultKind::Twice), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_reads_late_is_found_out() {
    let seen = run(Fault::ReadsLate).await;
    assert!(seen.faults.contains(&FaultKind::Outdated), "{seen:?}");
    assert!(seen.contents.are_none(), "{seen:?}");
}
