//! The commands that make one call: `put`, `get`, `delete`, `cas`, `scan`, `member`, `transfer`, `snapshot`.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::address::{NodeAddress, parse_address};
use crate::cli::{ClientArgs, parse_seconds};
use crate::client::{Client, Command, MemberChange, Response, ScanPages};
use crate::format::{Format, escape, hex, json_value, unhex};
use crate::outcome::{Exit, Failure, Result, unless_closed};

/// `kv put`.
#[derive(Clone, Debug, Args)]
pub struct PutArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The key
    #[arg(value_parser = parse_key)]
    key: String,
    /// The value; `-` to read it from standard input
    value: String,
    /// The value is given in hexadecimal
    #[arg(long)]
    hex: bool,
    /// Print what was there before, as JSON
    #[arg(long)]
    json: bool,
}

/// `kv get`.
#[derive(Clone, Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The key
    #[arg(value_parser = parse_key)]
    key: String,
    /// Print the value in hexadecimal
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    hex: bool,
    /// Print the bytes of the value and nothing else, not even a line end
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print what the first endpoint has, without confirming it: it may be old
    #[arg(long)]
    local: bool,
    /// Print the value as JSON
    #[arg(long)]
    json: bool,
}

/// `kv delete`.
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The key
    #[arg(value_parser = parse_key)]
    key: String,
    /// Print what was there before, as JSON
    #[arg(long)]
    json: bool,
}

/// `kv cas`.
#[derive(Clone, Debug, Args)]
pub struct CasArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The key
    #[arg(value_parser = parse_key)]
    key: String,
    /// The value that the key must have
    #[arg(long, value_name = "VALUE", required_unless_present = "absent", conflicts_with = "absent")]
    expect: Option<String>,
    /// The key must be absent
    #[arg(long)]
    absent: bool,
    /// The value to set
    #[arg(long, value_name = "VALUE", required_unless_present = "delete", conflicts_with = "delete")]
    set: Option<String>,
    /// Remove the key
    #[arg(long)]
    delete: bool,
    /// Both values are given in hexadecimal
    #[arg(long)]
    hex: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

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

/// `kv member`.
#[derive(Clone, Debug, Args)]
pub struct MemberArgs {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum MemberCommand {
    /// Add a node that receives the log but does not vote
    Add {
        #[command(flatten)]
        client: ClientArgs,
        /// The node, as in 4=127.0.0.1:7004
        #[arg(value_name = "ID=HOST:PORT")]
        node: NodeAddress,
        /// Wait until it has caught up, for so many seconds at most
        #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
        wait: Option<Duration>,
    },
    /// Let learners vote
    Promote {
        #[command(flatten)]
        client: ClientArgs,
        /// Their ids
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// Remove voters or learners
    Remove {
        #[command(flatten)]
        client: ClientArgs,
        /// Their ids
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// List the members
    List {
        #[command(flatten)]
        client: ClientArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `kv transfer`.
#[derive(Clone, Debug, Args)]
pub struct TransferArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The node that is to lead; by default the one that is quickest
    target: Option<u64>,
    /// Print the new leader as JSON
    #[arg(long)]
    json: bool,
}

/// `kv snapshot`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The node that is to build it; by default the first endpoint
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_key(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() { Err("the key is empty".into()) } else { Ok(text.to_owned()) }
}

fn parse_value(text: String, is_hex: bool) -> Result<Vec<u8>> {
    if is_hex { unhex(&text).map_err(Failure::usage) } else { Ok(text.into_bytes()) }
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

/// Sets a key.
///
/// # Errors
///
/// Those of the client.
pub async fn put(args: PutArgs) -> Result<Exit> {
    let value = if args.value == "-" {
        let mut value = Vec::new();
        io::stdin().read_to_end(&mut value)?;
        if args.hex { unhex(String::from_utf8_lossy(&value).trim()).map_err(Failure::usage)? } else { value }
    } else {
        parse_value(args.value, args.hex)?
    };
    let response = args.client.client().apply(Command::Put { key: args.key, value }).await?;
    print_previous(&response, args.json)?;
    Ok(Exit::Done)
}

/// Removes a key.
///
/// # Errors
///
/// Those of the client.
pub async fn delete(args: DeleteArgs) -> Result<Exit> {
    let response = args.client.client().apply(Command::Delete { key: args.key }).await?;
    print_previous(&response, args.json)?;
    Ok(Exit::Done)
}

fn print_previous(response: &Response, is_json: bool) -> Result<()> {
    let Response::Previous(previous) = response else {
        return Err(Failure::negative(format!("done, but the answer is not understood: {response:?}")));
    };
    if is_json {
        println!("{}", json!({ "previous": json_value(previous.as_deref()) }));
    }
    Ok(())
}

/// Prints the value of a key.
///
/// # Errors
///
/// Those of the client; a negative one when the key is absent.
pub async fn get(args: GetArgs) -> Result<Exit> {
    let client = args.client.client();
    let value = if args.local {
        client.get_local(args.client.first_endpoint(), &args.key).await?
    } else {
        client.get(&args.key).await?
    };
    if args.json {
        println!("{}", json_value(value.as_deref()));
        return Ok(if value.is_some() { Exit::Done } else { Exit::Negative });
    }
    let Some(value) = value else {
        return Err(Failure::negative(format!("the key {} is absent", escape(args.key.as_bytes()))));
    };
    if args.raw {
        let mut out = io::stdout().lock();
        out.write_all(&value).and_then(|()| out.flush())?;
    } else if args.hex {
        println!("{}", hex(&value));
    } else {
        match std::str::from_utf8(&value) {
            Ok(text) => println!("{text}"),
            Err(_) => println!("{}", escape(&value)),
        }
    }
    Ok(Exit::Done)
}

/// Sets or removes a key if it has an expected value.
///
/// # Errors
///
/// Those of the client; a negative one when the key has another value.
pub async fn cas(args: CasArgs) -> Result<Exit> {
    let expected = args.expect.map(|text| parse_value(text, args.hex)).transpose()?;
    let value = args.set.map(|text| parse_value(text, args.hex)).transpose()?;
    let command = Command::CompareAndSet { key: args.key, expected, value };
    let response = args.client.client().apply(command).await?;
    let Response::Compared { set, actual } = response else {
        return Err(Failure::negative(format!("done, but the answer is not understood: {response:?}")));
    };
    if args.json {
        println!("{}", json!({ "set": set, "actual": json_value(actual.as_deref()) }));
        return Ok(if set { Exit::Done } else { Exit::Negative });
    }
    if set {
        return Ok(Exit::Done);
    }
    let actual =
        actual.map_or_else(|| "the key is absent".to_owned(), |value| format!("it is {}", escape(&value)));
    Err(Failure::negative(format!("not set, because the value is another: {actual}")))
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

/// Changes or lists the members.
///
/// # Errors
///
/// Those of the client.
pub async fn member(args: MemberArgs) -> Result<Exit> {
    match args.command {
        MemberCommand::Add { client, node, wait } => {
            let change = client.client().member_add(node.id, &node.address, wait).await?;
            print_change(&change, &format!("node {} at {} is a learner", node.id, node.address));
        }
        MemberCommand::Promote { client, ids } => {
            let change = client.client().member_promote(&ids).await?;
            print_change(&change, &format!("voting now: {}", list(&ids)));
        }
        MemberCommand::Remove { client, ids } => {
            let change = client.client().member_remove(&ids).await?;
            print_change(&change, &format!("no members any more: {}", list(&ids)));
        }
        MemberCommand::List { client, json } => print_members(&client.client(), json).await?,
    }
    Ok(Exit::Done)
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn print_change(change: &MemberChange, what: &str) {
    println!("{what} (entry {})", change.index);
    if let Some(note) = &change.note {
        println!("{note}");
    }
}

async fn print_members(client: &Client, is_json: bool) -> Result<()> {
    let membership = client.member_list().await?;
    if is_json {
        println!("{}", json!(membership));
        return Ok(());
    }
    for member in membership.members {
        println!("{}\t{}\t{}", member.id, member.address, member.kind);
    }
    Ok(())
}

/// Hands leadership over.
///
/// # Errors
///
/// Those of the client.
pub async fn transfer(args: TransferArgs) -> Result<Exit> {
    let leader = args.client.client().transfer(args.target).await?;
    if args.json {
        println!("{}", json!({ "leader": leader }));
    } else {
        println!("node {leader} leads");
    }
    Ok(Exit::Done)
}

/// Builds a snapshot.
///
/// # Errors
///
/// Those of the client.
pub async fn snapshot(args: SnapshotArgs) -> Result<Exit> {
    let node = args.node.as_deref().unwrap_or(args.client.first_endpoint());
    let taken = args.client.client().snapshot(node).await?;
    if args.json {
        println!("{}", json!({ "index": taken.index, "term": taken.term }));
    } else {
        println!("{node} has a snapshot that ends with entry {} of term {}", taken.index, taken.term);
    }
    Ok(Exit::Done)
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
