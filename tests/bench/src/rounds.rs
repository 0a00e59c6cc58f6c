//! Rounds: whose turn it is, and what is made of what they have shown.

use serde::{Deserialize, Serialize};

/// Whose turn it is: `(round, contender)` in the order in which they are to be measured.
///
/// Every second round goes backwards, so that nobody always comes after the same neighbour.
pub fn turns(rounds: usize, contenders: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds).flat_map(move |round| {
        (0..contenders).map(move |turn| {
            let contender = if round.is_multiple_of(2) { turn } else { contenders - 1 - turn };
            (round, contender)
        })
    })
}

/// The middle one of some values, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// What `values` show; `None` if there are none, or one is not a number.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.iter().any(|value| value.is_nan()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }

    /// The ratios of `ours` to `theirs`, round by round.
    ///
    /// The median of ratios, not the ratio of medians: what the machine did in one round fell on both.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&ratios)
    }
}

/// The median of some values; not a number if there are none.
pub fn median(values: &[f64]) -> f64 {
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_alternate() {
        let order: Vec<_> = turns(3, 2).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_the_rounds() {
        // The machine was slow in the last two rounds: the medians alone would say 1.
        let ratio = Spread::of_ratios(&[30.0, 10.0, 10.0], &[10.0, 5.0, 10.0]).unwrap();
        assert_eq!(ratio, Spread { median: 2.0, min: 1.0, max: 3.0 });
    }
}
