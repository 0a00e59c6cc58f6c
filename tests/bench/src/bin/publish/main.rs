//! Writes what was measured into the documents, and draws it: no figure in them is typed by hand.
//!
//! ```sh
//! cargo run -p openconsensus-bench --bin publish             # after a run of `tests/bench/run`
//! cargo run -p openconsensus-bench --bin publish -- --check  # whether everything is up to date
//! ```
//!
//! It reads `tests/bench/results/*.json`, draws `tests/bench/charts/*.svg`, and replaces what stands between the lines
//! `<!-- figures: NAME -->` and `<!-- end of figures -->` of BENCHMARKS.md and README.md.

#![forbid(unsafe_code)]

mod chart;
mod charts;
mod documents;
mod results;
mod tables;
mod targets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use openconsensus_bench::Failure;

use results::Results;

/// Write what was measured into the documents, and draw it
#[derive(Debug, Parser)]
struct Args {
    /// Change nothing, and fail if something would have to be changed
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(Args::parse().check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(is_check: bool) -> Result<(), Failure> {
    let files = published()?;
    let outdated =
        files.iter().filter(|(path, text)| std::fs::read_to_string(path).ok().as_ref() != Some(text));
    let outdated: Vec<_> = outdated.collect();
    if is_check && !outdated.is_empty() {
        let names: Vec<_> = outdated.iter().map(|(path, _)| path.display().to_string()).collect();
        return Err(format!("not what the results say: {}", names.join(", ")).into());
    }
    for (path, text) in outdated {
        println!("{}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// All files that show figures, with what should be in them.
fn published() -> Result<Vec<(PathBuf, String)>, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let results = Results::read(&root.join("tests/bench/results"))?;
    let mut files: Vec<(PathBuf, String)> = charts::all(&results)
        .into_iter()
        .map(|(name, svg)| (root.join("tests/bench/charts").join(format!("{name}.svg")), svg))
        .collect();
    for name in ["BENCHMARKS.md", "README.md"] {
        let path = root.join(name);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        let text = documents::filled(&text, |name| documents::figures(&results, name));
        files.push((path, text.map_err(|error| format!("{name}: {error}"))?));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documents_and_charts_show_what_was_measured() {
        super::run(true)
            .unwrap_or_else(|error| panic!("{error}; `cargo run -p openconsensus-bench --bin publish`"));
    }
}
