//! Steps on files that survive a crash.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{About, OpenError};

/// The length of the file, or `None` when there is none. Only a file that is certainly absent counts as absent.
pub fn len(path: &Path) -> Result<Option<u64>, OpenError> {
    match fs::symlink_metadata(path) {
        // A link to nowhere is an error of its target, not an absent file.
        Ok(_) => Ok(Some(fs::metadata(path).map_err(|error| About(path).io(error))?.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(About(path).io(error)),
    }
}

/// Makes `dir`, and what is above it, durably.
pub fn create_dir(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    create_parent(dir)?;
    let made = match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    };
    made.and_then(|()| sync_parent(dir)).map_err(|error| About(dir).io(error))
}

/// Makes the folder that `path` is in.
pub fn create_parent(path: &Path) -> Result<(), OpenError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => create_dir(parent),
        _ => Ok(()),
    }
}

/// Renames a file, which has been synced, within its folder, durably.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Syncs the folder that `path` is in, so that the name is there after a crash.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Elsewhere a folder cannot be opened as a file, and the file system keeps names in order by itself.
    if cfg!(unix) { File::open(parent)?.sync_all() } else { Ok(()) }
}
