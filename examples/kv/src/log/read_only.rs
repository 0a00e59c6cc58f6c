//! A folder in which nothing can be changed.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use openconsensus_wal::disk::{Disk, DiskFile, Folder};

/// A [`Folder`] whose files are opened for reading.
#[derive(Debug)]
pub(super) struct ReadOnly {
    folder: Folder,
}

impl ReadOnly {
    pub(super) fn new(path: &Path) -> Self {
        Self { folder: Folder::new(path) }
    }
}

#[derive(Debug)]
pub(crate) struct ReadFile {
    file: File,
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the log is only looked at")
}

impl Disk for ReadOnly {
    type File = ReadFile;
    type Lock = Option<File>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }

    fn create(&self, _name: &str) -> io::Result<ReadFile> {
        Err(refused())
    }

    fn open(&self, name: &str) -> io::Result<ReadFile> {
        Ok(ReadFile { file: File::open(self.folder.path(name))? })
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Err(refused())
    }

    /// Only where there is a file to lock: in a copy of a folder there may be none, and none is made.
    fn lock(&self) -> io::Result<Option<File>> {
        let Ok(file) = File::open(self.folder.path("lock")) else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

impl DiskFile for ReadFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset);
    }

    fn write_at(&self, _offset: u64, _parts: &[IoSlice<'_>]) -> io::Result<()> {
        Err(refused())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(refused())
    }
}
