//! A seeded generator: the only source of chance in the engine.

/// SplitMix64: small, fast, and good enough to keep election timeouts apart.
#[derive(Clone, Debug, Hash)]
pub(super) struct Rng {
    state: u64,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to below `high`; `low` when that range is empty.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).max(1);
        low + self.next_u64() % width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_differ_between_seeds() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..100).map(|_| rng.between(150, 300)).collect::<Vec<_>>()
        };
        assert!(draw(1).iter().all(|n| (150..300).contains(n)));
        assert_ne!(draw(1), draw(2));
        assert_eq!(draw(3), draw(3));
        assert_eq!(Rng::new(1).between(5, 5), 5);
    }
}
