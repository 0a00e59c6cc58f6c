//! The application that is measured: commands that are nothing but bytes.

use bytes::Bytes;
use openconsensus::TypeConfig;
use serde::{Deserialize, Serialize};

/// A cluster of nodes with numbers, reached at a `host:port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blob;

/// So many bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload(pub(crate) Bytes);

impl Payload {
    /// `bytes` bytes that a compressor could not make fewer of.
    pub(crate) fn new(seed: u64, bytes: usize) -> Self {
        let mut state = seed;
        let mut words = std::iter::repeat_with(move || {
            // One step of SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        let mut body = Vec::with_capacity(bytes + 8);
        while body.len() < bytes {
            body.extend_from_slice(&words.next().unwrap_or(0).to_le_bytes());
        }
        body.truncate(bytes);
        Self(body.into())
    }
}

impl TypeConfig for Blob {
    type Command = Payload;
    /// How many bytes were applied so far.
    type Response = u64;
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &Payload) -> u64 {
        command.0.len() as u64
    }
}
