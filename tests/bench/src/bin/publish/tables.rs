//! Tables of results in Markdown.

use openconsensus_bench::{Case, Measured, Report, number};

/// What is shown of a benchmark: these values, if they were measured, in this order.
const SHOWN: &[&str] = &[
    "ops_per_s",
    "keys_per_s",
    "entries_per_s",
    "syncs_per_s",
    "mib_per_s",
    "writes_per_s",
    "cpu_us",
    "cpu_ns",
    "servers_cpu_us",
    "client_cpu_us",
    "p50_us",
    "p99_us",
    "p99_by_p50",
    "slowest_client",
    "fastest_client",
    "allocations",
    "allocated_bytes",
    "log_syncs",
    "disk_bytes",
    "without_writes_ms",
    "without_leader_ms",
    "restart_to_caught_up_ms",
    "wall_s",
    "fed_s",
    "resident_mib",
    "peak_mib",
    "resident_max_mib",
    "p99_before_us",
    "p99_during_us",
];

/// All cases of a benchmark; those with the same parameters stand in one table.
pub(crate) fn of(report: &Report) -> String {
    let mut text = String::new();
    let names = |case: &Case| case.parameters.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut kinds: Vec<Vec<String>> = Vec::new();
    for case in &report.cases {
        if !kinds.contains(&names(case)) {
            kinds.push(names(case));
        }
    }
    for kind in kinds {
        let cases: Vec<&Case> = report.cases.iter().filter(|case| names(case) == kind).collect();
        text.push_str(&table(&kind, &cases));
        text.push('\n');
    }
    text
}

fn table(parameters: &[String], cases: &[&Case]) -> String {
    let contenders = || cases.iter().flat_map(|case| &case.contenders);
    let is_measured = |name: &&&str| contenders().any(|contender| contender.rounds(name).is_some());
    let metrics: Vec<&str> = SHOWN.iter().filter(is_measured).copied().collect();
    let compared = cases.iter().any(|case| 1 < case.contenders.len());

    let words = |names: &[String]| names.iter().map(|name| name.replace('_', " ")).collect::<Vec<_>>();
    let mut head = words(parameters);
    head.push(String::new());
    head.extend(metrics.iter().map(|name| unit(name)));
    if compared {
        head.push("first to this".into());
    }
    let mut text = row(&head);
    let left = parameters.len() + 1;
    let rule: Vec<String> = (0..head.len()).map(|at| if at < left { "---" } else { "--:" }.into()).collect();
    text.push_str(&row(&rule));
    for case in cases {
        for (at, contender) in case.contenders.iter().enumerate() {
            let value = |name: &String| match at {
                0 => case.parameter(name).map(ToString::to_string).unwrap_or_default(),
                _ => String::new(),
            };
            let mut cells: Vec<String> = parameters.iter().map(value).collect();
            cells.push(contender.name.clone());
            cells.extend(metrics.iter().enumerate().map(|(at, name)| cell(contender, name, at == 0)));
            if compared {
                cells.push(ratio(case, contender).unwrap_or_default());
            }
            text.push_str(&row(&cells));
        }
    }
    text
}

/// The median, and of the first value also how far it reached.
fn cell(contender: &Measured, metric: &str, is_first: bool) -> String {
    let Some(spread) = contender.spread(metric) else { return String::new() };
    if is_first && spread.min < spread.max {
        format!("{} ({} to {})", number(spread.median), number(spread.min), number(spread.max))
    } else if metric.starts_with("without_") {
        format!("{}, worst {}", number(spread.median), number(spread.max))
    } else {
        number(spread.median)
    }
}

fn ratio(case: &Case, contender: &Measured) -> Option<String> {
    let first = case.contenders.first().filter(|first| first.name != contender.name)?;
    let metric =
        SHOWN.iter().find(|name| first.rounds(name).is_some() && contender.rounds(name).is_some())?;
    Some(format!("{} ×", number(case.ratio(&first.name, &contender.name, metric)?.median)))
}

/// `ops_per_s` as `ops/s`, `p99_us` as `p99 µs`.
fn unit(metric: &str) -> String {
    let text = metric.replace("_per_s", "/s");
    let text = match text.strip_suffix("_us") {
        Some(name) => format!("{name} µs"),
        None => text,
    };
    text.replace('_', " ")
}

pub(crate) fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openconsensus_bench::{Options, Sample, parameters};

    #[test]
    fn a_table_has_a_line_for_each_contender() {
        let options = Options { rounds: 2, seconds: 1.0, out: None, smoke: false };
        let mut report = Report::new("memory_cluster", &options);
        let samples =
            |values: [f64; 2]| values.map(|value| Sample::new().with("ops_per_s", value).with("p99_us", 7.0));
        let contenders = vec![
            ("ours".to_owned(), samples([3000.0, 5000.0]).to_vec()),
            ("theirs".to_owned(), samples([1000.0, 1000.0]).to_vec()),
        ];
        report.add(parameters! { clients: 64 }, contenders);
        let text = of(&report);
        let expected = "| clients |  | ops/s | p99 µs | first to this |\n| --- | --- | --: | --: | --: |\n\
            | 64 | ours | 4000 (3000 to 5000) | 7.00 |  |\n|  | theirs | 1000 | 7.00 | 4.00 × |\n\n";
        assert_eq!(text, expected);
    }
}
