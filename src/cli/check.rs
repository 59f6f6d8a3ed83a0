//! `storeflow check`: is this job file right, and what exactly does it say?
//!
//! Its help is the reference of the job file, itself a valid one: a test reads it.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::job_file::{self, JobFileError};

/// Check a job file and print the job it describes, with every default filled in
///
/// Reads the job file only: no topic, no object store. Prints the job as a job file, which can be kept and run in
/// place of the original. Mistakes go to stderr, all of them, one per line as file:line:column: what is wrong and what
/// would be right. What is right and may surprise all the same is a line that begins with "advice: ", also on stderr.
///
/// Exit code: 0 the job is right, 2 it is not, or could not be read.
#[derive(Debug, Args)]
#[command(after_long_help = EXPLAINED)]
pub struct CheckArgs {
    /// The job file: what to compute from which topics (TOML, at most 1 MiB)
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,
}

const EXPLAINED: &str = r#"# The job file. Durations are written "30m", "48h", "7d" or "1h30m"; those of the job are whole minutes.
# A field of a record is named by its path, from the outside in: "payload.geo.store_id". A name that holds a dot, a
# brace or a quote is put in quotes itself: '"a.b".id' is id within a.b.
# An id (store, product, kind, currency, the field of dedup) may be composed: "{site}/{geo.store_id}", of text, of
# names that the topics capture, and of fields; {{ and }} are braces.

name = "mall"             # required; letters, digits, - and _, as it becomes part of paths and keys
window = "30m"            # default "30m"; length of a window, divides the hour
grace = "2m"              # default "2m"; a window closes this long after its end; "0m" to "24h"
retention = "48h"         # default "48h"; how long a window can be corrected and stays in the view
replay_horizon = "7d"     # default "7d"; how late a record may be repeated and still change nothing
scale = 2                 # default 2; decimal digits of money, 0 to 18
currency = "KRW"          # no default; the currency where a source names none
timezone = "Asia/Seoul"   # default "UTC"; of "today" in the API

[kafka]                   # optional; what the command line does not say of the brokers
brokers = "b-1:9096"      # default of --brokers
# Properties of librdkafka. A secret says where it is: env:NAME or file:PATH, never itself.
options = { "security.protocol" = "SASL_SSL", "sasl.mechanism" = "SCRAM-SHA-512", "sasl.username" = "mall", "sasl.password" = "env:MALL_PASSWORD" }

[schema_registry]         # required if a format is avro, and of no use otherwise
url = "http://registry:8081"
username = "mall"         # optional, with the password, which is env:NAME or file:PATH
password = "file:/run/secrets/registry"

[[source]]                # at least one
# Required; or topics = ["site-*.payments"], where * is any run of characters, and {name} one of at least one character,
# which ids can use. A topic is read once; sources may share it with a table each.
topic = "{site}.payments"
table = "public.payments" # no default; the one table to read of a topic that carries several, with or without its
                          # schema or database; not for upsert and json, which name no table
role = "payments"         # required; payments, order_items, products, clicks or lookup
format = "debezium"       # required; debezium, flattened (Debezium's ExtractNewRecordState), dms, maxwell, canal, mongodb,
                          # upsert, avro (any of debezium, flattened and upsert), or auto; clicks: json or avro
key = "payment_id"        # required, not for clicks; a field or a list of fields
key_space = "topic"       # default "topic"; "role" where topics are shards of one table
store = "{site}/{store_id}"   # required; the store id, or where it is found: see order_items
# Required, payments only: a number, or text that is one. Base64 (Debezium without schema): the scale of the column.
amount = { field = "amount", decimal = "base64", scale = 4 }
currency = "currency"     # payments only; default: the job's currency
# Required, not for products and lookups. The unit is s, ms, us, ns, days, rfc3339, or for text
# { format = "%Y-%m-%d %H:%M:%S", zone = "Asia/Seoul" }, where the zone defaults to UTC; "auto" takes it from the record's
# schema. A zone beside the unit: the number is a wall clock there, written as if it were UTC (MySQL DATETIME).
time = { field = "paid_at", unit = "us", zone = "Asia/Seoul" }
# Not for clicks; default: every row counts. All fields (at most 16) must match, each with one of its values.
counts_when = { status = ["PAID", "REFUNDED"] }
allow_float = false       # default false: a floating-point amount or quantity is a dead letter; true: its decimal text counts
absent = "missing"        # default "missing": a field that the row lacks is a dead letter; "unchanged": it is as it was (Oracle
                          # through DMS, Maxwell of a minimal row image); not for clicks
incarnation = "1"         # no default; another text makes positions (binlog, LSN) incomparable with those before, after a failover
# Read live, what moves the clock of a partition without new records:
clock = "live"            # default "live": the wall clock, once nothing is missing; "records": nothing but records
idle = "heartbeat"        # default "wall": the broker holds nothing more; "heartbeat", not for clicks: besides,
                          # Debezium's heartbeat topic shows that the connector lives; "hold": wait for a record

[[source]]
topic = "{site}.order_items"
role = "order_items"
format = "avro"
key = "item_id"
# The store is in another table: in the row of a lookup whose key these fields hold, one or a list. So is the time, if it
# is left away here. Not for clicks.
store = { through = "orders", on = "order_id" }
product = "product_id"    # required for order_items, allowed for clicks
quantity = "quantity"     # required, order_items only; written as an amount is

[[source]]
topic = "{site}.orders"   # several topics of a lookup capture the same names, as those that refer to it do, or have
                          # key_space = "role"
role = "lookup"
name = "orders"           # required, lookups only; what "through" says. Several sources may feed one lookup
format = "debezium"
key = "order_id"
store = "{site}/{store_id}"
time = { field = "ordered_at", unit = "auto" }   # optional for lookups, and so is counts_when
keep = "90d"              # lookups only; how long after its last change a row is kept; default: until it is deleted

[[source]]
topic = "mall.clicks"
role = "clicks"
format = "json"
store = "store_id"
kind = "event_type"       # required, clicks only
product = "product_id"
distinct = true           # clicks only; count distinct products; default: whether product is named
# Clicks only; default: every click counts. A click whose id was counted within the horizon does not count again.
dedup = { field = "event_id", horizon = "1h" }
time = { field = "event_time", unit = "ms" }
"#;

/// Reads the job, prints it or its mistakes.
///
/// # Errors
/// If the job file cannot be read, or has mistakes.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    match job_file::load(&args.job) {
        Ok(job) => {
            job.advice().iter().for_each(|advice| eprintln!("advice: {advice}"));
            print(&job.to_string())
        }
        Err(mistakes @ JobFileError::Mistakes { .. }) => {
            // On lines of their own, so that an editor can jump to each.
            eprintln!("{mistakes}");
            let file = args.job.display();
            Err(anyhow::anyhow!("job file \"{file}\" cannot be run as it is").into())
        }
        Err(error) => Err(error.into()),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read along (`| head`) has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_is_a_job_file_with_every_field() {
        let job = job_file::parse(EXPLAINED, "help").unwrap();
        let text = job.to_string();
        for line in text.lines() {
            let field = line.split(" = ").next().unwrap_or(line);
            assert!(EXPLAINED.lines().any(|line| line.starts_with(field)), "{field}");
        }
        assert_eq!(job_file::parse(&text, "printed").unwrap(), job);
    }

    /// The README's job file says all there is to say, too.
    #[test]
    fn the_job_file_of_the_readme_has_every_field() {
        let readme = include_str!("../../README.md");
        let text = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let job = job_file::parse(text, "README.md").unwrap();
        assert!(job.advice().is_empty());
        for line in job.to_string().lines() {
            let field = line.split(" = ").next().unwrap_or(line);
            assert!(text.lines().any(|line| line.starts_with(field)), "{field}");
        }
        assert_eq!(job_file::parse(&job.to_string(), "printed").unwrap(), job);
    }
}
