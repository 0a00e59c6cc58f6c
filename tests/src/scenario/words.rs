//! The words of one command, and what they may be.

use std::collections::{BTreeSet, VecDeque};

use openconsensus::LogId;

/// What is wrong with a command, and what would be right.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    pub(super) what: String,
    pub(super) right: String,
}

/// What reading or carrying out a command comes to.
pub(super) type Result<T> = std::result::Result<T, Complaint>;

/// A complaint.
pub(super) fn wrong<T>(what: impl Into<String>, right: impl Into<String>) -> Result<T> {
    Err(Complaint { what: what.into(), right: right.into() })
}

/// The words of a command behind its name, taken from the front.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    words: VecDeque<&'a str>,
    usage: &'static str,
}

impl<'a> Words<'a> {
    /// Blanks divide words, except within braces.
    pub(super) fn of(text: &'a str, usage: &'static str) -> Self {
        let mut words = VecDeque::new();
        let (mut depth, mut start) = (0, None);
        for (at, c) in text.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if c == ' ' && depth == 0 {
                words.extend(start.take().map(|start| &text[start..at]));
            } else {
                start = start.or(Some(at));
            }
        }
        words.extend(start.map(|start| &text[start..]));
        Self { words, usage }
    }

    pub(super) fn usage(&self) -> String {
        format!("write `{}`", self.usage)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.front().copied()
    }

    /// The next word, which must be there.
    pub(super) fn next(&mut self, what: &str) -> Result<&'a str> {
        match self.words.pop_front() {
            Some(word) => Ok(word),
            None => wrong(format!("{what} is missing"), self.usage()),
        }
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        if is_next {
            self.words.pop_front();
        }
        is_next
    }

    /// Takes a word that must stand here.
    pub(super) fn expect(&mut self, word: &str) -> Result<()> {
        match self.words.pop_front() {
            Some(found) if found == word => Ok(()),
            Some(found) => wrong(format!("`{found}` stands where `{word}` is expected"), self.usage()),
            None => wrong(format!("`{word}` is missing"), self.usage()),
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(word) => wrong(format!("`{word}` is too much"), self.usage()),
        }
    }

    /// All words that are left.
    pub(super) fn rest(&mut self) -> Vec<&'a str> {
        self.words.drain(..).collect()
    }

    /// A number.
    pub(super) fn number(&mut self, what: &str) -> Result<u64> {
        let word = self.next(what)?;
        number(word, what)
    }

    /// One or more numbers: all words that are left, each `3`, `1,2` or `1..3`.
    pub(super) fn numbers(&mut self, what: &str) -> Result<Vec<u64>> {
        let mut found = numbers(self.next(what)?, what)?;
        while let Some(word) = self.words.pop_front() {
            found.extend(numbers(word, what)?);
        }
        Ok(found)
    }
}

/// A number.
pub(super) fn number(word: &str, what: &str) -> Result<u64> {
    match word.parse() {
        Ok(number) => Ok(number),
        Err(_) => wrong(format!("`{word}` is not {what}"), "a number is written `3`"),
    }
}

/// `3`, `1,2,5` or `1..3`, which holds 3 too.
pub(super) fn numbers(word: &str, what: &str) -> Result<Vec<u64>> {
    const TOO_MANY: u64 = 10_000;
    let mut found = Vec::new();
    for part in word.split(',').filter(|part| !part.is_empty()) {
        match part.split_once("..") {
            None => found.push(number(part, what)?),
            Some((first, last)) => {
                let (first, last) = (number(first, what)?, number(last, what)?);
                if last < first || TOO_MANY < last - first {
                    return wrong(format!("`{part}` is no range"), "a range runs upwards: `1..3`");
                }
                found.extend(first..=last);
            }
        }
    }
    if found.is_empty() {
        return wrong(format!("`{word}` is not {what}"), "write `3`, `1,2,5` or `1..3`");
    }
    Ok(found)
}

/// `4@2`: the entry at index 4 of term 2.
pub(super) fn log_id(word: &str) -> Result<LogId> {
    let parts = word.split_once('@').map(|(index, term)| (index.parse(), term.parse()));
    match parts {
        Some((Ok(index), Ok(term))) => Ok(LogId { index, term }),
        _ => wrong(format!("`{word}` is not the name of an entry"), "index 4 of term 2 is written `4@2`"),
    }
}

/// `4@2` or `4..6@2`.
pub(super) fn log_ids(word: &str) -> Result<Vec<LogId>> {
    let Some((indexes, term)) = word.split_once('@') else { return Ok(vec![log_id(word)?]) };
    let term = number(term, "a term")?;
    Ok(numbers(indexes, "an index")?.into_iter().map(|index| LogId { term, index }).collect())
}

/// `1→2` or `1->2`, where either side may be left out.
pub(super) fn link(word: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (from, to) = word.split_once('→').or_else(|| word.split_once("->"))?;
    let side = |text: &str| match text {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    };
    Some((side(from)?, side(to)?))
}

/// The members that `{1,2,3 +4}` or `{3,4,5 & 1,2,3}` names: voters, outgoing voters, learners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) voters: BTreeSet<u64>,
    pub(super) outgoing: BTreeSet<u64>,
    pub(super) learners: BTreeSet<u64>,
}

impl Members {
    pub(super) fn parse(word: &str) -> Result<Self> {
        let right = "voters and learners are written `{1,2,3 +4}`, a joint membership \
                     `{incoming & outgoing +learners}`";
        let inner = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        let Some(inner) = inner.map(|inner| inner.replace(' ', "")) else {
            return wrong(format!("`{word}` is not a membership"), right);
        };
        let set = |text: &str| -> Result<BTreeSet<u64>> {
            if text.is_empty() {
                return Ok(BTreeSet::new());
            }
            Ok(numbers(text, "a node")?.into_iter().collect())
        };
        let (voters, learners) = inner.split_once('+').unwrap_or((&inner, ""));
        let (incoming, outgoing) = voters.split_once('&').unwrap_or((voters, ""));
        let members = Self { voters: set(incoming)?, outgoing: set(outgoing)?, learners: set(learners)? };
        if members.voters.is_empty() {
            return wrong(format!("`{word}` has no voter"), right);
        }
        if let Some(id) = members.learners.iter().find(|id| members.is_voter(**id)) {
            return wrong(format!("node {id} is voter and learner in `{word}`"), right);
        }
        Ok(members)
    }

    fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    pub(super) fn all(&self) -> BTreeSet<u64> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }
}

/// How many letters have to be changed to get from one word to the other.
pub(super) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let kept = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_together_what_is_in_braces() {
        let mut words = Words::of("1  log 1{1,2 +3} 2", "node ID log TERMS");
        assert_eq!(words.rest(), ["1", "log", "1{1,2 +3}", "2"]);
    }

    #[test]
    fn numbers_are_single_listed_or_in_ranges() {
        assert_eq!(numbers("1,3..5", "a node").unwrap(), [1, 3, 4, 5]);
        for word in ["x", "3..1", ",", "1..x", ""] {
            assert!(numbers(word, "a node").is_err(), "{word}");
        }
    }

    #[test]
    fn memberships_are_read() {
        let members = Members::parse("{3,4,5 & 1..3 +6}").unwrap();
        assert_eq!(members.voters, BTreeSet::from([3, 4, 5]));
        assert_eq!(members.outgoing, BTreeSet::from([1, 2, 3]));
        assert_eq!(members.learners, BTreeSet::from([6]));
        for word in ["1,2", "{}", "{1 +1}", "{x}"] {
            assert!(Members::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn links_and_entries_are_read() {
        assert_eq!(link("1→2"), Some((Some(1), Some(2))));
        assert_eq!(link("->2"), Some((None, Some(2))));
        assert_eq!(link("Append"), None);
        assert_eq!(log_id("4@2").unwrap(), LogId::new(2, 4));
        assert_eq!(log_ids("4..5@2").unwrap(), [LogId::new(2, 4), LogId::new(2, 5)]);
        assert!(log_id("4").is_err());
    }

    #[test]
    fn the_distance_of_words_counts_changes() {
        assert_eq!(distance("campain", "campaign"), 1);
        assert_eq!(distance("abc", "xyz"), 3);
    }
}
