//! What the job and its processes say of themselves.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::freshness::topics;
use super::{Fresh, Instant, fresh, seconds};
use crate::observe::status::ProcessStatus;
use crate::serve::view::Shown;

/// A process that goes on reports every second or so; one that has not for so long is silent, milliseconds.
const SILENCE: u64 = 30_000;

/// How the job is doing.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StatusAnswer {
    /// Its name.
    pub job: String,
    /// Which of its generations is shown.
    pub generation: u64,
    /// `memory`, `redis` or `files`.
    #[schema(example = "redis")]
    pub served_from: String,
    /// What all numbers are as of at least.
    pub as_of: Instant,
    /// All records before it were read; none where that is not known.
    pub frontier: Option<Instant>,
    /// Seconds since then.
    pub frontier_age_seconds: Option<f64>,
    /// Length of a window.
    pub window_seconds: u64,
    /// A window closes this long after its end.
    pub grace_seconds: u64,
    /// A window is kept this long after its end.
    pub retention_seconds: u64,
    /// IANA name of the time zone that "today" is of.
    #[schema(example = "Asia/Seoul")]
    pub timezone: String,
    /// Decimal digits of money.
    pub scale: u32,
    /// How fresh the numbers are.
    pub fresh: Fresh,
    /// The last checkpoint; none where that is not known.
    pub checkpoint: Option<CheckpointAnswer>,
    /// What is read.
    pub topics: Vec<TopicAnswer>,
    /// Records that could not be decoded, by reason.
    pub dead_letters: Vec<DeadLetterCount>,
    /// Contributions to expired windows.
    pub late_contributions: u64,
    /// Contributions to closed windows.
    pub corrections: u64,
    /// Changes older than the stored row.
    pub stale_changes: u64,
    /// The job's processes; empty where they are not known.
    pub processes: Vec<ProcessAnswer>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CheckpointAnswer {
    /// When it was committed.
    pub committed: Instant,
    /// Seconds since then.
    pub age_seconds: f64,
    /// How many were committed.
    pub total: u64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TopicAnswer {
    /// Its name.
    pub topic: String,
    /// Its log clock, where it is known.
    pub clock: Option<Instant>,
    /// Seconds since then.
    pub age_seconds: Option<f64>,
    /// Records that are in the log and not read; none where there is no log to be behind of.
    pub lag_records: Option<u64>,
    /// Records read.
    pub records: u64,
    /// Dead letters among them.
    pub dead_letters: u64,
}

/// Dead letters of a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadLetterCount {
    /// The reason.
    #[schema(example = "bad_time")]
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// A process of the job.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ProcessAnswer {
    /// Its index.
    pub process: u64,
    /// What to think of it.
    pub state: ProcessState,
    /// When it last said something.
    pub reported: Instant,
    /// Seconds since then.
    pub age_seconds: f64,
}

/// What to think of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// It goes on.
    Running,
    /// It came to its end, or was told to stop.
    Ended,
    /// It has said nothing for half a minute.
    Silent,
}

/// How the job is doing at a wall time, milliseconds.
pub fn status(place: &str, shown: &Shown, said: &[ProcessStatus], now: u64) -> StatusAnswer {
    let about = &shown.about;
    let frontier = said.iter().filter_map(|process| process.frontier).min();
    let sum = |count: fn(&ProcessStatus) -> u64| said.iter().map(count).sum();
    let checkpoint = said.iter().find_map(|process| Some((process.checkpoint?, process.checkpoints)));
    let mut dead_letters = BTreeMap::<&str, u64>::new();
    for (reason, count) in said.iter().flat_map(|process| &process.dead_letters) {
        *dead_letters.entry(reason).or_default() += count;
    }
    StatusAnswer {
        job: about.job.clone(),
        generation: about.generation,
        served_from: place.to_owned(),
        as_of: Instant::of(shown.as_of),
        frontier: frontier.map(Instant::of),
        frontier_age_seconds: frontier.map(|frontier| seconds(frontier, now)),
        window_seconds: about.horizons.window / 1_000,
        grace_seconds: about.horizons.grace / 1_000,
        retention_seconds: about.horizons.retention / 1_000,
        timezone: about.timezone.clone(),
        scale: about.scale,
        fresh: fresh(about, shown.as_of, shown.finished, now, said),
        checkpoint: checkpoint.map(|(committed, total)| CheckpointAnswer {
            committed: Instant::of(committed),
            age_seconds: seconds(committed, now),
            total,
        }),
        topics: topics(said)
            .into_iter()
            .map(|topic| TopicAnswer {
                topic: topic.topic,
                clock: topic.clock.map(Instant::of),
                age_seconds: topic.clock.map(|clock| seconds(clock, now)),
                lag_records: topic.lag_records,
                records: topic.records,
                dead_letters: topic.dead_letters,
            })
            .collect(),
        dead_letters: dead_letters
            .into_iter()
            .map(|(reason, count)| DeadLetterCount { reason: reason.to_owned(), count })
            .collect(),
        late_contributions: sum(|process| process.late_contributions),
        corrections: sum(|process| process.corrections),
        stale_changes: sum(|process| process.stale_changes),
        processes: said.iter().map(|process| process_answer(process, now)).collect(),
    }
}

fn process_answer(process: &ProcessStatus, now: u64) -> ProcessAnswer {
    let state = match process {
        ProcessStatus { ended: true, .. } => ProcessState::Ended,
        ProcessStatus { reported, .. } if now.saturating_sub(*reported) > SILENCE => ProcessState::Silent,
        _ => ProcessState::Running,
    };
    ProcessAnswer {
        process: process.process as u64,
        state,
        reported: Instant::of(process.reported),
        age_seconds: seconds(process.reported, now),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::status::TopicStatus;
    use crate::serve::testing::{about, ms};

    #[test]
    fn processes_are_summed_up() {
        let now = ms("2026-11-25T05:41:10Z");
        let process = |process, reported, ended| ProcessStatus {
            process,
            processes: 3,
            reported,
            ended,
            frontier: Some(now - 900 - process as u64),
            dead_letters: vec![("bad_time".to_owned(), 1)],
            topics: vec![TopicStatus { topic: "t".to_owned(), records: 5, ..TopicStatus::default() }],
            late_contributions: 1,
            corrections: 2,
            stale_changes: 3,
            ..ProcessStatus::default()
        };
        let mut said = [process(0, now - 1_000, false), process(1, now - SILENCE - 1, false), process(2, 0, true)];
        said[0].checkpoint = Some(now - 4_200);
        said[0].checkpoints = 120;
        let shown = Shown { about: Arc::new(about()), as_of: ms("2026-11-25T05:41:07Z"), finished: false };
        let status = status("redis", &shown, &said, now);
        assert_eq!((status.frontier, status.frontier_age_seconds), (Some(Instant::of(now - 902)), Some(0.902)));
        let checkpoint = status.checkpoint.expect("known");
        assert_eq!((checkpoint.age_seconds, checkpoint.total), (4.2, 120));
        assert_eq!(status.dead_letters, [DeadLetterCount { reason: "bad_time".to_owned(), count: 3 }]);
        assert_eq!((status.late_contributions, status.corrections, status.stale_changes), (3, 6, 9));
        assert_eq!(status.topics[0].records, 15);
        let states: Vec<_> = status.processes.iter().map(|process| process.state).collect();
        assert_eq!(states, [ProcessState::Running, ProcessState::Silent, ProcessState::Ended]);
        assert_eq!((status.window_seconds, status.grace_seconds, status.retention_seconds), (1_800, 120, 172_800));
    }
}
