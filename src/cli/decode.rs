//! `storeflow decode`: what records mean to a job, one line each.
//!
//! ```text
//! lines ─► kcat envelope, or KEY<separator>VALUE, or the bare value ─► the job's decoders of the topic ─► one JSON object each
//! ```
//!
//! The same decoders as in a run, and nothing behind them: whoever has a record in hand that counts for too much, or for nothing,
//! or that became a dead letter, sees what it says to the job file as it is now.
//!
//! Upholds: one line out for each record in, in their order, whatever is in it.
//! Absent on purpose: what was there before. Whether a change is stale or late, and what a patch's row is after it, only a run knows;
//! `explain` shows that.

mod print;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;

use self::print::{KEY_SPACE, Line, Printer, Summary};
use super::Failure;
use crate::config::{Job, job_file};
use crate::decode::avro::Schemas;
use crate::decode::{Decoded, Decoder, Message, Record, Reject, Skipped};
use crate::source::envelope::Envelopes;
use crate::source::lines::Lines;
use crate::source::registry::SchemaRegistry;

/// Print what records mean to a job: key, row, source version, or why they are skipped or dead letters
///
/// Reads lines as in a dataset (values, or kcat's envelopes: `kcat -C -J`), and prints one JSON object per record. `outcome` says what
/// it is: upsert, patch (a change that says a part of the row; `unsaid` is as it was), delete, changes (several, in
/// `changes`), truncate, click, skipped (`kind` says why) or dead_letter (`reason` and `detail`). A row that does not count
/// names the conditions of counts_when that it `fails`. How many there were of each goes to standard error.
///
/// Schemas of Avro records come from `_schemas` of the dataset that PATH is in, or from the job's schema registry, which is waited for.
///
/// Exit code: 0; 1 with --strict if there was a dead letter; 2 if the job file or the input cannot be read.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// The job file
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,

    /// The topic that the records are of; chooses the sources that read them
    #[arg(long, value_name = "NAME")]
    topic: String,

    /// Lines are a message key, this text, and the value; without the text in it, a line is a value without a key
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,

    /// Exit with 1 if a record is a dead letter
    #[arg(long)]
    strict: bool,

    /// The lines, also `.zst` or `.gz` [default: standard input]
    #[arg(value_name = "PATH")]
    lines: Option<PathBuf>,
}

/// Bytes read at a time; a terminal or pipe hands over what it has.
const CHUNK: usize = 1 << 16;

/// Runs the command.
///
/// # Errors
/// [`Failure::Check`] with `--strict` and a dead letter; otherwise if the job file or the lines cannot be read.
pub fn run(args: &DecodeArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.job)?;
    // A partition's file of a dataset, which may bring schemas along.
    let dataset = args.lines.as_deref().and_then(|path| path.parent()?.parent());
    let registry = SchemaRegistry::start(&job, dataset, None).map_err(anyhow::Error::from)?;
    let mut decoding = Decoding::new(&job, &args.topic, registry.schemas())?;
    let name = args.lines.as_ref().map_or_else(|| "standard input".to_owned(), |path| format!("\"{}\"", path.display()));
    let input = open(args.lines.as_deref()).with_context(|| format!("could not read {name}"))?;
    let lines = Lines::new(input, CHUNK);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut summary = Summary::default();
    let printed = decoding.all(lines, args.key_separator.as_deref(), |line| {
        summary.add(&line);
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")
    });
    match printed.and_then(|()| out.flush()) {
        // Whoever read along (`| head`) has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        printed => printed.with_context(|| format!("could not decode {name}"))?,
    }
    eprintln!("{summary}");
    if args.strict && summary.dead_letters() > 0 { Err(Failure::Check) } else { Ok(()) }
}

fn open(path: Option<&Path>) -> io::Result<Box<dyn Read + Send>> {
    let Some(path) = path else { return Ok(Box::new(io::stdin())) };
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => Box::new(zstd::stream::read::Decoder::new(file)?),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(file))),
        _ => Box::new(file),
    })
}

/// The decoders of a topic, as a partition has them.
struct Decoding<'a> {
    decoders: Vec<Decoder>,
    printers: Vec<Printer<'a>>,
    envelopes: Envelopes,
    topic: String,
    schemas: Arc<Schemas>,
}

impl<'a> Decoding<'a> {
    fn new(job: &'a Job, topic: &str, schemas: &Arc<Schemas>) -> anyhow::Result<Self> {
        let sources: Vec<_> = job.sources.iter().filter(|source| source.reads(topic)).collect();
        if sources.is_empty() {
            let topics = job.sources.iter().flat_map(|source| &source.topics).map(|topic| format!("\"{topic}\""));
            let topics = topics.collect::<Vec<_>>().join(", ");
            return Err(anyhow!("no source of job \"{}\" reads topic \"{topic}\"; its topics are {topics}", job.name));
        }
        let decoder = |source| Decoder::new(job, source, topic, KEY_SPACE).with_schemas(schemas);
        Ok(Decoding {
            decoders: sources.iter().map(|source| decoder(source)).collect(),
            printers: sources.iter().map(|source| Printer::new(job, source, topic)).collect(),
            envelopes: Envelopes::default(),
            topic: topic.to_owned(),
            schemas: Arc::clone(schemas),
        })
    }

    /// Each record's line to `print`, in order.
    fn all(
        &mut self,
        mut lines: Lines,
        separator: Option<&str>,
        mut print: impl FnMut(Line) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(line) = lines.next_line()? {
            let utf8 = line.utf8 || std::str::from_utf8(line.bytes).is_ok();
            let opened = if utf8 && separator.is_none() { self.envelopes.open(line.bytes) } else { Ok(None) };
            let (position, timestamp, message) = match &opened {
                Ok(Some(record)) => {
                    let message = Message { key: record.key.as_deref(), value: record.value.as_deref(), utf8: record.utf8 };
                    (record.position, record.timestamp, message)
                }
                _ => {
                    let (key, value) = key_and_value(line.bytes, separator);
                    (line.number, None, Message { key, value: Some(value), utf8 })
                }
            };
            // Nobody is kept waiting but whoever asked.
            while let Some(schema) = self.decoders.iter_mut().find_map(|decoder| decoder.needs(message)) {
                self.schemas.want(schema, &self.topic, 0);
                let _ = self.schemas.wait_for(schema);
            }
            let decoded = match &opened {
                Err(reject) => Err(reject.clone()),
                Ok(_) => first_that_takes(&mut self.decoders, message),
            };
            print(match decoded {
                Ok((record, source)) => self.printers[source].line(position, timestamp, &record),
                Err(reject) => Line::dead_letter(position, timestamp, &reject),
            })?;
        }
        Ok(())
    }
}

fn key_and_value<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes) else { return (None, line) };
    match memchr::memmem::find(line, separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

/// The first source that takes the record; sources that share a topic differ in their table.
fn first_that_takes(decoders: &mut [Decoder], message: Message<'_>) -> Result<(Record, usize), Reject> {
    let last = decoders.len() - 1;
    for (at, decoder) in decoders.iter_mut().enumerate() {
        match decoder.decode(message)? {
            Record { decoded: Decoded::Skipped(Skipped::OtherTable), .. } if at < last => {}
            record => return Ok((record, at)),
        }
    }
    unreachable!("there is at least one decoder, and the last one's answer is taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"
        name = "mall"
        currency = "KRW"

        [[source]]
        topic = "payments"
        role = "payments"
        format = "debezium"
        key = ["site", "id"]
        store = "store"
        amount = "amount"
        time = { field = "at", unit = "ms" }
        counts_when = { kind = "SALE", status = ["PAID", "REFUNDED"] }

        [[source]]
        topic = "products"
        role = "products"
        format = "upsert"
        key = "id"
        store = "store"

        [[source]]
        topic = "clicks"
        role = "clicks"
        format = "json"
        store = "store"
        kind = "kind"
        product = "product"
        time = { field = "at", unit = "ms" }
    "#;

    fn printed(topic: &str, separator: Option<&str>, text: &'static str) -> (Vec<String>, String) {
        let job = job_file::parse(JOB, "test").expect("a job");
        let mut decoding = Decoding::new(&job, topic, &Arc::default()).expect("a topic of the job");
        let (mut lines, mut summary) = (Vec::new(), Summary::default());
        decoding
            .all(Lines::new(Box::new(text.as_bytes()), CHUNK), separator, |line| {
                summary.add(&line);
                lines.push(serde_json::to_string(&line)?);
                Ok(())
            })
            .expect("memory is read");
        (lines, summary.to_string())
    }

    #[test]
    fn changes_say_what_they_are() {
        let (lines, summary) = printed(
            "payments",
            None,
            r#"{"op":"c","after":{"site":"kr","id":7,"store":"s1","amount":"12.5","at":1795168800005,"kind":"SALE","status":"PAID"},"source":{"connector":"mysql","name":"m","file":"bin.000012","pos":345,"row":1,"server_id":9,"ts_ms":1795168801000}}

{"topic":"payments","partition":0,"offset":90,"ts":1795168802000,"key":{"site":"kr","id":8},"payload":{"op":"u","after":{"site":"kr","id":8,"store":"s1","amount":-1,"at":1795168800005,"kind":"GIFT","status":"OPEN"},"source":{"connector":"postgresql","name":"m","db":"d","lsn":97637161032}}}
{"op":"d","before":{"site":"kr","id":8}}
{"op":"x","before":{"site":"kr","id":8}}
{"topic":"payments","partition":0,"offset":91,"key":"k","payload":null}
{"topic":"payments","partition":0,"offset":"91","key":"k","payload":null}
"#,
        );
        let expected = [
            concat!(
                r#"{"position":0,"timestamp":"2026-11-20T10:00:01Z","role":"payments","outcome":"upsert","key":{"site":"kr","id":"7"},"#,
                r#""version":{"reads":"binlog 000012 position 345 row 1 of server 9","position":[12,345,1],"server":9,"incarnation":"69a7df0059e14744"},"#,
                r#""row":{"store":"s1","currency":"KRW","amount":"12.50","window_start":"2026-11-20T10:00:00Z","counts":true}}"#
            ),
            concat!(
                r#"{"position":90,"timestamp":"2026-11-20T10:00:02Z","role":"payments","outcome":"upsert","key":{"site":"kr","id":"8"},"#,
                r#""version":{"reads":"LSN 16/BBA0D848","position":[0,97637161032,0],"server":0,"incarnation":"c255345c4c1f360e"},"#,
                r#""row":{"store":"s1","currency":"KRW","amount":"-1.00","window_start":"2026-11-20T10:00:00Z","counts":false,"fails":["kind","status"]}}"#
            ),
            r#"{"position":3,"role":"payments","outcome":"delete","key":{"site":"kr","id":"8"}}"#,
            r#"{"position":4,"outcome":"dead_letter","reason":"bad_op","detail":"field \"op\" is none of c, r, u, d, t, m"}"#,
            r#"{"position":91,"role":"payments","outcome":"skipped","kind":"tombstone"}"#,
            r#"{"position":6,"outcome":"dead_letter","reason":"envelope","detail":"field \"offset\" of the kcat envelope is not an integer in range"}"#,
        ];
        assert_eq!(lines, expected);
        assert_eq!(summary, "6 records: 1 dead_letter bad_op, 1 dead_letter envelope, 1 delete, 1 skipped tombstone, 2 upsert");
    }

    #[test]
    fn keys_stand_before_a_separator() {
        let (lines, _) = printed("products", Some("^"), "7^{\"store\":\"s1\"}\n7^\n{\"id\":1,\"store\":2}\n");
        assert_eq!(
            lines,
            [
                r#"{"position":0,"role":"products","outcome":"upsert","key":{"id":"7"},"row":{"store":"s1","counts":true}}"#,
                r#"{"position":1,"role":"products","outcome":"delete","key":{"id":"7"}}"#,
                r#"{"position":2,"role":"products","outcome":"upsert","key":{"id":"1"},"row":{"store":"2","counts":true}}"#,
            ]
        );
    }

    #[test]
    fn clicks_and_what_is_no_json() {
        let (lines, summary) =
            printed("clicks", None, "{\"store\":1,\"kind\":\"view\",\"at\":1795168800005,\"product\":\"p\"}\n}{\n");
        assert_eq!(
            lines,
            [
                concat!(
                    r#"{"position":0,"timestamp":"2026-11-20T10:00:00.005Z","role":"clicks","outcome":"click","#,
                    r#""click":{"store":"1","kind":"view","product":"p","time":"2026-11-20T10:00:00.005Z","window_start":"2026-11-20T10:00:00Z"}}"#
                ),
                r#"{"position":1,"outcome":"dead_letter","reason":"not_json","detail":"no value where one must be at byte 0"}"#,
            ]
        );
        assert_eq!(summary, "2 records: 1 click, 1 dead_letter not_json");
    }

    #[test]
    fn a_topic_that_nobody_reads_is_told() {
        let job = job_file::parse(JOB, "test").expect("a job");
        let told = Decoding::new(&job, "payment", &Arc::default()).err().map(|error| error.to_string());
        let expected =
            r#"no source of job "mall" reads topic "payment"; its topics are "payments", "products", "clicks""#.to_owned();
        assert_eq!(told, Some(expected));
    }
}
