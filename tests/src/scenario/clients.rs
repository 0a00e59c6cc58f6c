//! Commands of clients and operators: elections, writes, reads, memberships, transfers, snapshots.

use std::collections::BTreeSet;

use openconsensus::MembershipChange;
use openconsensus::engine::Input;

use crate::engines::{ELECTION_TIMEOUT_MS, Test};

use super::network::Except;
use super::show;
use super::stage::{Sent, Stage};
use super::words::{Members, Result, Words, log_id, numbers, wrong};

impl Stage {
    pub(super) fn campaign(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        self.cluster.step(id, Input::Campaign);
        Ok(())
    }

    pub(super) fn elect(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        self.cluster.skip(ELECTION_TIMEOUT_MS.max(self.config.election_timeout_ms_max));
        self.cluster.step(id, Input::Campaign);
        self.settle_but(&Except::default())?;
        if !self.cluster.is_leader(id) {
            self.print(0, format!("{id} does not lead"));
        }
        self.report(0, Sent::Silent);
        Ok(())
    }

    pub(super) fn write(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let commands = words.numbers("a command")?;
        let what = format!("write {}", show::nodes(commands.iter().copied()));
        let request = self.cluster.write_many(id, &commands);
        self.ask_to_write(request, what);
        Ok(())
    }

    pub(super) fn read(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        if words.take("by") {
            words.expect("lease")?;
            let request = self.cluster.read_by_lease(id);
            self.ask(request, format!("read by lease at {id}"));
        } else {
            let request = self.cluster.read(id);
            self.ask(request, format!("read at {id}"));
        }
        Ok(())
    }

    pub(super) fn change(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let kind = words.next("a kind of change")?;
        let named = words.next("a node")?;
        let members = match kind {
            "set" => Some(Members::parse(named)?),
            _ => None,
        };
        let ids: BTreeSet<u64> = match &members {
            Some(members) => members.all(),
            None => numbers(named, "a node")?.into_iter().collect(),
        };
        let nodes = crate::engines::nodes(ids.iter().copied());
        let change: MembershipChange<Test> = match kind {
            "add-learners" => MembershipChange::AddLearners(nodes),
            "promote" => MembershipChange::Promote(ids),
            "demote" => MembershipChange::Demote(ids),
            "remove" => MembershipChange::Remove(ids),
            "set-voters" => MembershipChange::SetVoters(ids),
            "update-nodes" => MembershipChange::UpdateNodes(nodes),
            "set" => {
                let voters = members.map(|members| members.voters).unwrap_or_default();
                MembershipChange::Set { voters, nodes }
            }
            other => return wrong(format!("`{other}` is not a change of membership"), words.usage()),
        };
        let expected = match words.take("expecting") {
            true => Some(log_id(words.next("an entry")?)?),
            false => None,
        };
        let request = self.cluster.request();
        self.ask(request, format!("{kind} {named}"));
        self.cluster.step(id, Input::ChangeMembership { request, change, expected });
        Ok(())
    }

    pub(super) fn transfer(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let target = match words.take("to") {
            true => Some(words.number("a node")?),
            false => None,
        };
        let request = self.cluster.transfer(id, target);
        let what = target.map_or("transfer".to_string(), |target| format!("transfer to {target}"));
        self.ask(request, what);
        Ok(())
    }

    pub(super) fn pause(&mut self, words: &mut Words<'_>) -> Result<()> {
        self.set_paused(words, true)
    }

    pub(super) fn resume(&mut self, words: &mut Words<'_>) -> Result<()> {
        self.set_paused(words, false)
    }

    fn set_paused(&mut self, words: &mut Words<'_>, paused: bool) -> Result<()> {
        let id = self.living(words)?;
        let input = match words.next("what is paused")? {
            "elections" => Input::PauseElections { paused },
            "heartbeats" => Input::PauseHeartbeats { paused },
            other => return wrong(format!("`{other}` cannot be paused"), words.usage()),
        };
        self.cluster.step(id, input);
        Ok(())
    }

    pub(super) fn forget_leader(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let request = self.cluster.request();
        self.ask(request, format!("forget-leader {id}"));
        self.cluster.step(id, Input::ForgetLeader { request });
        Ok(())
    }

    pub(super) fn compact(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let request = self.cluster.build_snapshot(id);
        self.ask(request, format!("compact {id}"));
        Ok(())
    }

    pub(super) fn purge(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let upto = words.number("an index")?;
        let request = self.cluster.purge_log(id, upto);
        self.ask(request, format!("purge {id} to {upto}"));
        Ok(())
    }
}
