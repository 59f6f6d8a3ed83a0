//! What the tests of this folder share: jobs and rows, made short.

use std::path::{Path, PathBuf};

use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::table::{HistoryRow, Table, Value, Window};

use super::table_reader::read_rows;
use super::{DeadLetter, PublishError, Row};
use crate::config::{Format, Job, KafkaSpec, Role, SourceSpec};

const MINUTE: u64 = 60_000;

/// A job without sources: 30 minutes, 2 of grace, 48 hours; two digits of money.
pub(crate) fn job(name: &str) -> Job {
    Job {
        name: name.to_owned(),
        horizons: Horizons {
            window: 30 * MINUTE,
            grace: 2 * MINUTE,
            retention: 48 * 60 * MINUTE,
            replay_horizon: 0,
            before: Before::NOTHING,
        },
        scale: 2,
        currency: None,
        timezone: "UTC".to_owned(),
        sources: Vec::new(),
        kafka: KafkaSpec::default(),
        schema_registry: None,
    }
}

/// The key of a cell, with a hash of its own.
pub(crate) fn key(store: &str, second: &str) -> Key {
    let mut bytes = Vec::new();
    Key::cell_bytes(store.as_bytes(), second.as_bytes(), &mut bytes);
    Key { hash: xxhash_rust::xxh3::xxh3_64(&bytes), text: Text::new(&bytes) }
}

/// A row of history that has some value.
pub(crate) fn row(table: Table, epoch: u64, window: Window, store: &str) -> HistoryRow {
    let second = match table {
        Table::StorePayments => "KRW",
        Table::StoreClicks => "view",
        Table::StoreSales | Table::StoreProducts => "",
    };
    let sum = if matches!(table, Table::StorePayments | Table::StoreSales) { 1234 } else { 0 };
    HistoryRow { epoch, table, window, key: key(store, second), value: Value { sum, count: 7, distinct: 3 }, revision: 0 }
}

/// A dead letter.
pub(crate) fn dead_letter() -> DeadLetter {
    DeadLetter {
        topic: "mall.payments".into(),
        partition: 3,
        offset: 42,
        timestamp: Some(1_795_168_800_000),
        key: None,
        value: Some(b"{\xff".to_vec()),
        headers: Vec::new(),
        reason: "json",
        error: "expected value at byte 1 of \"x\"".into(),
        stamp: 1_795_168_800_001,
        first_stamp: None,
        by: None,
    }
}

/// The cells of a file.
pub(crate) fn read(path: &Path, table: Table) -> Result<Vec<Row>, PublishError> {
    read_rows(path, std::fs::read(path).map_err(PublishError::io("read", path))?.into(), table)
}

/// All files below a folder.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// A source of clicks that keeps distinct products.
pub(crate) fn clicks_with_distinct() -> SourceSpec {
    SourceSpec { distinct: true, ..SourceSpec::plain("clicks", Role::Clicks, Format::Json, "store") }
}
