//! State machines that break the contract, one sentence each: the suite finds every one, by the check that is meant for it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes};
use futures::executor::block_on;
use futures::{StreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, RaftStateMachine, Snapshot, SnapshotMeta, snapshot_stream,
};
use openconsensus_memstore::kv::{Command, Kv, KvMap, Response, apply_command};
use openconsensus_tests::conformance::{KvSamples, Samples, StateMachineFactory, check_state_machine};

use crate::memstore::kv_samples;
use crate::yield_now;

/// What a state machine does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The responses to a batch come in the wrong order.
    ResponsesReversed,
    /// A batch without a command does not count as applied.
    BlanksNotApplied,
    /// What a command does depends on which instance carries it out.
    InstancesDiffer,
    /// The applied state is written before the effects.
    AppliedBeforeEffects,
    /// Half of a batch stays when the other half cannot be written.
    HalfABatch,
    /// The view of a snapshot is taken when its future is polled first.
    ViewTakenLate,
    /// A snapshot is said to have the membership that is in force when it is finished.
    LaterMembership,
    /// A snapshot is only in memory.
    SnapshotNotDurable,
    /// A snapshot is current as soon as it is asked for.
    CurrentTooEarly,
    /// A snapshot that is finished late replaces a later one.
    LateSnapshotWins,
    /// A stream reads what is current now, and not what was.
    StreamFollows,
    /// Installing begins with clearing the state.
    ClearedBeforeItArrives,
    /// Installing leaves keys that the snapshot does not have.
    Merged,
    /// The snapshot that was installed does not become the current one.
    NotMadeCurrent,
    /// A stream that breaks off is taken for one that ends.
    ErrorTakenForEnd,
    /// The checksum of a snapshot is not looked at.
    ChecksumIgnored,
    /// A snapshot that came damaged is said to be the disk's fault.
    DamageBlamedOnTheDisk,
    /// What is read to be sent is not checked.
    DamageNotSeen,
    /// A damaged snapshot of the same state is not replaced.
    DamageKept,
}

/// Values by their keys.
type Values = BTreeMap<String, Vec<u8>>;

/// What is on a disk.
#[derive(Clone, Debug, Default)]
struct Stored {
    pairs: Values,
    applied: AppliedState<Kv>,
    snapshot: Option<(SnapshotMeta<Kv>, Bytes)>,
}

#[derive(Default)]
struct DiskState {
    stored: Stored,
    crashes: Vec<Stored>,
    operations: Option<u64>,
}

/// A disk on which every write is there at once. A clone is another handle to it.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

impl Disk {
    fn of(stored: Stored) -> Self {
        Self(Arc::new(Mutex::new(DiskState { stored, ..DiskState::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }

    /// Carries out one change: a crash finds all of it or nothing.
    fn write(&self, change: impl FnOnce(&mut Stored)) -> io::Result<()> {
        let mut state = self.lock();
        let now = state.stored.clone();
        state.crashes.push(now);
        match &mut state.operations {
            Some(0) => return Err(io::Error::other("the disk does not answer")),
            Some(operations) => *operations -= 1,
            None => {}
        }
        change(&mut state.stored);
        let now = state.stored.clone();
        state.crashes.push(now);
        Ok(())
    }
}

/// Makes state machines with a fault.
struct Machines {
    fault: Fault,
    instances: AtomicU64,
}

kv_samples!(Machines);

impl StateMachineFactory<Kv> for Machines {
    type Disk = Disk;
    type Machine = Broken;

    fn disk(&self) -> Disk {
        Disk::default()
    }

    async fn open(&self, disk: &Disk) -> io::Result<Broken> {
        if self.fault == Fault::SnapshotNotDurable {
            disk.lock().stored.snapshot = None;
        }
        let instance = self.instances.fetch_add(1, Ordering::Relaxed);
        Ok(Broken { fault: self.fault, disk: disk.clone(), instance })
    }

    async fn contents(&self, machine: &mut Broken) -> io::Result<Vec<u8>> {
        Ok(encode(&machine.disk.lock().stored.pairs))
    }

    fn damage_snapshot(&self, disk: &Disk) -> bool {
        if let Some((_, bytes)) = &mut disk.lock().stored.snapshot {
            let mut damaged = bytes.to_vec();
            damaged[0] ^= 1;
            *bytes = damaged.into();
        }
        true
    }

    fn crashed(&self, disk: &Disk) -> Option<Disk> {
        Some(Disk::of(disk.lock().stored.clone()))
    }

    fn crashes(&self, disk: &Disk) -> Vec<Disk> {
        disk.lock().crashes.drain(..).map(Disk::of).collect()
    }

    fn fail_after(&self, disk: &Disk, operations: u64) -> bool {
        disk.lock().operations = Some(operations);
        true
    }
}

/// Keys and values with their lengths, and a checksum behind them.
fn encode(pairs: &Values) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in pairs {
        bytes.put_u32(key.len() as u32);
        bytes.put_slice(key.as_bytes());
        bytes.put_u32(value.len() as u32);
        bytes.put_slice(value);
    }
    let checksum = checksum(&bytes);
    bytes.put_u64(checksum);
    bytes
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Reads what [`encode`] wrote, as far as it can be read. The second value says whether all of it is right.
fn decode(bytes: &[u8]) -> (Values, bool) {
    let (mut body, mut end) = bytes.split_at(bytes.len().saturating_sub(8));
    let mut is_right = end.len() == 8 && end.get_u64() == checksum(body);
    let mut pairs = BTreeMap::new();
    let mut piece = || {
        let length = body.try_get_u32().ok()? as usize;
        let piece = body.get(..length)?.to_vec();
        body.advance(length);
        Some(piece)
    };
    while let Some(key) = piece() {
        let Some(value) = piece() else { break };
        pairs.insert(String::from_utf8_lossy(&key).into_owned(), value);
    }
    is_right &= body.is_empty();
    (pairs, is_right)
}

/// A persistent key-value state machine with a fault.
struct Broken {
    fault: Fault,
    disk: Disk,
    instance: u64,
}

struct Pairs<'a>(&'a mut Values);

impl KvMap for Pairs<'_> {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.insert(key.into(), value.into()))
    }

    fn delete(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.remove(key))
    }
}

impl Broken {
    fn effects(&self, batch: &ApplyBatch<Kv>) -> io::Result<(Values, Vec<Response>)> {
        let mut pairs = self.disk.lock().stored.pairs.clone();
        let mut responses = Vec::new();
        for (log_id, command) in batch.commands() {
            responses.push(apply_command(&mut Pairs(&mut pairs), command)?);
            if self.fault == Fault::InstancesDiffer && log_id.index == 30 {
                pairs.insert("who".into(), vec![self.instance as u8]);
            }
        }
        Ok((pairs, responses))
    }
}

impl RaftStateMachine<Kv> for Broken {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Kv>> {
        Ok(self.disk.lock().stored.applied.clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Kv>) -> io::Result<Vec<Response>> {
        let (pairs, mut responses) = self.effects(&batch)?;
        let applied = batch.applied_state().clone();
        match self.fault {
            Fault::AppliedBeforeEffects => {
                self.disk.write(|stored| stored.applied = applied)?;
                self.disk.write(|stored| stored.pairs = pairs)?;
            }
            Fault::HalfABatch => {
                let first = batch.entries().first().map_or(0, |first| first.index);
                let half = batch.entries().slice(first..first + 2);
                let before = self.disk.lock().stored.applied.clone();
                let (half, _) = self.effects(&ApplyBatch::new(&before, half))?;
                self.disk.write(|stored| stored.pairs = half)?;
                self.disk.write(|stored| (stored.pairs, stored.applied) = (pairs, applied))?;
            }
            Fault::BlanksNotApplied if responses.is_empty() => {}
            _ => self.disk.write(|stored| (stored.pairs, stored.applied) = (pairs, applied))?,
        }
        if self.fault == Fault::ResponsesReversed {
            responses.reverse();
        }
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Kv>>> {
        let (fault, disk) = (self.fault, self.disk.clone());
        let take = |disk: &Disk| {
            let Stored { pairs, applied, .. } = disk.lock().stored.clone();
            let bytes = Bytes::from(encode(&pairs));
            let AppliedState { last_applied, membership } = applied;
            (SnapshotMeta { last: last_applied, membership, size_bytes: Some(bytes.len() as u64) }, bytes)
        };
        let mut view = take(&disk);
        if fault == Fault::CurrentTooEarly {
            disk.lock().stored.snapshot = Some(view.clone());
        }
        Box::pin(async move {
            for _ in 0..4 {
                yield_now().await;
            }
            match fault {
                Fault::ViewTakenLate => view = take(&disk),
                Fault::LaterMembership => view.0.membership = disk.lock().stored.applied.membership.clone(),
                _ => {}
            }
            let meta = view.0.clone();
            disk.write(|stored| {
                let current = stored.snapshot.as_ref().map_or(0, |(current, _)| current.last.index);
                let is_same = current == meta.last.index;
                if current <= meta.last.index && !(is_same && fault == Fault::DamageKept)
                    || fault == Fault::LateSnapshotWins
                {
                    stored.snapshot = Some(view);
                }
            })?;
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Kv>>> {
        let (fault, disk) = (self.fault, self.disk.clone());
        let Some((meta, bytes)) = self.disk.lock().stored.snapshot.clone() else { return Ok(None) };
        if !decode(&bytes).1 && ![Fault::ChecksumIgnored, Fault::DamageNotSeen].contains(&fault) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is damaged"));
        }
        let chunks = (0..bytes.len().div_ceil(1000)).map(move |number| {
            let current = disk.lock().stored.snapshot.as_ref().map(|(_, bytes)| bytes.clone());
            let bytes = current.filter(|_| fault == Fault::StreamFollows).unwrap_or_else(|| bytes.clone());
            let end = bytes.len().min(1000 * (number + 1));
            Ok(bytes.slice(end.min(1000 * number)..end))
        });
        Ok(Some(Snapshot { meta, data: snapshot_stream(stream::iter(chunks)) }))
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<Kv>) -> io::Result<()> {
        let Snapshot { meta, mut data } = snapshot;
        if self.fault == Fault::ClearedBeforeItArrives {
            self.disk.write(|stored| stored.pairs.clear())?;
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(_) if self.fault == Fault::ErrorTakenForEnd => break,
                Err(error) => return Err(error),
            }
        }
        let (mut pairs, is_right) = decode(&bytes);
        if !is_right && ![Fault::ChecksumIgnored, Fault::ErrorTakenForEnd].contains(&self.fault) {
            let kind = match self.fault {
                Fault::DamageBlamedOnTheDisk => io::ErrorKind::Other,
                _ => io::ErrorKind::InvalidData,
            };
            return Err(io::Error::new(kind, "the checksum of the snapshot is wrong"));
        }
        self.disk.write(|stored| {
            if self.fault == Fault::Merged {
                let kept = stored.pairs.clone().into_iter().filter(|(key, _)| !pairs.contains_key(key));
                let kept: Vec<_> = kept.collect();
                pairs.extend(kept);
            }
            stored.pairs = pairs;
            stored.applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
            if self.fault != Fault::NotMadeCurrent {
                stored.snapshot = Some((meta, bytes.into()));
            }
        })
    }
}

/// The suite fails, by `check` among others.
fn is_caught(fault: Fault, check: &str) {
    let report = block_on(check_state_machine(&Machines { fault, instances: AtomicU64::new(0) }));
    let failed = report.failed();
    assert!(failed.contains(&check), "{fault:?} is not caught by {check}, but by {failed:?}\n{report}");
    assert!(failed.len() < report.outcomes().len(), "{fault:?} fails everything\n{report}");
    let caught = report.outcomes().iter().find(|outcome| outcome.check == check).unwrap();
    let text = report.to_string();
    assert!(text.contains(&format!("FAILED  {check}")) && text.contains(caught.contract[0]), "{text}");
}

#[test]
fn a_state_machine_without_a_fault_conforms_with_nothing_skipped() {
    let machines = Machines { fault: Fault::None, instances: AtomicU64::new(0) };
    block_on(check_state_machine(&machines)).assert_passed_except(&[]);
}

#[test]
fn state_machines_that_apply_wrongly_are_caught() {
    is_caught(Fault::ResponsesReversed, "each_command_has_its_response_in_order");
    is_caught(Fault::BlanksNotApplied, "entries_without_a_command_are_applied_too");
    is_caught(Fault::InstancesDiffer, "two_instances_do_the_same");
}

#[test]
fn state_machines_that_write_in_parts_are_caught() {
    is_caught(Fault::AppliedBeforeEffects, "a_crash_at_any_point_leaves_the_state_of_one_moment");
    is_caught(Fault::HalfABatch, "a_call_that_fails_leaves_nothing_half_done");
}

#[test]
fn state_machines_that_build_wrong_snapshots_are_caught() {
    is_caught(Fault::ViewTakenLate, "a_snapshot_is_of_the_moment_when_it_was_asked_for");
    is_caught(Fault::LaterMembership, "a_snapshot_is_of_the_moment_when_it_was_asked_for");
    is_caught(Fault::SnapshotNotDurable, "a_snapshot_that_was_built_is_current");
    is_caught(Fault::CurrentTooEarly, "a_build_that_is_dropped_leaves_the_snapshot_before_it");
    is_caught(Fault::LateSnapshotWins, "a_build_that_ends_late_does_not_replace_a_later_snapshot");
    is_caught(Fault::StreamFollows, "a_stream_outlives_its_snapshot");
    is_caught(Fault::DamageNotSeen, "a_damaged_snapshot_is_an_error_and_is_replaced_by_the_next");
    is_caught(Fault::DamageKept, "a_damaged_snapshot_is_an_error_and_is_replaced_by_the_next");
}

#[test]
fn state_machines_that_install_in_part_are_caught() {
    is_caught(Fault::ClearedBeforeItArrives, "a_stream_that_breaks_leaves_all_as_before");
    is_caught(Fault::ClearedBeforeItArrives, "a_crash_while_a_snapshot_arrives_leaves_all_as_before");
    is_caught(Fault::Merged, "a_snapshot_replaces_everything");
    is_caught(Fault::NotMadeCurrent, "a_snapshot_replaces_everything");
    is_caught(Fault::ErrorTakenForEnd, "a_stream_that_breaks_leaves_all_as_before");
    is_caught(Fault::DamageBlamedOnTheDisk, "wrong_bytes_are_refused_as_a_whole");
    is_caught(Fault::ChecksumIgnored, "wrong_bytes_are_refused_as_a_whole");
}
