//! What checkpoints go into fails for a while, or is written by somebody else meanwhile.
//!
//! Upholds: a full disk ends the run with the file's name, and the next one is exact; an S3 that fails for a while is waited for; a
//! run that slept while another took its place ends when it wakes up, and has taken nothing back.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::crash::Replay;
use crate::support::binary::{Ended, dataset, run, storeflow, text};
use crate::support::redis;
use crate::support::running::Running;
use crate::support::s3::{Fault, Plan, Proxy, address_of, environment, place, store};
use crate::support::services::{Kind, Service, shared};
use crate::support::watch::Watch;

#[test]
fn a_disk_that_is_full_ends_a_run_by_name_and_the_next_one_is_exact() {
    let replay = Replay::new();
    // A limit on the size of files stands in for the disk. The first is too small for a manifest, the others for what comes later.
    for (workers, limit) in [(2, 4), (1, 8), (3, 9)] {
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_storeflow")]);
        let Ended { code, out, err } = run(limited.args(replay.args(workers, &[])));
        assert!(code.is_some_and(|code| code != 0), "{out}{err}");
        let message = err.lines().find(|line| line.starts_with("error: ")).expect("a message");
        assert!(message.contains("could not write") && message.contains(&replay.out()), "{err}");
    }
    replay.finish(2, &[]);
    replay.verify();
}

/// A place in S3 that the small mall goes to.
struct InS3 {
    s3: Service,
    place: String,
}

impl InS3 {
    fn new(name: &str) -> Option<InS3> {
        let s3 = shared(Kind::S3)?;
        let place = place(&s3, name);
        Some(InS3 { s3, place })
    }

    /// A run over the small mall by way of `address`, at so many times real time.
    fn command(&self, address: std::net::SocketAddr, speed: &str, more: &[&str]) -> Command {
        let (job, mall) = (text(&dataset("mall-small").join("mall.toml")), text(&dataset("mall-small")));
        let usual = ["run", "--job", &job, "--replay", &mall, "--store", &self.place, "--workers", "1", "--speed", speed];
        let mut command = storeflow(&[&usual[..], &["--checkpoint-interval", "0s"], more].concat());
        command.envs(environment(address));
        command
    }

    /// How many manifests of the first generation there are.
    fn manifests(&self) -> usize {
        let store = store(&self.place, address_of(&self.s3), Duration::from_secs(60)).expect("a store");
        store.list("mall/gen-000001/checkpoints/manifests").expect("a list").len()
    }

    fn wait_for_manifests(&self, running: &mut Running, least: usize) {
        running.wait_with(&format!("manifest {least}"), |_| (self.manifests() >= least).then_some(()));
    }

    fn verify(&self) {
        let (job, mall) = (text(&dataset("mall-small").join("mall.toml")), text(&dataset("mall-small")));
        let args = ["verify", "--job", &job, "--replay", &mall, "--store", &self.place, "--history"];
        let verified = run(storeflow(&args).envs(environment(address_of(&self.s3))));
        assert!(verified.code == Some(0) && verified.out.starts_with("exact"), "{}{}", verified.out, verified.err);
    }
}

#[test]
fn an_s3_that_fails_for_a_while_is_waited_for() {
    let Some(mall) = InS3::new("away") else { return };
    let proxy = Proxy::start(address_of(&mall.s3), Plan::Faults { seed: 5, permille: 20 });
    let long = std::env::var("STOREFLOW_LONG").as_deref() == Ok("1");
    // The input lasts longer than the outages, or there would be nothing left to commit after them.
    let speed = if long { "100" } else { "900" };
    let mut running = Running::start(&mut mall.command(proxy.address, speed, &[]));
    for (outage, least) in [(Fault::SlowDown, 2), (Fault::CutAfter, 4)] {
        mall.wait_for_manifests(&mut running, least);
        proxy.nothing_but(Some(outage));
        let failed = || proxy.seen().get(&outage).copied().unwrap_or(0);
        let before = failed();
        running.wait_with("requests that fail", |_| (failed() >= before + 3).then_some(()));
        std::thread::sleep(Duration::from_secs(if long { 60 } else { 3 }));
        assert!(running.goes_on(), "{}", running.log());
        proxy.nothing_but(None);
    }
    running.succeed();
    mall.verify();
}

/// A run sleeps, another goes on from its checkpoint, and the first one wakes up, when the other is over or while it goes on.
fn a_run_that_slept(mall: &InS3, when_over: bool, more: &[&str]) {
    let address = address_of(&mall.s3);
    let mut stale = Running::start(&mut mall.command(address, "900", more));
    mall.wait_for_manifests(&mut stale, 2);
    stale.signal(Signal::STOP);
    let slept_at = mall.manifests();
    let mut new = Running::start(&mut mall.command(address, if when_over { "7200" } else { "1800" }, more));
    if when_over {
        new.succeed();
    } else {
        mall.wait_for_manifests(&mut new, slept_at + 2);
    }
    stale.signal(Signal::CONT);
    let (code, log) = (stale.end(), stale.log());
    assert!(code.is_some_and(|code| code != 0), "{log}");
    let said = ["no longer owns the job", "another run owns"].iter().any(|words| log.contains(words));
    assert!(said && log.lines().filter(|line| line.starts_with("error: ")).count() == 1, "{log}");
    if !when_over {
        new.succeed();
    }
    let log = new.log();
    assert!(log.contains("going on from a checkpoint"), "{log}");
    mall.verify();
}

#[test]
fn a_run_that_slept_while_another_took_its_place_ends_when_it_wakes_up() {
    let Some(mall) = InS3::new("slept") else { return };
    a_run_that_slept(&mall, true, &[]);
}

#[test]
fn a_run_that_wakes_up_beside_its_successor_ends_and_moves_no_view() {
    let Some(mall) = InS3::new("woke") else { return };
    let Some(redis) = redis::redis("a_run_that_wakes_up_beside_its_successor_ends_and_moves_no_view") else { return };
    let folder = dataset("mall-small");
    let watch = Watch::start(&redis.settings(), &redis.url(), &folder.join("mall.toml"), &folder);
    a_run_that_slept(&mall, false, &["--redis", &redis.url()]);
    watch.judge();
}
