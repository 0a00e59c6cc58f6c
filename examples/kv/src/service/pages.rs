//! Scans in pages: one view of the state, read on a thread of its own, a page ahead of the client at most.

use std::io;
use std::ops::Bound;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use openconsensus_redb::kv::{KvReader, KvView};
use tokio::sync::mpsc;
use tonic::Status;

use super::failures::not_ready;
use crate::proto::{ChecksumResponse, Failure, KeyValue, ScanPage, ScanRequest};

/// A page has about so many bytes of keys and values.
const PAGE_BYTES: usize = 1 << 20;

/// A page has at most so many keys.
const PAGE_KEYS_MAX: usize = 4096;

/// The pages of a scan, as they are read.
#[derive(Debug)]
pub struct Pages(mpsc::Receiver<ScanPage>);

impl Stream for Pages {
    type Item = Result<ScanPage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|page| page.map(Ok))
    }
}

/// Scans the state as it is now.
pub(super) fn scan(reader: KvReader, request: ScanRequest) -> Pages {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let scanned = reader.view().and_then(|view| send_pages(&view, &request, &sender));
        if let Err(error) = scanned {
            // Nobody listens when the client has gone.
            let _ = sender.blocking_send(ScanPage { failure: Some(not_ready(error)), items: Vec::new() });
        }
    });
    Pages(receiver)
}

/// Nothing but a failure.
pub(super) fn failed(failure: Failure) -> Pages {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one, and the receiver is here.
    let _ = sender.try_send(ScanPage { failure: Some(failure), items: Vec::new() });
    Pages(receiver)
}

fn send_pages(view: &KvView, request: &ScanRequest, sender: &mpsc::Sender<ScanPage>) -> io::Result<()> {
    let end = request.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
    let mut start = Bound::Included(request.start.clone());
    let mut left = if request.limit == 0 { u64::MAX } else { request.limit };
    // Of how large the values are, only the pages before can tell.
    let mut page_keys = 16;
    while 0 < left && !is_empty(&start, &end) {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(page_keys);
        let found = view.scan((start, end.clone()), wanted)?;
        let is_last = found.len() < wanted;
        let bytes: usize = found.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        page_keys =
            (PAGE_BYTES / (bytes / found.len().max(1)).max(1)).clamp(1, (2 * page_keys).min(PAGE_KEYS_MAX));
        left -= found.len() as u64;
        let Some((last, _)) = found.last() else { return Ok(()) };
        start = Bound::Excluded(last.clone());
        let items = found.into_iter().map(|(key, value)| KeyValue { key, value }).collect();
        let is_gone = sender.blocking_send(ScanPage { failure: None, items }).is_err();
        if is_last || is_gone {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether no key can be in the range, which the store does not allow to ask for.
fn is_empty(start: &Bound<String>, end: &Bound<String>) -> bool {
    match (start, end) {
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) => end <= start,
        (_, Bound::Unbounded | Bound::Included(_)) | (Bound::Unbounded, _) => false,
    }
}

/// The checksum of the state as it is now.
pub(super) fn checksum(reader: &KvReader) -> io::Result<ChecksumResponse> {
    let view = reader.view()?;
    let applied = view.last_applied()?;
    Ok(ChecksumResponse {
        failure: None,
        applied_index: applied.index,
        applied_term: applied.term,
        checksum: view.checksum()?.into(),
        keys: view.len()?,
    })
}
