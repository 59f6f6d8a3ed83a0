//! What a checkpoint is made of is damaged while nobody runs: it is found by name, made up for from the checkpoint before, or
//! refused with what to do.
//!
//! Upholds: nothing is shown that was not committed, and nothing that is older than what was shown; the end is exact.

use std::fs;
use std::time::Duration;

use crate::crash::Replay;
use crate::support::binary::{Ended, dataset, run, succeed, text};
use crate::support::chance::{Chance, seeds};
use crate::support::kept::{Damage, Kept};
use crate::support::redis;
use crate::support::running::Running;
use crate::support::watch::Watch;

const ALL: [Damage; 3] = [Damage::Flipped, Damage::Cut, Damage::Missing];

/// Ends with exit code 2 and one message that holds all of `words`; leaves everything as it was.
fn refused(replay: &Replay, workers: usize, words: &[&str]) {
    let before = (replay.kept().newest_number(), replay.kept().history());
    let Ended { code, out, err } = run(&mut replay.command(workers, &[]));
    assert_eq!(code, Some(2), "{out}{err}");
    let message = err.lines().find(|line| line.starts_with("error: ")).expect("a message");
    for word in words {
        assert!(message.contains(word), "nothing of {word:?}:\n{message}");
    }
    assert!(before == (replay.kept().newest_number(), replay.kept().history()), "a refused run leaves all as it was");
}

/// Starts a run of two workers that makes up for damage; nothing is shown before it has committed a checkpoint of its own,
/// none of which is before `committed`. The run, once it has.
fn makes_up(kept: &Kept, command: &mut std::process::Command, object: &str) -> Running {
    let (newest, history) = (kept.newest_number(), kept.history());
    let committed = kept.newest().as_of;
    let before = kept.log().read(newest - 1).expect("readable").manifest;
    let mut running = Running::start(command);
    loop {
        // In this order: what is shown is committed before.
        let (shown, number) = (kept.history(), kept.newest_number());
        if number > newest {
            break;
        }
        assert!(shown == history, "history is shown before it is committed\n{}", running.log());
        assert!(running.goes_on(), "{}", running.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    let log = running.log();
    let says = |line: &str| line.contains("going on from the checkpoint before") && line.contains(object);
    assert!(log.lines().any(says), "{object} is not named\n{log}");
    let next = kept.log().read(newest + 1).expect("readable").manifest;
    assert!(next.as_of >= committed, "{} after {committed}", next.as_of);
    assert_eq!(next.previous_as_of, before.as_of, "it holds all that the damaged one may not have shown");
    running
}

#[test]
fn damaged_state_is_named_and_made_up_for() {
    for seed in seeds(3, 60) {
        let (mut chance, replay) = (Chance::of(seed), Replay::new());
        let kept = replay.kept();
        replay.run_and_kill(2, 4, &[]);
        let newest = kept.newest();
        // Only the newest checkpoint names it.
        let object = newest.fresh[chance.below(newest.fresh.len())].key.clone();
        let damage = ALL[seed as usize % ALL.len()];
        damage.to(&kept.object(&object), chance.below(1 << 20));
        println!("{damage:?}: {object} of checkpoint {}", newest.number);
        for workers in [1, 3] {
            refused(&replay, workers, &[&object, "with as many workers as wrote it", "start with 2"]);
        }
        makes_up(&kept, &mut replay.command(2, &[]), &object).succeed();
        replay.verify();
    }
}

#[test]
fn a_run_that_is_stopped_while_it_makes_up_takes_nothing_back() {
    let Some(redis) = redis::redis("a_run_that_is_stopped_while_it_makes_up_takes_nothing_back") else { return };
    let (mut replay, url, mall) = (Replay::new(), redis.url(), dataset("mall-small"));
    replay.interval = "1s";
    let (kept, more) = (replay.kept(), ["--redis", &*url]);
    let watch = Watch::start(&redis.settings(), &url, &mall.join("mall.toml"), &mall);
    replay.run_and_kill(2, 2, &more);
    let newest = kept.newest();
    let history = kept.history();
    Damage::Flipped.to(&kept.object(&newest.fresh[0].key), 100);
    // Once as soon as it has begun, when most of two hours are still to be made up for.
    let mut running = Running::start(&mut replay.command(2, &more));
    running.wait("the checkpoint before", |log| log.contains("going on from a checkpoint").then_some(()));
    running.stop();
    assert_eq!(kept.newest_number(), newest.number, "nothing older than the newest is committed\n{}", running.log());
    assert!(kept.history() == history, "nor shown");
    replay.finish(2, &more);
    watch.judge();
    replay.verify();
    replay.verify_redis(&url);
}

#[test]
fn a_bit_is_missed_nowhere_in_an_object() {
    let mut replay = Replay::new();
    // With a second between checkpoints, two hours of the log, each has history to show as well.
    replay.interval = "1s";
    let kept = replay.kept();
    replay.run_and_kill(2, 2, &[]);
    let newest = kept.newest();
    for object in &newest.fresh {
        let path = kept.object(&object.key);
        let whole = fs::read(&path).expect("readable");
        // The first eight bytes, name and version, are there again at the end, which is where they are looked for.
        for place in (0..20).map(|part| 8 + part * (whole.len() - 9) / 19) {
            Damage::Flipped.to(&path, place);
            refused(&replay, 3, &[&object.key, "is damaged", "start with 2"]);
            fs::write(&path, &whole).expect("written");
        }
    }
    replay.finish(3, &[]);
    replay.verify();
}

#[test]
fn a_view_in_redis_waits_while_damage_is_made_up_for() {
    for seed in seeds(2, 30) {
        let Some(redis) = redis::redis("a_view_in_redis_waits_while_damage_is_made_up_for") else { return };
        let (mut chance, mut replay) = (Chance::of(seed), Replay::new());
        // With a second between checkpoints there is something to make up for.
        replay.interval = ["1s", "0s"][seed as usize % 2];
        let (kept, url, mall) = (replay.kept(), redis.url(), dataset("mall-small"));
        let watch = Watch::start(&redis.settings(), &url, &mall.join("mall.toml"), &mall);
        let more = ["--redis", &*url];
        replay.run_and_kill(2, 3, &more);
        let object = kept.newest().fresh[chance.below(kept.newest().fresh.len())].key.clone();
        chance.one_of(&ALL).to(&kept.object(&object), chance.below(1 << 20));
        let committed = kept.newest().as_of;
        let before = kept.log().read(kept.newest_number() - 1).expect("readable").manifest.as_of;
        println!("{object}: from {before} to {committed}");
        // Once it is killed in the middle of it, and once it may go on.
        let mut running = Running::start(&mut replay.command(2, &more));
        std::thread::sleep(chance.up_to_ms(150));
        running.crash();
        replay.finish(2, &more);
        watch.judge();
        replay.verify();
        replay.verify_redis(&url);
    }
}

#[test]
fn what_makes_up_for_damage_may_be_killed_and_another_number_of_workers_goes_on() {
    let (mut chance, replay) = (Chance::of(1), Replay::new());
    let kept = replay.kept();
    replay.run_and_kill(2, 4, &[]);
    let object = kept.newest().fresh[0].key.clone();
    Damage::Flipped.to(&kept.object(&object), chance.below(1 << 20));
    for _ in 0..3 {
        let mut running = Running::start(&mut replay.command(2, &[]));
        std::thread::sleep(chance.up_to_ms(100));
        running.crash();
    }
    if kept.newest().fresh[0].key == object {
        makes_up(&kept, &mut replay.command(2, &[]), &object).crash();
    }
    replay.finish(3, &[]);
    replay.verify();
}

#[test]
fn with_all_kept_state_damaged_nothing_is_begun() {
    let (mut chance, replay) = (Chance::of(2), Replay::new());
    let kept = replay.kept();
    replay.run_and_kill(2, 4, &[]);
    let newest = kept.newest();
    for number in &newest.kept {
        let manifest = kept.log().read(*number).expect("readable").manifest;
        for object in manifest.state.iter().chain(&manifest.fresh) {
            let path = kept.object(&object.key);
            if path.exists() {
                Damage::Missing.to(&path, chance.below(1 << 20));
            }
        }
    }
    let object = &newest.state[0].key;
    refused(&replay, 2, &[object, "no checkpoint before", "backup", "--generation"]);
}

#[test]
fn a_damaged_manifest_is_refused_and_the_way_back_is_exact() {
    for (seed, damage) in [(3, Damage::Flipped), (4, Damage::Cut)] {
        let (mut chance, replay) = (Chance::of(seed), Replay::new());
        let kept = replay.kept();
        replay.run_and_kill(2, 4, &[]);
        let newest = kept.newest();
        let before = kept.log().read(newest.number - 1).expect("readable").manifest;
        let manifest = kept.manifest(newest.number);
        damage.to(&manifest, chance.below(1 << 20));
        refused(&replay, 2, &[&text(&manifest), "is damaged", "checkpoints list", "drop-after"]);
        let out = replay.out();
        succeed(&["checkpoints", "drop-after", &before.as_of.to_string(), "--yes", "--job-name", "mall", "--data-dir", &out]);
        replay.finish(1, &[]);
        replay.verify();
    }
}
