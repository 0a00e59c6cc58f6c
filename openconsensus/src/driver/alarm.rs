//! The one timer of the core loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use futures::FutureExt;
use futures::task::AtomicWaker;

use crate::runtime::BoxTimer;

use super::shared::Clock;

/// A timer that follows a deadline which mostly moves to later times.
///
/// It is armed anew only when the deadline has moved to an earlier time or the timer has gone off. A timer that goes
/// off too early costs less than arming one for every heartbeat; and it is looked at only when it has gone off.
pub(super) struct Alarm {
    clock: Arc<dyn Clock>,
    armed: Option<(Instant, BoxTimer)>,
    bell: Arc<Bell>,
}

/// What the timer wakes.
struct Bell {
    has_rung: AtomicBool,
    sleeper: Arc<AtomicWaker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.sleeper.wake();
    }
}

impl Alarm {
    /// Wakes `sleeper` when the timer goes off.
    pub(super) fn new(clock: Arc<dyn Clock>, sleeper: Arc<AtomicWaker>) -> Self {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(false), sleeper });
        Self { clock, armed: None, bell }
    }

    /// Whether the timer has gone off since the last call.
    pub(super) fn has_rung(&mut self) -> bool {
        if !self.may_have_rung() {
            return false;
        }
        self.bell.has_rung.store(false, Ordering::Release);
        self.poll_timer()
    }

    /// Whether [`has_rung`](Self::has_rung) should be asked.
    pub(super) fn may_have_rung(&self) -> bool {
        self.bell.has_rung.load(Ordering::Acquire)
    }

    /// Has the timer go off at `wanted` at the latest. Whether it has gone off already.
    pub(super) fn set(&mut self, wanted: Option<Instant>) -> bool {
        let Some(wanted) = wanted else { return false };
        if self.armed.as_ref().is_some_and(|(at, _)| *at <= wanted) {
            return false;
        }
        self.armed = Some((wanted, self.clock.sleep_until(wanted)));
        self.poll_timer()
    }

    fn poll_timer(&mut self) -> bool {
        let Some((_, timer)) = &mut self.armed else { return false };
        let bell = Waker::from(self.bell.clone());
        match timer.poll_unpin(&mut Context::from_waker(&bell)) {
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
    use std::time::Duration;

    use super::*;
    use crate::driver::fakes::FakeRuntime;

    #[test]
    fn it_is_armed_anew_only_for_an_earlier_deadline() {
        let runtime = FakeRuntime::new();
        let mut alarm = Alarm::new(Arc::new(runtime.clone()), Arc::default());
        let start = Clock::now(&runtime);
        let at = |ms| Some(start + Duration::from_millis(ms));
        assert!(!alarm.set(at(100)));
        assert!(!alarm.set(at(150)));
        assert_eq!(runtime.timers_made(), 1);
        assert!(!alarm.set(at(50)));
        assert_eq!(runtime.timers_made(), 2);
        assert!(!alarm.has_rung());
        runtime.advance(Duration::from_millis(50));
        assert!(alarm.has_rung());
        assert!(!alarm.has_rung());
        assert!(!alarm.set(at(150)));
        assert_eq!(runtime.timers_made(), 3);
        runtime.advance(Duration::from_millis(100));
        assert!(alarm.has_rung());
        assert!(!alarm.set(None));
        // What is due is not waited for.
        assert!(alarm.set(at(150)));
    }
}
