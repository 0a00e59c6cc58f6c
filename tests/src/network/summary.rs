//! Messages in the words of a reader, for traces.

use std::fmt;

use openconsensus::{AppendResult, Body, Message, TypeConfig};

/// Several messages in one line.
pub(super) struct Summaries<'a, C: TypeConfig>(pub(super) &'a [Message<C>]);

impl<C: TypeConfig> fmt::Display for Summaries<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, message) in self.0.iter().enumerate() {
            if 0 < place {
                f.write_str("; ")?;
            }
            write!(f, "t{} ", message.term)?;
            write_body(f, &message.body)?;
        }
        Ok(())
    }
}

fn write_body<C: TypeConfig>(f: &mut fmt::Formatter<'_>, body: &Body<C>) -> fmt::Result {
    match body {
        Body::VoteRequest { kind, campaign, last } => {
            write!(f, "vote request {kind:?} #{campaign} last {last}")
        }
        Body::VoteResponse { kind, campaign, granted } => {
            write!(f, "vote response {kind:?} #{campaign} {}", if *granted { "granted" } else { "refused" })
        }
        Body::Append { prev, entries, commit } => {
            write!(f, "append prev {prev}, {} entries, commit {commit}", entries.len())
        }
        Body::AppendResponse { result: AppendResult::Matched { matched } } => write!(f, "matched {matched}"),
        Body::AppendResponse { result: AppendResult::Conflict { rejected, hint } } => {
            write!(f, "conflict at {rejected}, hint {hint}")
        }
        Body::AppendResponse { result: AppendResult::StaleTerm } => f.write_str("stale term"),
        Body::Heartbeat { round, commit } => write!(f, "heartbeat #{round} commit {commit}"),
        Body::HeartbeatResponse { round, promise_ms: 0 } => write!(f, "heartbeat response #{round}"),
        Body::HeartbeatResponse { round, promise_ms } => {
            write!(f, "heartbeat response #{round}, promises {promise_ms} ms")
        }
        Body::Commit { commit } => write!(f, "commit {commit}"),
        Body::ReadRequest { read, by_lease: false } => write!(f, "read request #{read}"),
        Body::ReadRequest { read, by_lease: true } => write!(f, "read request #{read} by lease"),
        Body::ReadResponse { read, index } => write!(f, "read response #{read} index {index}"),
        Body::TimeoutNow => f.write_str("timeout now"),
        Body::TimeoutNowDeclined => f.write_str("timeout now declined"),
        Body::TransferRequest { transfer, target: Some(target) } => {
            write!(f, "transfer request #{transfer} to {target}")
        }
        Body::TransferRequest { transfer, target: None } => write!(f, "transfer request #{transfer}"),
        Body::TransferResponse { transfer, answer } => write!(f, "transfer response #{transfer} {answer:?}"),
        Body::Removed { campaign, membership } => write!(f, "removed by {membership} (#{campaign})"),
        // The enum may grow; what is unknown here is shown as it shows itself.
        other => write!(f, "{other:?}"),
    }
}
