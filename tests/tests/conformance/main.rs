//! The conformance suites: every part of this workspace passes them, and parts that are broken on purpose do not.

mod contract;
mod memstore;
mod networks;
mod requests;
