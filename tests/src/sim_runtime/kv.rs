//! `KvApplication`: the key-value store in memory, as an application of a simulated cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openconsensus_memstore::kv::Kv;
use openconsensus_memstore::{KvDisk, KvReader, MemLog, MemStateMachine};

use super::application::SimApplication;
use crate::cluster::StateKind;

/// The key-value store of `openconsensus-memstore` with its log storage.
#[derive(Debug)]
pub struct KvApplication {
    kind: StateKind,
    disks: Mutex<BTreeMap<u64, (MemLog<Kv>, KvDisk)>>,
}

impl KvApplication {
    /// One whose state machines keep what `kind` says when a node ends.
    pub fn new(kind: StateKind) -> Self {
        Self { kind, disks: Mutex::default() }
    }

    /// The stored log of node `id`: empty before its first start.
    pub fn log(&self, id: u64) -> MemLog<Kv> {
        self.disks().entry(id).or_default().0.clone()
    }

    fn disks(&self) -> MutexGuard<'_, BTreeMap<u64, (MemLog<Kv>, KvDisk)>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimApplication for KvApplication {
    type Types = Kv;
    type Log = MemLog<Kv>;
    type Machine = MemStateMachine;
    type Reader = KvReader;
    type State = Vec<(String, Vec<u8>)>;

    fn open(&self, id: u64) -> (MemLog<Kv>, MemStateMachine, KvReader) {
        let (log, disk) = self.disks().entry(id).or_default().clone();
        let machine = match self.kind {
            StateKind::Volatile => MemStateMachine::volatile(&disk),
            StateKind::Persistent => MemStateMachine::persistent(&disk),
            StateKind::Lagging(entries) => MemStateMachine::persistent_with_lag(&disk, entries),
        };
        let reader = machine.reader();
        (log, machine, reader)
    }

    fn state(&self, reader: &KvReader) -> Vec<(String, Vec<u8>)> {
        reader.scan(.., usize::MAX)
    }

    fn address(&self, id: u64) -> String {
        format!("node-{id}")
    }
}
