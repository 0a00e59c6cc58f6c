//! The example of an application that tests its own store is as short as is said of it.

#[test]
fn an_application_tests_its_own_store_in_under_sixty_lines() {
    let program = include_str!("../../examples/own_store/main.rs");
    let lines =
        program.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(lines < 60, "the example has {lines} lines, and should have fewer than 60");
}
