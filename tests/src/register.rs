//! `Register`: checks that reads of one key are linearizable.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::{Client, Outcome, put};

/// A key that one writer sets to 1, 2, 3 and so on, and that any number of readers read.
///
/// A read must return a value that was acknowledged, or seen by another read, before the read began, or a later one;
/// and none that was not begun to be written when the read ended. For a key whose values only grow that is the same as
/// linearizability.
#[derive(Debug)]
pub struct Register {
    key: String,
    /// The largest value whose write has begun.
    begun: AtomicU64,
    /// The largest value that an acknowledgement or a read has shown to be there.
    seen: AtomicU64,
}

impl Register {
    /// A register that stands in `key`, with the value 0: absent.
    pub fn new(key: &str) -> Self {
        Self { key: key.to_string(), begun: AtomicU64::new(0), seen: AtomicU64::new(0) }
    }

    /// Writes the next value. Only one writer may do so at a time.
    pub async fn write(&self, client: &mut Client) -> Outcome {
        let value = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = client.write(put(&self.key, value.to_string())).await;
        if let Outcome::Applied(_) = outcome {
            self.seen.fetch_max(value, Ordering::SeqCst);
        }
        outcome
    }

    /// Reads through any node and checks the value. Returns it.
    ///
    /// # Panics
    ///
    /// When the read was not linearizable.
    pub async fn read(&self, client: &mut Client) -> u64 {
        let least = self.seen.load(Ordering::SeqCst);
        let value = client.read(&self.key).await;
        self.check(least, value)
    }

    /// Tries to read at node `id`, and checks the value if there is one.
    ///
    /// # Panics
    ///
    /// When the read was not linearizable.
    pub async fn read_at(&self, client: &Client, id: u64) -> Option<u64> {
        let least = self.seen.load(Ordering::SeqCst);
        let value = client.read_at(id, &self.key).await.ok()?;
        Some(self.check(least, value))
    }

    fn check(&self, least: u64, value: Option<Vec<u8>>) -> u64 {
        let most = self.begun.load(Ordering::SeqCst);
        let value = value.map_or(0, |value| {
            let text = String::from_utf8(value).expect("a register holds digits");
            text.parse().expect("a register holds a number")
        });
        assert!(
            (least..=most).contains(&value),
            "a read of {} returned {value}: it must be {least} to {most}",
            self.key
        );
        self.seen.fetch_max(value, Ordering::SeqCst);
        value
    }
}
