//! On which machine something was measured.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// On which machine something was measured. What cannot be found out is said to be unknown. Linux only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of its processors.
    pub processor: String,
    /// How many of them this process may use.
    pub cores: usize,
    /// Its memory, in bytes.
    pub memory_bytes: u64,
    /// The version of its kernel.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The first value of that name in lines of `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// What a folder stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The type of its filesystem.
    pub filesystem: String,
    /// The device below.
    pub device: String,
    /// Options of the mount that matter to what a sync does.
    pub options: String,
}

impl Disk {
    /// That of `folder`. Linux only.
    ///
    /// # Errors
    ///
    /// When there is no such folder, or the kernel does not tell.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        Self::in_mounts(&fs::read_to_string("/proc/self/mounts")?, &folder).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no mount holds {}", folder.display()))
        })
    }

    /// Lines of `device folder type options 0 0`; the longest folder above the one asked for is its mount, and of several
    /// with the same name the last.
    fn in_mounts(mounts: &str, folder: &Path) -> Option<Self> {
        let lines = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?, words.next()?, words.next()?))
        });
        let above = lines.filter(|(_, mount, _, _)| folder.starts_with(mount));
        let (device, _, filesystem, options) = above.max_by_key(|(_, mount, _, _)| mount.len())?;
        Some(Self { filesystem: filesystem.into(), device: device.into(), options: options.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(
            0 < machine.cores && 1 << 20 < machine.memory_bytes && !machine.kernel.is_empty(),
            "{machine:?}"
        );
        assert_eq!(
            field("processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n", "model name").unwrap(),
            "A: B"
        );
    }

    #[test]
    fn the_longest_mount_above_a_folder_holds_it() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw,noatime 0 0\n/dev/c /data2 btrfs rw 0 0\n";
        let of = |folder: &str| Disk::in_mounts(mounts, Path::new(folder)).unwrap();
        assert_eq!(of("/data/log").filesystem, "xfs");
        assert_eq!(of("/data/log").options, "rw,noatime");
        assert_eq!(of("/dat").device, "/dev/a");
        assert_eq!(Disk::in_mounts("", Path::new("/")), None);
        assert!(Disk::of(Path::new(env!("CARGO_MANIFEST_DIR"))).is_ok());
    }
}
