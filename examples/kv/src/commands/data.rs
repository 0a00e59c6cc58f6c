//! `kv put`, `get`, `delete` and `cas`.

use std::io::{self, Read as _, Write as _};

use clap::Args;
use serde_json::json;

use crate::cli::ClientArgs;
use crate::client::{Command, Response};
use crate::format::{escape, hex, json_value, unhex};
use crate::outcome::{Exit, Failure, Result};

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
    /// Fail at once where the write would have to wait for its turn, because the leader has admitted as much as it may
    #[arg(long)]
    no_wait: bool,
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
    #[arg(long, conflicts_with = "lease")]
    local: bool,
    /// Let a leader with a lease confirm it without asking the others; nodes have leases with `serve --lease-drift-ppm`
    #[arg(long)]
    lease: bool,
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

fn parse_key(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() { Err("the key is empty".into()) } else { Ok(text.to_owned()) }
}

fn parse_value(text: String, is_hex: bool) -> Result<Vec<u8>> {
    if is_hex { unhex(&text).map_err(Failure::usage) } else { Ok(text.into_bytes()) }
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
    let (client, command) = (args.client.client(), Command::Put { key: args.key, value });
    let response =
        if args.no_wait { client.apply_at_once(command).await? } else { client.apply(command).await? };
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
    } else if args.lease {
        client.get_by_lease(&args.key).await?
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
