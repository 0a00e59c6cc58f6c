//! What happens, one phase after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use super::DemoArgs;
use super::check::Promises;
use super::cluster::{Cluster, current_leader};
use super::import::{Import, SharedImported};
use super::input::{self, Input};
use super::kill::{Prober, kill_leader, millis, wait_caught_up};
use super::load::{Load, SharedModel};
use super::report::{ChangeFigures, Report};
use super::ui::Ui;
use super::verify::verify;
use crate::client::{Client, ClientOptions};
use crate::outcome::{Failure, Result};

/// How many nodes there are.
pub(super) const NODES: u64 = 3;

/// The node that is added.
const ADDED: u64 = NODES + 1;

/// How long a phase may wait for one thing.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// So many of a hundred lines are imported before the first kill, and as many during the kills.
const FIRST_PERCENT: usize = 40;

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
        self.kills(cluster, &mut import, first).await?;
        import.open(import.lines());
        self.change_membership(cluster, &client).await?;

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
    async fn kills(&mut self, cluster: &mut Cluster, import: &mut Import, first: usize) -> Result<()> {
        let mut prober = Prober::new("kill", &self.model);
        let kills = self.args.kills as usize;
        for kill in 0..kills {
            let start = first + first * kill / kills;
            let end = first + first * (kill + 1) / kills;
            let name = format!("killing the leader, {} of {kills}", kill + 1);
            let work = async {
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
    async fn change_membership(&mut self, cluster: &mut Cluster, client: &Client) -> Result<()> {
        let leader = cluster.wait_healthy("a leader", TIMEOUT).await?;
        let address = cluster.address(leader.id)?.to_owned();
        let snapshot = async { Ok(client.with_timeout(TIMEOUT).snapshot(&address).await?) };
        self.change("building a snapshot", snapshot).await?;

        let add = async {
            cluster.add_node(ADDED)?;
            let address = cluster.address(ADDED)?.to_owned();
            let request = async { Ok(client.member_add(ADDED, &address, Some(TIMEOUT)).await?) };
            let change = cluster.while_running(request).await?;
            match change.note {
                None => wait_caught_up(cluster, ADDED, TIMEOUT).await,
                Some(note) => Err(Failure::negative(note)),
            }
        };
        self.change("adding a node", add).await?;
        let promote = async { Ok(client.member_promote(&[ADDED]).await.map(drop)?) };
        self.change("letting it vote", promote).await?;

        let leader = cluster.wait_healthy("a leader", TIMEOUT).await?;
        let removed = (1..=NODES).find(|id| *id != leader.id).unwrap_or(1);
        let remove = async {
            client.member_remove(&[removed]).await?;
            cluster.retire(removed).await
        };
        self.change(&format!("removing node {removed}"), remove).await?;

        let transfer = async {
            let leader = client.transfer(Some(ADDED)).await?;
            cluster
                .wait_until("the new leader", TIMEOUT, |statuses| match current_leader(statuses) {
                    Some(status) if status.id == leader => Ok(()),
                    Some(_) | None => Err(format!("node {leader} does not lead")),
                })
                .await?;
            cluster.wait_healthy("all to follow the new leader", TIMEOUT).await.map(drop)
        };
        self.change("handing leadership over", transfer).await
    }

    /// Stops all nodes and starts them again; a write must then succeed.
    async fn restart_all(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.change("stopping all nodes", cluster.stop_all()).await?;
        let mut prober = Prober::new("restart", &self.model);
        let start = async {
            cluster.restart_all()?;
            cluster.wait_healthy("the cluster to serve again", TIMEOUT).await?;
            prober.first_acknowledged(cluster.addresses(), TIMEOUT).await.map(drop)
        };
        self.change("starting all nodes again", start).await
    }

    /// A phase whose time is reported.
    async fn change<T>(&mut self, what: &str, work: impl Future<Output = Result<T>>) -> Result<()> {
        let began = Instant::now();
        self.ui.phase(what, work).await?;
        self.report.changes.push(ChangeFigures { what: what.into(), ms: millis(began.elapsed()) });
        Ok(())
    }
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
