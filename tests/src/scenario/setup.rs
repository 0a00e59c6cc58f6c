//! Commands that a script begins with: configuration, memberships, nodes and their logs.

use openconsensus::engine::Input;
use openconsensus::{Config, Entry, HardState, Index, LogId, Membership, Payload, Term};

use crate::engines::{Cluster, Disk, Test, command_at};

use super::changes;
use super::show;
use super::stage::{Stage, membership_of};
use super::words::{Members, Result, Words, number, wrong};

impl Stage {
    pub(super) fn config(&mut self, words: &mut Words<'_>) -> Result<()> {
        if !self.cluster.nodes.is_empty() {
            return wrong("there are nodes already", "`config` stands before the first node");
        }
        let settings = words.rest();
        if settings.is_empty() {
            return wrong("a setting is missing", words.usage());
        }
        for setting in settings {
            let Some((key, value)) = setting.split_once('=') else {
                return wrong(format!("`{setting}` is not a setting"), words.usage());
            };
            set(&mut self.config, key, value)?;
            self.print(0, format!("{key} is {value}"));
        }
        if let Err(error) = self.config.clone().validate() {
            return wrong("the configuration is not valid", error.to_string());
        }
        self.cluster = Cluster::empty(self.config.clone());
        self.start = self.cluster.now;
        Ok(())
    }

    pub(super) fn members(&mut self, words: &mut Words<'_>) -> Result<()> {
        let members = Members::parse(words.next("a membership")?)?;
        self.members = membership_of(&members)?;
        self.print(0, format!("logs begin with {}", show::membership(&self.members)));
        Ok(())
    }

    pub(super) fn nodes(&mut self, words: &mut Words<'_>) -> Result<()> {
        let ids = words.numbers("a node")?;
        if self.members.is_empty() {
            self.members = Membership::of_voters(crate::engines::nodes(ids.iter().copied()));
        }
        for id in &ids {
            let entry = self.first_entry(1);
            self.place(*id, vec![entry], HardState { term: 1, voted_for: None, commit: 1 })?;
        }
        let members = show::membership(&self.members);
        self.print(0, format!("{}: term 1 commit 1 log 1@1={members}", show::nodes(ids)));
        Ok(())
    }

    fn first_entry(&self, term: Term) -> Entry<Test> {
        Entry { log_id: LogId::new(term, 1), payload: Payload::Membership(self.members.clone()) }
    }

    fn place(&mut self, id: u64, log: Vec<Entry<Test>>, state: HardState<Test>) -> Result<()> {
        if self.cluster.nodes.contains_key(&id) {
            return wrong(format!("node {id} is there already"), "a node is added once");
        }
        self.cluster.place(id, Disk::new(state, log));
        self.placed.insert(id);
        Ok(())
    }

    pub(super) fn node(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = words.number("a node")?;
        words.expect("log")?;
        let mut log: Vec<Entry<Test>> = Vec::new();
        while words.peek().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            let entry = self.entry(log.last(), words.next("a term")?)?;
            log.push(entry);
        }
        let last_term = log.last().map_or(0, |entry| entry.log_id.term);
        let mut state = HardState { term: last_term, voted_for: None, commit: Index::from(!log.is_empty()) };
        if words.take("term") {
            state.term = words.number("a term")?;
        }
        if words.take("vote") {
            state.voted_for = Some(words.number("a node")?);
        }
        if words.take("commit") {
            state.commit = words.number("an index")?;
        }
        if state.term < last_term {
            return wrong(
                format!("term {} is lower than that of the last entry", state.term),
                format!("a node that has an entry of term {last_term} has seen that term"),
            );
        }
        let vote = state.voted_for.map_or(String::new(), |candidate| format!(" voted {candidate}"));
        let line =
            format!("{id}: term {}{vote} commit {} log {}", state.term, state.commit, show::entries(&log));
        self.place(id, log, state)?;
        self.print(0, line);
        Ok(())
    }

    /// `2` or `2{1,2,3}`: the entry of this term that follows `last`.
    fn entry(&self, last: Option<&Entry<Test>>, word: &str) -> Result<Entry<Test>> {
        let (term, members) = match word.find('{') {
            Some(at) => (&word[..at], Some(Members::parse(&word[at..])?)),
            None => (word, None),
        };
        let term = number(term, "a term")?;
        let before = last.map_or(LogId::ZERO, |entry| entry.log_id);
        if term < before.term.max(1) {
            return wrong(
                format!("term {term} follows term {}", before.term),
                "terms begin at 1 and never fall in a log",
            );
        }
        let log_id = LogId::new(term, before.index + 1);
        let payload = match members {
            Some(members) => Payload::Membership(membership_of(&members)?),
            None if log_id.index == 1 && self.members.is_empty() => {
                return wrong("the first entry has no membership", "`members {1,2,3}` stands before `node`");
            }
            None if log_id.index == 1 => Payload::Membership(self.members.clone()),
            None => Payload::Command(command_at(log_id)),
        };
        Ok(Entry { log_id, payload })
    }

    pub(super) fn fresh(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = words.number("a node")?;
        self.place(id, Vec::new(), HardState::default())?;
        self.print(0, format!("{id}: nothing on its disk"));
        Ok(())
    }

    pub(super) fn initialize(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let nodes = words.numbers("a node")?;
        let request = self.cluster.request();
        self.ask(request, format!("initialize {id} with {}", show::nodes(nodes.iter().copied())));
        let nodes = crate::engines::nodes(nodes);
        self.cluster.step(id, Input::Initialize { request, nodes });
        Ok(())
    }

    // ---- what a script can look at

    pub(super) fn state(&mut self, words: &mut Words<'_>) -> Result<()> {
        for id in self.named_or_all(words)? {
            let mut line = changes::state(&self.cluster, id);
            if self.failed.contains(&id) {
                line += ", its disk has failed";
            }
            self.print(0, line);
        }
        Ok(())
    }

    pub(super) fn log(&mut self, words: &mut Words<'_>) -> Result<()> {
        for id in self.named_or_all(words)? {
            let log = show::entries(self.cluster.node(id).view.entries());
            self.print(0, format!("{id}: {log}"));
        }
        Ok(())
    }

    pub(super) fn membership(&mut self, words: &mut Words<'_>) -> Result<()> {
        for id in self.named_or_all(words)? {
            let line = match self.cluster.node(id).is_alive() {
                false => "is down".to_string(),
                true => {
                    let metrics = self.cluster.metrics(id);
                    changes::membership(&metrics.membership, metrics.committed)
                }
            };
            self.print(0, format!("{id}: {line}"));
        }
        Ok(())
    }

    pub(super) fn disk(&mut self, words: &mut Words<'_>) -> Result<()> {
        for id in self.named_or_all(words)? {
            let node = self.cluster.node(id);
            let state = node.disk.hard_state;
            let mut line = format!("{id}: term {}", state.term);
            if let Some(candidate) = state.voted_for {
                line += &format!(" voted {candidate}");
            }
            line += &format!(" commit {}", state.commit);
            if node.disk.purged != LogId::ZERO {
                line += &format!(" purged to {}", show::id(node.disk.purged));
            }
            line += &format!(" log {}", show::log(&node.disk));
            for write in &node.writes {
                line += &format!("; in flight {}", show::write(write));
            }
            self.print(0, line);
        }
        Ok(())
    }

    pub(super) fn machine(&mut self, words: &mut Words<'_>) -> Result<()> {
        for id in self.named_or_all(words)? {
            let node = self.cluster.node(id);
            let given = node.machine.commands.iter().map(|(log_id, command)| {
                let is_given = *command != command_at(*log_id);
                if is_given { command.to_string() } else { show::id(*log_id) }
            });
            let commands: Vec<String> = given.collect();
            let applied = show::id(node.machine.applied.last_applied);
            self.print(0, format!("{id}: applied to {applied}, commands [{}]", commands.join(" ")));
        }
        Ok(())
    }

    pub(super) fn progress(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let metrics = self.cluster.metrics(id);
        if metrics.peers.is_empty() {
            self.print(0, format!("{id}: {} without peers", metrics.role));
        }
        for (peer, sees) in metrics.peers {
            let active = if sees.active { "" } else { ", not heard" };
            let line = format!(
                "{id} sees {peer}: {}, matched {}, next {}, in flight {}{active}",
                sees.progress, sees.matched, sees.next, sees.inflight_appends
            );
            self.print(0, line);
        }
        Ok(())
    }

    pub(super) fn lease(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let line = match self.cluster.metrics(id).lease_ms {
            Some(ms) => format!("{id} may read by its lease for {ms} ms"),
            None => format!("{id} has no lease"),
        };
        self.print(0, line);
        Ok(())
    }

    pub(super) fn messages(&mut self, _words: &mut Words<'_>) -> Result<()> {
        let letters: Vec<String> = self.cluster.letters().map(show::letter).collect();
        if letters.is_empty() && self.held.is_empty() {
            self.print(0, "no messages");
        }
        for (number, letter) in (1..).zip(letters) {
            self.print(0, format!("#{number} {letter}"));
        }
        let held: Vec<String> = self.held.iter().map(show::letter).collect();
        for (number, letter) in (1..).zip(held) {
            self.print(0, format!("held #{number} {letter}"));
        }
        Ok(())
    }

    pub(super) fn show_requests(&mut self, _words: &mut Words<'_>) -> Result<()> {
        let requests = std::mem::take(&mut self.requests);
        if requests.is_empty() {
            self.print(0, "no requests");
        }
        for request in &requests {
            let mut answer = self.cluster.reply(request.id).map_or("no answer".to_string(), show::reply);
            if request.is_write {
                answer += match self.cluster.outcome(request.id) {
                    crate::engines::Outcome::Open => ", open",
                    crate::engines::Outcome::NotLeader | crate::engines::Outcome::Busy => "",
                    crate::engines::Outcome::Applied => ", committed",
                    crate::engines::Outcome::Dropped => ", lost",
                };
            }
            self.print(0, format!("r{} {}: {answer}", request.id.0, request.what));
        }
        self.requests = requests;
        Ok(())
    }
}

/// Sets one value of the configuration by its name.
fn set(config: &mut Config, key: &str, value: &str) -> Result<()> {
    match key {
        "pre_vote" => config.pre_vote = switch(key, value)?,
        "check_quorum" => config.check_quorum = switch(key, value)?,
        "snapshot_after_entries" => config.snapshot_after_entries = number_or_none(value)?,
        "snapshot_after_bytes" => config.snapshot_after_bytes = number_or_none(value)?,
        "snapshot_after_ms" => config.snapshot_after_ms = number_or_none(value)?,
        "lease_clock_drift_ppm_max" => config.lease_clock_drift_ppm_max = number_or_none(value)?,
        "election_timeout_ms" => {
            let Some((min, max)) = value.split_once("..") else {
                return wrong(format!("`{value}` is no range"), "`election_timeout_ms=150..300`");
            };
            config.election_timeout_ms_min = number(min, "a number")?;
            config.election_timeout_ms_max = number(max, "a number")?;
        }
        key => {
            let Some(place) = place_of(config, key) else {
                return wrong(
                    format!("`{key}` is not a setting of a script"),
                    format!(
                        "settings are pre_vote, check_quorum, snapshot_after_entries, snapshot_after_bytes, \
                         snapshot_after_ms, lease_clock_drift_ppm_max, election_timeout_ms, {}",
                        NUMBERS.join(", ")
                    ),
                );
            };
            *place = number(value, "a number")?;
        }
    }
    Ok(())
}

/// The settings that are plain numbers.
const NUMBERS: &[&str] = &[
    "heartbeat_interval_ms",
    "write_stall_timeout_ms",
    "append_bytes_max",
    "inflight_appends_max",
    "inflight_bytes_max",
    "uncommitted_bytes_max",
    "command_bytes_max",
    "tail_bytes_max",
    "apply_entries_max",
    "apply_bytes_max",
    "log_keep_entries",
    "log_keep_bytes",
    "log_hold_entries_max",
    "snapshot_jitter_percent",
    "promotion_lag_entries_max",
    "transfer_timeout_ms",
    "read_timeout_ms",
];

fn place_of<'a>(config: &'a mut Config, key: &str) -> Option<&'a mut u64> {
    Some(match key {
        "heartbeat_interval_ms" => &mut config.heartbeat_interval_ms,
        "write_stall_timeout_ms" => &mut config.write_stall_timeout_ms,
        "append_bytes_max" => &mut config.append_bytes_max,
        "inflight_appends_max" => &mut config.inflight_appends_max,
        "inflight_bytes_max" => &mut config.inflight_bytes_max,
        "uncommitted_bytes_max" => &mut config.uncommitted_bytes_max,
        "command_bytes_max" => &mut config.command_bytes_max,
        "tail_bytes_max" => &mut config.tail_bytes_max,
        "apply_entries_max" => &mut config.apply_entries_max,
        "apply_bytes_max" => &mut config.apply_bytes_max,
        "log_keep_entries" => &mut config.log_keep_entries,
        "log_keep_bytes" => &mut config.log_keep_bytes,
        "snapshot_jitter_percent" => &mut config.snapshot_jitter_percent,
        "log_hold_entries_max" => &mut config.log_hold_entries_max,
        "promotion_lag_entries_max" => &mut config.promotion_lag_entries_max,
        "transfer_timeout_ms" => &mut config.transfer_timeout_ms,
        "read_timeout_ms" => &mut config.read_timeout_ms,
        _ => return None,
    })
}

fn number_or_none(value: &str) -> Result<Option<u64>> {
    if value == "none" { Ok(None) } else { number(value, "a number or none").map(Some) }
}

fn switch(key: &str, value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        other => {
            wrong(format!("`{other}` is neither on nor off"), format!("write `{key}=on` or `{key}=off`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_is_named_can_be_set() {
        let mut config = Config::default();
        for key in NUMBERS {
            set(&mut config, key, "77").unwrap_or_else(|error| panic!("{key}: {}", error.what));
        }
        assert_eq!(config.transfer_timeout_ms, 77);
        assert!(set(&mut config, "heartbeat", "1").is_err());
        assert!(set(&mut config, "pre_vote", "false").is_err());
    }
}
