//! Parts of a simulation that are wrong on purpose, to show that the oracles see it.

use std::fmt;
use std::str::FromStr;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The disk says that a write is durable before it is: what was written last is lost in a crash.
    AckBeforeFlush,
    /// A crash takes back the last write that was durable.
    LoseCompletedWrite,
    /// A node that restarts has forgotten its vote.
    ForgetVote,
    /// A vote arrives a second time, as if another node had given it.
    StealVotes,
    /// The state machine of one node leaves out a command now and then.
    SkipCommand,
    /// A read is served at once from whatever has been applied.
    ReadAtOnce,
    /// A client is told that its command is applied when any entry is applied at its index.
    AnswerByIndex,
    /// One link stays cut in both directions when everything else is healed.
    StayCut,
    /// Clocks differ in speed by more than leases allow for.
    SkewClocks,
    /// Nobody notices that a machine was suspended.
    MissSuspensions,
}

impl Sabotage {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::AckBeforeFlush,
        Self::LoseCompletedWrite,
        Self::ForgetVote,
        Self::StealVotes,
        Self::SkipCommand,
        Self::ReadAtOnce,
        Self::AnswerByIndex,
        Self::StayCut,
        Self::SkewClocks,
        Self::MissSuspensions,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeFlush => "ack-before-flush",
            Self::LoseCompletedWrite => "lose-completed-write",
            Self::ForgetVote => "forget-vote",
            Self::StealVotes => "steal-votes",
            Self::SkipCommand => "skip-command",
            Self::ReadAtOnce => "read-at-once",
            Self::AnswerByIndex => "answer-by-index",
            Self::StayCut => "stay-cut",
            Self::SkewClocks => "skew-clocks",
            Self::MissSuspensions => "miss-suspensions",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|sabotage| sabotage.name() == name);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|sabotage| sabotage.name()).collect();
            format!("there is no sabotage {name}; there are {}", names.join(", "))
        })
    }
}
