//! Which messages a command means: by number, by link, by kind.

use std::collections::BTreeSet;

use crate::engines::Letter;

use super::show;
use super::words::{Result, Words, link, numbers, wrong};

/// What is under way and meant. Numbers, links and kinds must all fit where they are given; of each several may be
/// given, of which one must fit. A selection of nothing fits everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// Places among those under way, from 1 on.
    numbers: BTreeSet<usize>,
    links: Vec<(Option<u64>, Option<u64>)>,
    kinds: Vec<&'static str>,
    /// Only the oldest that fits.
    is_first: bool,
}

impl Selection {
    /// Reads the words that select, up to the first that does not.
    pub(super) fn parse(words: &mut Words<'_>, stops: &[&str]) -> Result<Self> {
        let mut selection = Self::default();
        while let Some(word) = words.peek().filter(|word| !stops.contains(word)) {
            words.next("a selection")?;
            if word == "first" {
                selection.is_first = true;
            } else if let Some(places) = word.strip_prefix('#') {
                let places = numbers(places, "the number of a message")?;
                selection.numbers.extend(places.into_iter().map(|place| place as usize));
            } else if let Some(link) = link(word) {
                selection.links.push(link);
            } else if let Some(kind) = show::KINDS.iter().find(|kind| **kind == word) {
                selection.kinds.push(kind);
            } else {
                return wrong(
                    format!("`{word}` selects no messages"),
                    format!(
                        "select by `first`, number `#2`, link `1→2`, `1→`, `→2`, or kind: {}",
                        show::KINDS.join(", ")
                    ),
                );
            }
        }
        Ok(selection)
    }

    /// Whether it fits a letter wherever it stands.
    pub(super) fn fits(&self, letter: &Letter) -> bool {
        let fits_link = |(from, to): &(Option<u64>, Option<u64>)| {
            from.is_none_or(|from| from == letter.from) && to.is_none_or(|to| to == letter.to)
        };
        (self.links.is_empty() || self.links.iter().any(fits_link))
            && (self.kinds.is_empty() || self.kinds.contains(&show::kind(letter)))
    }

    /// Whether it names single messages, so that it cannot speak of those to come.
    pub(super) fn is_of_places(&self) -> bool {
        self.is_first || !self.numbers.is_empty()
    }

    /// The places, from 0 on, of those that fit among `letters`.
    pub(super) fn places<'a>(&self, letters: impl Iterator<Item = &'a Letter>) -> BTreeSet<usize> {
        let fitting = letters.enumerate().filter(|(place, letter)| {
            (self.numbers.is_empty() || self.numbers.contains(&(place + 1))) && self.fits(letter)
        });
        let places = fitting.map(|(place, _)| place);
        if self.is_first { places.take(1).collect() } else { places.collect() }
    }
}
