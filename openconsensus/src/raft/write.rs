//! Writes: one command or many, by callers who wait for their turn or want to be told at once.

use std::future::poll_fn;
use std::task::Poll;

use crate::driver::{Admitted, Answer, ManyAnswers, ManyResponses, Patience, Refused};
use crate::error::{Fatal, WriteError};
use crate::type_config::TypeConfig;

use super::Raft;

impl<C: TypeConfig> Raft<C> {
    /// Replicates a command and returns what applying it on this node has returned.
    ///
    /// Waits while [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) bytes of commands are admitted and not
    /// answered; who comes first is admitted first. During a transfer of leadership it waits for its end.
    ///
    /// # Errors
    ///
    /// Every variant says what became of the command and what to do. Only [`WriteError::Unknown`] leaves open whether
    /// it was carried out.
    pub async fn write(&self, command: C::Command) -> Result<C::Response, WriteError<C>> {
        let bytes = self.check_size(&command)?;
        let admitted = self.admit(bytes).await?;
        self.write_one(command, admitted, Patience::Waits).await
    }

    /// As [`write`](Self::write), but never waits for its turn: where `write` would have to, it returns
    /// [`WriteError::Busy`] or [`WriteError::Transferring`] at once, and the command is not appended and never will be.
    /// It does not overtake those who wait. Once the command is on its way, it waits for the outcome like `write`.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write), and the two named above.
    pub async fn try_write(&self, command: C::Command) -> Result<C::Response, WriteError<C>> {
        let bytes = self.check_size(&command)?;
        let admitted = self.try_admit(bytes)?;
        self.write_one(command, admitted, Patience::AtOnce).await
    }

    async fn write_one(
        &self,
        command: C::Command,
        admitted: Admitted<'_>,
        patience: Patience,
    ) -> Result<C::Response, WriteError<C>> {
        let shared = self.shared();
        let mut unasked = Some((command, admitted));
        let mut asked = None;
        poll_fn(|cx| {
            let Some((command, admitted)) = unasked.take() else {
                return asked.as_mut().map_or(Poll::Pending, |answer: &mut Answer<C>| answer.poll(cx));
            };
            let now = || shared.clock.now();
            match shared.inbox.push_write(command, cx.waker(), patience, admitted, now) {
                Ok(answer) => {
                    asked = Some(answer);
                    Poll::Pending
                }
                Err(_refused) => Poll::Ready(Err(shared.reason().into())),
            }
        })
        .await
    }

    /// Replicates commands in their order and returns their responses.
    ///
    /// They are not a transaction: other writes may come between them, and after a failure some may have been carried
    /// out. If that is possible, the error is [`WriteError::Unknown`] with the first entry whose outcome is open, also
    /// where a later command was certainly dropped. Any other error means that none was carried out.
    ///
    /// More than fit into [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) are written in consecutive parts,
    /// each when the one before it is answered.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write). A command that is too large refuses all of them before any is written.
    pub async fn write_many(&self, commands: Vec<C::Command>) -> Result<Vec<C::Response>, WriteError<C>> {
        let mut bytes = 0_u64;
        for command in &commands {
            bytes = bytes.saturating_add(self.check_size(command)?);
        }
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if bytes <= self.shared().writes.max() {
            let admitted = self.admit(bytes).await?;
            return Ok(self.write_part(commands, admitted, Patience::Waits).await?.responses);
        }
        self.write_parts(commands).await
    }

    /// Writes more commands than may be admitted at once.
    async fn write_parts(&self, commands: Vec<C::Command>) -> Result<Vec<C::Response>, WriteError<C>> {
        let mut responses = Vec::with_capacity(commands.len());
        let mut first = None;
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let (part, bytes) = self.next_part(&mut commands);
            let admitted = match self.admit(bytes).await {
                Ok(admitted) => admitted,
                Err(fatal) => return Err(first.map_or(fatal.into(), |log_id| WriteError::Unknown { log_id })),
            };
            match self.write_part(part, admitted, Patience::Waits).await {
                Ok(answered) => {
                    first.get_or_insert(answered.first);
                    responses.extend(answered.responses);
                }
                Err(unknown @ WriteError::Unknown { .. }) => return Err(unknown),
                // The parts before this one were carried out: a retry of the whole would carry them out twice.
                Err(
                    error @ (WriteError::NotLeader { .. }
                    | WriteError::TooLarge { .. }
                    | WriteError::Busy { .. }
                    | WriteError::Transferring
                    | WriteError::Dropped
                    | WriteError::Fatal(_)),
                ) => return Err(first.map_or(error, |log_id| WriteError::Unknown { log_id })),
            }
        }
        Ok(responses)
    }

    /// As [`write_many`](Self::write_many), but never waits for its turn: either all commands are admitted at once, or
    /// [`WriteError::Busy`] or [`WriteError::Transferring`] says at once that none of them is appended and never will be.
    /// More than fit into [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) are always refused: send fewer.
    ///
    /// # Errors
    ///
    /// As for [`write_many`](Self::write_many), and the two named above.
    pub async fn try_write_many(&self, commands: Vec<C::Command>) -> Result<Vec<C::Response>, WriteError<C>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut bytes = 0_u64;
        for command in &commands {
            bytes = bytes.saturating_add(self.check_size(command)?);
        }
        let limit = self.shared().writes.max();
        // One command is let through alone, however large; many can be sent in parts.
        if limit < bytes && 1 < commands.len() {
            return Err(WriteError::Busy { bytes, limit });
        }
        let admitted = self.try_admit(bytes)?;
        Ok(self.write_part(commands, admitted, Patience::AtOnce).await?.responses)
    }

    /// As many commands as may be admitted at once, at least one, and their bytes.
    fn next_part(
        &self,
        commands: &mut std::iter::Peekable<std::vec::IntoIter<C::Command>>,
    ) -> (Vec<C::Command>, u64) {
        let bytes_max = self.shared().writes.max();
        let mut part = Vec::with_capacity(commands.len());
        let mut bytes = 0_u64;
        while let Some(command) = commands.next_if(|command| {
            part.is_empty() || bytes.saturating_add(admitted_bytes::<C>(command)) <= bytes_max
        }) {
            bytes = bytes.saturating_add(admitted_bytes::<C>(&command));
            part.push(command);
        }
        (part, bytes)
    }

    async fn write_part(
        &self,
        commands: Vec<C::Command>,
        admitted: Admitted<'_>,
        patience: Patience,
    ) -> Result<ManyResponses<C>, WriteError<C>> {
        let shared = self.shared();
        let mut unasked = Some((commands, admitted));
        let mut asked = None;
        poll_fn(|cx| {
            let Some((commands, admitted)) = unasked.take() else {
                return asked.as_mut().map_or(Poll::Pending, |answers: &mut ManyAnswers<C>| answers.poll(cx));
            };
            let now = || shared.clock.now();
            match shared.inbox.push_writes(commands, cx, patience, admitted, now) {
                Ok(answers) => {
                    asked = Some(answers);
                    Poll::Pending
                }
                Err(_refused) => Poll::Ready(Err(shared.reason().into())),
            }
        })
        .await
    }

    /// What the command counts with where it is admitted, if it is not too large.
    pub(super) fn check_size(&self, command: &C::Command) -> Result<u64, WriteError<C>> {
        let (bytes, limit) = (C::command_bytes(command), self.shared().config.command_bytes_max);
        if bytes <= limit {
            Ok(bytes.saturating_add(WRITE_OVERHEAD_BYTES))
        } else {
            Err(WriteError::TooLarge { bytes, limit })
        }
    }

    async fn admit(&self, bytes: u64) -> Result<Admitted<'_>, Fatal> {
        self.shared().admit(bytes).await.ok_or_else(|| self.shared().reason())
    }

    fn try_admit(&self, bytes: u64) -> Result<Admitted<'_>, WriteError<C>> {
        let writes = &self.shared().writes;
        writes.try_admit(bytes).map_err(|refused| match refused {
            Refused::Busy { used } => {
                WriteError::Busy { bytes: used.saturating_add(bytes), limit: writes.max() }
            }
            Refused::Closed => self.shared().reason().into(),
        })
    }
}

/// What a command counts towards the limit of admitted bytes.
fn admitted_bytes<C: TypeConfig>(command: &C::Command) -> u64 {
    C::command_bytes(command).saturating_add(WRITE_OVERHEAD_BYTES)
}

/// What a write takes beside its command: its entry, its place in the inbox, and the way back for its answer. An entry costs
/// memory even if its command is empty.
pub(crate) const WRITE_OVERHEAD_BYTES: u64 = 256;
