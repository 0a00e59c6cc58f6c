//! Whose data a file holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose data a file holds: written when the file is made, checked whenever it is opened.
///
/// A node that came up with the log of another would vote twice in one term, or acknowledge entries that it does not
/// have; this check is what stands between a wrong `--data-dir` and lost writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the cluster, the same on all its nodes.
    pub cluster: String,
    /// The id of the node, as it is displayed.
    pub node: String,
}

impl Identity {
    /// The identity of `node` in `cluster`.
    pub fn new(cluster: impl Into<String>, node: impl fmt::Display) -> Self {
        Self { cluster: cluster.into(), node: node.to_string() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {:?}", self.node, self.cluster)
    }
}
