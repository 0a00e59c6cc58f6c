//! A search that tries everything: slow, short, and nothing in it is clever.

use openconsensus_tests::linearizability::{KvModel, Model, Operation, Outcome};

use super::*;

/// Whether an order explains the operations, which are all on one key.
pub(super) fn is_linearizable(history: &KvHistory) -> bool {
    let operations: Vec<_> = history.operations().iter().collect();
    let mut used = vec![false; operations.len()];
    goes_on(&operations, &mut used, &None)
}

fn goes_on(
    operations: &[&Operation<KvRequest<u32>, KvResponse<u32>>],
    used: &mut [bool],
    state: &Option<u32>,
) -> bool {
    let is_certain = |at: usize| matches!(operations[at].outcome, Outcome::Returned(_));
    let missing: Vec<usize> = (0..operations.len()).filter(|at| is_certain(*at) && !used[*at]).collect();
    if missing.is_empty() {
        return true;
    }
    for at in 0..operations.len() {
        let operation = operations[at];
        let ended_before =
            |other: &usize| operations[*other].ended.expect("it returned").order < operation.called.order;
        let response = match &operation.outcome {
            Outcome::Returned(response) => Some(response),
            Outcome::Unknown => None,
            Outcome::Absent => continue,
        };
        if used[at] || missing.iter().any(ended_before) {
            continue;
        }
        if let Some(after) = KvModel::new().step(state, &operation.request, response) {
            used[at] = true;
            if goes_on(operations, used, &after) {
                return true;
            }
            used[at] = false;
        }
    }
    false
}
