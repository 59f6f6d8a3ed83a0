//! Round trips through files, and the rules of the data directory, as a reader sees them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use storeflow_dataflows::table::{CellChange, HistoryRow, LateAdjustment, NO_WINDOW, Table, Value, WindowExpiry};

use super::schema::TableSchema;
use super::table_file::{FileMeta, write_rows};
use super::table_reader::read_late;
use super::testing::{clicks_with_distinct, dead_letter, job, key, read as read_rows, row};
use crate::source::names::PartitionNames;
use crate::store::{Store, StoreError};

use super::{Batch, Current, Generation, HistoryWriter, LateRow, MemoryView, Output, PublishError, Row};

/// 2026-11-20T10:00:00Z, and the epoch of its window.
const WINDOW: i64 = 1_795_168_800_000;
const EPOCH: u64 = 1_795_168_800_000 + 32 * 60_000;
const AS_OF: u64 = EPOCH + 1000;

fn schema(table: Table, clicks_distinct: bool) -> TableSchema {
    TableSchema::new(Output::Cells(table), 2, clicks_distinct).unwrap()
}

fn meta() -> FileMeta {
    FileMeta { job: "mall".into(), generation: 1, epoch: EPOCH }
}

fn written(dir: &Path, table: Table, clicks_distinct: bool, rows: &[HistoryRow]) -> PathBuf {
    let key = format!("{}.parquet", table.name());
    let path = dir.join(&key);
    let bytes = write_rows(&Store::folder(dir).unwrap(), &key, &schema(table, clicks_distinct), rows, &meta()).unwrap();
    assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
    path
}

/// What a reader must see of a row: the columns its table has, nothing of the others.
fn expected(row: &HistoryRow, clicks_distinct: bool) -> Row {
    let (store, second) = row.key.cell_parts();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let has = |tables: &[Table]| tables.contains(&row.table);
    Row {
        table: row.table,
        store_id: text(store),
        second: text(second),
        window_start: row.table.windowed().then_some(row.window as u64),
        sum: if has(&[Table::StorePayments, Table::StoreSales]) { row.value.sum } else { 0 },
        count: (!has(&[Table::StoreSales])).then_some(row.value.count),
        distinct: (has(&[Table::StoreSales]) || has(&[Table::StoreClicks]) && clicks_distinct).then_some(row.value.distinct),
        revision: row.table.windowed().then_some(row.revision),
        deleted: row.value.count == 0,
        epoch: row.epoch,
    }
}

fn any_row(table: Table) -> impl Strategy<Value = HistoryRow> {
    let store = prop_oneof!["[a-z0-9-]{1,12}", "\\PC{1,80}", Just("상점-日本-🛒".to_owned()), Just("s".repeat(300))];
    let second = match table {
        Table::StorePayments => "(KRW|USD|\\PC{0,20})",
        Table::StoreClicks => "(view|cart|\\PC{0,40})",
        Table::StoreSales | Table::StoreProducts => "",
    };
    let limit = if table == Table::StorePayments { 10_i128.pow(37) } else { i64::MAX.into() };
    let sum = prop_oneof![Just(limit), Just(-limit), Just(0), -10_000..10_000_i128, -limit..limit];
    let count = prop_oneof![Just(0), Just(1), Just(i64::MAX), Just(i64::MIN), -5..1000_i64];
    let epochs = prop_oneof![Just(EPOCH), Just(0), 0..7_258_118_400_000_u64];
    (store, second, prop_oneof![Just(WINDOW), 0..WINDOW], sum, count.clone(), count, 0..=i32::MAX as u32, epochs).prop_map(
        move |(store, second, window, sum, count, distinct, revision, epoch)| HistoryRow {
            epoch,
            table,
            window: if table.windowed() { window } else { NO_WINDOW },
            key: key(&store, &second),
            value: Value { sum, count, distinct },
            revision,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_come_back(
        rows in (0..4_usize).prop_flat_map(|at| prop::collection::vec(any_row(Table::ALL[at]), 1..300)),
        clicks_distinct in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let table = rows[0].table;
        let path = written(dir.path(), table, clicks_distinct, &rows);
        let back = read_rows(&path, table).unwrap();
        let rows: Vec<_> = rows.iter().map(|row| expected(row, clicks_distinct)).collect();
        prop_assert_eq!(back, rows);
    }

    /// Whatever happens to a file, reading it is an error that names it: never a panic, never other rows.
    #[test]
    fn damage_is_an_error(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..50).map(|n| row(Table::StorePayments, EPOCH, WINDOW, &format!("s{n}"))).collect();
        let path = written(dir.path(), Table::StorePayments, false, &rows);
        let good = read_rows(&path, Table::StorePayments).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1_u8 << bit }
        std::fs::write(&path, bytes).unwrap();
        match read_rows(&path, Table::StorePayments) {
            Err(error) => prop_assert!(error.to_string().contains("store_payments.parquet")),
            // Some bits of a footer (sizes, names of encodings, statistics) say nothing about the rows.
            Ok(rows) => prop_assert!(!cut && rows == good),
        }
    }
}

/// More rows than a row group and more stores than a dictionary is worth.
#[test]
fn many_rows_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..200_000_u64)
        .map(|n| {
            let mut row = row(Table::StoreClicks, EPOCH, WINDOW + (n % 3) as i64, &format!("store-{}", n * 7919 % 300_007));
            row.value = Value { sum: 0, count: (n * n % 100_003) as i64, distinct: (n % 7) as i64 };
            row.revision = u32::from(n % 1000 == 0);
            row
        })
        .collect();
    let path = written(dir.path(), Table::StoreClicks, true, &rows);
    let back = read_rows(&path, Table::StoreClicks).unwrap();
    assert!(back.iter().eq(rows.iter().map(|row| expected(row, true)).collect::<Vec<_>>().iter()));
}

#[test]
fn an_empty_table_is_a_file_without_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), Table::StoreSales, false, &[]);
    assert_eq!(read_rows(&path, Table::StoreSales).unwrap(), []);
}

#[test]
fn foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), Table::StoreSales, false, &[row(Table::StoreSales, EPOCH, WINDOW, "a")]);
    let chain = |error: PublishError| format!("{error}: {}", std::error::Error::source(&error).unwrap());
    let error = chain(read_rows(&path, Table::StoreClicks).unwrap_err());
    assert!(error.ends_with("as a table of storeflow: it is of table \"store_sales\""), "{error}");
    std::fs::write(&path, "id,name\n1,a\n").unwrap();
    let error = chain(read_rows(&path, Table::StoreSales).unwrap_err());
    assert!(error.contains("store_sales.parquet"), "{error}");
    let missing = dir.path().join("none.parquet");
    assert!(
        matches!(read_rows(&missing, Table::StoreSales), Err(PublishError::Io { action: "read", path, .. }) if path == missing)
    );
}

#[test]
fn items_beyond_64_bits_are_an_error_and_not_another_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut row = row(Table::StoreSales, EPOCH, WINDOW, "a");
    row.value.sum = i128::from(i64::MAX) + 1;
    let path = dir.path().join("x.parquet");
    let store = Store::folder(dir.path()).unwrap();
    let error = write_rows(&store, "x.parquet", &schema(Table::StoreSales, false), &[row], &meta()).unwrap_err();
    assert!(error.to_string().contains("x.parquet"), "{error}");
    assert!(!path.exists(), "what failed never gets its name");
}

fn create(root: &Path, name: &str, workers: usize) -> Result<Generation, PublishError> {
    Generation::create(&Store::folder(root)?, &job(name), workers, None)
}

fn open(root: &Path) -> Result<Current, PublishError> {
    Current::open(&Store::folder(root)?)
}

#[test]
fn a_run_is_seen_once_it_has_finished() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("data");
    let crashed = create(&root, "mall", 2).unwrap();
    assert!(matches!(open(&root), Err(PublishError::NoRun { .. })));
    assert!(matches!(create(&root, "mall", 2), Err(PublishError::Store(StoreError::Locked { .. }))), "one run at a time");
    drop(crashed);

    let first = create(&root, "mall", 2).unwrap();
    let dir = first.place();
    assert_eq!(dir, root.join("mall/gen-000002"), "not the one of the crash");
    MemoryView::new(2).dump(&first).unwrap();
    first.finish(AS_OF).unwrap();
    assert!(!root.join("mall/gen-000001").exists(), "what the crash left is removed");

    let current = open(&root).unwrap();
    assert_eq!((current.about.job.as_str(), current.about.generation, current.as_of), ("mall", 2, AS_OF));
    assert_eq!((current.about.scale, current.about.workers, current.about.horizons), (2, 2, job("mall").horizons));
    assert_eq!(current.view_rows(Table::StorePayments).unwrap(), []);

    let crashed = create(&root, "mall", 1).unwrap();
    drop(crashed);
    assert_eq!(open(&root).unwrap().about.generation, 2, "a crash changes nothing");
    let next = create(&root, "mall", 1).unwrap();
    next.finish(AS_OF + 1).unwrap();
    assert_eq!(open(&root).unwrap().about.generation, 4);
    assert!(!dir.exists());
    assert_eq!(std::fs::read_dir(root.join("mall")).unwrap().count(), 1);
}

#[test]
fn a_directory_holds_one_job() {
    let root = tempfile::tempdir().unwrap();
    create(root.path(), "mall", 1).unwrap().finish(AS_OF).unwrap();
    let error = create(root.path(), "market", 1).unwrap_err();
    assert!(matches!(error, PublishError::OtherJob { .. }));
    assert!(error.to_string().ends_with("holds job \"mall\", not \"market\""), "{error}");
    assert!(!root.path().join("market").exists());
}

#[test]
fn a_damaged_pointer_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    create(root.path(), "mall", 1).unwrap().finish(AS_OF).unwrap();
    let path = root.path().join("current.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in ["", "{}", &text.replace("\"format\": 2", "\"format\": 9")] {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(open(root.path()), Err(PublishError::Unreadable { path: found, .. }) if found == path));
        assert!(create(root.path(), "mall", 1).is_err(), "nor is it written over");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = create(&file.join("data"), "mall", 1).unwrap_err();
    assert!(
        matches!(&error, PublishError::Store(StoreError::Io { action: "create", path, .. }) if *path == file.join("data")),
        "{error}"
    );
}

fn change(after: u64, window: i64, store: &str, value: Option<i64>) -> CellChange {
    let value = value.map(|sum| (Value { sum: sum.into(), count: 1, distinct: 0 }, 0));
    CellChange { after, table: Table::StorePayments, window, key: key(store, "KRW"), value }
}

#[test]
fn the_view_moves_with_its_as_of() {
    let view = MemoryView::new(2);
    let mut changes = vec![
        change(5, 0, "a", Some(10)),
        change(6, 0, "b", Some(20)),
        change(7, 1, "a", Some(1)),
        change(8, 0, "a", Some(11)),
        change(9, 1, "a", None),
    ];
    let mut expiries = vec![WindowExpiry { after: 9, table: Table::StorePayments, window: 0 }];
    view.apply(0, 7, &mut changes, &mut expiries);
    assert_eq!((changes.len(), expiries.len()), (3, 1), "what is due at later as-ofs stays");
    assert_eq!(view.as_of(), 0, "the other worker is not there yet");
    view.apply(1, 9, &mut vec![change(8, 0, "c", Some(5))], &mut Vec::new());
    assert_eq!(view.as_of(), 7);
    assert_eq!(view.top_stores("KRW", 2), [("b".to_owned(), 20), ("a".to_owned(), 10)]);
    assert_eq!(view.top_stores("USD", 2), []);
    view.apply(0, 9, &mut changes, &mut expiries);
    let totals = view.totals(Table::StorePayments);
    assert_eq!((totals.cells, totals.sum, totals.count, totals.windows), (4, 37, 4, 2));
    view.apply(0, 10, &mut changes, &mut expiries);
    assert_eq!((changes.len(), expiries.len()), (0, 0));
    let cells = view.snapshot(Table::StorePayments);
    assert_eq!(cells.len(), 1, "the window expired and the other cell was emptied: {cells:?}");
    assert_eq!(cells[0].key, key("c", "KRW"));
}

/// A small run: every output has rows, of two workers.
pub(crate) fn small_run(root: &Path) {
    let mut job = job("mall");
    job.sources = vec![clicks_with_distinct()];
    let generation = Generation::create(&Store::folder(root).unwrap(), &job, 2, None).unwrap();
    let names = std::sync::Arc::new(PartitionNames::sorted(["mall.clicks", "mall.payments"]));
    let late_partition = names.id("mall.payments", 3);
    let writer = HistoryWriter::start(&generation, 0..2, names).unwrap();
    let view = MemoryView::new(2);
    let next = EPOCH + 30 * 60_000;
    for (worker, store) in [(0, "s-2"), (1, "s-10")] {
        let mut changes = Vec::new();
        let mut rows = Vec::new();
        for table in Table::ALL {
            let window = if table.windowed() { WINDOW } else { NO_WINDOW };
            let mut row = row(table, EPOCH, window, store);
            row.value.sum = -row.value.sum;
            changes.push(CellChange { after: 1, table, window, key: row.key.clone(), value: Some((row.value, 1)) });
            rows.push(row.clone());
            // At the next epoch one of them has changed, and the other is gone.
            let value = if worker == 0 { row.value } else { Value::default() };
            rows.push(HistoryRow { epoch: next, revision: 1, value, ..row });
        }
        let late = |table, sum| LateAdjustment {
            table,
            window: WINDOW - 3 * 86_400_000,
            key: key(store, if table == Table::StoreSales { "" } else { "KRW" }),
            sum,
            count: -1,
            partition: late_partition,
            position: u64::from(u32::MAX) + worker as u64,
            stamp: EPOCH + 5,
        };
        let late = vec![late(Table::StorePayments, -1999), late(Table::StoreSales, 3)];
        writer.sender().send(Batch { worker, rows, late, dead_letters: vec![dead_letter(); 1 + worker] }).unwrap();
        view.apply(worker, next, &mut changes, &mut Vec::new());
    }
    writer.publish(next).unwrap();
    writer.close().unwrap();
    view.dump(&generation).unwrap();
    generation.finish(next).unwrap();
}

#[test]
fn a_run_is_read_back_in_order() {
    let root = tempfile::tempdir().unwrap();
    small_run(root.path());
    let current = open(root.path()).unwrap();
    for table in Table::ALL {
        let stores = |rows: Vec<Row>| rows.into_iter().map(|row| row.store_id).collect::<Vec<_>>();
        assert_eq!(stores(current.view_rows(table).unwrap()), ["s-10", "s-2"], "bytewise");
        assert_eq!(stores(current.history_rows(table).unwrap()), ["s-2"], "the other one was emptied");
        assert_eq!(current.history_changes(table).unwrap().len(), 4);
    }
    let late = current.late_rows().unwrap();
    let sums: Vec<_> = late.iter().map(|row: &LateRow| (row.table, row.store_id.as_str(), row.sum, row.topic.as_str())).collect();
    assert_eq!(
        sums,
        [
            (Table::StoreSales, "s-10", 3, "mall.payments"),
            (Table::StorePayments, "s-10", -1999, "mall.payments"),
            (Table::StoreSales, "s-2", 3, "mall.payments"),
            (Table::StorePayments, "s-2", -1999, "mall.payments"),
        ]
    );
    assert_eq!((late[0].position, late[0].partition, late[0].as_of), (4_294_967_296, 3, EPOCH + 30 * 60_000));
    assert_eq!(current.dead_letter_count().unwrap(), 3);
    let file = root.path().join(current.keys.view(Output::Cells(Table::StorePayments), 0));
    let bytes = std::fs::read(&file).unwrap();
    assert!(matches!(read_late(&file, bytes.into(), 2), Err(PublishError::Unreadable { .. })));
}

#[test]
fn a_live_run_shows_its_history_up_to_the_pointer() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::folder(root.path()).unwrap();
    let first = Generation::create(&store, &job("mall"), 2, Some(7)).unwrap();
    assert_eq!(first.about().generation, 7);
    let second = Generation::join(&store, &job("mall"), 2, 7).unwrap();
    let next = EPOCH + 30 * 60_000;
    let names = std::sync::Arc::new(PartitionNames::default());
    for (worker, generation) in [(0, &first), (1, &second)] {
        let writer = HistoryWriter::start(generation, worker..worker + 1, names.clone()).unwrap();
        let rows = [EPOCH, next].map(|epoch| row(Table::StoreSales, epoch, WINDOW, &format!("s-{worker}"))).to_vec();
        writer.sender().send(Batch { worker, rows, dead_letters: vec![dead_letter()], ..Batch::default() }).unwrap();
        let sender = writer.sender();
        writer.publish(EPOCH).unwrap();
        writer.publish(next).unwrap();
        writer.close().unwrap();
        assert_eq!(sender.shown(), next);
        generation.sync().unwrap();
    }
    first.advance(EPOCH + 1000).unwrap();
    let current = Current::open(&store).unwrap();
    assert_eq!((current.finished, current.as_of, current.about.generation), (false, EPOCH + 1000, 7));
    let rows = current.history_changes(Table::StoreSales).unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.epoch == EPOCH), "nothing past the pointer: {rows:?}");
    assert_eq!(current.dead_letter_count().unwrap(), 2);
    let error = current.view_rows(Table::StoreSales).unwrap_err();
    assert!(matches!(error, PublishError::Unfinished { .. }) && error.to_string().contains("Redis"), "{error}");
    first.finish(next).unwrap();
    let current = Current::open(&store).unwrap();
    assert_eq!((current.finished, current.history_changes(Table::StoreSales).unwrap().len()), (true, 4));
    assert!(matches!(current.view_rows(Table::StoreSales), Err(PublishError::NoView { .. })), "no view was dumped");
}

#[test]
fn each_process_dumps_its_part_of_the_view() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::folder(root.path()).unwrap();
    let first = Generation::create(&store, &job("mall"), 3, None).unwrap();
    let second = Generation::join(&store, &job("mall"), 3, 1).unwrap();
    for (workers, generation) in [(0..1, &first), (1..3, &second)] {
        let view = MemoryView::of(workers.clone());
        for worker in workers {
            view.apply(worker, 9, &mut vec![change(5, 0, &format!("s-{worker}"), Some(1))], &mut Vec::new());
        }
        view.dump(generation).unwrap();
        generation.sync().unwrap();
    }
    first.finish(9).unwrap();
    let stores: Vec<_> =
        open(root.path()).unwrap().view_rows(Table::StorePayments).unwrap().into_iter().map(|row| row.store_id).collect();
    assert_eq!(stores, ["s-0", "s-1", "s-2"]);
}

#[test]
fn only_what_was_created_can_be_joined() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::folder(root.path()).unwrap();
    let generation = create(root.path(), "mall", 2).unwrap();
    assert!(matches!(Generation::join(&store, &job("mall"), 2, 2), Err(PublishError::NoGeneration { .. })));
    assert!(matches!(Generation::resume(&store, &job("mall"), 2, 1), Err(PublishError::Store(StoreError::Locked { .. }))));
    drop(generation);
    // Somebody goes on with it, with other workers.
    assert_eq!(Generation::resume(&store, &job("mall"), 3, 1).unwrap().about().workers, 3);
    // A pointer to a newer run stays.
    let old = Generation::join(&store, &job("mall"), 2, 1).unwrap();
    create(root.path(), "mall", 2).unwrap().finish(AS_OF).unwrap();
    assert!(matches!(old.advance(AS_OF), Err(PublishError::Superseded { newer: 2, .. })));
}

#[test]
fn a_pointer_of_the_first_format_still_reads() {
    let root = tempfile::tempdir().unwrap();
    create(root.path(), "mall", 1).unwrap().finish(AS_OF).unwrap();
    let path = root.path().join("current.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let old = text.replace("\"format\": 2", "\"format\": 1").replace("  \"finished\": true,\n", "");
    assert!(!old.contains("finished"));
    std::fs::write(&path, old).unwrap();
    assert!(open(root.path()).unwrap().finished);
}
