//! The result of a benchmark: for people as a table, for programs as a file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::machine::{Disk, Machine};
use crate::options::Options;
use crate::rounds::{Spread, turns};
use crate::sample::Sample;
use crate::{Failure, table};

/// What makes a case different from others: names and values, in the order in which they are shown.
pub type Parameters = Vec<(String, Value)>;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A word.
    Text(String),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(u64::try_from(number).expect("no parameter is negative"))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// [`Parameters`] of a case: `parameters! { clients: 64, topology: "one worker" }`.
#[macro_export]
macro_rules! parameters {
    ($($name:ident: $value:expr),* $(,)?) => {
        vec![$((stringify!($name).to_owned(), $crate::Value::from($value))),*]
    };
}

/// All that a benchmark has measured, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the benchmark, which is also that of its file.
    pub benchmark: String,
    /// How, when and where it was run.
    pub run: Run,
    /// What was measured.
    pub cases: Vec<Case>,
    /// Where the file goes.
    #[serde(skip)]
    out: Option<PathBuf>,
}

/// How, when and where a benchmark was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it began, in UTC.
    pub date: String,
    /// The name and the arguments of the program.
    pub command: String,
    /// The commit that it was run from, with `changed` behind it if files differed from it.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// Whether it was compiled without optimisation: then its figures say nothing.
    pub debug_build: bool,
    /// Whether it only looked that all works: then its figures say nothing.
    pub smoke: bool,
    /// How many rounds each case had.
    pub rounds: usize,
    /// How long each contender was measured in a round, where that is not said otherwise.
    pub seconds: f64,
    /// The machine.
    pub machine: Machine,
    /// What the files of the benchmark stood on, if it has any.
    pub disk: Option<Disk>,
    /// The versions of all that it was compared with.
    pub versions: Vec<(String, String)>,
}

/// What was measured of one amount and kind of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What makes it different from others.
    pub parameters: Parameters,
    /// What each contender has shown.
    pub contenders: Vec<Measured>,
}

/// What one contender has shown in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The name of the contender.
    pub name: String,
    /// Its values.
    pub metrics: Vec<Metric>,
}

/// What one contender has shown in one case, of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name, which ends with its unit.
    pub name: String,
    /// Its value in each round.
    pub rounds: Vec<f64>,
}

/// A contender: its name, and what measures it in the round whose number it is given.
pub type Contender<'a> = (&'a str, Box<dyn FnMut(usize) -> Result<Sample, Failure> + 'a>);

impl Report {
    /// One without cases.
    pub fn new(benchmark: &str, options: &Options) -> Self {
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let program = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
        let command: Vec<String> = program.into_iter().chain(arguments).collect();
        let run = Run {
            date,
            command: command.join(" "),
            commit: commit(),
            rustc: env!("RUSTC_VERSION").to_owned(),
            debug_build: cfg!(debug_assertions),
            smoke: options.smoke,
            rounds: options.rounds(),
            seconds: options.duration().as_secs_f64(),
            machine: Machine::this(),
            disk: None,
            versions: Vec::new(),
        };
        Self { benchmark: benchmark.to_owned(), run, cases: Vec::new(), out: options.out.clone() }
    }

    /// Says which version of something it was compared with.
    #[must_use]
    pub fn version(mut self, name: &str, version: &str) -> Self {
        self.run.versions.push((name.to_owned(), version.to_owned()));
        self
    }

    /// Says where its files are.
    ///
    /// # Errors
    ///
    /// When there is no such folder.
    pub fn on_disk_of(mut self, folder: &Path) -> Result<Self, Failure> {
        self.run.disk = Some(Disk::of(folder)?);
        Ok(self)
    }

    /// Measures all contenders in turn, as many rounds as the options say, and prints the result. The first contender is
    /// ours, or whatever else is compared with each of the others.
    ///
    /// # Errors
    ///
    /// The first of a contender ends the case, which is not in the report then.
    pub fn compare(
        &mut self,
        parameters: Parameters,
        contenders: &mut [Contender<'_>],
    ) -> Result<(), Failure> {
        let names: Vec<&str> = contenders.iter().map(|(name, _)| *name).collect();
        let mut samples = vec![Vec::new(); names.len()];
        for (round, contender) in turns(self.run.rounds, names.len()) {
            let (name, measure) = &mut contenders[contender];
            let sample = measure(round).map_err(|error| format!("{name}, {parameters:?}: {error}"))?;
            samples[contender].push(sample);
        }
        self.add(parameters, names.into_iter().map(str::to_owned).zip(samples).collect());
        Ok(())
    }

    /// Adds what contenders have shown, in samples of all rounds, and prints it.
    ///
    /// # Panics
    ///
    /// If the samples of a contender have different values.
    pub fn add(&mut self, parameters: Parameters, contenders: Vec<(String, Vec<Sample>)>) {
        let contenders = contenders.into_iter().map(|(name, samples)| Measured::of(name, &samples)).collect();
        let case = Case { parameters, contenders };
        println!("{}", table::of_cases([&case]));
        self.cases.push(case);
    }

    /// The values of all cases as a table, one line for each contender. What has no ratio stands alone.
    pub fn table(&self) -> String {
        table::of_cases(&self.cases)
    }

    /// Prints the whole table, and writes the file if a folder was named.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn finish(&self) -> Result<(), Failure> {
        println!("{}\n{}", self.benchmark, self.table());
        if let Some(out) = &self.out {
            std::fs::create_dir_all(out)?;
            let path = out.join(format!("{}.json", self.benchmark));
            std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(self)?))?;
            println!("written to {}", path.display());
        }
        Ok(())
    }

    /// What [`finish`](Self::finish) has written.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it holds something else.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// The case with all these parameters, and any others.
    pub fn case(&self, parameters: Parameters) -> Option<&Case> {
        self.cases.iter().find(|case| parameters.iter().all(|wanted| case.parameters.contains(wanted)))
    }
}

impl Case {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// What this contender has shown.
    pub fn contender(&self, name: &str) -> Option<&Measured> {
        self.contenders.iter().find(|contender| contender.name == name)
    }

    /// The ratio of two contenders, `ours` to `theirs`: the median of the ratios of the rounds.
    pub fn ratio(&self, ours: &str, theirs: &str, metric: &str) -> Option<Spread> {
        let rounds = |name| self.contender(name)?.rounds(metric);
        Spread::of_ratios(rounds(ours)?, rounds(theirs)?)
    }
}

impl Measured {
    fn of(name: String, samples: &[Sample]) -> Self {
        let mut metrics: Vec<Metric> = Vec::new();
        for (round, sample) in samples.iter().enumerate() {
            for (name, value) in &sample.values {
                if round == 0 {
                    metrics.push(Metric { name: name.clone(), rounds: Vec::new() });
                }
                let metric = metrics.iter_mut().find(|metric| metric.name == *name);
                metric.unwrap_or_else(|| panic!("{name} was not in the first round")).rounds.push(*value);
            }
        }
        let complete = metrics.iter().all(|metric| metric.rounds.len() == samples.len());
        assert!(complete, "a value of {name} is missing in some round");
        Self { name, metrics }
    }

    /// Its values of one kind, round by round.
    pub fn rounds(&self, metric: &str) -> Option<&[f64]> {
        self.metrics.iter().find(|own| own.name == metric).map(|metric| metric.rounds.as_slice())
    }

    /// The median of its values of one kind, and how far they reach.
    pub fn spread(&self, metric: &str) -> Option<Spread> {
        Spread::of(self.rounds(metric)?)
    }
}

/// The commit of the folder of this source.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let is_changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|status| !status.is_empty());
    format!("{}{}", commit.trim(), if is_changed { " changed" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(out: Option<PathBuf>) -> Options {
        Options { rounds: 3, seconds: 1.0, out, smoke: false }
    }

    #[test]
    fn contenders_take_turns_and_what_they_show_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new("turns", &options(Some(folder.path().into()))).version("other", "1.2");
        let order = std::cell::RefCell::new(String::new());
        let contender = |letter: char, values: [f64; 3]| {
            let order = &order;
            move |round: usize| {
                order.borrow_mut().push(letter);
                Ok(Sample::new().with("ops_per_s", values[round]).with("p99_us", 7.0))
            }
        };
        let ours = contender('a', [30.0, 10.0, 10.0]);
        let theirs = contender('b', [10.0, 5.0, 10.0]);
        let case = parameters! { clients: 64, topology: "one worker" };
        report.compare(case, &mut [("ours", Box::new(ours)), ("theirs", Box::new(theirs))]).unwrap();
        report.finish().unwrap();
        assert_eq!(*order.borrow(), "abbaab");

        let read = Report::read(&folder.path().join("turns.json")).unwrap();
        assert_eq!(read.cases, report.cases);
        assert_eq!(read.run.versions, [("other".to_owned(), "1.2".to_owned())]);
        assert!(read.run.rustc.starts_with("rustc "), "{}", read.run.rustc);
        let case = read.case(parameters! { topology: "one worker" }).unwrap();
        assert_eq!(case.parameter("clients"), Some(&Value::Number(64)));
        assert_eq!(case.ratio("ours", "theirs", "ops_per_s").unwrap().median, 2.0);
        assert_eq!(case.contender("ours").unwrap().spread("ops_per_s").unwrap().max, 30.0);
        assert!(read.case(parameters! { clients: 1 }).is_none());
    }

    #[test]
    fn a_failure_names_the_contender_and_leaves_no_case() {
        let mut report = Report::new("failing", &options(None));
        let error =
            report.compare(parameters! { clients: 1 }, &mut [("bad", Box::new(|_| Err("broken".into())))]);
        assert!(error.unwrap_err().to_string().starts_with("bad, "));
        assert!(report.cases.is_empty());
    }
}
