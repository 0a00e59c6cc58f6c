//! The list of breaks, and whether it still fits the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::layers::Layer;

/// One mistake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Break {
    /// What the broken code does, in words that could be the name of a test.
    pub(crate) name: String,
    /// The rule that it breaks.
    pub(crate) rule: String,
    /// The file, from the root of the workspace.
    pub(crate) file: String,
    /// Text that stands in the file exactly once.
    find: String,
    /// What stands there instead.
    replace: String,
    /// The layers each of which must catch it.
    pub(crate) caught_by: BTreeSet<Layer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(rename = "break")]
    breaks: Vec<Break>,
}

impl Break {
    /// The text of the file with the mistake in it.
    pub(crate) fn apply(&self, source: &str) -> Result<String, String> {
        let Self { name, file, find, replace, .. } = self;
        match source.matches(find.as_str()).count() {
            1 if find != replace => Ok(source.replacen(find.as_str(), replace, 1)),
            1 => Err(format!("{name}: `find` and `replace` are the same")),
            count => Err(format!(
                "{name}: `find` must stand once in {file}, but stands there {count} times; fit the break to the code"
            )),
        }
    }
}

/// Reads `tests/mutation/breaks.toml` and checks that each break can be applied.
pub(crate) fn load(workspace: &Path) -> Result<Vec<Break>, String> {
    let path = workspace.join("tests/mutation/breaks.toml");
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let List { breaks } =
        toml::from_str(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names = BTreeSet::new();
    for b in &breaks {
        if !names.insert(&b.name) {
            return Err(format!("two breaks are named {}", b.name));
        }
        if b.caught_by.is_empty() {
            return Err(format!("{}: name at least one layer in `caught_by`", b.name));
        }
        b.apply(&read(&workspace.join(&b.file))?)?;
    }
    Ok(breaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(find: &str, replace: &str) -> Break {
        Break {
            name: "acknowledges_early".into(),
            rule: "what is acknowledged is durable".into(),
            file: "log.rs".into(),
            find: find.into(),
            replace: replace.into(),
            caught_by: BTreeSet::from([Layer::Paper]),
        }
    }

    /// The list must not rot: a change of the source that a break stands in changes the break too.
    #[test]
    fn every_break_fits_the_source() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let breaks = load(&workspace).unwrap_or_else(|error| panic!("{error}"));
        assert!(25 <= breaks.len(), "there are {} breaks", breaks.len());
    }

    #[test]
    fn a_break_replaces_the_one_place_that_it_names() {
        assert_eq!(sample("b", "x").apply("abc"), Ok("axc".into()));
    }

    #[test]
    fn a_break_that_does_not_fit_is_refused() {
        assert!(sample("b", "x").apply("abcb").is_err_and(|error| error.contains("2 times")));
        assert!(sample("d", "x").apply("abc").is_err_and(|error| error.contains("0 times")));
        assert!(sample("b", "b").apply("abc").is_err_and(|error| error.contains("the same")));
    }
}
