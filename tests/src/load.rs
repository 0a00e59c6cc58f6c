//! `Load`: clients that write in the background until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::client::put;
use crate::cluster::Cluster;
use crate::eventually::eventually;
use crate::writes::Writes;

/// Clients that write, each one write after the other, each write a key of its own.
#[derive(Debug)]
pub struct Load {
    writes: Arc<Writes>,
    is_stopping: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

impl Load {
    /// Starts `writers` clients of `cluster`, whose keys begin with `prefix`.
    pub fn start(cluster: &Cluster, prefix: &str, writers: usize) -> Self {
        let mut load = Self { writes: Arc::default(), is_stopping: Arc::default(), writers: JoinSet::new() };
        for writer in 0..writers {
            let mut client = cluster.client();
            let writes = load.writes.clone();
            let is_stopping = load.is_stopping.clone();
            let prefix = format!("{prefix}/{writer}");
            let writer = async move {
                let mut count = 0_u64;
                while !is_stopping.load(Ordering::Relaxed) {
                    count += 1;
                    let key = format!("{prefix}/{count:08}");
                    let outcome = client.write(put(&key, Writes::value_of(&key))).await;
                    writes.record(&key, &outcome);
                }
            };
            #[cfg(not(feature = "single-threaded"))]
            load.writers.spawn(writer);
            #[cfg(feature = "single-threaded")]
            load.writers.spawn_local(writer);
        }
        load
    }

    /// What the clients were told so far.
    pub fn writes(&self) -> &Writes {
        &self.writes
    }

    /// Waits until `count` more writes are acknowledged.
    pub async fn acknowledged(&self, count: usize) {
        let goal = self.writes.acknowledged() + count;
        let what = format!("{count} more acknowledged writes");
        eventually(&what, || {
            let acknowledged = self.writes.acknowledged();
            if goal <= acknowledged { Ok(()) } else { Err(acknowledged) }
        })
        .await;
    }

    /// Lets every client finish the write that it is at, and returns what all of them were told.
    ///
    /// # Panics
    ///
    /// When a client has panicked.
    pub async fn stop(mut self) -> Arc<Writes> {
        self.is_stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer must not panic");
        }
        self.writes
    }
}
