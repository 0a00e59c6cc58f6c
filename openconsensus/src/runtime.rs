//! What the driver needs from an executor, and the only file that knows about `Send` modes.
//!
//! With the feature `single-threaded` nothing in this crate asks for [`Send`] or [`Sync`]: [`MaybeSend`] and
//! [`MaybeSync`] hold for every type, and a whole node may live on one thread with stores that are neither.

use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures::Stream;

#[cfg(not(feature = "single-threaded"))]
mod mode {
    /// [`Send`], or nothing with the feature `single-threaded`.
    pub trait MaybeSend: Send {}
    impl<T: Send + ?Sized> MaybeSend for T {}

    /// [`Sync`], or nothing with the feature `single-threaded`.
    pub trait MaybeSync: Sync {}
    impl<T: Sync + ?Sized> MaybeSync for T {}

    /// A boxed future that is `Send` unless the feature `single-threaded` is on.
    pub type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;

    /// A boxed stream that is `Send` unless the feature `single-threaded` is on.
    pub type BoxStream<'a, T> = futures::stream::BoxStream<'a, T>;
}

#[cfg(feature = "single-threaded")]
mod mode {
    /// [`Send`], or nothing with the feature `single-threaded`.
    pub trait MaybeSend {}
    impl<T: ?Sized> MaybeSend for T {}

    /// [`Sync`], or nothing with the feature `single-threaded`.
    pub trait MaybeSync {}
    impl<T: ?Sized> MaybeSync for T {}

    /// A boxed future that is `Send` unless the feature `single-threaded` is on.
    pub type BoxFuture<'a, T> = futures::future::LocalBoxFuture<'a, T>;

    /// A boxed stream that is `Send` unless the feature `single-threaded` is on.
    pub type BoxStream<'a, T> = futures::stream::LocalBoxStream<'a, T>;
}

pub use mode::{BoxFuture, BoxStream, MaybeSend, MaybeSync};

/// The bytes of a snapshot, in order, in chunks of any size. An error ends it.
pub type SnapshotStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Boxes a stream of chunks as a [`SnapshotStream`].
pub fn snapshot_stream<S>(stream: S) -> SnapshotStream
where
    S: Stream<Item = std::io::Result<Bytes>> + MaybeSend + 'static,
{
    Box::pin(stream)
}

/// Tasks, a clock, a timer and a seed: all that the driver needs from an executor.
///
/// It is a value, not a set of static functions, so that a simulation can give each node its own clock. Cloning it
/// must be cheap; all clones share one clock.
pub trait AsyncRuntime: Clone + MaybeSend + MaybeSync + 'static {
    /// Runs `task` to its end beside the caller. Called a few times at the start of a node and for every snapshot
    /// that it builds or sends. A node whose tasks are dropped before their end stops, as when it is shut down.
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static);

    /// The time on a clock that never goes back.
    fn now(&self) -> Instant;

    /// Resolves at `deadline` or soon after it, at once when it has passed. Resolving too early does no harm.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static;

    /// The time of day, of a clock that goes on while the machine is suspended. Looked at only with
    /// [leases](crate::Config::lease_clock_drift_ppm_max): where it and [`now`](Self::now) disagree on how much time has
    /// passed, one of them has stopped or was set, and a leader asks a quorum again before it answers a read by its lease.
    /// It may be wrong and may be set to anything at any time.
    fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }

    /// A number that differs from node to node and from start to start. It seeds the election timeouts; a simulation
    /// returns one of its own so that a run can be repeated.
    fn seed(&self) -> u64 {
        // The standard library keys each `RandomState` from the operating system's source of randomness.
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }
}

/// Runs nodes on tokio: on the current runtime, or on the current `LocalSet` with the feature `single-threaded`.
///
/// [`AsyncRuntime::spawn`] panics outside a tokio runtime, so [`Raft::start`](crate::Raft::start) must be called
/// inside one. The runtime needs its timer enabled.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioRuntime;

#[cfg(feature = "tokio")]
impl AsyncRuntime for TokioRuntime {
    #[cfg(not(feature = "single-threaded"))]
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        drop(tokio::spawn(task));
    }

    #[cfg(feature = "single-threaded")]
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        drop(tokio::task::spawn_local(task));
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        tokio::time::sleep_until(deadline.into())
    }
}

/// A pinned, boxed timer of some runtime, so that loops can keep one in a field.
pub(crate) type BoxTimer = Pin<Box<dyn TimerFuture>>;

/// `Future<Output = ()> + MaybeSend`, as one trait so that it can be boxed in both modes.
pub(crate) trait TimerFuture: Future<Output = ()> + MaybeSend {}
impl<T: Future<Output = ()> + MaybeSend> TimerFuture for T {}
