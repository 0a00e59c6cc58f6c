//! Applies each break of `breaks.toml` to a copy of the workspace and shows which layers of the tests catch it.
//!
//! A break is what an engineer might have written by mistake: it compiles, it works most of the time, and it loses
//! data. Each names the layers that must catch it. The command fails when one of them does not, when a break does not
//! compile, and when its text does not stand in the source any more.

mod breaks;
mod copy;
mod layers;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use breaks::Break;
use copy::Copy;
use layers::{Layer, Verdict};

/// Shows that the tests catch mistakes: applies breaks one by one to a copy of the workspace and runs the layers of
/// tests that must see them.
#[derive(Debug, Parser)]
struct Args {
    /// Only breaks whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only every Nth break, for a short run.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Run these layers too, although they need not catch it.
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    also: Vec<Layer>,
    /// List the breaks and stop.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every break was caught by each layer that must catch it.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let breaks = breaks::load(&workspace)?;
    let is_wanted = |b: &Break| args.only.as_ref().is_none_or(|text| b.name.contains(text.as_str()));
    let chosen: Vec<&Break> = breaks.iter().filter(|b| is_wanted(b)).step_by(args.every as usize).collect();
    if chosen.is_empty() {
        return Err("no break has such a name; `--list` prints the names".into());
    }
    if args.list {
        for b in &chosen {
            println!("{}: {}", b.name, b.rule);
        }
        return Ok(true);
    }
    // Not the folder that the workspace is built in: cargo would take what was built from broken code for fresh.
    let folder = workspace.join("target/breaks");
    let copy = Copy::of(&workspace, &folder.join("tree"), &folder.join("target"))?;
    let mut missed = Vec::new();
    for (number, b) in chosen.iter().enumerate() {
        let begin = Instant::now();
        let wanted = b.caught_by.iter().chain(&args.also).copied().collect();
        let verdicts = with_break(&copy, b, &wanted)?;
        let is_caught =
            b.caught_by.iter().all(|layer| verdicts.iter().any(|(l, v)| l == layer && v.is_caught()));
        let outcome = if is_caught { "caught" } else { "MISSED" };
        let seconds = begin.elapsed().as_secs();
        println!("{:>3}/{} {outcome} {} ({seconds} s)\n        {}", number + 1, chosen.len(), b.name, b.rule);
        for (layer, verdict) in &verdicts {
            println!("        {layer}: {verdict}");
        }
        if !is_caught {
            missed.push(b.name.as_str());
        }
    }
    println!("{} of {} breaks caught", chosen.len() - missed.len(), chosen.len());
    for name in &missed {
        println!("missed: {name}");
    }
    Ok(missed.is_empty())
}

/// Applies a break, builds, runs the layers, and takes the break back whatever happens.
fn with_break(
    copy: &Copy,
    b: &Break,
    wanted: &BTreeSet<Layer>,
) -> Result<Vec<(Layer, Verdict)>, Box<dyn Error>> {
    let before = copy.read(&b.file)?;
    copy.write(&b.file, &b.apply(&before)?)?;
    let verdicts = layers::run(copy, wanted);
    copy.write(&b.file, &before)?;
    verdicts.map_err(|error| format!("{}: {error}", b.name).into())
}
