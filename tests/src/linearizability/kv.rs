//! `KvModel`: keys with values, and on them get, put, delete and compare-and-set. With one key it is a register.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::model::{Marks, Model};

/// A key-value store whose keys are all absent at first.
///
/// A history tells most when every value is written once: then a read says which write it has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvModel<V = String> {
    values: PhantomData<V>,
}

/// What a client asks of a key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvRequest<V = String> {
    /// The key.
    pub key: String,
    /// What to do with it.
    pub action: KvAction<V>,
}

/// What to do with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvAction<V = String> {
    /// Read its value.
    Get,
    /// Set it to this value.
    Put(V),
    /// Remove it.
    Delete,
    /// Set it to `value` (remove it, with `None`) if its value is `expected` (if it is absent, with `None`).
    CompareAndSet {
        /// What it must be.
        expected: Option<V>,
        /// What it becomes.
        value: Option<V>,
    },
}

/// What a key-value store answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvResponse<V = String> {
    /// A get: the value, if the key is there.
    Value(Option<V>),
    /// A put, a delete, or a compare-and-set whose comparison succeeded: done.
    Done,
    /// A put or a delete: done, and this was there before.
    Previous(Option<V>),
    /// A compare-and-set: not done, because the value was not the expected one.
    NotSet,
    /// A compare-and-set: whether it was done, and what was there before.
    Compared {
        /// Whether `expected` was met.
        set: bool,
        /// What was there before.
        actual: Option<V>,
    },
}

impl<V> KvModel<V> {
    /// The model.
    pub fn new() -> Self {
        Self { values: PhantomData }
    }
}

impl<V> KvRequest<V> {
    /// Reads `key`.
    pub fn get(key: impl Into<String>) -> Self {
        Self { key: key.into(), action: KvAction::Get }
    }

    /// Sets `key` to `value`.
    pub fn put(key: impl Into<String>, value: impl Into<V>) -> Self {
        Self { key: key.into(), action: KvAction::Put(value.into()) }
    }

    /// Removes `key`.
    pub fn delete(key: impl Into<String>) -> Self {
        Self { key: key.into(), action: KvAction::Delete }
    }

    /// Sets `key` to `value`, or removes it, if it is `expected` now, or absent.
    pub fn compare_and_set(key: impl Into<String>, expected: Option<V>, value: Option<V>) -> Self {
        Self { key: key.into(), action: KvAction::CompareAndSet { expected, value } }
    }
}

impl<V: Clone + Ord + Hash + Debug> Model for KvModel<V> {
    type Key = String;
    type State = Option<V>;
    type Request = KvRequest<V>;
    type Response = KvResponse<V>;
    type Mark = Option<V>;

    fn key(&self, request: &KvRequest<V>) -> String {
        request.key.clone()
    }

    fn initial(&self, _key: &String) -> Option<V> {
        None
    }

    fn step(
        &self,
        state: &Option<V>,
        request: &KvRequest<V>,
        response: Option<&KvResponse<V>>,
    ) -> Option<Option<V>> {
        use KvResponse::{Compared, Done, NotSet, Previous, Value};
        let (is_possible, after) = match &request.action {
            KvAction::Get => match response {
                None => (true, None),
                Some(Value(value)) => (value == state, None),
                Some(Done | Previous(_) | NotSet | Compared { .. }) => (false, None),
            },
            KvAction::Put(_) | KvAction::Delete => {
                let after = match &request.action {
                    KvAction::Put(value) => Some(value.clone()),
                    KvAction::Get | KvAction::Delete | KvAction::CompareAndSet { .. } => None,
                };
                match response {
                    None | Some(Done) => (true, Some(after)),
                    Some(Previous(previous)) => (previous == state, Some(after)),
                    Some(Value(_) | NotSet | Compared { .. }) => (false, None),
                }
            }
            KvAction::CompareAndSet { expected, value } => {
                let is_met = expected == state;
                let is_possible = match response {
                    None => true,
                    Some(Done) => is_met,
                    Some(NotSet) => !is_met,
                    Some(Compared { set, actual }) => *set == is_met && actual == state,
                    Some(Value(_) | Previous(_)) => false,
                };
                (is_possible, is_met.then(|| value.clone()))
            }
        };
        is_possible.then(|| after.unwrap_or_else(|| state.clone()))
    }

    fn leaves(&self, request: &KvRequest<V>, response: Option<&KvResponse<V>>) -> Marks<Option<V>> {
        match (&request.action, response) {
            (KvAction::Get, _) => Marks::none(),
            (KvAction::Put(value), _) => Marks::one(Some(value.clone())),
            (KvAction::Delete, _) => Marks::one(None),
            (
                KvAction::CompareAndSet { .. },
                Some(KvResponse::NotSet | KvResponse::Compared { set: false, .. }),
            ) => Marks::none(),
            (KvAction::CompareAndSet { expected, value }, _) if expected == value => Marks::none(),
            (KvAction::CompareAndSet { value, .. }, _) => Marks::one(value.clone()),
        }
    }

    fn sees(&self, request: &KvRequest<V>, response: Option<&KvResponse<V>>) -> Marks<Option<V>> {
        match (&request.action, response) {
            (_, Some(KvResponse::Value(value) | KvResponse::Previous(value))) => Marks::one(value.clone()),
            (_, Some(KvResponse::Compared { actual, .. })) => Marks::one(actual.clone()),
            // Whatever was there, only not what was expected.
            (_, Some(KvResponse::NotSet)) => Marks::Any,
            (KvAction::Get, None | Some(KvResponse::Done)) => Marks::none(),
            (KvAction::Put(_) | KvAction::Delete, None | Some(KvResponse::Done)) => Marks::none(),
            (KvAction::CompareAndSet { expected, .. }, None | Some(KvResponse::Done)) => {
                Marks::one(expected.clone())
            }
        }
    }

    fn describe(&self, request: &KvRequest<V>, response: Option<&KvResponse<V>>) -> String {
        let text =
            |value: &Option<V>| value.as_ref().map_or("absent".to_string(), |value| format!("{value:?}"));
        let asked = match &request.action {
            KvAction::Get => "get".to_string(),
            KvAction::Put(value) => format!("put {value:?}"),
            KvAction::Delete => "delete".to_string(),
            KvAction::CompareAndSet { expected, value } => {
                format!("cas {} to {}", text(expected), text(value))
            }
        };
        match response {
            None | Some(KvResponse::Done) => asked,
            Some(KvResponse::Value(value)) => format!("{asked} → {}", text(value)),
            Some(KvResponse::Previous(value)) => format!("{asked} → was {}", text(value)),
            Some(KvResponse::NotSet) => format!("{asked} → not set"),
            Some(KvResponse::Compared { set: true, actual }) => {
                format!("{asked} → set, was {}", text(actual))
            }
            Some(KvResponse::Compared { set: false, actual }) => {
                format!("{asked} → not set, was {}", text(actual))
            }
        }
    }
}
