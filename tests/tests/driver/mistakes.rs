//! Mistakes that are made on purpose, in stores and in clients: the simulation must find them. One that finds nothing would
//! look just like one that tests nothing.

use std::io;
use std::time::Duration;

use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, Entries, HardState, Index, LogId, LogState, RaftLogStorage,
    RaftStateMachine, Snapshot, SnapshotMeta,
};
use openconsensus_memstore::kv::{Kv, Response};
use openconsensus_memstore::{KvReader, MemLog, MemLogReader, MemStateMachine};
use openconsensus_tests::linearizability::{KvModel, KvRequest, KvResponse, Limits, Recorder, check};
use openconsensus_tests::sim_runtime::{
    Disturbances, KvApplication, Sim, SimApplication, SimCluster, SimOptions, run_seed,
};
use openconsensus_tests::{Outcome, StateKind, put};

/// So many seeds may be needed until a mistake shows.
const SEEDS: u64 = 30;

/// What the first seed says that finds something.
fn found(what: &str, simulation: impl Fn(&Sim)) -> String {
    let mut failures = (1..=SEEDS).filter_map(|seed| run_seed(seed, &simulation).err());
    failures.next().unwrap_or_else(|| panic!("none of {SEEDS} seeds has found {what}")).panic
}

/// What is wrong with the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// Nothing.
    None,
    /// The log says that an append is durable before it is; the next write makes it so.
    AcknowledgesTooEarly,
    /// The state machine answers with something that the other nodes do not.
    AnswersForItself,
    /// The state machine leaves out a response, on one node.
    LeavesOut,
}

struct Mistaken {
    stores: KvApplication,
    mistake: Mistake,
}

impl SimApplication for Mistaken {
    type Types = Kv;
    type Log = MistakenLog;
    type Machine = MistakenMachine;
    type Reader = KvReader;
    type State = Vec<(String, Vec<u8>)>;

    fn open(&self, id: u64) -> (MistakenLog, MistakenMachine, KvReader) {
        let (log, machine, reader) = self.stores.open(id);
        let mistake = self.mistake;
        (
            MistakenLog { log, mistake, held: None },
            MistakenMachine { machine, mistake, id, applied: 0 },
            reader,
        )
    }

    fn state(&self, reader: &KvReader) -> Vec<(String, Vec<u8>)> {
        self.stores.state(reader)
    }

    fn address(&self, id: u64) -> String {
        self.stores.address(id)
    }
}

struct MistakenLog {
    log: MemLog<Kv>,
    mistake: Mistake,
    held: Option<(Entries<Kv>, Index)>,
}

impl MistakenLog {
    async fn write_held(&mut self) -> io::Result<()> {
        match self.held.take() {
            Some((entries, commit)) => self.log.append(entries, commit).await,
            None => Ok(()),
        }
    }
}

impl RaftLogStorage<Kv> for MistakenLog {
    type Reader = MemLogReader<Kv>;

    fn reader(&self) -> MemLogReader<Kv> {
        self.log.reader()
    }

    async fn load(&mut self) -> io::Result<LogState<Kv>> {
        self.log.load().await
    }

    async fn save_hard_state(&mut self, state: HardState<Kv>) -> io::Result<()> {
        self.write_held().await?;
        self.log.save_hard_state(state).await
    }

    async fn append(&mut self, entries: Entries<Kv>, commit: Index) -> io::Result<()> {
        self.write_held().await?;
        if self.mistake == Mistake::AcknowledgesTooEarly {
            self.held = Some((entries, commit));
            return Ok(());
        }
        self.log.append(entries, commit).await
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.write_held().await?;
        self.log.truncate(from).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.write_held().await?;
        self.log.purge(upto).await
    }
}

struct MistakenMachine {
    machine: MemStateMachine,
    mistake: Mistake,
    id: u64,
    applied: u64,
}

impl RaftStateMachine<Kv> for MistakenMachine {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Kv>> {
        self.machine.applied_state().await
    }

    async fn apply(&mut self, batch: ApplyBatch<Kv>) -> io::Result<Vec<Response>> {
        self.applied += batch.entries().len() as u64;
        let mut responses = self.machine.apply(batch).await?;
        if self.mistake == Mistake::AnswersForItself && 20 < self.applied {
            responses.fill(Response::Batch(self.id));
        }
        if self.mistake == Mistake::LeavesOut && 20 < self.applied && self.id == 2 {
            responses.pop();
        }
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Kv>>> {
        self.machine.build_snapshot()
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Kv>>> {
        self.machine.current_snapshot().await
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<Kv>) -> io::Result<()> {
        self.machine.install_snapshot(snapshot).await
    }
}

/// Three nodes under load while they are killed: what is acknowledged must be there at the end.
async fn keep_writing(sim: &Sim, mistake: Mistake, what: Disturbances) {
    let app = Mistaken { stores: KvApplication::new(StateKind::Volatile), mistake };
    let cluster = SimCluster::of_voters(sim, 3, SimOptions::default(), app).await;
    let mut acknowledged = Vec::new();
    let faults = async {
        cluster.disturb(what, Duration::from_secs(5)).await;
        cluster.repair().await;
    };
    let writes = async {
        for number in 0..150 {
            let key = format!("{number:03}");
            if let Outcome::Applied(_) = cluster.write(put(&*key, "there")).await {
                acknowledged.push(key);
            }
        }
    };
    futures::join!(faults, writes);
    cluster.converge().await;
    let state = cluster.state(cluster.leader().await);
    for key in acknowledged {
        assert!(state.iter().any(|(there, _)| *there == key), "key {key} was acknowledged and is lost");
    }
}

#[test]
fn stores_without_a_mistake_pass() {
    for seed in 1..=5 {
        run_seed(seed, |sim| sim.run(keep_writing(sim, Mistake::None, Disturbances::all()))).unwrap();
    }
}

#[test]
fn a_log_that_acknowledges_too_early_is_found_out() {
    let what = Disturbances { stops: true, cuts: true, ..Disturbances::none() };
    let panic = found("a log that acknowledges too early", |sim| {
        sim.run(keep_writing(sim, Mistake::AcknowledgesTooEarly, what));
    });
    // A follower that has lost what it has acknowledged is not sent it again: the members never become equal.
    let signs = ["is lost", "differ at index", "has stopped", "does not start", "has fallen", "to be equal"];
    assert!(signs.iter().any(|sign| panic.contains(sign)), "{panic}");
}

#[test]
fn a_state_machine_that_answers_for_itself_is_found_out() {
    let panic = found("a state machine that depends on its node", |sim| {
        sim.run(keep_writing(sim, Mistake::AnswersForItself, Disturbances::none()));
    });
    assert!(panic.contains("differ at index"), "{panic}");
}

#[test]
fn a_state_machine_that_leaves_a_response_out_is_found_out() {
    let panic = found("a state machine with too few responses", |sim| {
        sim.run(keep_writing(sim, Mistake::LeavesOut, Disturbances::none()));
    });
    assert!(panic.contains("responses") || panic.contains("has stopped"), "{panic}");
}

/// Clients that write one key, and read it wherever they like without asking whether they may.
async fn read_without_asking(sim: &Sim) {
    let app = KvApplication::new(StateKind::Volatile);
    let cluster = SimCluster::of_voters(sim, 3, SimOptions::default(), app).await;
    let recorder = Recorder::with_clock(sim.world().clock());
    for number in 0..50 {
        let call = recorder.call(1, KvRequest::put("key", number.to_string()));
        match cluster.write(put("key", number.to_string())).await {
            Outcome::Applied(_) => call.returned(KvResponse::Done),
            Outcome::Absent => call.absent(),
            Outcome::Unknown => call.unknown(),
        }
        let call = recorder.call(2, KvRequest::get("key"));
        let Some(node) = cluster.some_node() else { continue };
        let value = cluster.state(node).into_iter().find(|(key, _)| key == "key");
        call.returned(KvResponse::Value(value.map(|(_, value)| String::from_utf8(value).unwrap())));
    }
    check(&KvModel::new(), &recorder.history(), &Limits::default()).assert_linearizable();
}

#[test]
fn reads_without_asking_are_found_out() {
    let panic = found("reads that are not linearizable", |sim| sim.run(read_without_asking(sim)));
    assert!(panic.contains("no order explains"), "{panic}");
}
