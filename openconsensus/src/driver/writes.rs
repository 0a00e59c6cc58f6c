//! Commands on their way to the engine, and who waits for them.

use std::task::{Context, Waker};

use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::answers::{Answer, ManyAnswers};
use super::item::Patience;
use super::limit::Admitted;
use super::waiters::Waiters;

/// So many bytes of room are made at most for commands that may never come.
const RESERVED_BYTES_MAX: usize = 256 << 10;

/// Commands that nobody has looked at yet, and who waits for them.
pub(crate) struct Writes<C: TypeConfig> {
    pub(super) commands: Vec<C::Command>,
    pub(super) waiters: Waiters<C>,
}

impl<C: TypeConfig> Default for Writes<C> {
    fn default() -> Self {
        Self { commands: Vec::new(), waiters: Waiters::new() }
    }
}

impl<C: TypeConfig> Writes<C> {
    /// Makes room for `count` commands. By whoever takes them out again: what one thread allocates and another one frees
    /// has them meet at a lock of the allocator.
    pub(super) fn reserve(&mut self, count: usize) {
        let count = count.min(RESERVED_BYTES_MAX / size_of::<C::Command>().max(1));
        self.commands.reserve(count);
        self.waiters.reserve(count);
    }

    pub(crate) fn push_one(
        &mut self,
        command: C::Command,
        caller: &Waker,
        patience: Patience,
        admitted: Admitted<'_>,
    ) -> Answer<C> {
        let limit = admitted.limit();
        self.commands.push(command);
        self.waiters.push_one(caller, patience, admitted.keep(), limit)
    }

    pub(crate) fn push_many(
        &mut self,
        commands: Vec<C::Command>,
        cx: &Context<'_>,
        patience: Patience,
        admitted: Admitted<'_>,
    ) -> ManyAnswers<C> {
        let limit = admitted.limit();
        let count = u32::try_from(commands.len()).expect("so many commands are cut into parts");
        if self.commands.is_empty() && self.commands.capacity() < commands.len() {
            self.commands = commands;
        } else {
            self.commands.extend(commands);
        }
        self.waiters.push_many(count, cx, patience, admitted.keep(), limit)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Moves those of `later` behind.
    pub(super) fn join(&mut self, later: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, later);
        } else {
            self.commands.extend(std::mem::take(&mut later.commands));
            self.waiters.join(&mut later.waiters);
        }
    }

    /// Takes the first ones, `count_max` at most.
    pub(super) fn take(&mut self, count_max: usize) -> Self {
        if self.commands.len() <= count_max {
            return std::mem::take(self);
        }
        let commands = self.commands.split_off(count_max);
        let waiters = self.waiters.split_off(count_max as u64);
        std::mem::replace(self, Self { commands, waiters })
    }

    /// Those who do not want to wait are told why they would have to, and their commands are gone.
    pub(super) fn refuse_impatient(&mut self, why: &WriteError<C>) {
        if !self.waiters.has_impatient() {
            return;
        }
        let mut commands = std::mem::take(&mut self.commands).into_iter();
        for (count, patience) in self.waiters.refuse_impatient(why) {
            let own = commands.by_ref().take(count as usize);
            match patience {
                Patience::Waits => self.commands.extend(own),
                Patience::AtOnce => own.for_each(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::super::waiters::tests::{answers, limit};
    use super::*;
    use crate::testing::U64;

    fn push(writes: &mut Writes<U64>, command: u64, patience: Patience) -> Answer<U64> {
        writes.push_one(command, Waker::noop(), patience, limit().try_admit(1).ok().unwrap())
    }

    /// Each waiter is told the number of its command.
    fn tell_numbers(mut writes: Writes<U64>) {
        for command in writes.commands {
            let rest = writes.waiters.split_off(1);
            writes.waiters.fail(&WriteError::TooLarge { bytes: command, limit: 0 });
            writes.waiters = rest;
        }
        assert!(writes.waiters.is_empty());
    }

    fn numbers(replies: &mut [Answer<U64>]) -> Vec<u64> {
        let number = |answer| match answer {
            Some(Err(WriteError::TooLarge { bytes, .. })) => bytes,
            answer => panic!("{answer:?}"),
        };
        answers(replies).into_iter().map(number).collect()
    }

    #[test]
    fn who_does_not_wait_is_refused_and_the_others_keep_their_commands_and_their_order() {
        let mut writes = Writes::default();
        let mut patient = Vec::new();
        let mut impatient = Vec::new();
        for number in 0..9_u64 {
            let patience = if number % 3 == 1 { Patience::AtOnce } else { Patience::Waits };
            let reply = push(&mut writes, number, patience);
            if patience == Patience::AtOnce { impatient.push(reply) } else { patient.push(reply) }
        }
        let mut cx = Context::from_waker(Waker::noop());
        let admitted = limit().try_admit(1).ok().unwrap();
        let mut many = writes.push_many(vec![20, 21, 22], &cx, Patience::AtOnce, admitted);
        patient.push(push(&mut writes, 9, Patience::Waits));

        writes.refuse_impatient(&WriteError::Transferring);
        writes.refuse_impatient(&WriteError::Transferring);
        assert_eq!(answers(&mut impatient), [(); 3].map(|()| Some(Err(WriteError::Transferring))));
        assert!(matches!(many.poll(&mut cx), Poll::Ready(Err(WriteError::Transferring))));
        assert_eq!(writes.commands, [0, 2, 3, 5, 6, 8, 9]);
        assert_eq!(writes.waiters.len(), 7);
        tell_numbers(writes);
        assert_eq!(numbers(&mut patient), [0, 2, 3, 5, 6, 8, 9], "each waiter has its own command");
    }

    #[test]
    fn however_they_are_joined_and_taken_each_waiter_has_its_own_command() {
        for count_max in 1..9 {
            let (mut writes, mut later) = (Writes::default(), Writes::default());
            let mut replies: Vec<_> = (0..5).map(|n| push(&mut writes, n, Patience::Waits)).collect();
            replies.extend((5..9).map(|n| push(&mut later, n, Patience::Waits)));
            writes.join(&mut later);
            assert!(later.is_empty());
            while !writes.is_empty() {
                let taken = writes.take(count_max);
                assert!(!taken.is_empty() && taken.commands.len() <= count_max);
                tell_numbers(taken);
            }
            assert_eq!(numbers(&mut replies), (0..9).collect::<Vec<_>>());
        }
    }
}
