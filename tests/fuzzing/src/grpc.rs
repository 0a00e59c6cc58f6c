//! Bytes that come from the network.

use std::fmt::Debug;

use bytes::Bytes;
use openconsensus::{Body, CodecError, Entries, Entry, EntryCodec, Message};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::proto::{self, RaftMessage};
use openconsensus_network_grpc::{PostcardCodec, proto::messages_request::Kind};
use prost::Message as _;

type Codec = PostcardCodec;

/// Decodes the bytes as everything that a peer may send: as a request, as each part of one, and as what the codec has
/// written into it.
///
/// Whatever decodes must come back the same when it is encoded and decoded once more, and must not be much larger than
/// the bytes. What the codec decodes must say all that the bytes said, and must be refused with a byte more or less.
///
/// # Panics
///
/// When something is found.
pub fn grpc_decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    round_trip(&bytes, decode_entries, encode_entries);
    round_trip(&bytes, <Codec as EntryCodec<Kv>>::decode_node_id, <Codec as EntryCodec<Kv>>::encode_node_id);
    if let Ok(message) = RaftMessage::decode(bytes.clone()) {
        decode_message(message, data.len());
    }
    if let Ok(request) = proto::MessagesRequest::decode(bytes.clone()) {
        let again = proto::MessagesRequest::decode(&*request.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&request));
        if let Some(Kind::Batch(batch)) = request.kind {
            batch.messages.into_iter().for_each(|message| decode_message(message, data.len()));
        }
    }
    if let Ok(meta) = proto::SnapshotMeta::decode(bytes.clone()) {
        decode_snapshot(meta);
    }
    if let Ok(request) = proto::InstallSnapshotRequest::decode(bytes) {
        let again = proto::InstallSnapshotRequest::decode(&*request.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&request));
    }
}

/// The index of the first entry. It does not stand in the bytes.
const FIRST: u64 = 5;

fn decode_entries(bytes: Bytes) -> Result<Entries<Kv>, CodecError> {
    // No entries are the encoding of nothing: nothing can be cut off there.
    if bytes.is_empty() {
        return Err(CodecError::new("nothing"));
    }
    let entries = Entries::decode::<Codec>(FIRST, bytes)?;
    Ok(entries)
}

fn encode_entries(entries: &Entries<Kv>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    // As somebody would who has made them: these here keep the bytes that they were decoded of.
    let fresh: Entries<Kv> = entries.iter().cloned().collect::<Vec<_>>().into();
    fresh.encoded::<Codec>()?.parts().iter().for_each(|part| out.extend_from_slice(part));
    Ok(())
}

fn decode_message(message: RaftMessage, bytes: usize) {
    let Ok(message) = message.into_message::<Kv, Codec>() else { return };
    let again = RaftMessage::new::<Kv, Codec>(&message).expect("what was decoded can be encoded");
    let again = RaftMessage::decode(&*again.encode_to_vec()).expect("what was encoded can be decoded");
    let again = again.into_message::<Kv, Codec>().expect("what was encoded can be decoded");
    assert_eq!(format!("{again:?}"), format!("{message:?}"), "a message changes on its way");
    check_size(&message, bytes);
}

fn decode_snapshot(meta: proto::SnapshotMeta) {
    let Ok(request) = meta.into_request::<Kv, Codec>() else { return };
    let again = proto::SnapshotMeta::new::<Kv, Codec>(&request).expect("what was decoded can be encoded");
    let again = again.into_request::<Kv, Codec>().expect("what was encoded can be decoded");
    assert_eq!(again, request, "a snapshot changes on its way");
}

/// Decodes `bytes` if they can be.
fn round_trip<T: Debug>(
    bytes: &Bytes,
    decode: impl Fn(Bytes) -> Result<T, CodecError>,
    encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
) {
    let Ok(value) = decode(bytes.clone()) else { return };
    let mut encoded = Vec::new();
    encode(&value, &mut encoded).expect("what was decoded can be encoded");
    let encoded = Bytes::from(encoded);
    let again = decode(encoded.clone()).expect("what was encoded can be decoded");
    assert_eq!(format!("{again:?}"), format!("{value:?}"), "a value changes on its way");
    check_nothing_is_lost(bytes, &encoded);
    assert!(decode(encoded.slice(..encoded.len() - 1)).is_err(), "{value:?} needs no last byte");
    assert!(decode([&encoded[..], &[0]].concat().into()).is_err(), "a byte behind {value:?} is let through");
}

/// In `bytes` numbers may be longer than they need to be, and members of a set may stand twice or in any order. All else
/// is in `encoded` too.
fn check_nothing_is_lost(bytes: &[u8], encoded: &[u8]) {
    assert!(encoded.len() <= bytes.len(), "{encoded:?} is longer than {bytes:?}, of which it was made");
    if encoded.len() == bytes.len() {
        let sorted = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.sort_unstable();
            bytes
        };
        assert_eq!(sorted(encoded), sorted(bytes), "{bytes:?} become {encoded:?}");
    }
}

fn check_size(message: &Message<Kv>, bytes: usize) {
    let Body::Append { entries, .. } = &message.body else { return };
    // An entry takes thirteen bytes at least: its length, its kind and its term.
    assert!(entries.len() * 13 <= bytes, "{} entries in {bytes} bytes", entries.len());
    let commands: u64 = entries.iter().map(Entry::size_bytes).sum();
    let most = bytes as u64 * (Entry::<Kv>::OVERHEAD_BYTES + 64);
    assert!(commands <= most, "{commands} bytes of entries in {bytes} bytes");
}
