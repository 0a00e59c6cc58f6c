//! What no node would ever say. A peer that says it is broken or is none, so its call is ended before the node hears
//! it.

use openconsensus::{Body, InstallSnapshot, Message, TypeConfig};

/// Checks what a message claims about itself.
pub(crate) fn check_message<C: TypeConfig>(message: &Message<C>) -> Result<(), String> {
    let Body::Append { prev, entries, .. } = &message.body else {
        return Ok(());
    };
    if message.term < prev.term {
        return Err(format!("an append of term {} after entry {prev} of a later term", message.term));
    }
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok(());
    };
    if prev.index.checked_add(1) != Some(first.index) || first.term < prev.term {
        return Err(format!("an append whose first entry {first} cannot follow {prev}"));
    }
    if message.term < last.term {
        return Err(format!("an append of term {} with entry {last} of a later term", message.term));
    }
    Ok(())
}

/// Checks what a snapshot claims about itself.
pub(crate) fn check_install_snapshot<C: TypeConfig>(request: &InstallSnapshot<C>) -> Result<(), String> {
    let last = request.meta.last;
    let membership_at = request.meta.membership.log_id;
    if request.term < last.term {
        return Err(format!("a snapshot up to {last} from a leader of the earlier term {}", request.term));
    }
    if last.index < membership_at.index {
        return Err(format!("a snapshot up to {last} with a membership of the later entry {membership_at}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use openconsensus::{Entry, LogId, MembershipAt, Payload, SnapshotMeta};

    use super::*;
    use crate::testing::Text;

    fn append(term: u64, prev: LogId, entries: &[LogId]) -> Message<Text> {
        let entry = |log_id: &LogId| Entry { log_id: *log_id, payload: Payload::Blank };
        let entries = entries.iter().map(entry).collect::<Vec<_>>().into();
        Message { term, body: Body::Append { prev, entries, commit: 0 } }
    }

    #[test]
    fn an_append_must_continue_the_entry_before_it() {
        let at = LogId::new;
        assert!(check_message(&append(3, LogId::ZERO, &[at(1, 1), at(3, 2)])).is_ok());
        assert!(check_message(&append(3, at(2, 9), &[])).is_ok());
        assert!(check_message(&append(1, at(2, 9), &[])).is_err());
        assert!(check_message(&append(3, at(2, 9), &[at(2, 11)])).is_err());
        assert!(check_message(&append(3, at(2, 9), &[at(1, 10)])).is_err());
        assert!(check_message(&append(3, at(2, 9), &[at(4, 10)])).is_err());
        assert!(check_message(&append(3, at(2, u64::MAX), &[at(2, 1)])).is_err());
    }

    #[test]
    fn a_snapshot_must_not_come_from_the_future() {
        let request = |term, last, membership_index| {
            let membership =
                MembershipAt { log_id: LogId::new(1, membership_index), ..MembershipAt::default() };
            let meta = SnapshotMeta { last, membership, size_bytes: None };
            InstallSnapshot::<Text> { term, leader: 1, meta }
        };
        assert!(check_install_snapshot(&request(3, LogId::new(3, 10), 10)).is_ok());
        assert!(check_install_snapshot(&request(2, LogId::new(3, 10), 10)).is_err());
        assert!(check_install_snapshot(&request(3, LogId::new(3, 10), 11)).is_err());
    }
}
