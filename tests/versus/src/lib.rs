//! What the comparisons of openconsensus with its peers have in common.

#![forbid(unsafe_code)]
