//! X.
mod support;
use support::Cluster;
#[test]
fn x() {
    let mut c = Cluster::of(3);
    c.elect(1);
}
