//! Known bugs: commit.
