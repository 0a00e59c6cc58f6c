//! What this node knows of one peer: its address, the lanes to it, and what went wrong last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use openconsensus::{Message, TypeConfig};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::GrpcConfig;
use crate::proto;
use crate::queue::{Queue, WhenFull};

/// What went wrong with a peer last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
#[non_exhaustive]
pub struct PeerError {
    /// What kind of failure it is.
    pub kind: PeerErrorKind,
    /// What happened, with the peer, its address and the values that matter.
    pub text: String,
    /// When it happened.
    pub at: SystemTime,
}

/// Kinds of failures, by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerErrorKind {
    /// Nobody answers at the address, or there is none. Attempts go on; start the peer or correct its address.
    Unreachable,
    /// Somebody answers and will not listen: another cluster, another node, another version. Correct the
    /// configuration that the text names.
    Refused,
    /// The connection broke. It is opened again.
    Broken,
    /// A message was dropped because it is larger than a request may be, or cannot be encoded. Raise
    /// [`message_bytes_max`](crate::GrpcConfig::message_bytes_max) on both sides.
    Unsendable,
}

/// How things stand with one peer, for people who look after a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Where it is reached, if that is known.
    pub address: Option<String>,
    /// Whether votes, heartbeats and answers can leave.
    pub urgent_connected: bool,
    /// Whether appends can leave.
    pub bulk_connected: bool,
    /// Messages that wait to be sent.
    pub queued_messages: u64,
    /// Bytes of messages that wait to be sent.
    pub queued_bytes: u64,
    /// Messages that were dropped, because the queue was full or the peer could not be reached.
    pub dropped_messages: u64,
    /// The latest failure that no later success has made obsolete.
    pub last_error: Option<PeerError>,
}

/// The two lanes to a peer. Each has a connection of its own: neither flow control nor a lost packet of bulk data can
/// hold up a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Urgent,
    Bulk,
}

impl Lane {
    pub(crate) fn to_proto(self) -> proto::Lane {
        match self {
            Self::Urgent => proto::Lane::Urgent,
            Self::Bulk => proto::Lane::Bulk,
        }
    }

    pub(crate) fn from_proto(lane: proto::Lane) -> Option<Self> {
        match lane {
            proto::Lane::Unspecified => None,
            proto::Lane::Urgent => Some(Self::Urgent),
            proto::Lane::Bulk => Some(Self::Bulk),
        }
    }
}

/// What this node knows of one peer.
#[derive(Debug)]
pub(crate) struct Peer<C: TypeConfig> {
    pub(crate) id: C::NodeId,
    urgent: Link<C>,
    bulk: Link<C>,
    address: watch::Sender<Option<Arc<str>>>,
    advertised: Mutex<Option<Arc<str>>>,
}

/// One lane to a peer, shared by those who send, the task that carries, and those who hear of the peer.
#[derive(Debug)]
pub(crate) struct Link<C: TypeConfig> {
    pub(crate) queue: Queue<C>,
    started: AtomicBool,
    connected: AtomicBool,
    is_backing_off: AtomicBool,
    heard: Notify,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    error: Option<PeerError>,
    /// What was written to the log last, and when.
    logged: Option<(PeerErrorKind, Instant)>,
}

/// A failure that repeats is written to the log so often at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl<C: TypeConfig> Peer<C> {
    pub(crate) fn new(id: C::NodeId, config: &GrpcConfig) -> Self {
        Self {
            id,
            urgent: Link::new(config, WhenFull::DropOldest),
            bulk: Link::new(config, WhenFull::DropNewest),
            address: watch::Sender::new(None),
            advertised: Mutex::new(None),
        }
    }

    pub(crate) fn link(&self, lane: Lane) -> &Link<C> {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        }
    }

    /// The address to use, and its changes.
    pub(crate) fn address(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.address.subscribe()
    }

    /// The membership says where the peer is. Where that is new, what is queued from now on goes nowhere else: a call
    /// to the old address ends before this returns.
    pub(crate) fn set_address(&self, address: &str) {
        let changed = self.address.send_if_modified(|current| {
            let changes = current.as_deref() != Some(address);
            if changes {
                *current = Some(address.into());
            }
            changes
        });
        if changed {
            self.urgent.queue.end_call();
            self.bulk.queue.end_call();
        }
    }

    /// The membership does not know the peer: what it said itself is used.
    pub(crate) fn use_advertised_address(&self) {
        let advertised = self.advertised().clone();
        if let Some(advertised) = advertised {
            self.set_address(&advertised);
        }
    }

    /// The peer has said where it listens.
    pub(crate) fn advertise(&self, address: Arc<str>) {
        *self.advertised() = Some(address);
    }

    /// The peer lives: whoever waits to try again need not wait any longer.
    pub(crate) fn heard(&self) {
        for link in [&self.urgent, &self.bulk] {
            if link.is_backing_off.load(Ordering::Relaxed) {
                link.heard.notify_one();
            }
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let (urgent, bulk) = (self.urgent.queue.counts(), self.bulk.queue.counts());
        let errors = [self.urgent.error(), self.bulk.error()];
        PeerStatus {
            address: self.address.borrow().as_deref().map(str::to_owned),
            urgent_connected: self.urgent.connected.load(Ordering::Relaxed),
            bulk_connected: self.bulk.connected.load(Ordering::Relaxed),
            queued_messages: urgent.0 + bulk.0,
            queued_bytes: urgent.1 + bulk.1,
            dropped_messages: urgent.2 + bulk.2,
            last_error: errors.into_iter().flatten().max_by_key(|error| error.at),
        }
    }

    fn advertised(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.advertised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: TypeConfig> Link<C> {
    fn new(config: &GrpcConfig, when_full: WhenFull) -> Self {
        Self {
            queue: Queue::new(config.queue_messages_max, config.queue_bytes_max, when_full),
            started: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            is_backing_off: AtomicBool::new(false),
            heard: Notify::new(),
            trouble: Mutex::default(),
        }
    }

    /// Queues messages. Whether the task that carries them has yet to be started.
    pub(crate) fn push(&self, messages: Vec<Message<C>>) -> bool {
        self.queue.push(messages);
        !self.started.load(Ordering::Relaxed) && !self.started.swap(true, Ordering::Relaxed)
    }

    /// The peer listens: what went wrong before is over.
    pub(crate) fn opened(&self) {
        self.connected.store(true, Ordering::Relaxed);
        *self.trouble() = Trouble::default();
    }

    pub(crate) fn closed(&self) {
        self.connected.store(false, Ordering::Relaxed);
    }

    /// Waits for `wait`, or until the peer is heard of, but at least for `min`: a peer that talks and cannot be
    /// reached must not be called at every word.
    pub(crate) async fn back_off(&self, wait: Duration, min: Duration) {
        self.is_backing_off.store(true, Ordering::Relaxed);
        let woken = async {
            tokio::time::sleep(min).await;
            self.heard.notified().await;
        };
        // Over or heard of: either way it is time for the next attempt.
        let _over = tokio::time::timeout(wait, woken).await;
        self.is_backing_off.store(false, Ordering::Relaxed);
    }

    /// Remembers what went wrong, and writes it to the log if that has not been done lately.
    pub(crate) fn failed(&self, kind: PeerErrorKind, text: String) {
        let mut trouble = self.trouble();
        let is_news = match trouble.logged {
            None => true,
            Some((logged, at)) => logged != kind || LOG_INTERVAL <= at.elapsed(),
        };
        if is_news {
            trouble.logged = Some((kind, Instant::now()));
            match kind {
                PeerErrorKind::Unsendable => tracing::error!("{text}"),
                PeerErrorKind::Unreachable | PeerErrorKind::Refused | PeerErrorKind::Broken => {
                    tracing::warn!("{text}");
                }
            }
        } else {
            tracing::debug!("{text}");
        }
        trouble.error = Some(PeerError { kind, text, at: SystemTime::now() });
    }

    /// Remembers what still is wrong with a peer that nothing is to be sent to. It may have left for good, so it is no
    /// news.
    pub(crate) fn failed_again(&self, kind: PeerErrorKind, text: String) {
        tracing::debug!("{text}");
        self.trouble().error = Some(PeerError { kind, text, at: SystemTime::now() });
    }

    /// Whether something went wrong that no later success has made obsolete.
    pub(crate) fn has_failed(&self) -> bool {
        self.trouble().error.is_some()
    }

    fn error(&self) -> Option<PeerError> {
        self.trouble().error.clone()
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
