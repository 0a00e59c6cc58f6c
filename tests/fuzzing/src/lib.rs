//! What the fuzz targets do with bytes: ordinary functions, so that stable Rust can run them too.
//!
//! Each takes any bytes and panics when something is found. `tests/fuzz/` hands them to libFuzzer, and the test of this
//! crate runs them over the corpus and over some seconds of random bytes.
//!
//! - [`engine`]: the bytes are what happens to a cluster, or to one engine whose peers say anything.
//! - [`grpc_decode`]: the bytes come from the network.
//! - [`open_store`]: the bytes say how a stored file is damaged.

#![forbid(unsafe_code)]

mod bytes_in;
mod cluster;
mod engine;
mod grpc;
mod lone;
mod quiet;
mod store;

pub use engine::engine;
pub use grpc::grpc_decode;
pub use store::open_store;
