//! What clients want and the engine has not been asked for yet.

use std::collections::VecDeque;
use std::time::Instant;

use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::item::{Patience, Reader};
use super::waiters::Waiter;

/// What clients want, put together so that the engine is asked once in a turn.
pub(super) struct Gathered<C: TypeConfig> {
    /// Kept back while the engine holds writes.
    commands: Vec<C::Command>,
    /// Who waits for them, in the same order.
    writers: VecDeque<Waiter<C>>,
    /// Which of the writers do not wait while commands are kept back: the place of the writer, and that of its first
    /// command.
    at_once: Vec<(usize, usize)>,
    /// When the first of the writers has asked.
    written_at: Option<Instant>,
    readers: Vec<Reader<C>>,
    lease_readers: Vec<Reader<C>>,
}

impl<C: TypeConfig> Gathered<C> {
    pub(super) fn new() -> Self {
        Self {
            commands: Vec::new(),
            writers: VecDeque::new(),
            at_once: Vec::new(),
            written_at: None,
            readers: Vec::new(),
            lease_readers: Vec::new(),
        }
    }

    /// `since` is when the writer has asked, or one who came before it.
    pub(super) fn write(
        &mut self,
        since: Instant,
        commands: impl IntoIterator<Item = C::Command>,
        waiter: Waiter<C>,
        patience: Patience,
    ) {
        match patience {
            Patience::Waits => {}
            Patience::AtOnce => self.at_once.push((self.writers.len(), self.commands.len())),
        }
        self.commands.extend(commands);
        self.writers.push_back(waiter);
        self.written_at.get_or_insert(since);
    }

    pub(super) fn read(&mut self, reader: Reader<C>) {
        self.readers.push(reader);
    }

    pub(super) fn read_by_lease(&mut self, reader: Reader<C>) {
        self.lease_readers.push(reader);
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// All commands, who waits for them, and when the first of those has asked.
    pub(super) fn take_writes(&mut self) -> (Vec<C::Command>, VecDeque<Waiter<C>>, Option<Instant>) {
        self.at_once.clear();
        (std::mem::take(&mut self.commands), std::mem::take(&mut self.writers), self.written_at.take())
    }

    /// All readers, those who take a lease for proof apart.
    pub(super) fn take_readers(&mut self) -> (Vec<Reader<C>>, Vec<Reader<C>>) {
        (std::mem::take(&mut self.readers), std::mem::take(&mut self.lease_readers))
    }

    /// Commands are kept back: those who do not wait for that are told why, and their commands are gone.
    pub(super) fn refuse_impatient(&mut self, why: &WriteError<C>) {
        let Some((first_writer, first_command)) = self.at_once.first().copied() else { return };
        let mut commands = self.commands.split_off(first_command).into_iter();
        let writers = self.writers.split_off(first_writer);
        let mut at_once = std::mem::take(&mut self.at_once).into_iter().map(|(writer, _)| writer).peekable();
        for (writer, waiter) in (first_writer..).zip(writers) {
            let own = commands.by_ref().take(waiter.len() as usize);
            if at_once.next_if_eq(&writer).is_some() {
                own.for_each(drop);
                waiter.fail(why.clone());
            } else {
                self.commands.extend(own);
                self.writers.push_back(waiter);
            }
        }
        if self.writers.is_empty() {
            self.written_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::oneshot;

    use super::super::waiters::tests::{answers, one, permit};
    use super::*;
    use crate::testing::{U64, start};

    #[test]
    fn who_does_not_wait_is_refused_and_the_others_keep_their_commands_and_their_order() {
        let mut gathered = Gathered::<U64>::new();
        let mut patient = Vec::new();
        let mut impatient = Vec::new();
        let (reply, mut many) = oneshot::channel();
        for number in 0..9_u64 {
            let (waiter, reply) = one();
            let patience = if number % 3 == 1 { Patience::AtOnce } else { Patience::Waits };
            gathered.write(start(), [number], waiter, patience);
            if patience == Patience::AtOnce { impatient.push(reply) } else { patient.push(reply) }
        }
        gathered.write(start(), [20, 21, 22], Waiter::many(3, reply, permit()), Patience::AtOnce);
        let (waiter, reply) = one();
        gathered.write(start(), [9], waiter, Patience::Waits);
        patient.push(reply);

        gathered.refuse_impatient(&WriteError::Transferring);
        gathered.refuse_impatient(&WriteError::Transferring);
        assert_eq!(answers(&mut impatient), [(); 3].map(|()| Some(Err(WriteError::Transferring))));
        assert!(matches!(many.try_recv(), Ok(Some(Err(WriteError::Transferring)))));
        let (commands, writers, _) = gathered.take_writes();
        assert_eq!(commands, [0, 2, 3, 5, 6, 8, 9]);
        assert_eq!(writers.len(), commands.len());
        for (waiter, command) in writers.into_iter().zip(&commands) {
            waiter.fail(WriteError::TooLarge { bytes: *command, limit: 0 });
        }
        let told = answers(&mut patient).into_iter().map(|answer| match answer {
            Some(Err(WriteError::TooLarge { bytes, .. })) => bytes,
            answer => panic!("{answer:?}"),
        });
        assert_eq!(told.collect::<Vec<_>>(), commands, "each waiter has its own command");
        assert!(!gathered.has_commands());
    }
}
