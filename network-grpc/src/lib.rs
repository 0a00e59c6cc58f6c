//! Messages and snapshots of openconsensus over gRPC.
//!
//! [`GrpcNetwork`] sends, [`GrpcService`] receives, [`GrpcServer`] gives it a port, which the application may share.
//!
//! ```
//! # use openconsensus::{Raft, RaftLogStorage, RaftStateMachine, TokioRuntime, TypeConfig};
//! use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer};
//!
//! # #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
//! # struct Counter;
//! # impl TypeConfig for Counter {
//! #     type Command = i64;
//! #     type Response = i64;
//! #     type NodeId = u64;
//! #     type Node = String;
//! #     fn command_bytes(_command: &i64) -> u64 { 8 }
//! # }
//! async fn serve(
//!     log: impl RaftLogStorage<Counter>,
//!     state_machine: impl RaftStateMachine<Counter>,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let server = GrpcServer::bind("127.0.0.1:7001").await?;
//!     let address = server.local_addr().to_string();
//!     let network = GrpcNetwork::<Counter>::new(GrpcConfig::new("counters"), 1, address)?;
//!     let config = openconsensus::Config::default();
//!     let raft = Raft::start(1, config, TokioRuntime, network.clone(), log, state_machine).await?;
//!     let serving = server.serve(network.service(raft.clone()), None);
//!     // ... until it is time to stop.
//!     serving.shutdown().await;
//!     raft.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # What travels how
//!
//! Two nodes hold up to four connections: each is a client of the other, and sends appends on one connection and all
//! other messages on a second one. The order of messages holds on each. Separate streams on one connection would share
//! its fate: one lost packet of an append holds up whatever was sent after it. So votes and heartbeats have a
//! connection of their own, and a follower that is slow to take appends still hears that its leader lives. A snapshot
//! has a connection of its own while it travels.
//!
//! Every call begins with a [`Hello`](proto::Hello). A peer of another cluster, a peer that meant another node, and one
//! that speaks another version or encoding are refused before a message is looked at, with a text that names both
//! values. The caller writes it to its log and keeps it for [`GrpcNetwork::last_error`].
//!
//! # Limits
//!
//! What waits for a peer is bounded in messages and bytes, what is in flight by HTTP/2 flow control, what is received
//! by the size of a request; see [`GrpcConfig`]. Beyond it messages are dropped, which Raft repairs.
//!
//! # Security
//!
//! Connections are neither encrypted nor authenticated: whoever reaches the port can speak for a node. Keep it inside
//! a trusted network, or behind a proxy or tunnel that authenticates.
//!
//! # Threads
//!
//! tonic needs types that are `Send`, so this crate does not build together with the feature `single-threaded` of the
//! core.

#![forbid(unsafe_code)]

mod backoff;
mod calls;
mod codec;
mod config;
mod door;
mod endpoint;
mod frames;
mod hello;
mod lane;
mod message;
mod network;
mod peer;
pub mod proto;
mod queue;
mod receiver;
mod report;
mod server;
mod service;
mod snapshot_receive;
mod snapshot_send;
#[cfg(test)]
mod testing;

pub use config::GrpcConfig;
pub use endpoint::{AddressError, Endpoint};
pub use hello::WIRE_VERSION;
pub use network::{GrpcNetwork, NewNetworkError};
pub use peer::{PeerError, PeerErrorKind, PeerStatus};
pub use receiver::Receiver;
pub use server::{BindError, GrpcServer, Serving};
pub use service::GrpcService;

pub use openconsensus::{CodecError, EntryCodec, PostcardCodec};
