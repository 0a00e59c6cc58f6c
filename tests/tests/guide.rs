//! The guide and the code belong together: whatever is public and new must be explained there, and what it says of names, defaults
//! and ranges must be true. The code in the guide itself is run as doc tests of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use openconsensus::{Config, ConfigError, RequestNetworkLimits};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn chapter(name: &str) -> String {
    read(&format!("openconsensus/guide/{name}.md"))
}

/// The files of a folder, with all below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The source of all errors.
fn errors() -> String {
    let below = files(&root().join("openconsensus/src/error")).into_iter();
    let texts = below.map(|path| fs::read_to_string(path).unwrap());
    texts.fold(read("openconsensus/src/error.rs"), |all, text| all + "\n" + &text)
}

/// The names of the variants or public fields of an item that begins with `head`.
fn members(source: &str, head: &str) -> BTreeSet<String> {
    let head = format!("\n{head}");
    let (_, body) = source.split_once(&*head).unwrap_or_else(|| panic!("there is no `{head}`"));
    let (body, _) = body.split_once("\n}").expect("an item ends");
    let is_enum = head.contains("enum ");
    let members = body.lines().filter_map(|line| line.strip_prefix("    ")).filter_map(|line| {
        let line = if is_enum { line } else { line.strip_prefix("pub ")? };
        let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_name = name.starts_with(|c: char| if is_enum { c.is_uppercase() } else { c.is_lowercase() });
        is_name.then_some(name)
    });
    members.collect()
}

/// The cells of all rows of tables whose first cell is a name in code, by that name.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = line.split_once('`').expect("code ends");
        let cells = rest.split(" | ").skip(1).map(|cell| cell.trim_end_matches(" |").trim().to_owned());
        rows.insert(name.to_owned(), cells.collect());
    }
    rows
}

/// The part of a text under a heading, up to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) =
        text.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`"));
    rest.split("\n#").next().unwrap()
}

#[test]
fn every_chapter_is_shown_and_its_code_run() {
    let texts: BTreeSet<String> = files(&root().join("openconsensus/guide"))
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    for file in ["openconsensus/src/guide.rs", "tests/src/guide.rs"] {
        let source = read(file);
        let included: BTreeSet<String> = source
            .split("include_str!(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect();
        assert_eq!(included, texts, "{file}");
    }
}

#[test]
fn every_variant_of_every_error_has_a_row_and_no_row_is_out_of_date() {
    let (errors, guide) = (errors(), chapter("errors"));
    let network = read("openconsensus/src/network.rs");
    let enums = errors.lines().filter_map(|line| line.strip_prefix("pub enum "));
    let names: Vec<String> =
        enums.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect()).collect();
    assert!(9 < names.len(), "{names:?}");
    for name in names.iter().map(|name| &**name).chain(["NetworkError"]) {
        let source = if name == "NetworkError" { &network } else { &errors };
        let heading = if name == "Fatal" { "# Fatal".to_owned() } else { format!("## {name}") };
        let rows: BTreeSet<String> = rows(section(&guide, &heading)).into_keys().collect();
        assert_eq!(rows, members(source, &format!("pub enum {name}")), "errors.md, {heading}");
    }
    for field in members(&errors, "pub struct ConfigError") {
        assert!(section(&guide, "## ConfigError").contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn every_change_and_every_refusal_is_explained_in_the_chapter_on_membership() {
    let guide = chapter("membership");
    let changes = members(&read("openconsensus/src/membership.rs"), "pub enum MembershipChange");
    for name in changes {
        assert!(
            guide.contains(&format!("MembershipChange::{name})")),
            "membership.md does not explain {name}"
        );
    }
    let refusals = section(&guide, "# What the refusals mean");
    for name in members(&errors(), "pub enum ChangeMembershipError") {
        // These are no refusals, or not of this kind.
        if !["NotLeader", "StillCatchingUp", "Fatal"].contains(&&*name) {
            assert!(
                refusals.contains(&format!("`{name}`")),
                "membership.md does not explain the refusal {name}"
            );
        }
    }
}

#[test]
fn everything_that_metrics_show_is_explained() {
    let guide = chapter("observing");
    let mut missing = Vec::new();
    for file in files(&root().join("openconsensus/src/metrics")) {
        let source = fs::read_to_string(&file).unwrap();
        for line in source.lines().filter_map(|line| line.strip_prefix("pub struct ")) {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric()).collect();
            if line.contains('{') {
                let fields = members(&source, &format!("pub struct {name}"));
                missing.extend(
                    fields
                        .into_iter()
                        .filter(|field| !guide.contains(&format!("`{field}`")))
                        .map(|field| format!("{name}::{field}")),
                );
            }
        }
    }
    assert!(missing.is_empty(), "observing.md does not explain {missing:?}");
}

// ---- limits ------------------------------------------------------------------------------------------------------

/// A number as a value of a field.
trait FromNumber {
    fn from_number(number: u64) -> Self;
}

impl FromNumber for u64 {
    fn from_number(number: u64) -> Self {
        number
    }
}

impl FromNumber for Option<u64> {
    fn from_number(number: u64) -> Self {
        Some(number)
    }
}

type Set = fn(&mut Config, u64);

/// The fields of `Config` that hold numbers, with a function that sets each.
macro_rules! numbers {
    ($($field:ident),* $(,)?) => {
        BTreeMap::<&str, Set>::from([$((stringify!($field), (|config, number| config.$field = FromNumber::from_number(number)) as Set)),*])
    };
}

fn setters() -> BTreeMap<&'static str, Set> {
    numbers![
        append_bytes_max,
        apply_bytes_max,
        apply_entries_max,
        command_bytes_max,
        election_timeout_ms_max,
        election_timeout_ms_min,
        heartbeat_interval_ms,
        inflight_appends_max,
        inflight_bytes_max,
        commit_delay_ms_max,
        inputs_per_turn_max,
        idle_looks_max,
        lease_clock_drift_ppm_max,
        log_hold_entries_max,
        log_keep_bytes,
        log_keep_entries,
        metrics_interval_ms,
        promotion_lag_entries_max,
        read_timeout_ms,
        reads_waiting_max,
        receive_bytes_max,
        receive_urgent_bytes_max,
        requests_waiting_max,
        snapshot_after_bytes,
        snapshot_after_entries,
        snapshot_after_ms,
        snapshot_install_timeout_ms,
        snapshot_jitter_percent,
        snapshot_progress_timeout_ms,
        tail_bytes_max,
        transfer_timeout_ms,
        uncommitted_bytes_max,
        unreachable_backoff_ms_max,
        write_outcome_timeout_ms,
        write_stall_timeout_ms,
    ]
}

/// "1,000", "4 MiB" and the like.
fn number(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    let number: u64 = digits.replace(',', "").parse().ok()?;
    Some(number << shift)
}

/// A default as the chapter writes it, in the form of `Debug`.
fn default_of(cell: &str) -> String {
    let inner = cell.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')'));
    match (number(cell), inner.and_then(number)) {
        (Some(number), _) => number.to_string(),
        (None, Some(number)) => format!("Some({number})"),
        (None, None) => cell.to_owned(),
    }
}

/// Fields and values of a struct from its `Debug`.
fn fields_of(debug: &str) -> BTreeMap<String, String> {
    let (_, fields) = debug.split_once(" { ").unwrap();
    let fields = fields.trim_end_matches(" }").split(", ").map(|field| field.split_once(": ").unwrap());
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The rows of the chapter that have a default: of the fields of `Config`.
fn limits() -> BTreeMap<String, Vec<String>> {
    let guide = chapter("limits");
    let (_, tables) = guide.split_once("\n# Elections and liveness\n").expect("the tables begin there");
    rows(tables)
}

#[test]
fn every_field_of_the_configuration_has_a_row_with_its_default() {
    let told: BTreeMap<String, String> =
        limits().into_iter().map(|(name, cells)| (name, default_of(&cells[0]))).collect();
    assert_eq!(told, fields_of(&format!("{:?}", Config::default())));
}

#[test]
fn every_field_of_the_configuration_has_the_range_that_the_guide_says() {
    let (defaults, setters) = (fields_of(&format!("{:?}", Config::default())), setters());
    let numbers: BTreeSet<&str> = defaults
        .iter()
        .filter(|(_, value)| !["true", "false"].contains(&&***value))
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(numbers, setters.keys().copied().collect(), "the list of setters is out of date");
    let limits = limits();
    let refuses = |name: &str, value: u64| {
        let mut config = Config::default();
        setters[name](&mut config, value);
        config.validate().is_err_and(|error: ConfigError| error.name == name)
    };
    let mut checked = 0;
    for name in numbers {
        let range = limits[name][1].trim_end_matches(", or `None`");
        let (from, to) = match range.split_once(" to ") {
            Some((from, to)) => (from.trim_end_matches(','), to),
            None => (range.trim_end_matches(" or more"), ""),
        };
        let named = |text: &str| {
            let name =
                text.strip_prefix("at least `").unwrap_or(text.strip_prefix('`')?).strip_suffix('`')?;
            defaults[name].parse().ok()
        };
        if let Some(least) = number(from).or_else(|| named(from)) {
            checked += 1;
            assert!(!refuses(name, least), "{name}: {least} should be allowed, says limits.md: {range}");
            assert!(
                least == 0 || refuses(name, least - 1),
                "{name}: less than {least} is allowed, unlike in limits.md"
            );
        }
        if let Some(most) = number(to).or_else(|| named(to)) {
            checked += 1;
            assert!(!refuses(name, most), "{name}: {most} should be allowed, says limits.md: {range}");
            assert!(refuses(name, most + 1), "{name}: more than {most} is allowed, unlike in limits.md");
        }
        if range == "any" {
            assert!(!refuses(name, 0), "{name} may not be 0, unlike in limits.md");
        }
    }
    assert!(30 < checked, "only {checked} bounds could be read");
}

#[test]
fn the_documentation_of_each_limit_says_its_default() {
    let source = read("openconsensus/src/config.rs") + &read("openconsensus/src/request_network.rs");
    let mut defaults = fields_of(&format!("{:?}", Config::default()));
    defaults.extend(fields_of(&format!("{:?}", RequestNetworkLimits::default())));
    for (name, value) in defaults {
        let (before, _) = source.split_once(&format!("    pub {name}: ")).unwrap_or_else(|| panic!("{name}"));
        let doc: Vec<&str> = before.lines().rev().map_while(|line| line.trim().strip_prefix("///")).collect();
        let doc = doc.into_iter().rev().map(str::trim).collect::<Vec<_>>().join(" ");
        let (_, told) = doc
            .to_lowercase()
            .rsplit_once("default ")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap_or_else(|| panic!("{name} does not say its default"));
        let told = told.trim_start_matches('`').split(['.', ';', '`']).next().unwrap();
        let is_right = match number(&told.to_uppercase().replace("IB", "iB")) {
            Some(number) => value == number.to_string() || value == format!("Some({number})"),
            None => value.to_lowercase() == told,
        };
        assert!(is_right, "the default of {name} is {value}; its documentation says {told}");
    }
}
