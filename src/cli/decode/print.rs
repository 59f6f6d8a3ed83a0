//! A decoded record as a JSON object for people and for `jq`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::{Serialize, Serializer};
use storeflow_dataflows::change::{Position, Row, Version, What, says};
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::table::{ELSEWHERE, NO_WINDOW};

use crate::config::field_path::FieldPath;
use crate::config::{Format, Job, Role, SourceSpec, StoreSpec};
use crate::decode::{Click, Decoded, Record, Reject, RowChange, Truncate, key_texts, lookup_beginning};
use crate::publish::row::money;
use crate::publish::time::instant;

/// What is printed of a record. Fields that have nothing to say are left out.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    position: u64,
    /// The envelope's, or else the message's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// The one table that the source takes of its topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Upsert(OfKey),
    Patch(OfKey),
    Delete(OfKey),
    Changes { changes: Vec<Outcome> },
    Truncate(Truncated),
    Click { click: ClickLine },
    Skipped { kind: &'static str },
    DeadLetter { reason: &'static str, detail: String },
}

#[derive(Debug, Serialize)]
struct OfKey {
    key: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<VersionLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<RowLine>,
}

#[derive(Debug, Serialize)]
struct Truncated {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<VersionLine>,
}

#[derive(Debug, Serialize)]
struct VersionLine {
    /// As the database prints it.
    reads: String,
    position: (u32, u64, u32),
    server: u32,
    /// Of what names the incarnation only a hash is kept.
    incarnation: String,
}

#[derive(Debug, Default, Serialize)]
struct RowLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The key of the row of another table that says the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_through: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_start: Option<String>,
    /// Of a patch that does not say enough: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<bool>,
    /// Conditions that do not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fails: Vec<String>,
    /// What a patch leaves as it was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unsaid: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ClickLine {
    store: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    time: String,
    window_start: String,
    /// By which it is known if it is told twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
}

/// Names and texts, in their order.
#[derive(Debug)]
struct Named(Vec<(String, String)>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, text)| (name, text)))
    }
}

impl Line {
    pub(super) fn dead_letter(position: u64, timestamp: Option<u64>, reject: &Reject) -> Self {
        let outcome = Outcome::DeadLetter { reason: reject.reason.code(), detail: reject.detail.clone() };
        Line { position, timestamp: timestamp.map(of_millis), role: None, table: None, outcome }
    }
}

/// Prints the records that one source takes.
pub(super) struct Printer<'a> {
    spec: &'a SourceSpec,
    horizons: Horizons,
    scale: u32,
    /// What the source's keys begin with, and those of the lookup that its rows refer to.
    own_keys: Vec<u8>,
    store_keys: Vec<u8>,
}

/// Where keys are unique makes no difference to what is printed of them.
pub(super) const KEY_SPACE: u32 = 0;

impl<'a> Printer<'a> {
    /// Of the records of a source in one of its topics, decoded in [`KEY_SPACE`].
    pub(super) fn new(job: &'a Job, spec: &'a SourceSpec, topic: &str) -> Self {
        let own_keys = match (spec.role, &spec.name) {
            (Role::Lookup, Some(name)) => lookup_beginning(job, name, spec, topic),
            _ => vec![KEY_SPACE as u8],
        };
        let store_keys = match &spec.store {
            StoreSpec::Own(_) => Vec::new(),
            StoreSpec::Through { lookup, .. } => lookup_beginning(job, lookup, spec, topic),
        };
        Printer { spec, horizons: job.horizons, scale: job.scale, own_keys, store_keys }
    }

    /// The line of a good record.
    pub(super) fn line(&self, position: u64, timestamp: Option<u64>, record: &Record) -> Line {
        let own_time = record.own_time;
        let change = |change: &RowChange| self.change(change, own_time);
        let outcome = match &record.decoded {
            Decoded::Change(one) => change(one),
            Decoded::Changes(several) => Outcome::Changes { changes: several.iter().map(change).collect() },
            Decoded::Truncate(Truncate { version, .. }) => {
                Outcome::Truncate(Truncated { version: version.map(|version| self.version(version, own_time)) })
            }
            Decoded::Click(click) => Outcome::Click { click: self.click(click) },
            Decoded::Skipped(skipped) => Outcome::Skipped { kind: skipped.code() },
        };
        let timestamp = timestamp.or(own_time).map(of_millis);
        Line { position, timestamp, role: Some(self.spec.role.name()), table: self.spec.table.clone(), outcome }
    }

    fn change(&self, change: &RowChange, own_time: Option<u64>) -> Outcome {
        let RowChange { key, version, read: _, what } = change;
        let key = named(key.text.as_bytes(), &self.own_keys, &self.spec.key);
        let version = version.map(|version| self.version(version, own_time));
        let of = |row| OfKey { key, version, row };
        match what {
            What::Row(row) => Outcome::Upsert(of(Some(self.row(row, says::ALL)))),
            What::Patch(row, said) => Outcome::Patch(of(Some(self.row(row, *said)))),
            What::Delete => Outcome::Delete(of(None)),
            What::Truncate => Outcome::Truncate(Truncated { version: of(None).version }),
        }
    }

    fn row(&self, row: &Row, said: u32) -> RowLine {
        let (role, says) = (self.spec.role, |part: u32| said & part != 0);
        let (store, second) = row.cell.cell_parts();
        let mut line = RowLine::default();
        let mut unsaid = Vec::new();
        let mut part = |part: u32, name: &str| {
            if !says(part) {
                unsaid.push(name.to_owned());
            }
            says(part)
        };
        if part(says::STORE, "store") {
            match &self.spec.store {
                StoreSpec::Own(_) => line.store = Some(text(store)),
                StoreSpec::Through { on, .. } => line.store_through = Some(named(store, &self.store_keys, on)),
            }
        }
        if role == Role::Payments && part(says::SECOND, "currency") {
            line.currency = Some(text(second));
        }
        if role == Role::OrderItems && part(says::MEMBER, "product") {
            line.product = Some(row.member.to_str().into_owned());
        }
        match role {
            Role::Payments if part(says::AMOUNT, "amount") => line.amount = Some(money(row.amount, self.scale)),
            Role::OrderItems if part(says::AMOUNT, "quantity") => line.quantity = Some(row.amount.to_string()),
            _ => {}
        }
        if self.spec.time.is_some() && part(says::WINDOW, "time") && row.window != NO_WINDOW && row.window != ELSEWHERE {
            line.window_start = Some(instant(row.window));
        }
        for (at, field) in self.spec.counts_when.keys().enumerate() {
            match 1 << at {
                bit if said & bit == 0 => unsaid.push(field.to_string()),
                bit if row.lacks & bit != 0 => line.fails.push(field.to_string()),
                _ => {}
            }
        }
        line.counts = match (line.fails.is_empty(), unsaid.is_empty()) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => None,
        };
        RowLine { unsaid, ..line }
    }

    fn click(&self, click: &Click) -> ClickLine {
        let (store, kind) = click.cell.cell_parts();
        ClickLine {
            store: text(store),
            kind: text(kind),
            product: (!click.product.is_empty()).then(|| click.product.to_str().into_owned()),
            time: of_millis(click.time),
            window_start: instant(self.horizons.window_of(click.time)),
            event: click.event.as_ref().map(|event| event.to_str().into_owned()),
        }
    }

    fn version(&self, version: Version, own_time: Option<u64>) -> VersionLine {
        let Version { incarnation, server, position } = version;
        let of_server = if server == 0 { String::new() } else { format!(" of server {server}") };
        let reads = match position {
            Position(0, at, 0) if self.is_cluster_time(at, own_time) => {
                format!("cluster time {} number {}", instant((at >> 32) as i64 * 1_000), at & 0xffff_ffff)
            }
            // Binlog files count from 1.
            Position(0, lsn, row) => {
                let row = if row == 0 { String::new() } else { format!(" record {row}") };
                format!("LSN {:X}/{:X}{row}", lsn >> 32, lsn & 0xffff_ffff)
            }
            Position(file, at, row) => format!("binlog {file:06} position {at} row {row}"),
        };
        let position = (position.0, position.1, position.2);
        VersionLine { reads: reads + &of_server, position, server, incarnation: format!("{incarnation:016x}") }
    }

    /// A MongoDB cluster time is seconds since 1970 and a number; an LSN whose upper half is the second of its own message is
    /// not met.
    fn is_cluster_time(&self, at: u64, own_time: Option<u64>) -> bool {
        self.spec.format == Format::Mongodb || own_time.is_some_and(|time| time / 1_000 == at >> 32)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn of_millis(millis: u64) -> String {
    i64::try_from(millis).map_or_else(|_| millis.to_string(), instant)
}

/// A key taken apart, by its fields.
fn named(key: &[u8], beginning: &[u8], fields: &[FieldPath]) -> Named {
    let texts = key.strip_prefix(beginning).and_then(|rest| key_texts(rest, fields.len()));
    match texts {
        Some(texts) => Named(fields.iter().map(ToString::to_string).zip(texts).collect()),
        None => Named(vec![("key".to_owned(), text(key))]),
    }
}

/// How many records there were of each outcome.
#[derive(Debug, Default)]
pub(super) struct Summary(BTreeMap<String, u64>);

impl Summary {
    pub(super) fn add(&mut self, line: &Line) {
        let name = match &line.outcome {
            Outcome::Upsert(_) => "upsert".to_owned(),
            Outcome::Patch(_) => "patch".to_owned(),
            Outcome::Delete(_) => "delete".to_owned(),
            Outcome::Changes { .. } => "changes".to_owned(),
            Outcome::Truncate(_) => "truncate".to_owned(),
            Outcome::Click { .. } => "click".to_owned(),
            Outcome::Skipped { kind } => format!("skipped {kind}"),
            Outcome::DeadLetter { reason, .. } => format!("{DEAD_LETTER}{reason}"),
        };
        *self.0.entry(name).or_default() += 1;
    }

    pub(super) fn dead_letters(&self) -> u64 {
        self.0.iter().filter(|(name, _)| name.starts_with(DEAD_LETTER)).map(|(_, count)| count).sum()
    }
}

const DEAD_LETTER: &str = "dead_letter ";

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.0.values().sum::<u64>())?;
        for (at, (name, count)) in self.0.iter().enumerate() {
            write!(f, "{} {count} {name}", if at == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}
