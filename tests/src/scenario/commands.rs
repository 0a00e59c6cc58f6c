//! The table of commands.

use super::stage::Stage;
use super::words::{Result, Words};

/// A command of the language.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// How it is written, for messages and for the documentation.
    pub(super) usage: &'static str,
    /// Whether it only says what there is, so that nodes that were placed need not run yet.
    pub(super) is_setup: bool,
    pub(super) play: fn(&mut Stage, &mut Words<'_>) -> Result<()>,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    play: fn(&mut Stage, &mut Words<'_>) -> Result<()>,
) -> Command {
    Command { name, usage, is_setup: false, play }
}

const fn setup(
    name: &'static str,
    usage: &'static str,
    play: fn(&mut Stage, &mut Words<'_>) -> Result<()>,
) -> Command {
    Command { name, usage, is_setup: true, play }
}

/// All commands, in the order in which the documentation explains them.
pub(super) const COMMANDS: &[Command] = &[
    setup("config", "config KEY=VALUE …", Stage::config),
    setup("members", "members {VOTERS & OUTGOING +LEARNERS}", Stage::members),
    setup("nodes", "nodes IDS", Stage::nodes),
    setup("node", "node ID log TERM TERM{MEMBERS} … [term T] [vote ID] [commit INDEX]", Stage::node),
    setup("fresh", "fresh ID", Stage::fresh),
    command("initialize", "initialize ID IDS", Stage::initialize),
    command("campaign", "campaign ID", Stage::campaign),
    command("elect", "elect ID", Stage::elect),
    command("write", "write ID COMMANDS", Stage::write),
    command("read", "read ID [by lease]", Stage::read),
    command(
        "change",
        "change ID add-learners|promote|demote|remove|set-voters|update-nodes IDS [expecting INDEX@TERM] | \
         change ID set {VOTERS +LEARNERS} [expecting INDEX@TERM]",
        Stage::change,
    ),
    command("transfer", "transfer ID [to ID]", Stage::transfer),
    command("pause", "pause ID elections|heartbeats", Stage::pause),
    command("resume", "resume ID elections|heartbeats", Stage::resume),
    command("forget-leader", "forget-leader ID", Stage::forget_leader),
    command("compact", "compact ID", Stage::compact),
    command("purge", "purge ID INDEX", Stage::purge),
    command("deliver", "deliver [together] [SELECTION]", Stage::deliver),
    command("settle", "settle [keeping SELECTION | losing SELECTION] [aloud]", Stage::settle),
    command("drop", "drop [SELECTION]", Stage::drop),
    command("duplicate", "duplicate [SELECTION]", Stage::duplicate),
    command("delay", "delay [SELECTION]", Stage::delay),
    command("hold", "hold [SELECTION]", Stage::hold),
    command("release", "release [SELECTION]", Stage::release),
    command("forge", "forge FROM→TO KIND term T …", Stage::forge),
    command("cut", "cut ID ID | cut ID→ID", Stage::cut),
    command("isolate", "isolate IDS", Stage::isolate),
    command("heal", "heal | heal ID ID | heal ID→ID", Stage::heal),
    command("unreachable", "unreachable ID ID", Stage::unreachable),
    command("slow", "slow ID disk|machine|building|installing", Stage::slow),
    command("fast", "fast ID [disk|machine|building|installing]", Stage::fast),
    command("complete", "complete ID [all|together]", Stage::complete),
    command("fail", "fail ID disk|building|installing", Stage::fail),
    command(
        "crash",
        "crash ID [losing state|everything] [within a write behind hard-state|truncation|purge]",
        Stage::crash,
    ),
    command("damage", "damage ID", Stage::damage),
    command("restart", "restart ID", Stage::restart),
    command("timeout", "timeout ID", Stage::timeout),
    command("tick", "tick MS | tick to MS", Stage::tick),
    command(
        "run",
        "run MS | run to MS | run until leader [keeping SELECTION | losing SELECTION] [aloud]",
        Stage::run,
    ),
    command("skip", "skip MS", Stage::skip),
    command("clock-jump", "clock-jump ID", Stage::clock_jump),
    command("state", "state [IDS]", Stage::state),
    command("log", "log [IDS]", Stage::log),
    command("membership", "membership [IDS]", Stage::membership),
    command("disk", "disk [IDS]", Stage::disk),
    command("machine", "machine [IDS]", Stage::machine),
    command("progress", "progress ID", Stage::progress),
    command("lease", "lease ID", Stage::lease),
    command("messages", "messages", Stage::messages),
    command("requests", "requests", Stage::show_requests),
    command("time", "time", Stage::time),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_explained() {
        let language = include_str!("language.md");
        let rows = language.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = rows.flat_map(|row| {
            let cell = row.split(" | ").next().unwrap_or_default().to_string();
            let words = cell
                .split("`, `")
                .map(|usage| usage.split([' ', '`']).next().unwrap_or_default().to_string());
            words.collect::<Vec<_>>()
        });
        let explained: BTreeSet<String> = names.collect();
        for command in COMMANDS {
            assert!(explained.contains(command.name), "language.md does not explain `{}`", command.name);
            assert!(
                command.usage.starts_with(command.name),
                "`{}` is written `{}`",
                command.name,
                command.usage
            );
        }
    }
    #[test]
    fn every_command_is_played_in_some_script() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let texts: Vec<String> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let played: BTreeSet<&str> =
            texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.split(' ').next()).collect();
        for command in COMMANDS {
            assert!(played.contains(command.name), "no script plays `{}`", command.name);
        }
    }
}
