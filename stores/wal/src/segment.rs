//! A segment that is open, and reading it in blocks.

use std::io;
use std::sync::Arc;

use openconsensus_store_common::invalid_data;

use crate::disk::{Disk, DiskFile};
use crate::format::segment_name;
use crate::frame::{HEAD_BYTES, Head, Sum};

/// A [`Disk`] whatever the type of its files.
pub(crate) trait AnyDisk: Send + Sync {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_folder(&self) -> io::Result<()>;
}

impl<D: Disk> AnyDisk for D {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Disk::create(self, name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Disk::rename(self, from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Disk::remove(self, name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        Disk::sync_folder(self)
    }
}

/// A segment that is open. Its header has been checked, or was written by us.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// How long it is as it was made; more may have been written behind that.
    pub(crate) bytes: u64,
    /// What the checksums of its frames begin with.
    pub(crate) seed: Seed,
}

/// A [`Sum`] that can be shown.
#[derive(Clone)]
pub(crate) struct Seed(pub(crate) Sum);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl Segment {
    pub(crate) fn name(&self) -> String {
        segment_name(self.number)
    }
}

/// A file that is read in large blocks, mostly from its front to its end.
pub(crate) struct Blocks<'a> {
    file: &'a dyn DiskFile,
    len_bytes: u64,
    block_bytes: usize,
    /// Only the front of it, up to `filled`, holds what was read.
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the file the buffer begins.
    start: u64,
    /// How much was read in all.
    pub(crate) read_bytes: u64,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, block_bytes: usize) -> io::Result<Self> {
        Self::with_buffer(file, block_bytes, Vec::new())
    }

    /// As [`new`](Self::new), with the memory of another one.
    pub(crate) fn with_buffer(
        file: &'a dyn DiskFile,
        block_bytes: usize,
        buffer: Vec<u8>,
    ) -> io::Result<Self> {
        let len_bytes = file.len_bytes()?;
        Ok(Self { file, len_bytes, block_bytes, buffer, filled: 0, start: 0, read_bytes: 0 })
    }

    /// Its memory, for another one.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The bytes from `offset` on: `count`, or fewer where the file ends.
    pub(crate) fn at(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = (offset + count as u64).min(self.len_bytes).max(offset);
        if offset < self.start || self.start + (self.filled as u64) < end {
            self.fill(offset, (end - offset) as usize)?;
        }
        // Behind the end of the file, and of the buffer, there is nothing.
        let from = (offset - self.start).min(self.filled as u64) as usize;
        let to = ((end - self.start).min(self.filled as u64) as usize).max(from);
        Ok(&self.buffer[from..to])
    }

    /// Has the buffer begin at `offset` and hold `needed` bytes at least.
    fn fill(&mut self, offset: u64, needed: usize) -> io::Result<()> {
        let buffered = self.start + self.filled as u64;
        if self.start <= offset && offset <= buffered {
            self.buffer.copy_within((offset - self.start) as usize..self.filled, 0);
            self.filled = (buffered - offset) as usize;
        } else {
            self.filled = 0;
        }
        self.start = offset;
        let rest = self.len_bytes.saturating_sub(offset);
        let wanted = (needed.max(self.block_bytes) as u64).min(rest) as usize;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.filled < needed {
            let at = offset + self.filled as u64;
            let read = match self.file.read_at(at, &mut self.buffer[self.filled..wanted]) {
                Ok(0) => return Err(invalid_data(format!("it ends at {at}, too early"))),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.filled += read;
            self.read_bytes += read as u64;
        }
        Ok(())
    }

    /// The head of the frame at `offset`, if there may be one; whether it is one, nobody has checked.
    pub(crate) fn head(&mut self, offset: u64) -> io::Result<Option<Head>> {
        let head = Head::decode(self.at(offset, HEAD_BYTES)?);
        let end = |head: &Head| offset + HEAD_BYTES as u64 + u64::from(head.body_bytes);
        Ok(head.filter(|head| end(head) <= self.len_bytes))
    }

    /// The frame at `offset` and its body, if there is one whose checksum is right.
    pub(crate) fn frame(&mut self, offset: u64, seed: &Sum) -> io::Result<Option<(Head, &[u8])>> {
        let Some(head) = self.head(offset)? else { return Ok(None) };
        let bytes = self.at(offset, HEAD_BYTES + head.body_bytes as usize)?;
        Ok(head.fits(seed, bytes).then(|| (head, &bytes[HEAD_BYTES..])))
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::disk::Folder;

    #[test]
    fn any_part_of_a_file_can_be_read_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = AnyDisk::create(&Folder::new(dir.path()), "a").unwrap();
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n / 3) as u8).collect();
        file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        for block in [1, 64, 5000] {
            let mut blocks = Blocks::new(&*file, block).unwrap();
            for (offset, count) in
                [(0, 10), (5, 100), (105, 0), (700, 20), (3, 900), (990, 100), (1000, 8), (0, 1)]
            {
                let end = (offset + count).min(1000);
                assert_eq!(blocks.at(offset as u64, count).unwrap(), &bytes[offset..end], "{offset} {count}");
            }
            assert_eq!(blocks.at(2000, 8).unwrap(), []);
        }
    }
}
