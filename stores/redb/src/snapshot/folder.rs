//! The folder of snapshot files: what is unfinished, what is current, what is left over.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::OpenError;
use openconsensus_store_common::files;

const FINISHED: &str = "snapshot";
const UNFINISHED: &str = "tmp";

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Opens the folder, or makes it.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        files::create_dir(dir)?;
        Ok(Self { dir: dir.into() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The name of the `number`th snapshot, which goes up to entry `index`.
    pub(crate) fn name(number: u64, index: u64) -> String {
        format!("{number:08}-at-{index}.{FINISHED}")
    }

    /// A new file that nobody else writes to.
    pub(crate) fn unfinished(&self) -> io::Result<Unfinished> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.path(&format!("{}-{number}.{UNFINISHED}", std::process::id()));
        // Only a process that is gone can have left one of this name.
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Unfinished { file: Some(file), path })
    }

    /// Whether there is a finished snapshot, current or not.
    pub(crate) fn has_snapshot(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.dir)? {
            if entry?.path().extension().is_some_and(|kind| kind == FINISHED) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes all snapshots but the `kept` latest up to `current`, the number of the current one, and what was left
    /// unfinished. Other files are not ours, and stay. To be called when nothing is being built or received.
    pub(crate) fn clean(&self, current: Option<u64>, kept: usize) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        self.remove_old(current, kept)
    }

    /// Removes all snapshots but the `kept` latest up to `current`. What reads one of them goes on reading.
    pub(crate) fn remove_old(&self, current: Option<u64>, kept: usize) -> io::Result<()> {
        let mut finished = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == FINISHED) {
                finished.push((number_of(&path), path));
            }
        }
        // One behind the current one was finished just before a crash, and nothing names it.
        let is_older = |number: Option<u64>| number.is_some_and(|number| Some(number) <= current);
        finished.sort();
        let mut left = kept.max(1);
        for (number, path) in finished.into_iter().rev() {
            if is_older(number) && 0 < left {
                left -= 1;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// The number in the name of a finished snapshot.
fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}

/// A snapshot file that is being written. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: Option<File>,
    path: PathBuf,
}

impl Unfinished {
    /// The open file.
    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("the file is there until it is finished")
    }

    /// Gives the file, which has been synced, its name in `folder`, durably.
    pub(crate) fn finish(mut self, folder: &Folder, name: &str) -> io::Result<()> {
        files::rename(&self.path, &folder.path(name))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // If it fails the next start removes the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}
