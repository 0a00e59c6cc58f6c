//! `Link`: a TCP proxy that all messages from one node to another pass, and that can be cut, slowed and reset.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// One direction between two nodes. Connections that the first one makes to the second one pass it, and on them travel
/// the messages of that direction and no others.
///
/// Dropping it ends all of its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<LinkState>,
    /// How often connections were reset.
    resets: watch::Sender<u64>,
    task: JoinHandle<()>,
}

/// What a link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// They pass.
    Open,
    /// They pass so much later.
    Slow(Duration),
    /// They wait, and nobody is told. When the link opens they arrive after all, however old they are.
    Stalled,
    /// They are lost: connections end, and new ones end at once.
    Cut,
}

impl Link {
    /// A link to `target`, which need not listen yet.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn new(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new(LinkState::Open);
        let resets = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, target, state.subscribe(), resets.subscribe()));
        Ok(Self { address, state, resets, task })
    }

    /// Where to connect in order to pass it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does now.
    pub fn state(&self) -> LinkState {
        *self.state.borrow()
    }

    /// From now on it does this, also to connections that exist.
    pub fn set(&self, state: LinkState) {
        self.state.send_replace(state);
    }

    /// Ends all connections. New ones can be made at once.
    pub fn reset(&self) {
        self.resets.send_modify(|resets| *resets += 1);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes connections until it is aborted; they end with it.
async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<LinkState>,
    mut resets: watch::Receiver<u64>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((from, _)) = accepted {
                    connections.spawn(connection(from, target, state.clone()));
                }
            }
            // Those that have ended need not be remembered.
            Some(_) = connections.join_next() => {}
            Ok(()) = resets.changed() => connections.abort_all(),
        }
    }
}

/// One connection, until one side ends it or the link is cut. Errors of sockets end it, as they do without a proxy.
async fn connection(mut from: TcpStream, target: SocketAddr, mut state: watch::Receiver<LinkState>) {
    let mut cut = state.clone();
    let pass = async {
        passable(&mut state).await?;
        let mut to = TcpStream::connect(target).await.ok()?;
        from.set_nodelay(true).ok()?;
        to.set_nodelay(true).ok()?;
        let (from_read, from_write) = from.split();
        let (to_read, to_write) = to.split();
        let back = state.clone();
        tokio::select! {
            ended = pump(from_read, to_write, state) => ended,
            ended = pump(to_read, from_write, back) => ended,
        }
    };
    tokio::select! {
        _ = pass => {}
        // An error means that the link is gone.
        _ = cut.wait_for(|state| *state == LinkState::Cut) => {}
    }
}

/// Passes bytes in one direction of a connection. `None` when it has ended.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<LinkState>,
) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.ok()?;
        if read == 0 {
            return None;
        }
        if let LinkState::Slow(by) = passable(&mut state).await? {
            tokio::time::sleep(by).await; // paces the bytes
            passable(&mut state).await?;
        }
        to.write_all(&buffer[..read]).await.ok()?;
    }
}

/// Waits until bytes may pass. `None` when the link is gone.
async fn passable(state: &mut watch::Receiver<LinkState>) -> Option<LinkState> {
    let is_passable = |state: &LinkState| match state {
        LinkState::Open | LinkState::Slow(_) => true,
        LinkState::Stalled | LinkState::Cut => false,
    };
    state.wait_for(is_passable).await.ok().map(|state| *state)
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(LONG, what).await.expect("it takes too long")
    }

    /// Whether there is nothing to read for a while.
    async fn is_silent(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await.is_err()
    }

    async fn connected() -> (Link, TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::new(listener.local_addr().unwrap()).await.unwrap();
        let (near, far) = soon(async {
            let near = TcpStream::connect(link.address()).await.unwrap();
            (near, listener.accept().await.unwrap().0)
        })
        .await;
        (link, listener, near, far)
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions_and_ends_too() {
        let (_link, _listener, mut near, mut far) = connected().await;
        near.write_u8(1).await.unwrap();
        assert_eq!(soon(far.read_u8()).await.unwrap(), 1);
        far.write_u8(2).await.unwrap();
        assert_eq!(soon(near.read_u8()).await.unwrap(), 2);
        drop(near);
        assert!(soon(far.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_stalled_arrives_late() {
        let (link, _listener, mut near, mut far) = connected().await;
        link.set(LinkState::Stalled);
        near.write_u8(1).await.unwrap();
        far.write_u8(2).await.unwrap();
        assert!(is_silent(&mut far).await && is_silent(&mut near).await);
        link.set(LinkState::Open);
        assert_eq!(soon(far.read_u8()).await.unwrap(), 1);
        assert_eq!(soon(near.read_u8()).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_makes_no_new_ones() {
        let (link, listener, mut near, mut far) = connected().await;
        link.set(LinkState::Cut);
        assert!(soon(near.read_u8()).await.is_err());
        assert!(soon(far.read_u8()).await.is_err());
        let mut refused = TcpStream::connect(link.address()).await.unwrap();
        assert!(soon(refused.read_u8()).await.is_err());
        link.set(LinkState::Open);
        let again = TcpStream::connect(link.address()).await.unwrap();
        assert!(soon(listener.accept()).await.is_ok());
        drop(again);
    }

    #[tokio::test]
    async fn a_reset_ends_connections_and_new_ones_can_be_made() {
        let (link, listener, mut near, mut far) = connected().await;
        link.reset();
        assert!(soon(near.read_u8()).await.is_err());
        assert!(soon(far.read_u8()).await.is_err());
        let again = TcpStream::connect(link.address()).await.unwrap();
        assert!(soon(listener.accept()).await.is_ok());
        drop(again);
    }

    #[tokio::test]
    async fn what_is_slow_takes_its_time() {
        let (link, _listener, mut near, mut far) = connected().await;
        let delay = Duration::from_millis(50);
        link.set(LinkState::Slow(delay));
        let begin = tokio::time::Instant::now();
        near.write_u8(1).await.unwrap();
        assert_eq!(soon(far.read_u8()).await.unwrap(), 1);
        assert!(delay <= begin.elapsed());
    }
}
