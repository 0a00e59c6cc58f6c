//! Compiles and runs the code of the guide, `openconsensus::guide`, as doc tests of this crate: the core depends on none of the
//! stores and networks that the chapters use.

#[doc = include_str!("../../openconsensus/guide/getting_started.md")]
mod getting_started {}

#[doc = include_str!("../../openconsensus/guide/log_storage.md")]
mod log_storage {}

#[doc = include_str!("../../openconsensus/guide/state_machine.md")]
mod state_machine {}

#[doc = include_str!("../../openconsensus/guide/network.md")]
mod network {}

#[doc = include_str!("../../openconsensus/guide/limits.md")]
mod limits {}

#[doc = include_str!("../../openconsensus/guide/membership.md")]
mod membership {}

#[doc = include_str!("../../openconsensus/guide/reads.md")]
mod reads {}

#[doc = include_str!("../../openconsensus/guide/writes.md")]
mod writes {}

#[doc = include_str!("../../openconsensus/guide/errors.md")]
mod errors {}

#[doc = include_str!("../../openconsensus/guide/failures.md")]
mod failures {}

#[doc = include_str!("../../openconsensus/guide/observing.md")]
mod observing {}

#[doc = include_str!("../../openconsensus/guide/names.md")]
mod names {}

#[doc = include_str!("../../openconsensus/guide/embedding.md")]
mod embedding {}

#[doc = include_str!("../../openconsensus/guide/testing.md")]
mod testing {}
