//! `kv scan`, and how a range of keys is named.

use std::io::{self, Write as _};

use clap::Args;

use crate::cli::ClientArgs;
use crate::client::ScanPages;
use crate::format::{Format, escape, hex};
use crate::outcome::{Exit, Result, unless_closed};

/// `kv scan`.
#[derive(Clone, Debug, Args)]
pub struct ScanArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    range: RangeArgs,
    /// At most so many keys; 0 for all
    #[arg(long, default_value_t = 0)]
    limit: u64,
    /// Print values in hexadecimal
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    /// Print what the first endpoint has, without confirming it: it may be old
    #[arg(long)]
    local: bool,
    /// Print a JSON object for each key
    #[arg(long)]
    json: bool,
}

/// Which keys.
#[derive(Clone, Debug, Default, Args)]
pub struct RangeArgs {
    /// Only keys that begin so
    #[arg(long, conflicts_with_all = ["start", "end"])]
    prefix: Option<String>,
    /// Only this key and those behind it
    #[arg(long)]
    start: Option<String>,
    /// Only keys before this one
    #[arg(long)]
    end: Option<String>,
}

impl RangeArgs {
    /// The first key, and the key before which to end.
    pub fn bounds(&self) -> (String, Option<String>) {
        match &self.prefix {
            Some(prefix) => (prefix.clone(), after_prefix(prefix)),
            None => (self.start.clone().unwrap_or_default(), self.end.clone()),
        }
    }
}

/// Prints the keys of a range.
///
/// # Errors
///
/// Those of the client.
pub async fn scan(args: ScanArgs) -> Result<Exit> {
    let client = args.client.client();
    let (start, end) = args.range.bounds();
    let mut pages: ScanPages = if args.local {
        let node = args.client.first_endpoint();
        client.scan_pages_local(node, &start, end.as_deref(), args.limit).await?
    } else {
        client.scan_pages(&start, end.as_deref(), args.limit).await?
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    while let Some(page) = pages.next().await? {
        for (key, value) in page {
            let written = match (args.json, args.hex) {
                (true, _) => Format::Jsonl.write_line(&mut out, &key, &value),
                (false, true) => writeln!(out, "{}\t{}", escape(key.as_bytes()), hex(&value)),
                (false, false) => Format::Tsv.write_line(&mut out, &key, &value),
            };
            if !unless_closed(written)? {
                return Ok(Exit::Done);
            }
        }
    }
    unless_closed(out.flush())?;
    Ok(Exit::Done)
}

/// The least key that is greater than every key that begins with `prefix`; `None` when there is none.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Steps over the gap of the surrogates; the order of bytes in UTF-8 is the order of characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_prefix() {
        assert_eq!(after_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        assert_eq!(after_prefix(""), None);
        // Between these two stand the surrogates, which are no characters.
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
    }
}
