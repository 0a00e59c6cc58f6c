//! What a crash leaves: a disk as it was at one moment, and a choice for everything that was not durable then.

use std::ops::Range;

use fastrand::Rng;

use super::content::Time;
use super::files::{SimDisk, State};

/// The disk at one moment of a run.
#[derive(Clone, Debug)]
pub(crate) struct CrashPoint {
    pub(super) state: State,
    /// The number of the operation that had just been carried out.
    pub(crate) operation: Time,
    /// How many calls the test had seen acknowledged by then, and how many it had made.
    pub(crate) acknowledged: usize,
    pub(crate) made: usize,
    /// What the operation was.
    pub(crate) what: String,
}

/// What of that which was not durable is there after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// The n-th combination of old and new: bit i stands for the i-th choice.
    Combination(u64),
    /// Everything that was done before some moment: writes reached the disk in order.
    Prefix(u64),
    /// Only what was done after some moment: later writes overtook the earlier ones.
    Suffix(u64),
    /// Everything but one sector, or one name.
    AllButOne(u64),
    /// Only one sector, or one name.
    OnlyOne(u64),
    /// Each sector of 512 bytes in any of its versions, as chance will have it.
    Sectors(u64),
    /// The same for each page of 4096 bytes, whose sectors stay together.
    Pages(u64),
    /// The same for pieces of any size: sectors are torn as well.
    Pieces(u64),
}

impl Survival {
    /// Up to so many ways to crash at `point`: all of them where there are few.
    pub(crate) fn some(point: &CrashPoint, most: usize, random: &mut Rng) -> Vec<Self> {
        let choices = point.state.choices();
        if choices == 0 {
            return vec![Self::Nothing];
        }
        if choices < 12 && 1 << choices <= most {
            return (0..1 << choices).map(Self::Combination).collect();
        }
        let mut all = vec![Self::Nothing, Self::Everything];
        while all.len() < most.max(2) {
            let seed = random.u64(..);
            all.push(match all.len() % 7 {
                0 | 1 => Self::Sectors(seed),
                2 if all.len() % 2 == 0 => Self::Pages(seed),
                2 => Self::Pieces(seed),
                3 => Self::Prefix(seed),
                4 => Self::AllButOne(seed),
                5 => Self::Suffix(seed),
                _ => Self::OnlyOne(seed),
            });
        }
        all
    }
}

/// Answers for each thing which of its versions is there. Asked in an order that only depends on the disk.
pub(super) struct Choice {
    survival: Survival,
    random: Rng,
    asked: u64,
    choices: u64,
    earliest: Time,
    /// For pages: the page that was asked for last, and the time of its version.
    page: Option<(usize, Option<Time>)>,
}

impl Choice {
    fn new(survival: Survival, state: &State, latest: Time) -> Self {
        let seed = match survival {
            Survival::Nothing | Survival::Everything | Survival::Combination(_) => 0,
            Survival::Prefix(seed)
            | Survival::Suffix(seed)
            | Survival::AllButOne(seed)
            | Survival::OnlyOne(seed)
            | Survival::Sectors(seed)
            | Survival::Pages(seed)
            | Survival::Pieces(seed) => seed,
        };
        let mut random = Rng::with_seed(seed);
        // The moments that matter are those of the last operations, few of which are not durable yet.
        let earliest = latest.saturating_sub(random.u64(0..40));
        let choices = state.choices() as u64;
        Self { survival, random, asked: 0, choices, earliest, page: None }
    }

    /// What is asked from here on is about another file.
    pub(super) fn begin_file(&mut self) {
        self.page = None;
    }

    /// Which of the versions written at `times` is there; `None` for the old one. `sector` is that of a file, if it is one.
    pub(super) fn version(&mut self, sector: Option<usize>, times: &[Time]) -> Option<usize> {
        let newest = times.len().checked_sub(1)?;
        let number = self.asked;
        self.asked += 1;
        let is_it = |seed: u64| seed % self.choices.max(1) == number;
        match self.survival {
            Survival::Nothing => None,
            Survival::Everything => Some(newest),
            Survival::Combination(bits) => (bits >> number & 1 == 1).then_some(newest),
            Survival::Prefix(_) => times.iter().rposition(|time| *time <= self.earliest),
            Survival::Suffix(_) => (self.earliest < times[newest]).then_some(newest),
            Survival::AllButOne(seed) => (!is_it(seed)).then_some(newest),
            Survival::OnlyOne(seed) => is_it(seed).then_some(newest),
            Survival::Sectors(_) | Survival::Pieces(_) => self.any(times),
            Survival::Pages(_) => {
                let Some(page) = sector.map(|sector| sector / 8) else { return self.any(times) };
                let until = match self.page {
                    Some((same, until)) if same == page => until,
                    Some(_) | None => {
                        let until = self.any(times).map(|number| times[number]);
                        self.page = Some((page, until));
                        until
                    }
                };
                times.iter().rposition(|time| until.is_some_and(|until| *time <= until))
            }
        }
    }

    /// Which bytes of a sector of `len` bytes get their new value, when it does.
    pub(super) fn piece(&mut self, len: usize) -> Range<usize> {
        if let Survival::Pieces(_) = self.survival {
            let (a, b) = (self.random.usize(0..=len), self.random.usize(0..=len));
            return a.min(b)..a.max(b);
        }
        0..len
    }

    /// The old one as often as any new one together.
    fn any(&mut self, times: &[Time]) -> Option<usize> {
        if self.random.bool() {
            return None;
        }
        // The newest is what matters most.
        let newest = times.len() - 1;
        Some(if self.random.bool() { newest } else { self.random.usize(0..=newest) })
    }
}

impl CrashPoint {
    /// The disk that is found when the machine comes up again.
    pub(crate) fn survive(&self, survival: Survival) -> SimDisk {
        let mut choice = Choice::new(survival, &self.state, self.operation);
        SimDisk::of(self.state.crashed(&mut choice))
    }

    /// A killed process: the machine goes on, so that everything written is there, and nothing more is durable than was.
    pub(crate) fn killed(&self) -> SimDisk {
        SimDisk::of(self.state.clone())
    }
}
