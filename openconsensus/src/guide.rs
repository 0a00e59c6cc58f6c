//! The guide: how to use this library, chapter by chapter, from the first three nodes to a disk that dies at night.
//!
//! | chapter | read it when |
//! | --- | --- |
//! | [Getting started](getting_started) | you have ten minutes and want to see three nodes agree |
//! | [A log storage](log_storage) | you bring a log of your own, or want to know what is asked of the one you take |
//! | [A state machine](state_machine) | you bring the application, which is always |
//! | [A network](network) | you bring a transport of your own |
//! | [Limits and timeouts](limits) | you set a field of [`Config`](crate::Config), or wonder how much memory a node needs |
//! | [Membership](membership) | you add, promote, replace or remove a node |
//! | [Reads](reads) | you read, and somebody asks what the answer is worth |
//! | [Writes](writes) | a write did not return a response |
//! | [Errors](errors) | any other call returned an error: what it means, and what to do |
//! | [Failures](failures) | you want to know what happens when a disk, a network, a clock or an operator fails |
//! | [Observing](observing) | you set up a dashboard and its alarms |
//! | [Names](names) | you look for the name of a span, an event or a series |
//! | [Embedding the engine](embedding) | you have an event loop of your own, or know the interface of etcd/raft |
//! | [Testing your own parts](testing) | you have written one of the parts above |
//!
//! Each chapter stands by itself. All code in them is compiled and run by the tests of this workspace. The reference
//! are the items themselves: [`Raft`](crate::Raft), [`Config`](crate::Config), and the traits
//! [`RaftLogStorage`](crate::RaftLogStorage), [`RaftStateMachine`](crate::RaftStateMachine),
//! [`RaftNetwork`](crate::RaftNetwork) and [`AsyncRuntime`](crate::AsyncRuntime).

// The code of the chapters needs the stores and networks of the sister crates, on which this one must not depend. So it is
// tested in `openconsensus-tests`, and the chapters are left out when the doc tests of this crate are collected.

#[cfg_attr(not(doctest), doc = include_str!("../guide/getting_started.md"))]
pub mod getting_started {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/log_storage.md"))]
pub mod log_storage {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/state_machine.md"))]
pub mod state_machine {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/network.md"))]
pub mod network {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/limits.md"))]
pub mod limits {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/membership.md"))]
pub mod membership {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/reads.md"))]
pub mod reads {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/writes.md"))]
pub mod writes {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/errors.md"))]
pub mod errors {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/failures.md"))]
pub mod failures {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/observing.md"))]
pub mod observing {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/names.md"))]
pub mod names {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/embedding.md"))]
pub mod embedding {}

#[cfg_attr(not(doctest), doc = include_str!("../guide/testing.md"))]
pub mod testing {}
