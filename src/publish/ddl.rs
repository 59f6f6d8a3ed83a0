//! Statements that make the history queryable: one table per output over its files, and per table of cells a view with the
//! last row of each cell.
//!
//! Upholds: columns, their order and their types are those of [`schema`](super::schema); the same history gives the same
//! text.
//! Absent on purpose: running anything. People read it, and engines run it.

use std::collections::BTreeSet;
use std::fmt::Write;

use storeflow_dataflows::table::Table;

use super::schema::{Column, Field, Output, fields};

/// Whose statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Athena, tables over the files.
    Athena,
    /// Redshift, external tables over the files.
    RedshiftSpectrum,
    /// Redshift, tables of its own that the files are loaded into.
    RedshiftCopy,
    /// DuckDB, views over the files.
    DuckDb,
}

/// What the statements are about.
#[derive(Clone, Debug)]
pub struct History {
    /// The job's name, for the header.
    pub job: String,
    /// The generation's number, for the header.
    pub generation: u64,
    /// Where its history is: a URL or folder that has the tables' folders.
    pub location: String,
    /// Decimal digits of money.
    pub scale: u32,
    /// Schema or database the tables go into.
    pub schema: String,
    /// Per output the dates (`2026-11-20`) that have files; `None` if nobody has looked.
    pub dates: Option<Vec<(Output, BTreeSet<String>)>>,
}

impl History {
    fn dates(&self, output: Output) -> Option<&BTreeSet<String>> {
        self.dates.as_ref()?.iter().find(|(of, _)| *of == output).map(|(_, dates)| dates)
    }

    /// Nobody has written a row of it yet.
    fn is_empty(&self, output: Output) -> bool {
        self.dates.is_some() && self.dates(output).is_none_or(BTreeSet::is_empty)
    }
}

/// All statements, with a header that says how to use them.
pub fn statements(dialect: Dialect, history: &History) -> String {
    let mut text = header(dialect, history);
    for output in Output::ALL {
        let written = match dialect {
            Dialect::Athena => athena(&mut text, history, output),
            Dialect::RedshiftSpectrum => spectrum(&mut text, history, output),
            Dialect::RedshiftCopy => copy(&mut text, history, output),
            Dialect::DuckDb => duckdb(&mut text, history, output),
        };
        let written = written.and_then(|()| match output {
            Output::Cells(table) => latest(&mut text, dialect, history, table),
            Output::LateAdjustments => Ok(()),
        });
        written.expect("a string takes all text");
    }
    text
}

fn header(dialect: Dialect, history: &History) -> String {
    let History { job, generation, location, schema, .. } = history;
    let use_it = match dialect {
        Dialect::Athena => format!(
            "In Athena, with database {schema} selected, one statement at a time. MSCK REPAIR TABLE finds the dates that there\n\
             -- are; repeat it when a new date has begun."
        ),
        Dialect::RedshiftSpectrum => format!(
            "In Redshift, once: create external schema {schema} from data catalog database '{schema}'\n\
             --   iam_role default create external database if not exists;\n\
             -- Then all of this. Dates are listed one by one; print and run this again when a new date has begun."
        ),
        Dialect::RedshiftCopy => format!(
            "In Redshift, once: create schema {schema};\n\
             -- Then all of this. COPY adds rows: to load again, truncate first, in one transaction."
        ),
        Dialect::DuckDb => format!(
            "duckdb -init THIS_FILE; or .read THIS_FILE. For s3:// first: install httpfs; load httpfs;\n\
             -- create secret (type s3, provider credential_chain);   The views go into schema {schema}."
        ),
    };
    format!(
        "-- History of job {job}, generation {generation}: {location}\n\
         -- {use_it}\n\
         -- A run makes a new generation: print and run this again then.\n\
         -- Each table has one row per cell and epoch at which it changed; <table>_latest has each cell's last row, without\n\
         -- emptied cells. Times are UTC. Money is exact: decimal(38, {}).\n",
        history.scale
    )
}

/// Hive's way of quoting, which Athena wants in DDL and nowhere else.
fn hive(name: &str) -> String {
    format!("`{name}`")
}

/// Standard SQL's way of quoting; `table`, `partition`, `date` and others are words of some engine.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn columns(output: Output, line: impl Fn(&Field) -> String) -> String {
    fields(output).iter().map(line).collect::<Vec<_>>().join(",\n")
}

fn location(history: &History, output: Output) -> String {
    format!("{}/{}", history.location, output.name())
}

fn athena(text: &mut String, history: &History, output: Output) -> std::fmt::Result {
    let name = hive(output.name());
    let columns = columns(output, |field| format!("  {} {}", hive(field.name), type_of(field, Dialect::Athena, history.scale)));
    let location = literal(&format!("{}/", location(history, output)));
    writeln!(text, "\nDROP TABLE IF EXISTS {name};")?;
    writeln!(
        text,
        "CREATE EXTERNAL TABLE {name} (\n{columns}\n)\nPARTITIONED BY (`date` date)\nSTORED AS PARQUET\nLOCATION {location};"
    )?;
    writeln!(text, "MSCK REPAIR TABLE {name};")
}

fn spectrum(text: &mut String, history: &History, output: Output) -> std::fmt::Result {
    let name = table_name(history, Dialect::RedshiftSpectrum, output.name());
    let kind = |field: &Field| type_of(field, Dialect::RedshiftSpectrum, history.scale);
    let columns = columns(output, |field| format!("  {} {}", quoted(field.name), kind(field)));
    let folder = location(history, output);
    writeln!(text, "\nDROP TABLE IF EXISTS {name};")?;
    writeln!(
        text,
        "CREATE EXTERNAL TABLE {name} (\n{columns}\n)\nPARTITIONED BY (\"date\" date)\nSTORED AS PARQUET\nLOCATION {};",
        literal(&format!("{folder}/"))
    )?;
    match history.dates(output) {
        Some(dates) => dates.iter().try_for_each(|date| {
            let location = literal(&format!("{folder}/date={date}/"));
            writeln!(text, "ALTER TABLE {name} ADD IF NOT EXISTS PARTITION (\"date\"='{date}') LOCATION {location};")
        }),
        None => {
            writeln!(text, "-- ALTER TABLE {name} ADD PARTITION … per date: print this without --job once a run has started.")
        }
    }
}

fn copy(text: &mut String, history: &History, output: Output) -> std::fmt::Result {
    let name = table_name(history, Dialect::RedshiftCopy, output.name());
    let columns = columns(output, |field| {
        let null = if field.nullable { "" } else { " NOT NULL" };
        format!("  {} {}{null}", quoted(field.name), type_of(field, Dialect::RedshiftCopy, history.scale))
    });
    let location = literal(&format!("{}/", location(history, output)));
    writeln!(text, "\nCREATE TABLE IF NOT EXISTS {name} (\n{columns}\n);")?;
    if history.is_empty(output) {
        return writeln!(text, "-- No file yet; then: COPY {name} FROM {location} IAM_ROLE default FORMAT AS PARQUET;");
    }
    writeln!(text, "COPY {name} FROM {location} IAM_ROLE default FORMAT AS PARQUET;")
}

fn duckdb(text: &mut String, history: &History, output: Output) -> std::fmt::Result {
    let name = table_name(history, Dialect::DuckDb, output.name());
    let kind = |field: &Field| type_of(field, Dialect::DuckDb, history.scale);
    if output == Output::ALL[0] {
        writeln!(text, "\nCREATE SCHEMA IF NOT EXISTS {};", quoted(&history.schema))?;
    }
    if history.is_empty(output) {
        // A pattern without files is an error there.
        let columns = columns(output, |field| format!("  CAST(NULL AS {}) AS {}", kind(field), quoted(field.name)));
        return writeln!(
            text,
            "\nCREATE OR REPLACE VIEW {name} AS SELECT\n{columns},\n  CAST(NULL AS DATE) AS \"date\"\nWHERE false;"
        );
    }
    let columns = columns(output, |field| format!("  CAST({0} AS {1}) AS {0}", quoted(field.name), kind(field)));
    let pattern = literal(&format!("{}/date=*/*.parquet", location(history, output)));
    writeln!(
        text,
        "\nCREATE OR REPLACE VIEW {name} AS SELECT\n{columns},\n  \"date\"\nFROM read_parquet({pattern}, hive_partitioning = true, hive_types = {{'date': DATE}});"
    )
}

fn latest(text: &mut String, dialect: Dialect, history: &History, table: Table) -> std::fmt::Result {
    let output = Output::Cells(table);
    let keys: Vec<String> = fields(output)
        .iter()
        .filter(|field| match field.column {
            Column::Store | Column::Second => true,
            Column::Window => table.windowed(),
            _ => false,
        })
        .map(|field| quoted(field.name))
        .collect();
    let all = fields(output).iter().map(|field| quoted(field.name)).collect::<Vec<_>>().join(", ");
    let name = table_name(history, dialect, output.name());
    let view = table_name(history, dialect, &format!("{}_latest", output.name()));
    // Redshift wants this of views over tables that are not its own.
    let late_binding = if dialect == Dialect::RedshiftSpectrum { "\nWITH NO SCHEMA BINDING" } else { "" };
    let view = if dialect == Dialect::RedshiftSpectrum { quoted(&format!("{}_latest", output.name())) } else { view };
    writeln!(
        text,
        "\nCREATE OR REPLACE VIEW {view} AS\nSELECT {all}\nFROM (\n  SELECT {all},\n    row_number() OVER (PARTITION BY {} ORDER BY \"epoch\" DESC) AS newest\n  FROM {name}\n) AS ranked\nWHERE newest = 1 AND NOT \"deleted\"{late_binding};",
        keys.join(", ")
    )
}

/// A table's full name. Athena's DDL and queries quote differently, so its names go unqualified.
fn table_name(history: &History, dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Athena => quoted(name),
        _ => format!("{}.{}", quoted(&history.schema), quoted(name)),
    }
}

fn type_of(field: &Field, dialect: Dialect, scale: u32) -> String {
    let redshift = matches!(dialect, Dialect::RedshiftSpectrum | Dialect::RedshiftCopy);
    match field.column {
        Column::Money => format!("decimal(38,{scale})"),
        Column::TableName | Column::Store | Column::Second | Column::Topic => match dialect {
            Dialect::Athena => "string",
            Dialect::DuckDb => "VARCHAR",
            _ => "varchar(65535)",
        }
        .to_owned(),
        Column::Window | Column::Epoch | Column::Stamp => {
            if dialect == Dialect::DuckDb { "TIMESTAMPTZ" } else { "timestamp" }.to_owned()
        }
        Column::Items | Column::Count | Column::Distinct | Column::Position => "bigint".to_owned(),
        Column::Revision | Column::Partition => if redshift { "integer" } else { "int" }.to_owned(),
        Column::Deleted => "boolean".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(dates: Option<Vec<(Output, BTreeSet<String>)>>) -> History {
        History {
            job: "mall".to_owned(),
            generation: 7,
            location: "s3://bucket/it's/mall/gen-000007/history".to_owned(),
            scale: 3,
            schema: "storeflow".to_owned(),
            dates,
        }
    }

    #[test]
    fn every_dialect_has_every_table_column_and_view() {
        for dialect in [Dialect::Athena, Dialect::RedshiftSpectrum, Dialect::RedshiftCopy, Dialect::DuckDb] {
            let text = statements(dialect, &history(None));
            assert_eq!(text, statements(dialect, &history(None)), "deterministic");
            for output in Output::ALL {
                assert!(text.contains(&format!("'s3://bucket/it''s/mall/gen-000007/history/{}/", output.name())), "{text}");
                assert!(fields(output).iter().all(|field| text.contains(field.name)), "{text}");
                let has_latest = text.contains(&format!("{}_latest\" AS", output.name()));
                assert_eq!(has_latest, output != Output::LateAdjustments, "{text}");
            }
            assert!(text.contains("decimal(38,3)") && text.starts_with("-- History of job mall, generation 7"), "{text}");
        }
    }

    #[test]
    fn the_latest_row_is_by_key() {
        let text = statements(Dialect::Athena, &history(None));
        for keys in [
            r#"PARTITION BY "store_id", "currency", "window_start" ORDER BY "epoch" DESC"#,
            r#"PARTITION BY "store_id", "kind", "window_start" ORDER BY"#,
            r#"PARTITION BY "store_id", "window_start" ORDER BY"#,
            r#"PARTITION BY "store_id" ORDER BY"#,
        ] {
            assert!(text.contains(keys), "{text}");
        }
    }

    #[test]
    fn dates_that_are_known_are_used() {
        let dates = BTreeSet::from(["2026-11-20".to_owned(), "2026-11-21".to_owned()]);
        let known = history(Some(vec![(Output::Cells(Table::StoreSales), dates)]));
        let text = statements(Dialect::RedshiftSpectrum, &known);
        assert_eq!(text.matches("ADD IF NOT EXISTS PARTITION").count(), 2);
        assert!(text.contains("/store_sales/date=2026-11-21/'"), "{text}");
        let text = statements(Dialect::DuckDb, &known);
        assert_eq!((text.matches("read_parquet(").count(), text.matches("WHERE false").count()), (1, 4), "{text}");
        let text = statements(Dialect::RedshiftCopy, &known);
        assert_eq!(text.matches("\nCOPY ").count(), 1, "{text}");
    }
}
