//! `Register`: a key that is written and read, and whether that was linearizable.

use std::sync::atomic::{AtomicU64, Ordering};

use openconsensus_memstore::kv::Response;

use crate::client::{Client, Outcome, put};
use crate::linearizability::{self, KvModel, KvRequest, KvResponse, Limits, Recorder, check};

/// A key that writers set to 1, 2, 3 and so on, and that any number of readers read. All of it is recorded.
#[derive(Debug)]
pub struct Register {
    key: String,
    /// The largest value whose write has begun.
    begun: AtomicU64,
    recorder: Recorder<KvRequest<u64>, KvResponse<u64>>,
}

impl Register {
    /// A register that stands in `key`, which is absent.
    pub fn new(key: &str) -> Self {
        Self { key: key.to_string(), begun: AtomicU64::new(0), recorder: Recorder::new() }
    }

    /// Writes the next value.
    pub async fn write(&self, client: &mut Client) -> Outcome {
        let next = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let call = self.recorder.call(0, KvRequest::put(&self.key, next));
        let outcome = client.write(put(&self.key, next.to_string())).await;
        call.ended(match &outcome {
            Outcome::Applied(Response::Previous(previous)) => {
                linearizability::Outcome::Returned(KvResponse::Previous(previous.as_deref().map(value)))
            }
            Outcome::Applied(other @ (Response::Compared { .. } | Response::Batch(_))) => {
                panic!("a put was answered by {other:?}")
            }
            Outcome::Absent => linearizability::Outcome::Absent,
            Outcome::Unknown => linearizability::Outcome::Unknown,
        });
        outcome
    }

    /// Reads through any node.
    pub async fn read(&self, client: &mut Client) {
        let call = self.recorder.call(0, KvRequest::get(&self.key));
        let read = client.read(&self.key).await;
        call.returned(KvResponse::Value(read.as_deref().map(value)));
    }

    /// Tries to read at node `id`. Whether it has answered.
    pub async fn read_at(&self, client: &Client, id: u64) -> bool {
        let call = self.recorder.call(id, KvRequest::get(&self.key));
        match client.read_at(id, &self.key).await {
            Ok(read) => {
                call.returned(KvResponse::Value(read.as_deref().map(value)));
                true
            }
            Err(_) => {
                call.absent();
                false
            }
        }
    }

    /// Checks everything that was written and read.
    ///
    /// # Panics
    ///
    /// When it was not linearizable, with the operations that show it.
    pub fn check(&self) {
        check(&KvModel::new(), &self.recorder.history(), &Limits::default()).assert_linearizable();
    }
}

fn value(bytes: &[u8]) -> u64 {
    let text = str::from_utf8(bytes).expect("a register holds digits");
    text.parse().expect("a register holds a number")
}
