//! The layers of the tests: how each is built and run, and what it says of a break.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;

use crate::copy::Copy;

/// Tests that are still running then wait for something that never comes.
const DEADLINE: Duration = Duration::from_secs(180);
/// How often a program is asked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// A break may make a test allocate without end.
const MEMORY_KIB_MAX: u64 = 8 * 1024 * 1024;

/// A layer of the tests, from the cheapest to the dearest.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Layer {
    /// Tests inside the core.
    Unit,
    /// The paper, sentence by sentence.
    Paper,
    /// Known bugs of other implementations.
    KnownBugs,
    /// Scripts with their expected output.
    Scenarios,
    /// Many engines under one seed.
    Simulation,
    /// Exhaustive exploration of small clusters.
    Model,
    /// The real loops in virtual time.
    Driver,
    /// The conformance suites.
    Conformance,
    /// Clusters in one process, on tokio.
    Cluster,
    /// The durable store in a database.
    Redb,
    /// The write-ahead log, with crashes on a simulated disk.
    Wal,
    /// The gRPC network.
    Grpc,
}

/// What a layer says of a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// These tests failed.
    Caught(Vec<String>),
    /// Nothing ended before the deadline.
    Hung,
    /// All tests passed.
    Passed(usize),
}

impl Verdict {
    pub(crate) fn is_caught(&self) -> bool {
        match self {
            Self::Caught(_) | Self::Hung => true,
            Self::Passed(_) => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(tests) => match tests.as_slice() {
                [] => write!(f, "caught: the tests ended without a result"),
                [first] => write!(f, "caught by {first}"),
                [first, rest @ ..] => write!(f, "caught by {first} and {} more", rest.len()),
            },
            Self::Hung => write!(f, "caught: not done after {} s", DEADLINE.as_secs()),
            Self::Passed(count) => write!(f, "{count} tests passed"),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Paper => "paper",
            Self::KnownBugs => "known bugs",
            Self::Scenarios => "scenarios",
            Self::Simulation => "simulation",
            Self::Model => "model",
            Self::Driver => "driver",
            Self::Conformance => "conformance",
            Self::Cluster => "cluster",
            Self::Redb => "redb",
            Self::Wal => "wal",
            Self::Grpc => "grpc",
        })
    }
}

impl Layer {
    /// Where its tests are: package, test target, and what their names begin with. The likeliest comes first.
    fn parts(self) -> &'static [Part] {
        const TESTS: &str = "openconsensus-tests";
        match self {
            Self::Unit => &[("openconsensus", "--lib", "")],
            Self::Paper => &[(TESTS, "--test=engine", "paper_"), (TESTS, "--test=engine", "snapshots::")],
            Self::KnownBugs => &[
                (TESTS, "--test=engine", "known_bugs::"),
                ("openconsensus", "--lib", "driver::tests::known_bugs::"),
                ("openconsensus-redb", "--test=it", "known_bugs"),
                (TESTS, "--test=known_bugs", ""),
                (TESTS, "--test=grpc", "known_bug_"),
            ],
            Self::Scenarios => &[(TESTS, "--test=engine", "scenarios::")],
            Self::Simulation => &[(TESTS, "--test=engine", "simulation::")],
            Self::Model => &[(TESTS, "--test=model", "")],
            Self::Driver => &[(TESTS, "--test=driver", "")],
            Self::Conformance => {
                &[(TESTS, "--test=conformance", ""), ("openconsensus-redb", "--test=it", "conformance::")]
            }
            Self::Cluster => &[(TESTS, "--test=cluster", "")],
            Self::Redb => &[("openconsensus-redb", "--tests", "")],
            Self::Wal => &[("openconsensus-wal", "--test=it", ""), ("openconsensus-wal", "--lib", "")],
            Self::Grpc => &[("openconsensus-network-grpc", "--tests", "")],
        }
    }
}

/// A package, one of its test targets, and what the names of the tests begin with.
type Part = (&'static str, &'static str, &'static str);

/// Builds what the layers need, and runs them in order. A layer ends with the first of its parts that catches the break.
pub(crate) fn run(copy: &Copy, layers: &BTreeSet<Layer>) -> Result<Vec<(Layer, Verdict)>, Box<dyn Error>> {
    let mut built = BTreeMap::new();
    let mut verdicts = Vec::new();
    for layer in layers {
        let mut verdict = Verdict::Passed(0);
        for (package, target, names) in layer.parts() {
            let programs = match built.entry((package, target)) {
                Entry::Occupied(programs) => programs.into_mut(),
                Entry::Vacant(place) => place.insert(build(copy, package, target)?),
            };
            for program in programs {
                verdict = join(verdict, execute(program, names)?);
            }
            if verdict.is_caught() {
                break;
            }
        }
        if verdict == Verdict::Passed(0) {
            return Err(format!("layer `{layer}` has no tests").into());
        }
        verdicts.push((*layer, verdict));
    }
    Ok(verdicts)
}

fn join(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Passed(a), Verdict::Passed(b)) => Verdict::Passed(a + b),
        (Verdict::Caught(mut a), Verdict::Caught(b)) => {
            a.extend(b);
            Verdict::Caught(a)
        }
        (caught @ Verdict::Caught(_), _) | (_, caught @ Verdict::Caught(_)) => caught,
        (Verdict::Hung, _) | (_, Verdict::Hung) => Verdict::Hung,
    }
}

/// A test program, and the folder that cargo would run it in.
#[derive(Debug)]
struct Program {
    executable: PathBuf,
    folder: PathBuf,
}

fn build(copy: &Copy, package: &str, target: &str) -> Result<Vec<Program>, Box<dyn Error>> {
    // With the features of the whole workspace where that builds nothing more: then dependencies are compiled once.
    let from: &[&str] = if target.starts_with("--test=") { &["--workspace"] } else { &["-p", package] };
    let output = copy
        .cargo()
        .args(["test", "--no-run", "--quiet", "--message-format=json-render-diagnostics", target])
        .args(from)
        .output()?;
    if !output.status.success() {
        return Err(format!("the tests do not build:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let lines = String::from_utf8(output.stdout)?;
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The one form is for packages whose folders have another name.
    let names = [format!("#{package}@"), format!("/{package}#")];
    let program = |message: Value| {
        let id = message["package_id"].as_str()?;
        if !names.iter().any(|name| id.contains(name.as_str())) {
            return None;
        }
        let is_test = message["profile"]["test"].as_bool()?;
        let executable = message["executable"].as_str().filter(|_| is_test)?;
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
        Some(Program { executable: executable.into(), folder })
    };
    Ok(messages.filter_map(program).collect())
}

fn execute(program: &Program, names: &str) -> Result<Verdict, Box<dyn Error>> {
    let log = log_of(&program.executable);
    let file = std::fs::File::create(&log)?;
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB_MAX}; exec \"$0\" \"$@\"")])
        .arg(&program.executable)
        .arg(names)
        .current_dir(&program.folder)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if DEADLINE < begin.elapsed() {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(POLL_INTERVAL);
    };
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let ended = |with: &str| -> Vec<String> {
        let name = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(with)?.to_owned());
        text.lines().filter_map(name).collect()
    };
    Ok(match status {
        Some(status) if status.success() => Verdict::Passed(ended(" ... ok").len()),
        Some(_) => Verdict::Caught(ended(" ... FAILED")),
        None => match ended(" ... FAILED") {
            failed if failed.is_empty() => Verdict::Hung,
            failed => Verdict::Caught(failed),
        },
    })
}

/// Beside the program, so that it is cleaned with it.
fn log_of(executable: &Path) -> PathBuf {
    executable.with_extension("breaks.log")
}
