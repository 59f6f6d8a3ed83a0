//! The summary against the files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tempfile::TempDir;

use super::*;

#[test]
fn the_summary_of_changes_equals_a_recount() {
    let dir = TempDir::new().unwrap();
    let shares = Shares { malformed: Share::ZERO, store_moves: Share::millionths(50_000), ..troubled() };
    let options = Options { shares, ..small(dir.path()) };
    let made = generate(&options).unwrap();
    for topic in [Topic::Payments, Topic::Products] {
        let TopicSummary { records: lines, bytes, counts, .. } = summary(&made, topic);
        let records: Vec<_> = records(&options, topic).0.into_iter().flatten().collect();
        assert_eq!(records.len() as u64, lines);
        let on_disk = files(&options).into_iter().filter(|(name, _)| name.starts_with(topic.name()));
        assert_eq!(on_disk.map(|(_, bytes)| bytes.len() as u64).sum::<u64>(), bytes);
        let mut found = Counts::default();
        let (mut seen, mut tombstones) = (BTreeSet::new(), BTreeSet::new());
        for record in &records {
            let Some(value) = &record.value else {
                match tombstones.insert(record.key.clone()) {
                    true => found.tombstones += 1,
                    false => found.duplicates += 1,
                }
                continue;
            };
            let value: Value = serde_json::from_str(value).unwrap();
            let source = &value["source"];
            let position = format!("{} {} {} {}", source["file"], source["pos"], source["row"], source["lsn"]);
            if !seen.insert((record.key.clone(), position)) {
                found.duplicates += 1;
                continue;
            }
            let (before, after) = (&value["before"], &value["after"]);
            match value["op"].as_str().unwrap() {
                "r" => found.snapshot += 1,
                "c" => {
                    found.inserts += 1;
                    if topic == Topic::Payments {
                        let paid_ms = after["paid_at"].as_i64().unwrap() / 1_000;
                        let behind_ms = after["created_at"].as_i64().unwrap() - paid_ms;
                        found.out_of_order += u64::from((1..WINDOW_MS).contains(&behind_ms));
                        found.late += u64::from(behind_ms > WINDOW_MS);
                        found.expired += u64::from(behind_ms > 48 * 3_600_000);
                    }
                }
                "u" => {
                    found.updates += 1;
                    if topic == Topic::Payments {
                        found.store_moves += u64::from(before["store_id"] != after["store_id"]);
                        found.refunds += u64::from(after["status"] == "REFUNDED" && before["status"] != "REFUNDED");
                    }
                }
                "d" => found.deletes += 1,
                other => panic!("{other}"),
            }
        }
        if topic == Topic::Products {
            // Without `before` a move cannot be told from the record alone.
            found.store_moves = counts.store_moves;
        }
        assert_eq!(found, counts, "{}", topic.name());
        assert!(counts.duplicates > 0 && counts.deletes > 0);
    }
}

#[test]
fn the_summary_of_items_and_clicks_equals_a_recount() {
    let dir = TempDir::new().unwrap();
    let shares = Shares { malformed: Share::ZERO, ..troubled() };
    let options = Options { shares: shares.clone(), envelope: Envelope::Kcat, ..small(dir.path()) };
    let made = generate(&options).unwrap();
    let clicks = summary(&made, Topic::Clicks);
    let mut found = Counts::default();
    for record in records(&options, Topic::Clicks).0.into_iter().flatten() {
        let value: Value = serde_json::from_str(&record.value.unwrap()).unwrap();
        let behind_ms = record.ts - 1 - value["event_time"].as_i64().unwrap();
        found.inserts += 1;
        found.out_of_order += u64::from((1..WINDOW_MS).contains(&behind_ms));
        found.late += u64::from(behind_ms > WINDOW_MS);
        found.expired += u64::from(behind_ms > 48 * 3_600_000);
    }
    assert_eq!((clicks.records, &clicks.counts), (4_000, &found));
    assert!(found.late > found.expired && found.expired > 0);

    let shares = Shares { duplicates: Share::ZERO, ..shares };
    let options = Options { out: dir.path().join("once"), shares, ..options };
    let made = generate(&options).unwrap();
    let mut found = Counts::default();
    let mut rows = BTreeMap::new();
    for record in records(&options, Topic::OrderItems).0.into_iter().flatten() {
        let value = record.value.map(|value| serde_json::from_str::<Value>(&value).unwrap());
        let former = rows.insert(record.key, value.clone());
        match (former, value) {
            (_, None) => found.deletes += 1,
            (None, Some(after)) => {
                found.inserts += 1;
                let behind_ms = after["updated_at"].as_i64().unwrap() - after["ordered_at"].as_i64().unwrap();
                found.out_of_order += u64::from((1..WINDOW_MS).contains(&behind_ms));
                found.late += u64::from(behind_ms > WINDOW_MS);
                found.expired += u64::from(behind_ms > 48 * 3_600_000);
            }
            (Some(before), Some(after)) => {
                let before = before.unwrap();
                found.updates += 1;
                found.store_moves += u64::from(before["store_id"] != after["store_id"]);
                found.refunds += u64::from(after["status"] == "RETURNED");
            }
        }
    }
    assert_eq!(summary(&made, Topic::OrderItems).counts, found);
}

#[test]
fn shares_are_of_payments() {
    let dir = TempDir::new().unwrap();
    let shares = Shares {
        updates: Share::millionths(880_000),
        refunds: Share::millionths(50_000),
        store_moves: Share::millionths(10_000),
        deletes: Share::millionths(60_000),
        ..Shares::NONE
    };
    let options = Options { shares, payments: 20_000, topics: vec![Topic::Payments], ..small(dir.path()) };
    let counts = summary(&generate(&options).unwrap(), Topic::Payments).counts;
    assert_eq!(counts.inserts, 20_000);
    assert!((39_500..40_500).contains(&(counts.inserts + counts.updates + counts.deletes)), "{counts:?}");
}
