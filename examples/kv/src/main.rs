//! `kv`: node, client and tool of a replicated key-value store.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    kv::cli::main(kv::cli::Cli::parse())
}
