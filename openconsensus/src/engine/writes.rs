//! Numbered writes, and the messages that wait for them.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Instant;

use crate::entry::{HardState, Index, LogId};
use crate::message::{AppendResult, Body, Message};
use crate::type_config::TypeConfig;

use super::Fingerprint;
use super::effects::{LogWrite, WriteId};
use super::log::Log;

/// What has to be written, what is being written, and what must not leave before that.
///
/// Every message waits for exactly the writes that it depends on. Writes are numbered and complete in order. A
/// truncation makes the completion of older writes void for the entries that it removed.
#[derive(Clone, Debug)]
pub(super) struct Writes<C: TypeConfig> {
    /// The number of the write that is being put together.
    next: WriteId,
    /// This write and all before it are durable.
    done: WriteId,
    /// The write that carries the latest change of term or vote.
    hard_state_in: WriteId,
    hard_state_staged: bool,
    truncate_staged: Option<Index>,
    purge_staged: Option<LogId>,
    in_flight: VecDeque<InFlight>,
    held: Vec<Held<C>>,
}

#[derive(Clone, Debug)]
struct InFlight {
    id: WriteId,
    /// The last index that is durable when this write is.
    stable_to: Index,
    /// When it was handed out.
    since: Instant,
}

#[derive(Clone, Debug)]
struct Held<C: TypeConfig> {
    until: WriteId,
    peer: C::NodeId,
    message: Message<C>,
}

impl<C: TypeConfig> Writes<C> {
    pub(super) fn new() -> Self {
        Self {
            next: WriteId(1),
            done: WriteId(0),
            hard_state_in: WriteId(0),
            hard_state_staged: false,
            truncate_staged: None,
            purge_staged: None,
            in_flight: VecDeque::new(),
            held: Vec::new(),
        }
    }

    /// How far a write is from the one that is being put together. Those that are done are all alike.
    pub(super) fn distance(&self, write: WriteId) -> u64 {
        self.next.0 - write.0.max(self.done.0)
    }

    /// Writes are fed by their distance: only their order matters.
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>)
    where
        C::Command: Hash,
        C::Node: Hash,
    {
        let Self {
            next,
            done,
            hard_state_in,
            hard_state_staged,
            truncate_staged,
            purge_staged,
            in_flight,
            held,
        } = self;
        to.value((next.0 - done.0, self.distance(*hard_state_in)));
        to.value((hard_state_staged, truncate_staged, purge_staged, in_flight.len(), held.len()));
        for InFlight { id, stable_to, since } in in_flight {
            to.value((self.distance(*id), stable_to));
            to.past(Some(*since));
        }
        for Held { until, peer, message } in held {
            to.value(self.distance(*until));
            to.node(*peer);
            to.message(message);
        }
    }

    /// Term or vote have changed.
    pub(super) fn stage_hard_state(&mut self) {
        self.hard_state_staged = true;
        self.hard_state_in = self.next;
    }

    /// Entries at and after `from` that were handed to the storage are gone from the log.
    pub(super) fn stage_truncate(&mut self, from: Index) {
        self.truncate_staged = Some(self.truncate_staged.map_or(from, |staged| staged.min(from)));
        for write in &mut self.in_flight {
            write.stable_to = write.stable_to.min(from - 1);
        }
    }

    pub(super) fn stage_purge(&mut self, upto: LogId) {
        self.purge_staged = Some(upto);
    }

    /// The write that makes term and vote as they are now durable.
    pub(super) fn of_hard_state(&self) -> WriteId {
        self.hard_state_in
    }

    /// The write that makes everything that has been decided so far durable.
    pub(super) fn of_all(&self, log: &Log<C>) -> WriteId {
        let staged = self.hard_state_staged
            || self.truncate_staged.is_some()
            || self.purge_staged.is_some()
            || log.has_unwritten();
        if staged { self.next } else { self.in_flight.back().map_or(self.done, |write| write.id) }
    }

    /// The write that makes the entry at `index` durable.
    pub(super) fn of_entry(&self, index: Index, log: &Log<C>) -> WriteId {
        if index <= log.stable() {
            return self.done;
        }
        if log.written() < index {
            return self.next;
        }
        // The first one that will have it: later ones would only make the peer wait longer.
        self.in_flight.iter().find(|write| index <= write.stable_to).map_or(self.next, |write| write.id)
    }

    pub(super) fn is_done(&self, write: WriteId) -> bool {
        write <= self.done
    }

    /// When the oldest write that has not been completed was handed out.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.in_flight.front().map(|oldest| oldest.since)
    }

    /// Keeps `message` until `until` is durable, or returns it when it already is.
    pub(super) fn hold(
        &mut self,
        until: WriteId,
        peer: C::NodeId,
        message: Message<C>,
    ) -> Option<Message<C>> {
        if self.is_done(until) {
            return Some(message);
        }
        // One acknowledgement speaks for all before it.
        let matched_of = |message: &Message<C>| match message.body {
            Body::AppendResponse { result: AppendResult::Matched { matched } } => Some(matched),
            _ => None,
        };
        if let (Some(matched), Some(last)) = (matched_of(&message), self.held.last_mut())
            && last.peer == peer
            && last.until == until
            && last.message.term == message.term
            && let Some(before) = matched_of(&last.message)
        {
            if before < matched {
                last.message = message;
            }
            return None;
        }
        self.held.push(Held { until, peer, message });
        None
    }

    /// The write that has been put together since the last one, if there is anything to write.
    pub(super) fn take(
        &mut self,
        now: Instant,
        hard_state: HardState<C>,
        log: &mut Log<C>,
    ) -> Option<LogWrite<C>> {
        let append = log.take_unwritten();
        let hard_state_staged = std::mem::take(&mut self.hard_state_staged);
        let truncate = self.truncate_staged.take();
        let purge = self.purge_staged.take();
        if !hard_state_staged && truncate.is_none() && append.is_empty() && purge.is_none() {
            return None;
        }
        let id = self.next;
        self.next = WriteId(id.0 + 1);
        self.in_flight.push_back(InFlight { id, stable_to: log.written(), since: now });
        // The hard state is saved first. Until the truncation is durable too, other entries than the committed ones may
        // stand in the storage from there on: after a crash between the two they must not be taken for committed.
        let certain = truncate.map_or(hard_state.commit, |from| hard_state.commit.min(from - 1));
        let hard_state_to_save = HardState { commit: certain, ..hard_state };
        Some(LogWrite {
            id,
            hard_state: hard_state_staged.then_some(hard_state_to_save),
            truncate,
            purge,
            append,
            commit: hard_state.commit,
        })
    }

    /// `write` and all before it are durable. `release` is given the messages that may leave now.
    pub(super) fn complete(
        &mut self,
        write: WriteId,
        log: &mut Log<C>,
        mut release: impl FnMut(C::NodeId, Message<C>),
    ) {
        assert!(write < self.next, "write {} was never handed out: the next is {}", write.0, self.next.0);
        while let Some(oldest) = self.in_flight.front() {
            if write < oldest.id {
                break;
            }
            log.stable_to(oldest.stable_to);
            self.in_flight.pop_front();
        }
        self.done = self.done.max(write);
        let done = self.done;
        self.held
            .extract_if(.., |held| held.until <= done)
            .for_each(|Held { until: _, peer, message }| release(peer, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Recovered;
    use crate::entry::{Entry, Payload};
    use crate::testing::{U64, start};

    fn acknowledge(matched: Index) -> Message<U64> {
        Message { term: 1, body: Body::AppendResponse { result: AppendResult::Matched { matched } } }
    }

    /// Completes a write and returns what may leave then.
    fn complete(writes: &mut Writes<U64>, write: WriteId, log: &mut Log<U64>) -> Vec<(u64, Message<U64>)> {
        let mut released = Vec::new();
        writes.complete(write, log, |peer, message| released.push((peer, message)));
        released
    }

    fn log() -> Log<U64> {
        let mut recovered = Recovered::empty(1, 1);
        recovered.hard_state.term = 9;
        Log::recover(&recovered).unwrap()
    }

    fn append(log: &mut Log<U64>, term: u64, count: u64) {
        let first = log.last().index + 1;
        let entries = (first..first + count)
            .map(|index| Entry { log_id: LogId::new(term, index), payload: Payload::Blank });
        log.append(entries.collect::<Vec<_>>().into());
    }

    #[test]
    fn a_message_waits_for_the_write_that_it_depends_on_and_for_no_later_one() {
        let (mut writes, mut log) = (Writes::<U64>::new(), log());
        append(&mut log, 1, 2);
        let first = writes.take(start(), HardState::default(), &mut log).unwrap().id;
        append(&mut log, 1, 2);
        let second = writes.take(start(), HardState::default(), &mut log).unwrap().id;
        append(&mut log, 1, 1);
        assert_eq!(writes.of_entry(1, &log), first);
        assert_eq!(writes.of_entry(4, &log), second);
        assert_eq!(writes.of_entry(5, &log), WriteId(second.0 + 1));
        for index in [1, 3, 4] {
            assert!(writes.hold(writes.of_entry(index, &log), index, acknowledge(index)).is_none());
        }
        let peers = |released: Vec<(u64, Message<U64>)>| {
            released.into_iter().map(|(peer, _)| peer).collect::<Vec<_>>()
        };
        assert_eq!(peers(complete(&mut writes, first, &mut log)), vec![1]);
        assert_eq!(log.stable(), 2);
        assert_eq!(peers(complete(&mut writes, second, &mut log)), vec![3, 4]);
        assert!(writes.hold(writes.of_entry(4, &log), 4, acknowledge(4)).is_some());
    }

    #[test]
    fn the_oldest_write_is_the_first_one_that_is_not_done() {
        let (mut writes, mut log) = (Writes::<U64>::new(), log());
        let (now, later) = (start(), start() + std::time::Duration::from_secs(1));
        assert_eq!(writes.oldest_since(), None, "nothing is being written");
        append(&mut log, 1, 2);
        let first = writes.take(now, HardState::default(), &mut log).unwrap().id;
        append(&mut log, 1, 2);
        let second = writes.take(later, HardState::default(), &mut log).unwrap().id;
        assert_eq!(writes.oldest_since(), Some(now));
        complete(&mut writes, first, &mut log);
        assert_eq!(writes.oldest_since(), Some(later));
        complete(&mut writes, second, &mut log);
        assert_eq!(writes.oldest_since(), None);
    }

    #[test]
    fn acknowledgements_for_one_write_are_one_message() {
        let (mut writes, mut log) = (Writes::<U64>::new(), log());
        append(&mut log, 1, 3);
        for matched in [1, 3, 2] {
            assert!(writes.hold(writes.of_entry(matched, &log), 7, acknowledge(matched)).is_none());
        }
        let id = writes.take(start(), HardState::default(), &mut log).unwrap().id;
        let released = complete(&mut writes, id, &mut log);
        let [
            (
                7,
                Message {
                    body: Body::AppendResponse { result: AppendResult::Matched { matched: 3 } }, ..
                },
            ),
        ] = released.as_slice()
        else {
            panic!("{released:?}");
        };
    }

    #[test]
    fn the_completion_of_a_write_is_void_for_entries_that_were_truncated() {
        let (mut writes, mut log) = (Writes::<U64>::new(), log());
        append(&mut log, 1, 5);
        let first = writes.take(start(), HardState::default(), &mut log).unwrap().id;
        assert!(log.truncate(3));
        writes.stage_truncate(3);
        append(&mut log, 2, 4);
        let second = writes.take(start(), HardState::default(), &mut log).unwrap();
        assert_eq!((second.truncate, second.append.range()), (Some(3), 3..7));
        // Entries 3 to 5 of term 1 are on the disk now, but the log has others there.
        complete(&mut writes, first, &mut log);
        assert_eq!(log.stable(), 2);
        complete(&mut writes, second.id, &mut log);
        assert_eq!(log.stable(), 6);
    }

    /// A follower took a new term, a conflicting entry and the news that it is committed in one step, crashed between
    /// saving the hard state and truncating, and applied the old entry when it was back.
    #[test]
    fn the_commit_index_does_not_run_ahead_of_a_truncation() {
        let (mut writes, mut log) = (Writes::<U64>::new(), log());
        append(&mut log, 1, 5);
        writes.take(start(), HardState::default(), &mut log).unwrap();
        assert!(log.truncate(3));
        writes.stage_truncate(3);
        writes.stage_hard_state();
        append(&mut log, 2, 4);
        let hard_state = HardState { term: 2, voted_for: None, commit: 4 };
        let write = writes.take(start(), hard_state, &mut log).unwrap();
        assert_eq!(write.hard_state, Some(HardState { commit: 2, ..hard_state }));
        assert_eq!(write.commit, 4, "with the entries it is right");
    }
}
