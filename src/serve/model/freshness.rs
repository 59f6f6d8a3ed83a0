//! How fresh numbers are, and whether they are as fresh as they should be.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Instant, seconds};
use crate::observe::status::{ProcessStatus, TopicStatus};
use crate::publish::layout::About;
use crate::serve::calendar;

/// A window may be closed so long after it was due before the numbers are called late, milliseconds.
const PATIENCE: u64 = 60_000;

/// How fresh the numbers are.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Fresh {
    /// What to think of it.
    pub state: FreshState,
    /// What the numbers are as of.
    pub as_of: Instant,
    /// Seconds since then.
    pub age_seconds: f64,
    /// The end of the newest closed window: all before it is final but for corrections. None before the first.
    pub exact_until: Option<Instant>,
    /// The end of the window that closes next.
    pub next_until: Option<Instant>,
    /// When that window closes.
    pub next_due: Option<Instant>,
    /// What is read; empty where that is not known.
    pub sources: Vec<SourceFresh>,
}

/// Whether the numbers are as fresh as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FreshState {
    /// They are.
    Live,
    /// A window should have been closed a minute ago.
    Late,
    /// The job has come to its end.
    Finished,
}

impl FreshState {
    /// The word of it.
    pub fn text(self) -> &'static str {
        match self {
            FreshState::Live => "live",
            FreshState::Late => "late",
            FreshState::Finished => "finished",
        }
    }
}

/// How far a topic is read.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SourceFresh {
    /// Its name.
    pub topic: String,
    /// Its log clock, where it is known.
    pub clock: Option<Instant>,
    /// Seconds since then.
    pub age_seconds: Option<f64>,
    /// Records that are in the log and not read; none where there is no log to be behind of.
    pub lag_records: Option<u64>,
}

/// How fresh numbers of an as-of are at a wall time, both in milliseconds, with what the processes say.
pub fn fresh(about: &About, as_of: u64, finished: bool, now: u64, said: &[ProcessStatus]) -> Fresh {
    let Due { exact_until, next_until, next_due } = due(about, as_of);
    let sources = topics(said).into_iter().map(|topic| SourceFresh {
        topic: topic.topic,
        clock: topic.clock.map(Instant::of),
        age_seconds: topic.clock.map(|clock| seconds(clock, now)),
        lag_records: topic.lag_records,
    });
    Fresh {
        state: state(about, as_of, finished, now),
        as_of: Instant::of(as_of),
        age_seconds: seconds(as_of, now),
        exact_until: exact_until.map(Instant::of),
        next_until: Some(Instant::of(next_until)),
        next_due: Some(Instant::of(next_due)),
        sources: sources.collect(),
    }
}

/// Whether numbers of an as-of are as fresh as they should be at a wall time, both in milliseconds.
pub fn state(about: &About, as_of: u64, finished: bool, now: u64) -> FreshState {
    if finished {
        FreshState::Finished
    } else if due(about, as_of).next_due.saturating_add(PATIENCE) < now {
        FreshState::Late
    } else {
        FreshState::Live
    }
}

/// Milliseconds.
struct Due {
    exact_until: Option<u64>,
    next_until: u64,
    next_due: u64,
}

fn due(about: &About, as_of: u64) -> Due {
    let horizons = &about.horizons;
    let closed = calendar::newest_closed(horizons, as_of);
    let next = closed.map_or(0, |closed| closed + horizons.window as i64);
    Due {
        exact_until: closed.map(|closed| horizons.end(closed)),
        next_until: horizons.end(next),
        next_due: horizons.own_epoch(next),
    }
}

/// The topics of all processes, each once: the worst clock, and sums.
pub(super) fn topics(said: &[ProcessStatus]) -> Vec<TopicStatus> {
    let mut topics: BTreeMap<&str, TopicStatus> = BTreeMap::new();
    for status in said.iter().flat_map(|process| &process.topics) {
        let topic =
            topics.entry(&status.topic).or_insert_with(|| TopicStatus { topic: status.topic.clone(), ..TopicStatus::default() });
        topic.clock = either(topic.clock, status.clock, u64::min);
        topic.lag_records = either(topic.lag_records, status.lag_records, u64::saturating_add);
        topic.records += status.records;
        topic.dead_letters += status.dead_letters;
    }
    topics.into_values().collect()
}

/// One of two, or what both make.
fn either(one: Option<u64>, other: Option<u64>, both: impl Fn(u64, u64) -> u64) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::testing::{about, ms};

    #[test]
    fn numbers_are_late_a_minute_after_a_window_was_due() {
        let as_of = ms("2026-11-25T05:41:07Z");
        let state = |finished, now: &str| state(&about(), as_of, finished, ms(now));
        assert_eq!(state(false, "2026-11-25T05:41:08Z"), FreshState::Live);
        assert_eq!(state(false, "2026-11-25T06:03:00Z"), FreshState::Live);
        assert_eq!(state(false, "2026-11-25T06:03:00.001Z"), FreshState::Late);
        assert_eq!(state(true, "2026-11-25T06:03:00.001Z"), FreshState::Finished);
    }

    #[test]
    fn freshness_says_what_comes_next_and_where_each_topic_is() {
        let topic = |topic: &str, clock: Option<&str>, lag_records| TopicStatus {
            topic: topic.to_owned(),
            clock: clock.map(ms),
            lag_records,
            records: 10,
            dead_letters: 1,
        };
        let process = |topics| ProcessStatus { topics, ..ProcessStatus::default() };
        let said = [
            process(vec![topic("b", Some("2026-11-25T05:41:08Z"), Some(3)), topic("a", None, None)]),
            process(vec![topic("b", Some("2026-11-25T05:41:06Z"), Some(4))]),
        ];
        let (as_of, now) = (ms("2026-11-25T05:41:07Z"), ms("2026-11-25T05:41:08.200Z"));
        let fresh = fresh(&about(), as_of, false, now, &said);
        let expected = r#"{"state":"live","as_of":"2026-11-25T05:41:07Z","age_seconds":1.2,"exact_until":"2026-11-25T05:30:00Z","next_until":"2026-11-25T06:00:00Z","next_due":"2026-11-25T06:02:00Z","sources":[{"topic":"a","clock":null,"age_seconds":null,"lag_records":null},{"topic":"b","clock":"2026-11-25T05:41:06Z","age_seconds":2.2,"lag_records":7}]}"#;
        assert_eq!(serde_json::to_string(&fresh).expect("JSON"), expected);
    }

    #[test]
    fn before_the_first_window_is_closed_nothing_is_exact() {
        let fresh = fresh(&about(), 1, false, 1, &[]);
        assert_eq!((fresh.exact_until, fresh.next_until), (None, Some(Instant(30 * 60_000))));
    }
}
