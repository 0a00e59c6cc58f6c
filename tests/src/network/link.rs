//! One directed link: a queue of messages that are under way, and the task that delivers them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openconsensus::{AsyncRuntime, Message, TypeConfig};
use tokio::sync::mpsc;

use super::summary::Summaries;
use super::{Hub, LinkFaults, LinkId};

/// More than this many messages are never under way on one link; what comes on top is lost.
const MESSAGES_MAX: usize = 100_000;

/// Starts the task that delivers what is sent on `link`.
pub(super) fn spawn<C: TypeConfig>(
    hub: Arc<Hub<C>>,
    link: LinkId<C>,
) -> mpsc::UnboundedSender<Vec<Message<C>>> {
    let (sender, arriving) = mpsc::unbounded_channel();
    let random = fastrand::Rng::with_seed(hub.link_seed(link));
    let queue = Queue { random, ..Queue::new(hub.runtime.now()) };
    let runtime = hub.runtime.clone();
    runtime.spawn(deliver_loop(hub, link, arriving, queue));
    sender
}

async fn deliver_loop<C: TypeConfig>(
    hub: Arc<Hub<C>>,
    link: LinkId<C>,
    mut arriving: mpsc::UnboundedReceiver<Vec<Message<C>>>,
    mut queue: Queue<C>,
) {
    let runtime = hub.runtime.clone();
    loop {
        let next = queue.next_at();
        tokio::select! {
            biased;
            messages = arriving.recv() => {
                let Some(messages) = messages else { return };
                let faults = hub.lock().faults_of(link);
                let lost = queue.add(runtime.now(), &faults, messages);
                hub.lock().traffic.dropped += lost;
            }
            () = runtime.sleep_until(next.unwrap_or_else(|| runtime.now())), if next.is_some() => {}
        }
        // One after the other, so that nothing overtakes; waits where the receiver makes its senders wait.
        while let Some(messages) = queue.take_due(runtime.now()) {
            deliver(&hub, link, messages).await;
        }
    }
}

async fn deliver<C: TypeConfig>(hub: &Hub<C>, link: LinkId<C>, messages: Vec<Message<C>>) {
    let (from, to) = link;
    let count = messages.len() as u64;
    let (receiver, sender) = {
        let mut state = hub.lock();
        let receiver = if state.is_cut(link) {
            None
        } else {
            Some(state.nodes.get(&to).map(|node| node.receiver.clone()))
        };
        let traffic = &mut state.traffic;
        match &receiver {
            Some(Some(_)) => traffic.delivered += count,
            Some(None) | None => traffic.dropped += count,
        }
        let fate = if let Some(Some(_)) = &receiver { "arrives" } else { "is lost" };
        hub.runtime.note(format_args!("{from} -> {to}: {} {fate}", Summaries(&messages)));
        (receiver, state.nodes.get(&from).map(|node| node.receiver.clone()))
    };
    match receiver {
        // A node that has stopped is as good as one that is not connected.
        Some(Some(receiver)) => drop(receiver.receive(from, messages).await),
        Some(None) => {
            if let Some(sender) = sender {
                sender.report_unreachable(to);
            }
        }
        None => {}
    }
}

/// Messages under way, by the time of their arrival.
struct Queue<C: TypeConfig> {
    random: fastrand::Rng,
    waiting: BTreeMap<(Instant, u64), Vec<Message<C>>>,
    /// How many were added: keeps those apart that arrive at the same time.
    added: u64,
    /// No message that keeps the order arrives before this.
    latest: Instant,
}

impl<C: TypeConfig> Queue<C> {
    fn new(now: Instant) -> Self {
        Self { random: fastrand::Rng::with_seed(0), waiting: BTreeMap::new(), added: 0, latest: now }
    }

    fn next_at(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    fn take_due(&mut self, now: Instant) -> Option<Vec<Message<C>>> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Takes messages that were sent at `now`. Returns how many of them are lost.
    fn add(&mut self, now: Instant, faults: &LinkFaults, messages: Vec<Message<C>>) -> u64 {
        if MESSAGES_MAX < self.waiting.len() {
            return messages.len() as u64;
        }
        if *faults == LinkFaults::default() {
            self.latest = self.latest.max(now);
            self.insert(self.latest, messages);
            return 0;
        }
        let mut lost = 0;
        for message in messages {
            if self.random.f64() < faults.drop {
                lost += 1;
                continue;
            }
            let at = now + self.between(faults.delay.start, faults.delay.end);
            if self.random.f64() < faults.duplicate {
                let later = at + self.between(Duration::ZERO, faults.hold);
                self.insert(later, vec![message.clone()]);
            }
            if self.random.f64() < faults.reorder {
                let later = at + self.between(Duration::ZERO, faults.hold);
                self.insert(later, vec![message]);
            } else {
                self.latest = self.latest.max(at);
                self.insert(self.latest, vec![message]);
            }
        }
        lost
    }

    fn insert(&mut self, at: Instant, messages: Vec<Message<C>>) {
        self.added += 1;
        self.waiting.insert((at, self.added), messages);
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use openconsensus::Body;
    use openconsensus_memstore::kv::Kv;

    use super::*;

    fn messages(rounds: std::ops::Range<u64>) -> Vec<Message<Kv>> {
        rounds
            .map(|round| Message { term: 1, body: Body::HeartbeatResponse { round, promise_ms: 0 } })
            .collect()
    }

    /// The rounds that arrive, in the order in which they do, when `total` messages are sent a millisecond apart.
    fn arrivals(seed: u64, faults: &LinkFaults, total: u64) -> (Vec<u64>, u64) {
        let start = Instant::now();
        let mut queue = Queue { random: fastrand::Rng::with_seed(seed), ..Queue::new(start) };
        let mut lost = 0;
        let mut arrived = Vec::new();
        for step in 0..total + 1000 {
            let now = start + Duration::from_millis(step);
            if step < total {
                lost += queue.add(now, faults, messages(step..step + 1));
            }
            while let Some(due) = queue.take_due(now) {
                arrived.extend(due.iter().map(|message| match message.body {
                    Body::HeartbeatResponse { round, .. } => round,
                    _ => panic!("only heartbeat responses were sent"),
                }));
            }
        }
        (arrived, lost)
    }

    #[test]
    fn without_faults_everything_arrives_once_and_in_order() {
        let (arrived, lost) = arrivals(1, &LinkFaults::default(), 500);
        assert_eq!((arrived, lost), ((0..500).collect(), 0));
    }

    #[test]
    fn a_delay_alone_keeps_the_order() {
        let delay = Duration::from_millis(2)..Duration::from_millis(50);
        let (arrived, lost) = arrivals(2, &LinkFaults { delay, ..LinkFaults::default() }, 500);
        assert_eq!((arrived, lost), ((0..500).collect(), 0));
    }

    #[test]
    fn every_fault_strikes_about_as_often_as_asked_and_the_same_for_the_same_seed() {
        let (arrived, lost) = arrivals(3, &LinkFaults::rough(), 2000);
        assert!((100..300).contains(&lost), "{lost} lost");
        let mut once = arrived.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len() as u64, 2000 - lost);
        let repeated = arrived.len() - once.len();
        assert!((100..300).contains(&repeated), "{repeated} repeated");
        let overtaken = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(100 < overtaken, "{overtaken} overtaken");
        assert_eq!(arrivals(3, &LinkFaults::rough(), 2000), (arrived.clone(), lost));
        assert_ne!(arrivals(4, &LinkFaults::rough(), 2000).0, arrived);
    }
}
