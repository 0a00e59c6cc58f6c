//! How messages and snapshot requests become bytes.

use std::fmt::Display;

use bytes::Bytes;
use openconsensus::{InstallSnapshot, Message, TypeConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::depth;

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

/// Values may be nested so deep: what is deeper would be made up to overflow the stack.
pub(crate) const NESTED_LEVELS_MAX: u32 = 128;

/// The default: [postcard](https://postcard.jamesmunns.com/wire-format) through serde. Compact, fast, and specified in
/// writing; fields are told apart by their order alone, so commands must be changed with care. Values that are nested
/// more than a hundred levels deep are refused, so an application must not let such commands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostcardCodec;

impl<C> Codec<C> for PostcardCodec
where
    C: TypeConfig,
    C::Command: Serialize + DeserializeOwned,
    C::NodeId: Serialize + DeserializeOwned,
    C::Node: Serialize + DeserializeOwned,
{
    const NAME: &'static str = "postcard/2";

    fn encode_message(message: &Message<C>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode(message, out)
    }

    fn decode_message(bytes: Bytes) -> Result<Message<C>, CodecError> {
        decode(&bytes)
    }

    fn encode_install_snapshot(request: &InstallSnapshot<C>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode(request, out)
    }

    fn decode_install_snapshot(bytes: Bytes) -> Result<InstallSnapshot<C>, CodecError> {
        decode(&bytes)
    }

    fn encode_node_id(id: &C::NodeId, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode(id, out)
    }

    fn decode_node_id(bytes: Bytes) -> Result<C::NodeId, CodecError> {
        decode(&bytes)
    }
}

fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    postcard::serialize_with_flavor(value, Appended(out)).map_err(|error| {
        // What was written before the error must not become part of the next value.
        out.truncate(start);
        CodecError::new(error)
    })
}

/// Appends to a vector. A command is often one long run of bytes, which this takes with nothing in between.
struct Appended<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appended<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut deserializer = postcard::Deserializer::from_bytes(bytes);
    let value = depth::deserialize(&mut deserializer, NESTED_LEVELS_MAX).map_err(CodecError::new)?;
    let rest = deserializer.finalize().map_err(CodecError::new)?;
    if !rest.is_empty() {
        return Err(CodecError(format!("{} bytes are left over after the value", rest.len())));
    }
    Ok(value)
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
