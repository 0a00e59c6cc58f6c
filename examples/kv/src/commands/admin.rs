//! `kv member` and `transfer`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::address::{NodeAddress, parse_address};
use crate::cli::{ClientArgs, parse_seconds};
use crate::client::{Client, MemberChange};
use crate::outcome::{Exit, Result};

/// `kv member`.
#[derive(Clone, Debug, Args)]
pub struct MemberArgs {
    #[command(subcommand)]
    command: MemberCommand,
}

/// What all changes have in common.
#[derive(Clone, Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print the entry of the new membership as JSON
    #[arg(long)]
    json: bool,
}

impl ChangeArgs {
    fn client(&self) -> Client {
        self.client.client()
    }

    fn print(&self, change: &MemberChange, what: &str) {
        if self.json {
            println!("{}", json!({ "index": change.index, "note": change.note }));
            return;
        }
        println!("{what} (entry {})", change.index);
        if let Some(note) = &change.note {
            println!("{note}");
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
enum MemberCommand {
    /// Add a node that receives the log but does not vote
    Add {
        #[command(flatten)]
        change: ChangeArgs,
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
        change: ChangeArgs,
        /// Their ids
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// Remove voters or learners
    Remove {
        #[command(flatten)]
        change: ChangeArgs,
        /// Their ids
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// Make voters learners: they go on receiving the log, and vote no more
    Demote {
        #[command(flatten)]
        change: ChangeArgs,
        /// Their ids
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// Change where a member is reached
    Address {
        #[command(flatten)]
        change: ChangeArgs,
        /// The member and its new address, as in 2=127.0.0.1:7012
        #[arg(value_name = "ID=HOST:PORT")]
        node: NodeAddress,
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
    /// Ask this node and no other; it need not lead
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    node: Option<String>,
    /// Print the new leader as JSON
    #[arg(long)]
    json: bool,
}

/// Changes or lists the members.
///
/// # Errors
///
/// Those of the client.
pub async fn member(args: MemberArgs) -> Result<Exit> {
    match args.command {
        MemberCommand::Add { change: args, node, wait } => {
            let change = args.client().member_add(node.id, &node.address, wait).await?;
            args.print(&change, &format!("node {} at {} is a learner", node.id, node.address));
        }
        MemberCommand::Promote { change: args, ids } => {
            let change = args.client().member_promote(&ids).await?;
            args.print(&change, &format!("voting now: {}", list(&ids)));
        }
        MemberCommand::Remove { change: args, ids } => {
            let change = args.client().member_remove(&ids).await?;
            args.print(&change, &format!("no members any more: {}", list(&ids)));
        }
        MemberCommand::Demote { change: args, ids } => {
            let change = args.client().member_demote(&ids).await?;
            args.print(&change, &format!("learners now: {}", list(&ids)));
        }
        MemberCommand::Address { change: args, node } => {
            let change = args.client().member_move(node.id, &node.address).await?;
            args.print(&change, &format!("node {} is at {}", node.id, node.address));
        }
        MemberCommand::List { client, json } => print_members(&client.client(), json).await?,
    }
    Ok(Exit::Done)
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
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
    let client = args.client.client();
    let leader = match &args.node {
        Some(node) => client.transfer_from(node, args.target).await?,
        None => client.transfer(args.target).await?,
    };
    if args.json {
        println!("{}", json!({ "leader": leader }));
    } else {
        println!("node {leader} leads");
    }
    Ok(Exit::Done)
}
