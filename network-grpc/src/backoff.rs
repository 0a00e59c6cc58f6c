//! How long to wait between attempts to reach a peer.

use std::time::Duration;

/// Doubles the wait with every failure, and draws it at random from its upper half so that nodes that lost the same
/// peer do not come back to it all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min_ms: u64, max_ms: u64) -> Self {
        let min = Duration::from_millis(min_ms);
        Self { min, max: Duration::from_millis(max_ms), next: min }
    }

    /// The shortest wait, which nothing cuts short.
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    /// The peer was reached: the next failure starts from the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The wait after a failure.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(20, 100);
        for expected_ms in [20, 40, 80, 100, 100] {
            let expected = Duration::from_millis(expected_ms);
            let wait = backoff.wait();
            assert!(expected / 2 <= wait && wait <= expected, "{wait:?} is not drawn from {expected:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(20));
    }
}
