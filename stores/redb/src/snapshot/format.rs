//! The format of a snapshot file, which is also what is sent to peers: a header, chunks, an end, all checksummed.
//!
//! The layout stands in the documentation of the crate.

use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use openconsensus::{LogId, MembershipAt};
use serde::{Deserialize, Serialize};

use crate::codec::{StoredConfig, decode, encode};
use crate::error::invalid_data;

const MAGIC: [u8; 8] = *b"OCSNAP\r\n";
pub(crate) const VERSION: u32 = 1;

/// How much of the content a chunk holds.
const CHUNK_BYTES: usize = 128 << 10;
/// The longest chunk and the longest header that are read: a damaged length must not ask for all memory.
const CHUNK_BYTES_MAX: u32 = 1 << 20;
const HEADER_BYTES_MAX: u32 = 16 << 20;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "C: StoredConfig", deserialize = "C: StoredConfig"))]
pub(crate) struct Header<C: StoredConfig> {
    /// The cluster whose state it is.
    pub(crate) cluster: String,
    /// The last entry whose effect it contains.
    pub(crate) last: LogId,
    /// The membership in force there.
    pub(crate) membership: MembershipAt<C>,
}

/// Writes a snapshot file. What is written to it is the content.
pub(crate) struct ChunkWriter<W> {
    output: W,
    chunk: Vec<u8>,
    /// Of all bytes that have gone to `output`.
    sum: Hasher,
    file_bytes: u64,
    content_bytes: u64,
}

impl<W: Write> ChunkWriter<W> {
    /// Writes the header.
    pub(crate) fn begin<C: StoredConfig>(output: W, header: &Header<C>) -> io::Result<Self> {
        let mut body = Vec::new();
        encode(&mut body, header)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut writer = Self { output, chunk, sum: Hasher::new(), file_bytes: 0, content_bytes: 0 };
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// Writes the end, and returns the output with the number of bytes that it got.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        self.put_chunk()?;
        self.put(&0_u32.to_le_bytes())?;
        self.put(&self.content_bytes.to_le_bytes())?;
        let sum = self.sum.clone().finalize();
        self.put(&sum.to_le_bytes())?;
        self.output.flush()?;
        Ok((self.output, self.file_bytes))
    }

    fn put_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.put(&(chunk.len() as u32).to_le_bytes())?;
        self.put(&crc32fast::hash(&chunk).to_le_bytes())?;
        self.put(&chunk)?;
        self.content_bytes += chunk.len() as u64;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.file_bytes += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}

impl<W: Write> Write for ChunkWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES {
            self.put_chunk()?;
        }
        let len = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A part of a snapshot file that has been checked.
#[derive(Debug)]
pub(crate) struct Frame {
    /// As it stands in the file.
    pub(crate) raw: Bytes,
    /// Where in `raw` the content is.
    content: std::ops::Range<usize>,
}

/// Reads a snapshot file part by part. Nothing that it returns has failed its checksum; only what has been read to the
/// end is the whole snapshot.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    input: R,
    sum: Hasher,
    content_bytes: u64,
    is_at_end: bool,
}

impl<R: Read> FrameReader<R> {
    /// Reads the header: what the snapshot is of, and its bytes.
    pub(crate) fn begin<C: StoredConfig>(input: R) -> io::Result<(Header<C>, Bytes, Self)> {
        let mut reader = Self { input, sum: Hasher::new(), content_bytes: 0, is_at_end: false };
        let mut raw = BytesMut::new();
        reader.take(&mut raw, 16)?;
        if raw[..8] != MAGIC {
            return Err(invalid_data("this is not a snapshot"));
        }
        let version = u32_at(&raw, 8);
        if version != VERSION {
            return Err(invalid_data(format!(
                "the snapshot has version {version} of the format; this program knows version {VERSION}"
            )));
        }
        let len = u32_at(&raw, 12);
        if len > HEADER_BYTES_MAX {
            return Err(invalid_data(format!("a header of {len} bytes is too long")));
        }
        reader.take(&mut raw, len as usize + 4)?;
        let (body, sum) = raw.split_at(raw.len() - 4);
        if crc32fast::hash(body) != u32_at(sum, 0) {
            return Err(invalid_data("the checksum of the header is wrong"));
        }
        let header = decode(&body[16..])?;
        Ok((header, raw.freeze(), reader))
    }

    /// The next part, or `None` behind the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        if self.is_at_end {
            return Ok(None);
        }
        let mut raw = BytesMut::new();
        self.take(&mut raw, 4)?;
        match u32_at(&raw, 0) {
            0 => self.end(raw).map(Some),
            len if len > CHUNK_BYTES_MAX => Err(invalid_data(format!("a chunk of {len} bytes is too long"))),
            len => {
                self.take(&mut raw, 4 + len as usize)?;
                if crc32fast::hash(&raw[8..]) != u32_at(&raw, 4) {
                    let place = self.content_bytes;
                    return Err(invalid_data(format!("the checksum of the chunk at byte {place} is wrong")));
                }
                self.content_bytes += u64::from(len);
                let content = 8..raw.len();
                Ok(Some(Frame { raw: raw.freeze(), content }))
            }
        }
    }

    fn end(&mut self, mut raw: BytesMut) -> io::Result<Frame> {
        self.take(&mut raw, 8)?;
        let content_bytes = raw[4..].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let sum = self.sum.clone().finalize();
        self.take(&mut raw, 4)?;
        if content_bytes != self.content_bytes {
            return Err(invalid_data(format!("{} of {content_bytes} bytes are there", self.content_bytes)));
        }
        if u32_at(&raw, 12) != sum {
            return Err(invalid_data("the checksum of the snapshot is wrong"));
        }
        if self.input.read(&mut [0])? != 0 {
            return Err(invalid_data("there are bytes behind the end of the snapshot"));
        }
        self.is_at_end = true;
        Ok(Frame { raw: raw.freeze(), content: 0..0 })
    }

    /// Appends the next `len` bytes to `raw`.
    fn take(&mut self, raw: &mut BytesMut, len: usize) -> io::Result<()> {
        let start = raw.len();
        raw.put_bytes(0, len);
        self.input.read_exact(&mut raw[start..]).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => invalid_data("the snapshot is cut off"),
            _ => error,
        })?;
        self.sum.update(&raw[start..]);
        Ok(())
    }
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    bytes[place..place + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The content of a snapshot file.
pub(crate) struct ContentReader<R> {
    frames: FrameReader<R>,
    /// What of the last chunk has not been read.
    rest: Bytes,
}

impl<R: Read> ContentReader<R> {
    pub(crate) fn new(frames: FrameReader<R>) -> Self {
        Self { frames, rest: Bytes::new() }
    }
}

impl<R: Read> Read for ContentReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.frames.next()? {
                Some(frame) => self.rest = frame.raw.slice(frame.content),
                None => return Ok(0),
            }
        }
        let len = buffer.len().min(self.rest.len());
        buffer[..len].copy_from_slice(&self.rest.split_to(len));
        Ok(len)
    }
}

#[cfg(test)]
mod tests;
