//! Reads decisions from bytes. When there are none left, everything is zero.

pub(crate) struct BytesIn<'a> {
    left: &'a [u8],
}

impl<'a> BytesIn<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { left: data }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, left)) = self.left.split_first() else { return 0 };
        self.left = left;
        *first
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        u64::from(self.byte()) % end
    }

    /// A number that is mostly small, sometimes as large as it can be, sometimes anything.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=200 => u64::from(small) % 16,
            large @ 201..=230 => u64::MAX - u64::from(large - 201),
            _ => (0..8).fold(0, |sum, _| sum << 8 | u64::from(self.byte())),
        }
    }
}
