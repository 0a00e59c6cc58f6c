//! Where a node is reached: `Endpoint`, and connections to it.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use tonic::transport::{Channel, Uri};

use crate::config::GrpcConfig;

/// A [`TypeConfig::Node`](openconsensus::TypeConfig::Node) that says where its node listens. Implemented for
/// `String`; implement it for a type of your own to store more in the membership than an address.
pub trait Endpoint {
    /// `host:port`, where host is a name, an IPv4 address or an IPv6 address in brackets.
    fn endpoint(&self) -> &str;
}

impl Endpoint for String {
    fn endpoint(&self) -> &str {
        self
    }
}

/// An address is not one that a node can be reached at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is no address of a node: {reason}; it should be host:port, as in \"10.0.0.1:7000\"")]
pub struct AddressError {
    /// What was given.
    pub address: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Checks that `address` is `host:port`.
pub(crate) fn parse(address: &str) -> Result<Uri, AddressError> {
    let wrong = |reason| AddressError { address: address.to_owned(), reason };
    if address.contains(['/', '@', '?', '#']) {
        return Err(wrong("it has more than a host and a port"));
    }
    let uri: Uri = format!("http://{address}").parse().map_err(|_| wrong("it cannot be parsed"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("the host is missing"));
    }
    let host: Option<IpAddr> = uri.host().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    if host.is_some_and(|host| host.is_unspecified()) {
        return Err(wrong("it stands for every address of a machine and leads to none"));
    }
    match uri.port_u16() {
        None | Some(0) => Err(wrong("it has no port from 1 to 65535")),
        Some(_) => Ok(uri),
    }
}

/// Connects to `address`. Names are resolved anew every time.
pub(crate) async fn connect(config: &GrpcConfig, address: &str) -> Result<Channel, ConnectError> {
    let uri = parse(address)?;
    let window = config.stream_window_u32();
    let endpoint = tonic::transport::Endpoint::from(uri)
        .connect_timeout(config.connect_timeout())
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keepalive_interval())
        .keep_alive_timeout(config.keepalive_timeout())
        .keep_alive_while_idle(true)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window);
    Ok(endpoint.connect().await?)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{}", Chain(.0))]
    Transport(#[from] tonic::transport::Error),
}

/// An error and what caused it, down to the first cause: "transport error" alone helps nobody.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            // Wrappers often repeat what they wrap.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for right in ["10.0.0.1:7000", "node-1.example:80", "[::1]:7000"] {
            assert!(parse(right).is_ok(), "{right}");
        }
        for (wrong, reason) in [
            ("10.0.0.1", "it has no port from 1 to 65535"),
            ("10.0.0.1:0", "it has no port from 1 to 65535"),
            ("http://10.0.0.1:7000", "it has more than a host and a port"),
            ("", "it cannot be parsed"),
            (":7000", "the host is missing"),
            ("0.0.0.0:7000", "it stands for every address of a machine and leads to none"),
            ("[::]:7000", "it stands for every address of a machine and leads to none"),
            ("user@10.0.0.1:7000", "it has more than a host and a port"),
            ("a b:7000", "it cannot be parsed"),
            ("10.0.0.1:70000", "it has no port from 1 to 65535"),
        ] {
            assert_eq!(parse(wrong).unwrap_err().reason, reason, "{wrong}");
        }
        assert_eq!(
            parse("host").unwrap_err().to_string(),
            "\"host\" is no address of a node: it has no port from 1 to 65535; it should be host:port, as in \"10.0.0.1:7000\""
        );
    }
}
