//! Streams of snapshots with somebody who watches: an incoming one that ends when it stalls, an outgoing one whose
//! progress can be seen.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::{FutureExt, Stream, StreamExt};

use crate::runtime::{BoxTimer, SnapshotStream};

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

#[derive(Clone)]
pub(super) struct ProgressState {
    /// When a piece was last taken, or the transfer began.
    pub(super) last: Instant,
    /// How many bytes have been taken.
    pub(super) bytes: u64,
    /// Whether the end of the stream was.
    pub(super) all_taken: bool,
    /// Why the stream has ended before its end: what is sent cannot be read here.
    pub(super) failure: Option<String>,
}

impl Progress {
    pub(super) fn begin(now: Instant) -> Arc<Self> {
        let state = ProgressState { last: now, bytes: 0, all_taken: false, failure: None };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn state(&self) -> ProgressState {
        lock(&self.state).clone()
    }
}

/// A chunk that is larger than this leaves in pieces, so that its progress can be seen.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The bytes of a snapshot as they leave for a peer, in small pieces; records when they are taken. Ends in an error when
/// the original does, and when there are more or fewer bytes than were announced.
pub(super) struct OutgoingStream {
    data: SnapshotStream,
    /// What is left of a chunk.
    rest: Bytes,
    bytes_left: Option<u64>,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
    ended: bool,
}

impl OutgoingStream {
    pub(super) fn new(
        data: SnapshotStream,
        size_bytes: Option<u64>,
        progress: Arc<Progress>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { data, rest: Bytes::new(), bytes_left: size_bytes, progress, clock, ended: false }
    }

    fn next_piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        let mut state = lock(&self.progress.state);
        state.last = self.clock.now();
        state.bytes += piece.len() as u64;
        piece
    }

    /// Takes in a chunk. `Err` when there are more bytes than announced.
    fn begin_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Some(left) = &mut self.bytes_left {
            *left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "it has more bytes than its size says")
            })?;
        }
        self.rest = chunk;
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        if let Some(left) = self.bytes_left.filter(|left| 0 < *left) {
            let what = format!("it ends {left} bytes before its size says");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let mut state = lock(&self.progress.state);
        state.last = self.clock.now();
        state.all_taken = true;
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> Poll<Option<io::Result<Bytes>>> {
        self.ended = true;
        lock(&self.progress.state).failure = Some(error.to_string());
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for OutgoingStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if !self.rest.is_empty() {
                return Poll::Ready(Some(Ok(self.next_piece())));
            }
            let taken = match ready!(self.data.poll_next_unpin(cx)) {
                Some(Ok(chunk)) => self.begin_chunk(chunk),
                Some(Err(error)) => Err(error),
                None => self.end(),
            };
            if let Err(error) = taken {
                return self.fail(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::stream;

    use super::*;
    use crate::driver::fakes::FakeRuntime;
    use crate::runtime::snapshot_stream;

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

    fn outgoing(
        data: SnapshotStream,
        size_bytes: Option<u64>,
    ) -> (OutgoingStream, Arc<Progress>, FakeRuntime) {
        let runtime = FakeRuntime::new();
        let progress = Progress::begin(Clock::now(&runtime));
        let stream = OutgoingStream::new(data, size_bytes, progress.clone(), Arc::new(runtime.clone()));
        (stream, progress, runtime)
    }

    #[test]
    fn a_large_chunk_leaves_in_pieces_and_whole() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES_MAX + 1).map(|n| n as u8).collect();
        let chunks = [Ok(bytes.clone().into()), Ok(Bytes::new()), Err(io::ErrorKind::Other.into())];
        let (stream, progress, _) = outgoing(snapshot_stream(stream::iter(chunks)), None);
        let pieces: Vec<_> = block_on(stream.collect());
        assert_eq!(pieces.len(), 5);
        assert!(pieces[4].is_err());
        assert!(!progress.state().all_taken);
        let joined: Vec<u8> = pieces.into_iter().flatten().flatten().collect();
        assert_eq!(joined, bytes);
        assert_eq!(progress.state().bytes, bytes.len() as u64);
    }

    #[test]
    fn the_progress_of_an_outgoing_stream_shows_chunks_and_the_end() {
        let (mut stream, progress, runtime) = outgoing(chunks(&["a"]), Some(1));
        let began = Clock::now(&runtime);
        runtime.advance(Duration::from_millis(5));
        assert!(block_on(stream.next()).unwrap().is_ok());
        assert_eq!(progress.state().last, began + Duration::from_millis(5));
        assert!(!progress.state().all_taken);
        runtime.advance(Duration::from_millis(5));
        assert!(block_on(stream.next()).is_none());
        assert_eq!(progress.state().last, began + Duration::from_millis(10));
        assert!(progress.state().all_taken);
        assert_eq!(progress.state().failure, None);
    }

    /// Whoever watches must be able to tell a snapshot that cannot be read here from a peer that does not want it.
    #[test]
    fn an_outgoing_stream_that_cannot_be_read_or_has_another_size_says_so() {
        let broken = stream::iter([Ok(Bytes::from_static(b"ab")), Err(io::Error::other("bit rot"))]);
        let cases: [(SnapshotStream, &str); 3] = [
            (snapshot_stream(broken), "bit rot"),
            (chunks(&["ab"]), "it ends 1 bytes before its size says"),
            (chunks(&["ab", "cd"]), "it has more bytes than its size says"),
        ];
        for (data, expected) in cases {
            let (stream, progress, _) = outgoing(data, Some(3));
            let pieces: Vec<_> = block_on(stream.collect());
            assert!(pieces.len() == 2 && pieces[1].is_err(), "{pieces:?}");
            assert_eq!(progress.state().failure.as_deref(), Some(expected));
            assert!(!progress.state().all_taken);
        }
    }
}
