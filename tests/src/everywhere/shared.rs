//! `Shared`: something that its clones share, on one thread or between several.

#[cfg(feature = "single-threaded")]
mod mode {
    pub(super) type Pointer<T> = std::rc::Rc<std::cell::RefCell<T>>;

    pub(super) fn change<T, R>(pointer: &Pointer<T>, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut pointer.borrow_mut())
    }
}

#[cfg(not(feature = "single-threaded"))]
mod mode {
    use std::sync::{Arc, Mutex, PoisonError};

    pub(super) type Pointer<T> = Arc<Mutex<T>>;

    pub(super) fn change<T, R>(pointer: &Pointer<T>, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut pointer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Something that its clones share. With the feature `single-threaded` it is neither `Send` nor `Sync`.
#[derive(Default)]
pub(super) struct Shared<T>(mode::Pointer<T>);

impl<T> Shared<T> {
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        mode::change(&self.0, change)
    }

    /// How many clones there are.
    pub(super) fn handles(&self) -> usize {
        <mode::Pointer<T>>::strong_count(&self.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What is stored cannot leave its thread: with an `Arc` in it the test would prove nothing.
#[cfg(feature = "single-threaded")]
const _: () = {
    /// Has a value only for types that are not `Send`: for others it would be ambiguous which of the two is meant.
    trait NotSend<Marker> {
        const HOLDS: bool = true;
    }
    struct Always;
    struct IfSend;
    impl<T> NotSend<Always> for T {}
    impl<T: Send> NotSend<IfSend> for T {}

    assert!(<super::stores::Log as NotSend<_>>::HOLDS);
    assert!(<super::stores::Machine as NotSend<_>>::HOLDS);
};
