//! Bytes as what happens to engines.

use crate::bytes_in::BytesIn;
use crate::{cluster, lone};

/// The first byte chooses:
///
/// - *A cluster* of three to five nodes with model disks, over a network that delivers what was sent, at any time, in
///   any order, twice, or never. All oracles of the harness look at every step.
/// - *One engine* whose peers say anything: numbers that no cluster has reached, entries out of nowhere, votes that
///   nobody asked for, nodes that nobody knows. It must refuse or ignore what makes no sense, must not panic, and must
///   keep its own promises: no vote changes, no term falls, nothing is acknowledged that is not on its disk.
///
/// What the engine does not promise is to go on when two peers contradict each other so that one of them must have
/// broken Raft: two leaders in one term, or entries that differ from what is committed. Then data is lost whatever it
/// does, so it panics with a text that says so, and [`Raft`](openconsensus::Raft) stops the node.
///
/// # Panics
///
/// When something is found.
pub fn engine(data: &[u8]) {
    let mut input = BytesIn::new(data);
    if input.byte().is_multiple_of(2) {
        cluster::run(&mut input);
    } else {
        lone::run(&mut input);
    }
}
