//! What a log must hold: the model that is compared with what is found after a crash.

use std::fmt;

use openconsensus::{Entries, HardState, Index, LogId, LogState, Payload};
use openconsensus_memstore::kv::{Command, Kv};

/// One call of the writing side, or the end of the process.
#[derive(Clone)]
pub(crate) enum Call {
    HardState(HardState<Kv>),
    Append(Entries<Kv>, Index),
    Truncate(Index),
    Purge(LogId),
    /// Closes the log and opens it again, on a machine that goes on.
    Reopen,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardState(state) => {
                write!(f, "save term {}, vote {:?}, commit {}", state.term, state.voted_for, state.commit)
            }
            Self::Append(entries, commit) => {
                write!(f, "append {} with commit {commit}", describe(entries))
            }
            Self::Truncate(from) => write!(f, "truncate from {from}"),
            Self::Purge(upto) => write!(f, "purge up to {upto}"),
            Self::Reopen => write!(f, "reopen"),
        }
    }
}

/// Entries in few words.
pub(crate) fn describe(entries: &Entries<Kv>) -> String {
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => format!("{first} to {last}, {} bytes", entries.size_bytes()),
        (_, _) => "no entries".into(),
    }
}

/// What is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) hard_state: HardState<Kv>,
    /// The greatest commit index that came with entries.
    pub(crate) hint: Index,
    pub(crate) purged: LogId,
    pub(crate) entries: Entries<Kv>,
}

impl Default for Model {
    fn default() -> Self {
        Self { hard_state: HardState::default(), hint: 0, purged: LogId::ZERO, entries: Entries::empty() }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HardState { term, voted_for, commit } = self.hard_state;
        write!(
            f,
            "term {term}, vote {voted_for:?}, commit {commit} (hint {}), purged {}, {}",
            self.hint,
            self.purged,
            describe(&self.entries)
        )
    }
}

impl Model {
    /// What was found by a log that was opened, and all its entries.
    pub(crate) fn found(state: &LogState<Kv>, entries: Entries<Kv>) -> Self {
        Self { hard_state: state.hard_state, hint: 0, purged: state.purged, entries }
    }

    pub(crate) fn last(&self) -> LogId {
        self.entries.last().unwrap_or(self.purged)
    }

    /// Nothing at or below it is truncated.
    pub(crate) fn committed(&self) -> Index {
        self.hint.max(self.hard_state.commit).max(self.purged.index)
    }

    /// The name of the entry at `index`, if it is stored or the last that was purged.
    pub(crate) fn log_id(&self, index: Index) -> Option<LogId> {
        if index == self.purged.index {
            return Some(self.purged);
        }
        self.entries.at(index).map(|entry| entry.log_id)
    }

    pub(crate) fn after(&self, call: &Call) -> Self {
        let mut model = self.clone();
        match call {
            Call::HardState(state) => model.hard_state = *state,
            Call::Append(entries, commit) => {
                model.entries = Entries::concat([self.entries.clone(), entries.clone()]);
                model.hint = self.hint.max(*commit);
            }
            Call::Truncate(from) => model.entries = self.entries.slice(0..*from),
            Call::Purge(upto) => {
                model.entries = self.entries.slice(upto.index + 1..Index::MAX);
                model.purged = *upto;
            }
            Call::Reopen => {}
        }
        model
    }

    /// What is wrong with `found`, if a log that holds this may not report it.
    pub(crate) fn differs(&self, found: &Self) -> Option<String> {
        let (least, most) = (self.hard_state.commit, self.hard_state.commit.max(self.hint));
        let commit = found.hard_state.commit;
        let vote = (found.hard_state.term, found.hard_state.voted_for);
        if vote != (self.hard_state.term, self.hard_state.voted_for) {
            return Some(format!("term and vote are {vote:?}"));
        }
        if !(least..=most).contains(&commit) {
            return Some(format!("commit is {commit}, not from {least} to {most}"));
        }
        if found.purged != self.purged {
            return Some(format!("purged is {}", found.purged));
        }
        if found.last() != self.last() {
            return Some(format!("the last entry is {}", found.last()));
        }
        (found.entries != self.entries).then(|| "entries have other contents".into())
    }

    /// Whether `found` is this, or what it becomes by a start of the entries of `next`.
    pub(crate) fn is_here_or_on_the_way(&self, found: &Self, next: Option<&Call>) -> bool {
        if self.differs(found).is_none() {
            return true;
        }
        let Some(Call::Append(entries, commit)) = next else { return false };
        let start = entries.slice(0..found.last().index + 1);
        let between = self.after(&Call::Append(start, *commit));
        between.differs(found).is_none()
    }
}

/// The calls of one run, and what the log must hold after each of them.
#[derive(Default)]
pub(crate) struct History {
    /// Before the first call, and after each.
    states: Vec<Model>,
    calls: Vec<Call>,
}

impl History {
    /// A run that begins with what was found.
    pub(crate) fn new(found: Model) -> Self {
        Self { states: vec![found], calls: Vec::new() }
    }

    pub(crate) fn last(&self) -> &Model {
        self.states.last().expect("a history begins with a state")
    }

    pub(crate) fn push(&mut self, call: Call) {
        self.states.push(self.last().after(&call));
        self.calls.push(call);
    }

    /// How many calls there are.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Fails unless `found` is what a crash may leave after `acknowledged` calls, of `made`.
    pub(crate) fn check(&self, acknowledged: usize, made: usize, found: &Model) -> Result<(), String> {
        let made = made.min(self.len());
        let is_right = (acknowledged..=made).any(|number| {
            let next = if number < made { self.calls.get(number) } else { None };
            self.states[number].is_here_or_on_the_way(found, next)
        });
        if is_right {
            return Ok(());
        }
        let calls: Vec<_> = self.calls[acknowledged..made].iter().map(ToString::to_string).collect();
        Err(format!(
            "found:        {found}\nacknowledged: {}\n              ({})\nin flight:    {}\nbefore:       {}",
            self.states[acknowledged],
            self.states[acknowledged].differs(found).unwrap_or_default(),
            if calls.is_empty() { "nothing".into() } else { calls.join("; ") },
            self.calls[..acknowledged]
                .iter()
                .rev()
                .take(4)
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        ))
    }

    /// Fails unless `found` is what the log held at some time, or may have held.
    pub(crate) fn check_any(&self, found: &Model) -> Result<(), String> {
        self.check(0, self.len(), found)
    }

    /// What the log held after so many calls.
    pub(crate) fn state(&self, calls: usize) -> &Model {
        &self.states[calls]
    }
}

/// The value of an entry: no other entry has it.
pub(crate) fn value_of(log_id: LogId, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(log_id.term << 40 ^ log_id.index);
    let mut value = format!("{log_id} ").into_bytes();
    let start = value.len();
    value.extend_from_slice(&vec![0; bytes.saturating_sub(start)]);
    random.fill(&mut value[start..]);
    value
}

/// A command whose value tells it from all others.
pub(crate) fn command(log_id: LogId, bytes: usize) -> Payload<Kv> {
    Payload::Command(Command::Put { key: format!("k{}", log_id.index % 7), value: value_of(log_id, bytes) })
}
