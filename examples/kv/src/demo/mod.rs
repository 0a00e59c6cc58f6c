//! `kv demo`: a cluster that loses its leader again and again, and nothing else.
mod check;
mod imported;
mod model;
mod process;
mod report;
