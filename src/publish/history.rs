//! The history writer: rows of finished epochs to Parquet files, beside the workers.
//!
//! ```text
//! workers ─ batches ─► bounded channel ─► one thread: collect per file ─► row groups under temporary names
//! commit ── publish(as_of) ──────────────►            footer and final name of every epoch <= as_of
//! ```
//!
//! Upholds: (1) a file has its final name only after [`HistoryWriter::publish`] said that an as-of at or past its epoch is
//! committed; (2) the first error ends the thread, so workers learn of it at their next batch.
//! Keeps: at most [`ROW_GROUP_ROWS`] rows in memory beside the batches in the channel, over all files; for each unfinished
//! file its footer.
//! Absent on purpose: more threads. Encoding costs less than computing, and the workers have the processors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use storeflow_dataflows::table::{HistoryRow, LateAdjustment, NO_WINDOW, Table};

use super::columns::Cell;
use super::dead_letters::{DeadLetter, DeadLetterFile};
use super::encode::Encoder;
use super::error::PublishError;
use super::layout::{About, Generation, Paths};
use super::schema::{Output, TableSchema};
use super::table_file::{FileMeta, ROW_GROUP_ROWS, TableFile};
use super::time;

/// Batches in the channel at most. A batch is one worker's share of an epoch, so this lets every worker run some epochs
/// ahead of the disk, and stops it before its rows pile up.
const BATCHES: usize = 16;

/// What one worker hands over: rows in any order, of any tables, epochs and dates.
#[derive(Debug, Default)]
pub struct Batch {
    /// The worker.
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
    /// Dead letters.
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
pub struct HistorySender(SyncSender<Message>);

impl HistorySender {
    /// Hands over a batch; waits while the channel is full. An error says that the writer has stopped.
    pub fn send(&self, batch: Batch) -> Result<(), PublishError> {
        self.0.send(Message::Batch(batch)).map_err(|_| PublishError::Stopped)
    }

    /// Says that everything before `as_of` is committed. All batches with rows of epochs up to it must have been sent.
    pub fn publish(&self, as_of: u64) -> Result<(), PublishError> {
        self.0.send(Message::Publish(as_of)).map_err(|_| PublishError::Stopped)
    }
}

impl HistoryWriter {
    /// Starts the thread. `partitions` is the job's sorted list of topics and partitions, which late adjustments refer to.
    pub fn start(generation: &Generation, partitions: Vec<(String, u32)>) -> Result<HistoryWriter, PublishError> {
        let (sender, receiver) = sync_channel(BATCHES);
        let about = generation.about().clone();
        let mut schemas = BTreeMap::new();
        for output in Output::ALL {
            schemas.insert(output, TableSchema::of(output, &about)?);
        }
        let files = Files {
            about,
            paths: generation.paths().clone(),
            partitions,
            encoder: Encoder::new().map_err(PublishError::io("compress for", generation.paths().dir()))?,
            schemas,
            cells: BTreeMap::new(),
            late: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            waiting: 0,
            published: 0,
            totals: Totals::default(),
        };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || files.run(&receiver))
            .map_err(PublishError::io("start a thread for", generation.paths().dir()))?;
        Ok(HistoryWriter { sender: HistorySender(sender), thread })
    }

    /// A sender for a worker.
    pub fn sender(&self) -> HistorySender {
        self.sender.clone()
    }

    /// See [`HistorySender::publish`].
    pub fn publish(&self, as_of: u64) -> Result<(), PublishError> {
        self.sender.publish(as_of)
    }

    /// Ends the run: late adjustments of the unfinished epoch, as far as published, and dead letters get their files; rows
    /// never published are dropped. Returns the totals, or the first error there was.
    pub fn close(self) -> Result<Totals, PublishError> {
        // If it has stopped already, the thread's result says why.
        let _ = self.sender.0.send(Message::Close);
        self.thread.join().unwrap_or(Err(PublishError::Stopped))
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
    about: About,
    paths: Paths,
    partitions: Vec<(String, u32)>,
    encoder: Encoder,
    schemas: BTreeMap<Output, TableSchema>,
    cells: BTreeMap<CellFile, Pending<HistoryRow>>,
    late: BTreeMap<LateFile, Pending<LateAdjustment>>,
    dead_letters: BTreeMap<usize, DeadLetterFile>,
    /// Rows in all `Pending`.
    waiting: usize,
    published: u64,
    totals: Totals,
}

impl Files {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<Totals, PublishError> {
        for message in receiver {
            match message {
                Message::Batch(batch) => self.take(batch)?,
                Message::Publish(as_of) => self.publish(as_of)?,
                Message::Close => break,
            }
        }
        self.close()
    }

    fn take(&mut self, batch: Batch) -> Result<(), PublishError> {
        self.waiting += batch.rows.len() + batch.late.len();
        let worker = batch.worker;
        group(batch.rows, |row| CellFile { epoch: row.epoch, table: row.table, day: day(row), worker }, &mut self.cells);
        let horizons = self.about.horizons;
        group(batch.late, |row| LateFile { epoch: horizons.epoch_after(row.stamp), worker }, &mut self.late);
        // A second file of a published name would take the place of the first.
        let first_cells = self.cells.first_key_value().map(|(file, _)| file.epoch);
        let first_late = self.late.first_key_value().map(|(file, _)| file.epoch);
        if let Some(epoch) = first_cells.into_iter().chain(first_late).find(|epoch| *epoch <= self.published) {
            return Err(PublishError::AfterPublish { epoch, as_of: self.published });
        }
        if !batch.dead_letters.is_empty() {
            self.totals.dead_letters += batch.dead_letters.len() as u64;
            let file = match self.dead_letters.entry(worker) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(DeadLetterFile::create(self.paths.dead_letters(worker))?)
                }
            };
            file.append(&self.about.job, &batch.dead_letters)?;
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
        let path = self.paths.history(output, name.day, name.epoch, name.worker);
        let file = self.begun(&mut pending.file, output, path, name.epoch)?;
        file.append_cells(&mut self.encoder, chunks.iter().flatten().map(Cell::from))
    }

    fn encode_late(&mut self, name: &LateFile, pending: &mut Pending<LateAdjustment>) -> Result<(), PublishError> {
        let rows: Vec<_> = std::mem::take(&mut pending.chunks).into_iter().flatten().collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.waiting -= rows.len();
        let day = time::day(name.epoch as i64);
        let path = self.paths.history(Output::LateAdjustments, day, name.epoch, name.worker);
        let file = self.begun(&mut pending.file, Output::LateAdjustments, path, name.epoch)?;
        file.append_late(&mut self.encoder, &rows, &self.about.horizons, &self.partitions)
    }

    /// The file, begun if it was not.
    fn begun<'f>(
        &self,
        file: &'f mut Option<TableFile>,
        output: Output,
        path: PathBuf,
        epoch: u64,
    ) -> Result<&'f mut TableFile, PublishError> {
        match file {
            Some(file) => Ok(file),
            None => {
                let begun = TableFile::create(path, &self.schemas[&output], &FileMeta::new(&self.about, epoch))?;
                Ok(file.insert(begun))
            }
        }
    }

    fn publish(&mut self, as_of: u64) -> Result<(), PublishError> {
        self.published = self.published.max(as_of);
        while let Some(entry) = self.cells.first_entry()
            && entry.key().epoch <= as_of
        {
            let (name, mut pending) = entry.remove_entry();
            self.encode_cells(&name, &mut pending)?;
            self.show(pending.file)?;
        }
        while let Some(entry) = self.late.first_entry()
            && entry.key().epoch <= as_of
        {
            let (name, mut pending) = entry.remove_entry();
            self.encode_late(&name, &mut pending)?;
            self.show(pending.file)?;
        }
        Ok(())
    }

    fn show(&mut self, file: Option<TableFile>) -> Result<(), PublishError> {
        if let Some(mut file) = file {
            self.totals.files += 1;
            self.totals.rows += file.rows();
            self.totals.bytes += file.close()?;
            file.show()?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<Totals, PublishError> {
        // At the end of a replay the last epoch is unfinished; the late adjustments it has are shown under its name.
        for (name, mut pending) in std::mem::take(&mut self.late) {
            if name.epoch <= self.about.horizons.epoch_after(self.published) {
                self.encode_late(&name, &mut pending)?;
                self.show(pending.file)?;
            } else if let Some(file) = pending.file {
                file.discard()?;
            }
        }
        for (_, pending) in std::mem::take(&mut self.cells) {
            pending.file.map_or(Ok(()), TableFile::discard)?;
        }
        for (_, file) in std::mem::take(&mut self.dead_letters) {
            self.totals.files += 1;
            self.totals.bytes += file.close()?;
        }
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
    use super::*;
    use crate::publish::testing::{job, key, row};

    const MINUTE: u64 = 60_000;
    /// 2026-11-20T23:30:00Z; its window ends at midnight, its epoch is 2026-11-21T00:02:00Z.
    const WINDOW: i64 = 1_795_217_400_000;
    const EPOCH: u64 = WINDOW as u64 + 32 * MINUTE;

    fn names(generation: &Generation) -> Vec<String> {
        let dir = generation.paths().dir();
        let mut names: Vec<_> = crate::publish::testing::files(dir)
            .into_iter()
            .filter_map(|path| Some(path.strip_prefix(dir).ok()?.to_str()?.to_owned()))
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
        let generation = Generation::create(root.path(), &job("mall"), 2).unwrap();
        let writer = HistoryWriter::start(&generation, vec![("t".into(), 0)]).unwrap();
        let next = EPOCH + 30 * MINUTE;
        let rows = vec![
            row(Table::StorePayments, EPOCH, WINDOW, "a"),
            row(Table::StoreClicks, EPOCH, WINDOW, "a"),
            // A correction of the day before, another epoch, and the table without windows.
            row(Table::StorePayments, EPOCH, WINDOW - 86_400_000, "b"),
            row(Table::StorePayments, next, WINDOW, "a"),
            row(Table::StoreProducts, EPOCH, NO_WINDOW, "a"),
        ];
        let dead_letters = vec![crate::publish::testing::dead_letter()];
        writer.sender().send(Batch { worker: 1, rows, late: vec![late(EPOCH), late(next)], dead_letters }).unwrap();
        writer.publish(EPOCH).unwrap();
        writer.publish(EPOCH + 1).unwrap();
        let rows = vec![row(Table::StorePayments, next, WINDOW, "c")];
        writer.sender().send(Batch { worker: 0, rows, ..Batch::default() }).unwrap();
        let totals = writer.close().unwrap();
        assert_eq!((totals.files, totals.rows, totals.dead_letters), (6, 5, 1));
        assert_eq!(
            names(&generation),
            [
                "dead_letters/1of2.ndjson",
                "history/late_adjustments/date=2026-11-21/epoch=20261121T003200Z-1of2.parquet",
                "history/store_clicks/date=2026-11-20/epoch=20261121T000200Z-1of2.parquet",
                "history/store_payments/date=2026-11-19/epoch=20261121T000200Z-1of2.parquet",
                "history/store_payments/date=2026-11-20/epoch=20261121T000200Z-1of2.parquet",
                "history/store_products/date=2026-11-21/epoch=20261121T000200Z-1of2.parquet",
            ],
            "the next epoch was never published, and the late adjustment past it neither"
        );
    }

    #[test]
    fn rows_are_encoded_before_they_pile_up() {
        let root = tempfile::tempdir().unwrap();
        let generation = Generation::create(root.path(), &job("mall"), 1).unwrap();
        let writer = HistoryWriter::start(&generation, vec![]).unwrap();
        let half = ROW_GROUP_ROWS / 2 + 1;
        for part in 0..3 {
            let rows = (0..half).map(|n| row(Table::StoreSales, EPOCH, WINDOW, &format!("{part}-{n}"))).collect();
            writer.sender().send(Batch { rows, ..Batch::default() }).unwrap();
        }
        writer.publish(EPOCH).unwrap();
        assert_eq!(writer.close().unwrap().rows, 3 * half as u64);
        let file = generation.paths().history(Output::Cells(Table::StoreSales), time::day(WINDOW), EPOCH, 0);
        let rows = crate::publish::table_reader::read_rows(&file, Table::StoreSales).unwrap();
        let stores: std::collections::BTreeSet<_> = rows.into_iter().map(|row| row.store_id).collect();
        assert_eq!(stores.len(), 3 * half);
    }

    #[test]
    fn rows_after_their_publish_stop_the_writer() {
        let root = tempfile::tempdir().unwrap();
        let generation = Generation::create(root.path(), &job("mall"), 1).unwrap();
        let writer = HistoryWriter::start(&generation, vec![]).unwrap();
        writer.publish(EPOCH).unwrap();
        let rows = vec![row(Table::StoreSales, EPOCH, WINDOW, "a")];
        writer.sender().send(Batch { rows, ..Batch::default() }).unwrap();
        assert!(matches!(writer.close(), Err(PublishError::AfterPublish { epoch: EPOCH, as_of: EPOCH })));
        let writer = HistoryWriter::start(&generation, vec![]).unwrap();
        writer.publish(EPOCH).unwrap();
        writer.sender().send(Batch { late: vec![late(EPOCH - 1)], ..Batch::default() }).unwrap();
        assert!(matches!(writer.close(), Err(PublishError::AfterPublish { .. })));
    }

    #[test]
    fn an_error_names_the_path_and_stops_the_workers() {
        let root = tempfile::tempdir().unwrap();
        let generation = Generation::create(root.path(), &job("mall"), 1).unwrap();
        // A file where a folder should be: what a full or forbidden disk looks like from here.
        let in_the_way = generation.paths().dir().join("history");
        std::fs::write(&in_the_way, "").unwrap();
        let writer = HistoryWriter::start(&generation, vec![]).unwrap();
        let sender = writer.sender();
        let rows = vec![row(Table::StoreSales, EPOCH, WINDOW, "a")];
        sender.send(Batch { rows, ..Batch::default() }).unwrap();
        writer.publish(EPOCH).unwrap();
        while sender.send(Batch::default()).is_ok() {}
        let error = writer.close().unwrap_err();
        assert!(error.to_string().contains("history/store_sales/date=2026-11-20"), "{error}");
    }
}
