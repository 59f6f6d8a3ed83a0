//! The columns of the output files, one Parquet schema per table.
//!
//! Upholds: names, types, order and field ids are a public interface and stay; engines that track columns by id (Iceberg)
//! can take the files as they are. A new column gets the next free id of its table, a dropped id is not used again.
//! Absent on purpose: anything about where rows come from.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{Type, TypePtr};
use storeflow_dataflows::table::Table;

use super::error::PublishError;
use super::layout::About;

/// Everything that is published as rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// The cells of a table.
    Cells(Table),
    /// Contributions to expired windows.
    LateAdjustments,
}

impl Output {
    /// All outputs, in the order they are listed everywhere.
    pub const ALL: [Output; 5] = [
        Output::Cells(Table::StorePayments),
        Output::Cells(Table::StoreSales),
        Output::Cells(Table::StoreClicks),
        Output::Cells(Table::StoreProducts),
        Output::LateAdjustments,
    ];

    /// The name in the public interface.
    pub fn name(self) -> &'static str {
        match self {
            Output::Cells(table) => table.name(),
            Output::LateAdjustments => "late_adjustments",
        }
    }
}

/// What a column holds; says how its values are built and read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    TableName,
    Store,
    /// Currency or kind; empty is null where nullable.
    Second,
    Window,
    /// Minor units of money.
    Money,
    /// The sum where it counts items.
    Items,
    Count,
    Distinct,
    Revision,
    Deleted,
    Epoch,
    Topic,
    Partition,
    Position,
    Stamp,
}

/// A column of a table: its id is its place in the table, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) column: Column,
    pub(crate) nullable: bool,
}

const fn field(name: &'static str, column: Column) -> Field {
    Field { name, column, nullable: false }
}

const fn nullable(name: &'static str, column: Column) -> Field {
    Field { name, column, nullable: true }
}

/// The columns of an output, in order.
pub(crate) fn fields(output: Output) -> &'static [Field] {
    const PAYMENTS: &[Field] = &[
        field("store_id", Column::Store),
        field("currency", Column::Second),
        field("window_start", Column::Window),
        field("payment_sum", Column::Money),
        field("payment_count", Column::Count),
        field("revision", Column::Revision),
        field("deleted", Column::Deleted),
        field("epoch", Column::Epoch),
    ];
    const SALES: &[Field] = &[
        field("store_id", Column::Store),
        field("window_start", Column::Window),
        field("items_sold", Column::Items),
        field("products_sold", Column::Distinct),
        field("revision", Column::Revision),
        field("deleted", Column::Deleted),
        field("epoch", Column::Epoch),
    ];
    const CLICKS: &[Field] = &[
        field("store_id", Column::Store),
        field("kind", Column::Second),
        field("window_start", Column::Window),
        field("clicks", Column::Count),
        nullable("products_clicked", Column::Distinct),
        field("revision", Column::Revision),
        field("deleted", Column::Deleted),
        field("epoch", Column::Epoch),
    ];
    const PRODUCTS: &[Field] = &[
        field("store_id", Column::Store),
        nullable("window_start", Column::Window),
        field("product_count", Column::Count),
        nullable("revision", Column::Revision),
        field("deleted", Column::Deleted),
        field("epoch", Column::Epoch),
    ];
    const LATE: &[Field] = &[
        field("table", Column::TableName),
        field("store_id", Column::Store),
        nullable("second", Column::Second),
        field("window_start", Column::Window),
        field("sum_delta", Column::Money),
        field("count_delta", Column::Count),
        field("topic", Column::Topic),
        field("partition", Column::Partition),
        field("position", Column::Position),
        field("stamp", Column::Stamp),
        field("as_of", Column::Epoch),
    ];
    match output {
        Output::Cells(Table::StorePayments) => PAYMENTS,
        Output::Cells(Table::StoreSales) => SALES,
        Output::Cells(Table::StoreClicks) => CLICKS,
        Output::Cells(Table::StoreProducts) => PRODUCTS,
        Output::LateAdjustments => LATE,
    }
}

/// The schema of an output as the files have it, and how its columns are written.
#[derive(Clone, Debug)]
pub struct TableSchema {
    /// Whose schema it is.
    pub output: Output,
    /// Decimal digits of money.
    pub scale: u32,
    /// Whether distinct products of clicks are known; null where not.
    pub clicks_distinct: bool,
    pub(crate) parquet: TypePtr,
    pub(crate) properties: WriterPropertiesPtr,
}

impl TableSchema {
    /// The schema of `output` for a job with `scale` digits of money.
    pub fn new(output: Output, scale: u32, clicks_distinct: bool) -> Result<Self, ParquetError> {
        let columns = fields(output).iter().zip(1..).map(|(field, id)| column_type(field, id, scale).map(Arc::new));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let parquet = Arc::new(Type::group_type_builder(output.name()).with_fields(columns).build()?);
        Ok(TableSchema { output, scale, clicks_distinct, parquet, properties: Arc::new(properties()) })
    }

    /// The schema of `output` in a generation.
    pub(crate) fn of(output: Output, about: &About) -> Result<Self, PublishError> {
        TableSchema::new(output, about.scale, about.clicks_distinct)
            .map_err(PublishError::encode(std::path::Path::new(output.name())))
    }
}

fn column_type(field: &Field, id: i32, scale: u32) -> Result<Type, ParquetError> {
    let (physical, logical) = match field.column {
        Column::TableName | Column::Store | Column::Second | Column::Topic => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Column::Window | Column::Epoch | Column::Stamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
        Column::Money => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(scale as i32, 38))),
        Column::Items | Column::Count | Column::Distinct | Column::Position => (Physical::INT64, None),
        Column::Revision | Column::Partition => (Physical::INT32, None),
        Column::Deleted => (Physical::BOOLEAN, None),
    };
    let mut builder = Type::primitive_type_builder(field.name, physical)
        .with_repetition(if field.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED })
        .with_logical_type(logical)
        .with_id(Some(id));
    if field.column == Column::Money {
        builder = builder.with_length(16).with_precision(38).with_scale(scale as i32);
    }
    builder.build()
}

fn properties() -> WriterProperties {
    WriterProperties::builder().set_created_by(concat!("storeflow ", env!("CARGO_PKG_VERSION")).to_owned()).build()
}
