//! Known bugs: replication.
