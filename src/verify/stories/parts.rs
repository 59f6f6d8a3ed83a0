//! Changes that say a part, deletes without a version, truncates, and incarnations that the job file tells apart.

use super::*;

/// A Debezium value of which the fields that are `?` are columns that did not change.
fn part(id: u32, row: &str, source: &str) -> String {
    payment(id, row, source).replace("\"?\"", "\"__debezium_unavailable_value\"").replace("\"at\":0,", "")
}

fn lsn(lsn: u32) -> String {
    format!(r#"{{"connector":"postgresql","lsn":{lsn}}}"#)
}

impl Story {
    fn part(&mut self, at: u64, id: u32, row: &str) -> &mut Self {
        self.record("payments", 0, at * MINUTE, None, Some(&part(id, row, "{}")))
    }

    fn truncate(&mut self, at: u64, source: &str) -> &mut Self {
        let value = format!(r#"{{"op":"t","source":{source}}}"#);
        self.record("payments", 0, at * MINUTE, None, Some(&value))
    }
}

#[test]
fn what_a_patch_does_not_say_is_as_it_was() {
    let mut story = Story::new();
    story.payment(MINUTE, 1, "a 5 1 PAID USD");
    story.part(2, 1, "? 7 2").view(2 * MINUTE + 1, &["payments a/KRW 0: 700 1 0 r0"]);
    story.part(3, 1, "b ? 2 PAID USD").view(3 * MINUTE + 1, &["payments b/USD 0: 700 1 0 r0"]);
    story.part(4, 1, "? ? 31 ? ?").view(4 * MINUTE + 1, &["payments b/USD 30: 700 1 0 r0"]);
    story.part(5, 1, "? ? 31 FAILED ?").view(5 * MINUTE + 1, &[]);
    story.part(6, 1, "c ? 31 ? ?").view(6 * MINUTE + 1, &[]);
    story.part(7, 1, "? ? 31 REFUNDED ?").view(7 * MINUTE + 1, &["payments c/USD 30: 700 1 0 r0"]);
    // A whole row replaces all of it, also what the patches said.
    story.payment(8 * MINUTE, 1, "a 1 1").view(8 * MINUTE + 1, &["payments a/KRW 0: 100 1 0 r0"]);
}

#[test]
fn a_row_of_patches_counts_when_all_of_it_is_known() {
    let mut story = Story::new();
    story.part(1, 1, "? 5 1 ?").view(MINUTE + 1, &[]).counts(MINUTE + 1, [0, 0, 0]);
    story.part(2, 1, "a ? 1 ?").view(2 * MINUTE + 1, &[]);
    story.part(3, 1, "? ? 1 PAID").view(3 * MINUTE + 1, &["payments a/KRW 0: 500 1 0 r0"]);
    // Deleted, it knows nothing any more.
    story.payment(4 * MINUTE, 1, "").part(5, 1, "? 5 1").view(5 * MINUTE + 1, &[]);
    story.part(6, 1, "b ? 1").view(6 * MINUTE + 1, &["payments b/KRW 0: 500 1 0 r0"]);
    // Forgotten at 181, it knows nothing either, and what it contributed stays.
    let mut story = Story::new();
    story.payment(MINUTE, 1, "a 5 1").part(181, 1, "? 6 151").view(182 * MINUTE, &[]);
    story.part(182, 1, "b ? 151").view(183 * MINUTE, &["payments b/KRW 150: 600 1 0 r0"]).late(183 * MINUTE, &[]);
}

#[test]
fn a_stale_patch_changes_nothing_and_a_new_one_brings_its_version() {
    let mut story = Story::new();
    let mut record = |at: u64, row: &str, version: u32| {
        story.record("payments", 0, at * MINUTE, None, Some(&part(1, row, &lsn(version))));
    };
    record(1, "a 5 1", 5);
    record(2, "? 6 1", 4);
    record(3, "? 7 1", 6);
    record(4, "? 8 1", 5);
    story.view(5 * MINUTE, &["payments a/KRW 0: 700 1 0 r0"]).counts(5 * MINUTE, [2, 0, 0]);
}

#[test]
fn a_row_without_a_known_time_is_forgotten_too() {
    // A window, the retention and the replay horizon after its last change: 30 + 60 + 180.
    let mut job = job();
    (job.sources[0].absent, job.sources[0].currency) = (crate::config::Absent::Unchanged, None);
    for (again, view) in [(271 * MINUTE - 1, &["payments a/KRW 270: 500 1 0 r0"][..]), (271 * MINUTE, &[])] {
        let mut story = Story { job: job.clone(), ..Story::new() };
        let value = |row: &str| format!(r#"{{"op":"u","after":{{"id":1,{row}}}}}"#);
        let (first, rest) = (value(r#""store":"a","amount":5,"status":"PAID""#), value(&format!(r#""at":{}"#, 270 * MINUTE)));
        story.record("payments", 0, MINUTE, None, Some(&first)).record("payments", 0, again, None, Some(&rest));
        story.view(again + 1, view);
    }
}

#[test]
fn a_delete_without_version_keeps_the_version_of_the_delete_before_it() {
    for (versions, stale) in [([5, 0, 4], 1), ([0, 0, 4], 0), ([5, 6, 4], 1), ([5, 0, 6], 0)] {
        let mut story = Story::new();
        story.versioned_payment(MINUTE, 1, "a 5 1", &lsn(3));
        story.versioned_payment(2 * MINUTE, 1, "", &lsn(versions[0])).versioned_payment(3 * MINUTE, 1, "", &lsn(versions[1]));
        story.versioned_payment(4 * MINUTE, 1, "b 6 1", &lsn(versions[2])).counts(5 * MINUTE, [stale, 0, 0]);
    }
    // Of a live row it deletes, and keeps none: so an older version comes back.
    let mut story = Story::new();
    story.versioned_payment(MINUTE, 1, "a 5 1", &lsn(9)).versioned_payment(2 * MINUTE, 1, "", "{}");
    story.view(3 * MINUTE, &[]);
    story.versioned_payment(3 * MINUTE, 1, "a 6 1", &lsn(1));
    story.view(4 * MINUTE, &["payments a/KRW 0: 600 1 0 r0"]);
    // It does not renew the marker: that of minute 2 is gone at 182.
    let mut story = Story::new();
    story.versioned_payment(MINUTE, 1, "a 5 1", &lsn(3)).versioned_payment(2 * MINUTE, 1, "", &lsn(9));
    story.versioned_payment(100 * MINUTE, 1, "", "{}").versioned_payment(182 * MINUTE, 1, "a 6 170", &lsn(4));
    story.view(183 * MINUTE, &["payments a/KRW 150: 600 1 0 r0"]);
}

#[test]
fn a_truncate_deletes_every_row_of_its_key_space() {
    let mut story = Story::new();
    story.versioned_payment(MINUTE, 1, "a 1 1", &lsn(5)).versioned_payment(MINUTE, 2, "a 2 1", &lsn(7));
    story.payment(MINUTE, 3, "b 4 29").payment(MINUTE, 4, "b 8 29 FAILED").item(MINUTE, "i", "a p 3 1");
    story.record("payments2", 0, MINUTE, None, Some(&payment(1, "c 16 1", "{}")));
    // A row with a newer version stays, and one that comes later is one.
    story.truncate(33, &lsn(6)).payment(34 * MINUTE, 3, "b 32 29");
    let left = ["payments a/KRW 0: 200 1 0 r0", "payments b/KRW 0: 3200 1 0 r0", "payments c/KRW 0: 1600 1 0 r0"];
    story.view(33 * MINUTE + 1, &[left[0], left[2], "sales a 0: 3 1 1 r0"]);
    story.view(35 * MINUTE, &[&left[..], &["sales a 0: 3 1 1 r0"]].concat()).counts(33 * MINUTE + 1, [1, 2, 0]);
    // The deleted rows have the truncate's version.
    story.versioned_payment(35 * MINUTE, 1, "a 1 1", &lsn(5)).counts(36 * MINUTE, [2, 3, 0]);
    story.versioned_payment(36 * MINUTE, 1, "a 1 1", &lsn(6)).counts(37 * MINUTE, [2, 4, 0]);
}

#[test]
fn a_truncate_is_remembered_for_what_comes_behind_it() {
    let mut story = Story::new();
    story.truncate(1, &lsn(6));
    // From before it, of keys that nobody has seen; from after it; and what cannot be compared.
    story.versioned_payment(2 * MINUTE, 1, "a 1 1", &lsn(5)).versioned_payment(2 * MINUTE, 2, "a 2 1", &lsn(6));
    story.payment(2 * MINUTE, 3, "a 4 1").view(3 * MINUTE, &["payments a/KRW 0: 600 2 0 r0"]).counts(3 * MINUTE, [1, 0, 0]);
    // One from before it does nothing, be it to a row without a version.
    story.truncate(3, &lsn(5)).view(4 * MINUTE, &["payments a/KRW 0: 600 2 0 r0"]).counts(4 * MINUTE, [2, 0, 0]);
    // Other key spaces know nothing of it, and at 181 it is forgotten.
    story.record("payments2", 0, 4 * MINUTE, None, Some(&payment(1, "c 16 1", &lsn(1))));
    story.view(5 * MINUTE, &["payments a/KRW 0: 600 2 0 r0", "payments c/KRW 0: 1600 1 0 r0"]);
    story.versioned_payment(181 * MINUTE, 1, "b 8 180", &lsn(5)).view(182 * MINUTE, &["payments b/KRW 180: 800 1 0 r0"]);
}

#[test]
fn a_truncate_of_expired_rows_is_late_and_forgotten_rows_are_left_alone() {
    let mut story = Story::new();
    // The first is forgotten at 181, the second at 182.
    story.payment(MINUTE, 1, "a 1 1").payment(2 * MINUTE, 2, "a 2 1").truncate(181, "{}");
    story.late(182 * MINUTE, &["181 payments a/KRW 0: -200 -1, 182"]).counts(182 * MINUTE, [0, 0, 1]);
}

#[test]
fn a_truncate_of_one_of_several_tables_or_of_shards() {
    let mut story = Story::new();
    let mut other = story.job.sources[0].clone();
    (story.job.sources[0].table, other.table) = (Some("eu".to_string()), Some("us".to_string()));
    story.job.sources.push(other);
    story.versioned_payment(MINUTE, 1, "a 1 1", r#"{"table":"eu"}"#).versioned_payment(MINUTE, 1, "a 2 1", r#"{"table":"us"}"#);
    story.truncate(2, r#"{"table":"us"}"#).truncate(3, r#"{"table":"asia"}"#).view(4 * MINUTE, &["payments a/KRW 0: 100 1 0 r0"]);
    // Which rows came from a shard is not kept.
    let mut story = Story::new();
    story.job.sources[0].key_space = KeySpace::Role;
    story.payment(MINUTE, 1, "a 1 1").truncate(2, "{}").view(3 * MINUTE, &["payments a/KRW 0: 100 1 0 r0"]);
    assert_eq!(story.recompute().skipped_at(3 * MINUTE), BTreeMap::from([("control", 1)]));
}

#[test]
fn incarnations_of_the_job_file_are_not_comparable() {
    let mut story = Story::new();
    let mut other = story.job.sources[0].clone();
    story.job.sources[0].key_space = KeySpace::Role;
    (other.topics, other.key_space) = (vec!["paid".to_string()], KeySpace::Role);
    other.incarnation = Some("after the failover".to_string());
    story.job.sources.push(other);
    story.versioned_payment(MINUTE, 1, "a 1 1", &lsn(9));
    for (at, row, version, stale) in [(2, "a 2 1", 1, 0), (3, "a 4 1", 2, 0), (4, "a 8 1", 1, 1)] {
        story.record("paid", 0, at * MINUTE, None, Some(&payment(1, row, &lsn(version))));
        story.counts(at * MINUTE + 1, [stale, 0, 0]);
    }
    story.view(5 * MINUTE, &["payments a/KRW 0: 400 1 0 r0"]);
}

#[test]
fn several_changes_of_one_record_apply_one_after_the_other() {
    let mut story = Story::new();
    story.job.sources[0].format = Format::Canal;
    let row = |id: u32, store: &str, amount: u32| {
        format!(r#"{{"id":{id},"store":"{store}","amount":{amount},"at":60000,"status":"PAID"}}"#)
    };
    let mut record = |at: u64, kind: &str, rows: &[String], old: &str| {
        let value = format!(r#"{{"type":"{kind}","data":[{}],"old":{old}}}"#, rows.join(","));
        story.record("payments", 0, at * MINUTE, None, Some(&value));
    };
    record(1, "INSERT", &[row(1, "a", 1), row(1, "a", 2), row(2, "b", 4)], "null");
    // 1 becomes 3, 2 becomes 1: the deletes go before the rows, each at its place.
    record(2, "UPDATE", &[row(3, "a", 2), row(1, "b", 4)], r#"[{"id":1},{"id":2}]"#);
    story.view(2 * MINUTE, &["payments a/KRW 0: 200 1 0 r0", "payments b/KRW 0: 400 1 0 r0"]);
    story.view(3 * MINUTE, &["payments a/KRW 0: 200 1 0 r0", "payments b/KRW 0: 400 1 0 r0"]);
    let mut record = |at: u64, kind: &str, rows: &[String], old: &str| {
        let value = format!(r#"{{"type":"{kind}","data":[{}],"old":{old}}}"#, rows.join(","));
        story.record("payments", 0, at * MINUTE, None, Some(&value));
    };
    // A record with a row that cannot be read is no record at all.
    record(3, "DELETE", &[row(1, "a", 1), "{}".to_string()], "null");
    record(4, "DELETE", &[row(1, "a", 1), row(2, "a", 1)], "null");
    story.view(4 * MINUTE, &["payments a/KRW 0: 200 1 0 r0", "payments b/KRW 0: 400 1 0 r0"]);
    story.view(5 * MINUTE, &["payments a/KRW 0: 200 1 0 r0"]);
}
