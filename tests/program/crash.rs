//! A run over a dataset that is killed again and again, at moments chosen by a seed, and started again with other numbers of
//! workers.
//!
//! ```text
//! start ─► early, any time, state uploaded, manifest there ─► kill -9 ─► start ─► … ─► the end ─► verify
//! ```
//!
//! Upholds: whatever is killed when, the end is exact, history and all, and no file of the history that was there is gone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::binary::{dataset, storeflow, succeed, text};
use crate::support::chance::{Chance, seeds};
use crate::support::kept::Kept;
use crate::support::running::Running;

/// The small mall, six hours, into a folder.
pub(crate) struct Replay {
    folder: tempfile::TempDir,
    pub(crate) job: PathBuf,
    /// From one checkpoint to the next, at least. Without a wait there are dozens in a second.
    pub(crate) interval: &'static str,
}

impl Replay {
    pub(crate) fn new() -> Replay {
        Replay { folder: tempfile::tempdir().expect("a folder"), job: dataset("mall-small").join("mall.toml"), interval: "0s" }
    }

    /// The job file is a copy of the mall's with these lines in place of those.
    pub(crate) fn change(&mut self, changes: &[(&str, &str)]) {
        let mut job = fs::read_to_string(dataset("mall-small").join("mall.toml")).expect("a job");
        for (from, to) in changes {
            assert!(job.contains(from), "the job has no {from}");
            job = job.replacen(from, to, 1);
        }
        self.job = self.folder.path().join("changed.toml");
        fs::write(&self.job, job).expect("written");
    }

    pub(crate) fn kept(&self) -> Kept {
        Kept::of(&self.folder.path().join("out"), "mall")
    }

    pub(crate) fn out(&self) -> String {
        text(&self.folder.path().join("out"))
    }

    /// The arguments of a run that takes three seconds.
    pub(crate) fn args(&self, workers: usize, more: &[&str]) -> Vec<String> {
        let (job, replay, out, workers) = (text(&self.job), text(&dataset("mall-small")), self.out(), workers.to_string());
        let usual = ["run", "--job", &job, "--replay", &replay, "--data-dir", &out, "--workers", &workers];
        let slow = ["--speed", "7200", "--checkpoint-interval", self.interval];
        [&usual[..], &slow, more].concat().into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn command(&self, workers: usize, more: &[&str]) -> Command {
        let args = self.args(workers, more);
        storeflow(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs until there are so many checkpoints, and is killed then.
    pub(crate) fn run_and_kill(&self, workers: usize, checkpoints: u64, more: &[&str]) {
        let (kept, mut running) = (self.kept(), Running::start(&mut self.command(workers, more)));
        running.wait_with("checkpoints", |_| (kept.newest_number() >= checkpoints).then_some(()));
        running.crash();
    }

    /// Runs to the end.
    pub(crate) fn finish(&self, workers: usize, more: &[&str]) {
        Running::start(&mut self.command(workers, more)).succeed();
    }

    /// The end is exact.
    pub(crate) fn verify(&self) {
        self.verify_at(&["--data-dir", &self.out(), "--history"]);
    }

    /// So is the view in Redis.
    pub(crate) fn verify_redis(&self, url: &str) {
        self.verify_at(&["--redis", url]);
    }

    fn verify_at(&self, place: &[&str]) {
        let (job, replay) = (text(&self.job), text(&dataset("mall-small")));
        let verified = succeed(&[&["verify", "--job", &job, "--replay", &replay][..], place].concat());
        assert!(verified.contains("exact: ") && !verified.contains("NOT"), "{verified}");
    }
}

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After so long; soon: while it finds out what there is, and loads it.
    After(Duration),
    /// Once it has written state that no manifest names, and so long after.
    Uploaded(Duration),
    /// Once it has committed a checkpoint, and so long after: before, while or after it is shown.
    Committed(Duration),
}

impl Moment {
    fn by(chance: &mut Chance) -> Moment {
        match chance.below(4) {
            0 => Moment::After(chance.up_to_ms(120)),
            1 => Moment::After(chance.up_to_ms(2_000)),
            2 => Moment::Uploaded(chance.up_to_ms(3)),
            _ => Moment::Committed(chance.up_to_ms(20)),
        }
    }

    /// Waits for it, or for the end of the run.
    fn wait(self, running: &mut Running, kept: &Kept) {
        let (began, before) = (Instant::now(), kept.newest_number());
        let there = || match self {
            Moment::After(time) => began.elapsed() >= time,
            Moment::Uploaded(_) => kept.is_uploading(),
            Moment::Committed(_) => kept.newest_number() > before,
        };
        while running.goes_on() && !there() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if let Moment::Uploaded(time) | Moment::Committed(time) = self {
            std::thread::sleep(time);
        }
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_is_exact() {
    for seed in seeds(6, 100) {
        let (mut chance, mut replay) = (Chance::of(seed), Replay::new());
        replay.interval = chance.one_of(&["0s", "1s"]);
        let (kept, mut ended) = (replay.kept(), false);
        for _ in 0..5 {
            let (workers, moment) = (1 + chance.below(3), Moment::by(&mut chance));
            let mut running = Running::start(&mut replay.command(workers, &[]));
            moment.wait(&mut running, &kept);
            let (generation, shown) = (kept.generation(), kept.history());
            ended = running.crash() == Some(0);
            println!("{workers} workers, {moment:?}: checkpoint {} of generation {generation}", kept.newest_number());
            assert!(kept.generation() == generation, "seed {seed}: another generation");
            assert!(shown.is_subset(&kept.history()), "seed {seed}: history was taken back");
            if ended {
                break;
            }
        }
        let (generation, number, shown) = (kept.generation(), kept.newest_number(), kept.history());
        if !ended {
            replay.finish(1 + chance.below(3), &[]);
        }
        if number > 0 {
            assert_eq!(kept.generation(), generation, "seed {seed}: what there was was gone on with");
            assert!(shown.is_subset(&kept.history()), "seed {seed}: history was taken back");
        }
        replay.verify();
    }
}
