//! What the recomputation answers with: plain values, made to be compared and read.

use std::fmt;

use jiff::Timestamp;
use storeflow_dataflows::table::Table;

/// A cell: one row of an output table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId {
    /// The table.
    pub table: Table,
    /// The store.
    pub store: String,
    /// The currency of a payment, the kind of a click, empty otherwise.
    pub second: String,
    /// Start of the window in milliseconds since 1970; `None` for tables without.
    pub window: Option<u64>,
}

/// What the view shows of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellRow {
    /// Minor units of money (payments), items (sales), 0 otherwise.
    pub sum: i128,
    /// Rows or clicks.
    pub count: i64,
    /// Distinct products among them (sales; clicks of sources with `distinct`), 0 otherwise.
    pub distinct: i64,
    /// Epochs after the window's own at which the published value changed; 0 without a window.
    pub revision: u32,
}

/// A row of the history: a cell at an epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId {
    /// The epoch, a log time in milliseconds.
    pub epoch: u64,
    /// The cell.
    pub cell: CellId,
}

/// What the history says of a cell at an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryValue {
    /// As in [`CellRow`].
    pub sum: i128,
    /// As in [`CellRow`]; 0 exactly if the cell was emptied.
    pub count: i64,
    /// As in [`CellRow`].
    pub distinct: i64,
    /// As in [`CellRow`].
    pub revision: u32,
    /// The cell was emptied.
    pub deleted: bool,
}

/// A row of `late_adjustments`. Ordered by where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LateRow {
    /// Stamp of the record, milliseconds.
    pub stamp: u64,
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: u32,
    /// Position of the record.
    pub position: u64,
    /// The expired cell.
    pub cell: CellId,
    /// Change of the sum.
    pub sum: i128,
    /// Change of the count.
    pub count: i64,
    /// The epoch it is written under: that of its stamp.
    pub epoch: u64,
}

/// A record that could not be decoded. Ordered by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetter {
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: u32,
    /// Position of the record.
    pub position: u64,
    /// Why; of several reasons any may be named.
    pub reason: Reason,
}

/// What became of the records before an as-of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All records.
    pub records: u64,
    /// Those that could not be decoded, by place.
    pub dead_letters: Vec<DeadLetter>,
    /// Those that say nothing about a row: tombstones, heartbeats, other tables.
    pub skipped: u64,
    /// Changes older than the row they would have changed.
    pub stale: u64,
    /// Contributions that reached a closed window.
    pub corrections: u64,
    /// Rows of `late_adjustments`.
    pub late_adjustments: u64,
    /// Clicks that were told before.
    pub duplicate_clicks: u64,
    /// Rows that would count, but for the row that they refer to.
    pub waiting_rows: u64,
    /// The oldest of the last changes to groups of such rows.
    pub waiting_since: Option<u64>,
    /// Jumps of a partition's clock by more than an hour, confirmed by 101 records.
    pub clock_jumps: u64,
}

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A kcat envelope whose `offset` or `ts` is not an integer.
    Envelope,
    /// The line is not UTF-8.
    NotUtf8,
    /// Not JSON, or nested too deep.
    NotJson,
    /// The value, or its row, is not an object.
    NotAnObject,
    /// A field is null or absent.
    MissingField,
    /// An id that is no text and no integer, or empty.
    BadId,
    /// An amount that is no number.
    BadAmount,
    /// An amount with more digits than the scale.
    AmountPrecision,
    /// An amount beyond 10^26 minor units.
    AmountRange,
    /// A quantity that is no integer, or beyond 10^9.
    BadQuantity,
    /// A currency that is no text, or none where one is needed.
    BadCurrency,
    /// A time that is not written as the job says.
    BadTime,
    /// A time outside 1970 to 2200.
    TimeRange,
    /// A change without the row it needs.
    MissingRow,
    /// A message key that does not hold the key, or none where one is needed.
    MissingKey,
    /// An operation that does not exist.
    BadOp,
    /// A floating-point number where the source does not allow it.
    Float,
    /// A composed id of which only a part is said.
    PartialId,
}

impl Reason {
    /// The text in dead letters; part of the public interface.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Envelope => "envelope",
            Reason::NotUtf8 => "not_utf8",
            Reason::NotJson => "not_json",
            Reason::NotAnObject => "not_an_object",
            Reason::MissingField => "missing_field",
            Reason::BadId => "bad_id",
            Reason::BadAmount => "bad_amount",
            Reason::AmountPrecision => "amount_precision",
            Reason::AmountRange => "amount_range",
            Reason::BadQuantity => "bad_quantity",
            Reason::BadCurrency => "bad_currency",
            Reason::BadTime => "bad_time",
            Reason::TimeRange => "time_range",
            Reason::MissingRow => "missing_row",
            Reason::MissingKey => "missing_key",
            Reason::BadOp => "bad_op",
            Reason::Float => "float",
            Reason::PartialId => "partial_id",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} store {:?}", self.table.name(), self.store)?;
        match self.table {
            Table::StorePayments => write!(f, " currency {:?}", self.second)?,
            Table::StoreClicks => write!(f, " kind {:?}", self.second)?,
            Table::StoreSales | Table::StoreProducts => {}
        }
        match self.window {
            Some(window) => write!(f, " window {}", rfc3339(window)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} {}", rfc3339(self.epoch), self.cell)
    }
}

impl fmt::Display for LateRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LateRow { stamp, topic, partition, position, cell, sum, count, epoch: _ } = self;
        write!(f, "{cell} from topic {topic:?} partition {partition} position {position}, stamp {}: ", rfc3339(*stamp))?;
        write!(f, "sum {sum:+}, count {count:+}")
    }
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {:?} partition {} position {}: {}", self.topic, self.partition, self.position, self.reason)
    }
}

/// Milliseconds since 1970 as people read them.
pub(super) fn rfc3339(millis: u64) -> String {
    match i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()) {
        Some(timestamp) => timestamp.to_string(),
        None => format!("{millis} ms"),
    }
}
