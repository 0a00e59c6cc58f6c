//! The connections of a client, and what it knows of the leader.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::proto::kv_client::KvClient;

/// One connection per address, made when it is first needed and again when it broke.
#[derive(Debug)]
pub(super) struct Connections {
    endpoints: Vec<String>,
    connect_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, KvClient<Channel>>,
    /// Where the leader answered last, or is said to be.
    leader: Option<String>,
    /// Counts up; which of `endpoints` to ask when no leader is known.
    next: usize,
}

impl Connections {
    pub(super) fn new(endpoints: Vec<String>, connect_timeout: Duration) -> Self {
        Self { endpoints, connect_timeout, state: Mutex::default() }
    }

    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Whom to ask: the leader, or one of the endpoints when none is known. `None` when there is no endpoint.
    pub(super) fn preferred(&self) -> Option<String> {
        let state = self.state();
        state.leader.clone().or_else(|| self.endpoints.get(state.next % self.endpoints.len().max(1)).cloned())
    }

    /// `address` leads, or is said to.
    pub(super) fn remember_leader(&self, address: &str) {
        let mut state = self.state();
        if state.leader.as_deref() != Some(address) {
            state.leader = Some(address.to_owned());
        }
    }

    /// Nothing is known of the leader.
    pub(super) fn forget_leader(&self) {
        self.state().leader = None;
    }

    /// `address` could not serve a request: another one is asked next, unless that has been settled meanwhile.
    pub(super) fn avoid(&self, address: &str) {
        let mut state = self.state();
        if state.leader.as_deref() == Some(address) {
            state.leader = None;
        }
        if state.leader.is_none() {
            state.next = state.next.wrapping_add(1);
        }
    }

    /// The connection to `address`. An error when that is not an address.
    pub(super) fn node(&self, address: &str) -> Result<KvClient<Channel>, String> {
        let mut state = self.state();
        if let Some(node) = state.nodes.get(address) {
            return Ok(node.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("{address} is not host:port: {error}"))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5));
        let node = KvClient::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX);
        state.nodes.insert(address.to_owned(), node.clone());
        Ok(node)
    }

    /// Nothing that holds the lock can leave the state half changed, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
