//! What the records say: they decode, in every form; broken copies do not; positions are those of real databases.

use std::collections::BTreeSet;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

#[test]
fn every_record_of_a_clean_dataset_decodes() {
    let dir = TempDir::new().unwrap();
    let options = Options { shares: clean(), envelope: Envelope::Kcat, ..small(dir.path()) };
    let made = generate(&options).unwrap();
    for topic in Topic::ALL {
        let (partitions, not_utf8) = records(&options, topic);
        assert_eq!((partitions.len(), not_utf8), (3, 0));
        for records in &partitions {
            assert!(records.is_sorted_by_key(|record| record.ts), "{}", topic.name());
            for (line, record) in records.iter().enumerate() {
                assert_eq!(record.offset, line as u64);
                let Some(value) = &record.value else { continue };
                let value: Value = serde_json::from_str(value).unwrap();
                if let Some(row) = row(topic, &value) {
                    assert!(sound(topic, row), "{row}");
                }
                if topic != Topic::Clicks {
                    let key: Value = serde_json::from_str(&record.key).unwrap();
                    let (name, id) = key.as_object().unwrap().iter().next().unwrap();
                    let image = row(topic, &value).unwrap_or(&value["before"]);
                    assert_eq!(image[name], *id);
                }
            }
        }
        let counts = summary(&made, topic).counts;
        assert_eq!((counts.late, counts.out_of_order, counts.duplicates, counts.malformed), (0, 0, 0, 0));
    }
}

#[test]
fn bare_values_and_schemas_decode_too() {
    let dir = TempDir::new().unwrap();
    let topics = vec![Topic::Payments, Topic::Products, Topic::Clicks];
    let bare = Options { shares: clean(), envelope: Envelope::Bare, topics, ..small(dir.path()) };
    generate(&bare).unwrap();
    for (name, bytes) in files(&bare).iter().filter(|(name, _)| name.contains('/')) {
        let topic = Topic::ALL.into_iter().find(|topic| name.starts_with(topic.name())).unwrap();
        for line in std::str::from_utf8(bytes).unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let soundness = value.is_null() || row(topic, &value).is_none_or(|row| sound(topic, row));
            assert!(soundness, "{line}");
        }
    }
    let wrapped = Options { out: dir.path().join("wrapped"), schema: true, envelope: Envelope::Kcat, ..bare };
    generate(&wrapped).unwrap();
    for (topic, columns) in [(Topic::Payments, 11), (Topic::Products, 7)] {
        for record in records(&wrapped, topic).0.into_iter().flatten() {
            let key: Value = serde_json::from_str(&record.key).unwrap();
            assert_eq!(key["schema"]["fields"].as_array().unwrap().len(), key["payload"].as_object().unwrap().len());
            let Some(value) = &record.value else { continue };
            let value: Value = serde_json::from_str(value).unwrap();
            let names = |fields: &Value| {
                let names = fields.as_array().unwrap().iter().map(|field| field["field"].as_str().unwrap().to_owned());
                names.collect::<Vec<_>>()
            };
            let members = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
            let (schema, payload) = (&value["schema"]["fields"], &value["payload"]);
            assert_eq!(names(schema).into_iter().collect::<BTreeSet<_>>(), members(payload));
            assert_eq!(names(&schema[2]["fields"]).into_iter().collect::<BTreeSet<_>>(), members(&payload["source"]));
            assert_eq!(names(&schema[1]["fields"]).len(), columns);
            assert!(row(topic, payload).is_none_or(|row| sound(topic, row)));
        }
    }
}

#[test]
fn broken_copies_are_broken_and_counted() {
    let dir = TempDir::new().unwrap();
    let shares = Shares { malformed: Share::millionths(100_000), ..clean() };
    let options = Options { shares, envelope: Envelope::Kcat, ..small(dir.path()) };
    let made = generate(&options).unwrap();
    for topic in Topic::ALL {
        let (partitions, mut broken) = records(&options, topic);
        for value in partitions.into_iter().flatten().filter_map(|record| record.value) {
            let value = serde_json::from_str::<Value>(&value);
            let good = value.is_ok_and(|value| row(topic, &value).is_none_or(|row| sound(topic, row)));
            broken += u64::from(!good);
        }
        let TopicSummary { records, counts, .. } = summary(&made, topic);
        assert_eq!(broken, counts.malformed, "{}", topic.name());
        assert!(broken > 5, "{}", topic.name());
        let Counts { snapshot, inserts, updates, deletes, tombstones, duplicates, malformed, .. } = counts;
        assert_eq!(records, snapshot + inserts + updates + deletes + tombstones + duplicates + malformed);
    }
}

#[test]
fn source_positions_grow_in_commit_order() {
    let dir = TempDir::new().unwrap();
    let options = Options { shares: clean(), partitions: 1, payments: 3_000, ..small(dir.path()) };
    generate(&options).unwrap();
    let sources = |topic| {
        let records = records(&options, topic).0.into_iter().flatten();
        let values = records.filter_map(|record| record.value);
        values.map(|value| serde_json::from_str::<Value>(&value).unwrap()["source"].clone()).collect::<Vec<_>>()
    };
    let binlog = sources(Topic::Payments);
    let position = |source: &Value| {
        (source["file"].as_str().unwrap().to_owned(), source["pos"].as_u64().unwrap(), source["row"].as_u64().unwrap())
    };
    assert!(binlog.iter().map(position).is_sorted_by(|one, next| one < next));
    assert!(binlog.first().unwrap()["file"] != binlog.last().unwrap()["file"]);
    assert!(binlog.iter().any(|source| source["row"] == 1));
    assert!(binlog.iter().all(|source| source["ts_ms"].as_i64().unwrap() % 1_000 == 0));

    let wal = sources(Topic::Products);
    let (snapshot, stream) = wal.split_at(200);
    let markers: Vec<_> = snapshot.iter().map(|source| source["snapshot"].as_str().unwrap()).collect();
    assert_eq!((markers[0], markers[1], markers[199]), ("first", "true", "last"));
    assert!(snapshot.iter().all(|source| source["lsn"] == snapshot[0]["lsn"]));
    assert!(stream.iter().all(|source| source["snapshot"] == "false"));
    assert!(wal[199..].iter().is_sorted_by(|one, next| one["lsn"].as_u64() < next["lsn"].as_u64()));
}
