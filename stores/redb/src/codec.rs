//! How values become bytes: postcard through serde, each record sealed by a checksum.

use std::io;

use openconsensus::{Entry, Index, LogId, Payload, Term, TypeConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::invalid_data;

/// A [`TypeConfig`] whose types can be stored: they are serialized with serde, as postcard, and may be sent to the
/// store's own thread. Holds for every type configuration that fulfils the bounds.
pub trait StoredConfig:
    TypeConfig<
        Command: Serialize + DeserializeOwned + Send + Sync,
        Response: Send,
        NodeId: Serialize + DeserializeOwned + Send + Sync,
        Node: Serialize + DeserializeOwned + Send + Sync,
    > + Send
    + Sync
{
}

impl<C> StoredConfig for C
where
    C: TypeConfig + Send + Sync,
    C::Command: Serialize + DeserializeOwned + Send + Sync,
    C::Response: Send,
    C::NodeId: Serialize + DeserializeOwned + Send + Sync,
    C::Node: Serialize + DeserializeOwned + Send + Sync,
{
}

/// Bytes of the checksum at the start of every record.
const SEAL_BYTES: usize = 4;

/// Fills `buffer` with a record: the checksum, then what `write` appends. The checksum covers `key` too, so that a
/// record that turns up under another key is not taken for good.
pub(crate) fn seal<R>(buffer: &mut Vec<u8>, key: &[u8], write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    buffer.clear();
    buffer.extend_from_slice(&[0; SEAL_BYTES]);
    let result = write(buffer);
    let sum = checksum(key, &buffer[SEAL_BYTES..]);
    buffer[..SEAL_BYTES].copy_from_slice(&sum.to_le_bytes());
    result
}

/// The body of a record that [`seal`] made under `key`.
pub(crate) fn unseal<'a>(record: &'a [u8], key: &[u8]) -> io::Result<&'a [u8]> {
    let Some((sum, body)) = record.split_first_chunk::<SEAL_BYTES>() else {
        return Err(invalid_data(format!("a record of {} bytes is too short to be one", record.len())));
    };
    if u32::from_le_bytes(*sum) != checksum(key, body) {
        return Err(invalid_data("the checksum of a record is wrong"));
    }
    Ok(body)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Appends `value` as postcard.
pub(crate) fn encode<T: Serialize>(buffer: &mut Vec<u8>, value: &T) -> io::Result<()> {
    // `to_extend` takes the buffer and gives it back: nothing is copied.
    let taken = std::mem::take(buffer);
    *buffer = postcard::to_extend(value, taken).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("cannot be encoded: {error}"))
    })?;
    Ok(())
}

/// Reads a value that fills `bytes` to the last.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(invalid_data(format!("{} bytes too many in a record", rest.len()))),
        Err(error) => Err(invalid_data(format!("a record cannot be decoded: {error}"))),
    }
}

/// A value sealed under `key`.
pub(crate) fn encode_record<T: Serialize>(key: &str, value: &T) -> io::Result<Vec<u8>> {
    let mut record = Vec::new();
    seal(&mut record, key.as_bytes(), |buffer| encode(buffer, value))?;
    Ok(record)
}

/// The value of a record that [`encode_record`] made under `key`.
pub(crate) fn decode_record<T: DeserializeOwned>(key: &str, record: &[u8]) -> io::Result<T> {
    decode(unseal(record, key.as_bytes())?)
}

/// Fills `buffer` with the record of an entry: checksum, term, kind, payload.
pub(crate) fn encode_entry<C: StoredConfig>(buffer: &mut Vec<u8>, entry: &Entry<C>) -> io::Result<()> {
    let LogId { term, index } = entry.log_id;
    seal(buffer, &index.to_le_bytes(), |buffer| {
        buffer.extend_from_slice(&term.to_le_bytes());
        match &entry.payload {
            Payload::Blank => buffer.push(0),
            Payload::Command(command) => {
                buffer.push(1);
                encode(buffer, command)?;
            }
            Payload::Membership(membership) => {
                buffer.push(2);
                encode(buffer, membership)?;
            }
        }
        Ok(())
    })
}

/// The term of the entry at `index`, whose record has been checked to be whole.
pub(crate) fn entry_term(index: Index, record: &[u8]) -> io::Result<Term> {
    Ok(split_entry(index, record)?.0)
}

/// The entry at `index`.
pub(crate) fn decode_entry<C: StoredConfig>(index: Index, record: &[u8]) -> io::Result<Entry<C>> {
    let (term, rest) = split_entry(index, record)?;
    let payload = match rest {
        [0] => Payload::Blank,
        [1, command @ ..] => Payload::Command(decode(command)?),
        [2, membership @ ..] => Payload::Membership(decode(membership)?),
        _ => return Err(invalid_data(format!("entry {index} is of an unknown kind"))),
    };
    Ok(Entry { log_id: LogId::new(term, index), payload })
}

fn split_entry(index: Index, record: &[u8]) -> io::Result<(Term, &[u8])> {
    let body = unseal(record, &index.to_le_bytes())
        .map_err(|error| invalid_data(format!("entry {index}: {error}")))?;
    match body.split_first_chunk::<8>() {
        Some((term, rest)) if !rest.is_empty() => Ok((Term::from_le_bytes(*term), rest)),
        _ => Err(invalid_data(format!("entry {index} is too short"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openconsensus_memstore::kv::{Command, Kv};

    fn entry() -> Entry<Kv> {
        let command = Command::Put { key: "k".into(), value: vec![7] };
        Entry { log_id: LogId::new(3, 0x0102), payload: Payload::Command(command) }
    }

    #[test]
    fn an_entry_is_laid_out_as_documented() {
        let mut record = Vec::new();
        encode_entry(&mut record, &entry()).unwrap();
        // Term 3, kind 1, then postcard: variant 0 (`Put`), a string of 1 byte, a list of 1 byte.
        assert_eq!(record[4..], [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'k', 1, 7]);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[2, 1, 0, 0, 0, 0, 0, 0]);
        hasher.update(&record[4..]);
        assert_eq!(record[..4], hasher.finalize().to_le_bytes());
        assert_eq!(decode_entry::<Kv>(0x0102, &record).unwrap(), entry());
    }

    #[test]
    fn a_record_with_any_bit_changed_or_any_byte_missing_is_refused() {
        let mut record = Vec::new();
        encode_entry(&mut record, &entry()).unwrap();
        for bit in 0..record.len() * 8 {
            let mut wrong = record.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry::<Kv>(0x0102, &wrong).is_err(), "bit {bit}");
        }
        for len in 0..record.len() {
            assert!(decode_entry::<Kv>(0x0102, &record[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(decode_entry::<Kv>(0x0103, &record).is_err(), "under another index");
    }
}
