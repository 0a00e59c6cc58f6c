//! A script as text: comments, commands, and the output that is expected of each.

use std::fmt::Write;

use super::ScriptError;

/// A script whose form is right; whether its commands make sense is seen when it runs.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) file: String,
    pub(super) parts: Vec<Part>,
}

/// What a script consists of, in order.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// A comment or an empty line, which stays as it is.
    Text(String),
    /// A command.
    Command(Command),
}

/// A command and what it is expected to print.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) text: String,
    /// Without the two blanks that every line of output begins with.
    pub(super) expected: Vec<String>,
}

impl Script {
    /// Takes a script apart. Comments begin with `#`, output with two blanks, everything else is a command.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        let error = |line, what: &str, right: &str| ScriptError::new(file, line, what, right);
        let mut parts: Vec<Part> = Vec::new();
        for (line, content) in (1..).zip(text.lines().map(str::trim_end)) {
            if line == 1 && !content.starts_with("# ") {
                let right = "begin with a comment that tells the story: `# Figure 8: …`";
                return Err(error(line, "the script does not begin with a comment", right));
            }
            if content.is_empty() || content.starts_with('#') {
                parts.push(Part::Text(content.to_string()));
            } else if let Some(output) = content.strip_prefix("  ") {
                let Some(Part::Command(command)) = parts.last_mut() else {
                    let right = "output begins with two blanks and stands directly below its command, \
                                 which begins its line";
                    return Err(error(line, &format!("`{}` belongs to no command", output.trim()), right));
                };
                command.expected.push(output.to_string());
            } else if content.starts_with([' ', '\t']) {
                let right = "commands begin their line, output begins with two blanks";
                return Err(error(line, "the line begins with one blank or a tab", right));
            } else {
                parts.push(Part::Command(Command { line, text: content.to_string(), expected: Vec::new() }));
            }
        }
        let script = Self { file: file.to_string(), parts };
        if script.commands().next().is_none() {
            return Err(error(1, "there is no command", "a script does something: `nodes 1..3`"));
        }
        Ok(script)
    }

    pub(super) fn commands(&self) -> impl Iterator<Item = &Command> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Command(command) => Some(command),
        })
    }

    /// The text of the script, with these outputs for its commands.
    pub(super) fn with_outputs(&self, mut outputs: impl Iterator<Item = Vec<String>>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(line) => text += line,
                Part::Command(command) => {
                    text += &command.text;
                    for line in outputs.next().into_iter().flatten() {
                        write!(text, "\n  {line}").expect("a string takes everything");
                    }
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Where two texts differ, line by line: `-` stands before what is expected, `+` before what came, and some lines that
/// are equal around them. Empty when the texts are equal.
pub(super) fn difference(expected: &str, actual: &str) -> String {
    const AROUND: usize = 3;
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let steps = edits(&old, &new);
    let is_near = |at: usize| {
        steps[at.saturating_sub(AROUND)..steps.len().min(at + AROUND + 1)].iter().any(|step| step.0 != ' ')
    };
    let mut text = String::new();
    let mut was_near = true;
    for (at, (sign, line, content)) in steps.iter().enumerate() {
        if is_near(at) {
            if !was_near {
                text += "      …\n";
            }
            writeln!(text, "{line:>5} {sign} {content}").expect("a string takes everything");
        }
        was_near = is_near(at);
    }
    text
}

/// Lines that both have, that only the old or only the new text has, and the line of the script they stand at.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, usize, &'a str)> {
    // The length of what the rests of both have in common, for every pair of rests.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut steps = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            steps.push((' ', i + 1, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i][j + 1] <= common[i + 1][j] {
            steps.push(('-', i + 1, old[i]));
            i += 1;
        } else {
            steps.push(('+', i + 1, new[j]));
            j += 1;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_put_together_again_as_it_was() {
        let text = "# A story.\n\nnodes 1..3\n  1: follower\n    deeper\n# More.\ncampaign 1\n  old\n";
        let script = Script::parse("x.txt", text).unwrap();
        let outputs = script.commands().map(|command| command.expected.clone()).collect::<Vec<_>>();
        assert_eq!(script.with_outputs(outputs.into_iter()), text);
        let rewritten = script.with_outputs([vec![], vec!["new".to_string()]].into_iter());
        assert_eq!(rewritten, "# A story.\n\nnodes 1..3\n# More.\ncampaign 1\n  new\n");
    }

    #[test]
    fn a_difference_shows_what_was_expected_and_what_came() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), "");
        let shown = difference("a\nb\nc\n", "a\nx\nc\nd\n");
        assert_eq!(shown, "    1   a\n    2 - b\n    3 + x\n    3   c\n    4 + d\n");
    }

    #[test]
    fn the_form_of_a_script_is_checked() {
        let wrong = [
            ("nodes 1\n", 1, "does not begin with a comment"),
            ("# A.\n  output\n", 2, "belongs to no command"),
            ("# A.\nnodes 1\n\n  output\n", 4, "belongs to no command"),
            ("# A.\n nodes 1\n", 2, "one blank or a tab"),
            ("# A.\n", 1, "there is no command"),
        ];
        for (text, line, what) in wrong {
            let error = Script::parse("x.txt", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x.txt:{line}: ")) && error.contains(what), "{error}");
        }
    }
}
