//! What every benchmark can be told.

use std::path::PathBuf;
use std::time::Duration;

/// What every benchmark can be told. Benchmarks with more to say flatten this into their own options.
#[derive(Clone, Debug, clap::Parser)]
pub struct Options {
    /// How many rounds are measured in each case
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How long one contender is measured in one round, in seconds
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Writes the result to a file in this folder, which is made if there is none
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Does everything once and very briefly, to see that it works: the figures say nothing
    #[arg(long)]
    pub smoke: bool,
}

impl Options {
    /// How many rounds are to be measured: one if this only looks whether all works.
    pub fn rounds(&self) -> usize {
        if self.smoke { 1 } else { self.rounds.max(1) }
    }

    /// How long a contender is to be measured in one round.
    pub fn duration(&self) -> Duration {
        if self.smoke { Duration::from_millis(100) } else { Duration::from_secs_f64(self.seconds.max(0.001)) }
    }

    /// `all`, or only the first where this only looks whether all works.
    pub fn cases<T: Clone>(&self, all: &[T]) -> Vec<T> {
        all.iter().take(if self.smoke { 1 } else { all.len() }).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoke_is_one_short_round_of_the_first_case() {
        let options = Options { rounds: 9, seconds: 2.0, out: None, smoke: false };
        assert_eq!((options.rounds(), options.duration()), (9, Duration::from_secs(2)));
        assert_eq!(options.cases(&[1, 64]), [1, 64]);
        let smoke = Options { smoke: true, ..options };
        assert_eq!(smoke.rounds(), 1);
        assert!(smoke.duration() < Duration::from_secs(1));
        assert_eq!(smoke.cases(&[1, 64]), [1]);
    }
}
