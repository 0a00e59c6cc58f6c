//! Lines to import: generated ones, or those of a file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use fastrand::Rng;
use tokio::sync::mpsc;

use super::imported::Line;
use super::load::KEY_PREFIX;
use crate::client::Command;
use crate::format::{Backslashes, Format};
use crate::import::OnError;
use crate::import::batches::{Event, Reading, read_batches};
use crate::outcome::{Failure, Result};

/// Lines in one request.
const BATCH_LINES: usize = 200;

/// What was read of a file.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Its records, in order, as they are to be sent.
    pub(super) batches: Vec<Vec<Line>>,
    /// How many of its lines were not records.
    pub(super) malformed: u64,
    /// The first of those, and why.
    pub(super) first_malformed: Option<String>,
}

/// Writes `count` tab-separated lines about invented people to `path`. The same `seed` makes the same file.
pub(super) fn generate(path: &Path, count: usize, seed: u64) -> Result<()> {
    const FIRST: [&str; 8] = ["Ada", "Alan", "Barbara", "Edsger", "Grace", "Leslie", "Nancy", "Tony"];
    const LAST: [&str; 8] =
        ["Dijkstra", "Hoare", "Hopper", "Lamport", "Liskov", "Lovelace", "Lynch", "Turing"];
    let mut rng = Rng::with_seed(seed);
    let mut write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for number in 0..count {
            let (first, last) = (FIRST[rng.usize(..8)], LAST[rng.usize(..8)]);
            let (year, balance) = (rng.u32(1940..2010), rng.u32(..1_000_000));
            let value = format!(r#"{{"name":"{first} {last}","born":{year},"balance":{balance}}}"#);
            Format::Tsv.write_line(&mut out, &format!("person/{number:08}"), value.as_bytes())?;
        }
        out.flush()
    };
    write().map_err(|error| Failure::negative(format!("cannot write {}: {error}", path.display())))
}

/// Reads a file as `kv import` does: its ending tells the format, and lines that are not records are left out.
///
/// # Errors
///
/// It cannot be read, holds no record, or a key begins like those of the demonstration itself.
pub(super) async fn read(path: &Path) -> Result<Input> {
    let fail = |what: String| Failure::negative(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let reading = Reading {
        format: Format::of_path(path),
        backslashes: Backslashes::Escape,
        batch_lines: BATCH_LINES,
        on_error: OnError::Continue,
    };
    let (sender, mut events) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || read_batches(BufReader::new(file), reading, &sender));
    let mut input = Input::default();
    while let Some(event) = events.recv().await {
        match event {
            Event::Batch(batch) => {
                let lines = batch.puts.into_iter().filter_map(|(number, put)| line(number, put));
                input.batches.push(lines.collect::<Result<_, _>>().map_err(fail)?);
            }
            Event::Malformed { line, reason } => {
                input.malformed += 1;
                input.first_malformed.get_or_insert_with(|| format!("line {line}: {reason}"));
            }
            Event::Failed { line, reason } => {
                return Err(fail(format!("cannot be read on behind line {line}: {reason}")));
            }
        }
    }
    if input.batches.is_empty() {
        let why = input.first_malformed.unwrap_or_else(|| "it is empty".into());
        return Err(fail(format!("there is nothing to import: {why}")));
    }
    Ok(input)
}

/// Key and value of a put. Nothing else is made of a line.
fn line(number: u64, put: Command) -> Option<Result<Line, String>> {
    match put {
        Command::Put { key, .. } if key.starts_with(KEY_PREFIX) => Some(Err(format!(
            "line {number} has the key {key:?}; keys that begin with {KEY_PREFIX:?} are for the clients"
        ))),
        Command::Put { key, value } => Some(Ok((key, value))),
        Command::Delete { .. } | Command::CompareAndSet { .. } | Command::Batch(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn the_generated_lines_follow_from_the_seed_and_are_all_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.tsv");
        let generated = async |seed| {
            generate(&path, 500, seed).unwrap();
            read(&path).await.unwrap()
        };
        let input = generated(7).await;
        assert_eq!(input.malformed, 0);
        assert_eq!(input.batches.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 100]);
        let keys: BTreeSet<_> = input.batches.iter().flatten().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 500);
        assert_eq!(generated(7).await.batches, input.batches);
        assert_ne!(generated(8).await.batches, input.batches);
    }

    #[tokio::test]
    async fn lines_that_are_no_records_are_counted_and_the_first_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.jsonl");
        std::fs::write(
            &path,
            "{\"key\":\"a\",\"value\":\"1\"}\nnonsense\n{\"key\":\"b\",\"value\":\"2\"}\n{}\n",
        )
        .unwrap();
        let input = read(&path).await.unwrap();
        assert_eq!(
            input.batches.concat(),
            [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]
        );
        assert_eq!(input.malformed, 2);
        assert!(input.first_malformed.unwrap().starts_with("line 2: "));
    }

    #[tokio::test]
    async fn an_input_that_cannot_be_used_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.tsv");
        let refused = async |content: &str| {
            std::fs::write(&path, content).unwrap();
            read(&path).await.unwrap_err().text
        };
        assert!(refused("").await.ends_with("there is nothing to import: it is empty"));
        assert!(refused("no tab\n").await.contains("there is nothing to import: line 1: "));
        assert!(refused("a\t1\n~demo/x\t2\n").await.contains("line 2 has the key \"~demo/x\""));
        assert!(read(&folder.path().join("nowhere")).await.unwrap_err().text.contains("cannot be read"));
    }
}
