//! Checks of the source text: architecture invariants, sizes, forbidden words, and documents that must not drift.
//!
//! Each check is a rule over one file and names the lines that break it. Each is also shown a sample that it must
//! catch and one that it must let pass, so that a rule that has gone blind is noticed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A file may have so many lines outside its tests.
const FILE_LINES_MAX: usize = 450;
/// A function outside tests may have so many lines.
const FUNCTION_LINES_MAX: usize = 70;

/// Files and functions that are over the limit, the lines that they may have, and why. Only ever shortened: an entry
/// that is not needed any more fails the check.
const OVERSIZE: &[(&str, usize, &str)] = &[];

/// Who else may call the log's write methods or touch the state machine, and why.
const RECOVERY: &[(&str, &str, &str)] = &[
    (RECOVER, ".applied_state(", "it asks how far the state machine has come"),
    (RECOVER, ".current_snapshot(", "it looks for a snapshot that the state machine could start from"),
    (RECOVER, ".install_snapshot(", "a volatile state machine starts from its own snapshot"),
    (RECOVER, ".truncate(", "a log that contradicts an installed snapshot is cut before the loops run"),
    (RECOVER, ".purge(", "a log that ends before an installed snapshot begins anew before the loops run"),
];
const RECOVER: &str = "openconsensus/src/driver/recover.rs";

/// What users of the core get with it. A dependency more is a decision, not an accident.
const CORE_DEPENDENCIES: &[&str] =
    &["anyerror", "bytes", "futures", "metrics-facade", "postcard", "serde", "thiserror", "tokio", "tracing"];
/// Those of them that only a feature brings in.
const CORE_OPTIONAL: &[&str] = &["metrics-facade", "postcard", "serde", "tokio"];

const README_COMMANDS: &[&str] = &["cargo run --release -p kv -- demo", "cargo test --workspace"];

// ---- architecture ------------------------------------------------------------------------------------------------

#[test]
fn the_engine_imports_nothing_of_the_driver_and_no_runtime() {
    const FOREIGN: &[&str] = &[
        "driver",
        "raft",
        "futures",
        "tokio",
        "async",
        "await",
        "async_std",
        "smol",
        "mpsc",
        "oneshot",
        "Mutex",
        "RwLock",
        "Condvar",
        "Atomic",
        "AsyncRuntime",
        "RaftNetwork",
        "RaftLogStorage",
        "RaftStateMachine",
        "spawn",
        "File",
        "TcpStream",
        "UdpSocket",
    ];
    fn rule(source: &Source, found: &mut Findings) {
        if source.is_under("openconsensus/src/engine/") {
            source.words(&source.code, FOREIGN, |word, line| {
                found.add(source, line, format!("`{word}` in the engine, which is pure"));
            });
        }
    }
    check(
        rule,
        &[
            ("openconsensus/src/engine/log.rs", "//! Log.\nuse crate::driver::limit::Limit;\n"),
            ("openconsensus/src/engine/log.rs", "//! Log.\nuse futures::Stream;\n"),
            ("openconsensus/src/engine/mod.rs", "//! Engine.\nuse crate::{entry::Index, raft::Raft};\n"),
            ("openconsensus/src/engine/mod.rs", "//! Engine.\nasync fn step() {}\n"),
        ],
        &[
            ("openconsensus/src/engine/log.rs", "//! The driver of tokio.\nuse crate::entry::Index;\n"),
            ("openconsensus/src/driver/mod.rs", "//! Driver.\nuse futures::Stream;\n"),
        ],
    );
}

#[test]
fn the_driver_compares_no_terms() {
    const OPERATORS: &[&str] = &[" < ", " > ", " <= ", " >= "];
    const METHODS: &[&str] = &[".cmp(", ".partial_cmp(", ".max(", ".min(", ".lt(", ".le(", ".gt(", ".ge("];
    fn is_term(operand: &str) -> bool {
        let parts = operand.split(|c: char| !c.is_alphanumeric());
        parts.map(str::to_lowercase).any(|part| part == "term" || part == "terms")
    }
    /// The piece of an expression that ends `before`, and the one that begins `after`, an operator.
    fn operands<'a>(before: &'a str, after: &'a str) -> (&'a str, &'a str) {
        const ENDS: &[char] = &[';', '{', '}', ',', '&', '|', '=', '('];
        let left = before.rfind(ENDS).map_or(before, |at| &before[at + 1..]);
        let right = after.find([';', '{', '}', ',', '&', '|', '=', ')']).map_or(after, |at| &after[..at]);
        (left, right)
    }
    fn rule(source: &Source, found: &mut Findings) {
        if !source.is_under("openconsensus/src/driver/") {
            return;
        }
        // An operator may begin a line.
        let code = source.code.replace('\n', " ");
        for operator in OPERATORS.iter().chain(METHODS) {
            for (at, _) in code.match_indices(operator) {
                let (left, right) = operands(&code[..at], &code[at + operator.len()..]);
                let line = source.line_at(at);
                if (is_term(left) || is_term(right)) && !source.is_test(line) {
                    let what = format!("`{}{operator}{}` compares terms", left.trim(), right.trim());
                    found.add(source, line, what);
                }
            }
        }
    }
    check(
        rule,
        &[
            ("openconsensus/src/driver/pending.rs", "//! Pending.\nfn f() { if a.term < b.term {} }\n"),
            (
                "openconsensus/src/driver/pending.rs",
                "//! Pending.\nfn f() -> bool { x && old_term\n >= term }\n",
            ),
            ("openconsensus/src/driver/pending.rs", "//! Pending.\nfn f() { let t = term.max(other); }\n"),
        ],
        &[
            (
                "openconsensus/src/driver/pending.rs",
                "//! Pending.\nfn f() { if a.index < b.index && a.term == t {} }\n",
            ),
            (
                "openconsensus/src/driver/pending.rs",
                "//! Pending.\nfn f(x: Vec<Term>) -> bool { terminal < 3 }\n",
            ),
            ("openconsensus/src/engine/log.rs", "//! Log.\nfn f() { if a.term < b.term {} }\n"),
        ],
    );
}

#[test]
fn only_the_runtime_file_knows_about_send_modes() {
    /// Whether `Send` at `at` of a line is a bound and not the variant of an enum.
    fn is_bound(text: &str, at: usize) -> bool {
        let (before, after) = (text[..at].trim(), &text[at + "Send".len()..]);
        let is_variant = before.ends_with("SnapshotEffect::") || before.ends_with("Self::");
        let is_declaration = before.is_empty() && after.trim_start().starts_with(['{', '(', ',']);
        !is_variant && !is_declaration
    }
    fn rule(source: &Source, found: &mut Findings) {
        if !source.is_under("openconsensus/src/") || source.path.ends_with("/src/runtime.rs") {
            return;
        }
        for (line, text) in source.lines(&source.code) {
            for (at, word) in identifiers(text).filter(|(_, word)| ["Send", "Sync"].contains(word)) {
                if is_bound(text, at) && !source.is_test(line) {
                    found.add(
                        source,
                        line,
                        format!("the bound `{word}` outside runtime.rs; say `Maybe{word}`"),
                    );
                }
            }
        }
        for (line, text) in source.lines(&source.uncommented) {
            if text.contains("single-threaded") && !source.is_test(line) {
                found.add(source, line, "the mode `single-threaded` outside runtime.rs");
            }
        }
    }
    check(
        rule,
        &[
            ("openconsensus/src/network.rs", "//! Network.\npub trait N: Send + 'static {}\n"),
            ("openconsensus/src/network.rs", "//! Network.\nfn f<T>()\nwhere\n    T: Sync {}\n"),
            (
                "openconsensus/src/raft/mod.rs",
                "//! Raft.\n#[cfg(feature = \"single-threaded\")]\nfn f() {}\n",
            ),
        ],
        &[
            ("openconsensus/src/runtime.rs", "//! Runtime.\npub trait MaybeSend: Send {}\n"),
            ("openconsensus/src/network.rs", "//! `Send`.\npub trait N: MaybeSend + 'static {}\n"),
            (
                "openconsensus/src/engine/effects.rs",
                "//! Effects.\nenum E {\n    Send {\n        id: u64,\n    },\n}\n",
            ),
            ("openconsensus/src/driver/mod.rs", "//! Driver.\nfn f() { SnapshotEffect::Send { id } }\n"),
        ],
    );
}

/// Finds calls of `methods` in the driver and the handle, outside `owner` and what recovery may do.
fn calls(source: &Source, found: &mut Findings, owner: &str, methods: &[&str], what: &str) {
    let is_driven =
        source.is_under("openconsensus/src/driver/") || source.is_under("openconsensus/src/raft/");
    if !is_driven || source.path.ends_with(owner) {
        return;
    }
    for (line, text) in source.lines(&source.code) {
        for method in methods {
            // `Vec::append` takes its argument by `&mut`.
            let is_call =
                text.match_indices(method).any(|(at, _)| !text[at + method.len()..].starts_with("&mut "));
            let in_recovery = RECOVERY.iter().any(|(path, call, _)| source.path == *path && call == method);
            if is_call && !in_recovery && !source.is_test(line) {
                found.add(source, line, format!("`{method}…)` outside {owner}: {what}"));
            }
        }
    }
}

#[test]
fn only_the_log_loop_writes_the_log() {
    fn rule(source: &Source, found: &mut Findings) {
        let methods = &[".save_hard_state(", ".append(", ".truncate(", ".purge("];
        calls(source, found, "driver/log_loop.rs", methods, "the log has one writer");
    }
    check(
        rule,
        &[
            (
                "openconsensus/src/driver/core_loop.rs",
                "//! Core.\nasync fn f() { log.append(entries, 3).await }\n",
            ),
            (
                "openconsensus/src/raft/mod.rs",
                "//! Raft.\nasync fn f() { self.log.save_hard_state(s).await }\n",
            ),
            ("openconsensus/src/driver/mod.rs", "//! Driver.\nasync fn f() { log.truncate(7).await }\n"),
        ],
        &[
            ("openconsensus/src/driver/core_loop.rs", "//! Core.\nfn f() { inbox.append(&mut more) }\n"),
            (
                "openconsensus/src/driver/log_loop.rs",
                "//! Log.\nasync fn f() { log.append(entries, 3).await }\n",
            ),
            (RECOVER, "//! Recovery.\nasync fn f() { log.purge(upto).await }\n"),
        ],
    );
}

#[test]
fn only_the_apply_loop_touches_the_state_machine() {
    fn rule(source: &Source, found: &mut Findings) {
        let methods =
            &[".apply(", ".build_snapshot(", ".current_snapshot(", ".install_snapshot(", ".applied_state("];
        calls(source, found, "driver/apply_loop.rs", methods, "the state machine has one owner");
    }
    check(
        rule,
        &[
            (
                "openconsensus/src/driver/core_loop.rs",
                "//! Core.\nasync fn f() { machine.apply(batch).await }\n",
            ),
            (
                "openconsensus/src/driver/snapshot.rs",
                "//! Snapshot.\nasync fn f() { m.current_snapshot().await }\n",
            ),
        ],
        &[
            (
                "openconsensus/src/driver/apply_loop.rs",
                "//! Apply.\nasync fn f() { machine.apply(batch).await }\n",
            ),
            (RECOVER, "//! Recovery.\nasync fn f() { machine.applied_state().await }\n"),
        ],
    );
}

#[test]
fn recovery_is_excused_only_with_a_reason() {
    for (path, call, reason) in RECOVERY {
        assert!(reason.len() > 20, "{path} may call {call}: say why");
    }
}

#[test]
fn engine_and_driver_are_deterministic() {
    const RANDOM: &[&str] =
        &["HashMap", "HashSet", "RandomState", "thread_rng", "rand", "fastrand", "getrandom"];
    fn rule(source: &Source, found: &mut Findings) {
        if !source.is_under("openconsensus/src/") || source.path.ends_with("/src/runtime.rs") {
            return;
        }
        for (line, text) in source.lines(&source.code) {
            for clock in ["Instant::now", "SystemTime::now", ".elapsed(", "thread::sleep"] {
                if text.contains(clock) && !source.is_test(line) {
                    found.add(source, line, format!("`{clock}`: the time comes from the runtime"));
                }
            }
            if text.replace("select_biased!", "").contains("select!") {
                found.add(
                    source,
                    line,
                    "`select!` shuffles with a generator of its own; use `select_biased!`",
                );
            }
        }
        source.words(&source.code, RANDOM, |word, line| {
            found.add(source, line, format!("`{word}` differs from run to run"));
        });
    }
    check(
        rule,
        &[
            ("openconsensus/src/engine/timer.rs", "//! Timer.\nfn f() { let now = Instant::now(); }\n"),
            ("openconsensus/src/driver/alarm.rs", "//! Alarm.\nfn f() { SystemTime::now() }\n"),
            ("openconsensus/src/driver/alarm.rs", "//! Alarm.\nfn f() { begun.elapsed() }\n"),
            ("openconsensus/src/driver/pending.rs", "//! Pending.\nuse std::collections::HashMap;\n"),
            ("openconsensus/src/driver/core_loop.rs", "//! Core.\nfn f() { futures::select! {} }\n"),
            ("openconsensus/src/engine/rng.rs", "//! Rng.\nfn f() { rand::random() }\n"),
            ("openconsensus/src/driver/mod.rs", "//! Driver.\nfn f() { std::thread::sleep(d) }\n"),
        ],
        &[
            ("openconsensus/src/driver/core_loop.rs", "//! No select! here.\nfn f() { select_biased! {} }\n"),
            (
                "openconsensus/src/engine/timer.rs",
                "//! Timer.\n#[cfg(test)]\nmod tests {\n fn f() { Instant::now() }\n}\n",
            ),
            ("examples/kv/src/main.rs", "//! Kv.\nuse std::collections::HashMap;\n"),
        ],
    );
}

#[test]
fn tokio_stays_behind_its_feature() {
    fn rule(source: &Source, found: &mut Findings) {
        if source.is_under("openconsensus/src/") && !source.path.ends_with("/src/runtime.rs") {
            source.words(&source.code, &["tokio"], |_, line| {
                if !source.is_test(line) {
                    found.add(source, line, "tokio outside runtime.rs: the core runs on any executor");
                }
            });
        }
        if source.path != "openconsensus/Cargo.toml" {
            return;
        }
        for (line, text) in source.section("[dependencies]") {
            let name = text.split(['.', ' ', '=']).next().unwrap_or_default();
            if !CORE_DEPENDENCIES.contains(&name) {
                found.add(
                    source,
                    line,
                    format!("`{name}` is not among the dependencies that the core may have"),
                );
            }
            if CORE_OPTIONAL.contains(&name) && !text.contains("optional = true") {
                found.add(source, line, format!("`{name}` must be optional"));
            }
        }
        for (line, text) in source.section("[features]") {
            if text.starts_with("default") && text.replace(' ', "") != "default=[]" {
                found.add(source, line, "the core has no default features");
            }
        }
    }
    check(
        rule,
        &[
            ("openconsensus/src/driver/mod.rs", "//! Driver.\nfn f() { tokio::spawn(x) }\n"),
            ("openconsensus/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"),
            ("openconsensus/Cargo.toml", "[dependencies]\nrand = \"1\"\n"),
            ("openconsensus/Cargo.toml", "[features]\ndefault = [\"tokio\"]\n"),
        ],
        &[
            ("openconsensus/src/runtime.rs", "//! Runtime.\nfn f() { tokio::spawn(x) }\n"),
            ("openconsensus/Cargo.toml", "[dependencies]\ntokio = { workspace = true, optional = true }\n"),
            ("openconsensus/Cargo.toml", "[dev-dependencies]\nmaplit.workspace = true\n"),
        ],
    );
}

// ---- sizes and form ----------------------------------------------------------------------------------------------

fn is_oversize(name: &str, lines: usize, limit: usize) -> bool {
    let excused = OVERSIZE.iter().find(|(entry, ..)| *entry == name).map_or(limit, |(_, lines, _)| *lines);
    lines > excused
}

#[test]
fn files_hold_one_idea() {
    fn rule(source: &Source, found: &mut Findings) {
        let lines = source.lines(&source.text).filter(|(line, _)| !source.is_test(*line)).count();
        if source.is_rust() && is_oversize(&source.path, lines, FILE_LINES_MAX) {
            found.add(
                source,
                1,
                format!("{lines} lines outside tests, at most {FILE_LINES_MAX}: two ideas share a room"),
            );
        }
    }
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(FILE_LINES_MAX));
    let tests =
        format!("//! Long.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(FILE_LINES_MAX));
    check(
        rule,
        &[("memstore/src/long.rs", &long)],
        &[("memstore/src/long.rs", &tests), ("memstore/tests/long.rs", &long)],
    );
}

#[test]
fn functions_fit_a_screen() {
    fn rule(source: &Source, found: &mut Findings) {
        for (name, line, lines) in source.functions() {
            let entry = format!("{}::{name}", source.path);
            if !source.is_test(line) && is_oversize(&entry, lines, FUNCTION_LINES_MAX) {
                found.add(source, line, format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    let long = format!("//! Long.\nfn long() {{\n{}}}\n", "    f();\n".repeat(FUNCTION_LINES_MAX));
    let short =
        format!("//! Short.\nfn short(a: [u8; 4]) {{\n{}}}\n", "    f();\n".repeat(FUNCTION_LINES_MAX - 2));
    let declared =
        format!("//! Trait.\ntrait T {{\n    fn f(&self);\n{}}}\n", "    const X: u8;\n".repeat(80));
    let path = "memstore/src/long.rs";
    check(rule, &[(path, &long)], &[(path, &short), (path, &declared), ("memstore/tests/long.rs", &long)]);
}

#[test]
fn an_excuse_for_size_is_needed_and_explained() {
    let sources = workspace();
    for (entry, limit, reason) in OVERSIZE {
        assert!(reason.len() > 20, "{entry}: say why it cannot be shorter");
        let path = entry.split("::").next().unwrap_or_default();
        let source = sources.iter().find(|source| source.path == path);
        let source = source.unwrap_or_else(|| panic!("{entry} is excused and does not exist"));
        let actual = match entry.split_once("::") {
            None => source.lines(&source.text).filter(|(line, _)| !source.is_test(*line)).count(),
            Some((_, name)) => {
                source.functions().iter().filter(|f| f.0 == name).map(|f| f.2).max().unwrap_or_default()
            }
        };
        let usual = if entry.contains("::") { FUNCTION_LINES_MAX } else { FILE_LINES_MAX };
        assert!(actual > usual, "{entry} has {actual} lines now: take it from the list");
        assert!(actual == *limit, "{entry} has {actual} lines now: set its limit of {limit} to that");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore", "should_panic"];
    fn rule(source: &Source, found: &mut Findings) {
        if source.is_rust() {
            for (line, text) in source.lines(&source.code) {
                for word in UNFINISHED.iter().filter(|word| text.contains(**word)) {
                    found.add(source, line, format!("`{word}`"));
                }
            }
        }
    }
    check(
        rule,
        &[
            ("memstore/src/a.rs", "//! A.\nfn f() { todo!() }\n"),
            ("memstore/src/a.rs", "//! A.\nfn f() { unimplemented!(\"later\") }\n"),
            ("memstore/src/a.rs", "//! A.\nfn f() { dbg!(1); }\n"),
            ("memstore/tests/a.rs", "//! A.\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n"),
            ("memstore/tests/a.rs", "//! A.\n#[test]\n#[should_panic]\nfn f() {}\n"),
        ],
        &[("memstore/src/a.rs", "//! No todo!() here.\nfn f() { print(\"dbg!\") }\n")],
    );
}

#[test]
fn tests_wait_for_conditions_and_do_not_sleep() {
    fn rule(source: &Source, found: &mut Findings) {
        let is_harness = source.is_under("tests/src/");
        for ((line, code), text) in source.lines(&source.code).zip(source.text.split('\n')) {
            let sleeps = ["thread::sleep", "time::sleep(", " sleep("].iter().any(|call| code.contains(call));
            // The comment says that the sleep sets a pace and that nothing is expected to have happened after it.
            let paces = text.contains("// paces");
            if source.is_rust() && (is_harness || source.is_test(line)) && sleeps && !paces {
                found.add(source, line, "sleeps in a test; wait for a condition with a deadline");
            }
        }
    }
    let path = "memstore/tests/a.rs";
    check(
        rule,
        &[
            (path, "//! A.\nfn f() { std::thread::sleep(d); }\n"),
            (path, "//! A.\nasync fn f() { tokio::time::sleep(d).await; }\n"),
            ("memstore/src/a.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    fn f() { thread::sleep(d); }\n}\n"),
        ],
        &[
            (path, "//! A.\nasync fn f() { tokio::time::sleep(d).await; } // paces the writers\n"),
            ("memstore/src/a.rs", "//! A.\nfn f() { thread::sleep(d); }\n"),
        ],
    );
}

#[test]
fn text_is_clean() {
    fn rule(source: &Source, found: &mut Findings) {
        for (line, text) in source.lines(&source.text) {
            if text.ends_with([' ', '\t', '\r']) {
                found.add(source, line, "space at the end of the line");
            }
            if source.is_rust() && text.contains('\t') {
                found.add(source, line, "a tab");
            }
        }
        if !source.text.is_empty() && !source.text.ends_with('\n') {
            found.add(source, source.line_at(source.text.len()), "no newline at the end of the file");
        }
    }
    check(
        rule,
        &[
            ("a.md", "text \n"),
            ("a.md", "text\r\n"),
            ("memstore/src/a.rs", "//! A.\n\tfn f() {}\n"),
            ("a.md", "no newline"),
        ],
        &[("a.md", "text\n"), ("a.md", "")],
    );
}

#[test]
fn every_rust_file_says_what_it_is() {
    fn rule(source: &Source, found: &mut Findings) {
        if source.is_rust() && !source.text.starts_with("//! ") {
            found.add(source, 1, "begins without a `//!` line that says what the file is for");
        }
    }
    check(
        rule,
        &[("memstore/src/a.rs", "use std::io;\n")],
        &[("memstore/src/a.rs", "//! A.\nuse std::io;\n")],
    );
}

#[test]
fn the_project_speaks_of_itself_only() {
    // In halves, so that this file does not trip over itself. A space at an end stands for the end of a word.
    const HALVES: &[(&str, &str)] = &[
        ("/wo", "rk/"),
        ("../sha", "red"),
        ("/tmp/", "wt"),
        ("/tmp/", "ready"),
        ("assis", "tant"),
        ("anthro", "pic"),
        ("clau", "de"),
        ("chat", "gpt"),
        ("cop", "ilot"),
        ("language ", "model"),
        ("sand", "box"),
        ("co-authored", "-by"),
        ("issue ", "#"),
    ];
    fn rule(source: &Source, found: &mut Findings) {
        for (line, text) in source.lines(&source.text) {
            let text = text.to_lowercase();
            for word in HALVES.iter().map(|(a, b)| format!("{a}{b}")).filter(|word| text.contains(word)) {
                found.add(source, line, format!("`{word}` has no place in this project"));
            }
        }
    }
    let path_of_a_machine = format!("see /wo{}\n", "rk/main");
    let word = format!("Written by an Assis{}.\n", "tant");
    check(
        rule,
        &[("a.md", &path_of_a_machine), ("memstore/src/a.rs", &word)],
        &[("a.md", "The network works; it assists.\n")],
    );
}

#[test]
fn every_crate_takes_its_form_from_the_workspace() {
    const LINES: &[&str] = &[
        "version.workspace = true",
        "edition.workspace = true",
        // From the workspace, or a later one that a dependency asks for.
        "\nrust-version",
        "license.workspace = true",
        "description = ",
        "[lints]\nworkspace = true",
    ];
    fn rule(source: &Source, found: &mut Findings) {
        if source.path.ends_with("/Cargo.toml") {
            for line in LINES.iter().filter(|line| !source.text.contains(**line)) {
                found.add(source, 1, format!("`{line}` is missing"));
            }
        }
    }
    let right = LINES.join("\n");
    check(
        rule,
        &[("memstore/Cargo.toml", &right.replace("license.workspace = true", "license = \"MIT\""))],
        &[("memstore/Cargo.toml", &right)],
    );
}

// ---- documents ---------------------------------------------------------------------------------------------------

#[test]
fn the_readme_has_two_commands() {
    fn rule(source: &Source, found: &mut Findings) {
        if source.path == "README.md" {
            let blocks = fenced(&source.text, "sh");
            let commands: Vec<&str> = blocks
                .iter()
                .flat_map(|block| block.lines())
                .filter(|line| line.starts_with("cargo "))
                .collect();
            if commands != README_COMMANDS {
                found.add(
                    source,
                    1,
                    format!("the commands to run are {commands:?}, not {README_COMMANDS:?}"),
                );
            }
        }
        if source.path == ".ci/run" && !source.text.lines().any(|line| line.ends_with(README_COMMANDS[1])) {
            found.add(source, 1, format!("does not run `{}` as the README says it", README_COMMANDS[1]));
        }
    }
    let right = format!("# A\n\n```sh\n{}\n```\n\n```sh\n{}\n```\n", README_COMMANDS[0], README_COMMANDS[1]);
    check(
        rule,
        &[
            ("README.md", &right.replace("test", "bench")),
            ("README.md", &format!("{right}```sh\ncargo build\n```\n")),
            (".ci/run", "cargo test\n"),
        ],
        &[("README.md", &right), (".ci/run", "gate tests cargo test --workspace\n")],
    );
}

#[test]
fn the_readme_asks_for_the_rust_version_that_the_workspace_needs() {
    let manifest = read("Cargo.toml");
    let version = manifest.split_once("\nrust-version = \"").and_then(|(_, rest)| rest.split_once('"'));
    let (version, _) = version.expect("the workspace names a Rust version");
    assert!(
        read("README.md").contains(&format!("Rust {version} or later")),
        "README.md does not say Rust {version}"
    );
}

#[test]
fn the_readme_shows_the_counter_as_it_is() {
    let example = read("examples/counter/src/main.rs");
    let readme = read("README.md");
    let shown = fenced(&readme, "rust");
    assert_eq!(shown.len(), 1, "the README shows one program");
    assert!(
        shown[0] == example,
        "README.md does not show examples/counter/src/main.rs as it stands: copy it again"
    );
    let lines_of = |program: &str| {
        program.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
    };
    let lines = lines_of(&example);
    assert!(lines < 60, "the shortest complete use has {lines} lines, and should have fewer than 60");
    let lines = lines_of(&read("examples/counter/src/bin/minimal_kv.rs"));
    assert!(
        lines < 150,
        "the key-value store of one's own has {lines} lines; README.md promises fewer than 150"
    );
}

#[test]
fn the_code_map_names_every_file_of_the_core_and_no_other() {
    let map = read("ARCHITECTURE.md");
    let files: BTreeSet<String> = workspace()
        .iter()
        .filter(|source| source.is_under("openconsensus/src/") && !source.is_test(1))
        .map(|source| source.path.replace("openconsensus/src/", ""))
        .collect();
    let named: BTreeSet<String> = mapped(&map);
    let missing: Vec<_> = files.difference(&named).collect();
    let gone: Vec<_> = named.difference(&files).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md, code map: say in one sentence what {missing:?} are for");
    assert!(gone.is_empty(), "ARCHITECTURE.md, code map: {gone:?} do not exist");
    let sample = mapped(
        "## Code map\n\n| file | what |\n| --- | --- |\n| `a/b.rs` | B. |\n\n## Next\n| `c.rs` | C. |\n",
    );
    assert_eq!(sample, BTreeSet::from(["a/b.rs".to_owned()]));
}

/// The files that the table of the core under "Code map" has a row for.
fn mapped(document: &str) -> BTreeSet<String> {
    let map = document.split("\n## ").find(|part| part.trim_start_matches("## ").starts_with("Code map"));
    let rows = map.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`'))
        .map(|(file, _)| file.to_owned())
        .filter(|f| f.ends_with(".rs"))
        .collect()
}

/// The contents of the fenced blocks of a language.
fn fenced(document: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```").is_some_and(|tag| tag == language) {
            let block = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(block.map(|line| format!("{line}\n")).collect());
        } else if line.starts_with("```") {
            // A block of another language, to its end.
            lines.by_ref().take_while(|line| *line != "```").for_each(drop);
        }
    }
    blocks
}

// ---- how rules are run -------------------------------------------------------------------------------------------

type Rule = fn(&Source, &mut Findings);

/// What rules have found: lines, each with its place.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, source: &Source, line: usize, what: impl AsRef<str>) {
        self.0.push(format!("{}:{line}: {}", source.path, what.as_ref()));
    }
}

/// Runs `rule` over every file of the workspace, and over samples: each of `bad` must be caught, none of `good`.
fn check(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    let on = |path: &str, text: &str| {
        let mut found = Findings::default();
        rule(&Source::new(path, text), &mut found);
        found.0
    };
    for (path, text) in bad {
        assert!(!on(path, text).is_empty(), "the rule does not catch this sample of {path}:\n{text}");
    }
    for (path, text) in good {
        assert_eq!(
            on(path, text),
            Vec::<String>::new(),
            "the rule must let this sample of {path} pass:\n{text}"
        );
    }
    let mut found = Findings::default();
    for source in workspace() {
        rule(source, &mut found);
    }
    assert!(found.0.is_empty(), "{} places break the rule:\n{}", found.0.len(), found.0.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the workspace, in order of path.
fn workspace() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(load);
    &SOURCES
}

fn load() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root(), String::new(), &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "only {} files found: the workspace is elsewhere", paths.len());
    let texts = paths.iter().filter_map(|path| Some((path, fs::read_to_string(root().join(path)).ok()?)));
    let mut sources: Vec<Source> = texts.map(|(path, text)| Source::new(path, &text)).collect();
    let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let is_module = |module: &String| {
            source.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if test_modules.iter().any(is_module) {
            source.tests.fill(true);
        }
    }
    sources
}

/// Collects the files under `folder`, but neither what is built, nor what is hidden, nor the bytes of fuzz targets.
fn walk(folder: &Path, path: String, paths: &mut Vec<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder that was listed can be read");
        let name = entry.file_name().into_string().expect("file names are UTF-8");
        let is_hidden = name.starts_with('.') && name != ".ci" && name != ".gitignore";
        if is_hidden || name == "target" || name == "corpus" {
            continue;
        }
        let below = if path.is_empty() { name } else { format!("{path}/{name}") };
        if entry.file_type().expect("a listed file has a type").is_dir() {
            walk(&entry.path(), below, paths);
        } else {
            paths.push(below);
        }
    }
}

/// A file, and what rules ask of it. Lines are counted from 1.
struct Source {
    /// From the root of the workspace, with `/`.
    path: String,
    text: String,
    /// `text` with comments blanked; every character keeps its line.
    uncommented: String,
    /// `text` with comments and the insides of literals blanked.
    code: String,
    /// For every line of `code` where it begins.
    line_starts: Vec<usize>,
    /// For every line whether it belongs to a test.
    tests: Vec<bool>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let is_rust = path.ends_with(".rs");
        let (uncommented, code) = if is_rust { blanked(text) } else { (text.to_owned(), text.to_owned()) };
        let in_tests = path.contains("/tests/") || path.contains("/benches/");
        let mut tests = vec![in_tests; text.lines().count() + 1];
        for (first, last, _) in test_items(&code) {
            tests[first - 1..last].fill(true);
        }
        let line_starts = std::iter::once(0).chain(code.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.to_owned(), text: text.to_owned(), uncommented, code, line_starts, tests }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    fn is_test(&self, line: usize) -> bool {
        self.tests[line - 1]
    }

    fn lines<'a>(&self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        (1..).zip(text.split('\n')).take(self.tests.len() - 1)
    }

    /// The line of a place in `code`.
    fn line_at(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// Calls `on` for each line of `text` that has one of `words` as a whole identifier.
    fn words(&self, text: &str, words: &[&'static str], mut on: impl FnMut(&'static str, usize)) {
        for (line, text) in self.lines(text) {
            for word in words.iter().filter(|word| identifiers(text).any(|(_, name)| name == **word)) {
                on(word, line);
            }
        }
    }

    /// The lines of a section of a manifest that say something.
    fn section<'a>(&'a self, header: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let inside = self.lines(&self.text).skip_while(move |(_, text)| *text != header).skip(1);
        let inside = inside.take_while(|(_, text)| !text.starts_with('['));
        inside.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
    }

    /// Every function with a body: its name, its first line, and how many it has.
    fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut functions = Vec::new();
        let mut names = identifiers(&self.code).peekable();
        while let Some((at, word)) = names.next() {
            // In the type `fn(u64)` no name follows.
            let Some((name_at, name)) = names.peek().copied().filter(|_| self.is_rust() && word == "fn")
            else {
                continue;
            };
            if self.code[at + 2..name_at].trim().is_empty()
                && let Some((_, end)) = body(&self.code, at)
            {
                let (first, last) = (self.line_at(at), self.line_at(end));
                functions.push((name.to_owned(), first, last - first + 1));
            }
        }
        functions
    }

    /// The paths, without `.rs`, of the modules that this file declares for tests only.
    fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let folder = match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        let declared = test_items(&self.code).into_iter().filter_map(|(first, last, item)| {
            let name = item.rsplit_once("mod ")?.1.strip_suffix(';')?.trim().to_owned();
            let lines = self.lines(&self.uncommented).filter(|(line, _)| (first..=last).contains(line));
            let path = lines
                .filter_map(|(_, text)| Some(text.split_once("#[path = \"")?.1.split_once(".rs\"")?.0))
                .next();
            Some(match path {
                Some(path) => format!("{}/{path}", self.path.rsplit_once('/')?.0),
                None => format!("{folder}/{name}"),
            })
        });
        declared.collect()
    }
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The identifiers and keywords of a text, each with its place.
fn identifiers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !is_part(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// The items that are compiled for tests only: first line, last line, and their head.
fn test_items(code: &str) -> Vec<(usize, usize, String)> {
    let mut items = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let attribute = &code[at..at + code[at..].find(']').map_or(0, |end| end + 1)];
        let is_test = identifiers(attribute).any(|(_, word)| word == "test");
        if !is_test || identifiers(attribute).any(|(_, word)| word == "not") {
            continue;
        }
        let after = at + attribute.len();
        let (head_end, end) = body(code, after).unwrap_or_else(|| {
            let end = code[after..].find(';').map_or(code.len(), |semicolon| after + semicolon + 1);
            (end, end)
        });
        items.push((line_at(code, at), line_at(code, end), code[after..head_end].trim().to_owned()));
    }
    items
}

/// The braces that follow `from`: where they begin and where they end. `None` when the item ends without a body.
fn body(code: &str, from: usize) -> Option<(usize, usize)> {
    let (mut depth, mut begin) = (0_i64, None);
    for (at, c) in code[from..].char_indices().map(|(at, c)| (from + at, c)) {
        match c {
            ';' if depth == 0 => return None,
            '{' if depth == 0 && begin.is_none() => begin = Some(at),
            _ => {}
        }
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if c == '}'
            && depth == 0
            && let Some(begin) = begin
        {
            return Some((begin, at));
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// `text` without its comments, and without the insides of literals too. What is left out becomes spaces; lines and the
/// quotes of literals stay.
fn blanked(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut uncommented = String::with_capacity(text.len());
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (kind, end) = span(&chars, at);
        for (place, c) in (at..).zip(&chars[at..end]) {
            let is_edge = place == at || place + 1 == end;
            let is_code = kind == Kind::Code || kind == Kind::Literal && is_edge || *c == '\n';
            code.push(if is_code { *c } else { ' ' });
            uncommented.push(if is_code || kind == Kind::Literal { *c } else { ' ' });
        }
        at = end;
    }
    (uncommented, code)
}

/// What begins at `at`, and where it ends.
fn span(chars: &[char], at: usize) -> (Kind, usize) {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let find = |from: usize, end: &[char]| {
        let place = chars[from.min(chars.len())..].windows(end.len()).position(|window| window == end);
        place.map_or(chars.len(), |place| from + place + end.len())
    };
    let follows_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let raw = usize::from(next(0) == 'b') + 1;
    match next(0) {
        '/' if next(1) == '/' => (Kind::Comment, find(at, &['\n']).max(at + 1)),
        '/' if next(1) == '*' => (Kind::Comment, find(at + 2, &['*', '/'])),
        'r' | 'b' if !follows_name && next(raw - 1) == 'r' && matches!(next(raw), '"' | '#') => {
            let hashes = chars[at + raw..].iter().take_while(|c| **c == '#').count();
            if next(raw + hashes) != '"' {
                return (Kind::Code, at + 1);
            }
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            (Kind::Literal, find(at + raw + hashes + 1, &end))
        }
        '"' => (Kind::Literal, quoted(chars, at, '"')),
        '\'' if next(1) == '\\' || next(2) == '\'' => (Kind::Literal, quoted(chars, at, '\'')),
        _ => (Kind::Code, at + 1),
    }
}

/// The end of a literal that begins with `quote` at `at` and may have escapes.
fn quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let text = "a // b\nc /* d\n */ e \"f \\\" g\" 'h' '\\'' &'i j r#\"k \" l\"# br\"m\" n\n";
    let (uncommented, code) = blanked(text);
    assert!(uncommented.contains("f \\\" g") && !uncommented.contains("// b"));
    let names: Vec<&str> = identifiers(&code).map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "c", "e", "i", "j", "r", "b", "n"]);
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn test_code_is_told_from_the_rest() {
    let text = "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(not(test))]\nfn c() {}\n#[cfg(test)]\nmod d;\n";
    let source = Source::new("memstore/src/e.rs", text);
    let tests: Vec<usize> = (1..=10).filter(|line| source.is_test(*line)).collect();
    assert_eq!(tests, [3, 4, 5, 6, 9, 10]);
    assert_eq!(source.test_modules(), ["memstore/src/e/d"]);
    let elsewhere = "//! A.\n#[cfg(test)]\n#[path = \"f_tests.rs\"]\nmod tests;\n";
    assert_eq!(Source::new("memstore/src/f.rs", elsewhere).test_modules(), ["memstore/src/f_tests"]);
    assert_eq!(source.functions(), [("a".into(), 2, 1), ("b".into(), 5, 1), ("c".into(), 8, 1)]);
}
