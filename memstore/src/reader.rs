//! Reading the key-value state beside the state machine that changes it.

use std::ops::RangeBounds;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use openconsensus::{AppliedState, LogId};
use rpds::RedBlackTreeMapSync;

use crate::kv::{Checksum, Kv};

/// The state of a key-value store at one moment. Cheap to clone, and never changes.
#[derive(Clone, Debug, Default)]
pub struct KvView {
    // A map with structural sharing: a view of it costs a reference count, however large it is.
    pub(crate) pairs: RedBlackTreeMapSync<String, Bytes>,
    pub(crate) applied: Arc<AppliedState<Kv>>,
}

impl KvView {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.pairs.get(key).map(|value| value.to_vec())
    }

    /// Keys in `range` with their values, in ascending order, `limit` at most.
    pub fn scan(&self, range: impl RangeBounds<String>, limit: usize) -> Vec<(String, Vec<u8>)> {
        let found = self.pairs.range(range).take(limit);
        found.map(|(key, value)| (key.clone(), value.to_vec())).collect()
    }

    /// Keys that begin with `prefix` with their values, in ascending order, `limit` at most.
    pub fn scan_prefix(&self, prefix: &str, limit: usize) -> Vec<(String, Vec<u8>)> {
        let from = self.pairs.range(prefix.to_string()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        found.map(|(key, value)| (key.clone(), value.to_vec())).collect()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.pairs.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The [`Checksum`] of all keys and values.
    pub fn checksum(&self) -> u32 {
        let mut checksum = Checksum::new();
        self.pairs.iter().for_each(|(key, value)| checksum.add(key, value));
        checksum.finish()
    }

    /// The last entry whose effect is in this state.
    pub fn last_applied(&self) -> LogId {
        self.applied.last_applied
    }

    /// The last entry, and the membership at it.
    pub fn applied_state(&self) -> &AppliedState<Kv> {
        &self.applied
    }
}

/// Reads the state of a [`MemStateMachine`](crate::MemStateMachine) while it goes on applying. Cheap to clone.
///
/// Each call looks at the state of its own moment; calls that must agree are made on one [`view`](Self::view). A read
/// is linearizable when [`Raft::read`](openconsensus::Raft::read) of the same node has returned before it.
#[derive(Clone, Debug, Default)]
pub struct KvReader {
    state: Arc<RwLock<KvView>>,
}

impl KvReader {
    pub(crate) fn new(state: KvView) -> Self {
        Self { state: Arc::new(RwLock::new(state)) }
    }

    /// Changes the state in one step: readers see it as it was before, or as it is after.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut KvView) -> R) -> R {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the state as it is now. Changes wait meanwhile, so `look` must be short.
    fn look<R>(&self, look: impl FnOnce(&KvView) -> R) -> R {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The whole state as it is now.
    pub fn view(&self) -> KvView {
        self.look(KvView::clone)
    }

    /// See [`KvView::get`].
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.look(|state| state.get(key))
    }

    /// See [`KvView::scan`].
    pub fn scan(&self, range: impl RangeBounds<String>, limit: usize) -> Vec<(String, Vec<u8>)> {
        self.view().scan(range, limit)
    }

    /// See [`KvView::scan_prefix`].
    pub fn scan_prefix(&self, prefix: &str, limit: usize) -> Vec<(String, Vec<u8>)> {
        self.view().scan_prefix(prefix, limit)
    }

    /// See [`KvView::len`].
    pub fn len(&self) -> usize {
        self.look(|state| state.len())
    }

    /// See [`KvView::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.look(|state| state.is_empty())
    }

    /// See [`KvView::checksum`].
    pub fn checksum(&self) -> u32 {
        self.view().checksum()
    }

    /// See [`KvView::last_applied`].
    pub fn last_applied(&self) -> LogId {
        self.look(|state| state.last_applied())
    }
}
