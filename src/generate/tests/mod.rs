//! A dataset read back: it is deterministic, it decodes, and it holds what the summary says.

mod content;
mod recount;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const WINDOW_MS: i64 = 30 * 60_000;

fn small(dir: &Path) -> Options {
    Options {
        out: dir.join("mall"),
        stores: 20,
        products: 200,
        payments: 1_500,
        clicks: 4_000,
        hours: 6,
        partitions: 3,
        seed: 11,
        ..Options::default()
    }
}

fn clean() -> Shares {
    let none = Share::ZERO;
    Shares { late: none, out_of_order: none, duplicates: none, malformed: none, ..Shares::default() }
}

fn troubled() -> Shares {
    let some = Share::millionths(50_000);
    Shares { late: some, out_of_order: some, duplicates: some, malformed: some, ..Shares::default() }
}

/// Path below the dataset to bytes, decompressed.
fn files(options: &Options) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for topic in fs::read_dir(&options.out).unwrap().map(|entry| entry.unwrap().path()) {
        if topic.is_file() {
            files.insert(topic.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&topic).unwrap());
            continue;
        }
        for file in fs::read_dir(&topic).unwrap().map(|entry| entry.unwrap().path()) {
            let packed = fs::read(&file).unwrap();
            let bytes = match file.extension().unwrap().to_str().unwrap() {
                "zst" => zstd::decode_all(&packed[..]).unwrap(),
                "gz" => {
                    let mut bytes = Vec::new();
                    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
                    bytes
                }
                _ => packed,
            };
            let name = file.strip_prefix(&options.out).unwrap().to_str().unwrap().to_owned();
            files.insert(name, bytes);
        }
    }
    files
}

struct Record {
    offset: u64,
    ts: i64,
    key: String,
    /// As text; `None`: a tombstone.
    value: Option<String>,
}

/// The records of a topic of kcat envelopes, by partition, without the lines that are not UTF-8; how many those are.
fn records(options: &Options, topic: Topic) -> (Vec<Vec<Record>>, u64) {
    let mut not_utf8 = 0;
    let partitions = files(options).into_iter().filter(|(name, _)| name.starts_with(&format!("{}/", topic.name())));
    let partitions = partitions.map(|(_, bytes)| {
        let mut records = Vec::new();
        for line in bytes.strip_suffix(b"\n").unwrap_or_default().split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else {
                not_utf8 += 1;
                continue;
            };
            assert!(line.starts_with("{\"topic\":"), "{line}");
            let envelope: Value = serde_json::from_str(line).unwrap();
            records.push(Record {
                offset: envelope["offset"].as_u64().unwrap(),
                ts: envelope["ts"].as_i64().unwrap(),
                key: envelope["key"].as_str().unwrap().to_owned(),
                value: envelope["payload"].as_str().map(str::to_owned),
            });
        }
        records
    });
    let partitions = partitions.collect();
    (partitions, not_utf8)
}

fn summary(summary: &Summary, topic: Topic) -> TopicSummary {
    summary.topics.iter().find(|made| made.topic == topic).unwrap().clone()
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty()) || value.is_u64()
}

/// Whether a row has all that the job names, in the form the job says.
fn sound(topic: Topic, row: &Value) -> bool {
    let money = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.split_once('.').is_some_and(|(_, fraction)| fraction.len() == 2) && !value.is_boolean()
    };
    is_id(&row["store_id"])
        && match topic {
            Topic::Payments => {
                is_id(&row["payment_id"])
                    && money(&row["amount"])
                    && is_id(&row["currency"])
                    && is_id(&row["status"])
                    && row["paid_at"].is_i64()
            }
            Topic::OrderItems => {
                is_id(&row["item_id"]) && is_id(&row["product_id"]) && row["quantity"].is_u64() && row["ordered_at"].is_i64()
            }
            Topic::Products => is_id(&row["product_id"]) && is_id(&row["state"]),
            Topic::Clicks => {
                is_id(&row["event_type"])
                    && row["event_time"].is_i64()
                    && (row["product_id"].is_null() || is_id(&row["product_id"]))
            }
        }
}

/// The row a value is about, if it has one that is not deleted.
fn row(topic: Topic, value: &Value) -> Option<&Value> {
    match topic {
        Topic::OrderItems | Topic::Clicks => Some(value),
        Topic::Payments | Topic::Products => Some(&value["after"]).filter(|after| !after.is_null()),
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let options = Options { shares: troubled(), compression: Compression::Mixed, ..small(dir.path()) };
    let first = (generate(&options).unwrap(), files(&options));
    let again = Options { out: dir.path().join("again"), ..options.clone() };
    assert!(first == (generate(&again).unwrap(), files(&again)));
    let other = Options { out: dir.path().join("other"), seed: 12, ..options };
    assert!(first.0 != generate(&other).unwrap());
    assert!(first.1 != files(&other));
}

#[test]
fn a_topic_does_not_depend_on_the_others_nor_its_records_on_partitions() {
    let dir = TempDir::new().unwrap();
    let options = Options { shares: troubled(), envelope: Envelope::Kcat, ..small(dir.path()) };
    generate(&options).unwrap();
    for topic in Topic::ALL {
        let alone = Options { out: dir.path().join(topic.name()), topics: vec![topic], ..options.clone() };
        generate(&alone).unwrap();
        let all = files(&options);
        for (name, bytes) in files(&alone).iter().filter(|(name, _)| name.contains('/')) {
            assert!(all[name] == *bytes, "{name}");
        }
        let single = Options { out: dir.path().join(format!("{}-1", topic.name())), partitions: 1, ..alone };
        generate(&single).unwrap();
        let sorted = |options: &Options| {
            let records = records(options, topic).0.into_iter().flatten();
            let mut records: Vec<_> = records.map(|record| (record.ts, record.key, record.value)).collect();
            records.sort();
            records
        };
        assert!(sorted(&options) == sorted(&single), "{}", topic.name());
    }
}

#[test]
fn the_job_file_names_the_topics_that_were_made() {
    let dir = TempDir::new().unwrap();
    for topics in [Topic::ALL.to_vec(), vec![Topic::Clicks]] {
        let options = Options { topics, payments: 10, clicks: 10, force: true, ..small(dir.path()) };
        generate(&options).unwrap();
        let files = files(&options);
        let job = std::str::from_utf8(&files["mall.toml"]).unwrap();
        let job = toml::de::DeTable::parse(job).unwrap();
        let sources = job.get_ref()["source"].get_ref().as_array().unwrap();
        let named = sources.iter().map(|source| source.get_ref()["topic"].get_ref().as_str().unwrap());
        let made = options.topics.iter().map(|topic| topic.name());
        assert!(named.eq(made));
    }
}

#[test]
fn a_dataset_is_replaced_only_by_force() {
    let dir = TempDir::new().unwrap();
    let options = Options { payments: 10, clicks: 10, products: 10, ..small(dir.path()) };
    fs::create_dir_all(options.out.join(".partial/mall.clicks")).unwrap();
    generate(&options).unwrap();
    assert!(!options.out.join(".partial").exists());
    let error = generate(&options).unwrap_err();
    assert!(matches!(error, GenerateError::NotEmpty { .. }), "{error}");
    fs::write(options.out.join("notes.txt"), "mine").unwrap();
    let clicks = Options { force: true, topics: vec![Topic::Clicks], ..options };
    generate(&clicks).unwrap();
    let names: BTreeSet<_> = files(&clicks).into_keys().map(|name| name.split('/').next().unwrap().to_owned()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["mall.clicks", "mall.toml", "notes.txt"]);
}

#[test]
fn errors_say_what_was_tried_on_what() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = generate(&Options { out: dir.path().join("file/mall"), ..small(dir.path()) }).unwrap_err();
    assert!(error.to_string().starts_with("could not create the folder \"/"), "{error}");
    let error = generate(&Options { hours: 0, ..small(dir.path()) }).unwrap_err();
    assert_eq!(error.to_string(), "--hours is 0: it must be 1 to 8784 (a year)");
    assert!(!dir.path().join("mall").exists());
}

#[test]
fn the_small_mall_is_what_its_command_makes() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/mall-small");
    let dir = TempDir::new().unwrap();
    let options = Options {
        out: dir.path().join("mall"),
        stores: 12,
        products: 150,
        payments: 900,
        clicks: 2_400,
        hours: 6,
        partitions: 4,
        seed: 20_261_120,
        shares: Shares {
            refunds: Share::millionths(50_000),
            store_moves: Share::millionths(20_000),
            deletes: Share::millionths(40_000),
            late: Share::millionths(20_000),
            duplicates: Share::millionths(50_000),
            malformed: Share::millionths(10_000),
            ..Shares::default()
        },
        ..Options::default()
    };
    generate(&options).unwrap();
    let plain = |name: &str| name.trim_end_matches(".zst").trim_end_matches(".gz").to_owned();
    let mut expected = files(&Options { out: checked_in, ..options.clone() });
    // Beside the dataset there is what comes out of it.
    expected.retain(|name, _| name.starts_with("mall."));
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(name, bytes)| (plain(&name), bytes)).collect();
    let made = files(&options);
    assert!(expected.keys().eq(made.keys()));
    for (name, bytes) in made {
        assert!(bytes == expected[&name], "{name} differs: make it again with the command in datasets/README.md");
    }
}
