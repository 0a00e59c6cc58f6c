//! The real driver in simulations: the executor itself, whole clusters on it, and mistakes that they must find.

mod churn;
mod example;
mod executor;
mod leases;
mod mistakes;
mod times;
