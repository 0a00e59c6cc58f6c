//! `PostcardCodec`: what an application puts into the log, as postcard through serde.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entries::{CodecError, EntryCodec};
use crate::membership::Membership;
use crate::type_config::TypeConfig;

mod depth;

/// Values may be nested so deep: what is deeper would be made up to overflow the stack.
const NESTED_LEVELS_MAX: u32 = 128;

/// The default codec: [postcard](https://postcard.jamesmunns.com/wire-format) through serde, for every application whose
/// types are serde. Compact, fast, and specified in writing; fields are told apart by their order alone, so commands
/// must be changed with care. Values that are nested more than a hundred levels deep are refused, so an application
/// must not let such commands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostcardCodec;

impl PostcardCodec {
    /// Appends the encoding of any value to `out`.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded, such as a sequence that does not know its length. `out` is then as it was.
    pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        postcard::serialize_with_flavor(value, Appended(out)).map_err(|error| {
            // What was written before the error must not become part of the next value.
            out.truncate(start);
            CodecError::new(error)
        })
    }

    /// The value that is encoded by all of `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of such a value, or it is nested too deep.
    pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut deserializer = postcard::Deserializer::from_bytes(bytes);
        let value = depth::deserialize(&mut deserializer, NESTED_LEVELS_MAX).map_err(CodecError::new)?;
        let rest = deserializer.finalize().map_err(CodecError::new)?;
        if !rest.is_empty() {
            return Err(CodecError(format!("{} bytes are left over after the value", rest.len())));
        }
        Ok(value)
    }
}

impl<C> EntryCodec<C> for PostcardCodec
where
    C: TypeConfig,
    C::Command: Serialize + DeserializeOwned,
    C::NodeId: Serialize + DeserializeOwned,
    C::Node: Serialize + DeserializeOwned,
{
    const NAME: &'static str = "postcard/1";

    fn encode_command(command: &C::Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(command, out)
    }

    fn decode_command(bytes: Bytes) -> Result<C::Command, CodecError> {
        Self::decode(&bytes)
    }

    fn encode_membership(membership: &Membership<C>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(membership, out)
    }

    fn decode_membership(bytes: Bytes) -> Result<Membership<C>, CodecError> {
        Self::decode(&bytes)
    }

    fn encode_node_id(id: &C::NodeId, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(id, out)
    }

    fn decode_node_id(bytes: Bytes) -> Result<C::NodeId, CodecError> {
        Self::decode(&bytes)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::Entries;
    use crate::entry::{Entry, LogId, Payload};
    use crate::testing::U64;

    #[test]
    fn entries_come_back() {
        let payloads = [Payload::Blank, Payload::Command(300), Payload::Membership(Membership::default())];
        let entry = |(index, payload)| Entry { log_id: LogId::new(2, index), payload };
        let entries: Entries<U64> = (7..).zip(payloads).map(entry).collect::<Vec<_>>().into();
        let encoded = entries.encoded::<PostcardCodec>().unwrap().parts().concat();
        // A record has 13 bytes before its payload: 300 takes two more.
        assert_eq!(encoded[13..28], [11, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0xac, 2]);
        assert_eq!(Entries::decode::<PostcardCodec>(7, encoded.into()).unwrap(), entries);
    }

    #[test]
    fn bytes_that_are_left_over_are_refused() {
        let error = PostcardCodec::decode::<u64>(&[1, 0]).unwrap_err();
        assert_eq!(error.to_string(), "1 bytes are left over after the value");
    }

    #[test]
    fn a_length_that_is_made_up_is_refused_before_memory_is_taken() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(PostcardCodec::decode::<Vec<u64>>(&huge).is_err());
        assert!(PostcardCodec::decode::<String>(&huge).is_err());
    }

    #[test]
    fn a_value_that_cannot_be_encoded_leaves_nothing_behind() {
        struct Unsized;
        impl Serialize for Unsized {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut pair = serializer.serialize_tuple(2)?;
                pair.serialize_element(&7u8)?;
                pair.serialize_element(&())?;
                Err(serde::ser::Error::custom("no"))
            }
        }
        let mut out = vec![1, 2];
        assert!(PostcardCodec::encode(&Unsized, &mut out).is_err());
        assert_eq!(out, [1, 2]);
    }
}
