//! The real binary in folders of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The folder of a dataset in the repository.
pub(crate) fn dataset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(name)
}

/// A command of the program, with no input and an environment without its own variables.
pub(crate) fn storeflow(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storeflow"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOREFLOW_")) {
        command.env_remove(name);
    }
    command
}

/// What a command printed and how it ended; never a panic.
pub(crate) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let ended = Ended { code: status.code(), out: text(stdout), err: text(stderr) };
    assert!(!ended.err.contains("panicked") && !ended.err.contains("stack backtrace"), "{}", ended.err);
    ended
}

/// Runs a command that must succeed; its output.
pub(crate) fn succeed(args: &[&str]) -> String {
    let Ended { code, out, err } = run(&mut storeflow(args));
    assert_eq!(code, Some(0), "storeflow {args:?}\n{out}{err}");
    out
}

/// Runs a command that the user must be told something by: exit code 2, and one message that holds all of `words`.
pub(crate) fn refuse(args: &[&str], words: &[&str]) {
    let Ended { code, out, err } = run(&mut storeflow(args));
    assert_eq!(code, Some(2), "storeflow {args:?}\n{out}{err}");
    for word in words {
        assert!(err.contains(word), "storeflow {args:?} says nothing of {word:?}:\n{err}");
    }
}

/// A path as text.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
