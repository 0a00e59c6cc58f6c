//! Limits of the log.

use std::io;

/// Limits of the log, each with its unit in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// How long a segment is. It is filled with zeros before it is used, so that a write changes no metadata of the file
    /// system; a longer one is made less often, and is removed later. Two of them are on the disk at least. An entry that
    /// is larger gets a segment that is as long as it needs. From 64 KiB to 1 GiB; default 64 MiB.
    pub segment_bytes: u64,
    /// How many segments stand ready ahead of need, at least: writes never wait for one as long as one of them is left.
    /// From 1 to 64; default 1.
    pub segments_ready_min: usize,
    /// How many segments stand ready at most: one whose entries are purged becomes the next one instead of being removed,
    /// which saves the zeros. From `segments_ready_min` to 64; default 2.
    pub segments_ready_max: usize,
    /// How much is written and synced at once, at most. What waits beyond goes with the next write. An entry that is larger
    /// goes alone. From 4 KiB to 64 MiB; default 4 MiB.
    pub group_bytes_max: u64,
    /// How much stands under one checksum, at most: to read an entry is to read all that stands under its checksum. An
    /// entry that is larger stands alone. From 1 KiB to 16 MiB; default 64 KiB.
    pub frame_bytes_max: u64,
    /// How long the thread that writes waits for more without sleeping, when it has become idle; it learns by itself when
    /// that does not pay. To be woken from sleep costs it some ten times as much as a short write takes otherwise. From 0,
    /// which is never, to 1,000; default 50.
    pub spin_us_max: u64,
    /// Whether segments are made ready and removed by a thread of their own, so that no write waits for it. Off, the
    /// thread that writes does so between two writes: for tests that want the same operations in the same order in every
    /// run. Default on.
    pub housekeeping_aside: bool,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segments_ready_min: 1,
            segments_ready_max: 2,
            group_bytes_max: 4 << 20,
            frame_bytes_max: 64 << 10,
            spin_us_max: 50,
            housekeeping_aside: true,
        }
    }
}

impl WalOptions {
    /// Whether all limits are in their ranges. A log checks that when it is opened.
    ///
    /// # Errors
    ///
    /// Of the kind [`InvalidInput`](io::ErrorKind::InvalidInput), with what is wrong and what would be right.
    pub fn check(&self) -> io::Result<()> {
        let Self {
            segment_bytes,
            segments_ready_min,
            segments_ready_max,
            group_bytes_max,
            frame_bytes_max,
            spin_us_max,
            housekeeping_aside: _,
        } = *self;
        let ready_max = segments_ready_max as u64;
        let limits = [
            ("segment_bytes", segment_bytes, 64 << 10, 1 << 30),
            ("segments_ready_min", segments_ready_min as u64, 1, 64),
            ("segments_ready_max", ready_max, segments_ready_min as u64, 64),
            ("group_bytes_max", group_bytes_max, 4 << 10, 64 << 20),
            ("frame_bytes_max", frame_bytes_max, 1 << 10, 16 << 20),
            ("spin_us_max", spin_us_max, 0, 1_000),
        ];
        for (name, value, min, max) in limits {
            if value < min || max < value {
                let what = format!("{name} is {value}; allowed: {min} to {max}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_each_limit_is_checked() {
        let options = WalOptions::default();
        options.check().unwrap();
        let wrong = [
            WalOptions { segment_bytes: 65_535, ..options.clone() },
            WalOptions { segments_ready_min: 0, ..options.clone() },
            WalOptions { segments_ready_min: 3, segments_ready_max: 2, ..options.clone() },
            WalOptions { group_bytes_max: (64 << 20) + 1, ..options.clone() },
            WalOptions { frame_bytes_max: 1023, ..options.clone() },
            WalOptions { spin_us_max: 1_001, ..options.clone() },
        ];
        for options in wrong {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains("allowed: "), "{error}");
        }
        let error = WalOptions { segment_bytes: 1, ..options }.check().unwrap_err().to_string();
        assert_eq!(error, "segment_bytes is 1; allowed: 65536 to 1073741824");
    }
}
