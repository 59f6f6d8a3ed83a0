//! `storeflow bench-redis`: the Redis view's publishing against what the server can do at all.

use std::io::Write;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::table::{CellChange, Table, Value};

use super::Failure;
use super::redis_args::RedisArgs;
use crate::bench::report::spread_of;
use crate::decode::cell_key;
use crate::publish::layout::About;
use crate::publish::redis::{RedisSettings, RedisStats, RedisView};
use crate::publish::view::MemoryView;

/// Measure publishing into Redis, guard included, against redis-benchmark's plain pipelined HSET of the same keys and fields
///
/// Writes keys of a job "storeflow-bench" and removes them. Both take turns; the medians and their quotient are printed.
#[derive(Debug, Args)]
pub struct BenchRedisArgs {
    #[command(flatten)]
    redis: RedisArgs,

    /// Hashes: stores of one window
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    stores: u32,

    /// Times all of them change in one measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Measurements of each side
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

const JOB: &str = "storeflow-bench";
/// 2026-11-20T10:00:00Z.
const WINDOW: u64 = 1_795_168_800_000;

/// Runs the command.
///
/// # Errors
/// If Redis or redis-benchmark cannot be used.
pub fn run(args: &BenchRedisArgs) -> Result<(), Failure> {
    let Some(settings) = args.redis.resolve()? else {
        return Err(anyhow::anyhow!("where is Redis? give --redis or STOREFLOW_REDIS").into());
    };
    let mut out = std::io::stdout().lock();
    let hashes = u64::from(args.stores) * u64::from(args.rounds);
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for run in 0..args.runs {
        let generation = u64::from(std::process::id()) * 1_000 + u64::from(run);
        let mut cleaner = RedisView::connect(&settings, JOB)?;
        // The keys are there before either side is measured: in a running job most hashes only change.
        let (rate, stats) = publish(&settings, generation, args.stores, args.rounds)?;
        ours.push(rate);
        plain.push(benchmark(&settings, generation, args.stores, hashes)?);
        cleaner.remove(generation)?;
        let (bytes, pipelines, commands) = (stats.bytes / 1_000_000, stats.pipelines, stats.commands);
        tracing::info!(run, ours = rate as u64, plain = plain[plain.len() - 1] as u64, bytes, pipelines, commands, "measured");
    }
    let [ours, plain] = [ours, plain].map(|rates| spread_of(rates.into_iter())[1]);
    writeln!(out, "hashes of 8 fields per second, medians of {} runs of {hashes} hashes", args.runs)?;
    writeln!(out, "  storeflow, guarded scripts     {ours:>10.0}")?;
    writeln!(out, "  redis-benchmark, plain HSET    {plain:>10.0}")?;
    writeln!(out, "  quotient                       {:>10.2}", ours / plain.max(1.0))?;
    Ok(())
}

/// Changes every store's hash, as-of by as-of, each one waited for, so that none is left out. Hashes per second.
fn publish(settings: &RedisSettings, generation: u64, stores: u32, rounds: u32) -> anyhow::Result<(f64, RedisStats)> {
    let minute = 60_000;
    let horizons = Horizons {
        window: 30 * minute,
        grace: 2 * minute,
        retention: 48 * 60 * minute,
        replay_horizon: 0,
        before: Before::NOTHING,
    };
    let about = About {
        job: JOB.to_owned(),
        generation,
        horizons,
        scale: 2,
        workers: 1,
        clicks_distinct: true,
        timezone: "UTC".to_owned(),
    };
    let view = Arc::new(MemoryView::new(1));
    let sink = RedisView::connect(settings, JOB)?.start(&about, Arc::clone(&view), 0..1, 1);
    let mut spent = Duration::ZERO;
    for round in 0..=u64::from(rounds) {
        let as_of = WINDOW + 1_000 * (round + 1);
        let changes = changes(0..stores, as_of);
        let expired = view.apply(0, as_of, &mut changes.clone(), &mut Vec::new());
        let began = Instant::now();
        sink.send(0, as_of, changes, expired);
        while sink.shown(0) < as_of {
            if let Some(error) = sink.failure() {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        if round > 0 {
            spent += began.elapsed();
        }
    }
    let stats = sink.close(Duration::from_secs(60))?;
    Ok((f64::from(stores) * f64::from(rounds) / spent.as_secs_f64(), stats))
}

/// Three cells of every store.
fn changes(stores: Range<u32>, as_of: u64) -> Vec<CellChange> {
    let mut scratch = Vec::new();
    let mut changes = Vec::new();
    for store in stores {
        let name = format!("store-{store:012}");
        for (table, second) in [(Table::StorePayments, "KRW"), (Table::StoreSales, ""), (Table::StoreClicks, "view")] {
            let sum = if table == Table::StoreClicks { 0 } else { i128::from(as_of % 100_000_000) };
            changes.push(CellChange {
                after: as_of - 1,
                table,
                window: WINDOW as i64,
                key: cell_key(name.as_bytes(), second.as_bytes(), &mut scratch),
                value: Some((Value { sum, count: i64::from(store % 1_000), distinct: 45 }, 0)),
            });
        }
    }
    changes
}

/// The same keys and fields by redis-benchmark, over one connection with 500 commands at a time. Hashes per second.
fn benchmark(settings: &RedisSettings, generation: u64, stores: u32, hashes: u64) -> anyhow::Result<f64> {
    let server = settings.url.server();
    let Some((host, port)) = server.rsplit_once(':') else { bail!("no port in \"{server}\"") };
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", host, "-p", port, "--csv", "-c", "1", "-P", "500"]);
    command.args(["-n", &hashes.to_string(), "-r", &stores.to_string()]);
    command.args(["HSET", &format!("sf:{{12}}:{JOB}:{generation}:w:{WINDOW}:store-__rand_int__")]);
    command.args(["payment_sum:KRW", "688010.00", "payment_count:KRW", "123", "items_sold", "68801000", "products_sold", "45"]);
    command.args(["clicks:view", "123", "products_clicked:view", "45", "revision", "0", "changed_as_of", "1795168801000"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("could not start redis-benchmark; it comes with Redis")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","rps",… and one line of values; the test's own name holds no comma or quote.
    let last = text.lines().last().unwrap_or_default();
    let rate = last.split("\",\"").nth(1).and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.with_context(|| format!("could not read what redis-benchmark printed: \"{last}\""))
}
