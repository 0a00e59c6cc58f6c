//! Bytes that come from the network.

use bytes::Bytes;
use openconsensus::{Body, Entry, Message};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::{Codec, PostcardCodec, proto};
use prost::Message as _;

/// Decodes the bytes as everything that a peer may send, by the postcard codec and as the frames around it.
///
/// Whatever decodes must come back the same when it is encoded and decoded once more, and must not be much larger than
/// the bytes that it came from.
///
/// # Panics
///
/// When something is found.
pub fn grpc_decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    decode_message(&bytes);
    if let Ok(request) = <PostcardCodec as Codec<Kv>>::decode_install_snapshot(bytes.clone()) {
        let mut encoded = Vec::new();
        <PostcardCodec as Codec<Kv>>::encode_install_snapshot(&request, &mut encoded)
            .expect("what was decoded can be encoded");
        let again = <PostcardCodec as Codec<Kv>>::decode_install_snapshot(encoded.into());
        assert_eq!(again.as_ref(), Ok(&request));
    }
    if let Ok(id) = <PostcardCodec as Codec<Kv>>::decode_node_id(bytes.clone()) {
        let mut encoded = Vec::new();
        <PostcardCodec as Codec<Kv>>::encode_node_id(&id, &mut encoded)
            .expect("what was decoded can be encoded");
        assert_eq!(<PostcardCodec as Codec<Kv>>::decode_node_id(encoded.into()), Ok(id));
    }
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
    let Ok(message) = <PostcardCodec as Codec<Kv>>::decode_message(bytes.clone()) else { return };
    check_size(&message, bytes.len());
    let mut encoded = Vec::new();
    <PostcardCodec as Codec<Kv>>::encode_message(&message, &mut encoded)
        .expect("what was decoded can be encoded");
    let again: Message<Kv> =
        PostcardCodec::decode_message(encoded.into()).expect("what was encoded can be decoded");
    assert_eq!(format!("{again:?}"), format!("{message:?}"), "a message changes on its way");
}

fn check_size(message: &Message<Kv>, bytes: usize) {
    let Body::Append { entries, .. } = &message.body else { return };
    // An entry takes three bytes at least: its term, its index and its kind.
    assert!(entries.len() * 3 <= bytes, "{} entries in {bytes} bytes", entries.len());
    let commands: u64 = entries.iter().map(Entry::size_bytes).sum();
    let most = bytes as u64 * (Entry::<Kv>::OVERHEAD_BYTES + 64);
    assert!(commands <= most, "{commands} bytes of entries in {bytes} bytes");
}
