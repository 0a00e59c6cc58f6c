//! The conformance suites: every part of this workspace passes them, and parts that are broken on purpose do not.

mod broken_log;
mod broken_network;
mod broken_state_machine;
mod contract;
mod memstore;
mod networks;
mod requests;

/// Lets other futures of the same task run.
async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
