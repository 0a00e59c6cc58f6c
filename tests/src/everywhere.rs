//! One and the same test of a whole cluster for every runtime: tokio with many threads and with one, other executors,
//! the simulation, and, with the feature `single-threaded`, one thread with stores that cannot leave it.
//!
//! It knows nothing of its runtime but what [`AsyncRuntime`] says: tasks, a clock, a timer. Whatever it waits for has a
//! deadline by that clock. Its stores hold an `Rc` with the feature `single-threaded` and an `Arc` without it; nothing
//! else differs.

mod nodes;
mod outcomes;
mod process;
mod shared;
mod stores;
mod story;

use openconsensus::AsyncRuntime;

/// A cluster that elects, writes, loses its leader, is read from everywhere, changes its members, catches up by
/// snapshot, hands leadership over, is restarted and is shut down. `factory` makes the runtime of one start of one node.
///
/// # Panics
///
/// When anything happens that must not, or something that must happen takes too long.
pub async fn check_cluster<R: AsyncRuntime>(factory: impl Fn() -> R) {
    story::run(nodes::Nodes::new(factory)).await;
}
