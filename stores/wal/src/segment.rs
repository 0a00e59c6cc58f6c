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

/// A file that is read from its front to its end, in large blocks.
pub(crate) struct Blocks<'a> {
    file: &'a dyn DiskFile,
    len_bytes: u64,
    block_bytes: usize,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    start: u64,
    /// How much was read in all.
    pub(crate) read_bytes: u64,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, block_bytes: usize) -> io::Result<Self> {
        let len_bytes = file.len_bytes()?;
        Ok(Self { file, len_bytes, block_bytes, buffer: Vec::new(), start: 0, read_bytes: 0 })
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The bytes from `offset` on: `count`, or fewer where the file ends.
    pub(crate) fn at(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = (offset + count as u64).min(self.len_bytes);
        let buffered = self.start + self.buffer.len() as u64;
        if offset < self.start || buffered < end {
            self.fill(offset, (end.saturating_sub(offset)) as usize)?;
        }
        let from = (offset - self.start).min(self.buffer.len() as u64) as usize;
        let to = (end.saturating_sub(self.start) as usize).max(from);
        Ok(&self.buffer[from..to])
    }

    /// Has the buffer begin at `offset` and hold `needed` bytes at least.
    fn fill(&mut self, offset: u64, needed: usize) -> io::Result<()> {
        let buffered = self.start + self.buffer.len() as u64;
        if self.start <= offset && offset <= buffered {
            self.buffer.drain(..(offset - self.start) as usize);
        } else {
            self.buffer.clear();
        }
        self.start = offset;
        let mut filled = self.buffer.len();
        let wanted = needed.max(self.block_bytes).min((self.len_bytes - offset.min(self.len_bytes)) as usize);
        self.buffer.resize(wanted.max(filled), 0);
        while filled < needed {
            let read = match self.file.read_at(offset + filled as u64, &mut self.buffer[filled..]) {
                Ok(0) => {
                    return Err(invalid_data(format!("it ends at {}, too early", offset + filled as u64)));
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            filled += read;
            self.read_bytes += read as u64;
        }
        self.buffer.truncate(filled);
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
