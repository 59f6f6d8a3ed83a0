//! One store's cells, and the ids of all stores.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use ::redis::{Cmd, Pipeline, Value, cmd, pipe};
use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::table::{Table, Window};

use super::link::Link;
use super::{Marked, Miss};
use crate::publish::layout::About;
use crate::publish::redis::RedisError;
use crate::publish::redis::bucket::Guard;
use crate::publish::redis::keys::{NEWEST, bucket_of, push_store, push_window};
use crate::publish::redis::link::{pairs, text};
use crate::publish::redis::reader::cells;
use crate::serve::view::{StoreCell, StoreCut, StoreIds, WindowCells};

/// Windows asked for at a time, the first time; four times as many at each further attempt, so that one `MULTI` has all in the end.
const WINDOWS_AT_A_TIME: usize = 128;

/// Windows asked for at a time at least.
const LEAST: usize = 16;

/// Windows that begin further after the as-of are not looked for: no clock is that wrong, and each is a key to ask for.
const AHEAD: u64 = 1_000;

/// Ids of a bucket asked for at first, beyond its part of all that are wanted.
const IDS_BEYOND: usize = 3;

/// Reads some windows of a store as one cut.
pub(super) async fn cut(
    link: &Link,
    marked: Arc<Marked>,
    store: &str,
    windows: Range<Window>,
    most: usize,
    attempt: u32,
) -> Result<StoreCut, Miss> {
    let bucket = bucket_of(store.as_bytes());
    let (prefix, guard_key) = (marked.keys.bucket(bucket), marked.keys.guard(bucket));
    let possible = possible(&marked.about, marked.as_of);
    let length = marked.about.horizons.window as Window;
    let start = windows.start.clamp(possible.start, possible.end);
    let mut next = start + (possible.end - start) % length;
    let mut end = windows.end.min(possible.end);
    // One more than is wanted says whether there are more.
    let at_first = if attempt == 0 { (most + 1).max(LEAST) } else { usize::MAX };
    let at_a_time = (WINDOWS_AT_A_TIME << (2 * attempt.min(8))).min(at_first);
    let mut guard: Option<String> = None;
    let mut cut = StoreCut { as_of: 0, known: false, product_count: 0, windows: Vec::new(), more: false };
    loop {
        let left = usize::try_from((end - next).max(0) / length).unwrap_or(0) + usize::from((end - next).max(0) % length > 0);
        let count = left.min(at_a_time);
        let (pipeline, asked) = question(&prefix, &guard_key, store, (next, length, count));
        let mut answers = link.ask("read a store", &pipeline).await?.into_iter();
        let found = text(&answers.next().unwrap_or(Value::Nil));
        match &guard {
            None => cut.as_of = as_of(&found, bucket)?.max(marked.as_of),
            Some(before) if *before == found => {}
            Some(_) => return Err(Miss::Unsettled(format!("bucket {bucket} moved on while a store was read"))),
        }
        let own = pairs(answers.next().unwrap_or(Value::Nil));
        let newest = newest(&own);
        if guard.is_none() {
            cut.known = !own.is_empty();
            cut.product_count = products(&own, &marked.about).map_err(|problem| unreadable(&prefix, "s:", store, problem))?;
        }
        guard = Some(found);
        for (window, answer) in asked.into_iter().zip(answers) {
            let found = cells(&pairs(answer), &marked.about)
                .map_err(|problem| unreadable(&prefix, &format!("w:{window}:"), store, problem))?;
            let cells: Vec<StoreCell> = found
                .into_iter()
                .filter(|(table, ..)| *table != Table::StoreProducts)
                .map(|(table, second, value, revision)| StoreCell { table, second, value, revision })
                .collect();
            // The newest one goes last, by its time to live when the job is gone for good. What is missing then is not zero.
            if cells.is_empty() && newest == Some(window) && !marked.about.horizons.expired(window, cut.as_of) {
                return Err(Miss::Unsettled(format!("the windows of a store of bucket {bucket} are gone from Redis")));
            }
            if cells.is_empty() {
                continue;
            }
            if cut.windows.len() == most {
                cut.more = true;
                return Ok(cut);
            }
            cut.windows.push(WindowCells { window, cells });
        }
        next += count as Window * length;
        // A store that says where its cells end need not be asked further.
        end = end.min(newest.map_or(next, |newest| newest.saturating_add(length)));
        if next >= end {
            return Ok(cut);
        }
    }
}

/// `MULTI`: the guard, the store's hash, and those of `count` windows from `first` on, which are given back.
fn question(prefix: &str, guard: &str, store: &str, (first, length, count): (Window, Window, usize)) -> (Pipeline, Vec<Window>) {
    let mut pipeline = pipe();
    pipeline.atomic();
    pipeline.cmd("GET").arg(guard);
    let mut key = Vec::with_capacity(prefix.len() + store.len() + 24);
    push_store(&mut key, prefix, store.as_bytes());
    pipeline.cmd("HGETALL").arg(&key[..]);
    let windows: Vec<Window> = (0..count as Window).map(|at| first + at * length).collect();
    for window in &windows {
        key.clear();
        push_window(&mut key, prefix, *window, store.as_bytes());
        pipeline.cmd("HGETALL").arg(&key[..]);
    }
    (pipeline, windows)
}

/// The windows that can have cells at an as-of: those that are not expired, and not too far ahead.
pub(super) fn possible(about: &About, as_of: u64) -> Range<Window> {
    let horizons = &about.horizons;
    let kept = horizons.retention.max(horizons.before.retention).saturating_add(horizons.window);
    let mut first = horizons.window_of(as_of.saturating_sub(kept));
    while horizons.expired(first, as_of) {
        first += horizons.window as Window;
    }
    first..horizons.window_of(as_of).saturating_add((AHEAD * horizons.window) as Window)
}

/// The as-of that a bucket's guard says.
pub(super) fn as_of(guard: &str, bucket: u64) -> Result<u64, Miss> {
    let known = Guard::parse(guard).and_then(|guard| guard.as_of);
    known.ok_or_else(|| Miss::Unsettled(format!("bucket {bucket} is lost or being written in full")))
}

fn newest(own: &[(Vec<u8>, Vec<u8>)]) -> Option<Window> {
    let (_, value) = own.iter().find(|(name, _)| name == NEWEST.as_bytes())?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn products(own: &[(Vec<u8>, Vec<u8>)], about: &About) -> Result<i64, String> {
    Ok(cells(own, about)?.iter().find(|(table, ..)| *table == Table::StoreProducts).map_or(0, |(_, _, value, _)| value.count))
}

fn unreadable(prefix: &str, what: &str, store: &str, problem: String) -> Miss {
    Miss::Failed(RedisError::Unreadable { key: format!("{prefix}{what}{store}"), problem })
}

/// The first ids with a prefix, after another one. Buckets are asked for a few each, as ids are spread evenly, and again for more
/// if theirs could be among the first of all.
pub(super) async fn ids(
    link: &Link,
    marked: Arc<Marked>,
    prefix: &str,
    after: Option<&str>,
    most: usize,
) -> Result<StoreIds, Miss> {
    const IDS: &str = "read ids of stores";
    extended(&marked)?;
    let (low, high) = range(prefix, after);
    let wanted = most + 1;
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut rest: Vec<u64> = (0..SHARDS).collect();
    let mut limit = wanted / SHARDS as usize + IDS_BEYOND;
    let mut guards = Some(guards(link, &marked));
    while !rest.is_empty() {
        let first = guards.take();
        let mut commands: Vec<Cmd> = first.iter().flatten().cloned().collect();
        let of_guards = commands.len();
        commands.extend(rest.iter().map(|bucket| {
            let mut command = cmd("ZRANGEBYLEX");
            command.arg(marked.keys.stores(*bucket)).arg(&low[..]).arg(&high[..]).arg("LIMIT").arg(0).arg(limit);
            command
        }));
        let mut answers = link.ask_each(IDS, &commands).await?;
        let ids = answers.split_off(of_guards);
        if first.is_some() {
            for (bucket, guard) in (0..).zip(flat(answers)) {
                as_of(&text(&guard), bucket)?;
            }
        }
        let mut full = Vec::new();
        for (bucket, answer) in rest.into_iter().zip(ids) {
            let ids = strings(answer).ok_or_else(|| RedisError::Unreadable {
                key: marked.keys.stores(bucket),
                problem: "a member is not UTF-8".to_owned(),
            })?;
            if ids.len() >= limit {
                full.push((bucket, ids.last().cloned()));
            }
            found.extend(ids);
        }
        while found.len() > wanted {
            found.pop_last();
        }
        let last = found.last();
        let may_have_more = |of: &Option<String>| found.len() < wanted || of.as_ref() < last;
        rest = full.iter().filter(|(_, of)| may_have_more(of)).map(|(bucket, _)| *bucket).collect();
        limit = (limit * 8).max(wanted / 4).min(wanted.max(limit + 1));
    }
    let more = found.len() > most;
    Ok(StoreIds { as_of: marked.as_of, stores: found.into_iter().take(most).collect(), more })
}

/// The view must be of a program that writes these things.
pub(super) fn extended(marked: &Marked) -> Result<(), RedisError> {
    let problem = || "a program without an API has written it; it needs a run of this one".to_owned();
    marked.extended.then_some(()).ok_or_else(|| RedisError::Unreadable { key: marked.keys.about(), problem: problem() })
}

/// Commands that read all guards, in the order of buckets; their answers are [`flat`]tened.
fn guards(link: &Link, marked: &Marked) -> Vec<Cmd> {
    let keys = (0..SHARDS).map(|bucket| marked.keys.guard(bucket));
    if link.is_cluster() {
        return keys.map(|key| cmd("GET").arg(key).to_owned()).collect();
    }
    let mut all = cmd("MGET");
    all.arg(keys.collect::<Vec<_>>());
    vec![all]
}

fn flat(answers: Vec<Value>) -> impl Iterator<Item = Value> {
    answers.into_iter().flat_map(|answer| match answer {
        Value::Array(all) => all,
        one => vec![one],
    })
}

/// The ends of a range of ids, as `ZRANGEBYLEX` takes them.
fn range(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let end = |kind: u8, id: &str, more: &[u8]| [&[kind], id.as_bytes(), more].concat();
    let low = match after {
        Some(after) if after >= prefix => end(b'(', after, b""),
        _ => end(b'[', prefix, b""),
    };
    // No UTF-8 has this byte, so that all that begin with the prefix come before it.
    (low, end(b'(', prefix, b"\xff"))
}

/// The members of a list; `None` if one is not UTF-8.
pub(super) fn strings(answer: Value) -> Option<Vec<String>> {
    let Value::Array(members) = answer else { return Some(Vec::new()) };
    let one = |member| match member {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    };
    members.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::epoch::{Before, Horizons};

    use super::*;

    #[test]
    fn ranges_hold_what_begins_with_the_prefix() {
        assert_eq!(range("", None), (b"[".to_vec(), b"(\xff".to_vec()));
        assert_eq!(range("s1", None), (b"[s1".to_vec(), b"(s1\xff".to_vec()));
        assert_eq!(range("s1", Some("s10")), (b"(s10".to_vec(), b"(s1\xff".to_vec()));
        assert_eq!(range("s1", Some("a")), (b"[s1".to_vec(), b"(s1\xff".to_vec()));
        assert_eq!(range("s1", Some("s1")).0, b"(s1");
        assert_eq!(range("s1", Some("t")).0, b"(t", "which is past the end");
    }

    #[test]
    fn only_windows_that_can_be_are_asked_for() {
        let minute = 60_000;
        let horizons = Horizons {
            window: 30 * minute,
            grace: 2 * minute,
            retention: 120 * minute,
            replay_horizon: 0,
            before: Before::NOTHING,
        };
        let about = |horizons| About {
            job: "mall".to_owned(),
            generation: 1,
            horizons,
            scale: 2,
            workers: 1,
            clicks_distinct: true,
            timezone: "UTC".to_owned(),
        };
        let as_of = 1_795_168_800_000 + 7 * minute;
        for before in [Before::NOTHING, Before { until: as_of - minute, grace: 0, retention: 600 * minute }] {
            let about = about(Horizons { before, ..horizons });
            let Range { start, end } = possible(&about, as_of);
            assert!(!about.horizons.expired(start, as_of) && about.horizons.expired(start - 30 * minute as Window, as_of));
            assert!(end > as_of as Window && (end - start) / (30 * minute as Window) < 1_100);
        }
        assert_eq!(possible(&about(horizons), minute).start, 0);
    }

    #[test]
    fn guards_say_how_far_a_bucket_is() {
        assert_eq!(as_of("3:run:7:1795168800000", 5).ok(), Some(1_795_168_800_000));
        for unsettled in ["", "3:run:7:rebuilding", "nonsense"] {
            assert!(matches!(as_of(unsettled, 5), Err(Miss::Unsettled(why)) if why.contains("bucket 5")));
        }
    }
}
