//! `GrpcServer`: a port on which a node is served, and whatever else the application puts beside it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{Stream, stream};
use openconsensus::{EntryCodec, TypeConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::endpoint::Chain;
use crate::service::GrpcService;

/// A port that is taken and not served yet: connections wait in it.
#[derive(Debug)]
pub struct GrpcServer {
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// Why a port could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Something else listens there. Stop it, or choose another port.
    #[error("cannot listen on {address}: the port is in use; stop what uses it, or choose another port")]
    Occupied {
        /// Where this node should have listened.
        address: String,
    },
    /// The address is none of this machine, cannot be resolved, or may not be used.
    #[error("cannot listen on {address}: {error}; it should be host:port with an address of this machine")]
    Refused {
        /// Where this node should have listened.
        address: String,
        /// What the operating system says.
        error: io::Error,
    },
}

/// The largest HTTP/2 frame that is accepted. A large request takes a system call or two for each frame on both sides:
/// with 16 KiB, which is what HTTP/2 begins with, a quarter more processor time than with these.
const FRAME_BYTES_MAX: u32 = 256 << 10;

impl GrpcServer {
    /// Takes a port. `address` is `host:port`; port 0 takes a free one, which [`local_addr`](Self::local_addr) tells.
    ///
    /// # Errors
    ///
    /// See [`BindError`]. Nothing has been taken then.
    pub async fn bind(address: impl AsRef<str>) -> Result<Self, BindError> {
        let address = address.as_ref();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::Occupied { address: address.to_owned() },
            _ => BindError::Refused { address: address.to_owned(), error },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_addr })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves `service`, and beside it the services in `extra_routes`, in a task on the current tokio runtime.
    pub fn serve<C: TypeConfig, K: EntryCodec<C>>(
        self,
        service: GrpcService<C, K>,
        extra_routes: Option<Routes>,
    ) -> Serving {
        let config = service.config().clone();
        let closing = service.clone();
        let routes = extra_routes.unwrap_or_default().add_service(service.into_server());
        let window = config.stream_window_u32();
        let server = Server::builder()
            .initial_stream_window_size(window)
            // The application's own calls may share a connection: one that nobody reads must not stop the others.
            .initial_connection_window_size(window.saturating_mul(2))
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keepalive_interval(Some(config.keepalive_interval()))
            .http2_keepalive_timeout(Some(config.keepalive_timeout()))
            .add_routes(routes);
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = incoming(self.listener);
        let task = tokio::spawn(async move {
            let signal = async move {
                // Stopped, or nobody is left who could.
                let _stop = stopped.await;
            };
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, signal).await {
                tracing::error!("the server stopped: {}", Chain(&error));
            }
        });
        Serving {
            local_addr: self.local_addr,
            grace: Duration::from_millis(config.shutdown_grace_ms),
            close: Box::new(move || closing.close()),
            stop: Some(stop),
            task,
        }
    }
}

/// Connections as they come in.
fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> + Send {
    stream::unfold(listener, |listener| async move {
        loop {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => return Some((Ok(stream), listener)),
                Err(error) => {
                    // Often too many open files, which does not pass by asking again at once.
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    })
}

/// A server at work. It holds the node's handle: a node that is served does not stop by itself.
///
/// Dropping it stops the server without waiting for calls under way.
#[must_use = "the server stops when this is dropped"]
pub struct Serving {
    local_addr: SocketAddr,
    grace: Duration,
    close: Box<dyn Fn() + Send + Sync>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops: frees the port, ends the calls of peers, drops the node's handle, and lets calls of the application's
    /// own services end for up to `shutdown_grace_ms`. Calls that are not over by then go on by themselves.
    pub async fn shutdown(mut self) {
        self.begin_shutdown();
        if tokio::time::timeout(self.grace, &mut self.task).await.is_err() {
            tracing::warn!("calls were still under way {} ms after the shutdown", self.grace.as_millis());
        }
    }

    fn begin_shutdown(&mut self) {
        (self.close)();
        drop(self.stop.take());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.begin_shutdown();
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}
