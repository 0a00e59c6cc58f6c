//! What has happened in runs, so that a simulation in which something never happens is noticed.

use std::fmt;

macro_rules! counts {
    ($($name:ident $text:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count {
            $(
                #[doc = $text]
                $name,
            )*
        }

        /// All of them with their names, in order.
        const COUNTS: &[(Count, &str)] = &[$((Count::$name, $text),)*];
    };
}

counts! {
    ElectionsStarted "elections started",
    ElectionsWon "elections won",
    LeaderChanges "leader changes",
    LeadersReady "leaders that became ready",
    SplitVotes "terms with several candidates",
    Truncations "truncations of a log",
    EntriesCommitted "entries committed",
    CommandsCommitted "commands committed",
    Purges "purges of a log",
    CatchUpReads "catch-up reads from the log",
    SnapshotsBuilt "snapshots built",
    SnapshotsByBytes "snapshots built because of bytes",
    SnapshotsByAge "snapshots built because of their age",
    BuildsFailed "snapshots that could not be built",
    SnapshotsSpoilt "snapshots damaged on a disk",
    SnapshotsDamaged "snapshots found damaged when they were to be sent",
    LogsPurged "logs purged by hand",
    PurgesRefused "purges by hand refused",
    SnapshotsSent "snapshots sent whole",
    SnapshotsInstalled "snapshots installed",
    SnapshotsRefused "snapshots refused or failed",
    SnapshotsDiscarded "snapshots given up",
    SnapshotsBroken "streams of snapshots broken off",
    MembershipsCommitted "memberships committed",
    JointEntered "joint memberships entered",
    JointLeft "joint memberships left",
    LearnersAdded "learners added",
    Promotions "learners promoted",
    Demotions "voters demoted",
    Removals "members removed",
    SevenVoters "memberships of seven voters",
    SingleVoter "memberships of one voter",
    ChangesDone "changes answered as done",
    ChangesRefused "changes refused",
    ChangesUnknown "changes with unknown outcome",
    TransfersDone "transfers done",
    TransfersFailed "transfers failed",
    LeaversLead "steps of leaders that have lost their vote and hand over",
    RemovedByWord "steps of nodes that were told of their removal",
    CampaignsAsked "campaigns asked for",
    ElectionPauses "elections paused",
    HeartbeatPauses "heartbeats paused",
    LeadersForgotten "leaders forgotten",
    LeadersKept "leaders asked to be forgotten by themselves",
    WritesApplied "commands answered as applied",
    WritesDropped "commands answered as dropped",
    WritesUnknown "commands answered as unknown",
    WritesRefused "commands not appended",
    WritesBusy "commands refused because too much is not committed",
    ReadsServed "reads served",
    ReadsOfFollowers "reads confirmed for followers",
    ReadsFailed "reads failed",
    ReadsByLease "reads confirmed by a lease",
    ReadsByRound "reads confirmed by a round of heartbeats",
    CampaignsRefused "campaigns refused because of a promise",
    Crashes "crashes",
    CrashesMidWrite "crashes in the middle of a write",
    CrashesWithWrites "crashes that lost writes",
    StatesForgotten "state machines wiped",
    Restarts "restarts",
    DiskFailures "disk failures",
    DiskStalls "disk stalls",
    HandOvers "leaderships handed over by a disk that failed",
    Coalesced "completions that speak for several writes",
    InputsGathered "inputs gathered before effects were taken",
    Pauses "pauses of a node",
    ClockSkews "clocks skewed",
    Suspensions "machines suspended",
    SuspensionsUnnoticed "machines suspended so shortly that nobody notices",
    ClockJumps "suspensions that have ended the lease of whoever leads",
    OneWayCuts "links cut one way",
    TwoWayCuts "links cut both ways",
    Partitions "partitions",
    Strikes "new leaders struck at once",
    Ambushes "elections behind the back of a leader with a lease",
    LettersLost "letters lost",
    LettersRepeated "letters repeated",
    LettersReordered "letters that overtook others",
    Unreachables "peers reported unreachable",
    Bursts "bursts of writes",
    QuietSpells "quiet spells",
    PreVotes "pre-vote requests delivered",
    PreVoteAnswers "pre-vote answers delivered",
    Votes "vote requests delivered",
    TransferVotes "vote requests in a transfer delivered",
    VoteAnswers "vote answers delivered",
    Appends "appends delivered",
    Acknowledgements "acknowledgements delivered",
    Conflicts "conflicts delivered",
    StaleTerms "stale terms delivered",
    Heartbeats "heartbeats delivered",
    HeartbeatAnswers "heartbeat answers delivered",
    HeartbeatsSkipped "heartbeats left out because appends say the same",
    CommitMessages "commits delivered",
    ReadRequests "forwarded reads delivered",
    ReadAnswers "answers to forwarded reads delivered",
    TimeoutNows "requests to campaign delivered, or declined",
    TransferRequests "forwarded transfers delivered",
    TransferAnswers "answers to forwarded transfers delivered",
    RemovedTold "removed nodes told so",
    SnapshotStreams "snapshots delivered",
    SnapshotAnswers "answers to snapshots delivered",
}

/// How often what has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: vec![0; COUNTS.len()] }
    }
}

impl Coverage {
    /// Once more.
    pub fn add(&mut self, count: Count) {
        self.add_many(count, 1);
    }

    /// So many times more.
    pub fn add_many(&mut self, count: Count, times: u64) {
        self.counts[count as usize] += times;
    }

    /// How often.
    pub fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// Adds what has happened in other runs.
    pub fn join(&mut self, other: &Self) {
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum += more;
        }
    }

    /// What has never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        COUNTS.iter().filter(|(count, _)| self.of(*count) == 0).map(|(_, name)| *name).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, name) in COUNTS {
            writeln!(f, "{:>14}  {name}", self.of(*count))?;
        }
        Ok(())
    }
}
