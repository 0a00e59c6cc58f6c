//! The bytes of a snapshot: checksummed frames, whatever chunks the network cuts them into.
//!
//! A snapshot is a sequence of frames: first one that says what it covers, then the pairs in ascending order of their
//! keys, then one that says how many they were and what their checksum is. A frame is the length of its body and the
//! CRC-32 of its body, each as a little-endian `u32`, and the body, which is a [`Frame`] in the postcard encoding.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openconsensus::{AppliedState, LogId, MembershipAt, SnapshotMeta};
use serde::{Deserialize, Serialize};

use crate::kv::{Checksum, Kv};
use crate::reader::KvView;

/// The version of the format. A reader refuses any other.
const FORMAT: u32 = 1;

/// A frame of pairs is closed when it has so many bytes: small enough to be one message of any network.
const FRAME_BYTES: usize = 64 << 10;

/// Length and checksum.
const HEADER_BYTES: usize = 8;

#[derive(Debug, Serialize, Deserialize)]
enum Frame {
    Start { format: u32, last: LogId, membership: MembershipAt<Kv> },
    Pairs(Vec<(String, Bytes)>),
    End { pairs: u64, checksum: u32 },
}

/// What a snapshot of `state` covers. Its size is not known before it is encoded.
pub(crate) fn meta_of(state: &KvView) -> SnapshotMeta<Kv> {
    let AppliedState { last_applied, membership } = (*state.applied).clone();
    SnapshotMeta { last: last_applied, membership, size_bytes: None }
}

/// Encodes `state`, one frame for each item. The work is done as the iterator is driven.
pub(crate) fn encode(state: &KvView) -> impl Iterator<Item = io::Result<Bytes>> {
    let meta = meta_of(state);
    let start = Frame::Start { format: FORMAT, last: meta.last, membership: meta.membership };
    let mut pairs = state.pairs.iter().peekable();
    let mut checksum = Some((0, Checksum::new()));
    let rest = std::iter::from_fn(move || {
        let mut frame = Vec::new();
        let mut bytes = 0;
        while bytes < FRAME_BYTES
            && let Some((key, value)) = pairs.next()
            && let Some((count, checksum)) = &mut checksum
        {
            *count += 1;
            checksum.add(key, value);
            bytes += key.len() + value.len();
            frame.push((key.clone(), value.clone()));
        }
        if !frame.is_empty() {
            return Some(Frame::Pairs(frame));
        }
        let (pairs, checksum) = checksum.take()?;
        Some(Frame::End { pairs, checksum: checksum.finish() })
    });
    std::iter::once(start).chain(rest).map(|frame| encode_frame(&frame))
}

fn encode_frame(frame: &Frame) -> io::Result<Bytes> {
    let body = postcard::to_stdvec(frame).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {} bytes is too large for a snapshot", body.len()),
        )
    })?;
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len());
    bytes.put_u32_le(length);
    bytes.put_u32_le(crc32fast::hash(&body));
    bytes.put_slice(&body);
    Ok(bytes.freeze())
}

/// Takes the bytes of a snapshot in chunks of any size, and becomes the state that it contains.
#[derive(Debug)]
pub(crate) struct Decoder {
    meta: SnapshotMeta<Kv>,
    /// Bytes that do not make a whole frame yet.
    buffer: BytesMut,
    state: KvView,
    last_key: Option<String>,
    checksum: Checksum,
    progress: Progress,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    BeforeStart,
    Pairs,
    Ended,
}

impl Decoder {
    /// A decoder for the snapshot that was announced with `meta`.
    pub(crate) fn new(meta: SnapshotMeta<Kv>) -> Self {
        let applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        let state = KvView { applied: applied.into(), ..KvView::default() };
        Self {
            meta,
            buffer: BytesMut::new(),
            state,
            last_key: None,
            checksum: Checksum::new(),
            progress: Progress::BeforeStart,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn add(&mut self, chunk: &Bytes) -> io::Result<()> {
        self.buffer.extend_from_slice(chunk);
        while let Some(frame) = self.next_frame()? {
            self.on_frame(frame)?;
        }
        Ok(())
    }

    /// The state, when the bytes were whole.
    pub(crate) fn finish(self) -> io::Result<KvView> {
        if self.progress != Progress::Ended {
            return Err(damaged(format!("it ends too early, after {} pairs", self.state.len())));
        }
        Ok(self.state)
    }

    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let mut header = &self.buffer[..HEADER_BYTES];
        let (length, checksum) = (header.get_u32_le() as usize, header.get_u32_le());
        if self.buffer.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let body = self.buffer.split_to(length);
        let actual = crc32fast::hash(&body);
        if actual != checksum {
            return Err(damaged(format!(
                "a frame of {length} bytes has the checksum {actual:08x}, not {checksum:08x}"
            )));
        }
        postcard::from_bytes(&body)
            .map(Some)
            .map_err(|error| damaged(format!("a frame cannot be decoded: {error}")))
    }

    fn on_frame(&mut self, frame: Frame) -> io::Result<()> {
        match (&self.progress, frame) {
            (Progress::BeforeStart, Frame::Start { format, last, membership }) => {
                self.on_start(format, last, &membership)
            }
            (Progress::Pairs, Frame::Pairs(pairs)) => {
                pairs.into_iter().try_for_each(|(key, value)| self.on_pair(key, value))
            }
            (Progress::Pairs, Frame::End { pairs, checksum }) => self.on_end(pairs, checksum),
            (Progress::BeforeStart | Progress::Pairs | Progress::Ended, frame) => {
                let kind = match frame {
                    Frame::Start { .. } => "start",
                    Frame::Pairs(_) => "pairs",
                    Frame::End { .. } => "end",
                };
                Err(damaged(format!("a frame of kind {kind} is out of place")))
            }
        }
    }

    fn on_start(&mut self, format: u32, last: LogId, membership: &MembershipAt<Kv>) -> io::Result<()> {
        if format != FORMAT {
            return Err(damaged(format!("its format is {format}, not {FORMAT}")));
        }
        if last != self.meta.last || *membership != self.meta.membership {
            return Err(damaged(format!(
                "it covers entries up to {last}, but was announced to cover those up to {}",
                self.meta.last
            )));
        }
        self.progress = Progress::Pairs;
        Ok(())
    }

    fn on_pair(&mut self, key: String, value: Bytes) -> io::Result<()> {
        if let Some(last_key) = &self.last_key
            && key <= *last_key
        {
            return Err(damaged(format!("the key {key:?} follows {last_key:?}")));
        }
        self.checksum.add(&key, &value);
        self.last_key = Some(key.clone());
        self.state.pairs.insert_mut(key, value);
        Ok(())
    }

    fn on_end(&mut self, pairs: u64, checksum: u32) -> io::Result<()> {
        let actual = std::mem::take(&mut self.checksum).finish();
        if pairs != self.state.len() as u64 || checksum != actual {
            return Err(damaged(format!(
                "it has {} pairs with the checksum {actual:08x}, not {pairs} with {checksum:08x}",
                self.state.len()
            )));
        }
        self.progress = Progress::Ended;
        Ok(())
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pairs: usize) -> KvView {
        let mut state = KvView::default();
        for number in 0..pairs {
            state.pairs.insert_mut(format!("key {number}"), vec![number as u8; number % 3000].into());
        }
        let last_applied = LogId::new(2, pairs as u64);
        state.applied = AppliedState { last_applied, membership: MembershipAt::default() }.into();
        state
    }

    fn bytes_of(state: &KvView) -> Vec<u8> {
        encode(state).flat_map(|frame| frame.unwrap()).collect()
    }

    /// Decodes `bytes` as the snapshot of `state`, in chunks of `chunk` bytes.
    fn decode(state: &KvView, bytes: &[u8], chunk: usize) -> io::Result<KvView> {
        let mut decoder = Decoder::new(meta_of(state));
        for chunk in bytes.chunks(chunk) {
            decoder.add(&Bytes::copy_from_slice(chunk))?;
        }
        decoder.finish()
    }

    #[test]
    fn a_snapshot_is_read_back_whatever_the_chunks_are() {
        for pairs in [0, 1, 500] {
            let state = state(pairs);
            let bytes = bytes_of(&state);
            for chunk in [3, 1000, 1 << 20] {
                let read = decode(&state, &bytes, chunk).unwrap();
                assert_eq!(read.pairs, state.pairs);
                assert_eq!(read.applied, state.applied);
            }
        }
    }

    #[test]
    fn large_states_are_cut_into_frames_of_limited_size() {
        let frames: Vec<usize> = encode(&state(1500)).map(|frame| frame.unwrap().len()).collect();
        assert!(5 < frames.len(), "{frames:?}");
        assert!(frames.iter().all(|bytes| *bytes < FRAME_BYTES + 10_000), "{frames:?}");
    }

    #[test]
    fn every_damaged_byte_and_every_missing_end_is_noticed() {
        let state = state(12);
        let bytes = bytes_of(&state);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            let error = decode(&state, &damaged, 50).expect_err("a damaged byte must be noticed");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {place}");
            assert!(decode(&state, &bytes[..place], 50).is_err(), "cut at byte {place}");
        }
    }

    #[test]
    fn a_snapshot_that_covers_something_else_than_announced_is_refused() {
        let error = decode(&state(3), &bytes_of(&state(4)), 50).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the snapshot is damaged: it covers entries up to 4(t2), but was announced to cover those up to 3(t2)"
        );
    }

    #[test]
    fn frames_out_of_place_are_refused() {
        let state = state(40);
        let frames: Vec<Bytes> = encode(&state).map(Result::unwrap).collect();
        let [start, pairs, end] = frames.as_slice() else { panic!("three frames expected") };
        for order in [
            vec![pairs, end],
            vec![start, start, pairs, end],
            vec![start, pairs, pairs, end],
            vec![start, end],
            vec![start, pairs, end, pairs],
        ] {
            let bytes: Vec<u8> = order.into_iter().flatten().copied().collect();
            assert!(decode(&state, &bytes, 1000).is_err());
        }
    }
}
