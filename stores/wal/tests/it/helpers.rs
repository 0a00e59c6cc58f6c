//! What several tests need.

use std::io;

use bytes::Bytes;
use futures::executor::block_on;
use openconsensus::{
    CodecError, EntryCodec, Index, Membership, PostcardCodec, RaftLogReader, RaftLogStorage,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_wal::{Identity, OpenError, TornTail, WalLog, WalOptions};

use crate::disk::SimDisk;
use crate::model::{Call, Model};

pub(crate) fn identity() -> Identity {
    Identity::new("test", 1)
}

/// Everything happens on one thread in an order that depends on the calls alone, and small things have many parts.
pub(crate) fn options(segment_bytes: usize) -> WalOptions {
    WalOptions {
        segment_bytes: segment_bytes as u64,
        segments_ready_max: 1,
        group_bytes_max: 8 << 10,
        frame_bytes_max: 2 << 10,
        spin_us_max: 0,
        housekeeping_aside: false,
        ..WalOptions::default()
    }
}

/// Commands as they are, which is quick also without optimization: key and value behind the length of the key.
pub(crate) struct Raw;

impl EntryCodec<Kv> for Raw {
    const NAME: &'static str = "raw/1";

    fn encode_command(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let Command::Put { key, value } = command else { return Err(CodecError("only puts".into())) };
        out.push(u8::try_from(key.len()).map_err(CodecError::new)?);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode_command(bytes: Bytes) -> Result<Command, CodecError> {
        let short = || CodecError("too short".into());
        let (len, rest) = bytes.split_first().ok_or_else(short)?;
        let (key, value) = rest.split_at_checked(usize::from(*len)).ok_or_else(short)?;
        let key = std::str::from_utf8(key).map_err(CodecError::new)?.to_owned();
        Ok(Command::Put { key, value: value.to_vec() })
    }

    fn encode_membership(membership: &Membership<Kv>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        <PostcardCodec as EntryCodec<Kv>>::encode_membership(membership, out)
    }

    fn decode_membership(bytes: Bytes) -> Result<Membership<Kv>, CodecError> {
        <PostcardCodec as EntryCodec<Kv>>::decode_membership(bytes)
    }

    fn encode_node_id(id: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        <PostcardCodec as EntryCodec<Kv>>::encode_node_id(id, out)
    }

    fn decode_node_id(bytes: Bytes) -> Result<u64, CodecError> {
        <PostcardCodec as EntryCodec<Kv>>::decode_node_id(bytes)
    }
}

/// A log that is open, and what was found.
pub(crate) struct Opened {
    pub(crate) log: WalLog<Kv, Raw>,
    pub(crate) found: Model,
    pub(crate) segment_bytes: usize,
    /// Where something was cut off.
    pub(crate) cut: Option<TornTail>,
    /// Something behind the end was erased.
    pub(crate) was_erased: bool,
}

/// Opens the log and reads all of it.
pub(crate) fn open(disk: &SimDisk, segment_bytes: usize) -> Result<Opened, OpenError> {
    let mut log: WalLog<Kv, Raw> = WalLog::open_on(disk.clone(), &identity(), &options(segment_bytes))?;
    let about = |error: io::Error| OpenError::Io { file: "disk".into(), error };
    let state = block_on(log.load()).map_err(about)?;
    let range = state.purged.index + 1..Index::MAX;
    let entries = block_on(log.reader().read(range, u64::MAX)).map_err(about)?;
    assert_eq!(entries.last().unwrap_or(state.purged), state.last, "the reader ends elsewhere than the log");
    let (cut, was_erased) = (log.report().torn.clone(), log.report().was_erased);
    Ok(Opened { log, found: Model::found(&state, entries), segment_bytes, cut, was_erased })
}

impl Opened {
    pub(crate) fn call(&mut self, call: &Call) -> io::Result<()> {
        let log = &mut self.log;
        match call.clone() {
            Call::HardState(state) => block_on(log.save_hard_state(state)),
            Call::Append(entries, commit) => block_on(log.append(entries, commit)),
            Call::Truncate(from) => block_on(log.truncate(from)),
            Call::Purge(upto) => block_on(log.purge(upto)),
            Call::Reopen => panic!("not a call"),
        }
    }
}
