//! A copy of the workspace that may be broken.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of what git knows of the workspace, changes that are not committed included.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Brings the copy in `root` up to date. Files that are equal are left alone, so that cargo need not build them
    /// again.
    pub(crate) fn of(workspace: &Path, root: &Path, target: &Path) -> Result<Self, Box<dyn Error>> {
        let list = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(workspace)
            .output()?;
        if !list.status.success() {
            return Err(
                format!("git cannot list the files: {}", String::from_utf8_lossy(&list.stderr)).into()
            );
        }
        let copy = Self { root: root.to_path_buf(), target: target.to_path_buf() };
        for file in String::from_utf8(list.stdout)?.split_terminator('\0') {
            let from = workspace.join(file);
            // A file that was removed and is not committed yet is still listed.
            if !from.is_file() {
                continue;
            }
            let (text, to) = (fs::read(&from)?, root.join(file));
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::create_dir_all(to.parent().expect("a file stands in a folder"))?;
                fs::write(to, text)?;
            }
        }
        Ok(copy)
    }

    pub(crate) fn read(&self, file: &str) -> Result<String, Box<dyn Error>> {
        Ok(fs::read_to_string(self.root.join(file))?)
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> Result<(), Box<dyn Error>> {
        Ok(fs::write(self.root.join(file), text)?)
    }

    /// A cargo command in the copy.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env!("CARGO"));
        // What cargo sets for this program must not reach the one that it starts.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}
