//! What is told while the demonstration runs: a line for each phase, and a bar on a terminal.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::outcome::{Failure, Result};

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Tells of phases on standard error.
#[derive(Debug)]
pub(super) struct Ui {
    started: Instant,
    bar: ProgressBar,
}

impl Ui {
    /// Begins to count the time.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        // On anything but a terminal it draws nothing.
        let template = "{spinner} {elapsed:>4} {wide_msg} {bar:20} {human_pos}/{human_len} lines";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { started: Instant::now(), bar }
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows how far the import is.
    pub(super) fn follow(&self, lines: usize, mut done: watch::Receiver<usize>) {
        let bar = self.bar.clone();
        bar.set_length(lines as u64);
        tokio::spawn(async move {
            while done.changed().await.is_ok() {
                bar.set_position(*done.borrow_and_update() as u64);
            }
        });
    }

    /// Carries out a phase, and tells how long it took.
    ///
    /// # Errors
    ///
    /// That of the phase, with its name.
    pub(super) async fn phase<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        self.bar.set_message(name.to_owned());
        let outcome = work.await;
        let took = began.elapsed().as_secs_f64();
        match &outcome {
            Ok(_) => self.tell(&format!("{name} ({took:.2} s)")),
            Err(_) => self.tell(&format!("{name}: FAILED after {took:.2} s")),
        }
        outcome.map_err(|failure| Failure::negative(format!("{name}: {failure}")))
    }

    /// Tells something.
    pub(super) fn tell(&self, text: &str) {
        let line = format!("{:6.1} s  {text}", self.elapsed().as_secs_f64());
        if self.bar.is_hidden() {
            // That nobody reads standard error does not stop the demonstration.
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
