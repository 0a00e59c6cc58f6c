//! Back-off: how much less often a peer is tried that does not answer.
//!
//! Two things are sent in vain, and each has its own distance, which doubles from `heartbeat_interval_ms` on:
//!
//! * **Heartbeats** to a peer that the network has reported as unreachable. They are what finds out that it is back, so they
//!   never stop, and are never further apart than half of `election_timeout_ms_min`. A node that comes back hears its leader
//!   within that time, and so before it campaigns; and a voter that is counted on for the quorum answers within
//!   `election_timeout_ms_max`. Silence alone, without a report, makes no heartbeat rarer: the peer may well hear them.
//! * **Appends** to a peer that is probed. One is sent, and the next one only when the peer has answered a later heartbeat:
//!   who is silent gets none. Who answers heartbeats and no appends, as across a link that lets only small messages
//!   through, gets them further and further apart, up to `unreachable_backoff_ms_max`.
//!
//! Any answer to what was sent in vain ends its back-off at once.

use std::time::{Duration, Instant};

use crate::config::ValidConfig;
use crate::type_config::TypeConfig;

use super::{Fingerprint, millis};

/// How often a peer is tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    heartbeats: Option<Distance>,
    /// `None` while no append has been in vain.
    appends: Option<Distance>,
}

#[derive(Clone, Debug)]
struct Distance {
    length: Duration,
    /// When it was tried last.
    last: Option<Instant>,
}

impl Distance {
    fn first(config: &ValidConfig) -> Self {
        Self { length: millis(config.heartbeat_interval_ms), last: None }
    }

    /// It is tried now, and next time after twice as long.
    fn on_try(&mut self, now: Instant, max: Duration) {
        if self.last.is_some() {
            self.length = (2 * self.length).min(max);
        }
        self.last = Some(now);
    }

    fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { length, last } = self;
        to.value(length);
        to.past(*last);
    }
}

impl Backoff {
    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { heartbeats, appends } = self;
        to.value((heartbeats.is_some(), appends.is_some()));
        heartbeats.iter().chain(appends).for_each(|distance| distance.fingerprint(to));
    }

    /// Whether the peer has been reported as unreachable, and has not answered since.
    pub(super) fn is_unreachable(&self) -> bool {
        self.heartbeats.is_some()
    }

    /// How far apart what is sent in vain is at present.
    pub(super) fn length(&self) -> Duration {
        let lengths = self.heartbeats.iter().chain(&self.appends).map(|distance| distance.length);
        lengths.max().unwrap_or_default()
    }

    pub(super) fn on_unreachable(&mut self, config: &ValidConfig) {
        self.heartbeats.get_or_insert_with(|| Distance::first(config));
    }

    /// The peer has answered something: it is reachable.
    pub(super) fn on_answer(&mut self) {
        self.heartbeats = None;
    }

    /// The peer has answered an append.
    pub(super) fn on_append_answer(&mut self) {
        *self = Self::default();
    }

    /// Whether a heartbeat is due now, because the next time would be too late.
    pub(super) fn is_due(&self, now: Instant, config: &ValidConfig) -> bool {
        let Some(Distance { length, last: Some(last) }) = &self.heartbeats else { return true };
        *last + *length < now + millis(config.heartbeat_interval_ms)
    }

    /// A heartbeat is sent.
    pub(super) fn on_heartbeat(&mut self, now: Instant, config: &ValidConfig) {
        let max = millis(config.unreachable_backoff_ms_max.min(config.election_timeout_ms_min / 2));
        if let Some(distance) = &mut self.heartbeats {
            distance.on_try(now, max);
        }
    }

    /// An append seems to be lost, though a heartbeat behind it was answered. Returns whether the next may be tried now.
    pub(super) fn may_try_append(&mut self, now: Instant, config: &ValidConfig) -> bool {
        let distance = self.appends.get_or_insert_with(|| Distance::first(config));
        if distance.last.is_some_and(|last| now < last + distance.length) {
            return false;
        }
        distance.on_try(now, millis(config.unreachable_backoff_ms_max));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::start;

    /// When heartbeats are sent to a peer that was reported as unreachable, in ms, with a tick every 30.
    fn heartbeats(config: &ValidConfig) -> Vec<u64> {
        let mut backoff = Backoff::default();
        backoff.on_unreachable(config);
        let ticks = (0..).step_by(config.heartbeat_interval_ms as usize).take(40);
        let due = ticks.filter(|ms| {
            let now = start_at(*ms);
            let is_due = backoff.is_due(now, config);
            if is_due {
                backoff.on_heartbeat(now, config);
            }
            is_due
        });
        due.collect()
    }

    fn start_at(ms: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(start) + millis(ms)
    }

    #[test]
    fn heartbeats_become_rarer_and_never_so_rare_that_a_node_would_campaign() {
        let defaults = Config::default().validate().unwrap();
        let sent = heartbeats(&defaults);
        assert_eq!(sent[..5], [0, 30, 90, 150, 210]);
        for pair in sent.windows(2) {
            assert!(pair[1] - pair[0] <= defaults.election_timeout_ms_min / 2, "{sent:?}");
        }
        let slow = Config {
            election_timeout_ms_min: 2000,
            election_timeout_ms_max: 4000,
            unreachable_backoff_ms_max: 200,
            ..Config::default()
        };
        assert_eq!(heartbeats(&slow.validate().unwrap())[..6], [0, 30, 90, 210, 390, 570]);
    }

    #[test]
    fn a_heartbeat_is_due_at_once_when_the_peer_has_answered() {
        let config = ValidConfig::default();
        let mut backoff = Backoff::default();
        backoff.on_unreachable(&config);
        for ms in [0, 30, 90] {
            backoff.on_heartbeat(start_at(ms), &config);
        }
        // A second report changes nothing.
        backoff.on_unreachable(&config);
        assert!(backoff.is_unreachable() && !backoff.is_due(start_at(91), &config));
        assert_eq!(backoff.length(), millis(75));
        backoff.on_answer();
        assert!(!backoff.is_unreachable() && backoff.is_due(start_at(91), &config));
        assert_eq!(backoff.length(), Duration::ZERO);
    }

    #[test]
    fn appends_become_rarer_up_to_the_limit_and_an_answer_ends_it() {
        let config = ValidConfig::default();
        let mut backoff = Backoff::default();
        let tried: Vec<u64> =
            (0..6000).step_by(10).filter(|ms| backoff.may_try_append(start_at(*ms), &config)).collect();
        assert_eq!(tried[..8], [0, 30, 90, 210, 450, 930, 1890, 2890]);
        // That heartbeats are answered is no news.
        backoff.on_answer();
        assert!(!backoff.may_try_append(start_at(6001), &config));
        backoff.on_append_answer();
        assert!(backoff.may_try_append(start_at(6001), &config));
    }
}
