//! Entries as bytes: encoded once for the disk and for all peers.

use std::fmt::Display;
use std::sync::OnceLock;

use bytes::Bytes;

use super::{Batch, Chunk, Entries, Repr};
use crate::entry::{Entry, Index, LogId, Payload};
use crate::membership::Membership;
use crate::runtime::{MaybeSend, MaybeSync};
use crate::type_config::TypeConfig;

/// How what an application puts into the log becomes bytes and comes back: on disk and on the wire alike.
///
/// Decoding meets bytes from outside: it must return an error where they make no sense, must not panic, and must not
/// allocate much more than there are bytes.
pub trait EntryCodec<C: TypeConfig>: MaybeSend + MaybeSync + 'static {
    /// The name of the encoding, with a version. Two codecs of one name write the same bytes for the same value: what one
    /// of them has encoded is used where the other one is asked.
    const NAME: &'static str;

    /// Appends the encoding of `command` to `out`.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    fn encode_command(command: &C::Command, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The command that is encoded by all of `bytes`. It may keep parts of `bytes` instead of copying them; they then stay
    /// in memory together with all entries that came in the same batch.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a command.
    fn decode_command(bytes: Bytes) -> Result<C::Command, CodecError>;

    /// Appends the encoding of `membership` to `out`.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    fn encode_membership(membership: &Membership<C>, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The membership that is encoded by all of `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a membership.
    fn decode_membership(bytes: Bytes) -> Result<Membership<C>, CodecError>;

    /// Appends the encoding of the name of a node to `out`.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    fn encode_node_id(id: &C::NodeId, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The name of a node that is encoded by all of `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a name.
    fn decode_node_id(bytes: Bytes) -> Result<C::NodeId, CodecError>;
}

/// Bytes could not be read, or a value could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

impl CodecError {
    /// An error with the text of another one.
    pub fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

/// The records of one allocation of entries, once somebody has asked for them.
pub(super) type Cache = OnceLock<Records>;

pub(super) struct Records {
    codec: &'static str,
    bytes: Result<Bytes, CodecError>,
}

/// What stands in a record before the payload: the number of bytes behind it, the kind and the term.
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = 9;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Consecutive entries as records, in the order of their indexes.
///
/// A record is, in little-endian numbers: the number of bytes that follow (4 bytes), the kind (1 byte: 0 blank, 1
/// command, 2 membership), the term (8 bytes), and the payload as its [`EntryCodec`] writes it. The index is not
/// in it: it follows from that of the first entry, which whoever stores or sends records adds.
#[derive(Clone, Debug, Default)]
pub struct EncodedEntries {
    parts: Vec<Bytes>,
}

impl EncodedEntries {
    /// The bytes of all records, in parts that follow each other. A record is whole in one part.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The parts, to keep.
    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// How many bytes there are in all.
    pub fn len_bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

impl<C: TypeConfig> Entries<C> {
    /// The entries as bytes. An allocation of entries is encoded when that is first asked of any view of it, and the bytes
    /// are shared by all who ask later: the disk and each of the peers.
    ///
    /// # Errors
    ///
    /// When a payload cannot be encoded, or is larger than 4 GiB.
    pub fn encoded<K: EntryCodec<C>>(&self) -> Result<EncodedEntries, CodecError> {
        let parts = self.chunks().iter().map(Chunk::encoded::<K>).collect::<Result<_, _>>()?;
        Ok(EncodedEntries { parts })
    }

    /// The entries from index `first` on whose records are all of `bytes`, in the form of [`EncodedEntries`]. The bytes are
    /// kept: who asks for the encoding of these entries gets them back.
    ///
    /// # Errors
    ///
    /// When the bytes are not such records, terms fall, or an index is 0 or too large.
    pub fn decode<K: EntryCodec<C>>(first: Index, bytes: Bytes) -> Result<Self, CodecError> {
        let mut entries: Vec<Entry<C>> = Vec::new();
        let mut rest = bytes.clone();
        let mut next = LogId::new(0, first);
        while !rest.is_empty() {
            let entry = decode_record::<C, K>(next, &mut rest)?;
            next = LogId::new(entry.log_id.term, entry.log_id.index + 1);
            entries.push(entry);
        }
        if entries.is_empty() {
            return Ok(Self::empty());
        }
        let records = Records { codec: K::NAME, bytes: Ok(bytes) };
        Ok(Self { repr: Repr::One(Chunk::whole(Batch::new(entries, OnceLock::from(records)))) })
    }
}

impl<C: TypeConfig> Chunk<C> {
    fn encoded<K: EntryCodec<C>>(&self) -> Result<Bytes, CodecError> {
        let entries = &self.batch.entries;
        // The disk and the peers ask at about the same time: all but the first wait for it instead of doing the same.
        let records =
            self.batch.encoded.get_or_init(|| Records { codec: K::NAME, bytes: encode::<C, K>(entries) });
        if records.codec != K::NAME {
            return encode::<C, K>(self.as_slice());
        }
        let records = records.bytes.as_ref().map_err(CodecError::clone)?;
        let start = records_end(records, 0, self.start);
        if self.end == entries.len() {
            return Ok(records.slice(start..));
        }
        let end = records_end(records, start, self.end - self.start);
        Ok(records.slice(start..end))
    }
}

/// Where the record ends that is `count` records behind the place `at`.
fn records_end(records: &[u8], mut at: usize, count: usize) -> usize {
    for _ in 0..count {
        at += LENGTH_BYTES + read_length(&records[at..]).unwrap_or(0);
    }
    at
}

fn read_length(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<LENGTH_BYTES>().map(|length| u32::from_le_bytes(*length) as usize)
}

fn encode<C: TypeConfig, K: EntryCodec<C>>(entries: &[Entry<C>]) -> Result<Bytes, CodecError> {
    let size: u64 = entries.iter().map(Entry::size_bytes).sum();
    let mut out = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    for entry in entries {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        let kind = match &entry.payload {
            Payload::Blank => BLANK,
            Payload::Command(_) => COMMAND,
            Payload::Membership(_) => MEMBERSHIP,
        };
        out.push(kind);
        out.extend_from_slice(&entry.log_id.term.to_le_bytes());
        match &entry.payload {
            Payload::Blank => {}
            Payload::Command(command) => K::encode_command(command, &mut out)?,
            Payload::Membership(membership) => K::encode_membership(membership, &mut out)?,
        }
        let length = out.len() - start - LENGTH_BYTES;
        let length = u32::try_from(length)
            .map_err(|_| CodecError(format!("entry {} has {length} bytes: at most 4 GiB", entry.log_id)))?;
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }
    // What was reserved by estimate and not used would stay in memory as long as the entries.
    out.shrink_to_fit();
    Ok(out.into())
}

/// Takes the record of the entry at `at.index` from the front of `rest`. `at.term` is that of the entry before it.
fn decode_record<C: TypeConfig, K: EntryCodec<C>>(
    at: LogId,
    rest: &mut Bytes,
) -> Result<Entry<C>, CodecError> {
    let LogId { term: term_min, index } = at;
    if index == 0 || index == Index::MAX {
        return Err(CodecError(format!("an entry cannot have index {index}")));
    }
    let length = read_length(rest).filter(|length| *length <= rest.len() - LENGTH_BYTES);
    let Some(length) = length else {
        return Err(CodecError(format!("the record of entry {index} is cut off")));
    };
    let mut record = rest.split_to(LENGTH_BYTES + length).slice(LENGTH_BYTES..);
    let Some([kind, term @ ..]) = record.first_chunk::<HEAD_BYTES>().copied() else {
        return Err(CodecError(format!("the record of entry {index} has {length} bytes: too few")));
    };
    let term = u64::from_le_bytes(term);
    if term < term_min {
        return Err(CodecError(format!("entry {index} has term {term}, the one before it {term_min}")));
    }
    let payload = record.split_off(HEAD_BYTES);
    let payload = match kind {
        BLANK if payload.is_empty() => Payload::Blank,
        COMMAND => Payload::Command(K::decode_command(payload)?),
        MEMBERSHIP => Payload::Membership(K::decode_membership(payload)?),
        _ => return Err(CodecError(format!("entry {index} is of an unknown kind, {kind}"))),
    };
    Ok(Entry { log_id: LogId::new(term, index), payload })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::U64;

    static ENCODED: AtomicUsize = AtomicUsize::new(0);

    /// Numbers in eight bytes. Counts what it encodes.
    struct Fixed;

    /// The same bytes backwards, under another name.
    struct Other;

    fn number(bytes: &[u8]) -> Result<u64, CodecError> {
        let bytes = bytes.try_into().map_err(|_| CodecError::new("not eight bytes"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    macro_rules! codec {
        ($name:ident, $text:literal, $encode:expr, $decode:expr) => {
            impl EntryCodec<U64> for $name {
                const NAME: &'static str = $text;
                fn encode_command(command: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
                    out.extend($encode(*command));
                    Ok(())
                }
                fn decode_command(bytes: Bytes) -> Result<u64, CodecError> {
                    number(&bytes).map($decode)
                }
                fn encode_membership(_: &Membership<U64>, out: &mut Vec<u8>) -> Result<(), CodecError> {
                    out.push(1);
                    Ok(())
                }
                fn decode_membership(_: Bytes) -> Result<Membership<U64>, CodecError> {
                    Ok(Membership::default())
                }
                fn encode_node_id(id: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
                    out.extend(id.to_le_bytes());
                    Ok(())
                }
                fn decode_node_id(bytes: Bytes) -> Result<u64, CodecError> {
                    number(&bytes)
                }
            }
        };
    }
    codec!(
        Fixed,
        "fixed/1",
        |n: u64| {
            ENCODED.fetch_add(1, Ordering::Relaxed);
            n.to_le_bytes()
        },
        |n| n
    );
    codec!(Other, "other/1", |n: u64| n.to_be_bytes(), u64::swap_bytes);

    fn entry(term: u64, index: Index, payload: Payload<U64>) -> Entry<U64> {
        Entry { log_id: LogId::new(term, index), payload }
    }

    fn all(records: &EncodedEntries) -> Vec<u8> {
        records.parts().concat()
    }

    #[test]
    fn a_record_is_laid_out_as_documented_and_comes_back() {
        let entries = Entries::from(vec![
            entry(1, 7, Payload::Blank),
            entry(2, 8, Payload::Command(0x0102)),
            entry(2, 9, Payload::Membership(Membership::default())),
        ]);
        let bytes = all(&entries.encoded::<Other>().unwrap());
        let blank = [9, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let command = [17, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        let membership = [10, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(bytes, [&blank[..], &command, &membership].concat());
        assert_eq!(Entries::decode::<Other>(7, bytes.into()).unwrap(), entries);
    }

    #[test]
    fn an_allocation_is_encoded_once_whoever_asks_for_whichever_part() {
        let entries: Vec<_> = (1..=9).map(|index| entry(1, index, Payload::Command(index * 3))).collect();
        let joined =
            Entries::concat([Entries::from(entries[..4].to_vec()), Entries::from(entries[4..].to_vec())]);
        let before = ENCODED.load(Ordering::Relaxed);
        for start in 1..=9 {
            for end in start + 1..=10 {
                let view = joined.slice(start..end);
                let records = view.encoded::<Fixed>().unwrap();
                assert_eq!(records.len_bytes(), 21 * view.len());
                assert_eq!(Entries::decode::<Fixed>(start, all(&records).into()).unwrap(), view);
                let other = all(&view.encoded::<Other>().unwrap());
                assert_eq!(Entries::decode::<Other>(start, other.into()).unwrap(), view);
            }
        }
        assert_eq!(ENCODED.load(Ordering::Relaxed) - before, 9);
    }

    #[test]
    fn what_was_decoded_is_not_encoded_again() {
        let entries = Entries::from(vec![entry(1, 1, Payload::Command(5)), entry(1, 2, Payload::Command(6))]);
        let bytes = Bytes::from(all(&entries.encoded::<Other>().unwrap()));
        let decoded = Entries::decode::<Other>(1, bytes.clone()).unwrap();
        assert_eq!(decoded.encoded::<Other>().unwrap().parts()[0].as_ptr(), bytes.as_ptr());
        assert_eq!(decoded.slice(2..3).encoded::<Other>().unwrap().parts()[0], bytes[21..]);
    }

    #[test]
    fn bytes_that_make_no_sense_are_refused() {
        let good = [9, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let decode =
            |first, bytes: &[u8]| Entries::<U64>::decode::<Other>(first, Bytes::copy_from_slice(bytes));
        assert_eq!(decode(3, &[]).unwrap().len(), 0);
        assert_eq!(decode(3, &good).unwrap().len(), 1);
        for len in 1..good.len() {
            assert!(decode(3, &good[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(decode(0, &good).is_err());
        assert!(decode(Index::MAX - 1, &[good, good].concat()).is_err());
        let with = |place: usize, byte: u8| {
            let mut bytes = good;
            bytes[place] = byte;
            bytes
        };
        assert!(decode(3, &with(0, 8)).is_err(), "a record without a whole term");
        assert!(decode(3, &with(0, 255)).is_err(), "a record longer than the bytes");
        assert!(decode(3, &with(4, 3)).is_err(), "an unknown kind");
        assert!(decode(3, &[with(5, 2), good].concat()).is_err(), "a term that falls");
        assert!(decode(3, &[10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]).is_err(), "a blank with a payload");
    }
}
