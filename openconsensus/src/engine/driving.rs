//! Driving an engine yourself: the order of effects, what must be durable when, what to feed back, batching.
//!
//! [`Raft`](crate::Raft) drives an engine with tasks, a log storage, a network and a state machine. An application that has an
//! event loop of its own, or wants many engines in one thread, can do that itself: `examples/embedded` in the repository
//! is three nodes in one thread, with everything that stands here.
//!
//! A driver is a loop of three steps:
//!
//! 1. Tell the engine **everything that has happened** since the last turn, each by [`Engine::step`] with the time it is now.
//! 2. Carry out what [`Engine::take_effects`] returns, in the order of its fields.
//! 3. Wait for the next event, at most until [`Engine::next_deadline`]; then step with [`Input::Timeout`].
//!
//! **Time** is an argument. It may be any clock that does not go back; an engine never asks for it. A step with
//! [`Input::Timeout`] that comes too early does no harm, so timers need not be cancelled. Give the messages that have arrived
//! before the timeout of the same turn: a leader that was heard of must not be taken for dead.
//!
//! **Batching** comes from the first step. However many inputs a turn has, their effects are one write to the log and few messages
//! for each peer. So take all that has gathered, never wait for more, and bound a turn (by a few thousand inputs, say) so that
//! heartbeats leave in time. Commands of many clients may go into one [`Input::Write`], and one [`Input::Read`] may stand for all readers
//! of a turn. While [`Engine::holds_writes`], keep writes back: leadership is being transferred, or so much is not committed yet that no
//! more should be appended ([`Engine::write_hold`]).
//!
//! [`Engine::take_effects_into`] does the same as [`Engine::take_effects`] and uses the memory of the effects of an earlier turn
//! again: in a turn for one small write, allocating is a good part of what an engine costs.
//!
//! # The effects, in order
//!
//! | field | what to do | what to feed back |
//! | --- | --- | --- |
//! | [`write`](Effects::write) | hand it to the disk, behind all writes before it | [`Input::Persisted`] when it is durable, or [`Input::StorageFailed`] |
//! | [`messages`](Effects::messages) | send them now, each to its peer | the peer's driver steps with [`Input::Receive`]; [`Input::Unreachable`] where a peer is known not to be there |
//! | [`replies`](Effects::replies) | tell those who asked | nothing |
//! | [`reads`](Effects::reads) | read old entries from the log | [`Input::LogRead`], with as many as there are |
//! | [`apply`](Effects::apply) | give them to the state machine, behind all before them | [`Input::Applied`] |
//! | [`snapshots`](Effects::snapshots) | in the same queue as `apply`: see below | [`Input::SnapshotBuilt`], [`Input::SnapshotSent`], [`Input::SnapshotInstalled`], or that it failed |
//! | [`leadership`](Effects::leadership) | tell whoever watches the leadership of this node | nothing |
//! | [`state_changed`](Effects::state_changed) | publish [`Engine::metrics`], if somebody looks at them | nothing |
//!
//! Nothing waits for the disk but what is inside the engine: messages leave while the write that goes with them is still under
//! way, and a leader's disk works beside its peers (thesis 10.2.1). A disk that is done at once is fine too; then
//! [`Input::Persisted`] is the next step.
//!
//! # What must be durable, and when
//!
//! * A [`LogWrite`] is durable as a whole before [`Input::Persisted`] names it: synced, not only written. Its parts are carried out in the
//!   order of its fields, writes in the order of their numbers. Completing a write completes all before it, so several
//!   may be joined into one sync and only the last be named.
//! * A write that fails, or a sync that fails, is not tried again, because nobody knows what has reached the disk: step with
//!   [`Input::StorageFailed`], pass on the replies that come of it, drop the engine, and start anew from what the disk holds.
//! * A snapshot is durable before [`Input::SnapshotBuilt`] or [`Input::SnapshotInstalled`] says that it is there: the log is purged
//!   behind it.
//! * The state machine need not be durable. What it has lost is applied again after a restart, from
//!   [`Recovered::applied`] on. Where it is, the state and [`applied_state`](crate::ApplyBatch::applied_state) are stored in one
//!   transaction.
//! * The [commit index](LogWrite::commit) is a hint; losing it costs time, not data.
//!
//! # What becomes of a write
//!
//! [`Reply::Appended`] names the entry of the first command. The outcome shows where its index is applied: if the entry there has the
//! same term, it was carried out; if not, it never will be. [`ApplyBatch`](crate::ApplyBatch) pairs each command with its entry. Until
//! then nobody can tell, also when leadership has ended; [`Raft`](crate::Raft) answers
//! [`Unknown`](crate::WriteError::Unknown) after a while. [`Reply::NotLeader`] and [`Reply::Busy`] say that nothing was appended. After [`Reply::ReadReady`] a client is served when its index is applied.
//!
//! # Snapshots
//!
//! They travel beside the messages, because they may be large. For [`SnapshotEffect::Send`], send an
//! [`InstallSnapshot`](crate::InstallSnapshot) with the term of the effect and the bytes of the current snapshot. The receiver keeps the bytes,
//! steps with [`Input::InstallSnapshot`], and installs them when its engine returns [`SnapshotEffect::Install`] with the same
//! request. What it replies in [`Reply::InstallFinished`] goes back and becomes [`Input::SnapshotSent`] at the sender, with `None` when
//! it never came, or took too long: deadlines of transfers are the driver's. After
//! [`SnapshotEffect::Discard`] nobody waits for a transfer any more; an installation is answered all the same.
//! [`Input::SnapshotBuildFailed`] and [`Input::SnapshotUnreadable`] tell of a snapshot that could not be built or is damaged, and
//! [`Input::SnapshotInstalled`] of one that could not be installed: then the state is as before.
//!
//! # Starting
//!
//! Tell [`Engine::new`] what the disk holds ([`Recovered`], [`Recovered::with_log`]). It returns an error where that contradicts
//! itself. Two things are the driver's: a state that is older than its own snapshot is brought up to it first, and a log that
//! ends before the snapshot (the crash came between installing it and cutting the log) begins anew behind it.
//!
//! # What is left to the driver
//!
//! * Limits on what comes in, and how long it waits. Of [`Config`](crate::Config), the engine itself does not look at
//!   `command_bytes_max`, `receive_bytes_max`, `receive_urgent_bytes_max`, `reads_waiting_max`, `requests_waiting_max`,
//!   `inputs_per_turn_max`, `idle_looks_max`, `commit_delay_ms_max`, `write_outcome_timeout_ms`, `metrics_interval_ms`,
//!   `snapshot_progress_timeout_ms` and `snapshot_install_timeout_ms`. A read waits for the state machine as long as the driver likes.
//! * With leases, whether the clock can be trusted: [`Input::ClockJumped`] tells that it has stopped or jumped. Without
//!   leases no clock has to be right.
//! * Who sends a message: a network must not pass on what is meant for another node or cluster.
//!
//! # A whole node
//!
//! One voter whose disk is done at once. With peers, `messages` would be sent as well, and with snapshots the last field
//! would be looked at.
//!
//! ```
//! use std::time::Instant;
//!
//! use openconsensus::engine::{Effects, Engine, Input, Recovered, Reply, RequestId};
//! use openconsensus::{Config, Payload, TypeConfig};
//!
//! #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
//! struct App;
//!
//! impl TypeConfig for App {
//!     type Command = &'static str;
//!     type Response = ();
//!     type NodeId = u64;
//!     type Node = ();
//!
//!     fn command_bytes(command: &&'static str) -> u64 {
//!         command.len() as u64
//!     }
//! }
//!
//! struct Node {
//!     engine: Engine<App>,
//!     log: Vec<String>,
//!     state: Vec<&'static str>,
//!     replies: Vec<Reply<App>>,
//! }
//!
//! impl Node {
//!     /// Carries out everything that there is to do.
//!     fn settle(&mut self, now: Instant) {
//!         loop {
//!             let effects = self.engine.take_effects(now);
//!             if effects.is_empty() {
//!                 return;
//!             }
//!             let Effects { write, messages, replies, apply, .. } = effects;
//!             if let Some(write) = write {
//!                 self.log.extend(write.append.iter().map(|entry| entry.log_id.to_string()));
//!                 // Here a real disk would be synced.
//!                 self.engine.step(now, Input::Persisted { write: write.id });
//!             }
//!             assert!(messages.is_empty(), "there is nobody to send to");
//!             self.replies.extend(replies.into_iter().map(|(_request, reply)| reply));
//!             if let Some(apply) = apply {
//!                 let last = apply.entries.last().expect("everything is in memory still");
//!                 self.state.extend(apply.entries.iter().filter_map(|entry| match &entry.payload {
//!                     Payload::Command(command) => Some(command),
//!                     Payload::Blank | Payload::Membership(_) => None,
//!                 }));
//!                 self.engine.step(now, Input::Applied { last });
//!             }
//!         }
//!     }
//! }
//!
//! let mut now = Instant::now();
//! let engine = Engine::new(Config::default().validate()?, Recovered::empty(1, 42), now)?;
//! let mut node = Node { engine, log: vec![], state: vec![], replies: vec![] };
//!
//! node.engine.step(now, Input::Initialize { request: RequestId(1), nodes: [(1, ())].into() });
//! node.settle(now);
//! while node.engine.leader() != Some(1) {
//!     // Instead of waiting for it.
//!     now = node.engine.next_deadline().expect("an election is due");
//!     node.engine.step(now, Input::Timeout);
//!     node.settle(now);
//! }
//! node.engine.step(now, Input::Write { request: RequestId(2), commands: vec!["milk", "tea"] });
//! node.settle(now);
//!
//! assert!(matches!(&node.replies[..], [Reply::Initialized, Reply::Appended { first }] if first.index == 3));
//! assert_eq!(node.state, ["milk", "tea"]);
//! assert_eq!(node.log, ["1(t1)", "2(t2)", "3(t2)", "4(t2)"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doc)]
use super::{Effects, Engine, Input, LogWrite, Recovered, Reply, SnapshotEffect};

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn source(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What this page says.
    fn page() -> String {
        source("engine/driving.rs").lines().filter(|line| line.starts_with("//!")).collect()
    }

    /// The public fields of a struct, read from its source.
    fn fields(source: &str, declaration: &str) -> Vec<String> {
        let (_, body) = source.split_once(declaration).expect("it is declared");
        let (body, _) = body.split_once("\n}").expect("it ends");
        let named = body.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
        named.map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn every_effect_is_explained() {
        let (page, effects) =
            (page(), fields(&source("engine/effects.rs"), "pub struct Effects<C: TypeConfig> {"));
        assert!(7 <= effects.len(), "{effects:?}");
        for effect in effects {
            assert!(
                page.contains(&format!("| [`{effect}`](Effects::{effect}) |")),
                "say what to do with `{effect}`"
            );
        }
    }

    #[test]
    fn what_the_engine_does_not_look_at_is_named() {
        let (page, config) = (page(), fields(&source("config.rs"), "pub struct Config {"));
        assert!(20 <= config.len(), "{config:?}");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
        let files =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // The configuration has some code of its own for the engine.
        let engine: String =
            files.map(|file| source(&format!("engine/{file}"))).chain([source("config.rs")]).collect();
        let code: Vec<&str> = engine.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for name in config {
            let is_used = code.iter().any(|line| line.contains(&format!(".{name}")));
            let is_named = page.contains(&format!("`{name}`"));
            assert_ne!(
                is_used, is_named,
                "the engine looks at `{name}` ({is_used}), or it is left to the driver ({is_named})"
            );
        }
    }
}
