//! How messages and snapshot requests become bytes.

use bytes::Bytes;
use openconsensus::{CodecError, InstallSnapshot, Message, PostcardCodec, TypeConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How the types of an application become bytes and come back.
///
/// Decoding meets bytes from outside: it must return an error where they make no sense, must not panic, and must not
/// allocate much more than there are bytes. It need not check what a message says: the network and the node do.
pub trait Codec<C: TypeConfig>: Send + Sync + 'static {
    /// The name of the encoding, with a version. Nodes whose codecs have different names refuse each other, so change
    /// it whenever one could not read what the other writes.
    const NAME: &'static str;

    /// Appends the encoding of `message` to `out`.
    ///
    /// # Errors
    ///
    /// When the message cannot be encoded: it is then dropped and the error is logged.
    fn encode_message(message: &Message<C>, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The message that is encoded by all of `bytes`. It may keep parts of `bytes` instead of copying them.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a message.
    fn decode_message(bytes: Bytes) -> Result<Message<C>, CodecError>;

    /// Appends the encoding of `request` to `out`.
    ///
    /// # Errors
    ///
    /// When the request cannot be encoded: the snapshot is then not sent.
    fn encode_install_snapshot(request: &InstallSnapshot<C>, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The request that is encoded by all of `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a request.
    fn decode_install_snapshot(bytes: Bytes) -> Result<InstallSnapshot<C>, CodecError>;

    /// Appends the encoding of the name of a node to `out`.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded: [`GrpcNetwork::new`](crate::GrpcNetwork::new) then fails.
    fn encode_node_id(id: &C::NodeId, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The name of a node that is encoded by all of `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a name.
    fn decode_node_id(bytes: Bytes) -> Result<C::NodeId, CodecError>;
}

impl<C> Codec<C> for PostcardCodec
where
    C: TypeConfig,
    C::Command: Serialize + DeserializeOwned,
    C::NodeId: Serialize + DeserializeOwned,
    C::Node: Serialize + DeserializeOwned,
{
    const NAME: &'static str = "postcard/2";

    fn encode_message(message: &Message<C>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(message, out)
    }

    fn decode_message(bytes: Bytes) -> Result<Message<C>, CodecError> {
        Self::decode(&bytes)
    }

    fn encode_install_snapshot(request: &InstallSnapshot<C>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(request, out)
    }

    fn decode_install_snapshot(bytes: Bytes) -> Result<InstallSnapshot<C>, CodecError> {
        Self::decode(&bytes)
    }

    fn encode_node_id(id: &C::NodeId, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(id, out)
    }

    fn decode_node_id(bytes: Bytes) -> Result<C::NodeId, CodecError> {
        Self::decode(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use openconsensus::{Body, Entry, LogId, Payload};

    use super::*;
    use crate::testing::Text;

    fn append() -> Message<Text> {
        let entry = |index| Entry { log_id: LogId::new(3, index), payload: Payload::Command("x".repeat(20)) };
        let entries = vec![entry(5), entry(6)].into();
        Message { term: 3, body: Body::Append { prev: LogId::new(2, 4), entries, commit: 4 } }
    }

    fn encoded(message: &Message<Text>) -> Vec<u8> {
        let mut bytes = Vec::new();
        PostcardCodec::encode_message(message, &mut bytes).unwrap();
        bytes
    }

    fn decoded(bytes: Vec<u8>) -> Result<Message<Text>, CodecError> {
        PostcardCodec::decode_message(Bytes::from(bytes))
    }

    #[test]
    fn what_was_encoded_comes_back() {
        let bytes = encoded(&append());
        assert_eq!(format!("{:?}", decoded(bytes).unwrap()), format!("{:?}", append()));
    }

    #[test]
    fn bytes_that_are_left_over_are_refused() {
        let mut bytes = encoded(&append());
        bytes.push(0);
        assert_eq!(decoded(bytes).unwrap_err().to_string(), "1 bytes are left over after the value");
    }

    #[test]
    fn a_length_that_is_made_up_is_refused_before_memory_is_taken() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        // Term 3, an append after entry 4 of term 2, and then the number of entries.
        let entries = [&[3, 2, 2, 4], &huge[..]].concat();
        assert!(decoded(entries).is_err());
        // The same with one entry, 5 of term 2, and then the length of its command.
        let command = [&[3, 2, 2, 4, 1, 2, 5, 1], &huge[..]].concat();
        assert!(decoded(command).is_err());
        // And for comparison with a command of one byte, and the commit index.
        assert!(decoded(vec![3, 2, 2, 4, 1, 2, 5, 1, 1, b'x', 0]).is_ok());
    }

    #[test]
    fn mutated_bytes_never_panic() {
        let valid = encoded(&append());
        let mut rng = fastrand::Rng::with_seed(0x5eed);
        let mut refused = 0;
        for _ in 0..50_000 {
            let mut bytes = valid.clone();
            bytes.truncate(rng.usize(0..=bytes.len()));
            for _ in 0..rng.usize(1..4) {
                if !bytes.is_empty() {
                    let place = rng.usize(0..bytes.len());
                    bytes[place] = if rng.bool() { 0xff } else { rng.u8(..) };
                }
            }
            if decoded(bytes).is_err() {
                refused += 1;
            }
        }
        assert!(10_000 < refused, "only {refused} of 50000 mutations were refused");
    }
}
