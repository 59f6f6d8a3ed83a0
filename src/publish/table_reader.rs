//! Reads a Parquet file of ours back into rows.
//!
//! Upholds: a file that is cut short, damaged or someone else's is an error that names it. The footer says how many rows
//! there are and what the checksum of the pages is, and both are compared before a page is decoded.
//! Absent on purpose: reading files of other writers, and parts of files. Engines do that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use storeflow_dataflows::table::Table;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::unit;
use super::error::{BoxError, PublishError};
use super::layout::FORMAT;
use super::row::{LateRow, Row};
use super::schema::{Column, Field, Output, TableSchema, fields};

/// The cells of a file of `table`, in the order they are written. `path`: where the bytes were, for messages.
///
/// # Errors
/// If they are no such file, or damaged.
pub fn read_rows(path: &Path, bytes: Bytes, table: Table) -> Result<Vec<Row>, PublishError> {
    read(path, bytes, "a table of storeflow", |bytes| {
        decode(bytes, Output::Cells(table), |group, _, rows: &mut Vec<Row>| cells(table, group, rows))
    })
}

/// The late adjustments of a file, in the order they are written. `scale`: the job's digits of money.
///
/// # Errors
/// As [`read_rows`].
pub fn read_late(path: &Path, bytes: Bytes, scale: u32) -> Result<Vec<LateRow>, PublishError> {
    read(path, bytes, "late adjustments of storeflow", |bytes| {
        decode(bytes, Output::LateAdjustments, |group, _, rows| late(scale, group, rows))
    })
}

fn read<R>(
    path: &Path,
    bytes: Bytes,
    expected: &'static str,
    decode: impl FnOnce(Bytes) -> Result<R, BoxError>,
) -> Result<R, PublishError> {
    // The decoders below us index by lengths they read. The checksum keeps damage away from them, save in the footer itself.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes)));
    decoded.unwrap_or_else(|_| Err("its footer makes no sense".into())).map_err(PublishError::unreadable(path, expected))
}

/// The columns of a row group, one entry per row.
#[derive(Default)]
struct Group {
    rows: usize,
    tables: Vec<String>,
    stores: Vec<String>,
    seconds: Vec<String>,
    windows: Vec<Option<i64>>,
    sums: Vec<i128>,
    counts: Vec<Option<i64>>,
    distincts: Vec<Option<i64>>,
    revisions: Vec<Option<i32>>,
    deleted: Vec<bool>,
    epochs: Vec<i64>,
    topics: Vec<String>,
    partitions: Vec<i32>,
    positions: Vec<i64>,
    stamps: Vec<i64>,
}

fn decode<R>(
    bytes: Bytes,
    output: Output,
    mut take: impl FnMut(Group, usize, &mut Vec<R>) -> Result<(), BoxError>,
) -> Result<Vec<R>, BoxError> {
    let reader = SerializedFileReader::new(bytes.clone())?;
    let expected_rows = check(&bytes, reader.metadata(), output)?;
    let mut rows = Vec::new();
    for at in 0..reader.num_row_groups() {
        let group = columns(reader.get_row_group(at)?.as_ref(), output)?;
        take(group, at, &mut rows)?;
    }
    if rows.len() as u64 != expected_rows { Err("it has not as many rows as it says".into()) } else { Ok(rows) }
}

/// Whether the footer is one of ours, of the right table, and fits the pages. Returns the number of rows.
fn check(bytes: &Bytes, metadata: &ParquetMetaData, output: Output) -> Result<u64, BoxError> {
    let entries = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let entry = |name: &str| {
        let found = entries.iter().find(|entry| entry.key.strip_prefix("storeflow.") == Some(name));
        found.and_then(|entry| entry.value.as_deref()).ok_or_else(|| format!("its footer has no storeflow.{name}"))
    };
    let format = entry("format")?;
    if format != FORMAT.to_string() {
        return Err(format!("it has format {format}, this program knows {FORMAT}").into());
    }
    let table = entry("table")?;
    if table != output.name() {
        return Err(format!("it is of table \"{table}\"").into());
    }
    let (length, sum) = entry("checksum")?.split_once(':').ok_or("its checksum makes no sense")?;
    let pages = bytes.get(..length.parse()?).ok_or("it is cut short")?;
    if format!("{:016x}", xxh3_64(pages)) != sum {
        return Err("its checksum is wrong".into());
    }
    let rows: u64 = entry("rows")?.parse()?;
    let of_groups: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    if u64::try_from(of_groups) != Ok(rows) {
        return Err("it has not as many rows as it says".into());
    }
    let expected = TableSchema::new(output, 0, false)?;
    let shape = |fields: &[parquet::schema::types::TypePtr]| -> Vec<(String, Option<Physical>, bool)> {
        let of = |field: &parquet::schema::types::TypePtr| {
            (field.name().to_owned(), field.is_primitive().then(|| field.get_physical_type()), field.is_optional())
        };
        fields.iter().map(of).collect()
    };
    if shape(expected.parquet.get_fields()) != shape(metadata.file_metadata().schema().get_fields()) {
        return Err("it has other columns".into());
    }
    Ok(rows)
}

fn columns(group: &dyn RowGroupReader, output: Output) -> Result<Group, BoxError> {
    let rows = usize::try_from(group.metadata().num_rows())?;
    let mut columns = Group { rows, ..Group::default() };
    for (at, field) in fields(output).iter().enumerate() {
        let reader = ColumnOf { group, at, field, rows };
        match field.column {
            Column::TableName => columns.tables = reader.texts()?,
            Column::Store => columns.stores = reader.texts()?,
            Column::Second => columns.seconds = reader.texts()?,
            Column::Topic => columns.topics = reader.texts()?,
            Column::Window => columns.windows = reader.values::<Int64Type>()?,
            Column::Count => columns.counts = reader.values::<Int64Type>()?,
            Column::Distinct => columns.distincts = reader.values::<Int64Type>()?,
            Column::Revision => columns.revisions = reader.values::<Int32Type>()?,
            Column::Items => columns.sums = reader.required::<Int64Type>()?.into_iter().map(i128::from).collect(),
            Column::Money => columns.sums = reader.decimals()?,
            Column::Deleted => columns.deleted = reader.required::<BoolType>()?,
            Column::Epoch => columns.epochs = reader.required::<Int64Type>()?,
            Column::Partition => columns.partitions = reader.required::<Int32Type>()?,
            Column::Position => columns.positions = reader.required::<Int64Type>()?,
            Column::Stamp => columns.stamps = reader.required::<Int64Type>()?,
        }
    }
    Ok(columns)
}

/// A column about to be read.
#[derive(Clone, Copy)]
struct ColumnOf<'a> {
    group: &'a dyn RowGroupReader,
    at: usize,
    field: &'a Field,
    rows: usize,
}

impl ColumnOf<'_> {
    fn values<T: DataType>(self) -> Result<Vec<Option<T::T>>, BoxError> {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let mut reader = get_typed_column_reader::<T>(self.group.get_column_reader(self.at)?);
        let mut records = 0;
        while records < self.rows {
            let (read, _, _) = reader.read_records(self.rows - records, Some(&mut levels), None, &mut values)?;
            if read == 0 {
                return Err(format!("column \"{}\" is cut short", self.field.name).into());
            }
            records += read;
        }
        if !self.field.nullable {
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        let filled: Vec<_> = levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect();
        if filled.len() != self.rows { Err("levels do not fit the rows".into()) } else { Ok(filled) }
    }

    fn required<T: DataType>(self) -> Result<Vec<T::T>, BoxError> {
        let values: Vec<_> = self.values::<T>()?.into_iter().flatten().collect();
        if values.len() != self.rows { Err(format!("column \"{}\" has nulls", self.field.name).into()) } else { Ok(values) }
    }

    fn texts(self) -> Result<Vec<String>, BoxError> {
        let text = |value: Option<ByteArray>| value.map_or(Ok(String::new()), |value| value.as_utf8().map(str::to_owned));
        Ok(self.values::<ByteArrayType>()?.into_iter().map(text).collect::<Result<_, ParquetError>>()?)
    }

    fn decimals(self) -> Result<Vec<i128>, BoxError> {
        let values = self.required::<FixedLenByteArrayType>()?;
        let sums = values.iter().map(|value| value.data().try_into().map(i128::from_be_bytes));
        Ok(sums.collect::<Result<_, _>>()?)
    }
}

fn cells(table: Table, group: Group, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    let Group { rows: len, stores, seconds, windows, sums, counts, distincts, revisions, deleted, epochs, .. } = group;
    let mut seconds = seconds.into_iter();
    rows.reserve(len);
    for (at, store_id) in stores.into_iter().enumerate() {
        rows.push(Row {
            table,
            store_id,
            second: seconds.next().unwrap_or_default(),
            window_start: windows[at].map(u64::try_from).transpose()?,
            sum: sums.get(at).copied().unwrap_or(0),
            count: counts.get(at).copied().flatten(),
            distinct: distincts.get(at).copied().flatten(),
            revision: revisions[at].map(u32::try_from).transpose()?,
            deleted: deleted[at],
            epoch: u64::try_from(epochs[at])?,
        });
    }
    Ok(())
}

fn late(scale: u32, group: Group, rows: &mut Vec<LateRow>) -> Result<(), BoxError> {
    let (mut seconds, mut topics) = (group.seconds.into_iter(), group.topics.into_iter());
    for (at, store_id) in group.stores.into_iter().enumerate() {
        let name = &group.tables[at];
        let table =
            Table::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| format!("unknown table \"{name}\""))?;
        rows.push(LateRow {
            table,
            store_id,
            second: seconds.next().unwrap_or_default(),
            window_start: group.windows[at].map(u64::try_from).transpose()?.unwrap_or(0),
            sum: group.sums[at] / unit(table, scale),
            count: group.counts[at].unwrap_or(0),
            topic: topics.next().unwrap_or_default(),
            partition: u32::try_from(group.partitions[at])?,
            position: u64::try_from(group.positions[at])?,
            stamp: u64::try_from(group.stamps[at])?,
            as_of: u64::try_from(group.epochs[at])?,
        });
    }
    Ok(())
}
