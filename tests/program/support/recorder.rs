//! Runs the dataflow and keeps all it published, so that the view can be looked at for every as-of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use storeflow::config::Job;
use storeflow::publish::error::PublishError;
use storeflow::runtime::publisher::{Publisher, Staged};
use storeflow::runtime::replay::{replay, topics_of};
use storeflow::runtime::workers::{Finished, Tuning};
use storeflow::source::dataset::partitions;
use storeflow::source::names::PartitionNames;
use storeflow::verify::{CellId, CellRow, HistoryId, HistoryValue, LateRow};
use storeflow_dataflows::key::Key;
use storeflow_dataflows::table::{NO_WINDOW, Table, Window};

/// Everything a run published.
#[derive(Default)]
pub(crate) struct Recorder {
    published: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    /// (shown at as-ofs after this, cell, value); the order of equal instants is that of arrival.
    cells: Vec<(u64, CellId, Option<CellRow>)>,
    expired: Vec<(u64, Table, u64)>,
    history: Vec<(HistoryId, HistoryValue)>,
    late: Vec<LateRow>,
    dead_letters: Vec<((String, u32, u64), u64)>,
    as_ofs: BTreeMap<usize, u64>,
    cuts: BTreeSet<u64>,
    names: PartitionNames,
    window: u64,
    grace: u64,
}

fn cell(table: Table, window: Window, key: &Key) -> CellId {
    let (store, second) = key.cell_parts();
    CellId {
        table,
        store: String::from_utf8(store.to_vec()).expect("ids are UTF-8"),
        second: String::from_utf8(second.to_vec()).expect("ids are UTF-8"),
        window: (window != NO_WINDOW).then_some(window as u64),
    }
}

impl Publisher for Recorder {
    fn publish(&self, worker: usize, staged: Staged) -> Result<(), PublishError> {
        let mut all = self.published.lock().expect("not poisoned");
        let before = all.as_ofs.insert(worker, staged.as_of);
        assert!(before < Some(staged.as_of), "as-ofs of a worker ascend");
        let due = before.unwrap_or(0)..staged.as_of;
        all.cuts.insert(staged.as_of);
        for change in staged.cells {
            assert!(due.contains(&change.after), "handed over for its as-of: {change:?} in {due:?}");
            let row = change.value.map(|(value, revision)| CellRow {
                sum: value.sum,
                // Click cells publish a count; sales publish a sum; both keep all three.
                count: value.count,
                distinct: value.distinct,
                revision,
            });
            all.cells.push((change.after, cell(change.table, change.window, &change.key), row));
        }
        for expiry in staged.expiries {
            assert!(due.contains(&expiry.after), "handed over for its as-of: {expiry:?} in {due:?}");
            all.expired.push((expiry.after, expiry.table, expiry.window as u64));
        }
        for row in staged.history {
            assert!(row.epoch <= staged.as_of && row.epoch > due.start, "an epoch is handed over with the as-of that reaches it");
            let id = HistoryId { epoch: row.epoch, cell: cell(row.table, row.window, &row.key) };
            let value = HistoryValue {
                sum: row.value.sum,
                count: row.value.count,
                distinct: row.value.distinct,
                revision: row.revision,
                deleted: row.value.count == 0,
            };
            all.history.push((id, value));
        }
        for late in staged.late {
            assert!(due.contains(&late.stamp), "handed over for its as-of: {late:?} in {due:?}");
            let (topic, partition) = all.names.get(late.partition);
            let (window, grace) = (all.window, all.grace);
            // The least k * window + grace greater than the stamp.
            let phase = grace % window;
            let epoch = if late.stamp < phase { phase } else { phase + ((late.stamp - phase) / window + 1) * window };
            all.late.push(LateRow {
                stamp: late.stamp,
                topic: topic.to_string(),
                partition,
                position: late.position,
                cell: cell(late.table, late.window, &late.key),
                sum: late.sum,
                count: late.count,
                epoch,
            });
        }
        for letter in staged.dead_letters {
            assert!(due.contains(&letter.stamp), "handed over for its as-of: {letter:?} in {due:?}");
            all.dead_letters.push(((letter.topic.to_string(), letter.partition, letter.offset), letter.stamp));
        }
        Ok(())
    }
}

/// A finished run, to be asked about any as-of.
pub(crate) struct Run {
    recorded: Recorded,
    /// How it went.
    pub(crate) finished: Finished,
}

/// Replays `dataset`, keeping all it publishes.
pub(crate) fn record(job: &Job, dataset: &Path, tuning: &Tuning) -> Run {
    let files = partitions(job, dataset).expect("a readable dataset");
    record_by(job, topics_of(&files), |recorder| replay(job, &files, tuning, false, recorder, |_| {}).expect("a run"))
}

/// Keeps all that a run of these topics publishes.
pub(crate) fn record_by(job: &Job, topics: Vec<String>, run: impl FnOnce(Arc<Recorder>) -> Finished) -> Run {
    let recorder = Arc::new(Recorder::default());
    {
        let mut recorded = recorder.published.lock().expect("not poisoned");
        recorded.names = PartitionNames::sorted(topics);
        recorded.window = job.horizons.window;
        recorded.grace = job.horizons.grace;
    }
    let finished = run(Arc::clone(&recorder));
    let mut recorded = std::mem::take(&mut *recorder.published.lock().expect("not poisoned"));
    recorded.cells.sort_by_key(|(after, ..)| *after);
    Run { recorded, finished }
}

impl Run {
    /// Every as-of that a worker was at; with a fixed tick also the first boundary after everything
    /// that was published (each is a frontier the dataflow went through, seen or not).
    pub(crate) fn as_ofs(&self, next_boundary: Option<&dyn Fn(u64) -> u64>) -> BTreeSet<u64> {
        let mut cuts = self.recorded.cuts.clone();
        if let Some(next) = next_boundary {
            let shown = self.recorded.cells.iter().map(|(after, ..)| next(*after));
            cuts.extend(shown.filter(|&at| at < self.finished.as_of));
        }
        cuts
    }

    /// The view at an as-of.
    pub(crate) fn cells_at(&self, as_of: u64) -> BTreeMap<CellId, CellRow> {
        let mut view = BTreeMap::new();
        for (_, cell, row) in self.recorded.cells.iter().take_while(|(after, ..)| *after < as_of) {
            match row {
                Some(row) => view.insert(cell.clone(), *row),
                None => view.remove(cell),
            };
        }
        for (after, table, window) in &self.recorded.expired {
            if *after < as_of {
                view.retain(|cell, _| (cell.table, cell.window) != (*table, Some(*window)));
            }
        }
        view
    }

    /// All history rows.
    pub(crate) fn history(&self) -> BTreeMap<HistoryId, HistoryValue> {
        let all: BTreeMap<_, _> = self.recorded.history.iter().cloned().collect();
        assert_eq!(all.len(), self.recorded.history.len(), "a cell is written once per epoch");
        all
    }

    /// Late adjustments, sorted.
    pub(crate) fn late(&self) -> Vec<LateRow> {
        let mut late = self.recorded.late.clone();
        late.sort();
        late
    }

    /// Places (topic, partition, position) of the dead letters among the records before `as_of`, sorted.
    pub(crate) fn dead_letters_at(&self, as_of: u64) -> Vec<(String, u32, u64)> {
        let before = self.recorded.dead_letters.iter().filter(|(_, stamp)| *stamp < as_of);
        let mut places: Vec<_> = before.map(|(place, _)| place.clone()).collect();
        places.sort();
        places
    }
}
