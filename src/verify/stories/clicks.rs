//! Clicks that are told twice.

use super::*;
use crate::config::DedupSpec;

fn story() -> Story {
    let mut story = Story::new();
    let dedup = DedupSpec { id: "event".into(), horizon: 10 * MINUTE };
    story.job.sources[3].dedup = Some(dedup.clone());
    story.job.sources[4].dedup = Some(dedup);
    story
}

impl Story {
    fn told(&mut self, topic: &str, partition: u32, at: u64, event: &str, minute: u64) -> &mut Self {
        let value = format!(r#"{{"store":"a","kind":"v","event":"{event}","at":{}}}"#, minute * MINUTE);
        self.record(topic, partition, at, None, Some(&value))
    }

    fn duplicates(&self, as_of: u64, expected: u64) -> &Self {
        assert_eq!(self.recompute().counts_at(as_of).duplicate_clicks, expected, "duplicates at {as_of}");
        self
    }
}

#[test]
fn a_click_counts_once_within_the_horizon() {
    let mut story = story();
    story.told("clicks", 0, MINUTE, "x", 1).told("clicks", 0, 11 * MINUTE - 1, "x", 1);
    story.view(12 * MINUTE, &["clicks a/v 0: 0 1 0 r0"]).duplicates(11 * MINUTE - 1, 0).duplicates(12 * MINUTE, 1);
    // A duplicate does not extend the horizon.
    story.told("clicks", 0, 11 * MINUTE, "x", 1).view(12 * MINUTE, &["clicks a/v 0: 0 2 0 r0"]).duplicates(12 * MINUTE, 1);
    story.told("clicks", 0, 20 * MINUTE, "x", 1).told("clicks", 0, 20 * MINUTE, "y", 1);
    story.view(21 * MINUTE, &["clicks a/v 0: 0 3 0 r0"]).duplicates(21 * MINUTE, 2);
}

#[test]
fn ids_are_of_their_source_over_all_its_partitions() {
    let mut story = story();
    story.told("clicks", 0, 3 * MINUTE, "x", 1).told("views", 0, 2 * MINUTE, "x", 1).told("clicks", 1, MINUTE, "x", 2);
    // That of partition 1 has the earlier stamp, so it is the one that counts.
    story.view(2 * MINUTE, &["clicks a/v 0: 0 1 0 r0"]).view(4 * MINUTE, &["clicks a/v 0: 0 2 0 r0"]);
    story.duplicates(3 * MINUTE, 0).duplicates(4 * MINUTE, 1);
}

#[test]
fn the_click_that_counts_decides_where() {
    let mut story = story();
    // In a window that has expired it is late, and counted all the same.
    story.told("clicks", 0, 95 * MINUTE, "x", 1).told("clicks", 0, 96 * MINUTE, "x", 91).told("clicks", 0, 97 * MINUTE, "y", 61);
    story.late(100 * MINUTE, &["95 clicks a/v 0: +0 +1, 122"]).view(100 * MINUTE, &["clicks a/v 60: 0 1 0 r0"]);
    story.counts(100 * MINUTE, [0, 1, 1]).duplicates(100 * MINUTE, 1);
}
