//! The server of the client protocol: each call turns into one of [`Raft`], and its error into a [`Failure`].

mod control;
mod failures;
mod pages;
mod status;
mod streams;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use openconsensus::{ChangeMembershipError, MembershipChange, Raft};
use openconsensus_memstore::kv::{self, Kv};
use openconsensus_network_grpc::GrpcNetwork;
use openconsensus_redb::kv::KvReader;
use tonic::{Request, Response, Status, Streaming};

use crate::address::{is_reachable, parse_address};
use crate::proto::kv_server::Kv as KvProtocol;
use crate::proto::{self, Failure};
use failures::{IntoFailure, not_ready, refused};

type Answered<T> = Result<Response<T>, Status>;

/// What the service tells of the node beside its metrics.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The name of the cluster.
    pub cluster: String,
    /// Where peers reach this node.
    pub address: String,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Where its log is: a folder or a file.
    pub log: PathBuf,
    /// When it was started.
    pub started: Instant,
}

/// Serves the client protocol of one node.
#[derive(Debug)]
pub struct KvService {
    raft: Raft<Kv>,
    reader: KvReader,
    network: GrpcNetwork<Kv>,
    info: NodeInfo,
}

impl KvService {
    /// Serves `raft`, whose state `reader` reads.
    pub fn new(raft: Raft<Kv>, reader: KvReader, network: GrpcNetwork<Kv>, info: NodeInfo) -> Self {
        Self { raft, reader, network, info }
    }

    async fn change(&self, change: MembershipChange<Kv>) -> proto::MemberResponse {
        answer_change(self.raft.change_membership(change, None).await)
    }

    /// After it this node has what a read of `consistency` must see.
    async fn confirm(&self, consistency: proto::Consistency) -> Result<(), Failure> {
        match consistency {
            proto::Consistency::Local => Ok(()),
            proto::Consistency::Linearizable => {
                self.raft.read().await.map(drop).map_err(IntoFailure::into_failure)
            }
            proto::Consistency::Lease => {
                self.raft.read_by_lease().await.map(drop).map_err(IntoFailure::into_failure)
            }
        }
    }

    async fn read(&self, request: &proto::GetRequest) -> Result<Option<Vec<u8>>, Failure> {
        self.confirm(request.consistency()).await?;
        let view = self.reader.fresh_view().await.map_err(not_ready)?;
        // On this thread: one key costs microseconds, less than handing it to another thread.
        view.get(&request.key).map_err(not_ready)
    }
}

/// Carries out a request, and says what came of it.
async fn apply(raft: &Raft<Kv>, request: proto::ApplyRequest) -> proto::ApplyResponse {
    match apply_all(raft, request).await {
        Ok(responses) => proto::ApplyResponse {
            failure: None,
            responses: responses.into_iter().map(proto::CommandResponse::from).collect(),
        },
        Err(failure) => proto::ApplyResponse { failure: Some(failure), responses: Vec::new() },
    }
}

async fn apply_all(raft: &Raft<Kv>, request: proto::ApplyRequest) -> Result<Vec<kv::Response>, Failure> {
    let proto::ApplyRequest { commands, no_wait } = request;
    let commands: Result<Vec<kv::Command>, _> = commands.into_iter().map(kv::Command::try_from).collect();
    let mut commands = commands.map_err(refused)?;
    commands.iter().try_for_each(check_command)?;
    let written = match (commands.len(), no_wait) {
        (1, false) => raft.write(commands.remove(0)).await.map(|response| vec![response]),
        (_, false) => raft.write_many(commands).await,
        (_, true) => raft.try_write_many(commands).await,
    };
    written.map_err(IntoFailure::into_failure)
}

fn check_command(command: &kv::Command) -> Result<(), Failure> {
    match command {
        kv::Command::Put { key, .. }
        | kv::Command::Delete { key }
        | kv::Command::CompareAndSet { key, .. } => {
            if key.is_empty() {
                Err(refused("the key is empty"))
            } else {
                Ok(())
            }
        }
        kv::Command::Batch(commands) => commands.iter().try_for_each(|command| match command {
            kv::Command::Batch(_) => Err(refused("a batch is nested in a batch")),
            kv::Command::Put { .. } | kv::Command::Delete { .. } | kv::Command::CompareAndSet { .. } => {
                check_command(command)
            }
        }),
    }
}

fn answer_change(changed: Result<openconsensus::LogId, ChangeMembershipError<Kv>>) -> proto::MemberResponse {
    match changed {
        Ok(log_id) => proto::MemberResponse { index: log_id.index, ..Default::default() },
        // It was added, which is what was asked for first.
        Err(error @ ChangeMembershipError::StillCatchingUp { .. }) => {
            proto::MemberResponse { note: Some(error.to_string()), ..Default::default() }
        }
        Err(error) => proto::MemberResponse { failure: Some(error.into_failure()), ..Default::default() },
    }
}

#[async_trait::async_trait]
impl KvProtocol for KvService {
    type ApplyStreamStream = streams::Answers;
    type ScanStream = pages::Pages;

    async fn apply(&self, request: Request<proto::ApplyRequest>) -> Answered<proto::ApplyResponse> {
        Ok(Response::new(apply(&self.raft, request.into_inner()).await))
    }

    async fn apply_stream(
        &self,
        requests: Request<Streaming<proto::ApplyRequest>>,
    ) -> Answered<streams::Answers> {
        Ok(Response::new(streams::answer_all(self.raft.clone(), requests.into_inner())))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Answered<proto::GetResponse> {
        Ok(Response::new(match self.read(request.get_ref()).await {
            Ok(value) => proto::GetResponse { failure: None, value },
            Err(failure) => proto::GetResponse { failure: Some(failure), value: None },
        }))
    }

    async fn scan(&self, request: Request<proto::ScanRequest>) -> Answered<pages::Pages> {
        let request = request.into_inner();
        Ok(Response::new(match self.confirm(request.consistency()).await {
            Ok(()) => pages::scan(self.reader.clone(), request),
            Err(failure) => pages::failed(failure),
        }))
    }

    async fn status(&self, _: Request<proto::StatusRequest>) -> Answered<proto::StatusResponse> {
        let metrics = self.raft.metrics().latest();
        let status = status::node_status(&metrics, &self.info, &self.network);
        Ok(Response::new(proto::StatusResponse { status: Some(status) }))
    }

    async fn checksum(&self, _: Request<proto::ChecksumRequest>) -> Answered<proto::ChecksumResponse> {
        let reader = self.reader.clone();
        // On a thread of its own: it reads all that is stored.
        let read = tokio::task::spawn_blocking(move || pages::checksum(&reader)).await;
        Ok(Response::new(match read {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => failed_checksum(not_ready(error)),
            Err(error) => failed_checksum(not_ready(error)),
        }))
    }

    async fn add_member(&self, request: Request<proto::AddMemberRequest>) -> Answered<proto::MemberResponse> {
        let proto::AddMemberRequest { id, address, wait_ms } = request.into_inner();
        if let Err(failure) = check_address(&address) {
            return Ok(Response::new(proto::MemberResponse { failure: Some(failure), ..Default::default() }));
        }
        let wait = (0 < wait_ms).then(|| Duration::from_millis(wait_ms));
        Ok(Response::new(answer_change(self.raft.add_learner(id, address, wait).await)))
    }

    async fn promote_members(
        &self,
        request: Request<proto::PromoteMembersRequest>,
    ) -> Answered<proto::MemberResponse> {
        let ids = request.into_inner().ids.into_iter().collect();
        Ok(Response::new(self.change(MembershipChange::Promote(ids)).await))
    }

    async fn remove_members(
        &self,
        request: Request<proto::RemoveMembersRequest>,
    ) -> Answered<proto::MemberResponse> {
        let ids = request.into_inner().ids.into_iter().collect();
        Ok(Response::new(self.change(MembershipChange::Remove(ids)).await))
    }

    async fn demote_members(
        &self,
        request: Request<proto::DemoteMembersRequest>,
    ) -> Answered<proto::MemberResponse> {
        let ids = request.into_inner().ids.into_iter().collect();
        Ok(Response::new(self.change(MembershipChange::Demote(ids)).await))
    }

    async fn move_member(
        &self,
        request: Request<proto::MoveMemberRequest>,
    ) -> Answered<proto::MemberResponse> {
        let proto::MoveMemberRequest { id, address } = request.into_inner();
        if let Err(failure) = check_address(&address) {
            return Ok(Response::new(proto::MemberResponse { failure: Some(failure), ..Default::default() }));
        }
        Ok(Response::new(self.change(MembershipChange::UpdateNodes([(id, address)].into())).await))
    }

    async fn transfer(&self, request: Request<proto::TransferRequest>) -> Answered<proto::TransferResponse> {
        Ok(Response::new(match self.raft.transfer_leadership(request.into_inner().target).await {
            Ok(leader) => proto::TransferResponse { failure: None, leader },
            Err(error) => proto::TransferResponse { failure: Some(error.into_failure()), leader: 0 },
        }))
    }

    async fn snapshot(&self, _: Request<proto::SnapshotRequest>) -> Answered<proto::SnapshotResponse> {
        Ok(Response::new(match self.raft.snapshot().await {
            Ok(meta) => {
                let (index, term) = (meta.last.index, meta.last.term);
                proto::SnapshotResponse { failure: None, index, term, size_bytes: meta.size_bytes }
            }
            Err(error) => {
                proto::SnapshotResponse { failure: Some(error.into_failure()), ..Default::default() }
            }
        }))
    }

    async fn purge(&self, request: Request<proto::PurgeRequest>) -> Answered<proto::PurgeResponse> {
        Ok(Response::new(match control::purge(&self.raft, request.into_inner().upto).await {
            Ok(purged) => proto::PurgeResponse { failure: None, index: purged.index, term: purged.term },
            Err(failure) => proto::PurgeResponse { failure: Some(failure), ..Default::default() },
        }))
    }

    async fn campaign(&self, request: Request<proto::CampaignRequest>) -> Answered<proto::CampaignResponse> {
        let wait = Duration::from_millis(request.into_inner().wait_ms);
        Ok(Response::new(match control::campaign(&self.raft, wait).await {
            Ok(term) => proto::CampaignResponse { failure: None, term },
            Err(failure) => proto::CampaignResponse { failure: Some(failure), term: 0 },
        }))
    }

    async fn pause_elections(&self, request: Request<proto::PauseRequest>) -> Answered<proto::DoneResponse> {
        let paused = control::pause_elections(&self.raft, request.into_inner().pause).await;
        Ok(Response::new(proto::DoneResponse { failure: paused.err() }))
    }

    async fn pause_heartbeats(&self, request: Request<proto::PauseRequest>) -> Answered<proto::DoneResponse> {
        let paused = control::pause_heartbeats(&self.raft, request.into_inner().pause).await;
        Ok(Response::new(proto::DoneResponse { failure: paused.err() }))
    }

    async fn forget_leader(&self, _: Request<proto::ForgetLeaderRequest>) -> Answered<proto::DoneResponse> {
        let failure = self.raft.forget_leader().await.err().map(IntoFailure::into_failure);
        Ok(Response::new(proto::DoneResponse { failure }))
    }
}

fn failed_checksum(failure: Failure) -> proto::ChecksumResponse {
    proto::ChecksumResponse { failure: Some(failure), ..Default::default() }
}

fn check_address(address: &str) -> Result<(), Failure> {
    parse_address(address).map_err(refused)?;
    if !is_reachable(address) {
        return Err(refused(format!("peers cannot connect to {address}: name a host and a port")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_other_clients_may_send_are_checked() {
        let put = |key: &str| kv::Command::Put { key: key.into(), value: Vec::new() };
        assert_eq!(check_command(&put("k")), Ok(()));
        assert_eq!(check_command(&kv::Command::Batch(vec![put("k"), put("l")])), Ok(()));
        for (wrong, says) in [
            (put(""), "the key is empty"),
            (kv::Command::Delete { key: String::new() }, "the key is empty"),
            (kv::Command::Batch(vec![put("k"), put("")]), "the key is empty"),
            (kv::Command::Batch(vec![kv::Command::Batch(Vec::new())]), "nested"),
        ] {
            let failure = check_command(&wrong).unwrap_err();
            assert!(failure.text.contains(says), "{failure:?}");
            assert_eq!(failure.kind(), proto::failure::Kind::Refused);
        }
    }

    #[test]
    fn a_member_is_added_only_where_peers_can_reach_it() {
        assert_eq!(check_address("h:1"), Ok(()));
        for wrong in ["h", "h:0", "0.0.0.0:1", "http://h:1"] {
            assert_eq!(check_address(wrong).unwrap_err().kind(), proto::failure::Kind::Refused, "{wrong}");
        }
    }
}
