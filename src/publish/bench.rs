//! What a row costs, measured by hand: `cargo test --release -p storeflow --lib publish::bench -- --ignored --nocapture`.
//!
//! Click cells as a large run has them: 30-minute files of one worker, many stores, four kinds, mostly small counts.

use std::time::Instant;

use storeflow_dataflows::table::{CellChange, HistoryRow, Table, Value};

use super::schema::TableSchema;
use super::table_file::{FileMeta, write_rows};
use super::testing::{job, key};
use super::{Batch, Generation, HistoryWriter, MemoryView, Output};

const STORES: u64 = 10_000;
const WINDOWS: u64 = 24;
const WINDOW: u64 = 1_800_000;
const KINDS: [&str; 4] = ["view", "cart_add", "purchase", "search"];

/// A worker's cells of all windows; some stores are busy, most are not.
fn rows() -> Vec<Vec<HistoryRow>> {
    let mut seed = 7_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let start = 1_795_132_800_000;
    let windows = (0..WINDOWS).map(|at| {
        let window = start + at * WINDOW;
        let mut rows: Vec<HistoryRow> = (0..STORES)
            .flat_map(|store| KINDS.map(|kind| (store, kind)))
            .map(|(store, kind)| {
                let count = 1 + (random() % 1000) * (random() % 1000) * (random() % 1000) / 10_000_000;
                let distinct = 1 + random() % count.min(200);
                HistoryRow {
                    epoch: window + WINDOW + 120_000,
                    table: Table::StoreClicks,
                    window: window as i64,
                    key: key(&format!("store-{:06}", store * 7919 % 1_000_000), kind),
                    value: Value { sum: 0, count: count as i64, distinct: distinct as i64 },
                    revision: 0,
                }
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.key.hash);
        rows
    });
    windows.collect()
}

/// Nanoseconds this process has had a processor, in steps of 10 ms; other programs' share does not count.
fn on_cpu() -> u128 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u128>().unwrap());
    ticks.sum::<u128>() * 10_000_000
}

#[test]
#[ignore = "a measurement"]
fn nanoseconds_per_row() {
    let root = tempfile::tempdir().unwrap();
    let mut job = job("bench");
    job.sources = vec![super::testing::clicks_with_distinct()];
    let batches = rows();
    let total: u128 = batches.iter().map(|rows| rows.len() as u128).sum();
    for _ in 0..3 {
        let schema = TableSchema::new(Output::Cells(Table::StoreClicks), 2, true).unwrap();
        let meta = FileMeta { job: "bench".into(), generation: 1, epoch: 0 };
        let started = on_cpu();
        for rows in &batches {
            write_rows(&root.path().join("a.parquet"), &schema, rows, &meta).unwrap();
        }
        println!("write_rows    {:4} ns/row", (on_cpu() - started) / total);

        let view = MemoryView::new(1);
        let mut changes: Vec<CellChange> = batches
            .iter()
            .flatten()
            .map(|row| CellChange {
                after: row.epoch,
                table: row.table,
                window: row.window,
                key: row.key.clone(),
                value: Some((row.value, 0)),
            })
            .collect();
        let started = on_cpu();
        view.apply(0, u64::MAX, &mut changes, &mut Vec::new());
        println!("view apply    {:4} ns/row", (on_cpu() - started) / total);

        let generation = Generation::create(root.path(), &job, 1).unwrap();
        let copies = batches.clone();
        let started = on_cpu();
        let writer = HistoryWriter::start(&generation, Vec::new()).unwrap();
        for rows in copies {
            writer.sender().send(Batch { rows, ..Batch::default() }).unwrap();
        }
        writer.publish(u64::MAX / 2).unwrap();
        let totals = writer.close().unwrap();
        println!(
            "history       {:4} ns/row, {} files, {:.1} bytes/row",
            (on_cpu() - started) / total,
            totals.files,
            totals.bytes as f64 / total as f64
        );

        let started = on_cpu();
        let (_, bytes) = view.dump(&generation).unwrap();
        println!("view dump     {:4} ns/row, {:.1} bytes/row", (on_cpu() - started) / total, bytes as f64 / total as f64);

        let started = Instant::now();
        generation.finish(u64::MAX / 2).unwrap();
        println!("finish        {:?}", started.elapsed());
    }
}
