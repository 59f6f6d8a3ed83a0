//! The stores that lead each window: sorted sets that hold the best stores of every worker. Totals go with them; see [`Totals`].
//!
//! A worker's best [`TOP_STORES`] by payments per currency, by items, and by clicks per kind. The best of all are among the
//! best of each worker, so `ZREVRANGE … 0 99` is exact up to the precision of scores. A change of one cell may move any
//! store into a list, so lists are made anew from the view in memory, for windows that changed, a second after the last
//! time at the earliest, and never for more than a tenth of the time.
//!
//! Upholds: a list never holds a store that its worker no longer counts among its best; scores are doubles, so sums beyond
//! 2^53 minor units are rounded there (the hashes hold them exactly).
//! Keeps: per list the members written, to know what to take out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use ::redis::Value;
use storeflow_dataflows::key::{Text, WordMap};
use storeflow_dataflows::table::{Table, Window};

use super::error::RedisError;
use super::keys::{Keys, bucket_of, push_money, push_number};
use super::link::{Cursor, Link, Packed, Wire};
use super::steps::{Steps, Style};
use super::totals::{Totals, WrittenTotals};
use crate::publish::view::MemoryView;

/// Stores a worker contributes to a list.
pub(super) const TOP_STORES: usize = 100;

/// Lists asked for in one pipeline, some thousand members each.
const LISTS_AT_A_TIME: usize = 100;

/// Least time between two makings of the lists.
const EVERY: Duration = Duration::from_secs(1);

/// A list: table, window, currency or kind.
type List = (Table, Window, Text);

/// A score and a store, the worst of them the greatest.
type Ranked = Reverse<(i128, Reverse<Text>)>;

/// One worker's lists.
#[derive(Debug)]
pub(super) struct Tops {
    pub(super) worker: usize,
    stale: BTreeSet<(Table, Window)>,
    written: BTreeMap<List, WordMap<Text, i128>>,
    totals: Totals,
    not_before: Instant,
}

impl Tops {
    /// The lists of a worker of so many.
    pub(super) fn new(worker: usize, peers: usize, now: Instant) -> Tops {
        let totals = Totals::new(worker, peers);
        Tops { worker, stale: BTreeSet::new(), written: BTreeMap::new(), totals, not_before: now }
    }

    /// Cells of the window changed.
    pub(super) fn touch(&mut self, table: Table, window: Window) {
        if table.windowed() {
            self.stale.insert((table, window));
        }
    }

    /// All lists are made anew.
    pub(super) fn touch_all(&mut self, view: &MemoryView) {
        // Those that have left the view, too: their lists are to go.
        let written = self.written.keys().map(|(_, window, _)| *window).chain(self.totals.windows());
        let windows: BTreeSet<Window> = view.windows(self.worker).into_iter().chain(written).collect();
        for window in windows {
            Table::ALL.into_iter().for_each(|table| self.touch(table, window));
        }
    }

    /// Redis holds nothing of this worker's: all lists are made anew.
    pub(super) fn lost(&mut self, view: &MemoryView) {
        self.written.clear();
        self.totals.lost();
        self.touch_all(view);
    }

    /// Whether lists should be made now; `behind`: their guard does not say yet that they are as new as the hashes.
    pub(super) fn due(&self, now: Instant, behind: bool) -> bool {
        (behind || !self.stale.is_empty() || self.totals.is_waiting()) && now >= self.not_before
    }

    /// The steps to the lists of now. Call [`Tops::wrote`] when they were taken.
    pub(super) fn steps(&mut self, keys: &Keys, view: &MemoryView, as_of: u64, style: &Style, steps: &mut Steps) -> Written {
        let began = Instant::now();
        let mut next = Written::default();
        let (mut adds, mut removes, mut scratch) = (Packed::default(), Packed::default(), Vec::new());
        for &(table, window) in &self.stale {
            let mut lists =
                if style.horizons.expired(window, as_of) { BTreeMap::new() } else { best(view, self.worker, table, window) };
            let before =
                self.written.range((table, window, Text::EMPTY)..).take_while(|((t, w, _), _)| (*t, *w) == (table, window));
            for ((_, _, second), _) in before {
                lists.entry(second.clone()).or_default();
            }
            for (second, best) in lists {
                let list = (table, window, second);
                let nothing = WordMap::default();
                let before = self.written.get(&list).unwrap_or(&nothing);
                adds.clear();
                removes.clear();
                for (store, score) in best.iter().filter(|(store, score)| before.get(store) != Some(score)) {
                    scratch.clear();
                    if table == Table::StorePayments {
                        push_money(&mut scratch, *score, style.scale)
                    } else {
                        push_score(&mut scratch, *score)
                    }
                    adds.push(&scratch);
                    adds.push(store.as_bytes());
                }
                for store in before.keys().filter(|store| !best.contains_key(*store)) {
                    removes.push(store.as_bytes());
                }
                if adds.len() + removes.len() > 0 {
                    steps.rank(&keys.top(table, window, list.2.as_bytes()), style.ttl(window, as_of), &adds, &removes);
                }
                next.lists.push((list, best));
            }
        }
        let windows: BTreeSet<Window> = self.stale.iter().map(|(_, window)| *window).collect();
        next.totals = self.totals.steps(&windows, (keys, view), as_of, style, steps);
        next.not_before = Some(Instant::now() + EVERY.max(began.elapsed() * 10));
        next
    }

    /// The steps were taken.
    pub(super) fn wrote(&mut self, written: Written) {
        self.stale.clear();
        for (list, best) in written.lists {
            if best.is_empty() {
                self.written.remove(&list);
            } else {
                self.written.insert(list, best);
            }
        }
        self.totals.wrote(written.totals);
        self.not_before = written.not_before.unwrap_or(self.not_before);
    }
}

/// Finds out what Redis holds of these workers', when that is not known: of another run, with any number of workers, or of
/// before data were lost. All their lists are made anew then. Gives back the keys of all guards of lists.
pub(super) fn recall(
    mut tops: Vec<&mut Tops>,
    link: &mut Link,
    keys: &Keys,
    view: &MemoryView,
    peers: usize,
) -> Result<Vec<String>, RedisError> {
    tops.iter_mut().for_each(|tops| tops.lost(view));
    let (mut cursor, mut found) = (Cursor::default(), Vec::new());
    while !cursor.at_end() {
        link.scan(&mut cursor, &keys.any_of_tops(), &mut found)?;
    }
    for (key, of) in found.iter().filter_map(|key| Some((key, keys.parse_totals(key)?))) {
        for tops in &mut tops {
            tops.totals.recall(key, of);
        }
    }
    tops.iter_mut().for_each(|tops| tops.touch_all(view));
    let (lists, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|key| keys.parse_top(key).is_some());
    for lists in lists.chunks(LISTS_AT_A_TIME) {
        let mut wire = Wire::default();
        lists.iter().for_each(|key| wire.command(&[b"ZRANGE", key, b"0", b"-1"]));
        for (key, answer) in lists.iter().zip(link.call("read the top lists", &wire)?) {
            let (Some((table, window, second)), Value::Array(members)) = (keys.parse_top(key), answer) else { continue };
            for tops in &mut tops {
                tops.touch(table, window);
                let ours = |store: &[u8]| bucket_of(store) % peers.max(1) as u64 == tops.worker as u64;
                let stores = members.iter().filter_map(|member| match member {
                    // A score that no store has: each is written again or taken out.
                    Value::BulkString(store) if ours(store) => Some((Text::new(store), i128::MIN)),
                    _ => None,
                });
                tops.written.entry((table, window, Text::new(second))).or_default().extend(stores);
            }
        }
    }
    Ok(others.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect())
}

/// What lists hold once their steps are taken.
#[derive(Debug, Default)]
pub(super) struct Written {
    lists: Vec<(List, WordMap<Text, i128>)>,
    totals: WrittenTotals,
    not_before: Option<Instant>,
}

/// The best stores of each currency or kind; of equal ones those with the least id.
fn best(view: &MemoryView, worker: usize, table: Table, window: Window) -> BTreeMap<Text, WordMap<Text, i128>> {
    let heaps = view.look(worker, table, window, |cells| {
        let mut heaps: BTreeMap<Text, BinaryHeap<Ranked>> = BTreeMap::new();
        for (key, value) in cells {
            let (store, second) = key.cell_parts();
            let score = if table == Table::StoreClicks { value.count.into() } else { value.sum };
            let heap = heaps.entry(Text::new(second)).or_default();
            if heap.len() >= TOP_STORES && heap.peek().is_some_and(|Reverse((least, _))| score < *least) {
                continue;
            }
            heap.push(Reverse((score, Reverse(Text::new(store)))));
            if heap.len() > TOP_STORES {
                heap.pop();
            }
        }
        heaps
    });
    let members = |heap: BinaryHeap<Ranked>| heap.into_iter().map(|Reverse((score, Reverse(store)))| (store, score));
    heaps.into_iter().map(|(second, heap)| (second, members(heap).collect())).collect()
}

fn push_score(out: &mut Vec<u8>, score: i128) {
    match i64::try_from(score) {
        Ok(score) => push_number(out, score),
        Err(_) => out.extend_from_slice(score.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::table::{CellChange, Value};

    use super::*;
    use crate::decode::cell_key;

    #[test]
    fn the_best_hundred_lead() {
        let view = MemoryView::of(3..4);
        let change = |store: u32| CellChange {
            after: 0,
            table: Table::StorePayments,
            window: 0,
            key: cell_key(format!("s{store:03}").as_bytes(), b"KRW", &mut Vec::new()),
            value: Some((Value { sum: (store / 2).into(), count: 1, distinct: 0 }, 0)),
        };
        view.apply(3, 1, &mut (0..251).map(change).collect(), &mut Vec::new());
        let lists = best(&view, 3, Table::StorePayments, 0);
        let [(second, best)] = &lists.into_iter().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((second.as_bytes(), best.len()), (&b"KRW"[..], 100));
        // 250 alone has 125, and of the two that have 75 the one with the lesser id is kept.
        assert!(best.contains_key(&Text::new(b"s250")) && best.contains_key(&Text::new(b"s150")));
        assert!(!best.contains_key(&Text::new(b"s151")) && !best.contains_key(&Text::new(b"s149")));
    }
}
