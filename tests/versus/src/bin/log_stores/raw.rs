//! A file that was filled with zeros, overwritten frame by frame: no log, but what a log can reach.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use openconsensus_bench::Failure;

use crate::Log;

/// How long the file is. When it is full, the next frame is at its beginning.
const FILE_BYTES: u64 = 64 << 20;

pub(crate) struct Raw {
    file: File,
    /// Where the next frame begins.
    place: u64,
    /// The frame that is put together.
    frame: Vec<u8>,
}

impl Raw {
    pub(crate) fn create(folder: &Path) -> Result<Self, Failure> {
        let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(folder.join("raw"))?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self { file, place: 0, frame: Vec::new() })
    }
}

impl Log for Raw {
    fn append(&mut self, first: u64, entries: &[Bytes]) -> Result<(), Failure> {
        // Length, checksum, and the index of the first entry; then each entry behind its length.
        self.frame.clear();
        self.frame.extend([0; 8]);
        self.frame.extend(first.to_le_bytes());
        for entry in entries {
            self.frame.extend(u32::try_from(entry.len())?.to_le_bytes());
            self.frame.extend_from_slice(entry);
        }
        let length = u32::try_from(self.frame.len())?;
        let checksum = crc32fast::hash(&self.frame[8..]);
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        if FILE_BYTES < self.place + u64::from(length) {
            self.place = 0;
        }
        self.file.write_all_at(&self.frame, self.place)?;
        self.file.sync_data()?;
        self.place += u64::from(length);
        Ok(())
    }

    fn purge(&mut self, _upto: u64) -> Result<(), Failure> {
        Ok(())
    }
}
