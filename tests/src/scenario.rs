//! Scenario scripts: a small language for stories about engines, with the expected output in the same file.
//!
//! A script says what happens to some nodes, and below each command stands what came of it. A reader sees the
//! algorithm at work; a test plays the script again and compares. [`check`] does both for a file.
//!
#![doc = include_str!("scenario/language.md")]

mod changes;
mod clients;
mod commands;
mod faults;
mod forge;
mod network;
mod script;
mod selection;
mod setup;
mod show;
mod stage;
mod time;
mod words;

use std::fmt;
use std::path::Path;

use crate::panics::catch;
use script::Script;
use stage::Stage;

/// The environment variable that makes [`check`] rewrite what is expected.
pub const REWRITE: &str = "REWRITE";

/// A script that cannot be played: its form is wrong, a command makes no sense, or a property of Raft was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub right: String,
}

impl ScriptError {
    fn new(file: &str, line: usize, what: &str, right: &str) -> Self {
        Self { file: file.to_string(), line, what: what.to_string(), right: right.to_string() }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.what, self.right)
    }
}

impl std::error::Error for ScriptError {}

/// A script, ready to be played.
#[derive(Clone, Debug)]
pub struct Scenario {
    script: Script,
}

impl Scenario {
    /// Reads a script; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// Where its form is wrong: no comment at the beginning, output without a command, no command at all.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        Ok(Self { script: Script::parse(file, text)? })
    }

    /// Plays the script from the beginning, and returns its text with what came of each command. The same script gives
    /// the same text.
    ///
    /// # Errors
    ///
    /// The first command that is unknown, that makes no sense where it stands, or that breaks a property of Raft.
    pub fn play(&self) -> Result<String, ScriptError> {
        let mut stage = Stage::new();
        let mut outputs = Vec::new();
        for command in self.script.commands() {
            let fail =
                |what: &str, right: &str| ScriptError::new(&self.script.file, command.line, what, right);
            match catch(|| stage.play(&command.text)) {
                Ok(Ok(lines)) => outputs.push(lines),
                Ok(Err(complaint)) => return Err(fail(&complaint.what, &complaint.right)),
                Err(panic) => {
                    let so_far: String = stage.lines.iter().map(|line| format!("\n  {line}")).collect();
                    let right =
                        format!("either the engine is wrong, or the script forges what no node says{so_far}");
                    return Err(fail(&format!("`{}` breaks: {}", command.text, panic.message), &right));
                }
            }
        }
        Ok(self.script.with_outputs(outputs.into_iter()))
    }

    /// Whether any command has an expected output.
    pub fn expects_anything(&self) -> bool {
        self.script.commands().any(|command| !command.expected.is_empty())
    }
}

/// Plays the script in a file and compares what comes with what stands in it. With the environment variable
/// [`REWRITE`] set to `1` it writes what came into the file instead; comments and commands stay as they are.
///
/// # Errors
///
/// A text for people: the file cannot be read or written, the script cannot be played, it expects nothing, or where
/// what came differs from what was expected. A script that cannot be played is never rewritten.
pub fn check(path: &Path) -> Result<(), String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let is_rewriting = std::env::var_os(REWRITE).is_some_and(|value| value == "1");
    let actual = compare(&name, &text, is_rewriting)?;
    if is_rewriting && actual != text {
        std::fs::write(path, actual).map_err(|error| format!("{name} cannot be written: {error}"))?;
    }
    Ok(())
}

/// The text as it should be. An error when it is not, unless it `is_rewriting`.
fn compare(name: &str, text: &str, is_rewriting: bool) -> Result<String, String> {
    let scenario = Scenario::parse(name, text).map_err(|error| error.to_string())?;
    let actual = scenario.play().map_err(|error| error.to_string())?;
    let again = format!("`{REWRITE}=1` in the environment of this test writes what came into the file");
    if !is_rewriting && !scenario.expects_anything() {
        return Err(format!("{name}: no output is expected; {again}, to be read before it is kept"));
    }
    if !is_rewriting && actual != text {
        let difference = script::difference(text, &actual);
        return Err(format!("{name} differs, `-` is expected and `+` came:\n{difference}{again}"));
    }
    Ok(actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "# A story.\nnodes 1..3\n  1,2,3: term 1 commit 1 log 1@1={1,2,3}\ncampaign 1\n";

    #[test]
    fn a_script_that_expects_nothing_fails() {
        let error = compare("story.txt", "# A story.\nnodes 1..3\n", false).unwrap_err();
        assert!(error.starts_with("story.txt: no output is expected; `REWRITE=1`"), "{error}");
    }

    #[test]
    fn a_command_without_its_output_fails_and_is_shown() {
        let error = compare("story.txt", STORY, false).unwrap_err();
        let shown = "    4   campaign 1\n    5 +   1: becomes candidate, term 2, votes for 1\n";
        assert!(error.contains(shown), "{error}");
    }

    #[test]
    fn output_that_is_wrong_fails_and_is_shown_beside_what_came() {
        let right = compare("story.txt", STORY, true).unwrap();
        assert_eq!(compare("story.txt", &right, false), Ok(right.clone()));
        let wrong = right.replace("votes for 1", "votes for 2");
        let error = compare("story.txt", &wrong, false).unwrap_err();
        let shown = "    5 -   1: becomes candidate, term 2, votes for 2\n    \
                     6 +   1: becomes candidate, term 2, votes for 1\n";
        assert!(error.contains(shown), "{error}");
    }

    #[test]
    fn a_command_that_changes_nothing_says_so() {
        let text = compare("story.txt", "# A story.\nfresh 1\ncampaign 1\nsettle\nlog\n", true).unwrap();
        assert!(
            text.ends_with("campaign 1\n  nothing changes\nsettle\n  0 messages\nlog\n  1: empty\n"),
            "{text}"
        );
    }

    #[test]
    fn a_script_that_cannot_be_played_is_not_rewritten() {
        let error = compare("story.txt", "# A story.\nnodes 1..3\nsing\n", true).unwrap_err();
        assert!(error.starts_with("story.txt:3: `sing` is not a command"), "{error}");
    }
}
