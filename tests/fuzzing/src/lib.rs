//! What the fuzz targets do with bytes: ordinary functions, so that stable Rust can run them too.
//!
//! Each takes any bytes and panics when something is found. `tests/fuzz/` hands them to libFuzzer, and the test of this
//! crate runs them over the corpus and over some seconds of random bytes.
//!
//! - [`engine`]: the bytes are what happens to a cluster, or to one engine whose peers say anything.
//! - [`grpc_decode`]: the bytes come from the network.
//! - [`open_store`]: the bytes say how a stored file is damaged.
//!
//! To look for more, with nightly Rust and cargo-fuzz:
//!
//! ```sh
//! cd tests/fuzz
//! mkdir -p found/engine
//! cargo +nightly fuzz run engine found/engine corpus/engine -- -max_total_time=240
//! ```
//!
//! What covers something new goes to `found/`, which git does not see, and what fails to `artifacts/engine/`;
//! `cargo +nightly fuzz tmin engine <file>` makes that smaller. `open_store` needs `ASAN_OPTIONS=detect_leaks=0`: where
//! redb panics while a damaged database is being dropped, Rust forgets the value that is being returned.
//!
//! The corpus holds the few dozen inputs that cover most, so that the test is fast.
//! `cargo +nightly fuzz cmin engine found/engine` leaves of what was found what covers anything of its own; that is still
//! too much to be kept as a whole.

#![forbid(unsafe_code)]

mod bytes_in;
mod cluster;
mod engine;
mod grpc;
mod lone;
mod store;

pub use engine::engine;
pub use grpc::grpc_decode;
pub use store::open_store;
