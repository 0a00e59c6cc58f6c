//! Who gets the outcomes of writes: callers of one command each, and callers of many.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::entries::Entries;
use crate::entry::{Entry, Index, LogId, Payload};
use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::answers::{Answer, Answers, ManyAnswers, SHARED_BY_MAX, Told};
use super::item::Patience;
use super::limit::{Limit, Permit};

/// Those who wait for the outcomes of commands that follow each other, in the order of their commands.
///
/// Dropping it tells those that still wait that their outcome is unknown: whatever happens to a loop, nobody is left
/// without an answer.
pub(crate) struct Waiters<C: TypeConfig> {
    segments: VecDeque<Segment<C>>,
    /// Who waits for each command of the segments that have callers of one command each.
    callers: VecDeque<Waker>,
    /// How many commands all of them wait for.
    count: u64,
}

/// Waiters whose answers share one allocation.
struct Segment<C: TypeConfig> {
    answers: Arc<Answers<C>>,
    /// The place of the next command in it.
    place: u32,
    /// So many commands are waited for.
    left: u32,
    /// Whether each command has a caller of its own. Otherwise one caller waits for all.
    has_callers: bool,
    patience: Patience,
    /// What the commands were admitted with.
    permit: Permit,
}

impl<C: TypeConfig> Waiters<C> {
    pub(crate) fn new() -> Self {
        Self { segments: VecDeque::new(), callers: VecDeque::new(), count: 0 }
    }

    /// Makes room for the callers of `count` commands.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.segments.reserve(count.div_ceil(SHARED_BY_MAX as usize));
        self.callers.reserve(count);
    }

    /// How many commands they wait for.
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the caller of one command. `admitted` is kept until its answer is told, as part of `limit`.
    pub(crate) fn push_one(
        &mut self,
        caller: &Waker,
        patience: Patience,
        admitted: u64,
        limit: &Arc<Limit>,
    ) -> Answer<C> {
        self.count += 1;
        let expected = self.callers.capacity() - self.callers.len();
        self.callers.push_back(caller.clone());
        if let Some(last) = self.segments.back_mut()
            && last.has_room_for(patience)
        {
            let answer = Answer::new(&last.answers, last.place + last.left);
            last.left += 1;
            last.permit.add_kept(admitted);
            return answer;
        }
        let answers = Answers::to_many(match patience {
            Patience::Waits => expected.clamp(1, SHARED_BY_MAX as usize),
            Patience::AtOnce => 1,
        });
        let answer = Answer::new(&answers, 0);
        let permit = Permit::of_kept(limit, admitted);
        self.segments.push_back(Segment { answers, place: 0, left: 1, has_callers: true, patience, permit });
        answer
    }

    /// Adds the caller of `count` commands, at least one.
    pub(crate) fn push_many(
        &mut self,
        count: u32,
        cx: &Context<'_>,
        patience: Patience,
        admitted: u64,
        limit: &Arc<Limit>,
    ) -> ManyAnswers<C> {
        let answers = ManyAnswers::new(count, cx);
        let permit = Permit::of_kept(limit, admitted);
        let own = answers.answers().clone();
        self.segments.push_back(Segment {
            answers: own,
            place: 0,
            left: count,
            has_callers: false,
            patience,
            permit,
        });
        self.count += u64::from(count);
        answers
    }

    /// Adds those of `later` behind.
    pub(crate) fn join(&mut self, later: &mut Self) {
        self.count += std::mem::take(&mut later.count);
        self.segments.extend(later.segments.drain(..));
        self.callers.extend(later.callers.drain(..));
    }

    /// Cuts off those behind the first `count` commands.
    pub(crate) fn split_off(&mut self, count: u64) -> Self {
        let mut whole = 0;
        let mut before = 0;
        while let Some(segment) = self.segments.get(whole)
            && before + u64::from(segment.left) <= count
        {
            before += u64::from(segment.left);
            whole += 1;
        }
        let mut tail = self.segments.split_off(whole);
        let mut callers: u64 = self.segments.iter().map(Segment::callers).sum();
        if let Some(cut) = tail.front_mut()
            && before < count
        {
            let front = cut.split_front((count - before) as u32);
            callers += front.callers();
            self.segments.push_back(front);
        }
        let callers = self.callers.split_off(callers as usize);
        let tail = Self { segments: tail, callers, count: self.count.saturating_sub(count) };
        self.count -= tail.count;
        tail
    }

    /// The commands were not appended: the outcome of all of them at once.
    pub(crate) fn fail(mut self, error: &WriteError<C>) {
        self.tell_all(|| Told::failed(error.clone()));
    }

    fn tell_all(&mut self, mut told: impl FnMut() -> Told<C>) {
        self.count = 0;
        while let Some(mut segment) = self.segments.pop_front() {
            segment.tell(segment.left, None, std::iter::repeat_with(&mut told), &mut self.callers);
        }
    }

    /// Tells those who do not want to wait why they would have to. Returns which commands are wanted no more: those for
    /// which `false` is returned, in order.
    pub(crate) fn refuse_impatient(&mut self, why: &WriteError<C>) -> Vec<(u32, Patience)> {
        let kinds = self.segments.iter().map(|segment| (segment.left, segment.patience)).collect();
        let mut callers = std::mem::take(&mut self.callers);
        self.segments.retain_mut(|segment| match segment.patience {
            Patience::Waits => {
                self.callers.extend(callers.drain(..segment.callers() as usize));
                true
            }
            Patience::AtOnce => {
                self.count -= u64::from(segment.left);
                let told = || Told::failed(why.clone());
                segment.tell(segment.left, None, std::iter::repeat_with(told), &mut callers);
                false
            }
        });
        kinds
    }

    /// Whether there are any who do not want to wait.
    pub(crate) fn has_impatient(&self) -> bool {
        self.segments.iter().any(|segment| segment.patience == Patience::AtOnce)
    }

    /// Tells what became of the first `count` commands, of which the first is `entry`.
    fn tell(&mut self, mut entry: LogId, mut count: u64, told: &mut impl Iterator<Item = Told<C>>) {
        self.count -= count;
        while 0 < count
            && let Some(segment) = self.segments.front_mut()
        {
            let part = count.min(u64::from(segment.left));
            segment.tell(part as u32, Some(entry), told.by_ref(), &mut self.callers);
            if segment.left == 0 {
                self.segments.pop_front();
            }
            entry.index += part;
            count -= part;
        }
    }
}

impl<C: TypeConfig> Default for Waiters<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: TypeConfig> Drop for Waiters<C> {
    fn drop(&mut self) {
        self.tell_all(Told::lost);
    }
}

impl<C: TypeConfig> Segment<C> {
    /// How many of the callers that stand together are of this one.
    fn callers(&self) -> u64 {
        if self.has_callers { u64::from(self.left) } else { 0 }
    }

    /// Whether one more caller of one command may share the answers.
    fn has_room_for(&self, patience: Patience) -> bool {
        // Who does not want to wait may have to be taken out from among the others.
        patience == Patience::Waits
            && self.patience == Patience::Waits
            && self.has_callers
            && self.place + self.left < SHARED_BY_MAX
    }

    /// Cuts off the first `count` commands.
    fn split_front(&mut self, count: u32) -> Self {
        let permit = self.permit.split(u64::from(count), u64::from(self.left));
        let answers = self.answers.clone();
        let Self { place, has_callers, patience, .. } = *self;
        let front = Self { answers, place, left: count, has_callers, patience, permit };
        self.place += count;
        self.left -= count;
        front
    }

    /// Tells what became of the first `count` commands. `callers` begins with those of this segment.
    fn tell(
        &mut self,
        count: u32,
        entry: Option<LogId>,
        told: impl Iterator<Item = Told<C>>,
        callers: &mut VecDeque<Waker>,
    ) {
        self.answers.tell(self.place, entry, count, told.take(count as usize));
        self.permit.give_back(u64::from(count), u64::from(self.left));
        self.place += count;
        self.left -= count;
        if self.has_callers {
            callers.drain(..count as usize).for_each(Waker::wake);
        }
    }
}

/// Waiters of commands that were appended one behind the other by one leader.
///
/// Dropping it tells those that still wait that the outcome of their entry is unknown.
pub(crate) struct Batch<C: TypeConfig> {
    /// The entry whose outcome is told next.
    next: LogId,
    waiters: Waiters<C>,
}

impl<C: TypeConfig> Batch<C> {
    pub(crate) fn new(first: LogId, waiters: Waiters<C>) -> Self {
        Self { next: first, waiters }
    }

    /// The first entry whose outcome is open.
    pub(crate) fn next(&self) -> LogId {
        self.next
    }

    /// The index behind the last entry.
    pub(crate) fn end(&self) -> Index {
        self.next.index + self.waiters.len()
    }

    /// Whether somebody still waits.
    pub(crate) fn is_open(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Cuts off the entries from `at` on, which must be inside.
    pub(crate) fn split_off(&mut self, at: Index) -> Self {
        let (next, end) = (self.next.index, self.end());
        assert!(next < at && at < end, "cannot cut waiters {next}..{end} at {at}");
        Self { next: LogId::new(self.next.term, at), waiters: self.waiters.split_off(at - next) }
    }

    /// Compares with `entries`, which are applied, and answers those who wait for an entry in the place of which there is
    /// another one: it will never be committed, and nor will those behind it: a log that has any of them has this one too
    /// (Log Matching, Raft paper 5.3). Returns the first that was superseded in this way.
    pub(crate) fn drop_superseded(&mut self, entries: &Entries<C>) -> Option<LogId> {
        let known = entries.range();
        let (next, end) = (self.next.index, self.end().min(known.end));
        if next < known.start || end <= next {
            return None;
        }
        // An entry is known by its whole name.
        let is_own = |index| entries.at(index).is_some_and(|entry| entry.log_id.term == self.next.term);
        // Terms never fall: where the ends are of one term, so is all between them.
        if is_own(next) && is_own(end - 1) {
            return None;
        }
        let at = (next..end).find(|index| !is_own(*index))?;
        let mut superseded = if at == next {
            let waiters = std::mem::take(&mut self.waiters);
            Self { next: self.next, waiters }
        } else {
            self.split_off(at)
        };
        let entry = superseded.next;
        superseded.supersede();
        Some(entry)
    }

    /// The first `count` entries were applied, with these responses.
    pub(crate) fn applied(&mut self, count: u64, responses: &mut impl Iterator<Item = C::Response>) {
        self.tell(count, &mut responses.map(Told::Applied));
    }

    /// None of the commands whose outcome is open will ever be committed.
    pub(crate) fn supersede(&mut self) {
        let dropped = || Told::failed(WriteError::Dropped);
        self.tell(self.waiters.len(), &mut std::iter::repeat_with(dropped));
    }

    fn tell(&mut self, count: u64, told: &mut impl Iterator<Item = Told<C>>) {
        let entry = self.next;
        self.next.index += count;
        self.waiters.tell(entry, count, told);
    }
}

impl<C: TypeConfig> Drop for Batch<C> {
    fn drop(&mut self) {
        let LogId { term, index } = self.next;
        let unknown = |index| Told::failed(WriteError::Unknown { log_id: LogId::new(term, index) });
        self.tell(self.waiters.len(), &mut (index..).map(unknown));
    }
}

/// Answers those who wait for `entries`, which have just been applied. `commands` is how many of them are commands, and
/// `responses` begins with those of these. Returns entries that others have waited for and that were superseded.
pub(super) fn answer<C: TypeConfig>(
    entries: &Entries<C>,
    commands: usize,
    responses: impl Iterator<Item = C::Response>,
    waiting: &mut Vec<Batch<C>>,
) -> Vec<LogId> {
    let superseded = waiting.iter_mut().filter_map(|batch| batch.drop_superseded(entries)).collect();
    // Of several who wait for an entry no more than one has waited for what it was.
    waiting.retain(Batch::is_open);
    waiting.sort_by_key(|batch| batch.next().index);
    let responses = responses.take(commands);
    if commands == entries.len() {
        tell_applied(entries.range(), responses, |_| true, waiting);
    } else {
        let has_command =
            |index| matches!(entries.at(index), Some(Entry { payload: Payload::Command(_), .. }));
        tell_applied(entries.range(), responses, has_command, waiting);
    }
    waiting.retain(Batch::is_open);
    superseded
}

/// Passes the responses of the commands in `range` to those who wait for them. All others are dropped.
fn tell_applied<C: TypeConfig>(
    range: Range<Index>,
    mut responses: impl Iterator<Item = C::Response>,
    has_command: impl Fn(Index) -> bool,
    waiting: &mut [Batch<C>],
) {
    let mut at = range.start;
    for batch in waiting {
        let (next, end) = (batch.next().index, batch.end().min(range.end));
        // What lies outside of the range stays open.
        if end <= next || next < at {
            continue;
        }
        (at..next).filter(|index| has_command(*index)).for_each(|_| drop(responses.next()));
        // Each of those for which somebody waits has a command.
        batch.applied(end - next, &mut responses);
        at = end;
    }
    // Those behind are for somebody else.
    responses.for_each(drop);
}

#[cfg(test)]
pub(super) mod tests;
