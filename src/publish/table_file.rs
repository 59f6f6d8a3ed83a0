//! A Parquet file of one output: row groups as rows come, a name in the store once it is whole.
//!
//! Upholds: (1) a file without its footer never has its final name; (2) no file is held open between row groups, so the
//! number of files being written is not bound by the process's limit of open files; (3) the footer holds a checksum of all
//! pages, as damage must be an error and not another number.
//! Keeps: the encoded bytes of one row group at most; the footer's facts about those before it.

use std::fs::OpenOptions;
use std::io::Write;
use std::mem::take;
use std::path::PathBuf;

use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::table::{HistoryRow, LateAdjustment};
use xxhash_rust::xxh3::Xxh3Default;

use super::columns::{Cell, Columns};
use super::encode::{Encoder, Values};
use super::error::PublishError;
use super::layout::{About, FORMAT};
use super::schema::{Column, Field, TableSchema, fields};
use crate::source::names::PartitionNames;
use crate::store::{Spool, Store};

/// Rows of one row group at most; what a writer collects before it encodes.
pub const ROW_GROUP_ROWS: usize = 1 << 17;

/// What a file's footer says about it, beside its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// The job's name.
    pub job: String,
    /// The generation it belongs to.
    pub generation: u64,
    /// The epoch of history, or the as-of of the view; milliseconds.
    pub epoch: u64,
}

impl FileMeta {
    /// Of a file of this generation.
    pub fn new(about: &About, epoch: u64) -> Self {
        FileMeta { job: about.job.clone(), generation: about.generation, epoch }
    }
}

/// Writes a whole file of cells under its final name; returns its size.
///
/// # Errors
/// If rows cannot be encoded or the store refuses; there is no such file then.
pub fn write_rows(
    store: &Store,
    key: &str,
    schema: &TableSchema,
    rows: &[HistoryRow],
    meta: &FileMeta,
) -> Result<u64, PublishError> {
    let mut file = TableFile::create(store, key, schema, meta)?;
    let mut encoder = Encoder::new().map_err(PublishError::io("compress", &store.place(key)))?;
    for rows in rows.chunks(ROW_GROUP_ROWS) {
        file.append_cells(&mut encoder, rows.iter().map(Cell::from))?;
    }
    let bytes = file.close()?;
    store.show(vec![file.into_spool()])?;
    Ok(bytes)
}

/// A file being written.
pub struct TableFile {
    /// As people read its key.
    path: PathBuf,
    spool: Spool,
    schema: TableSchema,
    writer: SerializedFileWriter<Vec<u8>>,
    checksum: Xxh3Default,
    rows: u64,
    bytes: u64,
}

impl TableFile {
    /// Begins a file that will be `key` in the store.
    pub fn create(store: &Store, key: &str, schema: &TableSchema, meta: &FileMeta) -> Result<TableFile, PublishError> {
        let path = store.place(key);
        let spool = store.spool(key)?;
        std::fs::File::create(spool.path()).map_err(PublishError::io("create", spool.path()))?;
        let mut writer = SerializedFileWriter::new(Vec::new(), schema.parquet.clone(), schema.properties.clone())
            .map_err(PublishError::encode(&path))?;
        for (key, value) in [
            ("format", FORMAT.to_string()),
            ("job", meta.job.clone()),
            ("generation", meta.generation.to_string()),
            ("epoch", meta.epoch.to_string()),
            ("table", schema.output.name().to_owned()),
        ] {
            writer.append_key_value_metadata(KeyValue::new(format!("storeflow.{key}"), value));
        }
        Ok(TableFile { path, spool, schema: schema.clone(), writer, checksum: Xxh3Default::new(), rows: 0, bytes: 0 })
    }

    /// Appends cells of the file's table as a row group.
    pub fn append_cells<'a>(&mut self, encoder: &mut Encoder, cells: impl Iterator<Item = Cell<'a>>) -> Result<(), PublishError> {
        encoder.columns.set_cells(cells);
        self.append(encoder)
    }

    /// Appends late adjustments as a row group; `names` resolves their partitions.
    pub fn append_late(
        &mut self,
        encoder: &mut Encoder,
        rows: &[LateAdjustment],
        horizons: &Horizons,
        names: &PartitionNames,
    ) -> Result<(), PublishError> {
        encoder.columns.set_late(rows, horizons, names, self.schema.scale);
        self.append(encoder)
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the footer; the file is whole, but still under its temporary name. Returns its size.
    pub fn close(&mut self) -> Result<u64, PublishError> {
        self.drain()?;
        let checked = format!("{}:{:016x}", self.bytes, self.checksum.digest());
        for (key, value) in [("rows", self.rows.to_string()), ("checksum", checked)] {
            self.writer.append_key_value_metadata(KeyValue::new(format!("storeflow.{key}"), value));
        }
        self.writer.finish().map_err(PublishError::encode(&self.path))?;
        self.drain()?;
        Ok(self.bytes)
    }

    /// The closed file, for [`Store::show`].
    pub fn into_spool(self) -> Spool {
        self.spool
    }

    /// Removes the file: what it holds was never committed.
    pub fn discard(self) -> Result<(), PublishError> {
        Ok(self.spool.discard()?)
    }

    fn append(&mut self, encoder: &mut Encoder) -> Result<(), PublishError> {
        if encoder.columns.rows == 0 {
            return Ok(());
        }
        self.rows += encoder.columns.rows as u64;
        let columns = take(&mut encoder.columns);
        let encoded = self.encode(encoder, &columns);
        encoder.columns = columns;
        encoded.map_err(PublishError::encode(&self.path))?;
        self.drain()
    }

    fn encode(&mut self, encoder: &mut Encoder, columns: &Columns) -> ParquetResult<()> {
        let fields = fields(self.schema.output);
        let items = if fields.iter().any(|field| field.column == Column::Items) { items(&columns.sums)? } else { Vec::new() };
        let described = self.writer.schema_descr().columns().to_vec();
        let mut group = self.writer.next_row_group()?;
        for (field, column) in fields.iter().zip(described) {
            let values = values(field, columns, &items, self.schema.clicks_distinct);
            let (bytes, close) = encoder.chunk(column, columns.rows, &values)?;
            group.append_column(&bytes, close)?;
        }
        group.close()?;
        Ok(())
    }

    /// Moves what is encoded to the file.
    fn drain(&mut self) -> Result<(), PublishError> {
        self.writer.flush().map_err(PublishError::io("encode", &self.path))?;
        let encoded = take(self.writer.inner_mut());
        self.checksum.update(&encoded);
        self.bytes += encoded.len() as u64;
        OpenOptions::new()
            .append(true)
            .open(self.spool.path())
            .and_then(|mut file| file.write_all(&encoded))
            .map_err(PublishError::io("write", self.spool.path()))
    }
}

/// The values of a column, as its encoder takes them.
fn values<'a>(field: &Field, columns: &'a Columns, items: &'a [i64], clicks_distinct: bool) -> Values<'a> {
    match field.column {
        // What is nullable is null in all rows of a file or in none, save `second`, which is where it is empty.
        Column::Second => Values::Texts(&columns.seconds, field.nullable),
        Column::Window | Column::Revision if field.nullable => Values::Nulls,
        Column::Distinct if field.nullable && !clicks_distinct => Values::Nulls,
        Column::TableName => Values::Texts(&columns.tables, false),
        Column::Store => Values::Texts(&columns.stores, false),
        Column::Topic => Values::Texts(&columns.topics, false),
        Column::Window => Values::Longs(&columns.windows),
        Column::Count => Values::Longs(&columns.counts),
        Column::Distinct => Values::Longs(&columns.distincts),
        Column::Epoch => Values::Longs(&columns.epochs),
        Column::Position => Values::Longs(&columns.positions),
        Column::Stamp => Values::Longs(&columns.stamps),
        Column::Items => Values::Longs(items),
        Column::Revision => Values::Ints(&columns.revisions),
        Column::Partition => Values::Ints(&columns.partitions),
        Column::Money => Values::Decimals(&columns.sums),
        Column::Deleted => Values::Zeros(&columns.counts),
    }
}

/// Sums of items; beyond 64 bits there is no column for them.
fn items(sums: &[i128]) -> ParquetResult<Vec<i64>> {
    let items = sums.iter().map(|sum| i64::try_from(*sum));
    items.collect::<Result<_, _>>().map_err(|error| ParquetError::External(error.into()))
}
