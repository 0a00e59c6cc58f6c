//! What several unit tests need.

use openconsensus_memstore::kv::Command;

pub(crate) fn put(key: &str, value: &str) -> Command {
    Command::Put { key: key.into(), value: value.into() }
}
