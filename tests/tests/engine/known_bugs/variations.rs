//! Runs a script again under conditions that bring out what is remembered too long: messages that come twice, answers
//! that come after the next change of term, disks that are done only after the next truncation.

use std::ops::{Deref, DerefMut};

use openconsensus::engine::Input;
use openconsensus::{AppendResult, Body};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, What};

/// What happens beside what the script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variation {
    /// Nothing.
    AsWritten,
    /// Every message arrives twice.
    EachMessageTwice,
    /// Every answer arrives, and again when its receiver is in a later term.
    EachAnswerAgainInALaterTerm,
    /// This answer, counted from the first, does not arrive before its receiver is in a later term.
    OneAnswerInALaterTerm(usize),
    /// The writes of this node are done only when a truncation has been asked for behind them.
    DiskBehindTheNextTruncation(u64),
}

/// A cluster on which a script is played in one variation. In the others than the one that is written down, the script
/// may come to nothing, because an answer that it counts on does not arrive: what is checked then is that nothing
/// unsafe happens, and that the nodes agree in the end.
#[derive(Debug)]
pub(super) struct Stage {
    cluster: Cluster,
    variation: Variation,
    late: Vec<Letter>,
    answers: usize,
}

/// Plays `script` in all variations, each on a cluster of its own, and lets every one come to rest.
pub(super) fn in_all_variations(begin: impl Fn() -> Cluster, script: impl Fn(&mut Stage)) {
    let play = |variation| {
        let mut stage = Stage { cluster: begin(), variation, late: Vec::new(), answers: 0 };
        if let Variation::DiskBehindTheNextTruncation(id) = variation {
            stage.cluster.slow_disk(id);
        }
        script(&mut stage);
        stage.finish();
        stage.answers
    };
    let answers = play(Variation::AsWritten);
    play(Variation::EachMessageTwice);
    play(Variation::EachAnswerAgainInALaterTerm);
    for answer in 0..answers {
        play(Variation::OneAnswerInALaterTerm(answer));
    }
    let nodes: Vec<u64> = begin().nodes.keys().copied().collect();
    for id in nodes {
        play(Variation::DiskBehindTheNextTruncation(id));
    }
}

impl Deref for Stage {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

impl Stage {
    /// Whether nothing happens but what the script says.
    pub(super) fn is_as_written(&self) -> bool {
        self.variation == Variation::AsWritten
    }

    /// What holds when everything goes as it is written.
    pub(super) fn plainly(&self, check: impl FnOnce(&Cluster)) {
        if self.is_as_written() {
            check(&self.cluster);
        }
    }

    /// Node `id` campaigns, and everything is delivered but what `is_lost`. A leader that lives is not heard meanwhile.
    pub(super) fn campaign_but(&mut self, id: u64, is_lost: impl Fn(&Letter) -> bool) {
        self.cluster.skip(ELECTION_TIMEOUT_MS);
        self.cluster.step(id, Input::Campaign);
        self.settle_but(is_lost);
    }

    /// As [`campaign_but`](Self::campaign_but), where nothing is lost.
    pub(super) fn campaign(&mut self, id: u64) {
        self.campaign_but(id, |_| false);
    }

    /// Delivers everything that is under way and what follows from it, as the variation says.
    pub(super) fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// As [`settle`](Self::settle), but loses what fits.
    pub(super) fn settle_but(&mut self, is_lost: impl Fn(&Letter) -> bool) {
        self.settle_as(is_lost, |letter| letter);
    }

    /// As [`settle`](Self::settle), but loses what fits, and delivers what `change` makes of all else.
    pub(super) fn settle_as(&mut self, is_lost: impl Fn(&Letter) -> bool, change: impl Fn(Letter) -> Letter) {
        for _ in 0..10_000 {
            let letters = self.cluster.intercept(|_| true);
            if letters.is_empty() {
                return;
            }
            for letter in letters {
                if is_lost(&letter) {
                    self.cluster.lose(letter);
                } else {
                    self.hand_over(change(letter));
                }
            }
        }
        panic!("the nodes talk without end:\n{}", self.cluster.describe());
    }

    /// Delivers one letter as the variation says.
    pub(super) fn hand_over(&mut self, letter: Letter) {
        match self.variation {
            Variation::AsWritten => {
                self.answers += usize::from(is_answer(&letter));
                self.cluster.deliver(letter);
            }
            Variation::EachMessageTwice => {
                if matches!(letter.what, What::Message(_)) {
                    self.cluster.deliver(letter.clone());
                }
                self.cluster.deliver(letter);
            }
            Variation::EachAnswerAgainInALaterTerm => {
                if is_answer(&letter) {
                    self.late.push(letter.clone());
                }
                self.cluster.deliver(letter);
                self.deliver_late();
            }
            Variation::OneAnswerInALaterTerm(late) => {
                let is_late = is_answer(&letter) && self.answers == late;
                self.answers += usize::from(is_answer(&letter));
                if is_late {
                    self.late.push(letter);
                } else {
                    self.cluster.deliver(letter);
                }
                self.deliver_late();
            }
            Variation::DiskBehindTheNextTruncation(id) => {
                self.cluster.deliver(letter);
                let truncates =
                    |cluster: &Cluster| cluster.node(id).writes.iter().any(|write| write.truncate.is_some());
                if truncates(&self.cluster) {
                    while self.cluster.has_writes(id) {
                        self.cluster.complete_write(id);
                    }
                }
            }
        }
    }

    /// Delivers the late answers whose receivers have gone on to a later term.
    fn deliver_late(&mut self) {
        let (now, later): (Vec<Letter>, Vec<Letter>) =
            std::mem::take(&mut self.late).into_iter().partition(|letter| {
                let is_alive = self.cluster.node(letter.to).is_alive();
                is_alive && letter.term() < Some(self.cluster.term(letter.to))
            });
        self.late = later;
        now.into_iter().for_each(|letter| self.cluster.deliver(letter));
    }

    /// Heals everything, delivers what is late, and checks that the cluster comes to rest with one leader and equal logs.
    fn finish(&mut self) {
        self.cluster.heal();
        let ids: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        for id in ids {
            if !self.cluster.node(id).is_alive() {
                self.cluster.restart(id);
            }
            self.cluster.speed_up(id);
        }
        for late in std::mem::take(&mut self.late) {
            self.cluster.deliver(late);
        }
        for _ in 0..60 {
            self.cluster.run(ELECTION_TIMEOUT_MS);
            if is_at_rest(&self.cluster) {
                return;
            }
        }
        panic!("{:?} does not come to rest:\n{}", self.variation, self.cluster.describe());
    }
}

/// Whether one node leads, and every member of its membership has applied its whole log.
fn is_at_rest(cluster: &Cluster) -> bool {
    let Some(leader) = cluster.leader() else { return false };
    let last = cluster.metrics(leader).last;
    cluster.membership(leader).nodes().keys().all(|id| {
        let metrics = cluster.metrics(*id);
        metrics.last == last && metrics.applied == last && metrics.leader == Some(leader)
    })
}

fn is_answer(letter: &Letter) -> bool {
    match letter.body() {
        Some(Body::AppendResponse { result }) => match result {
            AppendResult::Matched { .. } | AppendResult::Conflict { .. } | AppendResult::StaleTerm => true,
        },
        _ => letter.is_vote_response() || letter.is_heartbeat_response(),
    }
}
