//! What the log needs of a disk: files in one folder, written at places that are known beforehand, and synced.
//!
//! [`Folder`] is the disk of production. A test puts another one in its place: one that loses what was not synced, tears
//! what was being written, fails, or is full.

mod folder;

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::io::IoSlice;
use std::path::PathBuf;

pub use folder::{Folder, FolderFile};

/// One folder of files.
///
/// Calls block, and are made by the threads of the log: by one that writes, one that reads, and, unless
/// [`WalOptions::housekeeping_aside`](crate::WalOptions::housekeeping_aside) is off, one that makes segments ready and
/// removes them. With it off every change of the disk is made by one thread, in an order that depends on nothing but
/// the calls of the log.
///
/// What the log relies on:
///
/// - What [`sync_data`](DiskFile::sync_data) has returned for is there after a crash, with the length of the file. So
///   are names, when [`sync_folder`](Self::sync_folder) has returned.
/// - Before that, any part of what was written may be there after a crash, in any order, in pieces of any size; what was
///   written in one place leaves what stands in other places alone. A byte that is written again with the value that it
///   had keeps it.
/// - Before `sync_folder`, any of the names that were made, changed or removed may be as before or as after, each by itself.
/// - An error of a write or a sync leaves the file in an unknown state; the log never writes to it again before it has been
///   opened and recovered anew.
pub trait Disk: Debug + Send + Sync + 'static {
    /// A file of this disk that is open.
    type File: DiskFile;
    /// Held as long as the log is open.
    type Lock: Send + 'static;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file and opens it. There must be none of this name: [`AlreadyExists`](io::ErrorKind::AlreadyExists).
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and writing. [`NotFound`](io::ErrorKind::NotFound) when there is none.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in the place of the one that had it. Handles that are open stay with their files.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Handles that are open can still be used.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: those that were made, changed and removed.
    fn sync_folder(&self) -> io::Result<()>;

    /// Makes sure that nobody else has the log open: [`ResourceBusy`](io::ErrorKind::ResourceBusy) when somebody has.
    fn lock(&self) -> io::Result<Self::Lock>;

    /// Where a file is, for people who read errors.
    fn path(&self, name: &str) -> PathBuf;

    /// A number that no other log gets: it tells the segments of this log from all others. A test may return one that is the
    /// same in every run.
    fn unique_number(&self) -> u64 {
        // The keys of the hasher come from the operating system.
        RandomState::new().hash_one(std::process::id())
    }
}

/// A file that is open. Reads may run beside a write to other places.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// How long it is, in bytes.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Reads from `offset` on into `buffer`, as [`Read::read`](io::Read::read) does: 0 means the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Says that the whole file will be read soon, so that it may be fetched meanwhile. Nothing depends on it.
    fn will_read(&self) {}

    /// Writes all of `parts`, one after the other, from `offset` on; behind its end the file grows. Not durable before
    /// [`sync_data`](Self::sync_data) has returned.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Makes durable what was written, and the length of the file.
    fn sync_data(&self) -> io::Result<()>;
}
