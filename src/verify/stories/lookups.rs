//! Rows that find their store through another table.

use super::*;
use crate::config::StoreSpec;

/// Payments with a time of their own, and order items with that of their order.
fn story() -> Story {
    let mut story = Story::new();
    let through = StoreSpec::Through { lookup: "orders".to_string(), on: vec!["order".into()] };
    let job = &mut story.job;
    job.sources[0].store = through.clone();
    (job.sources[1].store, job.sources[1].time) = (through.clone(), None);
    job.sources[2].store = through;
    job.sources.push(SourceSpec {
        name: Some("orders".to_string()),
        key: vec!["id".into()],
        time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None }),
        counts_when: BTreeMap::from([("open".into(), vec!["true".to_string()])]),
        ..SourceSpec::plain("orders", Role::Lookup, Format::Upsert, "store")
    });
    story
}

impl Story {
    /// `store minute`, or empty for a delete.
    fn order(&mut self, at: u64, order: &str, row: &str) -> &mut Self {
        self.order_that(at, order, row, true)
    }

    fn order_that(&mut self, at: u64, order: &str, row: &str, open: bool) -> &mut Self {
        let value = row
            .split_once(' ')
            .map(|(store, minute)| format!(r#"{{"id":"{order}","store":"{store}","at":{},"open":{open}}}"#, millis(minute)));
        self.record("orders", 0, at, Some(order), value.as_deref())
    }

    /// `order amount minute [status]`, or empty for a delete.
    fn paid(&mut self, at: u64, id: u32, row: &str) -> &mut Self {
        let value = payment(id, row, "{}").replace("\"store\"", "\"order\"");
        self.record("payments", 0, at, None, Some(&value))
    }

    /// `order product quantity`, or empty for a delete.
    fn sold(&mut self, at: u64, item: &str, row: &str) -> &mut Self {
        let value = match row.split(' ').collect::<Vec<_>>()[..] {
            [order, product, quantity] => Some(format!(r#"{{"order":"{order}","product":"{product}","quantity":{quantity}}}"#)),
            _ => None,
        };
        self.record("items", 0, at, Some(item), value.as_deref())
    }

    /// Checks how many rows wait, and since which minute the oldest.
    fn waiting(&self, as_of: u64, rows: u64, since: Option<u64>) -> &Self {
        let counts = self.recompute().counts_at(as_of);
        assert_eq!((counts.waiting_rows, counts.waiting_since.map(|stamp| stamp / MINUTE)), (rows, since), "waiting at {as_of}");
        self
    }
}

#[test]
fn either_side_may_come_first_and_each_may_change() {
    let mut story = story();
    story.paid(MINUTE, 1, "o 5 1").sold(2 * MINUTE, "i", "o p 3").sold(3 * MINUTE, "j", "o q 1");
    story.view(4 * MINUTE, &[]).waiting(4 * MINUTE, 3, Some(1));
    story.order(4 * MINUTE, "o", "a 31");
    let at_a = ["payments a/KRW 0: 500 1 0 r0", "sales a 30: 4 2 2 r0"];
    story.view(4 * MINUTE + 1, &at_a).waiting(4 * MINUTE + 1, 0, None);
    // To another store, and to another window where the time is the order's.
    story.order(5 * MINUTE, "o", "b 1");
    story.view(5 * MINUTE + 1, &["payments b/KRW 0: 500 1 0 r0", "sales b 0: 4 2 2 r0"]);
    // A row changes, one goes, one comes, one refers to another order.
    story.paid(6 * MINUTE, 1, "o 7 1").sold(6 * MINUTE, "i", "").sold(6 * MINUTE, "k", "o q 8").sold(6 * MINUTE, "j", "r q 1");
    story.view(7 * MINUTE, &["payments b/KRW 0: 700 1 0 r0", "sales b 0: 8 1 1 r0"]).waiting(7 * MINUTE, 1, Some(6));
    // An order that does not count is there all the same; one that is deleted is not.
    story.order_that(7 * MINUTE, "o", "b 1", false).view(7 * MINUTE + 1, &[]).waiting(7 * MINUTE + 1, 1, Some(6));
    story.order(8 * MINUTE, "o", "").view(8 * MINUTE + 1, &[]).waiting(8 * MINUTE + 1, 3, Some(6));
    story.order(9 * MINUTE, "o", "a 1");
    story.view(9 * MINUTE + 1, &["payments a/KRW 0: 700 1 0 r0", "sales a 0: 8 1 1 r0"]).counts(9 * MINUTE + 1, [0, 0, 0]);
    // A row that does not count waits for nothing.
    story.paid(10 * MINUTE, 2, "s 1 1 FAILED").waiting(11 * MINUTE, 1, Some(6));
}

#[test]
fn products_refer_too_and_have_no_window() {
    let mut story = story();
    let product = r#"{"op":"c","after":{"id":1,"order":"o","on_sale":1}}"#;
    story.record("products", 0, MINUTE, None, Some(product)).order(2 * MINUTE, "o", "a 1");
    story.view(3 * MINUTE, &["products a: 0 1 0 r0"]);
    // Not even after months is a product forgotten.
    story.order(40_000 * MINUTE, "o", "b 1").view(40_001 * MINUTE, &["products b: 0 1 0 r0"]);
}

#[test]
fn a_change_of_an_order_moves_each_group_at_once() {
    let mut story = story();
    story.order(MINUTE, "o", "a 1").paid(2 * MINUTE, 1, "o 5 1").paid(2 * MINUTE, 2, "o 7 2").paid(2 * MINUTE, 3, "o 1 31");
    story.sold(2 * MINUTE, "i", "o p 3").sold(2 * MINUTE, "j", "o p 4").sold(2 * MINUTE, "k", "o q 0");
    // Closed at 32: per group and side one correction. The payment of window 30 is in an open one.
    story.order(40 * MINUTE, "o", "b 1").counts(41 * MINUTE, [0, 6, 0]);
    story.view(41 * MINUTE, &["payments b/KRW 0: 1200 2 0 r0", "payments b/KRW 30: 100 1 0 r0", "sales b 0: 7 3 2 r0"]);
    // Nothing moves.
    story.order(41 * MINUTE, "o", "b 2").counts(42 * MINUTE, [0, 6, 0]);
    // Expired at 90: late, by group and side. That of window 30 is closed at 62.
    story.order(95 * MINUTE, "o", "a 91");
    let late = [
        "95 payments a/KRW 0: +1200 +2, 122",
        "95 payments b/KRW 0: -1200 -2, 122",
        "95 sales b 0: -7 -2, 122",
        "95 sales b 0: +0 -1, 122",
    ];
    let mut sorted = late;
    sorted.sort_unstable();
    let mut found: Vec<String> = story
        .recompute()
        .late_at(96 * MINUTE)
        .iter()
        .map(|row| format!("{} {}: {:+} {:+}, {}", row.stamp / MINUTE, short(&row.cell), row.sum, row.count, row.epoch / MINUTE))
        .collect();
    found.sort_unstable();
    assert_eq!(found, sorted);
    story.counts(96 * MINUTE, [0, 8, 4]);
    story.view(96 * MINUTE, &["payments a/KRW 30: 100 1 0 r0", "sales a 90: 7 3 2 r0"]);
}

#[test]
fn late_is_decided_by_the_stamp_of_the_side_that_moves() {
    for (order_at, paid_at) in [(1, 90), (90, 1)] {
        let mut story = story();
        let (order, paid) = (order_at * MINUTE, paid_at * MINUTE);
        story.order(order, "o", "a 1").paid(paid, 1, "o 5 1");
        story.late(91 * MINUTE, &["90 payments a/KRW 0: +500 +1, 92"]).view(91 * MINUTE, &[]);
    }
}

#[test]
fn rows_and_groups_are_forgotten_and_what_they_gave_stays() {
    // The payment of window 0 is forgotten at 182, and its group at 200, as a later payment belongs to it.
    for (at, late) in [
        (200 * MINUTE - 1, &["199 payments a/KRW 0: -800 -2, 212", "199 payments b/KRW 0: +800 +2, 212"][..]),
        (200 * MINUTE, &[]),
    ] {
        let mut story = story();
        story.order(MINUTE, "o", "a 1").paid(2 * MINUTE, 1, "o 5 1").paid(20 * MINUTE, 2, "o 3 1").order(at, "o", "b 1");
        story.late(at + 1, late);
    }
    // The order items have no time of their own: 30 + 60 + 180 after minute 2.
    for (at, late) in [(272 * MINUTE - 1, &["271 sales a 0: -3 -1, 272", "271 sales b 0: +3 +1, 272"][..]), (272 * MINUTE, &[])] {
        let mut story = story();
        story.order(MINUTE, "o", "a 1").sold(2 * MINUTE, "i", "o p 3").order(at, "o", "b 1").late(at + 1, late);
        // Those that wait are forgotten likewise.
        let mut story = self::story();
        story.sold(2 * MINUTE, "i", "o p 3").waiting(at, u64::from(!late.is_empty()), Some(2).filter(|_| !late.is_empty()));
        story.order(at, "o", &format!("b {}", at / MINUTE)).view(at + 1, &["sales b 270: 3 1 1 r0"][..late.len().min(1)]);
    }
    // A forgotten row that comes again is a new one beside what it gave.
    let mut story = story();
    story.order(MINUTE, "o", "a 1").sold(2 * MINUTE, "i", "o p 3").order(280 * MINUTE, "o", "a 280");
    story.sold(281 * MINUTE, "i", "o p 4").view(282 * MINUTE, &["sales a 270: 4 1 1 r0"]).late(282 * MINUTE, &[]);
}

#[test]
fn a_row_that_is_said_again_as_it_was_keeps_its_group() {
    // The group of the payment of minute 2, said again at 100, is forgotten at 280.
    for (at, late) in [(280 * MINUTE - 1, 2), (280 * MINUTE, 0)] {
        let mut story = story();
        story.order(MINUTE, "o", "a 1").paid(2 * MINUTE, 1, "o 5 1").paid(100 * MINUTE, 1, "o 5 1").order(at, "o", "b 1");
        assert_eq!(story.recompute().late_at(at + 1).len(), late);
    }
}

#[test]
fn a_row_that_goes_from_one_order_to_another_is_two_sides() {
    let mut story = story();
    story.order(MINUTE, "o", "a 1").order(MINUTE, "r", "a 2").paid(2 * MINUTE, 1, "o 5 1");
    // Both are in one cell, which is closed, and then expired.
    story.paid(40 * MINUTE, 1, "r 5 1").counts(41 * MINUTE, [0, 2, 0]).view(41 * MINUTE, &["payments a/KRW 0: 500 1 0 r0"]);
    story.paid(95 * MINUTE, 1, "o 5 1").counts(96 * MINUTE, [0, 2, 2]);
    story.late(96 * MINUTE, &["95 payments a/KRW 0: -500 -1, 122", "95 payments a/KRW 0: +500 +1, 122"]);
}

#[test]
fn an_order_is_kept_for_its_time() {
    let story = |keep: u64| {
        let mut story = story();
        story.job.sources[5].keep = Some(keep * MINUTE);
        story.order(MINUTE, "o", "a 200").sold(2 * MINUTE, "i", "o p 3");
        story
    };
    // 100 minutes after minute 1, or 99.
    let mut in_time = story(100);
    in_time.sold(100 * MINUTE, "j", "o q 4").view(101 * MINUTE, &["sales a 180: 7 2 2 r0"]).waiting(101 * MINUTE - 1, 0, None);
    let mut late = story(99);
    late.sold(100 * MINUTE, "j", "o q 4").view(101 * MINUTE, &["sales a 180: 3 1 1 r0"]).waiting(101 * MINUTE, 2, Some(2));
    // What it gave stays; the order that comes again is a new one for all that are remembered.
    late.order(101 * MINUTE, "o", "b 200").view(102 * MINUTE, &["sales a 180: 3 1 1 r0", "sales b 180: 7 2 2 r0"]);
    // A delete says nothing of an order that is gone.
    let mut deleted = story(99);
    deleted.order(100 * MINUTE, "o", "").view(101 * MINUTE, &["sales a 180: 3 1 1 r0"]);
}

#[test]
fn a_truncate_of_orders_leaves_all_rows_waiting() {
    let mut story = story();
    story.job.sources[5].format = Format::Flattened;
    story.order(MINUTE, "o", "a 1").order(MINUTE, "r", "b 1").paid(2 * MINUTE, 1, "o 5 1").paid(2 * MINUTE, 2, "r 6 1");
    story.record("orders", 0, 3 * MINUTE, None, Some(r#"{"__op":"t"}"#));
    story.view(3 * MINUTE, &["payments a/KRW 0: 500 1 0 r0", "payments b/KRW 0: 600 1 0 r0"]);
    story.view(4 * MINUTE, &[]).waiting(4 * MINUTE, 2, Some(2));
    // And one of the payments leaves nothing to wait for.
    story.record("payments", 0, 4 * MINUTE, None, Some(r#"{"op":"t"}"#)).waiting(5 * MINUTE, 0, None);
}

#[test]
fn an_order_known_in_part_counts_when_all_of_it_is_known() {
    let mut story = story();
    story.job.sources[5].absent = crate::config::Absent::Unchanged;
    let mut order = |at: u64, row: &str| {
        story.record("orders", 0, at * MINUTE, Some("o"), Some(row));
    };
    order(1, r#"{"store":"a"}"#);
    order(4, r#"{"at":60000,"open":false}"#);
    order(6, r#"{"open":true}"#);
    order(8, r#"{"store":"b"}"#);
    story.paid(2 * MINUTE, 1, "o 5 1");
    story.view(3 * MINUTE, &[]).waiting(3 * MINUTE, 0, None).view(5 * MINUTE, &[]);
    story.view(7 * MINUTE, &["payments a/KRW 0: 500 1 0 r0"]).view(9 * MINUTE, &["payments b/KRW 0: 500 1 0 r0"]);
}

#[test]
fn sites_have_orders_of_their_own() {
    let mut story = story();
    story.job.sources[0].topics = vec!["{site}-payments".to_string()];
    story.job.sources[5].topics = vec!["{site}-orders".to_string()];
    let order = |store: &str| format!(r#"{{"id":"o","store":"{store}","at":60000,"open":true}}"#);
    let paid = |amount: u32| payment(1, &format!("o {amount} 1"), "{}").replace("\"store\"", "\"order\"");
    for (topic, value) in [
        ("x-orders", order("a")),
        ("y-orders", order("b")),
        ("x-payments", paid(1)),
        ("y-payments", paid(2)),
        ("z-payments", paid(4)),
    ] {
        story.record(topic, 0, MINUTE, None, Some(&value));
    }
    story.view(2 * MINUTE, &["payments a/KRW 0: 100 1 0 r0", "payments b/KRW 0: 200 1 0 r0"]).waiting(2 * MINUTE, 1, Some(1));
    // Shards of one table share them: the last order counts for all.
    story.job.sources[5].key_space = KeySpace::Role;
    story.view(2 * MINUTE, &["payments b/KRW 0: 700 3 0 r0"]);
}
