//! Carries out what the engine decides: tasks and queues, no Raft rules.
