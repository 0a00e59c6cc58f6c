//! Commands about messages under way and the links between nodes.

use std::cell::Cell;

use openconsensus::engine::Input;

use crate::engines::{Cluster, Letter, What};

use super::selection::Selection;
use super::show;
use super::stage::{Sent, Stage};
use super::words::{Result, Words, link, wrong};

/// Letters that a run of messages does not deliver.
#[derive(Clone, Debug, Default)]
pub(super) struct Except {
    keeping: Option<Selection>,
    losing: Option<Selection>,
    pub(super) is_aloud: bool,
}

impl Except {
    /// Reads `keeping SELECTION`, `losing SELECTION` and `aloud`.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self> {
        const STOPS: &[&str] = &["keeping", "losing", "aloud"];
        let mut except = Self::default();
        loop {
            if words.take("keeping") {
                except.keeping = Some(lasting(words, STOPS)?);
            } else if words.take("losing") {
                except.losing = Some(lasting(words, STOPS)?);
            } else if words.take("aloud") {
                except.is_aloud = true;
            } else {
                return Ok(except);
            }
        }
    }
}

/// A selection that can speak of messages to come.
fn lasting(words: &mut Words<'_>, stops: &[&str]) -> Result<Selection> {
    let selection = Selection::parse(words, stops)?;
    if selection.is_of_places() {
        return wrong("numbers say nothing about messages to come", "select by link or by kind");
    }
    Ok(selection)
}

impl Stage {
    pub(super) fn deliver(&mut self, words: &mut Words<'_>) -> Result<()> {
        let together = words.take("together");
        let selection = Selection::parse(words, &[])?;
        let letters = self.take(&selection);
        if together {
            return self.deliver_together(letters);
        }
        self.nothing_to_do(&letters);
        for letter in letters {
            self.deliver_one(letter, Sent::Shown);
        }
        Ok(())
    }

    fn nothing_to_do(&mut self, letters: &[Letter]) {
        if letters.is_empty() {
            self.print(0, "no such message");
        }
    }

    /// Takes what fits off its way.
    fn take(&mut self, selection: &Selection) -> Vec<Letter> {
        let places = selection.places(self.cluster.letters());
        let place = Cell::new(0);
        let letters = self.cluster.intercept(|_| {
            let at = place.get();
            place.set(at + 1);
            places.contains(&at)
        });
        self.overlook_letters();
        letters
    }

    /// Delivers a letter, and prints it and what comes of it.
    fn deliver_one(&mut self, letter: Letter, sent: Sent) {
        self.overlook_letters();
        let line = show::letter(&letter);
        self.print(0, format!("{line}{}", self.fate(&letter)));
        self.cluster.deliver(letter);
        self.report(2, sent);
    }

    /// Why a letter will not arrive, if so.
    fn fate(&self, letter: &Letter) -> &'static str {
        let is_up = self.cluster.nodes.get(&letter.to).is_some_and(|node| node.is_alive());
        if self.cuts.contains(&(letter.from, letter.to)) {
            " — lost, the link is cut"
        } else if !is_up {
            " — lost, the node is down"
        } else {
            ""
        }
    }

    /// All at once, to one node, whose effects are taken behind the last.
    fn deliver_together(&mut self, letters: Vec<Letter>) -> Result<()> {
        let Some(to) = letters.first().map(|letter| letter.to) else {
            return wrong("no message fits", "`messages` lists what is under way");
        };
        let mut inputs = Vec::new();
        for letter in letters {
            let line = show::letter(&letter);
            match letter.what {
                What::Message(message) if letter.to == to && self.cluster.node(to).is_alive() => {
                    self.print(0, line);
                    inputs.push(Input::Receive { from: letter.from, message });
                }
                What::Message(_) | What::Snapshot { .. } | What::SnapshotAnswer { .. } => {
                    return wrong(
                        format!("`{line}` cannot be delivered together with the others"),
                        "`deliver together →2` takes messages to one node that lives, and no snapshots",
                    );
                }
            }
        }
        self.cluster.step_all(to, inputs);
        self.report(2, Sent::Shown);
        Ok(())
    }

    pub(super) fn settle(&mut self, words: &mut Words<'_>) -> Result<()> {
        let except = Except::parse(words)?;
        let count = self.settle_but(&except)?;
        if !except.is_aloud {
            let messages = if count == 1 { "1 message".to_string() } else { format!("{count} messages") };
            self.print(0, messages);
        }
        self.report(0, Sent::Silent);
        Ok(())
    }

    /// Delivers until nothing is under way but what is to be kept. Returns how much has arrived.
    pub(super) fn settle_but(&mut self, except: &Except) -> Result<usize> {
        const TOO_MANY: usize = 20_000;
        let is_kept = |letter: &Letter| except.keeping.as_ref().is_some_and(|kept| kept.fits(letter));
        let mut count = 0;
        while let Some(letter) = take_oldest(&mut self.cluster, |letter| !is_kept(letter)) {
            let is_lost = except.losing.as_ref().is_some_and(|lost| lost.fits(&letter));
            if is_lost && except.is_aloud {
                self.print(0, format!("{} — lost", show::letter(&letter)));
            }
            if is_lost {
                self.cluster.lose(letter);
            } else {
                count += usize::from(self.fate(&letter).is_empty());
                if except.is_aloud {
                    self.deliver_one(letter, Sent::Silent);
                } else {
                    self.cluster.deliver(letter);
                }
            }
            if TOO_MANY < count {
                return wrong("the nodes talk without end", "keep or lose what they repeat");
            }
        }
        Ok(count)
    }

    pub(super) fn drop(&mut self, words: &mut Words<'_>) -> Result<()> {
        let selection = Selection::parse(words, &[])?;
        let letters = self.take(&selection);
        self.nothing_to_do(&letters);
        for letter in letters {
            self.print(0, format!("{} — lost", show::letter(&letter)));
            self.cluster.lose(letter);
            self.report(2, Sent::Shown);
        }
        Ok(())
    }

    pub(super) fn duplicate(&mut self, words: &mut Words<'_>) -> Result<()> {
        let selection = Selection::parse(words, &[])?;
        let places = selection.places(self.cluster.letters());
        let letters: Vec<Letter> = self.cluster.letters().cloned().collect();
        let copies: Vec<Letter> =
            letters.into_iter().enumerate().filter(|(at, _)| places.contains(at)).map(|(_, l)| l).collect();
        self.nothing_to_do(&copies);
        copies.into_iter().for_each(|letter| self.cluster.put_back(letter));
        Ok(())
    }

    pub(super) fn delay(&mut self, words: &mut Words<'_>) -> Result<()> {
        let selection = Selection::parse(words, &[])?;
        let letters = self.take(&selection);
        self.nothing_to_do(&letters);
        letters.into_iter().for_each(|letter| self.cluster.put_back(letter));
        Ok(())
    }

    pub(super) fn hold(&mut self, words: &mut Words<'_>) -> Result<()> {
        let selection = Selection::parse(words, &[])?;
        let letters = self.take(&selection);
        self.nothing_to_do(&letters);
        for letter in letters {
            self.print(0, format!("{} — held", show::letter(&letter)));
            self.held.push(letter);
        }
        Ok(())
    }

    pub(super) fn release(&mut self, words: &mut Words<'_>) -> Result<()> {
        let selection = Selection::parse(words, &[])?;
        let places = selection.places(self.held.iter());
        let held = std::mem::take(&mut self.held).into_iter().enumerate();
        let (released, kept): (Vec<_>, Vec<_>) = held.partition(|(at, _)| places.contains(at));
        self.held = kept.into_iter().map(|(_, letter)| letter).collect();
        let released: Vec<Letter> = released.into_iter().map(|(_, letter)| letter).collect();
        self.nothing_to_do(&released);
        released.into_iter().for_each(|letter| self.cluster.put_back(letter));
        Ok(())
    }

    // ---- links

    pub(super) fn cut(&mut self, words: &mut Words<'_>) -> Result<()> {
        for (from, to) in self.links(words)? {
            self.cuts.insert((from, to));
            self.cluster.cut_one_way(from, to);
            self.print(0, format!("{from}→{to} is cut"));
        }
        Ok(())
    }

    /// `1 2` for both ways, `1→2` for one.
    fn links(&self, words: &mut Words<'_>) -> Result<Vec<(u64, u64)>> {
        let word = words.next("a link")?;
        if let Some(link) = link(word) {
            let (Some(from), Some(to)) = link else {
                return wrong(format!("`{word}` leaves a node open"), words.usage());
            };
            return Ok(vec![(self.existing(from)?, self.existing(to)?)]);
        }
        let one = self.existing(super::words::number(word, "a node")?)?;
        let other = self.existing(words.number("a node")?)?;
        Ok(vec![(one, other), (other, one)])
    }

    pub(super) fn isolate(&mut self, words: &mut Words<'_>) -> Result<()> {
        let inside = words.numbers("a node")?;
        for id in &inside {
            self.existing(*id)?;
        }
        let outside: Vec<u64> =
            self.cluster.nodes.keys().copied().filter(|id| !inside.contains(id)).collect();
        for (one, other) in inside.iter().flat_map(|one| outside.iter().map(move |other| (*one, *other))) {
            self.cuts.extend([(one, other), (other, one)]);
            self.cluster.cut(one, other);
        }
        let list = |ids: &[u64]| show::nodes(ids.iter().copied());
        self.print(0, format!("{} and {} do not hear each other", list(&inside), list(&outside)));
        Ok(())
    }

    pub(super) fn heal(&mut self, words: &mut Words<'_>) -> Result<()> {
        if words.is_empty() {
            self.cuts.clear();
            self.cluster.heal();
            self.print(0, "all links are whole");
            return Ok(());
        }
        for link in self.links(words)? {
            if !self.cuts.remove(&link) {
                let right = "only what was cut can be healed";
                return wrong(format!("{}→{} is not cut", link.0, link.1), right);
            }
            self.print(0, format!("{}→{} is whole", link.0, link.1));
        }
        self.cluster.heal();
        for (from, to) in &self.cuts {
            self.cluster.cut_one_way(*from, *to);
        }
        Ok(())
    }

    pub(super) fn unreachable(&mut self, words: &mut Words<'_>) -> Result<()> {
        let id = self.living(words)?;
        let peer = self.existing(words.number("a node")?)?;
        self.cluster.step(id, Input::Unreachable { peer });
        Ok(())
    }
}

/// Takes the oldest letter that fits off its way.
fn take_oldest(cluster: &mut Cluster, fits: impl Fn(&Letter) -> bool) -> Option<Letter> {
    let is_found = Cell::new(false);
    let taken = cluster.intercept(|letter| !is_found.get() && fits(letter) && !is_found.replace(true));
    taken.into_iter().next()
}
