//! A cluster from Kafka into Redis and a folder whose processes are killed again and again, with somebody who reads the view all
//! the time.
//!
//! ```text
//! Kafka ─► launch: process 0, process 1 ─► folder, Redis ◄── reader
//!            └── kill -9 of any of the three, at moments chosen by a seed; then again, with one process or two
//! ```
//!
//! Upholds: whoever reads never sees anything go back, nor a number that is not exact; the end is exact everywhere.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::binary::storeflow;
use crate::support::chance::{Chance, seeds};
use crate::support::kept::{Damage, Kept};
use crate::support::malls::Mall;
use crate::support::redis::{self, Redis};
use crate::support::running::{Running, is_there, kill_if_there};
use crate::support::services::{Kind, Service, shared};
use crate::support::watch::Watch;

/// Seconds of work.
const SMALL: [&str; 8] = ["--payments", "1500", "--clicks", "6000", "--products", "300", "--partitions", "2"];

/// A mall's job from Kafka into Redis and the mall's folder `out`: three hours in six seconds.
fn flags(mall: &Mall, kafka: &Service, redis: &Redis) -> Vec<String> {
    let (job, out, url) = (mall.job(), mall.dir("out"), redis.url());
    let flags = ["--workers", "1", "--job", &job, "--brokers", kafka.address(), "--until-end", "--store", &out, "--redis", &url];
    flags.into_iter().chain(["--tick", "10s", "--speed", "1800", "--checkpoint-interval", "0s"]).map(str::to_owned).collect()
}

fn launch(processes: usize, flags: &[String]) -> Running {
    let processes = processes.to_string();
    let flags: Vec<&str> = ["launch", "--processes", &processes].into_iter().chain(flags.iter().map(String::as_str)).collect();
    Running::start(&mut storeflow(&flags))
}

fn watch(mall: &Mall, redis: &Redis) -> Watch {
    Watch::start(&redis.settings(), &redis.url(), Path::new(&mall.job()), Path::new(&mall.whole()))
}

fn verify_both(mall: &Mall, redis: &Redis) {
    mall.verify(&["--redis", &redis.url()]);
    mall.verify(&["--store", &mall.dir("out"), "--history"]);
}

/// Waits so long, or until it ends; whether it goes on.
fn goes_on_for(running: &mut Running, time: Duration) -> bool {
    let began = Instant::now();
    while running.goes_on() && began.elapsed() < time {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.goes_on()
}

/// Kills the launcher; its processes notice. Its exit code, if it had ended by itself.
fn crash_all(launched: &mut Running) -> Option<i32> {
    let children = launched.children();
    let code = launched.crash();
    let deadline = Instant::now() + Duration::from_secs(60);
    while children.iter().any(|(pid, _)| is_there(*pid)) {
        assert!(Instant::now() < deadline, "one of {children:?} was left behind");
        std::thread::sleep(Duration::from_millis(5));
    }
    code
}

#[test]
fn a_cluster_that_is_killed_again_and_again_takes_nothing_back() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    for seed in seeds(2, 60) {
        let Some(redis) = redis::redis("a_cluster_that_is_killed_again_and_again_takes_nothing_back") else { return };
        let mut chance = Chance::of(seed);
        let mall = Mall::generate("crashed", &SMALL);
        mall.produce("whole", &kafka);
        let (flags, watch) = (flags(&mall, &kafka, &redis), watch(&mall, &redis));
        let kept = Kept::of(Path::new(&mall.dir("out")), &mall.name);
        let mut ended = false;
        // From one process to two and back, or the other way.
        for turn in 0..3 {
            let processes = 1 + (seed as usize + turn) % 2;
            let mut launched = launch(processes, &flags);
            // Processes die, and the launcher starts all again; then it dies itself.
            for _ in 0..2 {
                if !goes_on_for(&mut launched, chance.up_to_ms(2_500)) {
                    break;
                }
                let children = launched.children();
                if children.is_empty() {
                    continue;
                }
                let (pid, _) = children[chance.below(children.len())];
                println!("{processes} processes, checkpoint {}: killing one", kept.newest_number());
                kill_if_there(pid);
            }
            ended = !goes_on_for(&mut launched, chance.up_to_ms(2_000));
            ended |= crash_all(&mut launched) == Some(0);
            println!("{processes} processes, checkpoint {}: launcher killed, or over: {ended}", kept.newest_number());
            if ended {
                break;
            }
        }
        if !ended {
            launch(1 + chance.below(2), &flags).succeed();
        }
        watch.judge();
        verify_both(&mall, &redis);
    }
}

#[test]
fn a_view_that_is_behind_by_many_checkpoints_catches_up() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(mut redis) = redis::redis("a_view_that_is_behind_by_many_checkpoints_catches_up") else { return };
    let mall = Mall::generate("behind", &SMALL);
    mall.produce("whole", &kafka);
    let (flags, watch) = (flags(&mall, &kafka, &redis), watch(&mall, &redis));
    let kept = Kept::of(Path::new(&mall.dir("out")), &mall.name);
    let mut launched = launch(1, &flags);
    launched.wait_with("checkpoints", |_| (kept.newest_number() >= 5).then_some(()));
    redis.stop_saving();
    let then = kept.newest_number();
    // The run commits on while nobody can see it.
    launched.wait_with("three more checkpoints", |_| (kept.newest_number() >= then + 4).then_some(()));
    launched.crash();
    redis.start();
    let mut launched = launch(2, &flags);
    launched.succeed();
    watch.judge();
    verify_both(&mall, &redis);
}

#[test]
fn damaged_state_of_one_process_is_made_up_for_by_all() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    for seed in seeds(1, 30) {
        let Some(redis) = redis::redis("damaged_state_of_one_process_is_made_up_for_by_all") else { return };
        let mut chance = Chance::of(seed);
        let mall = Mall::generate("damaged", &SMALL);
        mall.produce("whole", &kafka);
        let (flags, watch) = (flags(&mall, &kafka, &redis), watch(&mall, &redis));
        let kept = Kept::of(Path::new(&mall.dir("out")), &mall.name);
        let mut launched = launch(2, &flags);
        launched.wait_with("checkpoints", |_| (kept.newest_number() >= 5).then_some(()));
        crash_all(&mut launched);
        let newest = kept.newest();
        let object = &newest.fresh[chance.below(newest.fresh.len())].key;
        let damage = chance.one_of(&[Damage::Flipped, Damage::Cut, Damage::Missing]);
        damage.to(&kept.object(object), chance.below(1 << 20));
        println!("{damage:?}: {object} of checkpoint {}", newest.number);
        let mut alone = launch(1, &flags);
        let (code, log) = (alone.end(), alone.log());
        assert!(code == Some(2) && log.contains("start with 2 over all processes") && log.contains(object), "{code:?}\n{log}");
        let mut launched = launch(2, &flags);
        launched.succeed();
        let log = launched.log();
        assert!(log.contains("going on from the checkpoint before") && log.contains(object), "{log}");
        watch.judge();
        verify_both(&mall, &redis);
    }
}
