//! Commands about disks, state machines, snapshots and crashes.

use openconsensus::Entries;
use openconsensus::engine::{Input, LogWrite};

use crate::engines::{Disk, Test};

use super::stage::{Sent, Stage};
use super::words::{Result, Words, wrong};

/// A part of a node that can be slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Component {
    Disk,
    Machine,
    Building,
    Installing,
}

impl Component {
    fn parse(words: &mut Words<'_>) -> Result<Self> {
        match words.next("what is slow")? {
            "disk" => Ok(Self::Disk),
            "machine" => Ok(Self::Machine),
            "building" => Ok(Self::Building),
            "installing" => Ok(Self::Installing),
            other => wrong(format!("`{other}` is no part of a node"), words.usage()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Machine => "state machine",
            Self::Building => "building of snapshots",
            Self::Installing => "installing of snapshots",
        }
    }
}

impl Stage {
    pub(super) fn slow(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.existing(words.number("a node")?)?;
        let component = Component::parse(words)?;
        self.set_slow(id, component, true);
        self.print(0, format!("{id}: its {} is slow", component.name()));
        Ok(())
    }

    fn set_slow(&mut self, id: u64, component: Component, is_slow: bool) {
        let node = self.cluster.node_mut(id);
        match component {
            Component::Disk => node.is_disk_slow = is_slow,
            Component::Machine => node.is_machine_slow = is_slow,
            Component::Building => node.is_building_slow = is_slow,
            Component::Installing => node.is_installing_slow = is_slow,
        }
    }

    pub(super) fn fast(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.existing(words.number("a node")?)?;
        let components = match words.is_empty() {
            true => vec![Component::Disk, Component::Machine, Component::Building, Component::Installing],
            false => vec![Component::parse(words)?],
        };
        for component in components {
            self.set_slow(id, component, false);
        }
        // Whatever has waited is done now.
        self.cluster.step_all(id, []);
        Ok(())
    }

    pub(super) fn complete(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let Some(oldest) = self.cluster.node(id).writes.front().map(|write| write.id) else {
            return wrong(
                format!("no write of node {id} is in flight"),
                "`slow ID disk` keeps writes in flight",
            );
        };
        if words.take("together") {
            let count = self.cluster.complete_all_writes_at_once(id);
            self.print(0, format!("{id}: {count} writes are done, and reported as one"));
            return Ok(());
        }
        let is_all = words.take("all");
        let mut write = oldest;
        loop {
            self.print(0, format!("{id}: w{} is done", write.0));
            self.cluster.complete_write(id);
            self.report(2, Sent::Shown);
            match self.cluster.node(id).writes.front() {
                Some(next) if is_all => write = next.id,
                Some(_) | None => return Ok(()),
            }
        }
    }

    pub(super) fn fail(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        match Component::parse(words)? {
            Component::Disk => {
                // Nobody knows what has become of what was in flight; here it is lost.
                self.cluster.node_mut(id).writes.clear();
                self.failed.insert(id);
                self.print(0, format!("{id}: its disk fails for good"));
                self.cluster.step(id, Input::StorageFailed);
                Ok(())
            }
            Component::Installing if self.cluster.node(id).installing.is_some() => {
                self.print(0, format!("{id}: installing fails"));
                self.cluster.fail_installing(id);
                Ok(())
            }
            Component::Installing => wrong(
                format!("node {id} is installing nothing"),
                format!("`slow {id} installing` keeps a snapshot that arrives from being installed"),
            ),
            Component::Building if !self.cluster.node(id).to_build.is_empty() => {
                self.print(0, format!("{id}: building fails"));
                self.cluster.fail_building(id);
                Ok(())
            }
            Component::Building => wrong(
                format!("node {id} is building nothing"),
                format!("`slow {id} building` keeps a snapshot from being built"),
            ),
            Component::Machine => wrong("a state machine cannot fail and the node go on", words.usage()),
        }
    }

    pub(super) fn crash(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let lost = match words.take("losing") {
            true => words.next("what is lost")?,
            false => "nothing",
        };
        if !["nothing", "state", "everything"].contains(&lost) {
            return wrong(format!("`{lost}` cannot be lost"), words.usage());
        }
        if lost == "state" && self.cluster.node(id).is_snapshot_damaged {
            return wrong(
                format!("the snapshot of node {id} is damaged"),
                "a node without state and snapshot does not start",
            );
        }
        if words.take("within") {
            for word in ["a", "write", "behind"] {
                words.expect(word)?;
            }
            self.write_in_part(id, words)?;
        }
        self.cluster.crash(id);
        self.failed.remove(&id);
        match lost {
            "state" => self.cluster.node_mut(id).lose_state(),
            "everything" => self.cluster.place(id, Disk::default()),
            _ => {}
        }
        Ok(())
    }

    /// The oldest write in flight gets as far as the part that is named, and no further.
    fn write_in_part(&mut self, id: u64, words: &mut Words<'_>) -> Result<()> {
        let part = words.next("a part of the write")?;
        let node = self.cluster.node_mut(id);
        let Some(write) = node.writes.front().cloned() else {
            return wrong(
                format!("no write of node {id} is in flight"),
                "`slow ID disk` keeps writes in flight",
            );
        };
        let append = Entries::empty();
        let done: LogWrite<Test> = match part {
            "hard-state" => LogWrite { truncate: None, purge: None, append, ..write },
            "truncation" => LogWrite { purge: None, append, ..write },
            "purge" => LogWrite { append, ..write },
            other => return wrong(format!("`{other}` is no part of a write"), words.usage()),
        };
        node.disk.carry_out(&done);
        Ok(())
    }

    pub(super) fn damage(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.existing(words.number("a node")?)?;
        let Some(snapshot) = &self.cluster.node(id).snapshot else {
            return wrong(format!("node {id} has no snapshot"), format!("`compact {id}` before"));
        };
        let last = super::show::id(snapshot.applied.last_applied);
        self.print(0, format!("{id}: its snapshot of {last} is damaged on the disk"));
        self.cluster.node_mut(id).is_snapshot_damaged = true;
        Ok(())
    }

    pub(super) fn restart(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.existing(words.number("a node")?)?;
        if self.cluster.node(id).is_alive() {
            return wrong(format!("node {id} runs"), format!("`crash {id}` before"));
        }
        self.cluster.restart(id);
        Ok(())
    }
}
