//! The task of one lane: keeps a call to the peer open, and tries again when it breaks.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use openconsensus::{EntryCodec, TypeConfig};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use crate::backoff::Backoff;
use crate::endpoint::{Chain, connect};
use crate::frames::Frames;
use crate::hello::Local;
use crate::peer::{Lane, Link, Peer, PeerErrorKind};
use crate::proto::raft_client::RaftClient;
use crate::proto::{MessagesResponse, Welcome};
use crate::report::Reporter;

/// Carries the messages of one lane to one peer, until the network is gone.
pub(crate) struct LaneTask<C: TypeConfig, K> {
    pub(crate) local: Arc<Local<C>>,
    pub(crate) peer: Arc<Peer<C>>,
    pub(crate) lane: Lane,
    pub(crate) reporter: Arc<Reporter<C>>,
    /// Its sender is dropped together with the network.
    pub(crate) network: watch::Receiver<()>,
    pub(crate) codec: PhantomData<fn() -> K>,
}

/// Why an attempt to carry messages is over.
enum End {
    /// The peer is at another address now.
    Moved,
    Failed(PeerErrorKind, String),
}

impl<C: TypeConfig, K: EntryCodec<C>> LaneTask<C, K> {
    pub(crate) async fn run(self) {
        let mut network = self.network.clone();
        tokio::select! {
            biased;
            // It never changes: this resolves when the network is gone.
            _ = network.changed() => {}
            () = self.carry() => {}
        }
        self.link().closed();
    }

    fn link(&self) -> &Link<C> {
        self.peer.link(self.lane)
    }

    /// Never returns. Dropping it closes what is open.
    async fn carry(&self) {
        let config = &self.local.config;
        let mut backoff = Backoff::new(config.backoff_ms_min, config.backoff_ms_max);
        let mut address = self.peer.address();
        loop {
            // Nobody is called before there is something to say, or a failure to be confirmed or forgotten.
            let has_messages = tokio::select! {
                biased;
                () = self.link().queue.filled() => true,
                () = self.time_to_test() => false,
            };
            let mut opened = None;
            let end = self.call(&mut address, &mut opened).await;
            self.link().closed();
            // A call that soon broke again proves nothing: the next attempt waits longer.
            if opened.is_some_and(|at| config.backoff_ms_max <= millis(at.elapsed())) {
                backoff.reset();
            }
            match end {
                End::Moved => backoff.reset(),
                End::Failed(kind, text) => {
                    if has_messages || opened.is_some() {
                        self.link().failed(kind, text);
                    } else {
                        self.link().failed_again(kind, text);
                    }
                    self.reporter.report_unreachable(self.peer.id);
                    if opened.is_none() {
                        // By the time the peer is back, what waits now is stale.
                        self.link().queue.clear();
                    }
                    self.wait(&mut backoff, &mut address).await;
                }
            }
        }
    }

    /// Resolves after a while if the last attempt failed. A peer that this node has nothing to say to may be back, and
    /// those who look at [`last_error`](crate::GrpcNetwork::last_error) should not be told otherwise for ever.
    async fn time_to_test(&self) {
        if !self.link().has_failed() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.local.config.keepalive_interval()).await;
    }

    /// Waits for the next attempt. A new address is tried at once.
    async fn wait(&self, backoff: &mut Backoff, address: &mut watch::Receiver<Option<Arc<str>>>) {
        let wait = backoff.wait();
        tokio::select! {
            biased;
            _ = address.changed() => backoff.reset(),
            () = self.link().back_off(wait, backoff.min()) => {}
        }
    }

    /// Opens a call and keeps it open for as long as possible.
    async fn call(
        &self,
        address: &mut watch::Receiver<Option<Arc<str>>>,
        opened: &mut Option<Instant>,
    ) -> End {
        // Before the address is read: if it changes afterwards, this call is over and takes nothing.
        let call = OpenCall { link: self.link(), number: self.link().queue.begin_call() };
        let Some(target) = address.borrow_and_update().clone() else {
            let text = format!("no address of node {} is known: it is not in the membership", self.peer.id);
            return End::Failed(PeerErrorKind::Unreachable, text);
        };
        let limit = self.local.config.connect_timeout();
        let responses = tokio::select! {
            biased;
            _ = address.changed() => return End::Moved,
            result = timeout(limit, self.open(&target, call.number)) => match result {
                Ok(Ok(responses)) => responses,
                Ok(Err((kind, reason))) => return End::Failed(kind, self.describe(&target, &reason)),
                Err(_) => {
                    let reason = format!("no answer within connect_timeout_ms, {} ms", limit.as_millis());
                    return End::Failed(PeerErrorKind::Unreachable, self.describe(&target, &reason));
                }
            },
        };
        *opened = Some(Instant::now());
        self.link().opened();
        tracing::debug!(peer = %self.peer.id, lane = ?self.lane, address = %target, "connected");
        tokio::select! {
            biased;
            _ = address.changed() => End::Moved,
            reason = broken(responses) => {
                End::Failed(PeerErrorKind::Broken, self.describe(&target, &reason))
            }
        }
    }

    /// Connects and introduces this node. Returns when the peer has welcomed it: then messages flow, for as long as
    /// the call is open.
    async fn open(
        &self,
        address: &str,
        call: u64,
    ) -> Result<Streaming<MessagesResponse>, (PeerErrorKind, String)> {
        let channel = connect(&self.local.config, address)
            .await
            .map_err(|error| (PeerErrorKind::Unreachable, error.to_string()))?;
        let (welcomed, awaited) = oneshot::channel();
        let hello = self.local.hello(self.peer.id);
        let frames = Frames::<C, K>::new(self.peer.clone(), self.lane, call, hello, awaited);
        let refused = |status: Status| (kind(&status), describe(&status));
        let mut responses = RaftClient::new(channel).messages(frames).await.map_err(refused)?.into_inner();
        let response = responses.message().await.map_err(refused)?;
        let Some(MessagesResponse { welcome: Some(Welcome { message_bytes_max }) }) = response else {
            return Err((PeerErrorKind::Broken, "it ended the call without a welcome".into()));
        };
        let limit = message_bytes_max.min(self.local.config.message_bytes_max);
        // The receiver of this is gone only if the connection broke already, which the responses tell.
        let _sent = welcomed.send(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(responses)
    }

    fn describe(&self, address: &str, reason: &str) -> String {
        format!("node {} at {address} ({:?} lane): {reason}", self.peer.id, self.lane)
    }
}

/// The call that is open. Its stream of requests ends when this is dropped.
struct OpenCall<'a, C: TypeConfig> {
    link: &'a Link<C>,
    number: u64,
}

impl<C: TypeConfig> Drop for OpenCall<'_, C> {
    fn drop(&mut self) {
        self.link.queue.end_call();
    }
}

/// Resolves when the peer no longer listens, with the reason.
async fn broken(mut responses: Streaming<MessagesResponse>) -> String {
    loop {
        match responses.message().await {
            // There is no second answer. One that comes from a later release does no harm.
            Ok(Some(_)) => {}
            Ok(None) => return "it ended the call".into(),
            Err(status) => return describe(&status),
        }
    }
}

fn kind(status: &Status) -> PeerErrorKind {
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented => PeerErrorKind::Refused,
        Code::Unavailable => PeerErrorKind::Unreachable,
        _ => PeerErrorKind::Broken,
    }
}

/// The text of a status, with what caused it.
pub(crate) fn describe(status: &Status) -> String {
    let text = if status.message().is_empty() { status.code().description() } else { status.message() };
    match std::error::Error::source(status) {
        Some(cause) if !text.contains(&cause.to_string()) => format!("{text}: {}", Chain(cause)),
        _ => text.to_owned(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
