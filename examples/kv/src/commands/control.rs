//! `kv snapshot`, `purge`, `campaign`, `elections`, `heartbeats` and `forget-leader`: they steer one node.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::address::parse_address;
use crate::cli::ClientArgs;
use crate::outcome::{Exit, Result};

/// Which node is asked.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The node that is asked; by default the first endpoint
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl NodeArgs {
    fn node(&self) -> &str {
        self.node.as_deref().unwrap_or(self.client.first_endpoint())
    }

    fn print(&self, text: &str, json: &serde_json::Value) {
        if self.json {
            println!("{json}");
        } else {
            println!("{text}");
        }
    }
}

/// `kv snapshot`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// `kv purge`.
#[derive(Clone, Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// The index of the last entry to purge; by default as far as the snapshot goes
    upto: Option<u64>,
}

/// `kv campaign`.
#[derive(Clone, Debug, Args)]
pub struct CampaignArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// `kv elections` and `kv heartbeats`.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    #[command(subcommand)]
    command: PauseCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum PauseCommand {
    /// None of them until `resume`, or until the node is restarted
    Pause(NodeArgs),
    /// End a pause
    Resume(NodeArgs),
}

impl PauseArgs {
    fn split(&self) -> (bool, &NodeArgs) {
        match &self.command {
            PauseCommand::Pause(node) => (true, node),
            PauseCommand::Resume(node) => (false, node),
        }
    }
}

/// `kv forget-leader`.
#[derive(Clone, Debug, Args)]
pub struct ForgetLeaderArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// Builds a snapshot.
///
/// # Errors
///
/// Those of the client.
pub async fn snapshot(args: SnapshotArgs) -> Result<Exit> {
    let args = args.node;
    let taken = args.client.client().snapshot(args.node()).await?;
    let size = taken.size_bytes.map_or_else(String::new, |bytes| format!(" and has {bytes} bytes"));
    let text = format!(
        "{} has a snapshot that ends with entry {} of term {}{size}",
        args.node(),
        taken.index,
        taken.term
    );
    let json = json!({ "index": taken.index, "term": taken.term, "size_bytes": taken.size_bytes });
    args.print(&text, &json);
    Ok(Exit::Done)
}

/// Purges the log of a node.
///
/// # Errors
///
/// Those of the client.
pub async fn purge(args: PurgeArgs) -> Result<Exit> {
    let (args, upto) = (args.node, args.upto);
    let (index, term) = args.client.client().purge(args.node(), upto).await?;
    let text = format!("the log of {} is purged up to entry {index} of term {term}", args.node());
    args.print(&text, &json!({ "index": index, "term": term }));
    Ok(Exit::Done)
}

/// Lets a node start an election.
///
/// # Errors
///
/// Those of the client; a negative one when it was not elected.
pub async fn campaign(args: CampaignArgs) -> Result<Exit> {
    let args = args.node;
    let term = args.client.client().campaign(args.node()).await?;
    args.print(&format!("{} leads in term {term}", args.node()), &json!({ "term": term }));
    Ok(Exit::Done)
}

/// Pauses the elections that a node starts on its own, or lets them go on.
///
/// # Errors
///
/// Those of the client.
pub async fn elections(args: PauseArgs) -> Result<Exit> {
    let (pause, args) = args.split();
    args.client.client().pause_elections(args.node(), pause).await?;
    let what = if pause { "starts no elections on its own" } else { "starts elections on its own again" };
    args.print(&format!("{} {what}", args.node()), &json!({ "elections_paused": pause }));
    Ok(Exit::Done)
}

/// Pauses the heartbeats that a node sends while it leads, or lets them go on.
///
/// # Errors
///
/// Those of the client.
pub async fn heartbeats(args: PauseArgs) -> Result<Exit> {
    let (pause, args) = args.split();
    args.client.client().pause_heartbeats(args.node(), pause).await?;
    let what =
        if pause { "sends no heartbeats while it leads" } else { "sends heartbeats again while it leads" };
    args.print(&format!("{} {what}", args.node()), &json!({ "heartbeats_paused": pause }));
    Ok(Exit::Done)
}

/// Lets a node forget who leads.
///
/// # Errors
///
/// Those of the client.
pub async fn forget_leader(args: ForgetLeaderArgs) -> Result<Exit> {
    let args = args.node;
    args.client.client().forget_leader(args.node()).await?;
    let text = format!("{} knows of no leader until it hears of one, and may vote for any", args.node());
    args.print(&text, &json!({ "forgotten": true }));
    Ok(Exit::Done)
}
