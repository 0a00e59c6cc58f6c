//! Tables for people.

use std::borrow::Borrow;

use comfy_table::{CellAlignment, Table, presets};

use crate::report::{Case, Measured};
use crate::rounds::Spread;

/// One line for each contender of each case: its parameters, its values as `median (min to max)`, and how many times the
/// first value of the first contender is that of this one.
pub(crate) fn of_cases<C: Borrow<Case>>(cases: impl IntoIterator<Item = C>) -> String {
    let cases: Vec<C> = cases.into_iter().collect();
    let cases: Vec<&Case> = cases.iter().map(Borrow::borrow).collect();
    let parameters = distinct(cases.iter().flat_map(|case| case.parameters.iter().map(|(name, _)| name)));
    let contenders = || cases.iter().flat_map(|case| &case.contenders);
    let metrics =
        distinct(contenders().flat_map(|contender| contender.metrics.iter().map(|metric| &metric.name)));

    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let head = parameters.iter().map(String::as_str).chain(["contender"]);
    table.set_header(head.chain(metrics.iter().map(String::as_str)).chain(["first is"]));
    for case in cases {
        for contender in &case.contenders {
            let own = |name: &String| case.parameter(name).map(ToString::to_string).unwrap_or_default();
            let mut row: Vec<String> = parameters.iter().map(own).collect();
            row.push(contender.name.clone());
            row.extend(metrics.iter().map(|name| contender.spread(name).map(shown).unwrap_or_default()));
            row.push(ratio(case, contender).unwrap_or_default());
            table.add_row(row);
        }
    }
    let words = parameters.len() + 1;
    table.column_iter_mut().skip(words).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.trim_fmt()
}

/// The ratio of the first contender to this one in the first value that they have.
fn ratio(case: &Case, contender: &Measured) -> Option<String> {
    let first = case.contenders.first().filter(|first| first.name != contender.name)?;
    let metric = &first.metrics.first()?.name;
    let ratio = case.ratio(&first.name, &contender.name, metric)?;
    Some(format!("{} ×", shown(ratio)))
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name.clone());
        }
    }
    distinct
}

fn shown(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if min == max {
        number(median)
    } else {
        format!("{} ({} to {})", number(median), number(min), number(max))
    }
}

/// Three digits that count, and no more than a reader can compare.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => {
            let digits = format!("{:.0}", value.abs());
            let mut grouped = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if 0 < at && (digits.len() - at).is_multiple_of(3) && 4 < digits.len() {
                    grouped.push(' ');
                }
                grouped.push(digit);
            }
            if value < 0.0 { format!("-{grouped}") } else { grouped }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Metric;

    #[test]
    fn numbers_are_short() {
        let cases = [0.12345, 1.234, 56.78, 999.6, 9999.0, 1_234_567.0, -12_345.0];
        let shown: Vec<String> = cases.into_iter().map(number).collect();
        assert_eq!(shown, ["0.123", "1.23", "56.8", "1000", "9999", "1 234 567", "-12 345"]);
    }

    #[test]
    fn each_contender_has_a_line_with_its_ratio() {
        let measured = |name: &str, rounds: &[f64]| Measured {
            name: name.into(),
            metrics: vec![Metric { name: "ops_per_s".into(), rounds: rounds.into() }],
        };
        let contenders = vec![measured("ours", &[200.0, 300.0, 250.0]), measured("theirs", &[100.0; 3])];
        let text = of_cases([Case { parameters: crate::parameters! { clients: 64 }, contenders }]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["clients", "contender", "ops_per_s", "first", "is"]);
        assert_eq!(lines[1], ["64", "ours", "250", "(200", "to", "300)"]);
        assert_eq!(lines[2], ["64", "theirs", "100", "2.50", "(2.00", "to", "3.00)", "×"]);
    }
}
