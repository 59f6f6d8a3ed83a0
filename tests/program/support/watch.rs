//! Somebody who reads the view in Redis all the time, as `docs/redis-view.md` says, while everything around it fails.
//!
//! ```text
//! pointer ─► per store, one transaction: guard of its bucket, its hashes ─► marker     again and again, in a thread
//!                            └─► afterwards: each sample against the recomputation at the as-of it says it has
//! ```
//!
//! Upholds, of all that was ever read: (1) pointer, marker, guards and `changed_as_of` never went back; (2) a bucket that says how far
//! it is held every number of that as-of, no more and no less; one that was being written anew held hashes whole, each
//! of the as-of it was written with, and missed none; (3) no closed window lost a cell other than by a correction, or a revision.
//! Keeps: what differed from what was read before. Absent on purpose: waiting for anything; an outage is no sample.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use storeflow::config::{Job, job_file};
use storeflow::publish::redis::RedisSettings;
use storeflow::verify::published::visible;
use storeflow::verify::{CellId, CellRow, Recomputation};
use storeflow_dataflows::table::Table;
use xxhash_rust::xxh3::xxh3_64;

/// Stores that are read, those with the most cells.
const STORES: usize = 4;

type Cells = BTreeMap<CellId, CellRow>;
/// Hashes of a store, by the start of their window; `None` is the store's own.
type Hashes = BTreeMap<Option<u64>, BTreeMap<String, String>>;

/// What was read of a store at once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    store: String,
    generation: u64,
    /// `None`: the bucket is being written in full.
    as_of: Option<u64>,
    hashes: Hashes,
}

/// All that was read.
#[derive(Default)]
struct Seen {
    /// Generation and as-of of the marker, after each round.
    markers: Vec<(u64, u64)>,
    samples: Vec<Sample>,
}

/// Reads until it is ended.
pub(crate) struct Watch {
    job: Job,
    twin: Recomputation,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Watch {
    /// Begins to read the view of a job over a dataset.
    pub(crate) fn start(redis: &RedisSettings, url: &str, job: &Path, dataset: &Path) -> Watch {
        assert!(!redis.cluster, "transactions of a cluster are of one slot");
        let job = job_file::load(job).expect("a job");
        let twin = Recomputation::read(&job, dataset).expect("a dataset");
        let cells = twin.cells_at(twin.end_as_of());
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        cells.keys().for_each(|cell| *sizes.entry(&cell.store).or_default() += 1);
        let mut stores: Vec<(usize, String)> = sizes.into_iter().map(|(store, size)| (size, store.to_owned())).collect();
        stores.sort();
        let stores: Vec<String> = stores.into_iter().rev().take(STORES).map(|(_, store)| store).collect();
        let windows: BTreeSet<u64> = cells.keys().filter_map(|cell| cell.window).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Reader { url: url.to_owned(), job: job.name.clone(), stores, windows, stop: Arc::clone(&stop) };
        let thread = Some(std::thread::spawn(move || reader.run()));
        Watch { job, twin, stop, thread }
    }

    /// Ends it, and judges what it has read.
    pub(crate) fn judge(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.take().expect("not ended before").join().expect("a reader does not fail");
        let Seen { markers, samples } = &seen;
        println!("{} samples, {} as-ofs", samples.len(), markers.len());
        assert!(!markers.is_empty() && !samples.is_empty(), "it saw nothing");
        assert!(markers.is_sorted_by_key(|(generation, _)| generation), "the pointer went back: {markers:?}");
        assert!(markers.is_sorted_by_key(|(_, as_of)| as_of), "the marker went back: {markers:?}");
        let stores: BTreeSet<&str> = samples.iter().map(|sample| &*sample.store).collect();
        let mut truth =
            Truth { twin: &self.twin, stores: stores.iter().map(|store| (*store).to_owned()).collect(), at: BTreeMap::new() };
        for store in stores {
            let of_store: Vec<&Sample> = samples.iter().filter(|sample| sample.store == store).collect();
            self.judge_store(&of_store, &mut truth);
        }
    }

    fn judge_store(&self, samples: &[&Sample], truth: &mut Truth<'_>) {
        let (mut reached, mut changed, mut closed) = (0, BTreeMap::new(), Cells::new());
        for (at, sample) in samples.iter().enumerate() {
            let cells: BTreeMap<Option<u64>, Cells> = sample
                .hashes
                .iter()
                .map(|(window, hash)| (*window, cells_of(&sample.store, *window, hash, self.job.scale)))
                .collect();
            for (window, hash) in &sample.hashes {
                let now = number(hash, "changed_as_of");
                let before = changed.insert(*window, now).unwrap_or(0);
                assert!(before <= now, "{window:?} changed at {before}, then at {now}: {sample:?}");
                assert_eq!(cells[window], truth.hash(&sample.store, *window, now), "{window:?} as of {now}: {sample:?}");
            }
            if let Some(as_of) = sample.as_of {
                assert!(reached <= as_of, "a bucket went back from {reached}: {sample:?}");
                reached = as_of;
                let all: Cells = cells.into_values().flatten().collect();
                assert_eq!(all, truth.store(&sample.store, as_of), "as of {as_of}");
                self.judge_closed(&mut closed, all, as_of);
            } else if reached > 0 {
                // It is on the way from one as-of to another: nothing is missing that both have.
                let next = samples[at..].iter().find_map(|sample| sample.as_of);
                let (from, to) = (truth.store(&sample.store, reached), next.map(|next| truth.store(&sample.store, next)));
                let there: Cells = cells.into_values().flatten().collect();
                let is_missing =
                    |cell: &&CellId| to.as_ref().is_some_and(|to| to.contains_key(*cell)) && !there.contains_key(*cell);
                let missing: Vec<&CellId> = from.keys().filter(is_missing).collect();
                assert!(missing.is_empty(), "missing while the bucket is rebuilt: {missing:?} of {sample:?}");
            }
        }
    }

    /// Cells of closed windows stay, and their revisions do not go back.
    fn judge_closed(&self, closed: &mut Cells, now: Cells, as_of: u64) {
        let horizons = self.job.horizons;
        for (cell, before) in closed.iter() {
            match now.get(cell) {
                Some(now) => assert!(before.revision <= now.revision, "{cell:?} went from {before:?} to {now:?}"),
                // By the records themselves, as the recomputation has just agreed.
                None => println!("{cell:?} was emptied by {as_of}"),
            }
        }
        let is_closed = |cell: &CellId| cell.window.is_some_and(|window| window + horizons.window + horizons.grace <= as_of);
        *closed = now.into_iter().filter(|(cell, _)| is_closed(cell)).collect();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What the recomputation says, asked once per as-of.
struct Truth<'a> {
    twin: &'a Recomputation,
    stores: BTreeSet<String>,
    at: BTreeMap<u64, Cells>,
}

impl Truth<'_> {
    fn at(&mut self, as_of: u64) -> &Cells {
        self.at.entry(as_of).or_insert_with(|| {
            let cells = self.twin.cells_at(as_of).into_iter().filter(|(cell, _)| self.stores.contains(&cell.store));
            cells.map(|(cell, row)| (cell.clone(), visible(cell.table, row))).collect()
        })
    }

    fn store(&mut self, store: &str, as_of: u64) -> Cells {
        let of_store = |(cell, row): (&CellId, &CellRow)| (cell.store == store).then(|| (cell.clone(), *row));
        self.at(as_of).iter().filter_map(of_store).collect()
    }

    fn hash(&mut self, store: &str, window: Option<u64>, as_of: u64) -> Cells {
        let mut cells = self.store(store, as_of);
        cells.retain(|cell, _| cell.window == window);
        cells
    }
}

fn number(hash: &BTreeMap<String, String>, field: &str) -> u64 {
    hash.get(field).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {field} in {hash:?}"))
}

/// The cells of a hash.
fn cells_of(store: &str, window: Option<u64>, hash: &BTreeMap<String, String>, scale: u32) -> Cells {
    let mut cells = Cells::new();
    for (field, value) in hash {
        let (measure, second) = field.split_once(':').unwrap_or((field, ""));
        let table = match measure {
            "payment_sum" | "payment_count" => Table::StorePayments,
            "items_sold" | "products_sold" => Table::StoreSales,
            "clicks" | "products_clicked" => Table::StoreClicks,
            "product_count" => Table::StoreProducts,
            "revision" | "changed_as_of" | "newest_window" => continue,
            other => panic!("unknown field {other}"),
        };
        let revision = match table {
            Table::StorePayments => format!("revision:payments:{second}"),
            Table::StoreSales => "revision:sales".to_owned(),
            Table::StoreClicks => format!("revision:clicks:{second}"),
            Table::StoreProducts => String::new(),
        };
        let cell = CellId { table, store: store.to_owned(), second: second.to_owned(), window };
        let row: &mut CellRow = cells.entry(cell).or_default();
        row.revision = hash.get(&revision).map_or(0, |text| text.parse().expect("a number"));
        let whole = || value.parse().expect("a number");
        match measure {
            "payment_sum" => row.sum = money(value, scale),
            "items_sold" => row.sum = value.parse().expect("a number"),
            "payment_count" | "clicks" | "product_count" => row.count = whole(),
            _ => row.distinct = whole(),
        }
    }
    cells
}

/// Decimal text with exactly so many digits, in minor units.
fn money(text: &str, scale: u32) -> i128 {
    let (_, digits) = text.split_once('.').unwrap_or((text, ""));
    assert_eq!(digits.len(), scale as usize, "{text}");
    text.replacen('.', "", 1).parse().expect("a number")
}

/// Reads as clients do.
struct Reader {
    url: String,
    job: String,
    stores: Vec<String>,
    windows: BTreeSet<u64>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(self) -> Seen {
        let mut seen = Seen::default();
        let mut last: BTreeMap<String, Sample> = BTreeMap::new();
        let mut connection = None;
        loop {
            // Once more after the end: that is what stays.
            let over = self.stop.load(Ordering::Relaxed);
            if self.round(&mut connection, &mut seen, &mut last).is_err() {
                connection = None;
                std::thread::sleep(Duration::from_millis(20));
            }
            if over {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn round(
        &self,
        connection: &mut Option<redis::Connection>,
        seen: &mut Seen,
        last: &mut BTreeMap<String, Sample>,
    ) -> redis::RedisResult<()> {
        if connection.is_none() {
            let patience = Duration::from_secs(5);
            let opened = redis::Client::open(&*self.url)?.get_connection_with_timeout(patience)?;
            opened.set_read_timeout(Some(patience))?;
            *connection = Some(opened);
        }
        let Some(connection) = connection else { return Ok(()) };
        let job = &self.job;
        let pointer = format!("sf:{job}:current");
        let generation: Option<u64> = redis::cmd("HGET").arg(pointer).arg("generation").query(connection)?;
        let Some(generation) = generation else { return Ok(()) };
        for store in &self.stores {
            let prefix = format!("sf:{{{}}}:{job}:{generation}:", xxh3_64(store.as_bytes()) >> 54);
            let mut pipe = redis::pipe();
            pipe.atomic().cmd("GET").arg(format!("{prefix}guard")).cmd("HGETALL").arg(format!("{prefix}s:{store}"));
            for window in &self.windows {
                pipe.cmd("HGETALL").arg(format!("{prefix}w:{window}:{store}"));
            }
            let mut answers: Vec<redis::Value> = pipe.query(connection)?;
            let guard: Option<String> = redis::from_redis_value(answers.remove(0))?;
            let Some(guard) = guard else { continue };
            let as_of = guard.rsplit(':').next().and_then(|as_of| as_of.parse().ok());
            let names = std::iter::once(None).chain(self.windows.iter().copied().map(Some));
            let mut hashes = Hashes::new();
            for (window, answer) in names.zip(answers) {
                let hash: BTreeMap<String, String> = redis::from_redis_value(answer)?;
                if !hash.is_empty() {
                    hashes.insert(window, hash);
                }
            }
            let sample = Sample { store: store.clone(), generation, as_of, hashes };
            if last.get(store) != Some(&sample) {
                last.insert(store.clone(), sample.clone());
                seen.samples.push(sample);
            }
        }
        let marker: Option<u64> =
            redis::cmd("HGET").arg(format!("sf:{job}:{generation}:about")).arg("as_of").query(connection)?;
        if let Some(marker) = marker.map(|as_of| (generation, as_of)).filter(|marker| seen.markers.last() != Some(marker)) {
            seen.markers.push(marker);
        }
        Ok(())
    }
}
