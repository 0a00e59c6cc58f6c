//! Streams of snapshots with somebody who watches: an incoming one that ends when it stalls, an outgoing one whose
//! progress can be seen.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::{FutureExt, Stream, StreamExt};

use crate::runtime::{BoxTimer, SnapshotStream, snapshot_stream};

use super::shared::Clock;
use super::sync::lock;

/// Whether a stream has ended in an error, for those who have given it away.
#[derive(Clone, Default)]
pub(super) struct StreamFailure(Arc<AtomicBool>);

impl StreamFailure {
    pub(super) fn has_failed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The bytes of a snapshot as they come from a leader. Ends in an error when the original does, when no chunk comes
/// for `stall_timeout`, when there are more or fewer bytes than announced, or when the transfer is given up.
pub(super) struct IncomingStream {
    data: SnapshotStream,
    clock: Arc<dyn Clock>,
    stall_timeout: Duration,
    bytes_left: Option<u64>,
    /// Resolves when the transfer is given up.
    cancel: oneshot::Receiver<()>,
    /// Set while the consumer waits for a chunk: time that it spends on its own disk does not count.
    waiting: Option<(Instant, BoxTimer)>,
    failure: StreamFailure,
    ended: bool,
}

impl IncomingStream {
    pub(super) fn new(
        data: SnapshotStream,
        size_bytes: Option<u64>,
        clock: Arc<dyn Clock>,
        stall_timeout: Duration,
        cancel: oneshot::Receiver<()>,
    ) -> (Self, StreamFailure) {
        let failure = StreamFailure::default();
        let stream = Self {
            data,
            clock,
            stall_timeout,
            bytes_left: size_bytes,
            cancel,
            waiting: None,
            failure: failure.clone(),
            ended: false,
        };
        (stream, failure)
    }

    fn fail(&mut self, error: io::Error) -> Poll<Option<io::Result<Bytes>>> {
        self.ended = true;
        self.failure.0.store(true, Ordering::SeqCst);
        Poll::Ready(Some(Err(error)))
    }

    /// Whether the consumer has now waited for a chunk for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let now = self.clock.now();
            let (since, timer) = self.waiting.get_or_insert_with(|| {
                let deadline = now + self.stall_timeout;
                (now, self.clock.sleep_until(deadline))
            });
            let deadline = *since + self.stall_timeout;
            if timer.poll_unpin(cx).is_pending() {
                return false;
            }
            if deadline <= now {
                return true;
            }
            // A timer may resolve too early.
            let since = *since;
            self.waiting = Some((since, self.clock.sleep_until(deadline)));
        }
    }

    /// Counts a chunk. `Err` when there are more bytes than announced.
    fn count_bytes(&mut self, chunk: &Bytes) -> io::Result<()> {
        let Some(left) = &mut self.bytes_left else { return Ok(()) };
        *left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the snapshot has more bytes than its leader announced",
            )
        })?;
        Ok(())
    }
}

impl Stream for IncomingStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.cancel.poll_unpin(cx).is_ready() {
            return self.fail(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer was given up"));
        }
        match self.data.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.waiting = None;
                match self.count_bytes(&chunk) {
                    Ok(()) => Poll::Ready(Some(Ok(chunk))),
                    Err(error) => self.fail(error),
                }
            }
            Poll::Ready(Some(Err(error))) => self.fail(error),
            Poll::Ready(None) => match self.bytes_left {
                None | Some(0) => {
                    self.ended = true;
                    Poll::Ready(None)
                }
                Some(left) => self.fail(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("the snapshot ended {left} bytes before its announced size"),
                )),
            },
            Poll::Pending if self.poll_stalled(cx) => {
                let waited_ms = self.stall_timeout.as_millis();
                self.fail(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no bytes of the snapshot came for {waited_ms} ms"),
                ))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// How far a network has come with taking an outgoing stream.
pub(super) struct Progress {
    state: Mutex<ProgressState>,
}

#[derive(Clone, Copy)]
pub(super) struct ProgressState {
    /// When a chunk was last taken, or the transfer began.
    pub(super) last: Instant,
    /// Whether that was the end of the stream.
    pub(super) all_taken: bool,
}

impl Progress {
    pub(super) fn begin(now: Instant) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(ProgressState { last: now, all_taken: false }) })
    }

    pub(super) fn state(&self) -> ProgressState {
        *lock(&self.state)
    }
}

/// A chunk that is larger than this leaves in pieces, so that its progress can be seen.
const PIECE_BYTES_MAX: usize = 4096;

/// Passes `data` on, in small pieces, and records when they are taken.
pub(super) fn outgoing_stream(
    data: SnapshotStream,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
) -> SnapshotStream {
    let record = move |all_taken| *lock(&progress.state) = ProgressState { last: clock.now(), all_taken };
    let on_end = record.clone();
    let end = futures::stream::once(async move { on_end(true) }).filter_map(|()| async { None });
    let pieces = data.flat_map(|chunk| futures::stream::iter(pieces(chunk)));
    snapshot_stream(pieces.inspect(move |_| record(false)).chain(end))
}

fn pieces(chunk: io::Result<Bytes>) -> impl Iterator<Item = io::Result<Bytes>> {
    let mut rest = Some(chunk);
    std::iter::from_fn(move || match rest.take()? {
        Ok(mut bytes) if PIECE_BYTES_MAX < bytes.len() => {
            let piece = bytes.split_to(PIECE_BYTES_MAX);
            rest = Some(Ok(bytes));
            Some(Ok(piece))
        }
        whole => Some(whole),
    })
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::stream;

    use super::*;
    use crate::driver::fakes::FakeRuntime;

    fn incoming(
        data: SnapshotStream,
        size_bytes: Option<u64>,
    ) -> (IncomingStream, StreamFailure, FakeRuntime, oneshot::Sender<()>) {
        let runtime = FakeRuntime::new();
        let (cancel, cancelled) = oneshot::channel();
        let (stream, failure) = IncomingStream::new(
            data,
            size_bytes,
            Arc::new(runtime.clone()),
            Duration::from_millis(100),
            cancelled,
        );
        (stream, failure, runtime, cancel)
    }

    fn chunks(texts: &[&'static str]) -> SnapshotStream {
        let chunks: Vec<_> = texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect();
        snapshot_stream(stream::iter(chunks))
    }

    fn collect(stream: IncomingStream) -> Vec<Result<Bytes, io::ErrorKind>> {
        block_on(stream.map(|chunk| chunk.map_err(|error| error.kind())).collect())
    }

    #[test]
    fn a_whole_stream_passes_and_has_not_failed() {
        let (stream, failure, _runtime, _cancel) = incoming(chunks(&["ab", "c"]), Some(3));
        assert_eq!(collect(stream), [Ok("ab".into()), Ok("c".into())]);
        assert!(!failure.has_failed());
    }

    #[test]
    fn a_stream_of_the_wrong_size_ends_in_an_error() {
        let (stream, failure, _runtime, _cancel) = incoming(chunks(&["ab"]), Some(3));
        assert_eq!(collect(stream), [Ok("ab".into()), Err(io::ErrorKind::UnexpectedEof)]);
        assert!(failure.has_failed());
        let (stream, failure, _runtime, _cancel) = incoming(chunks(&["ab", "cd"]), Some(3));
        assert_eq!(collect(stream), [Ok("ab".into()), Err(io::ErrorKind::InvalidData)]);
        assert!(failure.has_failed());
    }

    #[test]
    fn a_stream_that_stalls_ends_in_an_error_after_the_timeout() {
        let (mut stream, failure, runtime, _cancel) = incoming(snapshot_stream(stream::pending()), None);
        assert!(stream.next().now_or_never().is_none());
        runtime.advance(Duration::from_millis(99));
        assert!(stream.next().now_or_never().is_none());
        runtime.advance(Duration::from_millis(1));
        let error = stream.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "no bytes of the snapshot came for 100 ms");
        assert!(failure.has_failed());
        assert!(stream.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_stream_that_is_given_up_ends_in_an_error() {
        let (mut stream, failure, _runtime, cancel) = incoming(snapshot_stream(stream::pending()), None);
        assert!(stream.next().now_or_never().is_none());
        drop(cancel);
        assert!(stream.next().now_or_never().unwrap().unwrap().is_err());
        assert!(failure.has_failed());
    }

    #[test]
    fn a_large_chunk_leaves_in_pieces_and_whole() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES_MAX + 1).map(|n| n as u8).collect();
        let data =
            snapshot_stream(stream::iter([Ok(bytes.clone().into()), Err(io::ErrorKind::Other.into())]));
        let runtime = FakeRuntime::new();
        let progress = Progress::begin(Clock::now(&runtime));
        let pieces: Vec<_> = block_on(outgoing_stream(data, progress, Arc::new(runtime)).collect());
        assert_eq!(pieces.len(), 5);
        assert!(pieces[4].is_err());
        let joined: Vec<u8> = pieces.into_iter().flatten().flatten().collect();
        assert_eq!(joined, bytes);
    }

    #[test]
    fn the_progress_of_an_outgoing_stream_shows_chunks_and_the_end() {
        let runtime = FakeRuntime::new();
        let began = Clock::now(&runtime);
        let progress = Progress::begin(began);
        let mut stream = outgoing_stream(chunks(&["a"]), progress.clone(), Arc::new(runtime.clone()));
        runtime.advance(Duration::from_millis(5));
        assert!(block_on(stream.next()).unwrap().is_ok());
        assert_eq!(progress.state().last, began + Duration::from_millis(5));
        assert!(!progress.state().all_taken);
        runtime.advance(Duration::from_millis(5));
        assert!(block_on(stream.next()).is_none());
        assert_eq!(progress.state().last, began + Duration::from_millis(10));
        assert!(progress.state().all_taken);
    }
}
