//! The one timer of the core loop.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;

use crate::runtime::BoxTimer;

use super::shared::Clock;

/// A timer that follows a deadline which mostly moves to later times.
///
/// It is armed anew only when the deadline has moved to an earlier time or the timer has gone off. A timer that goes
/// off too early costs less than arming one for every heartbeat.
pub(super) struct Alarm {
    clock: Arc<dyn Clock>,
    armed: Option<(Instant, BoxTimer)>,
}

impl Alarm {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, armed: None }
    }

    /// Whether the timer has gone off, which it does at `wanted` at the latest.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wanted: Option<Instant>) -> bool {
        if let Some(wanted) = wanted
            && self.armed.as_ref().is_none_or(|(at, _)| wanted < *at)
        {
            self.armed = Some((wanted, self.clock.sleep_until(wanted)));
        }
        let Some((_, timer)) = &mut self.armed else { return false };
        match timer.poll_unpin(cx) {
            Poll::Ready(()) => {
                self.armed = None;
                true
            }
            Poll::Pending => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::driver::fakes::FakeRuntime;

    #[test]
    fn it_is_armed_anew_only_for_an_earlier_deadline() {
        let runtime = FakeRuntime::new();
        let mut alarm = Alarm::new(Arc::new(runtime.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        let start = Clock::now(&runtime);
        let at = |ms| Some(start + Duration::from_millis(ms));
        assert!(!alarm.poll(&mut cx, at(100)));
        assert!(!alarm.poll(&mut cx, at(150)));
        assert_eq!(runtime.timers_made(), 1);
        assert!(!alarm.poll(&mut cx, at(50)));
        assert_eq!(runtime.timers_made(), 2);
        runtime.advance(Duration::from_millis(50));
        assert!(alarm.poll(&mut cx, at(150)));
        assert!(!alarm.poll(&mut cx, at(150)));
        assert_eq!(runtime.timers_made(), 3);
        runtime.advance(Duration::from_millis(100));
        assert!(alarm.poll(&mut cx, at(150)));
        assert!(!alarm.poll(&mut cx, None));
    }
}
