//! Bytes that come from the network.

use std::fmt::Debug;

use bytes::Bytes;
use openconsensus::{Body, Entry, Message};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::{Codec, CodecError, PostcardCodec, proto};
use prost::Message as _;

/// Decodes the bytes as everything that a peer may send, by the postcard codec and as the frames around it.
///
/// Whatever decodes must come back the same when it is encoded and decoded once more, must say all that the bytes said,
/// and must not be much larger than they are. With a byte more or less it must be refused.
///
/// # Panics
///
/// When something is found.
pub fn grpc_decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    decode_message(&bytes);
    round_trip(
        &bytes,
        <PostcardCodec as Codec<Kv>>::decode_install_snapshot,
        <PostcardCodec as Codec<Kv>>::encode_install_snapshot,
    );
    round_trip(
        &bytes,
        <PostcardCodec as Codec<Kv>>::decode_node_id,
        <PostcardCodec as Codec<Kv>>::encode_node_id,
    );
    if let Ok(request) = proto::MessagesRequest::decode(bytes.clone()) {
        let again = proto::MessagesRequest::decode(&*request.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&request));
        if let Some(proto::messages_request::Kind::Batch(batch)) = request.kind {
            batch.messages.iter().for_each(decode_message);
        }
    }
    if let Ok(request) = proto::InstallSnapshotRequest::decode(bytes) {
        let again = proto::InstallSnapshotRequest::decode(&*request.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&request));
    }
}

fn decode_message(bytes: &Bytes) {
    let message = round_trip(
        bytes,
        <PostcardCodec as Codec<Kv>>::decode_message,
        <PostcardCodec as Codec<Kv>>::encode_message,
    );
    if let Some(message) = message {
        check_size(&message, bytes.len());
    }
}

/// What `bytes` decode as, if they do.
fn round_trip<T: Debug>(
    bytes: &Bytes,
    decode: impl Fn(Bytes) -> Result<T, CodecError>,
    encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
) -> Option<T> {
    let value = decode(bytes.clone()).ok()?;
    let mut encoded = Vec::new();
    encode(&value, &mut encoded).expect("what was decoded can be encoded");
    let encoded = Bytes::from(encoded);
    let again = decode(encoded.clone()).expect("what was encoded can be decoded");
    assert_eq!(format!("{again:?}"), format!("{value:?}"), "a value changes on its way");
    check_nothing_is_lost(bytes, &encoded);
    assert!(decode(encoded.slice(..encoded.len() - 1)).is_err(), "{value:?} needs no last byte");
    assert!(decode([&encoded[..], &[0]].concat().into()).is_err(), "a byte behind {value:?} is let through");
    Some(value)
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
    // An entry takes three bytes at least: its term, its index and its kind.
    assert!(entries.len() * 3 <= bytes, "{} entries in {bytes} bytes", entries.len());
    let commands: u64 = entries.iter().map(Entry::size_bytes).sum();
    let most = bytes as u64 * (Entry::<Kv>::OVERHEAD_BYTES + 64);
    assert!(commands <= most, "{commands} bytes of entries in {bytes} bytes");
}
