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
/// would be right.
///
/// Exit code: 0 the job is right, 2 it is not, or could not be read.
#[derive(Debug, Args)]
#[command(after_long_help = EXPLAINED)]
pub struct CheckArgs {
    /// The job file: what to compute from which topics (TOML, at most 1 MiB)
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,
}

const EXPLAINED: &str = r#"# The job file. Durations are whole minutes, written "30m", "48h", "7d" or "1h30m".
# A field of a record is named as it is, at the top level of the row; dots are no path.

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

[[source]]                # at least one
topic = "mall.payments"   # required; or topics = ["site-*.payments"], where * is any run of characters
table = "payments"        # no default; debezium only: the one table to read of a topic that carries several
role = "payments"         # required; payments, order_items, products or clicks
format = "debezium"       # required; debezium or upsert, for clicks json
key = "payment_id"        # required, not for clicks; a field or a list of fields
key_space = "topic"       # default "topic"; "role" where topics are shards of one table
store = "store_id"        # required; the field of the store id
amount = "amount"         # required, payments only
currency = "currency"     # payments only; default: the job's currency
# Required, not for products. The unit is s, ms, us, ns, days, rfc3339, or for text
# { format = "%Y-%m-%d %H:%M:%S", zone = "Asia/Seoul" }, where the zone defaults to UTC.
time = { field = "paid_at", unit = "us" }
# Not for clicks; default: every row counts. All fields must match, each with one of its values.
counts_when = { status = ["PAID", "REFUNDED"] }
# Read live, what moves the clock of a partition without new records:
clock = "live"            # default "live": the wall clock, once nothing is missing; "records": nothing but records
idle = "heartbeat"        # default "wall": the broker holds nothing more; "heartbeat", not for clicks: besides,
                          # Debezium's heartbeat topic shows that the connector lives; "hold": wait for a record

[[source]]
topic = "mall.order_items"
role = "order_items"
format = "upsert"
key = "item_id"
store = "store_id"
product = "product_id"    # required for order_items, allowed for clicks
quantity = "quantity"     # required, order_items only
time = { field = "ordered_at", unit = "ms" }

[[source]]
topic = "mall.clicks"
role = "clicks"
format = "json"
store = "store_id"
kind = "event_type"       # required, clicks only
product = "product_id"
distinct = true           # clicks only; count distinct products; default: whether product is named
time = { field = "event_time", unit = "ms" }
"#;

/// Reads the job, prints it or its mistakes.
///
/// # Errors
/// If the job file cannot be read, or has mistakes.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    match job_file::load(&args.job) {
        Ok(job) => print(&job.to_string()),
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
}
