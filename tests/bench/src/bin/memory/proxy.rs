//! A connection that carries few bytes in a second, in one direction.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Listens, and carries what comes to `target`, no more than `bytes_per_second` of each connection. What comes back is not
/// slowed down. Ends with the runtime.
pub(crate) async fn slow(target: String, bytes_per_second: u64) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((incoming, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                // A connection that breaks is the business of its two ends.
                let _ = carry(incoming, &target, bytes_per_second).await;
            });
        }
    });
    Ok(address)
}

async fn carry(incoming: TcpStream, target: &str, bytes_per_second: u64) -> std::io::Result<()> {
    let outgoing = TcpStream::connect(target).await?;
    outgoing.set_nodelay(true)?;
    incoming.set_nodelay(true)?;
    let (mut from, mut back_to) = incoming.into_split();
    let (mut back_from, mut to) = outgoing.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut back_from, &mut back_to).await });
    let mut buffer = vec![0; 2048];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        to.write_all(&buffer[..count]).await?;
        tokio::time::sleep(Duration::from_secs_f64(count as f64 / bytes_per_second as f64)).await;
    }
    back.abort();
    Ok(())
}
