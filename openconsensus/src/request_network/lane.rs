//! Messages of one kind on their way to one peer.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use anyerror::AnyError;
use futures::future::poll_fn;
use futures::task::AtomicWaker;
use futures::{FutureExt, select_biased};

use crate::driver::lock;
use crate::message::Message;
use crate::network::NetworkError;
use crate::runtime::AsyncRuntime;
use crate::type_config::TypeConfig;

use super::{Reporter, RequestNetworkLimits, RequestTransport, backoff};

/// A queue to one peer.
pub(super) struct Lane<C: TypeConfig> {
    state: Mutex<State<C>>,
    delivery: AtomicWaker,
}

struct State<C: TypeConfig> {
    queued: VecDeque<Message<C>>,
    bytes: u64,
    /// How the peer is reached, as was said last.
    node: Option<C::Node>,
    closed: bool,
}

impl<C: TypeConfig> Lane<C> {
    pub(super) fn new() -> Self {
        let state = State { queued: VecDeque::new(), bytes: 0, node: None, closed: false };
        Self { state: Mutex::new(state), delivery: AtomicWaker::new() }
    }

    /// Queues what fits. What does not is dropped, and all that comes behind it: an append without the one before it
    /// would only be refused.
    pub(super) fn push(&self, node: &C::Node, messages: Vec<Message<C>>, bytes_max: u64) {
        {
            let mut state = lock(&self.state);
            if state.node.as_ref() != Some(node) {
                state.node = Some(node.clone());
            }
            for message in messages {
                let bytes = message.size_bytes();
                if !state.queued.is_empty() && bytes_max < state.bytes + bytes {
                    break;
                }
                state.bytes += bytes;
                state.queued.push_back(message);
            }
        }
        self.delivery.wake();
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.delivery.wake();
    }

    /// Waits for messages and takes as many as fit into one request. `None` when the lane is closed.
    async fn take(&self, bytes_max: u64) -> Option<(C::Node, Vec<Message<C>>)> {
        poll_fn(|cx| {
            self.delivery.register(cx.waker());
            let mut state = lock(&self.state);
            if state.closed {
                return Poll::Ready(None);
            }
            let Some(node) = state.node.clone().filter(|_| !state.queued.is_empty()) else {
                return Poll::Pending;
            };
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while let Some(next) = state.queued.front().map(Message::size_bytes)
                && (messages.is_empty() || bytes + next <= bytes_max)
            {
                bytes += next;
                messages.extend(state.queued.pop_front());
            }
            state.bytes -= bytes;
            Poll::Ready(Some((node, messages)))
        })
        .await
    }

    async fn closed(&self) {
        poll_fn(|cx| {
            self.delivery.register(cx.waker());
            if lock(&self.state).closed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The task that delivers what is queued in one lane.
pub(super) struct Delivery<C: TypeConfig, R, T> {
    pub(super) peer: C::NodeId,
    pub(super) lane: Arc<Lane<C>>,
    pub(super) runtime: R,
    pub(super) transport: Arc<T>,
    pub(super) limits: RequestNetworkLimits,
    pub(super) reporter: Arc<Reporter<C>>,
    /// Decides how long a wait is.
    pub(super) chance: u64,
}

impl<C, R, T> Delivery<C, R, T>
where
    C: TypeConfig,
    R: AsyncRuntime,
    T: RequestTransport<C>,
{
    /// Delivers one request after the other until the lane is closed.
    pub(super) async fn run(mut self) {
        let mut failures = 0_u32;
        while let Some((node, messages)) = self.lane.take(self.limits.request_bytes_max).await {
            match self.deliver(&node, messages).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::info!(name: "raft.network.failed", peer = %self.peer, %error, "peer not reached");
                    }
                    self.reporter.report(self.peer);
                    self.back_off(failures).await;
                }
            }
        }
    }

    async fn deliver(&self, node: &C::Node, messages: Vec<Message<C>>) -> Result<(), NetworkError> {
        let deadline = self.runtime.now() + Duration::from_millis(self.limits.request_timeout_ms);
        let delivery = self.transport.deliver(self.peer, node, messages);
        let mut delivery = pin!(AssertUnwindSafe(delivery).catch_unwind().fuse());
        let mut too_late = pin!(self.runtime.sleep_until(deadline).fuse());
        let mut closed = pin!(self.lane.closed().fuse());
        let failed = |why: &str| Err(NetworkError::Unreachable(AnyError::error(why)));
        select_biased! {
            result = delivery => result.unwrap_or_else(|_| failed("the transport has panicked")),
            () = closed => failed("the network has gone"),
            () = too_late => failed("the request took longer than request_timeout_ms"),
        }
    }

    async fn back_off(&mut self, failures: u32) {
        // One step of SplitMix64.
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let pause = backoff(&self.limits, failures, mixed ^ (mixed >> 31));
        let mut pause = pin!(self.runtime.sleep_until(self.runtime.now() + pause).fuse());
        let mut closed = pin!(self.lane.closed().fuse());
        select_biased! {
            () = closed => {},
            () = pause => {},
        }
    }
}
