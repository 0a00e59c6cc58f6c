//! Runs what the fuzz targets do over the corpus, and over random bytes for a moment.
//!
//! `FUZZ_RUNS` says how many random inputs each target gets, `FUZZ_SEED` where they begin. To look at one input, put it
//! into the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs `target` over its corpus and then `runs` random inputs, some of them made of those of the corpus.
fn replay(name: &str, target: fn(&[u8]), runs: u64) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("there is a corpus").map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(5 <= files.len(), "the corpus of {name} has {} files", files.len());
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (file, data) in files.iter().zip(&corpus) {
        if let Err(panic) = catch_unwind(|| target(data)) {
            eprintln!("{name} fails on {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
    let seed = number("FUZZ_SEED", 1);
    for run in 0..number("FUZZ_RUNS", runs) {
        let mut rng = fastrand::Rng::with_seed(seed + run);
        let mut data = if rng.bool() { rng.choice(&corpus).unwrap().clone() } else { Vec::new() };
        if !data.is_empty() {
            data.truncate(rng.usize(1..=data.len()));
        }
        data.extend((0..rng.usize(0..400)).map(|_| rng.u8(..)));
        for _ in 0..rng.usize(0..4) {
            if !data.is_empty() {
                let place = rng.usize(0..data.len());
                data[place] = rng.u8(..);
            }
        }
        let run_it = AssertUnwindSafe(|| target(&data));
        if let Err(panic) = catch_unwind(run_it) {
            eprintln!(
                "{name} fails. To repeat: FUZZ_SEED={} FUZZ_RUNS=1 cargo test -p openconsensus-fuzzing {name}",
                seed + run
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn engine_keeps_its_promises_whatever_happens() {
    replay("engine", openconsensus_fuzzing::engine, 2000);
}

#[test]
fn grpc_decode_refuses_what_makes_no_sense() {
    replay("grpc_decode", openconsensus_fuzzing::grpc_decode, 20_000);
}

#[test]
fn open_store_finds_all_damage() {
    replay("open_store", openconsensus_fuzzing::open_store, 200);
}
