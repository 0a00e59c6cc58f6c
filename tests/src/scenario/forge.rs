//! The command that sends a message which no node has sent: what an old or a foreign peer might say.

use openconsensus::{AppendResult, Body, Entries, Entry, LogId, Message, Payload, VoteKind};

use crate::engines::{Letter, Test, What, command_at};

use super::stage::Stage;
use super::words::{Result, Words, link, log_id, log_ids, wrong};

impl Stage {
    pub(super) fn forge(&mut self, words: &mut Words<'_>) -> Result<()> {
        let word = words.next("a link")?;
        let Some((Some(from), Some(to))) = link(word) else {
            return wrong(format!("`{word}` is not a link"), "from node 1 to node 2 is written `1→2`");
        };
        let to = self.existing(to)?;
        let kind = words.next("a kind of message")?;
        words.expect("term")?;
        let term = words.number("a term")?;
        let body = body(kind, words)?;
        self.cluster.put_back(Letter { from, to, what: What::Message(Message { term, body }) });
        Ok(())
    }
}

fn body(kind: &str, words: &mut Words<'_>) -> Result<Body<Test>> {
    let request = |kind, words: &mut Words<'_>| -> Result<Body<Test>> {
        Ok(Body::VoteRequest { kind, campaign: 0, last: named(words, "last")? })
    };
    Ok(match kind {
        "PreVoteRequest" => request(VoteKind::Pre, words)?,
        "VoteRequest" => request(VoteKind::Normal, words)?,
        "TransferVoteRequest" => request(VoteKind::Transfer, words)?,
        "Append" => append(words)?,
        "AppendResponse" => Body::AppendResponse { result: result(words)? },
        "Heartbeat" => {
            words.expect("round")?;
            let round = words.number("a round")?;
            Body::Heartbeat { round, commit: named(words, "commit")? }
        }
        "HeartbeatResponse" => {
            words.expect("round")?;
            let round = words.number("a round")?;
            let promise_ms = if words.take("promises") { words.number("milliseconds")? } else { 0 };
            Body::HeartbeatResponse { round, promise_ms }
        }
        "Commit" => Body::Commit { commit: named(words, "commit")? },
        "TimeoutNow" => Body::TimeoutNow,
        "TimeoutNowDeclined" => Body::TimeoutNowDeclined,
        "Removed" => Body::Removed { campaign: 0, membership: named(words, "by")? },
        other => {
            return wrong(
                format!("`{other}` cannot be forged"),
                "PreVoteRequest, VoteRequest, TransferVoteRequest, Append, AppendResponse, Heartbeat, \
                 HeartbeatResponse, Commit, TimeoutNow, TimeoutNowDeclined and Removed can",
            );
        }
    })
}

fn named(words: &mut Words<'_>, name: &str) -> Result<LogId> {
    words.expect(name)?;
    log_id(words.next("an entry")?)
}

/// `prev 3@1 entries 4@2 commit 3`, where the entries may be left out.
fn append(words: &mut Words<'_>) -> Result<Body<Test>> {
    let prev = named(words, "prev")?;
    let mut ids = Vec::new();
    if words.take("entries") {
        while words.peek().is_some_and(|word| word != "commit") {
            ids.extend(log_ids(words.next("an entry")?)?);
        }
    }
    if !ids.windows(2).all(|pair| pair[0].index + 1 == pair[1].index) {
        return wrong("the entries are not consecutive", "`entries 4..5@2 6@3`");
    }
    let entry = |log_id| Entry { log_id, payload: Payload::Command(command_at(log_id)) };
    let entries: Entries<Test> = ids.into_iter().map(entry).collect::<Vec<_>>().into();
    words.expect("commit")?;
    Ok(Body::Append { prev, entries, commit: words.number("an index")? })
}

/// `matched 4`, `rejected 4 hint 2@1` or `stale term`.
fn result(words: &mut Words<'_>) -> Result<AppendResult> {
    if words.take("matched") {
        return Ok(AppendResult::Matched { matched: words.number("an index")? });
    }
    if words.take("rejected") {
        let rejected = words.number("an index")?;
        return Ok(AppendResult::Conflict { rejected, hint: named(words, "hint")? });
    }
    words.expect("stale")?;
    words.expect("term")?;
    Ok(AppendResult::StaleTerm)
}
