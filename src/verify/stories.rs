//! Small histories with answers worked out by hand.
//!
//! Times are minutes. Windows are 30, grace 2, retention 60 and the replay horizon 180 minutes long, so the window 0 has its
//! own epoch at 32 and expires at 90.

mod clicks;
mod lookups;
mod parts;

use std::collections::{BTreeMap, BTreeSet};

use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::table::Table;

use super::{CellId, HistoryId, HistoryValue, LateRow, Recomputation};
use crate::config::{Format, Job, KafkaSpec, KeySpace, Role, SourceSpec, TimeSpec, TimeUnit};

const MINUTE: u64 = 60_000;

/// A job with a source of every kind.
pub(super) fn job() -> Job {
    let accepted =
        |field: &str, values: &[&str]| BTreeMap::from([(field.into(), values.iter().map(|v| v.to_string()).collect())]);
    let source = |topic: &str, role, format, key: &[&str]| SourceSpec {
        key: key.iter().map(|field| (*field).into()).collect(),
        time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None }),
        ..SourceSpec::plain(topic, role, format, "store")
    };
    Job {
        name: "stories".to_string(),
        horizons: Horizons {
            window: 30 * MINUTE,
            grace: 2 * MINUTE,
            retention: 60 * MINUTE,
            replay_horizon: 180 * MINUTE,
            before: Before::NOTHING,
        },
        scale: 2,
        currency: Some("KRW".to_string()),
        timezone: "Asia/Seoul".to_string(),
        kafka: KafkaSpec::default(),
        schema_registry: None,
        sources: vec![
            SourceSpec {
                amount: Some("amount".into()),
                currency: Some("currency".into()),
                counts_when: accepted("status", &["PAID", "REFUNDED"]),
                ..source("payments*", Role::Payments, Format::Debezium, &["id"])
            },
            SourceSpec {
                product: Some("product".into()),
                quantity: Some("quantity".into()),
                ..source("items", Role::OrderItems, Format::Upsert, &["item"])
            },
            SourceSpec {
                time: None,
                counts_when: accepted("on_sale", &["true", "1"]),
                ..source("products", Role::Products, Format::Debezium, &["id"])
            },
            SourceSpec {
                product: Some("product".into()),
                kind: Some("kind".into()),
                distinct: true,
                ..source("clicks", Role::Clicks, Format::Json, &[])
            },
            SourceSpec {
                product: Some("product".into()),
                kind: Some("kind".into()),
                ..source("views", Role::Clicks, Format::Json, &[])
            },
        ],
    }
}

/// A history in kcat envelopes.
struct Story {
    job: Job,
    /// By topic and partition: the last timestamp, and the lines.
    files: BTreeMap<(String, u32), (u64, Vec<String>)>,
}

impl Story {
    fn new() -> Self {
        Story { job: job(), files: BTreeMap::new() }
    }

    /// A record at a time in milliseconds, with a JSON text as value. Where the log would jump by more than an hour, dead
    /// letters lead the clock there.
    fn record(&mut self, topic: &str, partition: u32, at: u64, key: Option<&str>, value: Option<&str>) -> &mut Self {
        let (clock, lines) = self.files.entry((topic.to_string(), partition)).or_insert((at, Vec::new()));
        let mut push = |ts: u64, key: Option<&str>, value: Option<&str>| {
            let envelope = |(key, payload)| {
                format!(
                    r#"{{"topic":"{topic}","partition":{partition},"offset":{},"ts":{ts},"key":{key},"payload":{payload}}}"#,
                    lines.len()
                )
            };
            let json = |text: Option<&str>| serde_json::to_string(&text).unwrap();
            lines.push(envelope((json(key), json(value))));
        };
        while *clock + 60 * MINUTE < at {
            *clock += 60 * MINUTE;
            push(*clock, None, Some("lead"));
        }
        *clock = at.max(*clock);
        push(at, key, value);
        self
    }

    /// A Debezium change in `payments`. `row` is `store amount minute [status [currency]]`, or empty for a delete.
    fn payment(&mut self, at: u64, id: u32, row: &str) -> &mut Self {
        self.versioned_payment(at, id, row, "{}")
    }

    fn versioned_payment(&mut self, at: u64, id: u32, row: &str, source: &str) -> &mut Self {
        let value = payment(id, row, source);
        self.record("payments", 0, at, None, Some(&value))
    }

    /// An upsert in `items`: `store product quantity minute`, or empty for a delete.
    fn item(&mut self, at: u64, item: &str, row: &str) -> &mut Self {
        let value = match row.split(' ').collect::<Vec<_>>()[..] {
            [store, product, quantity, minute] => {
                Some(format!(r#"{{"store":"{store}","product":"{product}","quantity":{quantity},"at":{}}}"#, millis(minute)))
            }
            _ => None,
        };
        self.record("items", 0, at, Some(item), value.as_deref())
    }

    /// A click: `store kind product minute`, where the product may be `-`.
    fn click(&mut self, topic: &str, at: u64, row: &str) -> &mut Self {
        let [store, kind, product, minute] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let product = if product == "-" { "null".to_string() } else { format!("\"{product}\"") };
        let value = format!(r#"{{"store":"{store}","kind":"{kind}","product":{product},"at":{}}}"#, millis(minute));
        self.record(topic, 0, at, None, Some(&value))
    }

    fn recompute(&self) -> Recomputation {
        let content = |lines: &Vec<String>| lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
        let files: Vec<_> =
            self.files.iter().map(|((topic, partition), (_, lines))| (topic.clone(), *partition, content(lines))).collect();
        Recomputation::from_files(&self.job, &files)
    }

    /// Checks the view at an as-of: lines of `table store[/second] window: sum count distinct revision`.
    fn view(&self, as_of: u64, expected: &[&str]) -> &Self {
        let cells = self.recompute().cells_at(as_of);
        let lines = cells
            .iter()
            .map(|(cell, row)| format!("{}: {} {} {} r{}", short(cell), row.sum, row.count, row.distinct, row.revision));
        assert_eq!(lines.collect::<Vec<_>>(), expected, "view at {as_of}");
        self
    }

    /// Checks the history: lines of `epoch table store[/second] window: sum count distinct revision`.
    fn history(&self, as_of: u64, expected: &[&str]) -> &Self {
        let line = |(id, row): (HistoryId, HistoryValue)| {
            let deleted = if row.deleted { " deleted" } else { "" };
            format!(
                "{} {}: {} {} {} r{}{deleted}",
                id.epoch / MINUTE,
                short(&id.cell),
                row.sum,
                row.count,
                row.distinct,
                row.revision
            )
        };
        assert_eq!(
            self.recompute().history_through(as_of).into_iter().map(line).collect::<Vec<_>>(),
            expected,
            "history through {as_of}"
        );
        self
    }

    /// Checks the late adjustments: lines of `stamp table store[/second] window: sum count, epoch`.
    fn late(&self, as_of: u64, expected: &[&str]) -> &Self {
        let line = |row: &LateRow| {
            format!("{} {}: {:+} {:+}, {}", row.stamp / MINUTE, short(&row.cell), row.sum, row.count, row.epoch / MINUTE)
        };
        assert_eq!(self.recompute().late_at(as_of).iter().map(line).collect::<Vec<_>>(), expected, "late at {as_of}");
        self
    }

    /// Checks the numbers of stale changes, corrections and late adjustments.
    fn counts(&self, as_of: u64, expected: [u64; 3]) -> &Self {
        let counts = self.recompute().counts_at(as_of);
        assert_eq!([counts.stale, counts.corrections, counts.late_adjustments], expected, "counts at {as_of}");
        self
    }
}

fn short(cell: &CellId) -> String {
    let table = match cell.table {
        Table::StorePayments => "payments",
        Table::StoreSales => "sales",
        Table::StoreClicks => "clicks",
        Table::StoreProducts => "products",
    };
    let second = if cell.second.is_empty() { String::new() } else { format!("/{}", cell.second) };
    let window = cell.window.map_or(String::new(), |window| format!(" {}", window / MINUTE));
    format!("{table} {}{second}{window}", cell.store)
}

fn millis(minute: &str) -> u64 {
    minute.parse::<u64>().unwrap() * MINUTE
}

/// A Debezium value, see [`Story::payment`].
fn payment(id: u32, row: &str, source: &str) -> String {
    let mut words = row.split_whitespace();
    let (Some(store), Some(amount), Some(minute)) = (words.next(), words.next(), words.next()) else {
        return format!(r#"{{"op":"d","before":{{"id":{id}}},"after":null,"source":{source}}}"#);
    };
    let status = words.next().unwrap_or("PAID");
    let currency = words.next().map_or("null".to_string(), |currency| format!("\"{currency}\""));
    let at = millis(minute);
    format!(
        r#"{{"op":"u","after":{{"id":{id},"store":"{store}","amount":"{amount}","status":"{status}","currency":{currency},"at":{at}}},"source":{source}}}"#
    )
}

#[test]
fn a_payment_moves_changes_leaves_and_returns() {
    let mut story = Story::new();
    story.payment(MINUTE, 1, "a 10.50 5").payment(2 * MINUTE, 2, "a 1 29");
    story.view(2 * MINUTE, &["payments a/KRW 0: 1050 1 0 r0"]);
    story.view(2 * MINUTE + 1, &["payments a/KRW 0: 1150 2 0 r0"]);
    // To another store, in one cut.
    story.payment(3 * MINUTE, 1, "b 10.50 5");
    story.view(3 * MINUTE + 1, &["payments a/KRW 0: 100 1 0 r0", "payments b/KRW 0: 1050 1 0 r0"]);
    // A status that does not count, though the row is still the latest; then one that does, in another window and currency.
    story.payment(4 * MINUTE, 1, "b 10.50 5 FAILED");
    story.view(4 * MINUTE + 1, &["payments a/KRW 0: 100 1 0 r0"]);
    story.payment(5 * MINUTE, 1, "b -10.50 30 REFUNDED USD");
    story.view(5 * MINUTE + 1, &["payments a/KRW 0: 100 1 0 r0", "payments b/USD 30: -1050 1 0 r0"]);
    // A cell of sum 0 is a cell; a deleted row is gone, twice deleted as well; and it may come back.
    story.payment(6 * MINUTE, 3, "b 10.50 30 PAID USD").payment(7 * MINUTE, 2, "").payment(8 * MINUTE, 2, "");
    story.view(8 * MINUTE + 1, &["payments b/USD 30: 0 2 0 r0"]);
    story.payment(9 * MINUTE, 2, "a 7 1");
    story.view(9 * MINUTE + 1, &["payments a/KRW 0: 700 1 0 r0", "payments b/USD 30: 0 2 0 r0"]);
    story.counts(9 * MINUTE + 1, [0, 0, 0]);
}

#[test]
fn an_older_version_changes_nothing() {
    let binlog = |server: u32, file: &str, pos: u32, row: u32| {
        format!(r#"{{"connector":"mysql","name":"m","server_id":{server},"file":"{file}","pos":{pos},"row":{row}}}"#)
    };
    let mut story = Story::new();
    story.versioned_payment(MINUTE, 1, "a 5 1", &binlog(7, "bin.999999", 100, 1));
    let stale = ["payments a/KRW 0: 500 1 0 r0"];
    for (server, file, pos, row) in [(7, "bin.999999", 100, 0), (7, "bin.999999", 99, 5), (0, "bin.99999", 500, 0)] {
        story.versioned_payment(MINUTE, 1, "b 6 1", &binlog(server, file, pos, row)).view(2 * MINUTE, &stale);
    }
    story.versioned_payment(MINUTE, 1, "", &binlog(7, "bin.999998", 1, 0)).view(2 * MINUTE, &stale);
    story.counts(2 * MINUTE, [4, 0, 0]);
    // The same position is not older, and a longer file number is later.
    story
        .versioned_payment(MINUTE, 1, "a 6 1", &binlog(7, "bin.999999", 100, 1))
        .view(2 * MINUTE, &["payments a/KRW 0: 600 1 0 r0"]);
    story
        .versioned_payment(MINUTE, 1, "a 7 1", &binlog(7, "bin.1000000", 4, 0))
        .view(2 * MINUTE, &["payments a/KRW 0: 700 1 0 r0"]);
    // Another server, another base name, another connector: not comparable, so arrival decides.
    story.versioned_payment(MINUTE, 1, "a 8 1", &binlog(8, "bin.1", 4, 0)).view(2 * MINUTE, &["payments a/KRW 0: 800 1 0 r0"]);
    story.versioned_payment(MINUTE, 1, "a 9 1", &binlog(8, "log.0", 4, 0)).view(2 * MINUTE, &["payments a/KRW 0: 900 1 0 r0"]);
    let lsn = |lsn: u32| format!(r#"{{"connector":"postgresql","name":"m","db":"log","lsn":{lsn}}}"#);
    story.versioned_payment(MINUTE, 1, "a 10 1", &lsn(2)).view(2 * MINUTE, &["payments a/KRW 0: 1000 1 0 r0"]);
    story.versioned_payment(MINUTE, 1, "a 11 1", &lsn(1)).view(2 * MINUTE, &["payments a/KRW 0: 1000 1 0 r0"]);
    // A change without version keeps none.
    story.versioned_payment(MINUTE, 1, "a 12 1", &lsn(0)).versioned_payment(MINUTE, 1, "a 13 1", &lsn(1));
    story.view(2 * MINUTE, &["payments a/KRW 0: 1300 1 0 r0"]).counts(2 * MINUTE, [5, 0, 0]);
}

#[test]
fn a_transaction_that_was_open_while_a_snapshot_read_is_newer_than_what_was_read() {
    let lsn = |lsn: u32| format!(r#"{{"connector":"postgresql","name":"m","db":"log","lsn":{lsn}}}"#);
    let read = |row: &str, source: &str| payment(1, row, source).replacen("\"u\"", "\"r\"", 1);
    let mut story = Story::new();
    // Read where the log was at 9; changed at 8 and committed after that.
    story.record("payments", 0, MINUTE, None, Some(&read("a 1 1", &lsn(9))));
    story.versioned_payment(2 * MINUTE, 1, "a 2 1", &lsn(8)).view(3 * MINUTE, &["payments a/KRW 0: 200 1 0 r0"]);
    // Read again: what was read last is what there is.
    story.record("payments", 0, 3 * MINUTE, None, Some(&read("a 3 1", &lsn(9))));
    story.view(4 * MINUTE, &["payments a/KRW 0: 300 1 0 r0"]).counts(4 * MINUTE, [0, 0, 0]);
    // What was changed before the last change is older, though it was read since.
    story.versioned_payment(5 * MINUTE, 1, "a 4 1", &lsn(7)).view(6 * MINUTE, &["payments a/KRW 0: 300 1 0 r0"]);
    story.counts(6 * MINUTE, [1, 0, 0]);
}

#[test]
fn a_delete_fences_older_versions_for_the_replay_horizon() {
    let lsn = |lsn: u32| format!(r#"{{"connector":"postgresql","lsn":{lsn}}}"#);
    let deleted = 10 * MINUTE;
    for (again, view) in [(deleted + 180 * MINUTE - 1, &[][..]), (deleted + 180 * MINUTE, &["payments a/KRW 180: 500 1 0 r0"])] {
        let mut story = Story::new();
        story.versioned_payment(MINUTE, 1, "a 1 1", &lsn(8)).versioned_payment(deleted, 1, "", &lsn(9));
        story.versioned_payment(again, 1, "a 5 185", &lsn(7));
        story.view(again + 1, view).counts(again + 1, [u64::from(view.is_empty()), 0, 0]);
    }
}

#[test]
fn a_row_is_forgotten_after_expiry_and_replay_horizon() {
    // Window 0 expires at 90; the last change is at 40, so it is forgotten at 220. A stale change at 100 does not count as one.
    let lsn = |lsn: u32| format!(r#"{{"connector":"postgresql","lsn":{lsn}}}"#);
    let forgotten = 220 * MINUTE;
    for (again, late) in [(forgotten - 1, &["219 payments a/KRW 0: -500 -1, 242"][..]), (forgotten, &[])] {
        let mut story = Story::new();
        story.versioned_payment(40 * MINUTE, 1, "a 5 1", &lsn(9)).versioned_payment(100 * MINUTE, 1, "a 6 1", &lsn(8));
        story.versioned_payment(again, 1, "b 7 210", &lsn(10));
        story.view(again + 1, &["payments b/KRW 210: 700 1 0 r0"]).late(again + 1, late);
    }
    // The marker of 220 still knows the version until 400.
    for (again, stale) in [(400 * MINUTE - 1, 2), (400 * MINUTE, 1)] {
        let mut story = Story::new();
        story.versioned_payment(40 * MINUTE, 1, "a 5 1", &lsn(9)).versioned_payment(100 * MINUTE, 1, "a 6 1", &lsn(8));
        story.versioned_payment(again, 1, "b 7 390", &lsn(8));
        story.counts(again + 1, [stale, 1, 0]);
    }
    // A window that expires later than the horizon keeps its row until then: 300 ends at 330 and expires at 390.
    for (again, late) in [(390 * MINUTE - 1, &[][..]), (390 * MINUTE, &[])] {
        let mut story = Story::new();
        story.payment(40 * MINUTE, 1, "a 5 300").payment(again, 1, "b 7 390");
        let kept = again < 390 * MINUTE;
        story.late(again + 1, late).counts(again + 1, [0, u64::from(kept), 0]);
    }
}

#[test]
fn closed_and_expired_to_the_millisecond() {
    for (at, corrections, late) in [(32 * MINUTE - 1, 0, 0), (32 * MINUTE, 1, 0), (90 * MINUTE - 1, 1, 0), (90 * MINUTE, 0, 1)] {
        for topic in ["clicks", "payments"] {
            let mut story = Story::new();
            match topic {
                "clicks" => story.click("clicks", at, "a view p 29"),
                _ => story.payment(at, 1, "a 5 0"),
            };
            story.counts(at, [0, 0, 0]).counts(at + 1, [0, corrections, late]);
            assert_eq!(
                story.recompute().cells_at(at + 1).len(),
                usize::from(late == 0 && at + 1 < 90 * MINUTE),
                "{topic} at {at}"
            );
        }
    }
}

#[test]
fn the_view_covers_a_window_until_it_expires() {
    let mut story = Story::new();
    story.payment(MINUTE, 1, "a 5 1");
    story.view(90 * MINUTE - 1, &["payments a/KRW 0: 500 1 0 r0"]).view(90 * MINUTE, &[]);
    story.history(90 * MINUTE, &["32 payments a/KRW 0: 500 1 0 r0"]);
}

#[test]
fn what_comes_late_is_adjusted_by_net_and_side() {
    let mut story = Story::new();
    story.payment(MINUTE, 1, "a 5 1").item(MINUTE, "i", "a p 3 1");
    // One cell: one row with the net. No change: no row. Two products: two rows. Out of the old window, into one that is open.
    story.payment(100 * MINUTE, 1, "a 7 2").payment(101 * MINUTE, 1, "a 7 3").item(102 * MINUTE, "i", "a q 4 1");
    story.payment(103 * MINUTE, 1, "b 7 100").click("clicks", 104 * MINUTE, "a view p 3").payment(105 * MINUTE, 1, "a 8 3");
    let late = [
        "100 payments a/KRW 0: +200 +0, 122",
        "102 sales a 0: -3 -1, 122",
        "102 sales a 0: +4 +1, 122",
        "103 payments a/KRW 0: -700 -1, 122",
        "104 clicks a/view 0: +0 +1, 122",
        "105 payments a/KRW 0: +800 +1, 122",
    ];
    story.late(105 * MINUTE, &late[..5]).late(106 * MINUTE, &late).counts(106 * MINUTE, [0, 0, 6]);
    // The expired cells stay as they were published.
    story.history(200 * MINUTE, &["32 payments a/KRW 0: 500 1 0 r0", "32 sales a 0: 3 1 1 r0"]);
    story.view(106 * MINUTE, &[]);
}

#[test]
fn corrections_are_contributions_that_change_something() {
    let mut story = Story::new();
    story.payment(MINUTE, 1, "a 5 1").item(MINUTE, "i", "a p 3 1");
    let mut check = |corrections: u64, then: &dyn Fn(&mut Story)| {
        then(&mut story);
        story.counts(80 * MINUTE, [0, corrections, 0]);
    };
    check(0, &|story| {
        story.payment(33 * MINUTE, 1, "a 5 2");
    }); // the same cell and amount
    check(1, &|story| {
        story.payment(34 * MINUTE, 1, "a 6 2");
    }); // the net
    check(3, &|story| {
        story.payment(35 * MINUTE, 1, "b 6 2");
    }); // two cells
    check(4, &|story| {
        story.payment(36 * MINUTE, 1, "b 6 31");
    }); // out of a closed window, into an open one
    check(6, &|story| {
        story.item(37 * MINUTE, "i", "a q 3 1");
    }); // another product of the same cell
    check(7, &|story| {
        story.item(38 * MINUTE, "i", "");
    }); // a delete
    check(7, &|story| {
        story.item(39 * MINUTE, "i", "");
    }); // of nothing
    check(8, &|story| {
        story.click("views", 40 * MINUTE, "a view p 1");
    });
}

#[test]
fn revisions_count_the_epochs_that_changed_a_cell() {
    let mut story = Story::new();
    story.job.horizons.retention = 600 * MINUTE;
    story.payment(MINUTE, 1, "a 5 1");
    // Changed and changed back within an epoch: nothing. Emptied at 92, refilled at 152, new cell b after its epoch: revision 1.
    story.payment(40 * MINUTE, 1, "a 6 1").payment(61 * MINUTE, 1, "a 5 1");
    story.payment(62 * MINUTE, 1, "").payment(130 * MINUTE, 1, "a 5 1").payment(151 * MINUTE, 2, "b 1 1");
    story.payment(152 * MINUTE, 2, "b 2 1");
    let history = [
        "32 payments a/KRW 0: 500 1 0 r0",
        "92 payments a/KRW 0: 0 0 0 r1 deleted",
        "152 payments a/KRW 0: 500 1 0 r2",
        "152 payments b/KRW 0: 100 1 0 r1",
        "182 payments b/KRW 0: 200 1 0 r2",
    ];
    for (as_of, rows) in [(31, 0), (32, 1), (91, 1), (92, 2), (151, 2), (152, 4), (181, 4), (182, 5), (9_999_999, 5)] {
        story.history(as_of * MINUTE, &history[..rows]);
    }
    let a = "payments a/KRW 0: 500 1 0 r0";
    story.view(32 * MINUTE, &[a]).view(62 * MINUTE, &[a]).view(62 * MINUTE + 1, &[]).view(130 * MINUTE, &[]);
    // Refilled, but not yet published: the revision is still that of the emptied cell.
    story.view(151 * MINUTE, &["payments a/KRW 0: 500 1 0 r1"]);
    story.view(152 * MINUTE, &["payments a/KRW 0: 500 1 0 r2", "payments b/KRW 0: 100 1 0 r1"]);
    story.view(153 * MINUTE, &["payments a/KRW 0: 500 1 0 r2", "payments b/KRW 0: 200 1 0 r1"]);
    story.view(182 * MINUTE, &["payments a/KRW 0: 500 1 0 r2", "payments b/KRW 0: 200 1 0 r2"]);
}

#[test]
fn a_window_is_published_at_its_own_epoch_even_if_nothing_happens_then() {
    let mut story = Story::new();
    story.click("clicks", MINUTE, "a view p 200");
    story.history(211 * MINUTE, &[]).history(212 * MINUTE, &["212 clicks a/view 180: 0 1 1 r0"]);
}

#[test]
fn products_are_published_when_they_change_and_never_close() {
    let product = |id: u32, store: &str, on_sale: &str| {
        format!(r#"{{"payload":{{"op":"c","after":{{"id":{id},"store":"{store}","on_sale":{on_sale}}}}}}}"#)
    };
    let mut story = Story::new();
    let mut record = |at: u64, value: &str| {
        story.record("products", 0, at * MINUTE, None, Some(value));
    };
    record(1, &product(1, "a", "true"));
    record(2, &product(2, "a", "1"));
    record(3, &product(3, "a", "false"));
    record(40, &product(1, "b", "\"true\""));
    record(41, &product(2, "b", "\"yes\""));
    record(500, &product(3, "b", "1"));
    story.view(3 * MINUTE + 1, &["products a: 0 2 0 r0"]);
    story.view(501 * MINUTE, &["products b: 0 2 0 r0"]).counts(501 * MINUTE, [0, 0, 0]);
    let history =
        ["2 products a: 0 1 0 r0", "32 products a: 0 2 0 r0", "62 products a: 0 0 0 r0 deleted", "62 products b: 0 1 0 r0"];
    story.history(500 * MINUTE, &history);
    story.history(511 * MINUTE, &history).history(512 * MINUTE, &[&history[..], &["512 products b: 0 2 0 r0"]].concat());
}

#[test]
fn distinct_products_are_counted_by_their_rows() {
    let mut story = Story::new();
    story.item(MINUTE, "1", "a p 2 1").item(MINUTE, "2", "a p -2 2").item(MINUTE, "3", "a q 0 3");
    story.view(2 * MINUTE, &["sales a 0: 0 3 2 r0"]);
    story.item(3 * MINUTE, "1", "").view(4 * MINUTE, &["sales a 0: -2 2 2 r0"]);
    story.item(5 * MINUTE, "2", "a q 1 2").view(6 * MINUTE, &["sales a 0: 1 2 1 r0"]);
    let mut clicks = Story::new();
    clicks.click("clicks", MINUTE, "a view p 1").click("clicks", MINUTE, "a view p 1").click("clicks", MINUTE, "a view - 1");
    clicks.click("clicks", MINUTE, "a buy p 1").click("views", MINUTE, "a view q 1");
    clicks.view(2 * MINUTE, &["clicks a/buy 0: 0 1 1 r0", "clicks a/view 0: 0 4 1 r0"]);
}

#[test]
fn changes_of_a_key_are_ordered_over_topics_and_partitions() {
    let check = |key_space, expected: &[&str]| {
        let mut story = Story::new();
        story.job.sources[0].key_space = key_space;
        // By stamp; then topic, partition, position: the last is partition 10 of payments-b.
        for (topic, partition, at, row) in [
            ("payments-b", 10, 5, "a 1 1"),
            ("payments-b", 10, 5, "a 2 1"),
            ("payments-b", 9, 5, "a 3 1"),
            ("payments-a", 11, 5, "a 4 1"),
            ("payments-c", 0, 4, "a 5 1"),
        ] {
            story.record(topic, partition, at * MINUTE, None, Some(&payment(1, row, "{}")));
        }
        story.view(6 * MINUTE, expected);
    };
    check(KeySpace::Role, &["payments a/KRW 0: 200 1 0 r0"]);
    check(KeySpace::Topic, &["payments a/KRW 0: 1100 3 0 r0"]);
}

#[test]
fn tables_that_share_a_topic_share_no_keys() {
    let mut story = Story::new();
    let mut other = story.job.sources[0].clone();
    (story.job.sources[0].table, other.table) = (Some("eu".to_string()), Some("us".to_string()));
    story.job.sources.push(other);
    for (table, row) in [("eu", "a 1 1"), ("us", "a 2 1"), ("asia", "a 4 1"), ("eu", "a 8 1")] {
        story.versioned_payment(MINUTE, 1, row, &format!(r#"{{"table":"{table}"}}"#));
    }
    story.payment(MINUTE, 1, "a 16 1").view(2 * MINUTE, &["payments a/KRW 0: 1000 2 0 r0"]);
    assert_eq!(story.recompute().counts_at(2 * MINUTE).skipped, 2);
}

#[test]
fn a_clock_starts_at_the_least_of_its_first_101_records() {
    // Bare clicks carry their own time. The earliest is the 101st record, or one too late to be asked.
    for (before, stamp) in [(100, 20 * MINUTE), (101, 25 * MINUTE)] {
        let click = |minute: u64| format!("{{\"store\":\"a\",\"kind\":\"v\",\"at\":{}}}\n", minute * MINUTE);
        let content = "\n".to_string() + &click(30) + &"{}\n".repeat(before - 2) + &click(25) + &click(20);
        let recomputation = Recomputation::from_files(&job(), &[("clicks".to_string(), 0, content.into_bytes())]);
        // The first click moves the clock to 30, whatever it started at.
        assert_eq!(recomputation.stamps().collect::<Vec<_>>(), [30 * MINUTE]);
        let content = "{}\n".repeat(before - 1) + &click(25) + &click(20);
        let recomputation = Recomputation::from_files(&job(), &[("clicks".to_string(), 0, content.into_bytes())]);
        assert_eq!(recomputation.stamps().next(), Some(stamp), "{before} records before");
        assert_eq!(recomputation.stamps().last(), Some(25 * MINUTE));
    }
}

#[test]
fn a_device_clock_does_not_poison_a_partition() {
    let mut story = Story::new();
    story.click("clicks", MINUTE, "a v p 1");
    let far = 50_000 * MINUTE;
    let lines = &mut story.files.get_mut(&("clicks".to_string(), 0)).unwrap().1;
    let line = |ts: u64| format!(r#"{{"topic":"clicks","partition":0,"offset":1,"ts":{ts},"payload":"{{}}"}}"#);
    lines.extend((0..100).map(|_| line(far)));
    assert_eq!(story.recompute().end_as_of(), MINUTE + 1000);
    let lines = &mut story.files.get_mut(&("clicks".to_string(), 0)).unwrap().1;
    lines.push(line(far + 1));
    let recomputation = story.recompute();
    assert_eq!((recomputation.end_as_of(), recomputation.stamps().collect::<Vec<_>>()), (far + 1000, vec![MINUTE, far]));
    assert_eq!((recomputation.counts_at(far).clock_jumps, recomputation.counts_at(far + 1).clock_jumps), (0, 1));
}

#[test]
fn a_replay_ends_at_the_second_after_its_highest_clock() {
    let end = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(topic, text)| (topic.to_string(), 0, text.as_bytes().to_vec())).collect();
        Recomputation::from_files(&job(), &files).end_as_of()
    };
    let click = |at: u64| format!(r#"{{"store":"a","kind":"v","at":{at}}}"#);
    assert_eq!(end(&[]), 0);
    assert_eq!(end(&[("clicks", "\n \n"), ("nobody", "{}")]), 0);
    assert_eq!(end(&[("clicks", "{}")]), 1000);
    assert_eq!(end(&[("clicks", &click(0))]), 1000);
    assert_eq!(end(&[("clicks", &click(999))]), 1000);
    assert_eq!(end(&[("clicks", &click(1000)), ("views", &click(3))]), 2000);
}

#[test]
fn every_record_is_counted_once() {
    let text = concat!(
        "{\"store\":\"a\",\"kind\":\"v\",\"at\":60000}\n",
        "\n \t\r\n",
        "nonsense\n",
        "{\"topic\":\"clicks\",\"partition\":0,\"offset\":70,\"ts\":60000,\"payload\":null}\r\n",
        "{\"topic\":\"clicks\",\"partition\":0,\"offset\":\"71\",\"ts\":60000,\"payload\":null}\n",
        "{\"topic\":\"clicks\",\"partition\":0,\"offset\":72,\"ts\":60001,\"payload\":{\"store\":\"a\",\"kind\":\"v\",\"at\":60000}}"
    );
    let recomputation = Recomputation::from_files(&job(), &[("clicks".to_string(), 4, text.as_bytes().to_vec())]);
    let counts = recomputation.counts_at(60_001);
    let dead: Vec<String> = counts.dead_letters.iter().map(|letter| letter.to_string()).collect();
    let place = "topic \"clicks\" partition 4 position";
    assert_eq!(dead, [format!("{place} 3: not_json"), format!("{place} 5: envelope"), format!("{place} 70: not_an_object")]);
    assert_eq!((counts.records, counts.skipped), (4, 0));
    assert_eq!(recomputation.counts_at(60_002).records, 5);
    let view = recomputation.cells_at(60_002);
    assert_eq!(view.values().map(|row| row.count).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_gap_of_decades_is_cheap() {
    let mut story = Story::new();
    story.job.horizons.retention = 230 * 365 * 24 * 60 * MINUTE;
    story.click("clicks", MINUTE, "a v p 1").click("views", 7_000_000_000_000, "a v p 1");
    let recomputation = story.recompute();
    let row = recomputation.cells_at(recomputation.end_as_of()).into_values().next().unwrap();
    assert_eq!((row.count, row.revision), (2, 0));
    assert_eq!(recomputation.history_through(u64::MAX).len(), 2);
}

proptest::proptest! {
    /// Revisions and history by their definition: look at the values of every single epoch.
    #[test]
    fn revisions_and_history_follow_from_the_values_at_epochs(
        changes in proptest::collection::vec((0..20u64, 0..4u32, 0..2u8, 0..3u32, 0..100u64), 1..12),
    ) {
        let mut story = Story::new();
        story.job.horizons.retention = 6_000 * MINUTE;
        let mut at = MINUTE;
        for (pause, id, store, amount, minute) in changes {
            at += pause * MINUTE;
            let row = format!("{store} {amount} {minute}");
            story.payment(at, id, if amount == 2 { "" } else { &row });
        }
        let recomputation = story.recompute();
        let epochs: Vec<u64> = (0..12).map(|k| (30 * k + 2) * MINUTE).collect();
        let values = |epoch: u64, cell: &CellId| recomputation.cells_at(epoch).get(cell).map(|row| (row.sum, row.count));
        let mut history = BTreeMap::new();
        let cells: BTreeSet<CellId> = epochs.iter().flat_map(|epoch| recomputation.cells_at(*epoch).into_keys()).collect();
        for cell in cells {
            let own = cell.window.unwrap() + 32 * MINUTE;
            let mut revision = 0;
            for (before, epoch) in epochs.iter().zip(&epochs[1..]).filter(|(_, epoch)| **epoch > own) {
                let (was, is) = (values(*before, &cell), values(*epoch, &cell));
                if was != is {
                    revision += 1;
                    let (sum, count) = is.unwrap_or_default();
                    let id = HistoryId { epoch: *epoch, cell: cell.clone() };
                    history.insert(id, HistoryValue { sum, count, distinct: 0, revision, deleted: is.is_none() });
                }
                if let Some(row) = recomputation.cells_at(*epoch).get(&cell) {
                    proptest::prop_assert_eq!(row.revision, revision);
                }
            }
            if let Some((sum, count)) = values(own, &cell) {
                let id = HistoryId { epoch: own, cell };
                history.insert(id, HistoryValue { sum, count, ..Default::default() });
            }
        }
        proptest::prop_assert_eq!(recomputation.history_through(epochs[11]), history);
    }
}
