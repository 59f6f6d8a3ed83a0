//! What the tests of formats share: a source, and records told in a line each.

use storeflow_dataflows::change::{Row, What};
use storeflow_dataflows::key::Key;
use storeflow_dataflows::table::NO_WINDOW;

use super::testing::job_of;
use super::{Decoded, Decoder, KeyParts, Message, Record, Reject, RowChange};
use crate::config::{Format, Job, Role, SourceSpec, TimeSpec, TimeUnit};

/// `id`, `store`, `amount` with two digits, `at` in milliseconds; the currency is the job's.
pub(super) fn payments(format: Format) -> SourceSpec {
    let time = TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None };
    SourceSpec {
        key: vec!["id".into()],
        amount: Some("amount".into()),
        time: Some(time),
        ..SourceSpec::plain("topic", Role::Payments, format, "store")
    }
}

/// Decodes the records of one source, and tells what they say.
pub(super) struct Told {
    decoder: Decoder,
    keys: usize,
}

impl Told {
    pub(super) fn of(spec: &SourceSpec) -> Self {
        let job = Job { currency: Some("KRW".to_owned()), scale: 2, ..job_of(spec.clone()) };
        Told { decoder: Decoder::new(&job, spec, "topic", 5), keys: spec.key.len() }
    }

    pub(super) fn decode(&mut self, key: Option<&str>, value: Option<&str>) -> Result<Record, Reject> {
        self.decoder.decode(Message { key: key.map(str::as_bytes), value: value.map(str::as_bytes), utf8: true })
    }

    /// Of a record without a message key.
    pub(super) fn tell(&mut self, value: &str) -> String {
        self.tell_keyed(None, Some(value))
    }

    /// `row 7: s1 KRW 1250 in 1795168800000; at 12/345/1; own 1795168801000`, or the like.
    pub(super) fn tell_keyed(&mut self, key: Option<&str>, value: Option<&str>) -> String {
        let (mut parts, own_time) = match self.decode(key, value) {
            Err(reject) => return reject.reason.code().to_owned(),
            Ok(Record { decoded, own_time }) => (self.parts(&decoded), own_time),
        };
        parts.extend(own_time.map(|time| format!("own {time}")));
        parts.join("; ")
    }

    fn parts(&self, decoded: &Decoded) -> Vec<String> {
        let version = match decoded {
            Decoded::Change(RowChange { version, .. }) => *version,
            Decoded::Changes(changes) => {
                assert!(changes.len() > 1, "one change is a change");
                assert!(changes.iter().all(|change| change.version == changes[0].version));
                changes[0].version
            }
            Decoded::Truncate(truncate) => truncate.version,
            Decoded::Click(_) | Decoded::Skipped(_) => None,
        };
        let mut parts = match decoded {
            Decoded::Change(change) => vec![self.change(change)],
            Decoded::Changes(changes) => changes.iter().map(|change| self.change(change)).collect(),
            Decoded::Truncate(_) => vec!["truncate".to_owned()],
            Decoded::Skipped(skipped) => vec![format!("skipped {}", skipped.code())],
            Decoded::Click(click) => vec![format!("{click:?}")],
        };
        parts.extend(version.map(|version| {
            let server = if version.server == 0 { String::new() } else { format!(" of {}", version.server) };
            format!("at {}/{}/{}{server}", version.position.0, version.position.1, version.position.2)
        }));
        parts
    }

    fn change(&self, change: &RowChange) -> String {
        let key = self.key(&change.key);
        let told = |row: &Row| {
            let (store, second) = row.cell.cell_parts();
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let window = if row.window == NO_WINDOW { String::new() } else { format!(" in {}", row.window) };
            let lacks = if row.lacks == 0 { String::new() } else { format!(" lacks {:x}", row.lacks) };
            format!("{key}: {} {} {}{window}{lacks}", text(store), text(second), row.amount)
        };
        match &change.what {
            What::Delete => format!("delete {key}"),
            What::Row(row) => format!("row {}", told(row)),
            What::Patch(row, said) => format!("patch {} says {said:x}", told(row)),
            What::Truncate => "truncate".to_owned(),
        }
    }

    fn key(&self, key: &Key) -> String {
        let parts = KeyParts::of(key.text.as_bytes()).expect("a key");
        assert_eq!(parts.space, 5);
        parts.texts(self.keys).expect("texts of the key's fields").join("|")
    }
}
