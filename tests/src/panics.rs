//! Panics that are what a run is for: caught, and not printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Set while something may panic on this thread.
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    /// Where it was.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// What it says.
    pub message: String,
    /// File, line and column.
    pub place: String,
}

/// Runs `run`. A panic in it is returned and prints nothing; panics of other threads are printed as ever.
///
/// What `run` changes may be half changed after a panic: look at it only to describe it.
pub fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Caught> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if IS_CATCHING.get() {
                PLACE.set(info.location().map(Location::to_string));
            } else {
                before(info);
            }
        }));
    });
    let outer = IS_CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_CATCHING.set(outer);
    result.map_err(|panic| Caught { message: text_of(&*panic), place: PLACE.take().unwrap_or_default() })
}

/// What a panic says.
pub fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}
