//! `Recorder`: stands in the place of a node, and remembers what it was handed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures::StreamExt;
use futures::future::poll_fn;
use openconsensus::{
    Body, BoxFuture, Fatal, InstallSnapshot, InstallSnapshotResponse, Message, SnapshotStream, TypeConfig,
};

use super::receiver::Receiver;

/// What a node was handed. A clone is another handle to the same.
pub(super) struct Recorder<C: TypeConfig> {
    state: Arc<Mutex<Heard<C>>>,
}

impl<C: TypeConfig> Clone for Recorder<C> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

/// What was heard so far.
pub(super) struct Heard<C: TypeConfig> {
    /// The rounds of the heartbeats of each node, by its name, in the order in which they arrived.
    pub(super) heartbeats: BTreeMap<C::NodeId, Vec<u64>>,
    /// The indexes of the first entries of the appends of each node, as they arrived.
    pub(super) appends: BTreeMap<C::NodeId, Vec<u64>>,
    /// Every message.
    pub(super) messages: Vec<Message<C>>,
    /// The nodes that were reported to be unreachable.
    pub(super) unreachable: Vec<C::NodeId>,
    /// The bytes of snapshots that were taken.
    pub(super) snapshot_bytes: u64,
    /// Every snapshot that has ended.
    pub(super) snapshots: Vec<Arrived<C>>,
    /// Whether appends are taken, or wait.
    takes_bulk: bool,
    /// Whether snapshots are read, or wait.
    takes_snapshots: bool,
    /// What to answer to a snapshot without reading it.
    answer: Option<Result<InstallSnapshotResponse, Fatal>>,
    waiting: Vec<Waker>,
}

/// A snapshot that has ended: what was announced, and its bytes or the error.
type Arrived<C> = (InstallSnapshot<C>, Result<Vec<u8>, String>);

impl<C: TypeConfig> Recorder<C> {
    /// One that takes everything.
    pub(super) fn new() -> Self {
        let heard = Heard {
            heartbeats: BTreeMap::new(),
            appends: BTreeMap::new(),
            messages: Vec::new(),
            unreachable: Vec::new(),
            snapshot_bytes: 0,
            snapshots: Vec::new(),
            takes_bulk: true,
            takes_snapshots: true,
            answer: None,
            waiting: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(heard)) }
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on appends wait, and those who send them.
    pub(super) fn refuse_bulk(&self) {
        self.heard().takes_bulk = false;
    }

    /// From now on snapshots are not read.
    pub(super) fn refuse_snapshots(&self) {
        self.heard().takes_snapshots = false;
    }

    /// From now on snapshots are answered without being read.
    pub(super) fn answer(&self, answer: Result<InstallSnapshotResponse, Fatal>) {
        self.heard().answer = Some(answer);
    }

    /// Takes everything again.
    pub(super) fn release(&self) {
        let mut heard = self.heard();
        (heard.takes_bulk, heard.takes_snapshots) = (true, true);
        heard.waiting.drain(..).for_each(Waker::wake);
    }

    async fn until(&self, is_open: impl Fn(&Heard<C>) -> bool) {
        poll_fn(|context| {
            let mut heard = self.heard();
            if is_open(&heard) {
                return Poll::Ready(());
            }
            heard.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl<C: TypeConfig> Receiver<C> for Recorder<C> {
    fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> BoxFuture<'_, Result<(), Fatal>> {
        Box::pin(async move {
            for message in messages {
                if message.is_bulk() {
                    self.until(|heard| heard.takes_bulk).await;
                }
                let mut heard = self.heard();
                match &message.body {
                    Body::Heartbeat { round, .. } => {
                        heard.heartbeats.entry(from).or_default().push(*round);
                    }
                    Body::Append { prev, .. } => {
                        heard.appends.entry(from).or_default().push(prev.index + 1);
                    }
                    _ => {}
                }
                heard.messages.push(message);
            }
            Ok(())
        })
    }

    fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        mut data: SnapshotStream,
    ) -> BoxFuture<'_, Result<InstallSnapshotResponse, Fatal>> {
        Box::pin(async move {
            let answer = self.heard().answer.clone();
            if let Some(answer) = answer {
                return answer;
            }
            // Whoever drops this future learns nothing of what came of the stream: that it broke is noted all the same.
            let installed =
                InstallSnapshotResponse { term: request.term, installed: Some(request.meta.last.index) };
            let mut note = Note { recorder: self.clone(), ended: None, announced: Some(request) };
            let mut bytes = Vec::new();
            let result = loop {
                self.until(|heard| heard.takes_snapshots).await;
                match data.next().await {
                    Some(Ok(chunk)) => {
                        bytes.extend_from_slice(&chunk);
                        self.heard().snapshot_bytes += chunk.len() as u64;
                    }
                    Some(Err(error)) => break Err(error.to_string()),
                    None => break Ok(bytes),
                }
            };
            let is_whole = result.is_ok();
            note.ended = Some(result);
            Ok(InstallSnapshotResponse { installed: installed.installed.filter(|_| is_whole), ..installed })
        })
    }

    fn report_unreachable(&self, peer: C::NodeId) {
        self.heard().unreachable.push(peer);
    }
}

/// Remembers how a snapshot ended, also when its receiver is dropped before it has.
struct Note<C: TypeConfig> {
    recorder: Recorder<C>,
    ended: Option<Result<Vec<u8>, String>>,
    announced: Option<InstallSnapshot<C>>,
}

impl<C: TypeConfig> Drop for Note<C> {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or_else(|| Err("the receiver was dropped".into()));
        if let Some(announced) = self.announced.take() {
            self.recorder.heard().snapshots.push((announced, ended));
        }
    }
}

/// Whether it is the same message.
pub(super) fn is_same<C: TypeConfig<Command: PartialEq>>(one: &Message<C>, other: &Message<C>) -> bool {
    match (&one.body, &other.body) {
        (
            Body::Append { prev, entries, commit },
            Body::Append { prev: other_prev, entries: other_entries, commit: other_commit },
        ) => {
            one.term == other.term && (prev, commit) == (other_prev, other_commit) && entries == other_entries
        }
        (Body::Append { .. }, _) | (_, Body::Append { .. }) => false,
        // Small ones, and there may be more kinds of them some day.
        (_, _) => format!("{one:?}") == format!("{other:?}"),
    }
}
