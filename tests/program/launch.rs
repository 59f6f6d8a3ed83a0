//! `storeflow launch` from outside.

use crate::support::binary::{run, storeflow};

#[test]
fn a_mistyped_flag_is_one_message() {
    let ended = run(&mut storeflow(&["launch", "--processes", "2", "--jbo", "mall.toml"]));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--jbo") && !ended.err.contains("[0]"), "{}", ended.err);
}

#[test]
fn how_many_processes_must_be_said() {
    let ended = run(&mut storeflow(&["launch", "--job", "mall.toml", "--replay", "/none"]));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--processes N"), "{}", ended.err);
}

#[test]
fn the_first_failure_is_told_with_its_last_words() {
    let ended = run(&mut storeflow(&["launch", "--job", "/none.toml", "--processes", "2", "--replay", "/none"]));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    let quoted = ended.err.split_once("its last words:").expect("quoted").1;
    assert!(ended.err.contains("of 2 failed with exit code 2") && quoted.contains("    error: "), "{}", ended.err);
    assert!(ended.err.contains("[0] error: ") || ended.err.contains("[1] error: "), "{}", ended.err);
}
