//! The history writer: rows of finished epochs to Parquet files, beside the workers.
//!
//! ```text
//! workers ─ batches ─► bounded channel ─► one thread: collect per file ─► row groups and dead letters in local files
//! commit ── publish(as_of) ──────────────►            footer, then shown in the store: every epoch <= as_of
//! ```
//!
//! Upholds: (1) a file is in the store only after [`HistoryWriter::publish`] said that an as-of at or past its epoch is
//! committed; (2) the first error ends the thread, so workers learn of it at their next batch; (3) [`HistorySender::shown`]
//! says through which as-of everything is in the store.
//! Keeps: at most [`ROW_GROUP_ROWS`] rows in memory beside the batches in the channel, over all files; for each unfinished
//! file its footer.
//! Absent on purpose: more threads. Encoding costs less than computing, and the workers have the processors. Uploads wait
//! here, several at a time; the channel's bound is what holds back the workers then.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storeflow_dataflows::table::{HistoryRow, LateAdjustment, NO_WINDOW, Table};

use super::columns::Cell;
use super::dead_letters::{DeadLetter, DeadLetterFile, MadeBy};
use super::encode::Encoder;
use super::error::PublishError;
use super::layout::{About, Generation, Keys};
use super::schema::{Output, TableSchema};
use super::table_file::{FileMeta, ROW_GROUP_ROWS, TableFile};
use super::time;
use crate::observe::locked;
use crate::observe::metrics::{self, Observed, Sample};
use crate::source::names::PartitionNames;
use crate::store::{Spool, Store};

/// Batches in the channel at most. A batch is one worker's share of an epoch, so this lets every worker run some epochs
/// ahead of the disk, and stops it before its rows pile up.
const BATCHES: usize = 16;

/// What one worker hands over: rows in any order, of any tables, epochs and dates.
#[derive(Debug, Default)]
pub struct Batch {
    /// The worker, counted over all processes.
    pub worker: usize,
    /// Cells as published at their epochs.
    pub rows: Vec<HistoryRow>,
    /// Contributions to expired windows.
    pub late: Vec<LateAdjustment>,
    /// Records that could not be decoded.
    pub dead_letters: Vec<DeadLetter>,
}

/// What was written in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files that have their final name.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Their rows; dead letters are not among them.
    pub rows: u64,
    /// Dead letters in them.
    pub dead_letters: u64,
}

enum Message {
    Batch(Batch),
    Publish(u64),
    Close,
}

/// The thread that writes history, and the way to end it.
#[derive(Debug)]
pub struct HistoryWriter {
    sender: HistorySender,
    thread: JoinHandle<Result<Totals, PublishError>>,
}

/// A worker's way to the history writer.
#[derive(Clone, Debug)]
pub struct HistorySender {
    channel: SyncSender<Message>,
    shown: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    written: Arc<Written>,
}

/// Counts of what was written, for whoever watches.
#[derive(Debug, Default)]
pub struct Written {
    totals: Mutex<(Totals, Duration)>,
}

impl Observed for Written {
    fn collect(&self, sample: &mut Sample) {
        let (totals, took) = *locked(&self.totals);
        sample.count(&metrics::HISTORY_FILES, &[], totals.files);
        sample.count(&metrics::HISTORY_ROWS, &[], totals.rows);
        sample.count(&metrics::HISTORY_BYTES, &[], totals.bytes);
        sample.add(&metrics::HISTORY_SECONDS, &[], took.as_secs_f64());
    }
}

impl HistorySender {
    /// Hands over a batch; waits while the channel is full. An error says that the writer has stopped.
    pub fn send(&self, batch: Batch) -> Result<(), PublishError> {
        self.channel.send(Message::Batch(batch)).map_err(|_| PublishError::Stopped)
    }

    /// Says that everything before `as_of` is committed. All batches with rows of epochs up to it must have been sent.
    pub fn publish(&self, as_of: u64) -> Result<(), PublishError> {
        self.channel.send(Message::Publish(as_of)).map_err(|_| PublishError::Stopped)
    }

    /// What was written so far.
    pub fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// Whether the writer has stopped: nothing more will be shown, and [`HistoryWriter::close`] says why.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The greatest as-of published whose files are all in the store, and of a writer started by
    /// [`HistoryWriter::start_live`] on stable storage; 0 before the first.
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }
}

impl HistoryWriter {
    /// Starts the thread, for batches of `workers`: those of this process. `names` resolves the partitions of late
    /// adjustments. Files are on stable storage only once the generation is synced, all together: for a run that ends.
    ///
    /// # Errors
    /// If there can be no such thread.
    pub fn start(
        generation: &Generation,
        workers: Range<usize>,
        names: Arc<PartitionNames>,
    ) -> Result<HistoryWriter, PublishError> {
        HistoryWriter::spawn(generation, workers, names, false, 0)
    }

    /// As [`HistoryWriter::start`], for a run that goes on, from an as-of through which all is shown already: what is published is
    /// on stable storage before [`HistorySender::shown`] says so, so that any process may then move the pointer there.
    ///
    /// # Errors
    /// As [`HistoryWriter::start`].
    pub fn start_live(
        generation: &Generation,
        workers: Range<usize>,
        names: Arc<PartitionNames>,
        through: u64,
    ) -> Result<HistoryWriter, PublishError> {
        HistoryWriter::spawn(generation, workers, names, true, through)
    }

    fn spawn(
        generation: &Generation,
        workers: Range<usize>,
        names: Arc<PartitionNames>,
        live: bool,
        through: u64,
    ) -> Result<HistoryWriter, PublishError> {
        let (channel, receiver) = sync_channel(BATCHES);
        let about = generation.about().clone();
        let mut schemas = BTreeMap::new();
        for output in Output::ALL {
            schemas.insert(output, TableSchema::of(output, &about)?);
        }
        let (shown, written) = (Arc::new(AtomicU64::new(through)), Arc::<Written>::default());
        let stopped = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stopped);
        let files = Files {
            store: generation.store().clone(),
            about,
            keys: generation.keys().clone(),
            made_by: Arc::clone(generation.made_by()),
            workers,
            names,
            encoder: Encoder::new().map_err(PublishError::io("compress for", &generation.place()))?,
            schemas,
            cells: BTreeMap::new(),
            late: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            waiting: 0,
            published: through,
            live,
            shown: Arc::clone(&shown),
            totals: Totals::default(),
            written: Arc::clone(&written),
        };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                // However the thread ends, whoever waits for it is told.
                let _end = Ended(end);
                files.run(&receiver)
            })
            .map_err(PublishError::io("start a thread for", &generation.place()))?;
        Ok(HistoryWriter { sender: HistorySender { channel, shown, stopped, written }, thread })
    }

    /// A sender for a worker.
    pub fn sender(&self) -> HistorySender {
        self.sender.clone()
    }

    /// See [`HistorySender::publish`].
    pub fn publish(&self, as_of: u64) -> Result<(), PublishError> {
        self.sender.publish(as_of)
    }

    /// Ends the run: late adjustments and dead letters of the unfinished epoch, as far as published, get their files; rows
    /// never published are dropped. Returns the totals, or the first error there was.
    pub fn close(self) -> Result<Totals, PublishError> {
        // If it has stopped already, the thread's result says why.
        let _ = self.sender.channel.send(Message::Close);
        self.thread.join().unwrap_or(Err(PublishError::Stopped))
    }
}

/// Says that the thread has ended.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A file of cells; epochs first, so that what an as-of publishes is a prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct CellFile {
    epoch: u64,
    table: Table,
    day: i64,
    worker: usize,
}

/// A file of late adjustments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LateFile {
    epoch: u64,
    worker: usize,
}

/// A file of dead letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LetterFile {
    epoch: u64,
    reason: &'static str,
    worker: usize,
}

/// A file's rows that wait to be encoded, and the file if it has been begun.
struct Pending<R> {
    chunks: Vec<Vec<R>>,
    file: Option<TableFile>,
}

impl<R> Default for Pending<R> {
    fn default() -> Self {
        Pending { chunks: Vec::new(), file: None }
    }
}

/// What the thread keeps.
struct Files {
    store: Store,
    about: About,
    keys: Keys,
    made_by: Arc<MadeBy>,
    /// Those of this process, whose batches come here.
    workers: Range<usize>,
    names: Arc<PartitionNames>,
    encoder: Encoder,
    schemas: BTreeMap<Output, TableSchema>,
    cells: BTreeMap<CellFile, Pending<HistoryRow>>,
    late: BTreeMap<LateFile, Pending<LateAdjustment>>,
    dead_letters: BTreeMap<LetterFile, DeadLetterFile>,
    /// Rows in all `Pending`.
    waiting: usize,
    published: u64,
    /// Everything published goes to stable storage at once.
    live: bool,
    shown: Arc<AtomicU64>,
    totals: Totals,
    written: Arc<Written>,
}

impl Files {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<Totals, PublishError> {
        let mut took = Duration::ZERO;
        for message in receiver {
            let began = Instant::now();
            match message {
                Message::Batch(batch) => self.take(batch)?,
                Message::Publish(as_of) => self.publish(as_of)?,
                Message::Close => break,
            }
            took += began.elapsed();
            *locked(&self.written.totals) = (self.totals, took);
        }
        self.close()
    }

    fn take(&mut self, batch: Batch) -> Result<(), PublishError> {
        self.waiting += batch.rows.len() + batch.late.len();
        let worker = batch.worker;
        assert!(self.workers.contains(&worker), "worker {worker} is not of this process, which has {:?}", self.workers);
        group(batch.rows, |row| CellFile { epoch: row.epoch, table: row.table, day: day(row), worker }, &mut self.cells);
        let horizons = self.about.horizons;
        group(batch.late, |row| LateFile { epoch: horizons.epoch_after(row.stamp), worker }, &mut self.late);
        let mut letters: BTreeMap<LetterFile, Vec<DeadLetter>> = BTreeMap::new();
        for letter in batch.dead_letters {
            let file = LetterFile { epoch: horizons.epoch_after(letter.stamp), reason: letter.reason, worker };
            letters.entry(file).or_default().push(letter);
        }
        // A second file of a published name would take the place of the first.
        let first_cells = self.cells.first_key_value().map(|(file, _)| file.epoch);
        let first_late = self.late.first_key_value().map(|(file, _)| file.epoch);
        let first_letters = letters.first_key_value().map(|(file, _)| file.epoch);
        let first = first_cells.into_iter().chain(first_late).chain(first_letters);
        if let Some(epoch) = first.min().filter(|epoch| *epoch <= self.published) {
            return Err(PublishError::AfterPublish { epoch, as_of: self.published });
        }
        for (name, letters) in letters {
            let file = match self.dead_letters.entry(name) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let key = self.keys.dead_letters(name.epoch, name.reason, worker);
                    entry.insert(DeadLetterFile::create(&self.store, &key)?)
                }
            };
            file.append(&self.about.job, &self.made_by, &letters)?;
        }
        if self.waiting >= ROW_GROUP_ROWS { self.encode_all() } else { Ok(()) }
    }

    /// Encodes all rows that wait.
    fn encode_all(&mut self) -> Result<(), PublishError> {
        let mut cells = std::mem::take(&mut self.cells);
        let mut late = std::mem::take(&mut self.late);
        cells.iter_mut().try_for_each(|(name, pending)| self.encode_cells(name, pending))?;
        late.iter_mut().try_for_each(|(name, pending)| self.encode_late(name, pending))?;
        (self.cells, self.late) = (cells, late);
        Ok(())
    }

    fn encode_cells(&mut self, name: &CellFile, pending: &mut Pending<HistoryRow>) -> Result<(), PublishError> {
        let chunks = std::mem::take(&mut pending.chunks);
        if chunks.is_empty() {
            return Ok(());
        }
        self.waiting -= chunks.iter().map(Vec::len).sum::<usize>();
        let output = Output::Cells(name.table);
        let key = self.keys.history(output, name.day, name.epoch, name.worker);
        let file = self.begun(&mut pending.file, output, &key, name.epoch)?;
        file.append_cells(&mut self.encoder, chunks.iter().flatten().map(Cell::from))
    }

    fn encode_late(&mut self, name: &LateFile, pending: &mut Pending<LateAdjustment>) -> Result<(), PublishError> {
        let rows: Vec<_> = std::mem::take(&mut pending.chunks).into_iter().flatten().collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.waiting -= rows.len();
        let day = time::day(name.epoch as i64);
        let key = self.keys.history(Output::LateAdjustments, day, name.epoch, name.worker);
        let file = self.begun(&mut pending.file, Output::LateAdjustments, &key, name.epoch)?;
        file.append_late(&mut self.encoder, &rows, &self.about.horizons, &self.names)
    }

    /// The file, begun if it was not.
    fn begun<'f>(
        &self,
        file: &'f mut Option<TableFile>,
        output: Output,
        key: &str,
        epoch: u64,
    ) -> Result<&'f mut TableFile, PublishError> {
        match file {
            Some(file) => Ok(file),
            None => {
                let begun = TableFile::create(&self.store, key, &self.schemas[&output], &FileMeta::new(&self.about, epoch))?;
                Ok(file.insert(begun))
            }
        }
    }

    fn publish(&mut self, as_of: u64) -> Result<(), PublishError> {
        self.published = self.published.max(as_of);
        let mut spools = Vec::new();
        while let Some(entry) = self.cells.first_entry()
            && entry.key().epoch <= as_of
        {
            let (name, mut pending) = entry.remove_entry();
            self.encode_cells(&name, &mut pending)?;
            spools.extend(self.close_file(pending.file)?);
        }
        self.close_late(as_of, &mut spools)?;
        self.store.show(spools)?;
        if self.live {
            self.store.sync()?;
        }
        self.shown.store(self.published, Ordering::Release);
        Ok(())
    }

    /// Closes the files of late adjustments and dead letters of all epochs up to one.
    fn close_late(&mut self, through: u64, spools: &mut Vec<Spool>) -> Result<(), PublishError> {
        while let Some(entry) = self.late.first_entry()
            && entry.key().epoch <= through
        {
            let (name, mut pending) = entry.remove_entry();
            self.encode_late(&name, &mut pending)?;
            spools.extend(self.close_file(pending.file)?);
        }
        while let Some(entry) = self.dead_letters.first_entry()
            && entry.key().epoch <= through
        {
            let file = entry.remove();
            let (letters, bytes) = file.size();
            self.totals.files += 1;
            self.totals.dead_letters += letters;
            self.totals.bytes += bytes;
            spools.push(file.into_spool());
        }
        Ok(())
    }

    fn close_file(&mut self, file: Option<TableFile>) -> Result<Option<Spool>, PublishError> {
        let Some(mut file) = file else { return Ok(None) };
        self.totals.files += 1;
        self.totals.rows += file.rows();
        self.totals.bytes += file.close()?;
        Ok(Some(file.into_spool()))
    }

    fn close(mut self) -> Result<Totals, PublishError> {
        // At the end of a run the last epoch is unfinished; what it has of late adjustments and dead letters is shown under
        // its name.
        let mut spools = Vec::new();
        self.close_late(self.about.horizons.epoch_after(self.published), &mut spools)?;
        self.store.show(spools)?;
        if self.live {
            self.store.sync()?;
        }
        let late = std::mem::take(&mut self.late).into_values().filter_map(|pending| pending.file);
        let cells = std::mem::take(&mut self.cells).into_values().filter_map(|pending| pending.file);
        late.chain(cells).try_for_each(TableFile::discard)?;
        let letters = std::mem::take(&mut self.dead_letters).into_values();
        letters.map(DeadLetterFile::into_spool).try_for_each(Spool::discard)?;
        Ok(self.totals)
    }
}

/// The day whose folder a row is in: that of its window, or of its epoch for tables without windows.
fn day(row: &HistoryRow) -> i64 {
    time::day(if row.window == NO_WINDOW { row.epoch as i64 } else { row.window })
}

/// Puts rows to the others of their file. Rows of one file mostly come together, and whole batches often are of one file.
fn group<R, N: Ord + Copy>(rows: Vec<R>, name: impl Fn(&R) -> N, files: &mut BTreeMap<N, Pending<R>>) {
    let Some(first) = rows.first().map(&name) else { return };
    if rows.iter().all(|row| name(row) == first) {
        files.entry(first).or_default().chunks.push(rows);
        return;
    }
    let mut sorted: BTreeMap<N, Vec<R>> = BTreeMap::new();
    for row in rows {
        sorted.entry(name(&row)).or_default().push(row);
    }
    for (name, rows) in sorted {
        files.entry(name).or_default().chunks.push(rows);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::publish::testing::{dead_letter, job, key, row};

    const MINUTE: u64 = 60_000;
    /// 2026-11-20T23:30:00Z; its window ends at midnight, its epoch is 2026-11-21T00:02:00Z.
    const WINDOW: i64 = 1_795_217_400_000;
    const EPOCH: u64 = WINDOW as u64 + 32 * MINUTE;

    fn create(root: &Path, workers: usize) -> Generation {
        Generation::create(&Store::folder(root).unwrap(), &job("mall"), workers, None).unwrap()
    }

    fn partitions() -> Arc<PartitionNames> {
        Arc::new(PartitionNames::sorted(["t"]))
    }

    fn names(generation: &Generation) -> Vec<String> {
        let dir = generation.place();
        let mut names: Vec<_> = crate::publish::testing::files(&dir)
            .into_iter()
            .filter_map(|path| Some(path.strip_prefix(&dir).ok()?.to_str()?.to_owned()))
            .filter(|name| name != "started.json")
            .collect();
        names.sort();
        names
    }

    fn late(stamp: u64) -> LateAdjustment {
        LateAdjustment {
            table: Table::StorePayments,
            window: 0,
            key: key("s", "KRW"),
            sum: 5,
            count: 1,
            partition: 0,
            position: 9,
            stamp,
        }
    }

    #[test]
    fn files_appear_at_publish_in_the_folders_of_their_windows() {
        let root = tempfile::tempdir().unwrap();
        let generation = create(root.path(), 2);
        let writer = HistoryWriter::start(&generation, 0..2, partitions()).unwrap();
        let next = EPOCH + 30 * MINUTE;
        let rows = vec![
            row(Table::StorePayments, EPOCH, WINDOW, "a"),
            row(Table::StoreClicks, EPOCH, WINDOW, "a"),
            // A correction of the day before, another epoch, and the table without windows.
            row(Table::StorePayments, EPOCH, WINDOW - 86_400_000, "b"),
            row(Table::StorePayments, next, WINDOW, "a"),
            row(Table::StoreProducts, EPOCH, NO_WINDOW, "a"),
        ];
        let letter = |stamp| DeadLetter { stamp, ..dead_letter() };
        // Of this epoch, of the unfinished one, and of one that is never reached; and of another reason.
        let other = DeadLetter { reason: "bad_time", ..letter(EPOCH - 3) };
        let dead_letters = vec![letter(EPOCH - 1), letter(EPOCH - 2), letter(EPOCH), letter(next), other];
        writer.sender().send(Batch { worker: 1, rows, late: vec![late(EPOCH), late(next)], dead_letters }).unwrap();
        writer.publish(EPOCH).unwrap();
        writer.publish(EPOCH + 1).unwrap();
        let letter_of_a_later_batch = vec![letter(EPOCH + 5)];
        let rows = vec![row(Table::StorePayments, next, WINDOW, "c")];
        writer.sender().send(Batch { worker: 0, rows, ..Batch::default() }).unwrap();
        writer.sender().send(Batch { worker: 1, dead_letters: letter_of_a_later_batch, ..Batch::default() }).unwrap();
        let totals = writer.close().unwrap();
        assert_eq!((totals.files, totals.rows, totals.dead_letters), (8, 5, 5));
        assert_eq!(
            names(&generation),
            [
                "dead_letters/date=2026-11-21/reason=bad_time/epoch=20261121T000200Z-1of2.ndjson",
                "dead_letters/date=2026-11-21/reason=json/epoch=20261121T000200Z-1of2.ndjson",
                "dead_letters/date=2026-11-21/reason=json/epoch=20261121T003200Z-1of2.ndjson",
                "history/late_adjustments/date=2026-11-21/epoch=20261121T003200Z-1of2.parquet",
                "history/store_clicks/date=2026-11-20/epoch=20261121T000200Z-1of2.parquet",
                "history/store_payments/date=2026-11-19/epoch=20261121T000200Z-1of2.parquet",
                "history/store_payments/date=2026-11-20/epoch=20261121T000200Z-1of2.parquet",
                "history/store_products/date=2026-11-21/epoch=20261121T000200Z-1of2.parquet",
            ],
            "the next epoch was never published, and what is late or dead past it neither"
        );
    }

    #[test]
    fn rows_are_encoded_before_they_pile_up() {
        let root = tempfile::tempdir().unwrap();
        let generation = create(root.path(), 1);
        let writer = HistoryWriter::start(&generation, 0..1, partitions()).unwrap();
        let half = ROW_GROUP_ROWS / 2 + 1;
        for part in 0..3 {
            let rows = (0..half).map(|n| row(Table::StoreSales, EPOCH, WINDOW, &format!("{part}-{n}"))).collect();
            writer.sender().send(Batch { rows, ..Batch::default() }).unwrap();
        }
        writer.publish(EPOCH).unwrap();
        assert_eq!(writer.close().unwrap().rows, 3 * half as u64);
        let key = generation.keys().history(Output::Cells(Table::StoreSales), time::day(WINDOW), EPOCH, 0);
        let rows = crate::publish::testing::read(&generation.store().place(&key), Table::StoreSales).unwrap();
        let stores: std::collections::BTreeSet<_> = rows.into_iter().map(|row| row.store_id).collect();
        assert_eq!(stores.len(), 3 * half);
    }

    #[test]
    fn a_live_writer_says_shown_once_it_is_on_stable_storage() {
        for live in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let generation = create(root.path(), 1);
            let writer = match live {
                true => HistoryWriter::start_live(&generation, 0..1, partitions(), 0),
                false => HistoryWriter::start(&generation, 0..1, partitions()),
            };
            let writer = writer.unwrap();
            let (sender, rows) = (writer.sender(), vec![row(Table::StoreSales, EPOCH, WINDOW, "a")]);
            sender.send(Batch { rows, ..Batch::default() }).unwrap();
            assert_eq!(sender.shown(), 0);
            writer.publish(EPOCH).unwrap();
            writer.close().unwrap();
            assert_eq!(sender.shown(), EPOCH);
            assert_eq!(generation.store().unsynced() == 0, live);
            generation.sync().unwrap();
            assert_eq!(generation.store().unsynced(), 0);
        }
    }

    #[test]
    fn rows_after_their_publish_stop_the_writer() {
        let root = tempfile::tempdir().unwrap();
        let generation = create(root.path(), 1);
        let writer = HistoryWriter::start(&generation, 0..1, partitions()).unwrap();
        writer.publish(EPOCH).unwrap();
        let rows = vec![row(Table::StoreSales, EPOCH, WINDOW, "a")];
        writer.sender().send(Batch { rows, ..Batch::default() }).unwrap();
        assert!(matches!(writer.close(), Err(PublishError::AfterPublish { epoch: EPOCH, as_of: EPOCH })));
        let writer = HistoryWriter::start(&generation, 0..1, partitions()).unwrap();
        writer.publish(EPOCH).unwrap();
        writer.sender().send(Batch { late: vec![late(EPOCH - 1)], ..Batch::default() }).unwrap();
        assert!(matches!(writer.close(), Err(PublishError::AfterPublish { .. })));
        let writer = HistoryWriter::start(&generation, 0..1, partitions()).unwrap();
        writer.publish(EPOCH).unwrap();
        let dead_letters = vec![DeadLetter { stamp: EPOCH - 1, ..dead_letter() }];
        writer.sender().send(Batch { dead_letters, ..Batch::default() }).unwrap();
        assert!(matches!(writer.close(), Err(PublishError::AfterPublish { .. })));
    }

    #[test]
    fn an_error_names_the_path_and_stops_the_workers() {
        let root = tempfile::tempdir().unwrap();
        let generation = create(root.path(), 1);
        // A file where a folder should be: what a full or forbidden disk looks like from here.
        let in_the_way = generation.place().join("history");
        std::fs::write(&in_the_way, "").unwrap();
        let writer = HistoryWriter::start(&generation, 0..1, partitions()).unwrap();
        let sender = writer.sender();
        let rows = vec![row(Table::StoreSales, EPOCH, WINDOW, "a")];
        sender.send(Batch { rows, ..Batch::default() }).unwrap();
        writer.publish(EPOCH).unwrap();
        while sender.send(Batch::default()).is_ok() {}
        let error = writer.close().unwrap_err();
        assert!(error.to_string().contains("history/store_sales/date=2026-11-20"), "{error}");
    }
}
