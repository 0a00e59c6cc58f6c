//! At most one call of each lane of each sender is listened to, the latest; it waits until the one before it has
//! ended, so that the order of a lane holds across reconnections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, watch};

use crate::peer::Lane;

/// The calls that are listened to.
#[derive(Debug)]
pub(crate) struct Calls<I: Ord + Copy> {
    state: Mutex<State<I>>,
}

#[derive(Debug)]
struct State<I> {
    last_number: u64,
    current: BTreeMap<(I, Lane), Current>,
}

#[derive(Debug)]
struct Current {
    number: u64,
    /// Held by the call that may deliver.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Dropped when a later call takes its place.
    _valid: watch::Sender<()>,
}

/// One call. It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Call<I: Ord + Copy> {
    calls: Arc<Calls<I>>,
    key: (I, Lane),
    number: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Released when the call is dropped.
    held: Option<OwnedMutexGuard<()>>,
    valid: watch::Receiver<()>,
}

impl<I: Ord + Copy> Default for Calls<I> {
    fn default() -> Self {
        Self { state: Mutex::new(State { last_number: 0, current: BTreeMap::new() }) }
    }
}

impl<I: Ord + Copy> Calls<I> {
    /// A new call of `sender`. One that is open in the same lane is told that it is replaced.
    pub(crate) fn begin(self: &Arc<Self>, sender: I, lane: Lane) -> Call<I> {
        let key = (sender, lane);
        let (valid_sender, valid) = watch::channel(());
        let mut state = self.state();
        state.last_number += 1;
        let number = state.last_number;
        let turn = state.current.get(&key).map_or_else(Arc::default, |before| before.turn.clone());
        state.current.insert(key, Current { number, turn: turn.clone(), _valid: valid_sender });
        Call { calls: self.clone(), key, number, turn, held: None, valid }
    }

    fn state(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Ord + Copy> Call<I> {
    /// Waits until the call before this one has ended.
    pub(crate) async fn turn(&mut self) {
        self.held = Some(self.turn.clone().lock_owned().await);
    }

    /// Resolves when a later call takes the place of this one.
    pub(crate) async fn replaced(&mut self) {
        // Nothing is ever sent: it resolves when the sender is dropped.
        while self.valid.changed().await.is_ok() {}
    }
}

impl<I: Ord + Copy> Drop for Call<I> {
    fn drop(&mut self) {
        let mut state = self.calls.state();
        if state.current.get(&self.key).is_some_and(|current| current.number == self.number) {
            state.current.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_later_call_replaces_the_one_before_and_waits_for_its_end() {
        let calls = Arc::new(Calls::default());
        let mut first = calls.begin(1, Lane::Bulk);
        let mut other = calls.begin(1, Lane::Urgent);
        assert!(first.turn().now_or_never().is_some());
        assert!(first.replaced().now_or_never().is_none());

        let mut second = calls.begin(1, Lane::Bulk);
        assert!(first.replaced().now_or_never().is_some());
        assert!(second.turn().now_or_never().is_none());
        assert!(other.turn().now_or_never().is_some());
        drop(first);
        assert!(second.turn().now_or_never().is_some());
        assert!(second.replaced().now_or_never().is_none());
        drop((second, other));
        assert!(calls.state().current.is_empty());
    }
}
