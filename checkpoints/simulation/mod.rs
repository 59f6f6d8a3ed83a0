//! The whole protocol at the level of the store, with everything that can stop it, at every place it can be stopped.
//!
//! ```text
//! seed ─► World (records, store, view, time) ◄── Cluster runs: crash at step n │ paused at step n │ several at once, with faults
//!            └── twin: every as-of that the view shows is recomputed from the records, at each change
//! ```
//!
//! Every decision comes from the printed seed, so a failure is repeated by putting its seed into `REGRESSIONS`, where it then stays.
//! `STOREFLOW_LONG=1` runs hundreds of seeds instead of a few.

mod cluster;
mod turns;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cluster::{Repaired, Start, Stop, run};
use turns::Turns;
use world::{Dice, PREFIX, World};

use crate::log::Log;
use crate::objects::Objects;
use crate::testing::{Fault, Process};

/// Seeds that failed once, with what they found.
const REGRESSIONS: [u64; 1] = [
    // Two damaged checkpoints, one after the other: the earlier one's manifest named another to go back to, whose objects were
    // collected since.
    36,
];

/// Seeds of a test: a few, or many.
fn seeds(few: u64, many: u64) -> impl Iterator<Item = u64> {
    let long = std::env::var("STOREFLOW_LONG").is_ok_and(|value| value == "1");
    REGRESSIONS.into_iter().chain(1..=if long { many } else { few })
}

/// Says which seed it was if the test fails.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

/// The `nth` run of a seed's world.
fn start(seed: u64, nth: u64) -> Start {
    let mut dice = Dice::new(seed, 1 + nth);
    let (workers, keep) = (1 + dice.below(3) as usize, 1 + dice.below(4) as usize);
    Start { run: format!("run{nth}"), workers, keep, dice }
}

fn process(world: &Arc<World>, faults: BTreeMap<u64, Fault>) -> Arc<Process> {
    let time = Arc::clone(world);
    world.store.process_with(faults, Box::new(move |_| _ = time.tick()))
}

/// A run that nothing disturbs ends the input.
fn finish(world: &Arc<World>, start: Start) {
    let run = start.run.clone();
    cluster::run(world, &process(world, BTreeMap::new()), start).expect("nothing disturbs the last run");
    world.check_end();
    // What earlier runs left is gone, if this one committed anything.
    if world.manifests().last().is_some_and(|newest| newest.run == run) {
        let left: Vec<String> = world.unnamed().into_iter().filter(|key| !key.contains(&run)).collect();
        assert_eq!(left, [""; 0], "nobody needs them");
    }
}

#[test]
fn a_crash_at_every_step() {
    for seed in seeds(2, 100) {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let mut step = 0;
            loop {
                let _told = Told(format!("seed {seed}, {fault:?} at step {step}"));
                let world = World::new(seed);
                let first = process(&world, BTreeMap::from([(step, fault)]));
                match run(&world, &first, start(seed, 0)) {
                    Err(Stop::Failed) => {}
                    // In a collection the run may have gone on to its end.
                    Ok(_) if step >= first.steps() => break,
                    other => panic!("{other:?} at a crash"),
                }
                world.check_store();
                // The next run crashes somewhere, too: mostly while it loads and shows what the first one left.
                let mut dice = Dice::new(seed ^ step << 32, 99);
                let crash = BTreeMap::from([(dice.below(40), fault)]);
                match run(&world, &process(&world, crash), start(seed, 1 + step)) {
                    Ok(_) | Err(Stop::Failed) => {}
                    other => panic!("{other:?} without another run"),
                }
                world.check_store();
                finish(&world, start(seed, 2 + step));
                step += 1;
            }
            println!("seed {seed}: {fault:?} at each of {step} steps");
        }
    }
}

#[test]
fn a_stale_process_wakes_up_at_every_step() {
    for seed in seeds(2, 100) {
        let mut step = 0;
        let mut fenced = 0;
        loop {
            let _told = Told(format!("seed {seed}, paused at step {step}"));
            let world = World::new(seed);
            // While it is paused another cluster runs to the end of the input.
            let public = Arc::new(Mutex::new(None));
            let (meanwhile, before) = (Arc::clone(&world), Arc::clone(&public));
            let gate = move |at| {
                meanwhile.tick();
                if at == step {
                    finish(&meanwhile, start(seed, 1 + step));
                    *before.lock().expect("one thread") = Some(meanwhile.public());
                }
            };
            let stale = world.store.process_with(BTreeMap::new(), Box::new(gate));
            let outcome = run(&world, &stale, start(seed, 0));
            if stale.steps() <= step {
                outcome.expect("nobody disturbed it");
                break;
            }
            let public = public.lock().expect("one thread").take().expect("the other has run");
            assert_eq!(public, world.public(), "a stale process changed something");
            match outcome {
                Ok(_) => assert!(world.manifests().last().is_some_and(|newest| newest.run == "run0" || step < 3)),
                Err(Stop::Superseded | Stop::Overtaken(_)) => fenced += 1,
                Err(Stop::Failed) => panic!("nothing fails here"),
            }
            world.check_end();
            step += 1;
        }
        assert!(fenced > step / 2, "seed {seed}: only {fenced} of {step} were fenced");
        println!("seed {seed}: woken up at each of {step} steps, fenced {fenced} times");
    }
}

/// What goes wrong in one run of a disturbed world.
fn faults(dice: &mut Dice) -> BTreeMap<u64, Fault> {
    let mut faults = BTreeMap::new();
    for _ in 0..dice.below(4) {
        let fault = match dice.below(6) {
            0 => Fault::CrashBefore,
            1 => Fault::CrashAfter,
            2 => Fault::Refused,
            3 => Fault::AnswerLost,
            4 => Fault::RequestLost,
            _ => Fault::Late(dice.below(60)),
        };
        faults.insert(dice.below(300), fault);
    }
    faults
}

#[test]
fn clusters_at_once_with_faults_bad_disks_and_an_operator() {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds(120, 10_000) {
        let _told = Told(format!("seed {seed}"));
        let world = World::new(seed);
        let mut dice = Dice::new(seed, 77);
        let mut nth = 0;
        for _ in 0..1 + dice.below(3) {
            let clusters = 1 + dice.below(3) as usize;
            let turns = Arc::new(Turns::new(Dice::new(seed, 1000 + nth), clusters));
            std::thread::scope(|scope| {
                let mut handles = Vec::new();
                for cluster in 0..clusters {
                    nth += 1;
                    let (start, faults) = (start(seed, nth), faults(&mut dice));
                    let (world, turns) = (&world, Arc::clone(&turns));
                    handles.push(scope.spawn(move || {
                        let (time, gate) = (Arc::clone(world), Arc::clone(&turns));
                        let pass = move |_| {
                            gate.pass(cluster);
                            time.tick();
                        };
                        let process = world.store.process_with(faults, Box::new(pass));
                        turns.run(cluster, || run(world, &process, start))
                    }));
                }
                for handle in handles {
                    let outcome = match handle.join().expect("a run does not panic") {
                        Ok(Repaired(true)) => "repaired",
                        Ok(Repaired(false)) => "ended",
                        Err(Stop::Failed) => "failed",
                        Err(Stop::Superseded) => "superseded",
                        Err(Stop::Overtaken(what)) => {
                            assert!(clusters > 1, "nobody else was there, and {what}");
                            "overtaken"
                        }
                    };
                    *outcomes.entry(outcome).or_default() += 1;
                }
            });
            world.check_store();
            if dice.one_in(3) {
                damage(&world, &mut dice);
            }
            if dice.one_in(3) {
                *outcomes.entry(go_back(&world, &mut dice, nth)).or_default() += 1;
            }
        }
        finish_late(&world, start(seed, nth + 1));
    }
    println!("{outcomes:?}");
    for outcome in ["ended", "repaired", "failed", "superseded", "overtaken", "went back"] {
        assert!(outcomes.contains_key(outcome), "never {outcome}: {outcomes:?}");
    }
}

/// The last run of a world in which requests may arrive late, at times as its own: it starts again when superseded by one.
fn finish_late(world: &Arc<World>, last: Start) {
    let again = Start { run: format!("{}-again", last.run), dice: Dice::new(1, 1), ..last };
    match run(world, &process(world, BTreeMap::new()), last) {
        Ok(_) => {}
        Err(Stop::Superseded | Stop::Overtaken(_)) => {
            run(world, &process(world, BTreeMap::new()), again).expect("nothing is left to arrive");
        }
        Err(Stop::Failed) => panic!("nothing fails here"),
    }
    world.check_end();
}

/// A bit of one of the kept objects flips.
fn damage(world: &World, dice: &mut Dice) {
    let kept: Vec<String> = world.kept().into_iter().collect();
    if let Some(key) = kept.get(dice.below(kept.len() as u64) as usize) {
        world.store.damage(key, |bytes| {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
        });
    }
}

/// An operator goes back to an earlier checkpoint, perhaps with a fault, and has the view rebuilt.
fn go_back(world: &Arc<World>, dice: &mut Dice, nth: u64) -> &'static str {
    let Some(newest) = world.manifests().pop() else { return "nothing to go back to" };
    let number = newest.kept[dice.below(newest.kept.len() as u64) as usize];
    let faults = if dice.one_in(2) { BTreeMap::new() } else { BTreeMap::from([(dice.below(6), Fault::CrashAfter)]) };
    let process = process(world, faults) as Arc<dyn Objects>;
    let restored = Log::open(process, PREFIX, "mall", 1).drop_after(number, &format!("operator{nth}"), world.tick());
    // The view shows more than the job knows now: it would refuse to start.
    world.reset_view();
    world.check_store();
    match restored {
        Ok(read) => {
            assert_eq!(read.manifest.as_of, world.manifests().last().map_or(0, |newest| newest.as_of));
            "went back"
        }
        Err(error) => {
            assert!(error.is_outage(), "{error}");
            "going back failed"
        }
    }
}
