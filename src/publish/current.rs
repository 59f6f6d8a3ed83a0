//! What the current run says: rows of the view, of history, and the counts beside them.
//!
//! Upholds: rows come sorted by (store, second part, window start), bytewise, however many workers wrote them;
//! of a run that goes on, nothing past the as-of its pointer names.
//! Absent on purpose: reading part of a table. This serves `export` and `verify`; engines read the files themselves.

use std::path::Path;

use bytes::Bytes;
use storeflow_dataflows::table::Table;

use super::error::PublishError;
use super::layout::{Current, is_through};
use super::row::{LateRow, Row};
use super::schema::Output;
use super::table_reader::{read_late, read_rows};

impl Current {
    /// All cells of the view.
    ///
    /// # Errors
    /// If the run has no view in files ([`PublishError::Unfinished`], [`PublishError::NoView`]), or it cannot be read.
    pub fn view_rows(&self, table: Table) -> Result<Vec<Row>, PublishError> {
        self.require_finished()?;
        let place = self.store.place(self.keys.prefix());
        let keys: Vec<String> = (0..self.about.workers).map(|worker| self.keys.view(Output::Cells(table), worker)).collect();
        let mut rows = Vec::new();
        self.store.get_each(&keys, |key, bytes| {
            let bytes = bytes.ok_or_else(|| PublishError::NoView { place: place.clone() })?;
            rows.append(&mut read_rows(&self.store.place(key), bytes, table)?);
            Ok::<_, PublishError>(())
        })?;
        rows.retain(|row| !row.deleted);
        rows.sort_unstable_by(|row, other| row.key().cmp(&other.key()));
        Ok(rows)
    }

    /// Nothing, if the run has finished: until then its view is not in files.
    ///
    /// # Errors
    /// [`PublishError::Unfinished`].
    pub fn require_finished(&self) -> Result<(), PublishError> {
        if self.finished { Ok(()) } else { Err(PublishError::Unfinished { place: self.store.place(self.keys.prefix()) }) }
    }

    /// Everything history says of a table: rows of one cell follow each other, oldest epoch first.
    pub fn history_changes(&self, table: Table) -> Result<Vec<Row>, PublishError> {
        let mut rows = Vec::new();
        self.history_files(Output::Cells(table), |path, bytes| {
            rows.append(&mut read_rows(path, bytes, table)?);
            Ok(())
        })?;
        rows.sort_unstable_by(|row, other| row.key().cmp(&other.key()).then(row.epoch.cmp(&other.epoch)));
        Ok(rows)
    }

    /// The final row of every cell in history; cells that were emptied last are left out.
    pub fn history_rows(&self, table: Table) -> Result<Vec<Row>, PublishError> {
        let mut rows: Vec<Row> = Vec::new();
        for row in self.history_changes(table)? {
            match rows.last_mut() {
                Some(last) if last.key() == row.key() => *last = row,
                _ => rows.push(row),
            }
        }
        rows.retain(|row| !row.deleted);
        Ok(rows)
    }

    /// All late adjustments, by key and then by stamp and place.
    pub fn late_rows(&self) -> Result<Vec<LateRow>, PublishError> {
        let mut rows = Vec::new();
        self.history_files(Output::LateAdjustments, |path, bytes| {
            rows.append(&mut read_late(path, bytes, self.about.scale)?);
            Ok(())
        })?;
        let place = |row: &LateRow| (row.window_start, row.stamp, row.partition, row.position);
        rows.sort_unstable_by(|row, other| {
            let key = (&row.store_id, &row.second).cmp(&(&other.store_id, &other.second));
            key.then(place(row).cmp(&place(other))).then_with(|| row.cmp(other))
        });
        Ok(rows)
    }

    /// How many records could not be decoded.
    pub fn dead_letter_count(&self) -> Result<u64, PublishError> {
        let mut count = 0;
        self.files(&self.keys.dead_letters_prefix(), "ndjson", |_, text| {
            count += memchr::memchr_iter(b'\n', &text).count() as u64;
            Ok(())
        })?;
        Ok(count)
    }

    fn history_files(
        &self,
        output: Output,
        visit: impl FnMut(&Path, Bytes) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        self.files(&self.keys.history_prefix(output), "parquet", visit)
    }

    /// Visits the files of epochs below a prefix that have an ending, by date and epoch.
    fn files(
        &self,
        prefix: &str,
        ending: &str,
        mut visit: impl FnMut(&Path, Bytes) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        let mut keys = self.store.list(prefix)?;
        keys.retain(|key| Path::new(key).extension().is_some_and(|found| found == ending));
        // At the end of a run the last epoch is unfinished and still counts; while it goes on, what is past the pointer is not
        // there on every worker yet.
        keys.retain(|key| self.finished || is_through(key, self.as_of));
        self.store.get_each(&keys, |key, bytes| {
            let path = self.store.place(key);
            let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
            visit(&path, bytes.ok_or_else(gone).map_err(PublishError::io("read", &path))?)
        })
    }
}
