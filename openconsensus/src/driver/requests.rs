//! Who waits for which reply of the engine, and which readers wait for which entry to be applied.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use futures::channel::oneshot;
use tracing::Span;
use tracing::field::Empty;

use crate::engine::{Input, Reply, RequestId};
use crate::entry::{Index, LogId};
use crate::error::{
    ChangeMembershipError, Fatal, ForgetLeaderError, InitializeError, PurgeError, ReadError, SnapshotError,
    TransferError, WriteError,
};
use crate::message::{InstallSnapshotResponse, SnapshotMeta};
use crate::metrics::ReadTimes;
use crate::runtime::SnapshotStream;
use crate::type_config::TypeConfig;

use super::item::{Reader, Request};
use super::limit::Permit;
use super::stages::record;
use super::waiters::{Batch, Waiters};

/// Readers who have asked in one turn.
pub(super) struct Readers<C: TypeConfig> {
    pub(super) readers: Vec<Reader<C>>,
    /// When the first of them has asked.
    pub(super) since: Instant,
    /// Whether a lease will do.
    pub(super) by_lease: bool,
}

/// Who waits for the reply to one request.
pub(super) enum Asker<C: TypeConfig> {
    /// All writers whose commands were handed over in one turn, and when the first of them has asked.
    Write(Waiters<C>, Instant),
    /// All readers of one turn.
    Read(Readers<C>),
    Initialize(oneshot::Sender<Result<(), InitializeError<C>>>),
    ChangeMembership(oneshot::Sender<Result<LogId, ChangeMembershipError<C>>>),
    TransferLeadership(oneshot::Sender<Result<C::NodeId, TransferError<C>>>),
    ForgetLeader(oneshot::Sender<Result<(), ForgetLeaderError>>),
    BuildSnapshot(oneshot::Sender<Result<SnapshotMeta<C>, SnapshotError>>),
    PurgeLog(oneshot::Sender<Result<LogId, PurgeError>>),
    /// The stream stays here until the engine wants it to be installed.
    InstallSnapshot {
        reply: oneshot::Sender<Result<InstallSnapshotResponse, Fatal>>,
        data: Option<SnapshotStream>,
    },
}

/// All who wait for a reply of the engine.
pub(super) struct Requests<C: TypeConfig> {
    node: C::NodeId,
    last: RequestId,
    /// In the order in which they have asked.
    askers: VecDeque<(RequestId, Asker<C>)>,
    /// What requests of operators were admitted with, until they are answered.
    permits: BTreeMap<RequestId, Permit>,
    /// Readers whose index is known and not applied yet, by that index and the request that they came with.
    readers: BTreeMap<(Index, RequestId), Readers<C>>,
    /// Until when they wait, in the order in which they began to. The first one is still waiting.
    deadlines: VecDeque<(Instant, (Index, RequestId))>,
    /// Entries up to here are applied.
    applied: Index,
    /// How long readers have waited that were served.
    read_times: ReadTimes,
    /// Those of requests that take long.
    spans: BTreeMap<RequestId, Span>,
}

impl<C: TypeConfig> Requests<C> {
    pub(super) fn new(node: C::NodeId, applied: Index) -> Self {
        Self {
            node,
            last: RequestId(0),
            askers: VecDeque::new(),
            permits: BTreeMap::new(),
            readers: BTreeMap::new(),
            deadlines: VecDeque::new(),
            applied,
            read_times: ReadTimes::default(),
            spans: BTreeMap::new(),
        }
    }

    /// How long reads have taken.
    pub(super) fn read_times(&self) -> ReadTimes {
        self.read_times.clone()
    }

    /// Keeps what the request that is added next was admitted with, until that is answered.
    pub(super) fn admit_next(&mut self, permit: Option<Permit>) {
        self.permits.extend(permit.map(|permit| (RequestId(self.last.0 + 1), permit)));
    }

    /// Names a new request.
    pub(super) fn add(&mut self, asker: Asker<C>) -> RequestId {
        self.last.0 += 1;
        if let Some(span) = span_of(self.node, &asker) {
            self.spans.insert(self.last, span);
        }
        self.askers.push_back((self.last, asker));
        self.last
    }

    /// What the engine is to be told of a request.
    pub(super) fn input(&mut self, request: Request<C>) -> Input<C> {
        match request {
            Request::Initialize { nodes, reply } => {
                let request = self.add(Asker::Initialize(reply));
                Input::Initialize { request, nodes }
            }
            Request::ChangeMembership { change, expected, reply } => {
                let request = self.add(Asker::ChangeMembership(reply));
                Input::ChangeMembership { request, change, expected }
            }
            Request::TransferLeadership { target, reply } => {
                let request = self.add(Asker::TransferLeadership(reply));
                Input::TransferLeadership { request, target }
            }
            Request::ForgetLeader { reply } => {
                let request = self.add(Asker::ForgetLeader(reply));
                Input::ForgetLeader { request }
            }
            Request::BuildSnapshot { reply } => {
                let request = self.add(Asker::BuildSnapshot(reply));
                Input::BuildSnapshot { request }
            }
            Request::PurgeLog { upto, reply } => {
                let request = self.add(Asker::PurgeLog(reply));
                Input::PurgeLog { request, upto }
            }
            Request::InstallSnapshot { snapshot, data, reply } => {
                let request = self.add(Asker::InstallSnapshot { reply, data: Some(data) });
                Input::InstallSnapshot { request, snapshot }
            }
        }
    }

    /// The stream that came with a request to install a snapshot.
    pub(super) fn take_stream(&mut self, request: RequestId) -> Option<SnapshotStream> {
        let asker = self.place_of(request).and_then(|place| self.askers.get_mut(place));
        match asker.map(|(_, asker)| asker) {
            Some(Asker::InstallSnapshot { data, .. }) => data.take(),
            Some(
                Asker::Write(..)
                | Asker::Read(_)
                | Asker::Initialize(_)
                | Asker::ChangeMembership(_)
                | Asker::TransferLeadership(_)
                | Asker::ForgetLeader(_)
                | Asker::BuildSnapshot(_)
                | Asker::PurgeLog(_),
            )
            | None => None,
        }
    }

    fn place_of(&self, request: RequestId) -> Option<usize> {
        self.askers.binary_search_by_key(&request, |(request, _)| *request).ok()
    }

    /// Passes a reply on. Commands that were appended are returned, with the time of the first one's call: they wait for
    /// their entries now. Readers whose index
    /// is not applied yet wait for that until `read_deadline`.
    ///
    /// Who does not listen any more does not want to know, so a failed send is no error.
    pub(super) fn answer(
        &mut self,
        request: RequestId,
        reply: Reply<C>,
        now: Instant,
        read_deadline: Instant,
    ) -> Option<(Batch<C>, Instant)> {
        self.permits.remove(&request);
        let asker = self.place_of(request).and_then(|place| self.askers.remove(place));
        let Some((_, asker)) = asker else {
            panic!("the engine has answered {request:?} twice, or nobody has asked: {reply:?}");
        };
        if let Some(span) = self.spans.remove(&request) {
            record_outcome(&span, &reply);
        }
        match (asker, reply) {
            (Asker::Write(waiters, asked), Reply::Appended { first }) => {
                return Some((Batch::new(first, waiters), asked));
            }
            (Asker::Write(waiters, _), Reply::NotLeader { leader }) => {
                waiters.fail(&WriteError::NotLeader { leader });
            }
            (Asker::Write(waiters, _), Reply::Busy { bytes, limit }) => {
                waiters.fail(&WriteError::Busy { bytes, limit });
            }
            (Asker::Read(readers), Reply::ReadReady { index }) if index <= self.applied => {
                self.serve(readers, now);
            }
            (Asker::Read(readers), Reply::ReadReady { index }) => {
                self.readers.insert((index, request), readers);
                self.deadlines.push_back((read_deadline, (index, request)));
            }
            (Asker::Read(readers), Reply::ReadFailed { leader }) => {
                for reader in readers.readers {
                    reader.answer(Err(ReadError::NotConfirmed { leader: leader.clone() }));
                }
            }
            (Asker::Initialize(asker), Reply::Initialized) => drop(asker.send(Ok(()))),
            (Asker::Initialize(asker), Reply::InitializeFailed(error)) => drop(asker.send(Err(error))),
            (Asker::ChangeMembership(asker), Reply::MembershipChanged { log_id }) => {
                drop(asker.send(Ok(log_id)));
            }
            (Asker::ChangeMembership(asker), Reply::ChangeMembershipFailed(error)) => {
                drop(asker.send(Err(error)));
            }
            (Asker::TransferLeadership(asker), Reply::Transferred { leader }) => drop(asker.send(Ok(leader))),
            (Asker::TransferLeadership(asker), Reply::TransferFailed(error)) => drop(asker.send(Err(error))),
            (Asker::ForgetLeader(asker), Reply::LeaderForgotten) => drop(asker.send(Ok(()))),
            (Asker::ForgetLeader(asker), Reply::ForgetLeaderFailed(error)) => drop(asker.send(Err(error))),
            (Asker::BuildSnapshot(asker), Reply::SnapshotBuilt(meta)) => drop(asker.send(Ok(meta))),
            (Asker::BuildSnapshot(asker), Reply::SnapshotFailed(error)) => drop(asker.send(Err(error))),
            (Asker::PurgeLog(asker), Reply::LogPurged { upto }) => drop(asker.send(Ok(upto))),
            (Asker::PurgeLog(asker), Reply::PurgeFailed(error)) => drop(asker.send(Err(error))),
            (Asker::InstallSnapshot { reply: asker, .. }, Reply::InstallFinished(response)) => {
                drop(asker.send(Ok(response)));
            }
            (_, reply) => panic!("the engine has given {request:?} an answer of another kind: {reply:?}"),
        }
        None
    }

    fn serve(&mut self, Readers { readers, since, by_lease }: Readers<C>, now: Instant) {
        let ReadTimes { by_round, by_lease: with_lease } = &mut self.read_times;
        let times = if by_lease { with_lease } else { by_round };
        record(times, since, now, readers.len() as u64);
        readers.into_iter().for_each(|reader| reader.answer(Ok(self.applied)));
    }

    /// Whether readers wait for the state machine.
    pub(super) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// The state machine has come to `applied`: readers that have waited for it may read.
    pub(super) fn applied(&mut self, now: Instant, applied: Index) {
        self.applied = applied;
        while let Some(first) = self.readers.first_entry()
            && first.key().0 <= applied
        {
            let readers = first.remove();
            self.serve(readers, now);
        }
        self.forget_deadlines();
    }

    /// When [`expire`](Self::expire) is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Sends readers away who have waited too long for the state machine.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((deadline, key)) = self.deadlines.front().copied()
            && deadline <= now
        {
            self.deadlines.pop_front();
            let (needed, applied) = (key.0, self.applied);
            for reader in self.readers.remove(&key).into_iter().flat_map(|waiting| waiting.readers) {
                reader.answer(Err(ReadError::Behind { needed, applied }));
            }
        }
        self.forget_deadlines();
    }

    /// Drops the deadlines of those who do not wait any more, as far as they are first.
    fn forget_deadlines(&mut self) {
        while let Some((_, key)) = self.deadlines.front()
            && !self.readers.contains_key(key)
        {
            self.deadlines.pop_front();
        }
    }

    /// The node stops: nobody gets a reply any more. Nothing that a writer in here has asked for was appended.
    pub(super) fn fail(&mut self, reason: &Fatal) {
        self.spans.clear();
        for (_, asker) in std::mem::take(&mut self.askers) {
            let reason = reason.clone();
            match asker {
                Asker::Write(waiters, _) => waiters.fail(&WriteError::Fatal(reason)),
                Asker::Read(readers) => fail_readers(readers, &reason),
                Asker::Initialize(asker) => drop(asker.send(Err(reason.into()))),
                Asker::ChangeMembership(asker) => drop(asker.send(Err(reason.into()))),
                Asker::TransferLeadership(asker) => drop(asker.send(Err(reason.into()))),
                Asker::ForgetLeader(asker) => drop(asker.send(Err(reason.into()))),
                Asker::BuildSnapshot(asker) => drop(asker.send(Err(reason.into()))),
                Asker::PurgeLog(asker) => drop(asker.send(Err(reason.into()))),
                Asker::InstallSnapshot { reply: asker, .. } => drop(asker.send(Err(reason))),
            }
        }
        for (_, readers) in std::mem::take(&mut self.readers) {
            fail_readers(readers, reason);
        }
    }

    /// The node has panicked: whether commands that were handed to the engine have been appended nobody can tell, so
    /// their writers are dropped, which says that the outcome is unknown.
    pub(super) fn forget_writers(&mut self) {
        self.askers.retain(|(_, asker)| !matches!(asker, Asker::Write(..)));
    }
}

/// The span of a request that goes through several stages of which each may take long.
fn span_of<C: TypeConfig>(node: C::NodeId, asker: &Asker<C>) -> Option<Span> {
    match asker {
        Asker::ChangeMembership(_) => {
            Some(tracing::info_span!("raft.membership.change", %node, outcome = Empty, error = Empty))
        }
        Asker::TransferLeadership(_) => {
            Some(tracing::info_span!("raft.transfer", %node, outcome = Empty, error = Empty))
        }
        Asker::Write(..)
        | Asker::Read(_)
        | Asker::Initialize(_)
        | Asker::ForgetLeader(_)
        | Asker::BuildSnapshot(_)
        | Asker::PurgeLog(_)
        | Asker::InstallSnapshot { .. } => None,
    }
}

fn record_outcome<C: TypeConfig>(span: &Span, reply: &Reply<C>) {
    let error: Option<&dyn std::fmt::Display> = match reply {
        Reply::ChangeMembershipFailed(error) => Some(error),
        Reply::TransferFailed(error) => Some(error),
        _ => None,
    };
    span.record("outcome", if error.is_some() { "failed" } else { "done" });
    if let Some(error) = error {
        span.record("error", tracing::field::display(error));
    }
}

fn fail_readers<C: TypeConfig>(readers: Readers<C>, reason: &Fatal) {
    for reader in readers.readers {
        reader.answer(Err(reason.clone().into()));
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use std::time::Duration;

    use super::*;
    use crate::driver::waiters::tests::{answers, one, permit};
    use crate::testing::{U64, start};

    type ReadReply = oneshot::Receiver<Result<Index, ReadError<U64>>>;

    fn ask_to_read(requests: &mut Requests<U64>, index: Index, deadline: Instant) -> ReadReply {
        let (reply, receiver) = oneshot::channel();
        let readers = vec![Reader { reply, permit: permit() }];
        let request = requests.add(Asker::Read(Readers { readers, since: deadline, by_lease: false }));
        assert!(requests.answer(request, Reply::ReadReady { index }, deadline, deadline).is_none());
        receiver
    }

    #[test]
    fn a_reader_is_answered_when_its_index_is_applied_and_not_before() {
        let mut requests = Requests::<U64>::new(1, 3);
        let now = start();
        assert_eq!(block_on(ask_to_read(&mut requests, 3, now)), Ok(Ok(3)));
        let mut fifth = ask_to_read(&mut requests, 5, now);
        let mut seventh = ask_to_read(&mut requests, 7, now);
        requests.applied(now, 4);
        assert_eq!(fifth.try_recv(), Ok(None));
        requests.applied(now, 6);
        assert_eq!(fifth.try_recv(), Ok(Some(Ok(6))));
        assert_eq!(seventh.try_recv(), Ok(None));
        requests.fail(&Fatal::Stopped);
        assert_eq!(block_on(seventh), Ok(Err(ReadError::Fatal(Fatal::Stopped))));
    }

    #[test]
    fn a_reader_does_not_wait_for_ever_for_a_state_machine_that_does_not_come_so_far() {
        let mut requests = Requests::<U64>::new(1, 3);
        let now = start();
        let later = now + Duration::from_secs(1);
        let ninth = ask_to_read(&mut requests, 9, now);
        let mut fifth = ask_to_read(&mut requests, 5, later);
        let mut sixth = ask_to_read(&mut requests, 6, later);
        assert_eq!(requests.next_deadline(), Some(now));
        requests.expire(now);
        assert_eq!(block_on(ninth), Ok(Err(ReadError::Behind { needed: 9, applied: 3 })));
        assert_eq!(requests.next_deadline(), Some(later));
        requests.applied(now, 5);
        assert_eq!(fifth.try_recv(), Ok(Some(Ok(5))));
        assert_eq!(requests.next_deadline(), Some(later));
        requests.expire(later);
        assert_eq!(sixth.try_recv(), Ok(Some(Err(ReadError::Behind { needed: 6, applied: 5 }))));
        assert_eq!(requests.next_deadline(), None);
    }

    #[test]
    fn a_stop_answers_everybody_who_waits_for_a_reply() {
        let mut requests = Requests::<U64>::new(1, 0);
        let (waiter, write) = one();
        requests.add(Asker::Write(waiter, start()));
        let (reply, snapshot) = oneshot::channel();
        requests.add(Asker::BuildSnapshot(reply));
        requests.fail(&Fatal::Stopped);
        assert_eq!(answers(&mut [write]), [Some(Err(WriteError::Fatal(Fatal::Stopped)))]);
        assert_eq!(block_on(snapshot), Ok(Err(SnapshotError::Fatal(Fatal::Stopped))));
    }
}
