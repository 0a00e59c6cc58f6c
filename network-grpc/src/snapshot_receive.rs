//! Receives one snapshot: hands on its bytes as they are taken, and checks length and checksum at the end.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream;
use openconsensus::{SnapshotStream, snapshot_stream};
use tokio::sync::watch;
use tonic::{Code, Status, Streaming};

use crate::lane::describe;
use crate::proto::{InstallSnapshotRequest, SnapshotEnd, install_snapshot_request::Kind};

/// The receiving end of a transfer. Nothing is buffered in here: the peer sends when more is asked for.
pub(crate) struct Incoming {
    requests: Streaming<InstallSnapshotRequest>,
    /// The number of bytes that was announced, where it was.
    announced: Option<u64>,
    bytes: u64,
    checksum: crc32fast::Hasher,
    failure: Failure,
    closing: watch::Receiver<bool>,
}

/// Why the stream of bytes ended in an error, for whoever answers the sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failure(Arc<OnceLock<Status>>);

impl Failure {
    pub(crate) fn status(&self) -> Option<Status> {
        self.0.get().cloned()
    }
}

impl Incoming {
    pub(crate) fn new(
        requests: Streaming<InstallSnapshotRequest>,
        announced: Option<u64>,
        closing: watch::Receiver<bool>,
    ) -> (Self, Failure) {
        let failure = Failure::default();
        let checksum = crc32fast::Hasher::new();
        (Self { requests, announced, bytes: 0, checksum, failure: failure.clone(), closing }, failure)
    }

    /// The bytes. Ends in an error unless every byte has arrived and the checksum is right.
    pub(crate) fn into_stream(self) -> SnapshotStream {
        snapshot_stream(stream::try_unfold(self, |mut incoming| async move {
            match incoming.next().await {
                Ok(Some(chunk)) => Ok(Some((chunk, incoming))),
                Ok(None) => Ok(None),
                Err(status) => {
                    let error = io::Error::new(error_kind(&status), status.message());
                    let _first = incoming.failure.0.set(status);
                    Err(error)
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let request = tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => {
                return Err(Status::unavailable("this node is shutting down"));
            }
            request = self.requests.message() => request,
        };
        let request = request.map_err(|status| self.broken(&describe(&status)))?;
        // A sender that resets the call looks like one that ends it.
        let Some(request) = request else { return Err(self.broken("the sender went away")) };
        match request.kind {
            Some(Kind::Chunk(chunk)) => self.take(chunk).map(Some),
            Some(Kind::End(end)) => self.check(end).map(|()| None),
            Some(Kind::Abort(reason)) => Err(self.broken(&format!("the sender gave up: {reason}"))),
            Some(Kind::Start(_)) | None => Err(Status::invalid_argument(
                "after the first request of a snapshot only chunks, an end or an abort may follow",
            )),
        }
    }

    fn take(&mut self, chunk: Bytes) -> Result<Bytes, Status> {
        self.bytes += chunk.len() as u64;
        self.checksum.update(&chunk);
        match self.announced {
            Some(announced) if announced < self.bytes => Err(Status::data_loss(format!(
                "the snapshot was announced with {announced} bytes and has {} or more",
                self.bytes
            ))),
            _ => Ok(chunk),
        }
    }

    fn check(&self, end: SnapshotEnd) -> Result<(), Status> {
        let crc32 = self.checksum.clone().finalize();
        let expected = self.announced.unwrap_or(end.bytes);
        if end.bytes != self.bytes || expected != self.bytes {
            return Err(Status::data_loss(format!(
                "the snapshot has {} bytes, the sender sent {}, and {expected} were announced",
                self.bytes, end.bytes
            )));
        }
        if end.crc32 != crc32 {
            return Err(Status::data_loss(format!(
                "the snapshot of {} bytes has checksum {crc32:08x}, the sender computed {:08x}",
                self.bytes, end.crc32
            )));
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> Status {
        Status::aborted(format!("the transfer broke off after {} bytes: {reason}", self.bytes))
    }
}

fn error_kind(status: &Status) -> io::ErrorKind {
    match status.code() {
        Code::DataLoss | Code::InvalidArgument => io::ErrorKind::InvalidData,
        Code::Aborted => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::Other,
    }
}
