//! Which versions of other crates a program was built with.

/// The version of a crate in the text of a `Cargo.lock`, which a benchmark includes when it is built. The first one, if there
/// are several.
///
/// # Panics
///
/// If the crate is not in it: what a result says of its peers must be true.
pub fn version_in(lock_file: &str, name: &str) -> String {
    let line = format!("name = \"{name}\"\nversion = \"");
    let (_, after) =
        lock_file.split_once(&line).unwrap_or_else(|| panic!("no crate {name} in the lock file"));
    after.split('"').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_behind_the_name() {
        let text = "[[package]]\nname = \"raft-engine\"\nversion = \"0.4.2\"\n\n[[package]]\nname = \"raft\"\nversion = \"0.7.0\"\n";
        assert_eq!(version_in(text, "raft"), "0.7.0");
        assert_eq!(version_in(text, "raft-engine"), "0.4.2");
    }
}
