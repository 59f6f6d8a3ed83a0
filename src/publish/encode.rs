//! A column chunk: one column of one row group, encoded and compressed, with its statistics.
//!
//! ```text
//! values ─► dictionary, if it is worth one ─► dictionary page ─┐
//!        └► levels, indices or plain values ─► one data page ──┴► both compressed or neither ─► chunk
//! ```
//!
//! Parquet's own column writers look up every value on its own, one allocation-counted slice per text, and cost 200 ns for a
//! row of clicks; this costs half of it. What they would do that this does not: many pages per chunk (row groups are
//! small here, and rows come in the order of hashes, so a page's bounds exclude nothing), and any type our tables have not.
//!
//! Upholds: the crate's own reader, and engines, read the chunks; the crate writes headers, footers and indexes.

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use storeflow_dataflows::key::WordMap;

use super::columns::Columns;
use super::pages::{push_bools, push_levels, push_longs, push_packed, push_repeated, push_text, width};
use super::texts::Texts;

/// zstd's fastest ordinary level. Measured on click cells: as much processor time as no compression at all, as there is less to
/// write, at half the size.
const LEVEL: i32 = 1;

/// Texts longer than this get no bounds: statistics are read with the footer and should stay small.
const BOUND_BYTES_MAX: usize = 64;

/// The values of a column to be encoded.
pub(crate) enum Values<'a> {
    /// Texts; with `true`, empty ones are null.
    Texts(&'a Texts, bool),
    /// Numbers of 64 bits.
    Longs(&'a [i64]),
    /// Numbers of 32 bits.
    Ints(&'a [i64]),
    /// Money: 16 bytes, big-endian, two's complement.
    Decimals(&'a [i128]),
    /// Whether a count is zero.
    Zeros(&'a [i64]),
    /// Null in every row.
    Nulls,
}

/// What encodes chunks; one per thread that writes.
pub struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    /// Memory for the columns of the next row group.
    pub(crate) columns: Columns,
}

/// A chunk before it is compressed.
struct Chunk {
    /// Plain values, and how many.
    dictionary: Option<(Vec<u8>, usize)>,
    /// Levels, then indices or values.
    page: Vec<u8>,
    nulls: usize,
    statistics: Statistics,
    bounds: Option<(Vec<u8>, Vec<u8>)>,
}

impl Encoder {
    /// A new encoder. It fails if there is no memory for the compressor.
    pub fn new() -> std::io::Result<Self> {
        Ok(Encoder { compressor: zstd::bulk::Compressor::new(LEVEL)?, columns: Columns::default() })
    }

    /// Encodes a column of a row group: its bytes, and what the row group needs to know of them.
    pub(crate) fn chunk(&mut self, column: ColumnDescPtr, rows: usize, values: &Values) -> Result<(Bytes, ColumnCloseResult)> {
        let nullable = column.max_def_level() > 0;
        let chunk = match values {
            Values::Texts(texts, empty_is_null) => text_chunk(texts, nullable, *empty_is_null),
            Values::Longs(values) => long_chunk(values, nullable, false),
            Values::Ints(values) => long_chunk(values, nullable, true),
            Values::Decimals(values) => decimal_chunk(values),
            Values::Zeros(values) => zero_chunk(values),
            Values::Nulls => null_chunk(rows),
        };
        self.close(column, rows, chunk)
    }

    /// Compresses the pages, if it helps, and puts them together.
    fn close(&mut self, column: ColumnDescPtr, rows: usize, chunk: Chunk) -> Result<(Bytes, ColumnCloseResult)> {
        let Chunk { dictionary, page, nulls, statistics, bounds } = chunk;
        let (dictionary, entries) = dictionary.unzip();
        let plain = dictionary.as_ref().map_or(0, Vec::len) + page.len();
        let packed = self.compressor.compress(&page)?;
        let packed_dictionary = dictionary.as_ref().map(|bytes| self.compressor.compress(bytes)).transpose()?;
        let smaller = packed_dictionary.as_ref().map_or(0, Vec::len) + packed.len() < plain - plain / 8;
        let compression = if smaller { Compression::ZSTD(ZstdLevel::try_new(LEVEL)?) } else { Compression::UNCOMPRESSED };

        let mut sink = TrackedWrite::new(Vec::with_capacity(plain + 128));
        let mut writer = SerializedPageWriter::new(&mut sink);
        let (mut uncompressed_size, mut page_offset) = (0, 0);
        let mut stats = Vec::new();
        let mut write = |page: Page, size: usize| {
            let (page_type, encoding) = (page.page_type(), page.encoding());
            stats.push(PageEncodingStats { page_type, encoding, count: 1 });
            let spec = writer.write_page(CompressedPage::new(page, size))?;
            uncompressed_size += spec.uncompressed_size;
            Ok::<_, parquet::errors::ParquetError>(spec)
        };
        let encoding = if dictionary.is_some() { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
        if let (Some(bytes), Some(packed), Some(entries)) = (dictionary, packed_dictionary, entries) {
            let size = bytes.len();
            let buf = if smaller { packed } else { bytes }.into();
            let page = Page::DictionaryPage { buf, num_values: entries as u32, encoding: Encoding::PLAIN, is_sorted: false };
            page_offset = write(page, size)?.bytes_written;
        }
        let size = page.len();
        let page = Page::DataPage {
            buf: if smaller { packed } else { page }.into(),
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let spec = write(page, size)?;
        let bytes = Bytes::from(sink.into_inner()?);

        let mut offsets = OffsetIndexBuilder::new();
        offsets.append_row_count(rows as i64);
        offsets.append_offset_and_size(page_offset as i64, spec.compressed_size as i32);
        let mut index = ColumnIndexBuilder::new(column.physical_type());
        let known = nulls == rows || bounds.is_some();
        let (least, greatest) = bounds.unwrap_or_default();
        index.append(nulls == rows, least, greatest, nulls as i64, None);
        index.set_boundary_order(BoundaryOrder::ASCENDING);

        let dictionary_offset = stats.iter().any(|stats| stats.page_type == PageType::DICTIONARY_PAGE).then_some(0);
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(compression)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, encoding])
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(uncompressed_size as i64)
            .set_num_values(rows as i64)
            .set_data_page_offset(page_offset as i64)
            .set_dictionary_page_offset(dictionary_offset)
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: known.then(|| index.build()).transpose()?,
            offset_index: Some(offsets.build()),
        };
        Ok((bytes, close))
    }
}

fn text_chunk(texts: &Texts, nullable: bool, empty_is_null: bool) -> Chunk {
    let mut page = Vec::new();
    let null = if empty_is_null { texts.dictionary().position(<[u8]>::is_empty).map(|at| at as u32) } else { None };
    let present: Vec<u32>;
    let rows = match null {
        None => texts.rows(),
        Some(null) => {
            present = texts.rows().iter().copied().filter(|row| *row != null).collect();
            &present
        }
    };
    if nullable {
        let runs = texts.rows().chunk_by(|row, next| (Some(*row) == null) == (Some(*next) == null));
        push_levels(&mut page, runs.map(|run| (Some(run[0]) != null, run.len())));
    }
    let used = texts.dictionary().filter(|text| !(empty_is_null && text.is_empty()));
    let bounds = used.clone().min().zip(used.max()).filter(|(_, most)| most.len() <= BOUND_BYTES_MAX);
    let bounds = bounds.filter(|(least, _)| least.len() <= BOUND_BYTES_MAX).map(|(least, most)| (least.to_vec(), most.to_vec()));
    let entries = texts.dictionary().len();
    let dictionary = if entries <= rows.len() / 2 + 1 {
        let mut dictionary = Vec::new();
        texts.dictionary().for_each(|text| push_text(&mut dictionary, text));
        push_indices(&mut page, rows, entries);
        Some((dictionary, entries))
    } else {
        rows.iter().for_each(|row| push_text(&mut page, texts.text(*row)));
        None
    };
    let nulls = texts.rows().len() - rows.len();
    let (least, most) = bounds.clone().map(|(least, most)| (ByteArray::from(least), ByteArray::from(most))).unzip();
    let statistics = Statistics::byte_array(least, most, None, Some(nulls as u64), false);
    Chunk { dictionary, page, nulls, statistics, bounds }
}

fn long_chunk(values: &[i64], nullable: bool, narrow: bool) -> Chunk {
    let mut page = Vec::new();
    if nullable {
        push_levels(&mut page, [(true, values.len())].into_iter());
    }
    let least = values.iter().copied().min().unwrap_or(0);
    let most = values.iter().copied().max().unwrap_or(0);
    let dictionary = match dictionary(values, least, most) {
        Some((different, rows)) => {
            let mut dictionary = Vec::with_capacity(different.len() * 8);
            push_longs(&mut dictionary, &different, narrow);
            match different.len() {
                1 => push_equal(&mut page, values.len()),
                entries => push_indices(&mut page, &rows, entries),
            }
            Some((dictionary, different.len()))
        }
        None => {
            push_longs(&mut page, values, narrow);
            None
        }
    };
    let (statistics, bounds) = if narrow {
        let (least, most) = (least as i32, most as i32);
        let statistics = Statistics::int32(Some(least), Some(most), None, Some(0), false);
        (statistics, (least.to_le_bytes().to_vec(), most.to_le_bytes().to_vec()))
    } else {
        let statistics = Statistics::int64(Some(least), Some(most), None, Some(0), false);
        (statistics, (least.to_le_bytes().to_vec(), most.to_le_bytes().to_vec()))
    };
    Chunk { dictionary, page, nulls: 0, statistics, bounds: Some(bounds) }
}

/// The different numbers and per row which one it is, if there are few enough for it to pay.
fn dictionary(values: &[i64], least: i64, most: i64) -> Option<(Vec<i64>, Vec<u32>)> {
    if least == most {
        return Some((vec![least], Vec::new()));
    }
    let entries_max = values.len() / 2 + 1;
    let span = most.abs_diff(least);
    let mut different = Vec::new();
    let mut rows = Vec::with_capacity(values.len());
    if span < 4 * values.len() as u64 + 1024 {
        // Close together, as counts mostly are: a place for every number there could be.
        let mut places = vec![u32::MAX; span as usize + 1];
        for value in values {
            let place = &mut places[value.abs_diff(least) as usize];
            if *place == u32::MAX {
                *place = different.len() as u32;
                different.push(*value);
            }
            rows.push(*place);
        }
        return (different.len() <= entries_max).then_some((different, rows));
    }
    // Far apart, as instants are; those come in runs.
    let mut places: WordMap<i64, u32> = WordMap::default();
    let mut last = (values[0].wrapping_add(1), 0);
    for value in values {
        if *value != last.0 {
            let place = *places.entry(*value).or_insert(different.len() as u32);
            if place as usize == different.len() {
                if different.len() >= entries_max {
                    return None;
                }
                different.push(*value);
            }
            last = (*value, place);
        }
        rows.push(last.1);
    }
    Some((different, rows))
}

fn decimal_chunk(values: &[i128]) -> Chunk {
    let mut page = Vec::with_capacity(values.len() * 16);
    values.iter().for_each(|value| page.extend_from_slice(&value.to_be_bytes()));
    let bound = |value: Option<&i128>| value.copied().unwrap_or(0).to_be_bytes().to_vec();
    let bounds = (bound(values.iter().min()), bound(values.iter().max()));
    let stored = |bytes: &Vec<u8>| Some(ByteArray::from(bytes.clone()).into());
    let statistics = Statistics::fixed_len_byte_array(stored(&bounds.0), stored(&bounds.1), None, Some(0), false);
    Chunk { dictionary: None, page, nulls: 0, statistics, bounds: Some(bounds) }
}

fn zero_chunk(values: &[i64]) -> Chunk {
    let mut page = Vec::new();
    push_bools(&mut page, values.iter().map(|value| *value == 0));
    let (least, most) = (values.iter().all(|value| *value == 0), values.contains(&0));
    let statistics = Statistics::boolean(Some(least), Some(most), None, Some(0), false);
    Chunk { dictionary: None, page, nulls: 0, statistics, bounds: Some((vec![u8::from(least)], vec![u8::from(most)])) }
}

fn null_chunk(rows: usize) -> Chunk {
    let mut page = Vec::new();
    push_levels(&mut page, [(false, rows)].into_iter());
    let statistics = Statistics::int64(None, None, None, Some(rows as u64), false);
    Chunk { dictionary: None, page, nulls: rows, statistics, bounds: None }
}

/// The width, and the indices of a page.
fn push_indices(page: &mut Vec<u8>, rows: &[u32], entries: usize) {
    match entries {
        0 | 1 => push_equal(page, rows.len()),
        _ => {
            let width = width(entries);
            page.push(width as u8);
            push_packed(page, rows, width);
        }
    }
}

/// The width, and the indices of a page whose rows are all equal. One bit, as some readers have trouble with none.
fn push_equal(page: &mut Vec<u8>, rows: usize) {
    page.push(1);
    push_repeated(page, 0, rows, 1);
}
