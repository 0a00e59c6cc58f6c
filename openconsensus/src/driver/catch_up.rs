//! Reads old entries from the log storage for peers that lag behind what is kept in memory.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use anyerror::AnyError;

use crate::engine::{Input, LogRead};
use crate::entries::Entries;
use crate::entry::Index;
use crate::error::Fatal;
use crate::storage::RaftLogReader;
use crate::type_config::TypeConfig;

use super::inbox::Inbox;
use super::item::Item;
use super::shared::Shared;

/// Carries out the reads of the queue, one after the other, until it is closed. A loop of its own, so that a store
/// that reads slowly holds up neither elections nor the state machine.
pub(super) async fn catch_up_loop<C, D>(
    mut reader: D,
    queue: Arc<Inbox<Vec<LogRead>>>,
    shared: Arc<Shared<C>>,
) -> Result<(), Fatal>
where
    C: TypeConfig,
    D: RaftLogReader<C>,
{
    let mut taken = Vec::new();
    while queue.take(&mut taken).await {
        for LogRead { id, range, bytes_max } in taken.drain(..) {
            let entries = read(&mut reader, range, bytes_max)
                .await
                .map_err(|error| Fatal::LogStorage(AnyError::new(&error)))?;
            // A closed inbox means that the node stops: this loop sees it next.
            let _ = shared.inbox.push(Item::input(Input::LogRead { read: id, entries }));
        }
    }
    Ok(())
}

/// Reads entries and checks that they are the ones that were asked for. They may be fewer, or none.
pub(super) async fn read<C, D>(reader: &mut D, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<C>>
where
    C: TypeConfig,
    D: RaftLogReader<C>,
{
    let entries = reader.read(range.clone(), bytes_max).await.map_err(|error| {
        io::Error::new(error.kind(), format!("reading entries {}..{}: {error}", range.start, range.end))
    })?;
    let found = entries.range();
    if !entries.is_empty() && (found.start != range.start || range.end < found.end) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "asked for entries {}..{}, the log reader returned {}..{}",
                range.start, range.end, found.start, found.end
            ),
        ));
    }
    Ok(entries)
}
