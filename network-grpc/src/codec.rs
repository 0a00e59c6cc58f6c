//! How requests become bytes: protobuf, each written into memory that is as large as it needs.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// The codec of the generated client and server.
#[derive(Debug)]
pub(crate) struct RequestCodec<T, U> {
    types: PhantomData<fn(T) -> U>,
}

impl<T, U> Default for RequestCodec<T, U> {
    fn default() -> Self {
        Self { types: PhantomData }
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for RequestCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = RequestEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        RequestEncoder { types: PhantomData }
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::default())
    }
}

/// Writes a request. The one copy of the records of entries on their way to a peer is made here.
#[derive(Debug)]
pub(crate) struct RequestEncoder<T> {
    types: PhantomData<fn(T)>,
}

impl<T: Message> Encoder for RequestEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // A buffer that grows while it is written would copy what is in it again and again.
        out.reserve(item.encoded_len());
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}
