//! Ways in which the messages of a script arrive: once, each twice, or with all answers once more in the next term.

use std::time::Duration;

use openconsensus::engine::Input;
use openconsensus::{Body, Term};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, What};

/// Delivers what is under way.
#[derive(Debug)]
pub(super) struct Post {
    way: Way,
    /// Answers that will come once more when the term has changed.
    kept: Vec<Letter>,
    /// The latest term of any node when they were kept.
    term: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Once,
    /// Each message is delivered twice.
    Twice,
    /// Each answer comes once more when there is a later term.
    Late,
}

/// Runs a script in each of the ways. Whatever it finds must not depend on them.
pub(super) fn each_way(script: impl Fn(&mut Post)) {
    for way in [Way::Once, Way::Twice, Way::Late] {
        script(&mut Post { way, kept: Vec::new(), term: 0 });
    }
}

impl Post {
    /// Each message arrives once.
    pub(super) fn once() -> Self {
        Self { way: Way::Once, kept: Vec::new(), term: 0 }
    }

    /// Delivers everything that is under way, and what follows from it, until nothing is. No time passes.
    pub(super) fn settle(&mut self, cluster: &mut Cluster) {
        self.settle_but(cluster, |_| false);
    }

    /// As [`settle`](Self::settle), but loses what fits.
    pub(super) fn settle_but(&mut self, cluster: &mut Cluster, is_lost: impl Fn(&Letter) -> bool) {
        for _ in 0..10_000 {
            let letters = cluster.intercept(|_| true);
            if letters.is_empty() && !self.repeat_answers(cluster) {
                return;
            }
            for letter in letters {
                if is_lost(&letter) {
                    cluster.lose(letter);
                } else {
                    self.deliver(cluster, letter);
                }
            }
        }
        panic!("the nodes talk without end:\n{}", cluster.describe());
    }

    fn deliver(&mut self, cluster: &mut Cluster, letter: Letter) {
        if self.way == Way::Late && is_answer(&letter) {
            self.kept.push(letter.clone());
        }
        if self.way == Way::Twice {
            cluster.deliver(letter.clone());
        }
        cluster.deliver(letter);
    }

    /// Delivers the answers of earlier terms once more, if the term has changed since.
    fn repeat_answers(&mut self, cluster: &mut Cluster) -> bool {
        let terms: Vec<Term> = cluster.alive().map(|id| cluster.term(id)).collect();
        let term = terms.into_iter().max().unwrap_or_default();
        if term <= self.term {
            return false;
        }
        self.term = term;
        let late = std::mem::take(&mut self.kept);
        let any = !late.is_empty();
        late.into_iter().for_each(|letter| cluster.deliver(letter));
        any
    }

    /// Time passes and all timers run.
    pub(super) fn run(&mut self, cluster: &mut Cluster, ms: u64) {
        self.run_but(cluster, ms, |_| false);
    }

    /// As [`run`](Self::run), but loses what fits.
    pub(super) fn run_but(&mut self, cluster: &mut Cluster, ms: u64, is_lost: impl Fn(&Letter) -> bool) {
        let end = cluster.now + Duration::from_millis(ms);
        self.settle_but(cluster, &is_lost);
        loop {
            let deadlines =
                cluster.alive().filter_map(|id| Some((cluster.node(id).engine().next_deadline()?, id)));
            let next = deadlines.min();
            let Some((deadline, id)) = next.filter(|(deadline, _)| *deadline <= end) else {
                cluster.now = end;
                return;
            };
            cluster.now = cluster.now.max(deadline);
            cluster.step(id, Input::Timeout);
            self.settle_but(cluster, &is_lost);
        }
    }

    /// Makes `id` the leader. A leader that lives is not heard meanwhile, as if it had been paused.
    pub(super) fn elect(&mut self, cluster: &mut Cluster, id: u64) {
        cluster.skip(ELECTION_TIMEOUT_MS);
        cluster.step(id, Input::Campaign);
        self.settle(cluster);
        assert!(cluster.is_leader(id), "node {id} was not elected:\n{}", cluster.describe());
    }
}

fn is_answer(letter: &Letter) -> bool {
    match &letter.what {
        What::Message(message) => matches!(
            message.body,
            Body::VoteResponse { .. }
                | Body::AppendResponse { .. }
                | Body::HeartbeatResponse { .. }
                | Body::ReadResponse { .. }
        ),
        What::Snapshot { .. } => false,
        What::SnapshotAnswer { .. } => true,
    }
}
