//! The content of a snapshot: all tables of the application, as names, keys and values in bytes.
//!
//! It does not depend on the file format of redb, nor on where the nodes of a cluster keep their pages.

use std::io::{self, Read, Write};

use redb::{ReadTransaction, WriteTransaction};

use crate::application::StateTable;
use crate::error::{invalid_data, io_error};

const END: u8 = 0;
const TABLE: u8 = 1;
const PAIR: u8 = 2;

/// How many records are written before it is asked again whether the snapshot is still wanted.
const PAIRS_PER_CHECK: u64 = 1024;

/// Writes all `tables`. Ends early, with an error, when `is_wanted` says no.
pub(crate) fn dump(
    tables: &[StateTable],
    transaction: &ReadTransaction,
    output: &mut impl Write,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut count = 0_u64;
    for table in tables {
        output.write_all(&[TABLE])?;
        let (key, value) = table.types();
        for text in [table.name(), &key, &value] {
            put(output, text.as_bytes())?;
        }
        table.dump(transaction, &mut |key, value| {
            if count.is_multiple_of(PAIRS_PER_CHECK) && !is_wanted() {
                return Err(io::Error::other("the snapshot is not wanted any more"));
            }
            count += 1;
            output.write_all(&[PAIR])?;
            put(output, key)?;
            put(output, value)
        })?;
    }
    output.write_all(&[END])
}

/// Replaces what is in `tables` by the content of a snapshot. A table that the snapshot does not have becomes empty.
pub(crate) fn load(
    tables: &[StateTable],
    transaction: &WriteTransaction,
    input: &mut impl Read,
) -> io::Result<()> {
    for table in tables {
        table.clear(transaction).map_err(io_error)?;
    }
    let mut tag = take_tag(input)?;
    while tag == TABLE {
        let mut name = || String::from_utf8(take(input)?).map_err(|error| invalid_data(error.to_string()));
        let (name, key, value) = (name()?, name()?, name()?);
        let table = find(tables, &name, (key, value))?;
        table.load(transaction, &mut || {
            tag = take_tag(input)?;
            if tag == PAIR { Ok(Some((take(input)?, take(input)?))) } else { Ok(None) }
        })?;
    }
    if tag != END {
        return Err(invalid_data(format!("a snapshot has no part of the kind {tag}")));
    }
    // Reads the end of the file, where the checksum of the whole stands.
    if input.read(&mut [0])? != 0 {
        return Err(invalid_data("the snapshot goes on behind its last table"));
    }
    Ok(())
}

fn find<'a>(tables: &'a [StateTable], name: &str, types: (String, String)) -> io::Result<&'a StateTable> {
    let Some(table) = tables.iter().find(|table| table.name() == name) else {
        return Err(invalid_data(format!(
            "the snapshot has a table {name:?} that this application does not declare: it is of a later version"
        )));
    };
    if table.types() != types {
        let (key, value) = types;
        return Err(invalid_data(format!(
            "the snapshot has {name}<{key}, {value}>, this application {table:?}"
        )));
    }
    Ok(table)
}

fn put(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "a key or value of 4 GiB does not fit into a snapshot")
    })?;
    output.write_all(&len.to_le_bytes())?;
    output.write_all(bytes)
}

fn take_tag(input: &mut impl Read) -> io::Result<u8> {
    let mut tag = [0];
    exactly(input, &mut tag)?;
    Ok(tag[0])
}

fn take(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    exactly(input, &mut len)?;
    let len = u32::from_le_bytes(len);
    // Grows with what is there: a wrong length alone must not ask for all memory.
    let mut bytes = Vec::new();
    if input.take(len.into()).read_to_end(&mut bytes)? < len as usize {
        return Err(invalid_data("the snapshot ends within a record"));
    }
    Ok(bytes)
}

fn exactly(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<()> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => invalid_data("the snapshot ends within a record"),
        _ => error,
    })
}
