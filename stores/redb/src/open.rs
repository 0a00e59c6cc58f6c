//! `open`: the log and the state machine of a node, in one folder.

use std::path::Path;

use crate::application::Application;
use crate::codec::StoredConfig;
use crate::error::{About, OpenError};
use crate::log::RedbLog;
use crate::options::Options;
use crate::state_machine::RedbStateMachine;
use openconsensus_store_common::Identity;
use openconsensus_store_common::files;

/// Opens what a node stores in the folder `dir`, or makes it when there is nothing: `log.redb`, `state.redb` and
/// `snapshots/`, with the default [`Options`].
///
/// Both files must belong to `identity`, and to each other: a state that has applied what the log never had, or a log
/// purged beyond the state, is an error, as is one of them missing.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open<C: StoredConfig, A: Application<C>>(
    dir: impl AsRef<Path>,
    identity: &Identity,
    application: A,
) -> Result<(RedbLog<C>, RedbStateMachine<C, A>), OpenError> {
    open_with(dir, identity, application, &Options::default())
}

/// As [`open`], with limits of one's own.
pub fn open_with<C: StoredConfig, A: Application<C>>(
    dir: impl AsRef<Path>,
    identity: &Identity,
    application: A,
    options: &Options,
) -> Result<(RedbLog<C>, RedbStateMachine<C, A>), OpenError> {
    let dir = dir.as_ref();
    let (log_path, state_path) = (dir.join("log.redb"), dir.join("state.redb"));
    let is_log_missing = files::len(&log_path)?.is_none();
    if !is_log_missing && files::len(&state_path)?.is_none() {
        return Err(About(&state_path).damaged("the file is missing, though the log is there"));
    }
    // The state is made first: a crash between the two leaves a state without a log, in which nothing has happened.
    let state_machine =
        RedbStateMachine::open_with(&state_path, dir.join("snapshots"), identity, application, options)?;
    if is_log_missing {
        state_machine.check_log(&log_path, None)?;
    }
    let log = RedbLog::open_with(&log_path, identity, options)?;
    state_machine.check_log(&log_path, Some(log.opened_state()))?;
    Ok((log, state_machine))
}
