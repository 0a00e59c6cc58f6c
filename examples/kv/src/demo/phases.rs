//! What happens, one phase after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use super::DemoArgs;
use super::changes::{Attempts, Changes};
use super::check::Promises;
use super::cluster::Cluster;
use super::import::{Import, SharedImported};
use super::input::{self, Input};
use super::kill::{Prober, kill_leader, millis};
use super::load::{Load, SharedModel};
use super::report::{ChangeFigures, Report};
use super::ui::Ui;
use super::verify::verify;
use crate::client::{Client, ClientOptions};
use crate::outcome::Result;

/// How many nodes there are.
pub(super) const NODES: u64 = 3;

/// The node that is added.
const ADDED: u64 = NODES + 1;

/// How long a phase may wait for one thing.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// So many of a hundred lines are imported before the first kill, and as many during the kills.
const FIRST_PERCENT: usize = 40;

/// Between two blows the clients get time for one operation for so many lines.
const LINES_PER_OPERATION: usize = 25;

/// But for no more operations than these.
const OPERATIONS_MAX: u64 = 4000;

/// At most so many contradictions that were seen under load are listed.
const LISTED_MAX: usize = 20;

/// One run, and what it has found so far.
#[derive(Debug)]
pub(super) struct Demo<'a> {
    args: &'a DemoArgs,
    ui: &'a Ui,
    model: SharedModel,
    imported: SharedImported,
    report: Report,
}

impl<'a> Demo<'a> {
    /// A run that has not begun.
    pub(super) fn new(args: &'a DemoArgs, ui: &'a Ui) -> Self {
        Self {
            args,
            ui,
            model: SharedModel::default(),
            imported: SharedImported::default(),
            report: Report::default(),
        }
    }

    /// All phases.
    ///
    /// # Errors
    ///
    /// Which phase did not come to its end, and what was seen until then that contradicts a promise.
    pub(super) async fn run(mut self, cluster: &mut Cluster, input: Input) -> Result<Report> {
        if let Err(mut failure) = self.phases(cluster, input).await {
            self.note_load_faults();
            for fault in &self.report.load_faults {
                failure.text.push_str(&format!("\nunder load: {fault}"));
            }
            return Err(failure);
        }
        self.report.seconds = self.ui.elapsed().as_secs_f64();
        self.report.conclude();
        Ok(self.report)
    }

    fn note_load_faults(&mut self) {
        let model = self.model.lock();
        self.report.stale_reads = model.faults().len() as u64;
        self.report.load_faults = model.faults().iter().take(LISTED_MAX).cloned().collect();
    }

    async fn phases(&mut self, cluster: &mut Cluster, input: Input) -> Result<()> {
        let ui = self.ui;
        let client = cluster.client(ClientOptions::default());
        let clients = self.args.clients as usize;
        let load = Load::start(clients, &client, cluster.serving(), &self.model, self.args.seed);
        let mut import = Import::start(input.batches, &client, &self.imported);
        ui.follow(import.lines(), import.progress());

        let first = import.lines() * FIRST_PERCENT / 100;
        let name = format!("importing {first} lines beside {clients} clients");
        let took = ui.phase(&name, undisturbed(&mut import, first)).await?;
        self.kills(cluster, &mut import, first, &load).await?;
        import.open(import.lines());
        self.change_membership(cluster, &client, &load, operations(&import)).await?;

        self.report.import = ui.phase("importing the rest", import.finish((first, took))).await?;
        self.report.import.malformed = input.malformed;
        self.report.load = ui.phase("ending the load", load.stop()).await?;
        self.restart_all(cluster).await?;

        self.note_load_faults();
        // Nobody writes any more.
        let imported = std::mem::take(&mut *self.imported.lock());
        let model = std::mem::take(&mut *self.model.lock());
        let promises = Promises { imported: &imported, model: &model };
        let check = verify(cluster, promises, self.args.seed, TIMEOUT, &mut self.report);
        ui.phase("reading everything back through every node", check).await
    }

    /// Kills the leader as often as asked, each time in the middle of a part of the import.
    async fn kills(
        &mut self,
        cluster: &mut Cluster,
        import: &mut Import,
        first: usize,
        load: &Load,
    ) -> Result<()> {
        let operations = operations(import);
        let mut prober = Prober::new("kill", &self.model);
        let kills = self.args.kills as usize;
        for kill in 0..kills {
            let start = first + first * kill / kills;
            let end = first + first * (kill + 1) / kills;
            let name = format!("killing the leader, {} of {kills}", kill + 1);
            let work = async {
                load.go_on(operations, TIMEOUT).await?;
                import.open(end);
                import.reached(start + (end - start) / 3, TIMEOUT).await?;
                let figures = kill_leader(cluster, &mut prober, TIMEOUT).await?;
                import.reached(end, TIMEOUT).await?;
                Ok(figures)
            };
            let figures = self.ui.phase(&name, work).await?;
            let (node, write_ms) = (figures.node, figures.write_ms);
            self.ui.tell(&format!("    node {node} was killed; writes went on after {write_ms:.0} ms"));
            self.report.kills.push(figures);
        }
        Ok(())
    }

    /// Adds a node, lets it vote, removes another, and hands leadership over; all of it under load.
    async fn change_membership(
        &mut self,
        cluster: &mut Cluster,
        client: &Client,
        load: &Load,
        operations: u64,
    ) -> Result<()> {
        let pause = async || {
            let work = load.go_on(operations, TIMEOUT);
            self.ui.phase("letting the clients go on", work).await
        };
        let ui = self.ui;
        let mut changes = Changes { cluster, client, ui, timeout: TIMEOUT };
        let mut done = Vec::new();
        pause().await?;
        done.push(change(ui, "building a snapshot", changes.snapshot()).await?);
        done.push(change(ui, "adding a node", changes.add(ADDED)).await?);
        done.push(change(ui, "letting it vote", changes.promote(ADDED)).await?);
        pause().await?;
        let leader = changes.cluster.wait_healthy("a leader", TIMEOUT).await?;
        let removed = (1..=NODES).find(|id| *id != leader.id).unwrap_or(1);
        done.push(change(ui, &format!("removing node {removed}"), changes.remove(removed)).await?);
        pause().await?;
        done.push(change(ui, "handing leadership over", changes.transfer(ADDED)).await?);
        pause().await?;
        self.report.changes.extend(done);
        Ok(())
    }

    /// Stops all nodes and starts them again; a write must then succeed.
    async fn restart_all(&mut self, cluster: &mut Cluster) -> Result<()> {
        let stop = async { cluster.stop_all().await.map(|()| 1) };
        self.report.changes.push(change(self.ui, "stopping all nodes", stop).await?);
        let mut prober = Prober::new("restart", &self.model);
        let start = async {
            cluster.restart_all()?;
            cluster.wait_healthy("the cluster to serve again", TIMEOUT).await?;
            prober.first_acknowledged(cluster.addresses(), TIMEOUT).await.map(|_| 1)
        };
        self.report.changes.push(change(self.ui, "starting all nodes again", start).await?);
        Ok(())
    }
}

/// A phase that is reported with its time.
async fn change(ui: &Ui, what: &str, work: impl Future<Output = Result<Attempts>>) -> Result<ChangeFigures> {
    let began = Instant::now();
    let attempts = ui.phase(what, work).await?;
    Ok(ChangeFigures { what: what.into(), ms: millis(began.elapsed()), attempts })
}

/// The lines of the file that was given, or generated ones, which are written to `folder` first.
pub(super) async fn read_input(args: &DemoArgs, folder: &Path, ui: &Ui) -> Result<Input> {
    let generated = folder.join("input.tsv");
    let path = match &args.input {
        Some(path) => path,
        None => {
            input::generate(&generated, args.lines as usize, args.seed)?;
            &generated
        }
    };
    let input = input::read(path).await?;
    if let Some(why) = &input.first_malformed {
        ui.tell(&format!("{} malformed lines are left out; the first: {why}", input.malformed));
    }
    Ok(input)
}

/// Imports the first lines, and measures.
async fn undisturbed(import: &mut Import, lines: usize) -> Result<Duration> {
    let began = Instant::now();
    import.open(lines);
    import.reached(lines, TIMEOUT * 2).await?;
    Ok(began.elapsed())
}

/// How much the clients do between two blows.
fn operations(import: &Import) -> u64 {
    ((import.lines() / LINES_PER_OPERATION) as u64).clamp(1, OPERATIONS_MAX)
}
