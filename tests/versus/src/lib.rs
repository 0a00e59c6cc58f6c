//! What the comparisons of openconsensus with its peers have in common.
//!
//! `openconsensus_bench` has what is common to all benchmarks: options, rounds, reports.

#![forbid(unsafe_code)]

/// The version of a peer that this was built with.
///
/// # Panics
///
/// If it was built without that peer.
pub fn version_of(peer: &str) -> String {
    openconsensus_bench::version_in(include_str!("../Cargo.lock"), peer)
}

#[cfg(test)]
mod tests {
    #[test]
    fn peers_are_pinned_as_the_manifest_says() {
        let manifest = include_str!("../Cargo.toml");
        for peer in ["fjall", "openraft", "raft", "raft-engine", "redb"] {
            let pinned = format!("\"={}\"", super::version_of(peer));
            assert!(
                manifest.lines().any(|line| line.starts_with(&format!("{peer} =")) && line.contains(&pinned)),
                "{peer}"
            );
        }
    }
}
