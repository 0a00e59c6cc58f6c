//! `kv export`: writes pairs to a file or to standard output, in the formats that `kv import` reads.
//!
//! It contains every write that was acknowledged before it began. A file is written beside its place and put there when
//! it is whole and on the disk, so that a broken export leaves nothing that looks like one.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::ClientArgs;
use crate::client::ScanPages;
use crate::commands::RangeArgs;
use crate::format::Format;
use crate::outcome::{Exit, Failure, Result, unless_closed};

/// `kv export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The file; `-` for standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    range: RangeArgs,
    /// How lines are written; by default the file's ending tells (.jsonl, .ndjson, .json: JSON lines; all else:
    /// tab-separated)
    #[arg(long)]
    format: Option<Format>,
}

/// Exports what `args` name.
///
/// # Errors
///
/// When no node can be read from, or the file cannot be written.
pub async fn run(args: ExportArgs) -> Result<Exit> {
    let format = args.format.unwrap_or_else(|| Format::of_path(&args.file));
    let (start, end) = args.range.bounds();
    let mut pages = args.client.client().scan_pages(&start, end.as_deref(), 0).await?;
    if args.file.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        if write_pages(&mut pages, format, &mut out).await?.is_some() {
            unless_closed(out.flush())?;
        }
        return Ok(Exit::Done);
    }
    let wrong =
        |error: io::Error| Failure::negative(format!("cannot write {}: {error}", args.file.display()));
    let beside = Beside::create(&args.file).map_err(wrong)?;
    let mut out = BufWriter::with_capacity(1 << 18, &beside.file);
    let written = write_pages(&mut pages, format, &mut out).await?;
    out.flush().map_err(wrong)?;
    drop(out);
    beside.put_in_place(&args.file).map_err(wrong)?;
    eprintln!("exported {} pairs to {}", written.unwrap_or_default(), args.file.display());
    Ok(Exit::Done)
}

/// Returns how many pairs were written; `None` when the reader of the output has gone.
async fn write_pages(pages: &mut ScanPages, format: Format, out: &mut impl Write) -> Result<Option<u64>> {
    let bar = progress();
    let mut count = 0;
    while let Some(page) = pages.next().await? {
        bar.inc(page.len() as u64);
        for (key, value) in page {
            if !unless_closed(format.write_line(out, &key, &value))? {
                return Ok(None);
            }
            count += 1;
        }
    }
    bar.finish_and_clear();
    Ok(Some(count))
}

/// On standard error, and only when that is a terminal and the pairs do not go to one.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {human_pos} pairs {per_sec}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// A file beside another one, removed unless it is put in its place.
#[derive(Debug)]
struct Beside {
    file: File,
    path: Option<PathBuf>,
}

impl Beside {
    fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or_else(|| io::Error::other("it does not name a file"))?;
        let mut beside = name.to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(beside);
        Ok(Self { file: File::create_new(&path)?, path: Some(path) })
    }

    fn put_in_place(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(path) = self.path.take() {
            fs::rename(&path, target).inspect_err(|_| self.path = Some(path))?;
        }
        // The name is durable when its folder is.
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing more can be done about a file that cannot be removed.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out.tsv");
        fs::write(&target, "old").unwrap();
        let mut beside = Beside::create(&target).unwrap();
        beside.file.write_all(b"half").unwrap();
        drop(beside);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        let mut beside = Beside::create(&target).unwrap();
        beside.file.write_all(b"new").unwrap();
        beside.put_in_place(&target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
