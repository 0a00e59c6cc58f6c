//! What a replicated key-value store is asked and answers: shared by the state machine here and by durable ones.

use std::io;

use openconsensus::TypeConfig;
use serde::{Deserialize, Serialize};

/// A change of the key-value state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets `key` to `value`.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    /// Removes `key`.
    Delete {
        /// The key.
        key: String,
    },
    /// Sets `key` to `value` (or removes it, with `None`) if it now has the value `expected` (`None`: is absent).
    CompareAndSet {
        /// The key.
        key: String,
        /// What it must be.
        #[serde(with = "serde_bytes")]
        expected: Option<Vec<u8>>,
        /// What it becomes.
        #[serde(with = "serde_bytes")]
        value: Option<Vec<u8>>,
    },
    /// Several changes, one after the other, in one entry: all of them are applied. Not nested.
    Batch(Vec<Self>),
}

/// What a change returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// A `Put` or `Delete`: what was there before.
    Previous(Option<Vec<u8>>),
    /// A `CompareAndSet`: whether it was carried out, and what was there before.
    Compared {
        /// Whether `expected` was met.
        set: bool,
        /// What was there before.
        actual: Option<Vec<u8>>,
    },
    /// A `Batch`: how many changes were applied.
    Batch(u64),
}

/// A key-value cluster: nodes are numbers, reached at a `host:port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kv;

impl TypeConfig for Kv {
    type Command = Command;
    type Response = Response;
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &Command) -> u64 {
        command.size_bytes()
    }
}

impl Command {
    /// Its size in memory, as limits count it.
    pub fn size_bytes(&self) -> u64 {
        let payload = match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::CompareAndSet { key, expected, value } => {
                key.len() + expected.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len)
            }
            Self::Batch(commands) => return 32 + commands.iter().map(Self::size_bytes).sum::<u64>(),
        };
        64 + payload as u64
    }
}

/// Keys and values that commands can be applied to: the open transaction of a database, or a map in memory.
///
/// The methods may fail as a disk may; [`apply_command`] hands the error on at once, and the caller must then give up
/// the whole transaction.
pub trait KvMap {
    /// The value of `key`.
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// Sets `key` to `value` and returns what was there before.
    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Removes `key` and returns what was there before.
    fn delete(&mut self, key: &str) -> io::Result<Option<Vec<u8>>>;
}

/// Carries out one command: the only place that says what the commands mean.
///
/// A batch within a batch is carried out as if its changes stood in the outer one.
pub fn apply_command(map: &mut impl KvMap, command: &Command) -> io::Result<Response> {
    match command {
        Command::Put { key, value } => Ok(Response::Previous(map.put(key, value)?)),
        Command::Delete { key } => Ok(Response::Previous(map.delete(key)?)),
        Command::CompareAndSet { key, expected, value } => {
            let actual = map.get(key)?;
            let set = actual == *expected;
            if set {
                match value {
                    Some(value) => map.put(key, value)?,
                    None => map.delete(key)?,
                };
            }
            Ok(Response::Compared { set, actual })
        }
        Command::Batch(commands) => {
            let mut applied = 0;
            for command in commands {
                applied += match apply_command(map, command)? {
                    Response::Previous(_) | Response::Compared { .. } => 1,
                    Response::Batch(nested) => nested,
                };
            }
            Ok(Response::Batch(applied))
        }
    }
}

/// A checksum of keys and values, to compare state machines of one cluster: equal content gives an equal checksum,
/// however it is stored.
///
/// Keys are added in ascending order of their bytes, each once. It finds what differs by mistake; it does not
/// withstand someone who wants two states to look the same.
#[derive(Clone, Debug, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// The checksum of nothing, so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next key and its value.
    pub fn add(&mut self, key: &str, value: &[u8]) {
        // The lengths keep ("ab", "c") apart from ("a", "bc").
        self.0.update(&(key.len() as u64).to_le_bytes());
        self.0.update(key.as_bytes());
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    /// The checksum of all that was added.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A map whose next change can be made to fail.
    #[derive(Default)]
    struct TestMap {
        pairs: BTreeMap<String, Vec<u8>>,
        is_full: bool,
    }

    impl KvMap for TestMap {
        fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.pairs.get(key).cloned())
        }

        fn put(&mut self, key: &str, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
            if self.is_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(self.pairs.insert(key.into(), value.into()))
        }

        fn delete(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.pairs.remove(key))
        }
    }

    fn put(key: &str, value: &str) -> Command {
        Command::Put { key: key.into(), value: value.into() }
    }

    fn cas(key: &str, expected: Option<&str>, value: Option<&str>) -> Command {
        Command::CompareAndSet {
            key: key.into(),
            expected: expected.map(Into::into),
            value: value.map(Into::into),
        }
    }

    #[test]
    fn commands_change_the_map_and_return_what_was_there() {
        let mut map = TestMap::default();
        let compared = |set, actual: Option<&str>| Response::Compared { set, actual: actual.map(Into::into) };
        let steps = [
            (put("k", "1"), Response::Previous(None), Some("1")),
            (put("k", "2"), Response::Previous(Some("1".into())), Some("2")),
            (cas("k", Some("1"), Some("3")), compared(false, Some("2")), Some("2")),
            (cas("k", None, Some("3")), compared(false, Some("2")), Some("2")),
            (cas("k", Some("2"), Some("3")), compared(true, Some("2")), Some("3")),
            (cas("k", Some("3"), None), compared(true, Some("3")), None),
            (cas("k", Some("3"), Some("4")), compared(false, None), None),
            (cas("k", None, None), compared(true, None), None),
            (cas("k", None, Some("5")), compared(true, None), Some("5")),
            (Command::Delete { key: "k".into() }, Response::Previous(Some("5".into())), None),
            (Command::Delete { key: "k".into() }, Response::Previous(None), None),
            (Command::Batch(vec![]), Response::Batch(0), None),
            (
                Command::Batch(vec![put("k", "6"), cas("k", Some("6"), Some("7")), put("l", "1")]),
                Response::Batch(3),
                Some("7"),
            ),
            (
                Command::Batch(vec![put("k", "8"), Command::Batch(vec![put("k", "9"), put("l", "2")])]),
                Response::Batch(3),
                Some("9"),
            ),
        ];
        for (command, response, value) in steps {
            assert_eq!(apply_command(&mut map, &command).unwrap(), response, "{command:?}");
            assert_eq!(map.get("k").unwrap().as_deref(), value.map(str::as_bytes), "after {command:?}");
        }
    }

    #[test]
    fn a_command_is_encoded_in_one_way_whatever_writes_its_bytes() {
        let encoded = |command: &Command| postcard::to_allocvec(command).unwrap();
        let put = Command::Put { key: "k".into(), value: vec![0, 255] };
        assert_eq!(encoded(&put), [0, 1, b'k', 2, 0, 255]);
        let set = Command::CompareAndSet { key: "k".into(), expected: None, value: Some(vec![7]) };
        assert_eq!(encoded(&set), [2, 1, b'k', 0, 1, 1, 7]);
        let batch = Command::Batch(vec![put, Command::Delete { key: String::new() }, set]);
        assert_eq!(encoded(&batch), [3, 3, 0, 1, b'k', 2, 0, 255, 1, 0, 2, 1, b'k', 0, 1, 1, 7]);
        assert_eq!(postcard::from_bytes(&encoded(&batch)), Ok(batch));
    }

    #[test]
    fn an_error_of_the_map_is_handed_on() {
        let mut map = TestMap { is_full: true, ..TestMap::default() };
        for command in [put("k", "1"), cas("k", None, Some("1")), Command::Batch(vec![put("k", "1")])] {
            let error = apply_command(&mut map, &command).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{command:?}");
        }
    }

    #[test]
    fn checksums_tell_apart_where_a_key_ends() {
        let of = |pairs: &[(&str, &str)]| {
            let mut sum = Checksum::new();
            pairs.iter().for_each(|(key, value)| sum.add(key, value.as_bytes()));
            sum.finish()
        };
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("a", "1"), ("b", "2")]));
        assert_ne!(of(&[("ab", "c")]), of(&[("a", "bc")]));
        assert_ne!(of(&[("a", "1")]), of(&[("a", "1"), ("b", "")]));
        assert_ne!(of(&[]), of(&[("", "")]));
    }
}
