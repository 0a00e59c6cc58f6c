//! `Report`: what came of the checks of one suite.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{FutureExt, pin_mut};

use crate::panics::text_of;

use super::verdict::Flaw;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The part does what the sentence says.
    Passed,
    /// The check could not be made, because the factory does not offer what it needs.
    Skipped {
        /// What the factory would have to offer.
        why: String,
    },
    /// The part does not do what the sentence says.
    Failed {
        /// What was done, and what came of it.
        seen: String,
        /// What would be right.
        right: String,
    },
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the check.
    pub check: &'static str,
    /// The sentences of the contract that it holds the part against, as they stand in the documentation of the trait.
    pub contract: &'static [&'static str],
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a suite: an [`Outcome`] for each check, in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Report {
    suite: &'static str,
    outcomes: Vec<Outcome>,
}

/// A check that takes longer than this has met a call that does not return.
const CHECK_LIMIT: Duration = Duration::from_secs(120);

impl Report {
    pub(super) fn new(suite: &'static str) -> Self {
        Self { suite, outcomes: Vec::new() }
    }

    /// Every check with what came of it.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The names of the checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.named(|verdict| matches!(verdict, Verdict::Failed { .. }))
    }

    /// The names of the checks that were skipped.
    pub fn skipped(&self) -> Vec<&'static str> {
        self.named(|verdict| matches!(verdict, Verdict::Skipped { .. }))
    }

    /// The names of the checks that passed.
    pub fn passed(&self) -> Vec<&'static str> {
        self.named(|verdict| matches!(verdict, Verdict::Passed))
    }

    fn named(&self, is_meant: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
        let meant = self.outcomes.iter().filter(|outcome| is_meant(&outcome.verdict));
        meant.map(|outcome| outcome.check).collect()
    }

    /// Insists that no check failed. Skipped ones are let pass.
    ///
    /// # Panics
    ///
    /// With every failure, when there is one.
    #[track_caller]
    pub fn assert_passed(&self) {
        let failed = self.failed();
        assert!(failed.is_empty(), "{} of {} checks failed\n{self}", failed.len(), self.outcomes.len());
    }

    /// Insists that no check failed and exactly those in `skipped` were skipped: what a suite of one's own says, so that
    /// a check that is suddenly skipped is noticed.
    ///
    /// # Panics
    ///
    /// With the whole report, when it is not so.
    #[track_caller]
    pub fn assert_passed_except(&self, skipped: &[&str]) {
        self.assert_passed();
        assert!(self.skipped() == skipped, "skipped are {:?} and not {skipped:?}\n{self}", self.skipped());
    }

    /// Makes one check. Panics in it are failures, and so is a call that does not return.
    pub(super) async fn check(
        &mut self,
        check: &'static str,
        contract: &'static [&'static str],
        checking: impl Future<Output = Result<(), Flaw>>,
    ) {
        let checking = AssertUnwindSafe(checking).catch_unwind();
        let (limit, _running) = alarm(CHECK_LIMIT);
        pin_mut!(checking);
        let verdict = match select(checking, limit).await {
            Either::Left((Ok(Ok(())), _)) => Verdict::Passed,
            Either::Left((Ok(Err(Flaw::Skip { why })), _)) => Verdict::Skipped { why },
            Either::Left((Ok(Err(Flaw::Wrong { seen, right })), _)) => Verdict::Failed { seen, right },
            Either::Left((Err(panic), _)) => {
                let text = text_of(&*panic);
                Verdict::Failed { seen: format!("a panic: {text}"), right: "no panic".into() }
            }
            Either::Right(_) => Verdict::Failed {
                seen: format!("a call that has not returned within {CHECK_LIMIT:?}"),
                right: "every call returns".into(),
            },
        };
        self.outcomes.push(Outcome { check, contract, verdict });
    }
}

/// Resolves after `limit`, on any executor, unless the second value is dropped before.
pub(super) fn alarm(limit: Duration) -> (oneshot::Receiver<()>, mpsc::Sender<()>) {
    let (fire, fired) = oneshot::channel();
    let (running, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        if stopped.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Whoever waited may have gone at this very moment.
            let _ = fire.send(());
        } else {
            // The check has ended: the other end is not listened to any more.
            drop(fire);
        }
    });
    (fired, running)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, skipped, failed) = (self.passed().len(), self.skipped().len(), self.failed().len());
        writeln!(
            f,
            "conformance of the {}: {passed} passed, {skipped} skipped, {failed} failed",
            self.suite
        )?;
        for Outcome { check, contract, verdict } in &self.outcomes {
            match verdict {
                Verdict::Passed => writeln!(f, "  passed  {check}")?,
                Verdict::Skipped { why } => writeln!(f, "  skipped {check}: {why}")?,
                Verdict::Failed { seen, right } => {
                    writeln!(f, "  FAILED  {check}")?;
                    contract.iter().try_for_each(|sentence| writeln!(f, "    contract: {sentence}"))?;
                    writeln!(f, "    seen:     {seen}")?;
                    writeln!(f, "    right:    {right}")?;
                }
            }
        }
        Ok(())
    }
}

/// A list of checks, each a function of the factory with the sentences that it holds the part against. Becomes a function
/// that makes them all.
macro_rules! checks {
    ($name:ident where [$($bounds:tt)+]; $($module:ident::$check:ident: [$($sentence:expr),+ $(,)?];)+) => {
        async fn $name<C, F>(report: &mut Report, factory: &F)
        where
            $($bounds)+
        {
            $(
                report.check(stringify!($check), &[$($sentence),+], $module::$check(factory)).await;
            )+
        }
    };
}
pub(super) use checks;

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::super::verdict::{same, skip};
    use super::*;

    #[test]
    fn a_report_names_what_failed_with_its_sentence_and_both_values() {
        let mut report = Report::new("part");
        block_on(async {
            report.check("one", &["It works."], async { same("one and one", 2, 2) }).await;
            report.check("two", &["It adds.", "Always."], async { same("one and two", 4, 3) }).await;
            report.check("three", &["It lasts."], async { skip("a hammer") }).await;
            report.check("four", &["It stands."], async { panic!("out of {}", "order") }).await;
        });
        assert_eq!((report.passed(), report.skipped()), (vec!["one"], vec!["three"]));
        assert_eq!(report.failed(), ["two", "four"]);
        let text = report.to_string();
        for part in
            ["1 passed, 1 skipped, 2 failed", "contract: Always.", "one and two: 4", "3", "out of order"]
        {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        let refused = std::panic::catch_unwind(|| report.assert_passed());
        assert!(refused.is_err());
    }

    #[test]
    fn an_alarm_rings_unless_it_is_stopped() {
        let (rings, running) = alarm(Duration::from_millis(1));
        assert_eq!(block_on(rings), Ok(()));
        drop(running);
        let (rings, running) = alarm(Duration::from_secs(1000));
        drop(running);
        assert!(block_on(rings).is_err());
    }
}
