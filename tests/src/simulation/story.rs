//! What there is to tell of a violation: how to repeat it, the events that it needs, and what was seen.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::minimise::{Effort, Minimised, minimise};
use super::plan::Plan;
use super::run::Run;

/// Sights in a diagram at most.
const SIGHTS_MAX: usize = 600;
/// Events in a summary at most: the last ones. The text that is saved has all.
const EVENTS_MAX: usize = 150;

/// A violation, told.
#[derive(Clone, Debug)]
pub struct Story {
    /// The seed, the check, the command that repeats it, and the events that are needed, or the last of them.
    pub summary: String,
    /// All events that are needed, a line for each.
    pub events: String,
    /// What was seen with these events, line by line.
    pub trace: String,
    /// The same as a diagram: an HTML file that needs nothing else.
    pub html: String,
    /// The shortest list of events that was found, and the run of it.
    pub minimised: Minimised,
}

impl Story {
    /// Tells the violation of `run`.
    ///
    /// # Panics
    ///
    /// As [`minimise`] does.
    pub fn of(run: &Run, effort: Effort) -> Self {
        let minimised = minimise(run, effort);
        let found = &minimised.run;
        let violation = found.violation.as_ref().expect("the shortest list still leads to it");
        let mut summary = String::new();
        let when = if violation.in_calm { "in the calm after the storm" } else { "in the storm" };
        let lines = [
            format!("seed {} contradicts an oracle {when}, at {}:", run.seed, violation.place),
            violation.message.clone(),
            String::new(),
            format!("repeat with: {}", command(run)),
            format!(
                "{} of {} events are needed ({} lists were tried):",
                found.events.len(),
                minimised.events_before,
                minimised.replays
            ),
        ];
        for line in lines {
            writeln!(summary, "{line}").expect("a string takes everything");
        }
        let lines: Vec<String> = found.events.iter().map(|event| format!("{event}\n")).collect();
        let skipped = lines.len().saturating_sub(EVENTS_MAX);
        if 0 < skipped {
            writeln!(summary, "({skipped} earlier ones)").expect("a string takes everything");
        }
        summary.extend(lines[skipped..].iter().map(String::as_str));
        let events = lines.concat();
        let trace = found.trace.clone().unwrap_or_default();
        let nodes = Plan::of(run.seed).nodes;
        let html = trace.html(&format!("Seed {}", run.seed), &summary, nodes, SIGHTS_MAX);
        Self { summary, events, trace: trace.text(), html, minimised }
    }

    /// Writes the text and the diagram into `folder`. Returns their paths.
    ///
    /// # Errors
    ///
    /// When the folder or a file cannot be written.
    pub fn save(&self, folder: &Path) -> io::Result<(PathBuf, PathBuf)> {
        fs::create_dir_all(folder)?;
        let seed = self.minimised.run.seed;
        let text = folder.join(format!("seed-{seed}.txt"));
        let html = folder.join(format!("seed-{seed}.html"));
        fs::write(
            &text,
            format!("{}\nevents:\n{}\nwhat was seen:\n{}", self.summary, self.events, self.trace),
        )?;
        fs::write(&html, &self.html)?;
        Ok((text, html))
    }
}

/// The one command that repeats a run.
pub fn command(run: &Run) -> String {
    let seed = run.seed;
    let sabotage = run.sabotage.map(|sabotage| format!(" --sabotage {sabotage}")).unwrap_or_default();
    format!("cargo run --release -p openconsensus-tests --bin simulate -- --seed {seed}{sabotage}")
}
