//! What the last finished run says: rows of the view, of history, and the counts beside them.
//!
//! Upholds: rows come sorted by (store, second part, window start), bytewise, however many workers wrote them.
//! Absent on purpose: reading part of a table. This serves `export` and `verify`; engines read the files themselves.

use std::path::{Path, PathBuf};

use storeflow_dataflows::table::Table;

use super::error::PublishError;
use super::layout::Current;
use super::row::{LateRow, Row};
use super::schema::Output;
use super::table_reader::{read_late, read_rows};

impl Current {
    /// All cells of the view.
    pub fn view_rows(&self, table: Table) -> Result<Vec<Row>, PublishError> {
        let mut rows = Vec::new();
        for worker in 0..self.about.workers {
            rows.append(&mut read_rows(&self.paths.view(Output::Cells(table), worker), table)?);
        }
        rows.retain(|row| !row.deleted);
        rows.sort_unstable_by(|row, other| row.key().cmp(&other.key()));
        Ok(rows)
    }

    /// Everything history says of a table: rows of one cell follow each other, oldest epoch first.
    pub fn history_changes(&self, table: Table) -> Result<Vec<Row>, PublishError> {
        let mut rows = Vec::new();
        for path in self.history_files(Output::Cells(table))? {
            rows.append(&mut read_rows(&path, table)?);
        }
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
        for path in self.history_files(Output::LateAdjustments)? {
            rows.append(&mut read_late(&path, self.about.scale)?);
        }
        let place = |row: &LateRow| (row.window_start, row.stamp, row.partition, row.position);
        rows.sort_unstable_by(|row, other| {
            let key = (&row.store_id, &row.second).cmp(&(&other.store_id, &other.second));
            key.then(place(row).cmp(&place(other))).then_with(|| row.cmp(other))
        });
        Ok(rows)
    }

    /// How many records could not be decoded.
    pub fn dead_letter_count(&self) -> Result<u64, PublishError> {
        let files = files_in(&self.paths.dead_letters_dir(), "ndjson")?;
        files.iter().try_fold(0, |count, path| {
            let text = std::fs::read(path).map_err(PublishError::io("read", path))?;
            Ok(count + memchr::memchr_iter(b'\n', &text).count() as u64)
        })
    }

    fn history_files(&self, output: Output) -> Result<Vec<PathBuf>, PublishError> {
        let mut files = Vec::new();
        for date in entries(&self.paths.history_dir(output))? {
            files.append(&mut files_in(&date, "parquet")?);
        }
        Ok(files)
    }
}

/// The whole files of a folder, by name. Those being written have another ending.
fn files_in(dir: &Path, ending: &str) -> Result<Vec<PathBuf>, PublishError> {
    let mut files = entries(dir)?;
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    Ok(files)
}

/// The entries of a folder, by name; none if nothing was ever written there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, PublishError> {
    let list = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.map_err(PublishError::io("list", dir))?,
    };
    let paths = list.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(PublishError::io("list", dir))?;
    paths.sort_unstable();
    Ok(paths)
}
