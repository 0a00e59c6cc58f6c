//! `Folder`: the disk of production, a folder of the operating system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile};

/// The name of the file whose lock says that a folder is in use.
const LOCK: &str = "lock";

/// A folder of the operating system.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which must be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

impl Disk for Folder {
    type File = FolderFile;
    type Lock = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string().ok().filter(|name| name != LOCK));
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<FolderFile> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))?;
        Ok(FolderFile { file })
    }

    fn open(&self, name: &str) -> io::Result<FolderFile> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(FolderFile { file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        // Elsewhere a folder cannot be opened as a file, and the file system keeps names in order by itself.
        if cfg!(unix) { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.path(LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A file of a [`Folder`].
#[derive(Debug)]
pub struct FolderFile {
    file: File,
}

impl DiskFile for FolderFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset);
    }

    #[cfg(target_os = "linux")]
    fn will_read(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::WillNeed);
    }

    #[cfg(target_os = "linux")]
    fn write_at(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        // The kernel takes no more parts at once.
        const PARTS_MAX: usize = 1024;
        let mut copy = parts.to_vec();
        let mut rest = &mut copy[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = rest.len().min(PARTS_MAX);
            let written = match rustix::io::pwritev(&self.file, &rest[..count], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                // Nothing was written; a signal came first.
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn write_at(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        for part in parts {
            #[cfg(unix)]
            std::os::unix::fs::FileExt::write_all_at(&self.file, part, offset)?;
            #[cfg(windows)]
            {
                let mut rest = &part[..];
                let mut at = offset;
                while !rest.is_empty() {
                    let written = std::os::windows::fs::FileExt::seek_write(&self.file, rest, at)?;
                    rest = &rest[written..];
                    at += written as u64;
                }
            }
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_behind_each_other_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = Folder::new(dir.path()).create("a").unwrap();
        let bytes: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
        let parts: Vec<_> = bytes.chunks(2).map(IoSlice::new).collect();
        assert!(parts.len() > 2048);
        let with_empty: Vec<_> =
            [IoSlice::new(&[])].into_iter().chain(parts).chain([IoSlice::new(&[])]).collect();
        file.write_at(3, &with_empty).unwrap();
        file.write_at(0, &[]).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 5003);
        let mut found = vec![9; 6000];
        assert_eq!(file.read_at(0, &mut found).unwrap(), 5003);
        assert_eq!((&found[..3], &found[3..5003]), (&[0; 3][..], &bytes[..]));
        assert_eq!(file.read_at(5003, &mut found).unwrap(), 0);
    }

    #[test]
    fn a_folder_is_locked_until_the_lock_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let lock = folder.lock().unwrap();
        assert_eq!(folder.lock().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(lock);
        folder.lock().unwrap();
        assert_eq!(folder.list().unwrap(), Vec::<String>::new(), "the lock is no file of the log");
    }

    #[test]
    fn files_are_made_renamed_and_removed_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let a = folder.create("a").unwrap();
        a.write_at(0, &[IoSlice::new(b"one")]).unwrap();
        assert_eq!(folder.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        folder.create("b").unwrap();
        folder.rename("a", "b").unwrap();
        folder.sync_folder().unwrap();
        assert_eq!(folder.list().unwrap(), ["b"]);
        assert_eq!(folder.open("b").unwrap().len_bytes().unwrap(), 3);
        assert_eq!(folder.open("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        folder.remove("b").unwrap();
        assert_eq!(a.len_bytes().unwrap(), 3, "a handle outlives its name");
    }
}
