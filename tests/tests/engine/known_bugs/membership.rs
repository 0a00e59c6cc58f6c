//! Known bugs: membership.
