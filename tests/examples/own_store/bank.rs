//! The part of an application that is to be tested: a bank, whose state machine keeps its accounts in a store of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{StreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, RaftStateMachine, Snapshot, SnapshotMeta, TypeConfig,
    snapshot_stream,
};

/// A bank: accounts with an amount each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bank;

/// Moves an amount from one account to another.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) amount: u64,
}

impl TypeConfig for Bank {
    type Command = Payment;
    /// Whether there was enough on the account.
    type Response = bool;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(_: &Payment) -> u64 {
        24
    }
}

/// What a node has stored: its accounts, how far it has applied, and its latest snapshot. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub(crate) struct BankStore(Arc<Mutex<Stored>>);

#[derive(Debug, Default)]
struct Stored {
    applied: AppliedState<Bank>,
    accounts: BTreeMap<u64, u64>,
    snapshot: Option<(SnapshotMeta<Bank>, BTreeMap<u64, u64>)>,
}

impl BankStore {
    /// The accounts as they are now.
    pub(crate) fn accounts(&self) -> BTreeMap<u64, u64> {
        self.lock().accounts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().expect("nobody panics with the lock")
    }
}

impl RaftStateMachine<Bank> for BankStore {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Bank>> {
        Ok(self.lock().applied.clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Bank>) -> io::Result<Vec<bool>> {
        let mut stored = self.lock();
        stored.applied = batch.applied_state().clone();
        let pay = |(_, payment): (_, &Payment)| {
            // The bank gives every account 100 to begin with.
            let left = stored.accounts.get(&payment.from).unwrap_or(&100).checked_sub(payment.amount);
            if let Some(left) = left {
                stored.accounts.insert(payment.from, left);
                *stored.accounts.entry(payment.to).or_insert(100) += payment.amount;
            }
            left.is_some()
        };
        Ok(batch.commands().map(pay).collect())
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Bank>>> {
        let (store, accounts) = (self.clone(), self.accounts());
        let AppliedState { last_applied: last, membership } = self.lock().applied.clone();
        Box::pin(async move {
            let meta = SnapshotMeta { last, membership, size_bytes: Some(accounts.len() as u64 * 16) };
            let mut stored = store.lock();
            // A later one may have been installed meanwhile.
            if stored.snapshot.as_ref().is_none_or(|(current, _)| current.last <= last) {
                stored.snapshot = Some((meta.clone(), accounts));
            }
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Bank>>> {
        let snapshot = self.lock().snapshot.clone();
        Ok(snapshot.map(|(meta, accounts)| {
            let bytes =
                |(account, amount): (u64, u64)| [account.to_be_bytes(), amount.to_be_bytes()].concat();
            let chunks = accounts.into_iter().map(move |account| Ok(bytes(account).into()));
            Snapshot { meta, data: snapshot_stream(stream::iter(chunks)) }
        }))
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<Bank>) -> io::Result<()> {
        let Snapshot { meta, mut data } = snapshot;
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let accounts: BTreeMap<_, _> =
            bytes.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..]))).collect();
        let mut stored = self.lock();
        stored.applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        stored.accounts = accounts.clone();
        stored.snapshot = Some((meta, accounts));
        Ok(())
    }
}
