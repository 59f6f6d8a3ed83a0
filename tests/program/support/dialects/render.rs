//! Entries of a log as the messages of a dialect.

mod debezium;
mod others;
mod values;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::setting::{Dialect, Setting};
use super::truth::{Entry, Event, SITES, TableOf, Told, What};

/// A message, before it is appended.
#[derive(Clone, Debug)]
struct Message {
    key: Option<String>,
    value: Option<String>,
    /// Whose hash tells the partition.
    spread_by: u8,
}

type Columns = Map<String, Value>;

/// The files of a dataset.
pub(crate) struct Rendered {
    /// Topic, partition and content.
    pub(crate) files: Vec<(String, u32, Vec<u8>)>,
    /// Records that nobody can read. Where a partition would be quiet for an hour they lead its clock on, as a jump of more would
    /// have to be confirmed by a hundred records.
    pub(crate) fillers: usize,
}

/// The file of a partition.
#[derive(Default)]
struct Partition {
    offset: u64,
    last: Option<u64>,
    content: Vec<u8>,
}

/// Renders what was told.
pub(crate) fn render(told: &Told, setting: &Setting) -> Rendered {
    let mut files: BTreeMap<(String, u32), Partition> = BTreeMap::new();
    let mut fillers = 0;
    let topics =
        || SITES[..usize::from(setting.sites)].iter().flat_map(|site| TableOf::ALL.map(|table| setting.topic(site, table)));
    // The program wants every topic there that the job names.
    files.extend(topics().map(|topic| ((topic, 0), Partition::default())));
    let mut entries = &told.entries[..];
    let mut number = 0;
    while let Some(first) = entries.first() {
        let together = entries.iter().take_while(|entry| number_together(first, entry, setting)).count();
        let (group, rest) = entries.split_at(together);
        entries = rest;
        let topic = setting.topic(SITES[usize::from(first.event.site)], first.event.table);
        let noise = number % 11 == 0;
        number += 1;
        for message in messages(setting, group).into_iter().chain(noise.then(|| self::noise(setting, &first.event)).flatten()) {
            let partition = u32::from(message.spread_by) % setting.partitions;
            let lag = match setting.lags.len() {
                0 => 0,
                lags => {
                    let at = topics().position(|other| other == topic).unwrap_or(0) + partition as usize;
                    u64::from(setting.lags[at % lags]) * 1_000
                }
            };
            let file = files.entry((topic.clone(), partition)).or_default();
            let text = |text: &Option<String>| serde_json::to_string(text).expect("text");
            // kcat writes payloads as text; who wrote the file by hand may have put JSON there.
            let payload = match &message.value {
                Some(value) if first.event.part % 2 == 1 && !value.starts_with('"') => value.clone(),
                value => text(value),
            };
            let time = first.time + lag;
            while let Some(last) = file.last.filter(|last| last + QUIET < time) {
                file.push(last + QUIET, "null", "\"filler\"");
                fillers += 1;
            }
            file.push(time, &text(&message.key), &payload);
        }
    }
    let files = files.into_iter().map(|((topic, partition), file)| (topic, partition, file.content)).collect();
    Rendered { files, fillers }
}

/// How long a partition may be quiet, milliseconds.
const QUIET: u64 = 55 * 60_000;

impl Partition {
    fn push(&mut self, time: u64, key: &str, payload: &str) {
        let offset = self.offset;
        let line = format!(
            "{{\"topic\":\"t\",\"partition\":0,\"offset\":{offset},\"ts\":{time},\"key\":{key},\"payload\":{payload}}}\n"
        );
        self.content.extend_from_slice(line.as_bytes());
        self.offset += 1;
        self.last = Some(time);
    }
}

/// Whether an entry is told by the same message as the first one.
fn number_together(first: &Entry, entry: &Entry, setting: &Setting) -> bool {
    let of = |entry: &Entry| {
        let Event { site, table, transaction, what, .. } = entry.event;
        (entry.batch, site, table, transaction, others::canal_type(&what))
    };
    let one = std::ptr::eq(first, entry);
    one || setting.dialect == (Dialect::Canal { grouped: true }) && of(first) == of(entry) && first.event.what != What::Truncate
}

fn messages(setting: &Setting, group: &[Entry]) -> Vec<Message> {
    let event = &group[0].event;
    match setting.dialect {
        Dialect::Mysql | Dialect::Postgres { .. } => debezium::relational(setting, event),
        Dialect::MongoConnector { .. } => debezium::mongodb(setting, event),
        Dialect::Flattened { .. } => debezium::flattened(setting, event),
        Dialect::Dms { .. } => others::dms(setting, event),
        Dialect::Maxwell { .. } => others::maxwell(setting, event),
        Dialect::Canal { .. } => others::canal(setting, &group.iter().map(|entry| entry.event).collect::<Vec<_>>()),
        Dialect::Mongodb { .. } => others::mongodb(setting, event),
        Dialect::Upsert { .. } => others::upsert(setting, event),
        Dialect::Auto => {
            let by = if event.what == What::Truncate {
                Dialect::Canal { grouped: false }
            } else {
                BY_KEY[usize::from(event.key) % BY_KEY.len()]
            };
            let mut messages = messages(&Setting { dialect: by, ..setting.clone() }, group);
            // A null value deletes whatever the message key names, and that of MongoDB's connector names no key of the job.
            if matches!(by, Dialect::MongoConnector { .. }) {
                messages.retain(|message| message.value.is_some());
            }
            messages
        }
    }
}

/// Who tells of a row where each row is told by another.
const BY_KEY: [Dialect; 6] = [
    Dialect::Mysql,
    Dialect::Mongodb { partial: true, quoted: true },
    Dialect::Maxwell { position: true },
    Dialect::MongoConnector { partial: true },
    Dialect::Flattened { position: super::setting::Flat::Lsn, deletes: super::setting::Deletes::Both },
    Dialect::Dms { position: super::setting::Place::Log, before: super::setting::Before::Image },
];

/// A message about no row, as there are some between the others.
fn noise(setting: &Setting, event: &Event) -> Option<Message> {
    let value = match setting.dialect {
        Dialect::Mysql | Dialect::Postgres { .. } | Dialect::MongoConnector { .. } => match event.transaction % 4 {
            0 => format!(r#"{{"ts_ms":{}}}"#, event.commit),
            1 => r#"{"status":"END","id":"571","event_count":2,"data_collections":null}"#.to_owned(),
            2 => r#"{"source":{"connector":"postgresql","table":""},"op":"m","message":{"prefix":"p","content":""}}"#.to_owned(),
            _ => r#"{"source":{"connector":"mysql","ts_ms":0},"ddl":"CREATE TABLE x (y int)","tableChanges":[]}"#.to_owned(),
        },
        Dialect::Dms { .. } => {
            r#"{"metadata":{"record-type":"control","operation":"create-table","schema-name":"","table-name":""}}"#.to_owned()
        }
        Dialect::Maxwell { .. } => {
            format!(r#"{{"database":"shop","table":"{}","type":"bootstrap-complete","ts":1,"data":{{}}}}"#, event.table.name())
        }
        Dialect::Canal { .. } => r#"{"data":null,"database":"shop","table":"x","type":"QUERY","isDdl":true,"es":1}"#.to_owned(),
        Dialect::Mongodb { .. } => {
            r#"{"_id":{"_data":"82"},"operationType":"invalidate","clusterTime":{"$timestamp":{"t":5,"i":1}}}"#.to_owned()
        }
        Dialect::Flattened { .. } if setting.shared => r#"{"id":1,"__table":"audit","__op":"c"}"#.to_owned(),
        Dialect::Flattened { .. } | Dialect::Upsert { .. } => return None,
        Dialect::Auto => r#"{"database":"shop","table":"x","type":"table-alter","ts":1}"#.to_owned(),
    };
    Some(Message { key: None, value: Some(value), spread_by: 0 })
}
