//! The places of the documents at which figures stand.

use openconsensus_bench::{Failure, Machine, Report, Run};

use crate::charts::CHARTS;
use crate::results::{BENCHMARKS, Results};
use crate::tables;
use crate::targets::TARGETS;

const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end of figures -->";

/// The text with the figures of all places replaced.
///
/// # Errors
///
/// When a place has no end, or nobody knows what belongs there.
pub(crate) fn filled(text: &str, figures: impl Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(BEGIN) {
        let (name, behind) = behind.split_once(" -->\n").ok_or("a place for figures has no name")?;
        let (_, behind) = behind.split_once(END).ok_or_else(|| format!("the place for {name} has no end"))?;
        let figures = figures(name).ok_or_else(|| format!("nobody knows what belongs at {name}"))?;
        filled.push_str(&format!("{before}{BEGIN}{name} -->\n\n{}\n\n{END}", figures.trim()));
        rest = behind;
    }
    Ok(filled + rest)
}

/// What belongs at a place.
pub(crate) fn figures(results: &Results, place: &str) -> Option<String> {
    match place {
        "runs" | "headlines" if results.all().is_empty() => Some("Not measured yet.".into()),
        "runs" => Some(runs(results)),
        "targets" => Some(targets(results)),
        "headlines" => Some(headlines(results)),
        benchmark if BENCHMARKS.contains(&benchmark) => Some(match results.of(benchmark) {
            Some(report) => charts(results, benchmark) + &tables::of(report),
            None => "Not measured yet.".into(),
        }),
        _ => None,
    }
}

/// Which machine, when, and with which commands.
fn runs(results: &Results) -> String {
    let mut machines: Vec<&Machine> = Vec::new();
    for report in results.all() {
        if !machines.contains(&&report.run.machine) {
            machines.push(&report.run.machine);
        }
    }
    let mut text = String::new();
    for Machine { processor, cores, memory_bytes, kernel } in machines {
        let memory = memory_bytes >> 30;
        text.push_str(&format!(
            "Machine: {cores} cores of {processor}, {memory} GiB of memory, Linux {kernel}.\n\n"
        ));
    }
    let head = ["benchmark", "when", "commit", "rounds", "command", "compared with", "disk"];
    text.push_str(&tables::row(&head.map(str::to_owned)));
    text.push_str(&tables::row(&head.map(|_| "---".to_owned())));
    for Report { benchmark, run, .. } in results.all() {
        let Run { date, command, commit, rustc, rounds, seconds, versions, disk, .. } = run;
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let rustc = rustc.split(" (").next().unwrap_or_default();
        let disk =
            disk.as_ref().map_or("none".into(), |disk| format!("{} on {}", disk.filesystem, disk.device));
        text.push_str(&tables::row(&[
            benchmark.clone(),
            date.clone(),
            commit.clone(),
            format!("{rounds} of {seconds} s"),
            format!("`{command}`"),
            format!("{}{rustc}", versions.iter().map(|version| format!("{version}, ")).collect::<String>()),
            disk,
        ]));
    }
    text
}

fn targets(results: &Results) -> String {
    let mut text = String::from("| what | target | reached | |\n| --- | --- | --- | --- |\n");
    for target in TARGETS {
        let (reached, is_met) = match target.reached(results) {
            Some(reached) => (target.shown(&reached), if reached.is_met { "met" } else { "**missed**" }),
            None => ("not measured yet".into(), ""),
        };
        text.push_str(&tables::row(&[target.what.into(), target.bound(), reached, is_met.into()]));
    }
    text
}

/// The ratios that were measured, without their targets.
fn headlines(results: &Results) -> String {
    let mut text = String::from(
        "| in one interleaved run, medians; the worst case where there are several | ratio |\n| --- | --- |\n",
    );
    for target in TARGETS {
        if let Some(reached) = target.reached(results) {
            text.push_str(&tables::row(&[target.what.into(), target.shown(&reached)]));
        }
    }
    text
}

fn charts(results: &Results, benchmark: &str) -> String {
    let drawn = |report: &Report| -> String {
        let charts =
            CHARTS.iter().filter(|chart| chart.benchmark == benchmark && chart.chart(report).is_some());
        charts.map(|chart| format!("![{}](tests/bench/charts/{}.svg)\n\n", chart.title, chart.name)).collect()
    };
    results.of(benchmark).map(drawn).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_take_the_place_of_what_stood_there() {
        let text = "a\n<!-- figures: x -->\nold\n<!-- end of figures -->\nb\n";
        let figures = |name: &str| (name == "x").then(|| "new\n".to_owned());
        let once = filled(text, figures).unwrap();
        assert_eq!(once, "a\n<!-- figures: x -->\n\nnew\n\n<!-- end of figures -->\nb\n");
        assert_eq!(filled(&once, figures).unwrap(), once);
        assert!(filled("<!-- figures: y -->\n<!-- end of figures -->", figures).is_err());
        assert!(filled("<!-- figures: x -->\n", figures).is_err());
    }

    #[test]
    fn every_benchmark_has_its_place_in_the_document() {
        let document = include_str!("../../../../../BENCHMARKS.md");
        for place in BENCHMARKS.iter().chain(&["runs", "targets"]) {
            assert!(document.contains(&format!("{BEGIN}{place} -->")), "{place}");
        }
        assert!(include_str!("../../../../../README.md").contains(&format!("{BEGIN}headlines -->")));
    }
}
