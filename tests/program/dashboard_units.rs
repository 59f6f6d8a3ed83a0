//! The dashboard's own sources, outside of any browser: their tests, and their types. The build had Node.js and npm, so these tests have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn dashboard() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}");
    said
}

#[test]
fn the_parts_that_know_no_browser_do_what_their_tests_say() {
    let tests: Vec<_> =
        files(&dashboard().join("tests")).into_iter().filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    assert!(!tests.is_empty());
    let said = succeeds(Command::new("node").args(["--test", "--test-reporter=tap"]).args(tests));
    assert!(said.contains("# fail 0") && !said.contains("# pass 0"), "{said}");
}

#[test]
fn the_types_agree() {
    let copy = tempfile::tempdir().expect("a folder");
    for part in [".", "page", "tests"] {
        fs::create_dir_all(copy.path().join(part)).expect("a folder");
        for file in files(&dashboard().join(part)) {
            fs::copy(&file, copy.path().join(part).join(file.file_name().expect("a name"))).expect("a copy");
        }
    }
    succeeds(
        Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]).current_dir(&copy),
    );
    succeeds(Command::new("node").args(["node_modules/typescript/bin/tsc", "-p", "."]).current_dir(&copy));
}
