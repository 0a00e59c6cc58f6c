//! How everything is written: entries, memberships, messages, nodes, answers.

use std::collections::BTreeSet;

use openconsensus::engine::{LogWrite, Reply};
use openconsensus::{
    AppendResult, Body, Entry, LogId, Membership, Message, Payload, TransferAnswer, VoteKind,
};

use crate::engines::{Disk, Letter, Test, What, command_at};

/// `4@2`: index 4, term 2.
pub(super) fn id(id: LogId) -> String {
    format!("{}@{}", id.index, id.term)
}

/// `1@1 2..4@2`: neighbours of one term are one word.
pub(super) fn ids(ids: impl IntoIterator<Item = LogId>) -> String {
    let mut words: Vec<(LogId, LogId)> = Vec::new();
    for id in ids {
        match words.last_mut() {
            Some((_, last)) if last.term == id.term && last.index + 1 == id.index => *last = id,
            Some(_) | None => words.push((id, id)),
        }
    }
    let word = |(first, last): (LogId, LogId)| {
        if first == last { id(first) } else { format!("{}..{}", first.index, id(last)) }
    };
    let words: Vec<String> = words.into_iter().map(word).collect();
    if words.is_empty() { "empty".to_string() } else { words.join(" ") }
}

/// `1,2,3`.
pub(super) fn nodes(ids: impl IntoIterator<Item = u64>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// `{1,2,3 +4}`, or `{3,4,5 & 1,2,3}` while it is joint.
pub(super) fn membership(membership: &Membership<Test>) -> String {
    let mut text = nodes(membership.voters().iter().copied());
    if membership.is_joint() {
        text += &format!(" & {}", nodes(membership.outgoing_voters().iter().copied()));
    }
    let learners = nodes(membership.learners());
    if !learners.is_empty() {
        text += &format!(" +{learners}");
    }
    format!("{{{text}}}")
}

/// `1@1={1,2,3} 2@2=blank 3..4@2=7,8`. What a command carries is shown where a script has given it.
pub(super) fn entries<'a>(entries: impl IntoIterator<Item = &'a Entry<Test>>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut run: Vec<(LogId, Option<u64>)> = Vec::new();
    let finish = |run: &mut Vec<(LogId, Option<u64>)>, words: &mut Vec<String>| {
        if run.is_empty() {
            return;
        }
        let commands: Vec<String> =
            run.iter().filter_map(|(_, command)| command.map(|command| command.to_string())).collect();
        let mut word = ids(run.drain(..).map(|(id, _)| id));
        if !commands.is_empty() {
            word += &format!("={}", commands.join(","));
        }
        words.push(word);
    };
    for entry in entries {
        let log_id = entry.log_id;
        let other = match &entry.payload {
            Payload::Command(command) => {
                let given = (*command != command_at(log_id)).then_some(*command);
                let follows = run.last().is_none_or(|(last, before)| {
                    last.term == log_id.term && before.is_some() == given.is_some()
                });
                if !follows {
                    finish(&mut run, &mut words);
                }
                run.push((log_id, given));
                continue;
            }
            Payload::Blank => "blank".to_string(),
            Payload::Membership(of) => membership(of),
        };
        finish(&mut run, &mut words);
        words.push(format!("{}={other}", id(log_id)));
    }
    finish(&mut run, &mut words);
    if words.is_empty() { "empty".to_string() } else { words.join(" ") }
}

/// What a disk holds behind what is purged.
pub(super) fn log(disk: &Disk) -> String {
    ids(disk.entries().iter().map(|entry| entry.log_id))
}

/// `1→2 Append term 2 prev 3@1 entries 4@2 commit 3`.
pub(super) fn letter(letter: &Letter) -> String {
    let what = match &letter.what {
        What::Message(message) => self::message(message),
        What::Snapshot { request, .. } => format!(
            "Snapshot term {} last {} members {}",
            request.term,
            id(request.meta.last),
            membership(&request.meta.membership.membership)
        ),
        What::SnapshotAnswer { response: None, .. } => "SnapshotResponse broken off".to_string(),
        What::SnapshotAnswer { response: Some(response), .. } => {
            let installed =
                response.installed.map_or("refused".to_string(), |index| format!("installed {index}"));
            format!("SnapshotResponse term {} {installed}", response.term)
        }
    };
    format!("{}→{} {what}", letter.from, letter.to)
}

fn message(message: &Message<Test>) -> String {
    let (name, term) = (body_name(&message.body), message.term);
    let rest = match &message.body {
        Body::VoteRequest { last, .. } => format!(" last {}", id(*last)),
        Body::VoteResponse { granted, .. } => if *granted { " granted" } else { " refused" }.to_string(),
        Body::Append { prev, entries, commit } if entries.is_empty() => {
            format!(" prev {} commit {commit}", id(*prev))
        }
        Body::Append { prev, entries, commit } => {
            let entries = ids(entries.iter().map(|entry| entry.log_id));
            format!(" prev {} entries {entries} commit {commit}", id(*prev))
        }
        Body::AppendResponse { result } => match result {
            AppendResult::Matched { matched } => format!(" matched {matched}"),
            AppendResult::Conflict { rejected, hint } => format!(" rejected {rejected} hint {}", id(*hint)),
            AppendResult::StaleTerm => " stale term".to_string(),
        },
        Body::Heartbeat { round, commit } => format!(" round {round} commit {}", id(*commit)),
        Body::HeartbeatResponse { round, promise_ms: 0 } => format!(" round {round}"),
        Body::HeartbeatResponse { round, promise_ms } => format!(" round {round} promises {promise_ms} ms"),
        Body::Commit { commit } => format!(" commit {}", id(*commit)),
        Body::ReadRequest { by_lease: true, .. } => " by lease".into(),
        Body::ReadRequest { by_lease: false, .. } | Body::TimeoutNow | Body::TimeoutNowDeclined => {
            String::new()
        }
        Body::TransferRequest { target, .. } => {
            target.map_or(String::new(), |target| format!(" to {target}"))
        }
        Body::TransferResponse { answer, .. } => match answer {
            TransferAnswer::Begun { target } => format!(" begun to {target}"),
            TransferAnswer::Leads { leader } => format!(" node {leader} leads"),
            TransferAnswer::Refused(refusal) => format!(" refused {refusal:?}"),
        },
        Body::Removed { membership, .. } => format!(" by {}", id(*membership)),
        Body::ReadResponse { index, .. } => format!(" index {index}"),
        other => format!(" {other:?}"),
    };
    format!("{name} term {term}{rest}")
}

/// The kinds of messages, by which a script chooses them.
pub(super) const KINDS: &[&str] = &[
    "PreVoteRequest",
    "PreVoteResponse",
    "VoteRequest",
    "VoteResponse",
    "TransferVoteRequest",
    "TransferVoteResponse",
    "Append",
    "AppendResponse",
    "Heartbeat",
    "HeartbeatResponse",
    "Commit",
    "ReadRequest",
    "ReadResponse",
    "TimeoutNow",
    "TimeoutNowDeclined",
    "TransferRequest",
    "TransferResponse",
    "Removed",
    "Snapshot",
    "SnapshotResponse",
];

/// Which of [`KINDS`] a letter is.
pub(super) fn kind(letter: &Letter) -> &'static str {
    match &letter.what {
        What::Message(message) => body_name(&message.body),
        What::Snapshot { .. } => "Snapshot",
        What::SnapshotAnswer { .. } => "SnapshotResponse",
    }
}

fn body_name(body: &Body<Test>) -> &'static str {
    match body {
        Body::VoteRequest { kind, .. } => match kind {
            VoteKind::Pre => "PreVoteRequest",
            VoteKind::Normal => "VoteRequest",
            VoteKind::Transfer => "TransferVoteRequest",
        },
        Body::VoteResponse { kind, .. } => match kind {
            VoteKind::Pre => "PreVoteResponse",
            VoteKind::Normal => "VoteResponse",
            VoteKind::Transfer => "TransferVoteResponse",
        },
        Body::Append { .. } => "Append",
        Body::AppendResponse { .. } => "AppendResponse",
        Body::Heartbeat { .. } => "Heartbeat",
        Body::HeartbeatResponse { .. } => "HeartbeatResponse",
        Body::Commit { .. } => "Commit",
        Body::ReadRequest { .. } => "ReadRequest",
        Body::ReadResponse { .. } => "ReadResponse",
        Body::TimeoutNow => "TimeoutNow",
        Body::TimeoutNowDeclined => "TimeoutNowDeclined",
        Body::TransferRequest { .. } => "TransferRequest",
        Body::TransferResponse { .. } => "TransferResponse",
        Body::Removed { .. } => "Removed",
        // A new kind of message, which this language does not know yet.
        _ => "Unknown",
    }
}

/// `w3: term 2 voted 1, truncate 4, purge 3@1, append 4@2`.
pub(super) fn write(write: &LogWrite<Test>) -> String {
    let mut parts = Vec::new();
    if let Some(state) = write.hard_state {
        let vote = state.voted_for.map_or("nobody".to_string(), |id| id.to_string());
        parts.push(format!("term {} voted {vote}", state.term));
    }
    parts.extend(write.truncate.map(|from| format!("truncate from {from}")));
    parts.extend(write.purge.map(|upto| format!("purge to {}", id(upto))));
    if !write.append.is_empty() {
        parts.push(format!("append {}", ids(write.append.iter().map(|entry| entry.log_id))));
    }
    format!("w{}: {}", write.id.0, parts.join(", "))
}

/// What a client is told.
pub(super) fn reply(reply: &Reply<Test>) -> String {
    let leader = |leader: &Option<openconsensus::LeaderHint<Test>>| match leader {
        Some(hint) => format!("node {} leads", hint.id),
        None => "no leader is known".to_string(),
    };
    let text = match reply {
        Reply::Appended { first } => format!("appended at {}", id(*first)),
        Reply::NotLeader { leader: hint } => format!("refused: not the leader, {}", leader(hint)),
        Reply::Busy { bytes, limit } => {
            format!("refused: busy, {bytes} bytes are not committed, the limit is {limit}")
        }
        Reply::ReadReady { index } => format!("may read once {index} is applied"),
        Reply::ReadFailed { leader: hint } => format!("failed: not confirmed in time, {}", leader(hint)),
        Reply::Initialized => "initialized".to_string(),
        Reply::InitializeFailed(error) => format!("refused: {error}"),
        Reply::MembershipChanged { log_id } => format!("changed by {}", id(*log_id)),
        Reply::ChangeMembershipFailed(error) => format!("failed: {error}"),
        Reply::Transferred { leader } => format!("transferred, node {leader} leads"),
        Reply::TransferFailed(error) => format!("failed: {error}"),
        Reply::LeaderForgotten => "no leader is known".to_string(),
        Reply::ForgetLeaderFailed(error) => format!("refused: {error}"),
        Reply::SnapshotBuilt(meta) => {
            format!("built to {} with {}", id(meta.last), membership(&meta.membership.membership))
        }
        Reply::SnapshotFailed(error) => format!("failed: {error}"),
        Reply::LogPurged { upto } => format!("purged to {}", id(*upto)),
        Reply::PurgeFailed(error) => format!("refused: {error}"),
        Reply::InstallFinished(response) => format!("{response:?}"),
        other => format!("{other:?}"),
    };
    entries_as_here(&text)
}

/// Messages of errors write an entry as `4(t2)`; here it is `4@2`.
fn entries_as_here(text: &str) -> String {
    let mut text = text.to_string();
    while let Some(at) = text.find("(t") {
        let Some(end) = text[at..].find(')') else { return text };
        let term = text[at + 2..at + end].to_string();
        text.replace_range(at..=at + end, &format!("@{term}"));
    }
    text
}

/// What there is, for messages about what there is not.
pub(super) fn set(ids: &BTreeSet<u64>) -> String {
    nodes(ids.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::log_of;

    #[test]
    fn neighbours_of_one_term_are_one_word() {
        assert_eq!(ids([]), "empty");
        assert_eq!(ids([1, 1, 4, 4, 4].into_iter().zip(1..).map(|(t, i)| LogId::new(t, i))), "1..2@1 3..5@4");
    }

    #[test]
    fn commands_are_shown_where_a_script_gave_them() {
        let mut log = log_of(3, &[1, 1, 1, 2]);
        assert_eq!(entries(&log), "1@1={1,2,3} 2..3@1 4@2");
        log[2].payload = Payload::Command(7);
        log[3].payload = Payload::Blank;
        assert_eq!(entries(&log), "1@1={1,2,3} 2@1 3@1=7 4@2=blank");
    }

    #[test]
    fn entries_in_messages_of_errors_are_written_as_everywhere() {
        assert_eq!(entries_as_here("changed at 3(t2), not at 1(t1)"), "changed at 3@2, not at 1@1");
    }
}
