//! What is of all stores: top lists and totals, which workers write a little later than the hashes, each with a guard that says up to where.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ::redis::{Pipeline, Value, cmd, pipe};
use storeflow_dataflows::table::{Table, Window};

use super::link::Link;
use super::stores::extended;
use super::{Marked, Miss};
use crate::publish::redis::RedisError;
use crate::publish::redis::bucket::Guard;
use crate::publish::redis::keys::{STORES, WORKERS, bucket_of, fields, push_window};
use crate::publish::redis::link::{pairs, text};
use crate::publish::redis::reader::{minor_units, sums};
use crate::serve::view::{Measure, StoreCell, TopStores, Totals, WindowTotals};

/// Stores asked for beyond those wanted: their values may be higher by now.
const BEYOND: usize = 16;

/// Windows asked for in one `MULTI`.
const WINDOWS_AT_A_TIME: usize = 100;

/// The stores that lead a window, by their exact values.
pub(super) async fn top(
    link: &Link,
    marked: Arc<Marked>,
    measure: &Measure,
    window: Window,
    most: usize,
) -> Result<TopStores, Miss> {
    const TOP: &str = "read a top list";
    let key = marked.keys.top(measure.table, window, measure.second.as_bytes());
    let mut last = (most + BEYOND) as isize - 1;
    let (as_of, scored) = loop {
        let mut pipeline = pipe();
        pipeline.atomic();
        ask_guards(&mut pipeline, &marked);
        pipeline.cmd("ZREVRANGE").arg(&key[..]).arg(0).arg(last).arg("WITHSCORES");
        let mut answers = link.ask(TOP, &pipeline).await?;
        let scored = scored(answers.pop().unwrap_or(Value::Nil)).ok_or_else(|| RedisError::Unreadable {
            key: String::from_utf8_lossy(&key).into_owned(),
            problem: "a member is not UTF-8, or has no score".to_owned(),
        })?;
        // Scores are doubles, which may not tell apart what is at the cut.
        let tied = most > 0 && scored.len() >= most && scored.last().map(|(_, score)| score) == Some(&scored[most - 1].1);
        if last >= 0 && tied && scored.len() as isize > last {
            last = -1;
            continue;
        }
        break (least(&answers, &marked)?, scored);
    };
    let names = fields(measure.table);
    let name = if measure.table == Table::StoreClicks { names.count } else { names.sum };
    let field = format!("{}{}", name.unwrap_or_default(), measure.second);
    let commands: Vec<_> = scored
        .iter()
        .map(|(store, _)| {
            let mut key = Vec::new();
            push_window(&mut key, &marked.keys.bucket(bucket_of(store.as_bytes())), window, store.as_bytes());
            cmd("HGET").arg(key).arg(&field).to_owned()
        })
        .collect();
    let values = if commands.is_empty() { Vec::new() } else { link.ask_each(TOP, &commands).await? };
    let scale = if measure.table == Table::StorePayments { marked.about.scale } else { 0 };
    let mut stores = Vec::with_capacity(values.len());
    for ((store, _), value) in scored.into_iter().zip(values) {
        // A store without a value has left the window since.
        if value == Value::Nil {
            continue;
        }
        let value = text(&value);
        let exact = minor_units(&value, scale).ok_or_else(|| RedisError::Unreadable {
            key: format!("…:w:{window}:{store}"),
            problem: format!("field \"{field}\" is \"{value}\""),
        })?;
        stores.push((store, exact));
    }
    stores.sort_unstable_by(|(store, value), (other, of_other)| of_other.cmp(value).then_with(|| store.cmp(other)));
    stores.truncate(most);
    Ok(TopStores { as_of, stores })
}

/// Sums over all stores, which are the sums over the workers' sums.
pub(super) async fn totals(link: &Link, marked: Arc<Marked>, windows: Range<Window>, most: usize) -> Result<Totals, Miss> {
    const TOTALS: &str = "read totals";
    extended(&marked)?;
    let peers = marked.about.workers;
    let mut pipeline = pipe();
    pipeline.atomic();
    pipeline.cmd("HGET").arg(marked.keys.totals_of()).arg(WORKERS);
    ask_guards(&mut pipeline, &marked);
    for worker in 0..peers {
        let index = marked.keys.totals_index(worker, peers);
        let (low, high) = (windows.start, format!("({}", windows.end));
        pipeline.cmd("ZRANGEBYSCORE").arg(index).arg(low).arg(high).arg("LIMIT").arg(0).arg(most + 1);
    }
    let mut answers = link.ask(TOTALS, &pipeline).await?;
    let indices = answers.split_off(1 + peers);
    same_workers(&answers[0], peers)?;
    let mut as_of = least(&answers[1..], &marked)?;
    let there: BTreeSet<Window> = indices.into_iter().flat_map(members).collect();
    let there: Vec<Window> = there.into_iter().take(most + 1).collect();
    let mut found = Vec::new();
    for chunk in there.chunks(WINDOWS_AT_A_TIME) {
        let mut pipeline = pipe();
        pipeline.atomic();
        pipeline.cmd("HGET").arg(marked.keys.totals_of()).arg(WORKERS);
        ask_guards(&mut pipeline, &marked);
        for window in chunk {
            for worker in 0..peers {
                pipeline.cmd("HGETALL").arg(marked.keys.totals(worker, peers, *window));
            }
        }
        let mut answers = link.ask(TOTALS, &pipeline).await?;
        let hashes = answers.split_off(1 + peers);
        same_workers(&answers[0], peers)?;
        as_of = as_of.min(least(&answers[1..], &marked)?);
        let mut hashes = hashes.into_iter();
        for window in chunk {
            let of_window = summed(&marked, *window, hashes.by_ref().take(peers))?;
            // It may have gone since it was listed.
            found.extend((of_window.stores > 0).then_some(of_window));
        }
    }
    let more = there.len() > most && !found.is_empty();
    found.truncate(most);
    Ok(Totals { as_of, windows: found, more })
}

/// The sums of the workers' hashes of a window.
fn summed(marked: &Marked, window: Window, hashes: impl Iterator<Item = Value>) -> Result<WindowTotals, RedisError> {
    let mut all: BTreeMap<(Table, String), StoreCell> = BTreeMap::new();
    let mut stores = 0;
    for (worker, hash) in hashes.enumerate() {
        let hash = pairs(hash);
        let unreadable =
            |problem| RedisError::Unreadable { key: marked.keys.totals(worker, marked.about.workers, window), problem };
        for (table, second, value) in sums(&hash, marked.about.scale).map_err(unreadable)? {
            let cell = StoreCell { table, second: second.clone(), value: Default::default(), revision: 0 };
            let cell = all.entry((table, second)).or_insert(cell);
            cell.value.sum += value.sum;
            cell.value.count += value.count;
        }
        if let Some((_, count)) = hash.iter().find(|(name, _)| name == STORES.as_bytes()) {
            let count = String::from_utf8_lossy(count);
            stores += count.parse::<u64>().map_err(|_| unreadable(format!("its {STORES} is \"{count}\"")))?;
        }
    }
    Ok(WindowTotals { window, stores, cells: all.into_values().collect() })
}

/// Totals are those of another number of workers while a run that has so many has not moved the marker yet.
fn same_workers(said: &Value, peers: usize) -> Result<(), Miss> {
    let why = || Miss::Unsettled("totals are being written by another number of workers".to_owned());
    if text(said) == peers.to_string() { Ok(()) } else { Err(why()) }
}

/// The guards of the workers' lists, for [`least`].
fn ask_guards(pipeline: &mut Pipeline, marked: &Marked) {
    for worker in 0..marked.about.workers {
        pipeline.cmd("GET").arg(marked.keys.top_guard(worker));
    }
}

/// The least as-of that the guards of the workers' lists say. 0 is what a worker says that has not written any yet.
fn least(guards: &[Value], marked: &Marked) -> Result<u64, Miss> {
    let known = |guard: &Value| Guard::parse(&text(guard)).and_then(|guard| guard.as_of).filter(|as_of| *as_of > 0);
    let least = guards.iter().map(known).min().flatten().filter(|_| guards.len() >= marked.about.workers);
    least.ok_or_else(|| Miss::Unsettled("top lists and totals are lost or being written".to_owned()))
}

/// Members and scores, as text.
fn scored(answer: Value) -> Option<Vec<(String, String)>> {
    let Value::Array(all) = answer else { return Some(Vec::new()) };
    // RESP3 pairs them up.
    let all = all.into_iter().flat_map(|one| match one {
        Value::Array(pair) => pair,
        one => vec![one],
    });
    let mut texts = all.map(|one| match one {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::Double(score) => Some(score.to_string()),
        _ => None,
    });
    let mut scored = Vec::new();
    while let Some(member) = texts.next() {
        scored.push((member?, texts.next()??));
    }
    Some(scored)
}

/// The windows of an index.
fn members(answer: Value) -> Vec<Window> {
    let Value::Array(all) = answer else { return Vec::new() };
    all.iter().filter_map(|one| text(one).parse().ok()).collect()
}
