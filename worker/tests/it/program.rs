//! Runs the program.

use std::path::Path;
use std::process::{Command, Output};

/// What the program said, and how it ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `prosector` in `folder` with nothing of ours in the environment but `variables`.
pub(crate) fn prosector_with(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prosector"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROSECTOR__") {
            command.env_remove(name);
        }
    }
    let output: Output =
        command.args(args).current_dir(folder).envs(variables.iter().copied()).output().unwrap();
    Run {
        code: output.status.code().expect("not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `prosector` in `folder`.
pub(crate) fn prosector(folder: &Path, args: &[&str]) -> Run {
    prosector_with(folder, args, &[])
}
