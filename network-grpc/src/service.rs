//! `GrpcService`: the receiving side.

use std::fmt;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt, future, stream};
use openconsensus::{EntryCodec, InstallSnapshot, Message, PostcardCodec, TypeConfig};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::calls::{Call, Calls};
use crate::config::GrpcConfig;
use crate::door;
use crate::lane::describe;
use crate::network::Shared;
use crate::peer::{Lane, Peer};
use crate::proto::raft_server::{Raft, RaftServer};
use crate::proto::{
    Batch, Hello, InstallSnapshotRequest, InstallSnapshotResponse, MessagesRequest, MessagesResponse,
    RaftMessage, Welcome, install_snapshot_request, messages_request,
};
use crate::receiver::Receiver;
use crate::snapshot_receive::Incoming;

/// The receiving side of the transport, made by [`GrpcNetwork::service`](crate::GrpcNetwork::service): checks who
/// speaks, decodes, and hands to the node. Cheap to clone; clones are one service.
///
/// [`GrpcServer`](crate::GrpcServer) serves it; [`into_server`](Self::into_server) makes it part of any other tonic
/// server.
pub struct GrpcService<C: TypeConfig, K = PostcardCodec> {
    inner: Arc<Inner<C>>,
    codec: PhantomData<fn() -> K>,
}

struct Inner<C: TypeConfig> {
    shared: Arc<Shared<C>>,
    /// Gone when the service is closed.
    receiver: Mutex<Option<Arc<dyn Receiver<C>>>>,
    calls: Arc<Calls<C::NodeId>>,
    closing: watch::Sender<bool>,
}

impl<C: TypeConfig, K: EntryCodec<C>> GrpcService<C, K> {
    pub(crate) fn new(shared: Arc<Shared<C>>, receiver: Arc<dyn Receiver<C>>) -> Self {
        let inner = Inner {
            shared,
            receiver: Mutex::new(Some(receiver)),
            calls: Arc::default(),
            closing: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner), codec: PhantomData }
    }

    /// The service in the form that a tonic server takes, with its limit on the size of requests.
    ///
    /// Its calls live as long as their senders, so a graceful shutdown of that server waits for
    /// [`close`](Self::close): keep a clone to call it on.
    pub fn into_server(self) -> RaftServer<Self> {
        let limit = self.config().message_bytes_max_usize();
        RaftServer::new(self).max_decoding_message_size(limit)
    }

    /// Ends all calls and drops the receiver. Later calls are refused.
    pub fn close(&self) {
        self.inner.closing.send_replace(true);
        drop(self.inner.receiver.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn config(&self) -> &GrpcConfig {
        &self.inner.shared.local.config
    }
}

impl<C: TypeConfig> Inner<C> {
    fn receiver(&self) -> Result<Arc<dyn Receiver<C>>, Status> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        receiver.ok_or_else(|| self.shutting_down())
    }

    fn shutting_down(&self) -> Status {
        Status::unavailable(format!("node {} is shutting down", self.shared.local.id))
    }

    /// Resolves when the service is closed.
    async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // An error means that the service is gone altogether.
        let _closed = closing.wait_for(|closing| *closing).await;
    }

    /// The result of `work`, or a refusal if the service is closed first.
    async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Result<T, Status> {
        tokio::select! {
            biased;
            () = self.closed() => Err(self.shutting_down()),
            result = work => Ok(result),
        }
    }

    /// Checks who speaks, and remembers where to answer.
    fn welcome<K: EntryCodec<C>>(&self, hello: Option<Hello>) -> Result<Arc<Peer<C>>, Status> {
        let refused = |status: Status| {
            tracing::debug!("call refused: {}", status.message());
            status
        };
        let introduced = self.shared.local.check::<K>(hello).map_err(refused)?;
        let peer = self.shared.introduced(introduced);
        peer.ok_or_else(|| {
            refused(Status::resource_exhausted("too many different senders have called this node"))
        })
    }

    /// The first request of a call, which must come soon.
    async fn first<T>(&self, requests: &mut Streaming<T>) -> Result<T, Status> {
        let limit: Duration = self.shared.local.config.connect_timeout();
        let first = self.unless_closed(timeout(limit, requests.message())).await?;
        match first {
            Ok(request) => {
                request?.ok_or_else(|| Status::cancelled("the call ended before its first request"))
            }
            Err(_) => Err(Status::deadline_exceeded(format!(
                "the first request did not come within connect_timeout_ms, {} ms",
                limit.as_millis()
            ))),
        }
    }

    /// Hands on what arrives, in order, until the sender ends the call or something is wrong with it.
    async fn listen<K: EntryCodec<C>>(
        &self,
        mut call: Call<C::NodeId>,
        peer: &Peer<C>,
        requests: &mut Streaming<MessagesRequest>,
    ) -> Result<(), Status> {
        self.unless_closed(call.turn()).await?;
        // Made once: they are looked at before every request.
        let mut closed = pin!(self.closed());
        let mut replaced = pin!(call.replaced());
        loop {
            let request = tokio::select! {
                biased;
                () = &mut closed => return Err(self.shutting_down()),
                () = &mut replaced => return Err(Status::aborted("a later call of the same lane replaces this one")),
                request = requests.message() => request.map_err(|status| self.explain(&status))?,
            };
            let Some(request) = request else { return Ok(()) };
            let messages = decode::<C, K>(request)
                .map_err(|reason| Status::invalid_argument(format!("from node {}: {reason}", peer.id)))?;
            peer.heard();
            let receiver = self.receiver()?;
            let received = tokio::select! {
                biased;
                () = &mut closed => return Err(self.shutting_down()),
                received = receiver.receive(peer.id, messages) => received,
            };
            received.map_err(|fatal| {
                Status::unavailable(format!("node {} has stopped: {fatal}", self.shared.local.id))
            })?;
        }
    }

    /// Names the limit of this node beside the reason of a request that could not be read.
    fn explain(&self, status: &Status) -> Status {
        let local = &self.shared.local;
        let limit = local.config.message_bytes_max;
        let text = format!("{} (message_bytes_max of node {} is {limit})", describe(status), local.id);
        Status::new(status.code(), text)
    }
}

/// The messages of a request, or what is wrong with it.
fn decode<C: TypeConfig, K: EntryCodec<C>>(request: MessagesRequest) -> Result<Vec<Message<C>>, String> {
    let Some(messages_request::Kind::Batch(Batch { messages })) = request.kind else {
        return Err("after the first request only batches may follow".into());
    };
    let bytes: usize = messages.iter().map(RaftMessage::encoded_len).sum();
    let decode = |mut message: RaftMessage| {
        message.detach_entries(bytes);
        let message = message
            .into_message::<C, K>()
            .map_err(|error| format!("a message cannot be decoded: {error}"))?;
        door::check_message(&message)?;
        Ok(message)
    };
    messages.into_iter().map(decode).collect()
}

#[async_trait]
impl<C: TypeConfig, K: EntryCodec<C>> Raft for GrpcService<C, K> {
    type MessagesStream = Pin<Box<dyn Stream<Item = Result<MessagesResponse, Status>> + Send>>;

    async fn messages(
        &self,
        request: Request<Streaming<MessagesRequest>>,
    ) -> Result<Response<Self::MessagesStream>, Status> {
        let inner = self.inner.clone();
        let mut requests = request.into_inner();
        let first = inner.first(&mut requests).await?;
        let Some(messages_request::Kind::Start(start)) = first.kind else {
            return Err(Status::invalid_argument("the first request of a call must introduce its sender"));
        };
        let lane = Lane::from_proto(start.lane());
        let peer = inner.welcome::<K>(start.hello)?;
        let Some(lane) = lane else {
            return Err(Status::invalid_argument(format!("lane {} is unknown", start.lane)));
        };
        peer.heard();
        let call = inner.calls.begin(peer.id, lane);
        let welcome = Welcome { message_bytes_max: inner.shared.local.config.message_bytes_max };
        let welcome = MessagesResponse { welcome: Some(welcome) };

        // The connection polls the stream of answers, and thereby listens: when it breaks, all of it is dropped.
        let listening = stream::once(async move {
            let end = inner.listen::<K>(call, &peer, &mut requests).await;
            end.inspect_err(
                |status| tracing::debug!(peer = %peer.id, ?lane, "call ended: {}", status.message()),
            )
        });
        let end = listening.filter_map(|end| future::ready(end.err().map(Err)));
        Ok(Response::new(stream::iter([Ok(welcome)]).chain(end).boxed()))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<InstallSnapshotRequest>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        let inner = &self.inner;
        let mut requests = request.into_inner();
        let first = inner.first(&mut requests).await?;
        let Some(install_snapshot_request::Kind::Start(start)) = first.kind else {
            return Err(Status::invalid_argument("the first request of a call must introduce its sender"));
        };
        let peer = inner.welcome::<K>(start.hello)?;
        let meta = start
            .meta
            .ok_or_else(|| Status::invalid_argument("the first request must say what the snapshot covers"))?;
        let request: InstallSnapshot<C> = meta
            .into_request::<C, K>()
            .map_err(|error| Status::invalid_argument(format!("the request cannot be decoded: {error}")))?;
        if request.leader != peer.id {
            return Err(Status::invalid_argument(format!(
                "node {} sends a snapshot in the name of node {}",
                peer.id, request.leader
            )));
        }
        door::check_install_snapshot(&request).map_err(Status::invalid_argument)?;
        peer.heard();

        let (incoming, failure) = Incoming::new(requests, request.meta.size_bytes, inner.closing.subscribe());
        let receiver = inner.receiver()?;
        let received = receiver.receive_snapshot(request, incoming.into_stream());
        let response = inner.unless_closed(received).await?.map_err(|fatal| {
            Status::unavailable(format!("node {} has stopped: {fatal}", inner.shared.local.id))
        })?;
        // What broke on the way is no refusal: the sender learns the reason.
        if let (None, Some(status)) = (response.installed, failure.status()) {
            return Err(status);
        }
        let openconsensus::InstallSnapshotResponse { term, installed } = response;
        Ok(Response::new(InstallSnapshotResponse { term, installed }))
    }
}

impl<C: TypeConfig, K> Clone for GrpcService<C, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), codec: PhantomData }
    }
}

impl<C: TypeConfig, K> fmt::Debug for GrpcService<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcService").field("local", &self.inner.shared.local).finish_non_exhaustive()
    }
}
