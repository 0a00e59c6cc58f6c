//! With the feature `single-threaded` three nodes live on one thread with stores that cannot leave it.

mod small_cluster;

use tokio::task::LocalSet;

use small_cluster::Cluster;

/// Has a value only for types that are not `Send`: for others it would be ambiguous which of the two is meant.
trait NotSend<Marker> {
    const HOLDS: bool = true;
}
struct Always;
struct IfSend;
impl<T> NotSend<Always> for T {}
impl<T: Send> NotSend<IfSend> for T {}

#[test]
fn three_nodes_live_on_one_thread_with_stores_that_are_not_send() {
    const { assert!(<small_cluster::Log as NotSend<_>>::HOLDS) };
    const { assert!(<small_cluster::Adder as NotSend<_>>::HOLDS) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        for cluster in [Cluster::of_three().await, Cluster::of_three_by_requests().await] {
            let leader = cluster.leader().await;
            for sum in 1..=100 {
                assert_eq!(leader.write(1).await, Ok(sum));
            }
            for id in 1..=3 {
                cluster.raft(id).read().await.unwrap();
                assert_eq!(cluster.sum(id), 100);
            }
            drop(leader);
            for id in 1..=3 {
                cluster.stop(id).await;
            }
        }
    });
}
