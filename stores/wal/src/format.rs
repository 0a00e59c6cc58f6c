//! The bytes of a segment: its header, and frames. `FORMAT.md` says the same in words.

use openconsensus_store_common::Identity;

use crate::frame::Sum;

/// The version of the format that this code writes and reads.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"OCWAL\r\n\0";
/// How much of a segment its header takes: frames begin behind it.
pub(crate) const HEADER_BYTES: usize = 4096;
const TEXTS_AT: usize = 52;
/// How long cluster, node and codec may be together, so that they fit into a header.
pub(crate) const TEXTS_BYTES_MAX: usize = HEADER_BYTES - TEXTS_AT;

/// What the header of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Tells the segments of one log from those of all others.
    pub log: u64,
    /// The place of the segment in the log: the first one is 1.
    pub number: u64,
    /// How long the file is at least, in bytes.
    pub segment_bytes: u64,
    /// Whose log it is.
    pub identity: Identity,
    /// The name of the encoding of commands, memberships and node ids.
    pub codec: String,
}

/// Why bytes are not a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// They never were one.
    Foreign,
    /// Of another version of the format.
    Version(u32),
    Damaged(&'static str),
}

impl SegmentHeader {
    /// The bytes that a segment begins with. The texts must not be longer than [`TEXTS_BYTES_MAX`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.log.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.segment_bytes.to_le_bytes());
        let texts = [&self.identity.cluster, &self.identity.node, &self.codec];
        for text in texts {
            bytes.extend((text.len() as u32).to_le_bytes());
        }
        for text in texts {
            bytes.extend(text.as_bytes());
        }
        assert!(bytes.len() <= HEADER_BYTES, "the names of a log take {} bytes", bytes.len());
        bytes.resize(HEADER_BYTES, 0);
        let sum = Self::sum(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn sum(bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..]);
        hasher.finalize()
    }

    /// The header that all of `bytes` are.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        if bytes.len() < HEADER_BYTES {
            return Err(NoHeader::Damaged("it is too short for a header"));
        }
        if bytes[..8] != MAGIC {
            // A file that we have made never holds anything else there, but a disk can lose it.
            let is_lost = bytes.iter().all(|byte| *byte == 0);
            return Err(if is_lost { NoHeader::Damaged("its header is empty") } else { NoHeader::Foreign });
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let is_whole = short(12) == Self::sum(bytes);
        if short(8) != VERSION {
            return Err(if is_whole {
                NoHeader::Version(short(8))
            } else {
                NoHeader::Damaged("the checksum of its header is wrong")
            });
        }
        if !is_whole {
            return Err(NoHeader::Damaged("the checksum of its header is wrong"));
        }
        let mut at = TEXTS_AT;
        let mut text = |length_at: usize| {
            let end = at.checked_add(short(length_at) as usize).filter(|end| *end <= HEADER_BYTES);
            let end = end.ok_or(NoHeader::Damaged("a name in its header is too long"))?;
            let text = std::str::from_utf8(&bytes[at..end]);
            at = end;
            Ok(text.map_err(|_| NoHeader::Damaged("a name in its header is no text"))?.to_string())
        };
        let identity = Identity { cluster: text(40)?, node: text(44)? };
        let codec = text(48)?;
        Ok(Self { log: number(16), number: number(24), segment_bytes: number(32), identity, codec })
    }

    /// What the checksums of frames in this segment begin with.
    pub(crate) fn seed(&self) -> Sum {
        Sum::of_segment(self.log, self.number)
    }
}

const SUFFIX: &str = ".segment";
const UNFINISHED: &str = ".new";

/// The name of the file of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The name of the file of a segment that is not ready yet; a leftover if nobody is at work on it.
pub(crate) fn unfinished_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}{UNFINISHED}")
}

/// The number of the segment whose file has this name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(number)
}

/// Whether a file of this name is a segment that was not ready yet.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| segment_number(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        let identity = Identity::new("c1", 7);
        SegmentHeader { log: 0x0102, number: 3, segment_bytes: 0x10000, identity, codec: "postcard/1".into() }
    }

    #[test]
    fn a_header_is_laid_out_as_documented_and_comes_back() {
        let bytes = header().encode();
        let mut expected = b"OCWAL\r\n\0".to_vec();
        expected.extend([1, 0, 0, 0]);
        expected.extend(&bytes[12..16]);
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 0]);
        expected.extend(b"c17postcard/1");
        expected.resize(4096, 0);
        assert_eq!(bytes, expected);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..]);
        assert_eq!(bytes[12..16], hasher.finalize().to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
    }

    #[test]
    fn a_header_with_any_byte_changed_is_refused_and_another_version_is_told_apart() {
        let good = header().encode();
        for at in 0..HEADER_BYTES {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            assert!(SegmentHeader::decode(&bytes).is_err(), "byte {at}");
        }
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(NoHeader::Damaged("its header is empty")));
        assert_eq!(SegmentHeader::decode(&[b'x'; 4096]), Err(NoHeader::Foreign));
        let mut later = good;
        later[8] = 2;
        let sum = SegmentHeader::sum(&later);
        later[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&later), Err(NoHeader::Version(2)));
    }

    #[test]
    fn names_of_segments_are_told_from_others() {
        assert_eq!(segment_name(42), "00000000000000000042.segment");
        assert_eq!(segment_number("00000000000000000042.segment"), Some(42));
        assert!(is_unfinished(&unfinished_name(42)));
        for name in
            ["42.segment", "0000000000000000004x.segment", "+0000000000000000042.segment", "lock", ".segment"]
        {
            assert_eq!(segment_number(name), None, "{name}");
            assert!(!is_unfinished(&format!("{name}.new")), "{name}");
        }
        assert_eq!(segment_number(&unfinished_name(42)), None);
        assert!(!is_unfinished(&segment_name(42)));
    }
}
