//! `Model`: what one copy of the state would do, one operation after the other.

use std::fmt::{Debug, Display};
use std::hash::Hash;

/// What one copy of the state would do, one operation after the other.
///
/// All methods are pure: the same arguments give the same result, and they are called in any order, any number of
/// times.
pub trait Model {
    /// Operations on different keys do not affect each other, and are checked apart. `()`-like keys put everything into
    /// one part.
    type Key: Clone + Ord + Display;
    /// The state behind one key. Kept small: the checker holds many.
    type State: Clone + Eq + Hash + Debug;
    /// What a client asks for.
    type Request: Clone + PartialEq + Debug;
    /// What it is told.
    type Response: Clone + Debug;
    /// What an operation leaves behind that others can see, for [`leaves`](Self::leaves) and [`sees`](Self::sees).
    type Mark: Clone + Ord;

    /// The part of the state that `request` is about.
    fn key(&self, request: &Self::Request) -> Self::Key;

    /// The state behind `key` before the first operation.
    fn initial(&self, key: &Self::Key) -> Self::State;

    /// The state after `request` in `state`. `None` if it cannot have had this response there.
    ///
    /// Without a response nobody knows what it was: then there always is a state after it.
    fn step(
        &self,
        state: &Self::State,
        request: &Self::Request,
        response: Option<&Self::Response>,
    ) -> Option<Self::State>;

    /// What `request` may leave behind. [`Marks::none`] promises that it does not change the state.
    ///
    /// Together with [`sees`](Self::sees) this lets the checker leave out operations with an unknown outcome of which
    /// nobody has seen anything. The promise: if `a` leaves marks and `b` does not see one of them, then wherever `b`
    /// is possible directly after `a`, it is also possible there without `a`, and leads to the same state, or it has
    /// not changed the state.
    ///
    /// The default promises nothing and is always right.
    fn leaves(&self, request: &Self::Request, response: Option<&Self::Response>) -> Marks<Self::Mark> {
        let _ = (request, response);
        Marks::Any
    }

    /// On what left marks the possibility or the effect of `request` may depend. See [`leaves`](Self::leaves).
    ///
    /// The default promises nothing and is always right.
    fn sees(&self, request: &Self::Request, response: Option<&Self::Response>) -> Marks<Self::Mark> {
        let _ = (request, response);
        Marks::Any
    }

    /// An operation for people, in a few words. Without a response its outcome is not known.
    fn describe(&self, request: &Self::Request, response: Option<&Self::Response>) -> String {
        match response {
            Some(response) => format!("{request:?} → {response:?}"),
            None => format!("{request:?}"),
        }
    }
}

/// What operations leave behind or see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marks<M> {
    /// Anything: no promise.
    Any,
    /// These and no others.
    These(Vec<M>),
}

impl<M> Marks<M> {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::These(Vec::new())
    }

    /// This one and no other.
    pub fn one(mark: M) -> Self {
        Self::These(vec![mark])
    }

    /// Whether it is certain that there are none.
    pub fn is_none(&self) -> bool {
        match self {
            Self::Any => false,
            Self::These(marks) => marks.is_empty(),
        }
    }
}
