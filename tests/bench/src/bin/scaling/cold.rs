//! Files as the disk has them: out of the page cache, and read from end to end.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// All files below `folder`, with their lengths.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push((entry.path(), meta.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes out what is dirty of all files, and drops their pages (`posix_fadvise` with `DONTNEED`): nobody else's are
/// touched. How much was read from the device afterwards shows whether it has worked: [`device_bytes`].
pub(crate) fn evict(folder: &Path) -> io::Result<()> {
    for (path, _) in files(folder)? {
        let file = File::open(path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Reads all files, one after the other, from the first byte to the last. Returns how many bytes there were.
pub(crate) fn read_all(folder: &Path) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    for (path, _) in files(folder)? {
        let mut file = File::open(path)?;
        fadvise(&file, 0, None, Advice::Sequential)?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
        }
    }
    Ok(bytes)
}

/// How many bytes this process has had read from block devices so far.
pub(crate) fn device_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let found = text.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no read_bytes in {text:?}")))
}

/// The most memory that this process has occupied so far.
pub(crate) fn resident_peak_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no VmHWM in {text:?}")))
}
