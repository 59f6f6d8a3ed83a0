//! `storeflow launch` from outside: what it says of mistakes, what it does when its processes die, and when it dies itself.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::binary::{dataset, run, storeflow, succeed, text};
use crate::support::running::{Running, is_there, kill};

/// What is logged when all are started again.
const AGAIN: &str = "starting all again";

/// A launch of two processes over the small mall into a folder, at so many times real time.
fn launch(folder: &tempfile::TempDir, speed: &str, more: &[&str]) -> Command {
    let mall = dataset("mall-small");
    let (job, replay, out) = (text(&mall.join("mall.toml")), text(&mall), text(folder.path()));
    let usual = ["launch", "--processes", "2", "--workers", "1", "--job", &job, "--replay", &replay, "--data-dir", &out];
    storeflow(&[&usual[..], &["--speed", speed, "--checkpoint-interval", "1s"], more].concat())
}

/// Both processes of a launch, by their numbers, once they are there and none of them is of `before`.
fn processes(launched: &mut Running, before: &[u32]) -> Vec<u32> {
    launched.wait_with("two processes", |launched| {
        let children = launched.children();
        assert!(children.len() <= 2, "{children:?}");
        let of = |process: usize| children.iter().find(|(_, with)| with.contains(&format!("--process {process} ")));
        let pids = [of(0)?.0, of(1)?.0].to_vec();
        (!pids.iter().any(|pid| before.contains(pid))).then_some(pids)
    })
}

#[test]
fn a_killed_process_is_started_again_with_all_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut launched = Running::start(&mut launch(&folder, "7200", &[]));
    let first = processes(&mut launched, &[]);
    // In the middle of the run: six hours take three seconds.
    launched.wait("the history", |_| folder.path().join("mall/gen-000001/history").exists().then_some(()));
    kill(first[1]);
    let second = processes(&mut launched, &first);
    assert!(first.iter().all(|pid| !is_there(*pid)), "one of {first:?} was left behind");
    // While they find each other.
    kill(second[0]);
    processes(&mut launched, &[first, second].concat());
    launched.succeed();
    let log = launched.log();
    let killed: Vec<&str> = log.lines().filter(|line| line.contains(AGAIN)).collect();
    let says = |line: &str, words: [&str; 3]| words.iter().all(|word| line.contains(word));
    assert!(killed.len() == 2 && killed.iter().all(|line| line.contains("code=137")), "{log}");
    assert!(says(killed[0], ["process=1", "attempt=1", "delay=500ms"]), "{log}");
    assert!(says(killed[1], ["process=0", "attempt=2", "delay=1s"]), "{log}");
    let mall = dataset("mall-small");
    let (job, replay, out) = (text(&mall.join("mall.toml")), text(&mall), text(folder.path()));
    let verified = succeed(&["verify", "--job", &job, "--replay", &replay, "--data-dir", &out, "--history"]);
    assert!(verified.starts_with("exact"), "{verified}");
}

#[test]
fn processes_do_not_outlive_a_launcher_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut launched = Running::start(&mut launch(&folder, "60", &[]));
    let both = processes(&mut launched, &[]);
    launched.wait("the history", |_| folder.path().join("mall/gen-000001/history").exists().then_some(()));
    launched.signal(Signal::KILL);
    // Six hours at sixty times real time are six minutes, much longer than this waits.
    let deadline = Instant::now() + Duration::from_secs(60);
    while both.iter().any(|pid| is_there(*pid)) {
        assert!(Instant::now() < deadline, "one of {both:?} was left behind");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_may_pass_is_tried_as_often_as_was_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = run(&mut launch(&folder, "7200", &["--redis", "redis://127.0.0.1:1", "--restarts", "1"]));
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let again: Vec<&str> = ended.err.lines().filter(|line| line.contains(AGAIN)).collect();
    assert!(again.len() == 1 && again[0].contains("could not reach Redis"), "{}", ended.err);
    let quoted = ended.err.split_once("its last words:").expect("quoted").1;
    assert!(quoted.contains("127.0.0.1:1"), "{}", ended.err);
}

#[test]
fn a_stop_ends_the_wait_for_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut launched = Running::start(&mut launch(&folder, "7200", &["--redis", "redis://127.0.0.1:1"]));
    launched.wait("the third wait", |log| log.contains("attempt=3").then_some(()));
    launched.signal(Signal::TERM);
    assert_eq!(launched.end(), Some(3), "{}", launched.log());
    assert!(!launched.log().contains("attempt=5"), "{}", launched.log());
}

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
    assert!(!ended.err.contains(AGAIN), "what is to be mended is not started again\n{}", ended.err);
    assert!(ended.err.contains("of 2 failed with exit code 2") && quoted.contains("    error: "), "{}", ended.err);
    assert!(ended.err.contains("[0] error: ") || ended.err.contains("[1] error: "), "{}", ended.err);
}
