//! The real driver in simulations: the executor itself, and whole clusters on it.

mod churn;
