//! What the handle and the other loops tell the core loop, but for writes.

use std::collections::BTreeMap;

use futures::channel::oneshot;

use crate::engine::{Input, SnapshotId};
use crate::entry::{Index, LogId};
use crate::error::{
    ChangeMembershipError, Fatal, ForgetLeaderError, InitializeError, PurgeError, ReadError, SnapshotError,
    TransferError,
};
use crate::membership::MembershipChange;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta};
use crate::runtime::SnapshotStream;
use crate::type_config::TypeConfig;

use super::limit::Permit;

/// Something for the core loop.
pub(crate) enum Item<C: TypeConfig> {
    /// A client wants to read.
    Read { reader: Reader<C> },
    /// A client wants to read, and takes a lease for proof.
    ReadByLease { reader: Reader<C> },
    /// Messages of a peer. The permit is given back when the engine has seen them.
    Receive { from: C::NodeId, messages: Vec<Message<C>>, permit: Permit },
    /// A request that is rare: boxed, so that the others are small. The permit is given back when it is answered.
    Request { request: Box<Request<C>>, permit: Option<Permit> },
    /// Another entry than this one, for which somebody waits, was applied at its index.
    Superseded { entry: LogId },
    /// The installation of a snapshot has ended.
    SnapshotInstalled { id: SnapshotId, installed: bool },
    /// Something that only the engine has to know.
    Input(Box<Input<C>>),
}

impl<C: TypeConfig> Item<C> {
    /// Boxed, because these are rare: the others stay small.
    pub(crate) fn input(input: Input<C>) -> Self {
        Self::Input(Box::new(input))
    }
}

/// What a writer does when commands are kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It waits until they may be appended, or until it is clear that they may not.
    Waits,
    /// It wants to be told at once.
    AtOnce,
}

/// Waits for leave to read.
pub(crate) struct Reader<C: TypeConfig> {
    pub(crate) reply: oneshot::Sender<Result<Index, ReadError<C>>>,
    /// Given back when it is answered.
    pub(crate) permit: Permit,
}

impl<C: TypeConfig> Reader<C> {
    /// Who does not listen any more does not want to know.
    pub(super) fn answer(self, result: Result<Index, ReadError<C>>) {
        drop(self.permit);
        drop(self.reply.send(result));
    }
}

/// What an operator or a peer asks for.
pub(crate) enum Request<C: TypeConfig> {
    Initialize {
        nodes: BTreeMap<C::NodeId, C::Node>,
        reply: oneshot::Sender<Result<(), InitializeError<C>>>,
    },
    ChangeMembership {
        change: MembershipChange<C>,
        expected: Option<LogId>,
        reply: oneshot::Sender<Result<LogId, ChangeMembershipError<C>>>,
    },
    TransferLeadership {
        target: Option<C::NodeId>,
        reply: oneshot::Sender<Result<C::NodeId, TransferError<C>>>,
    },
    ForgetLeader {
        reply: oneshot::Sender<Result<(), ForgetLeaderError>>,
    },
    BuildSnapshot {
        reply: oneshot::Sender<Result<SnapshotMeta<C>, SnapshotError>>,
    },
    PurgeLog {
        upto: Index,
        reply: oneshot::Sender<Result<LogId, PurgeError>>,
    },
    InstallSnapshot {
        snapshot: InstallSnapshot<C>,
        data: SnapshotStream,
        reply: oneshot::Sender<Result<InstallSnapshotResponse, Fatal>>,
    },
}

/// Answers an item that the engine will never see.
pub(super) fn refuse<C: TypeConfig>(item: Item<C>, reason: &Fatal) {
    match item {
        Item::Read { reader } | Item::ReadByLease { reader } => reader.answer(Err(reason.clone().into())),
        Item::Request { request, .. } => match *request {
            Request::Initialize { reply, .. } => drop(reply.send(Err(reason.clone().into()))),
            Request::ChangeMembership { reply, .. } => drop(reply.send(Err(reason.clone().into()))),
            Request::TransferLeadership { reply, .. } => drop(reply.send(Err(reason.clone().into()))),
            Request::ForgetLeader { reply } => drop(reply.send(Err(reason.clone().into()))),
            Request::BuildSnapshot { reply } => drop(reply.send(Err(reason.clone().into()))),
            Request::PurgeLog { reply, .. } => drop(reply.send(Err(reason.clone().into()))),
            Request::InstallSnapshot { reply, .. } => drop(reply.send(Err(reason.clone()))),
        },
        Item::Receive { .. } | Item::Superseded { .. } | Item::SnapshotInstalled { .. } | Item::Input(_) => {}
    }
}
