//! Known bugs: elections.
