//! Source versions: where a database stood when it made a change, and the names of its incarnations.

use storeflow_dataflows::change::{Position, Version};

use super::json::{self, Fields, Value};
use super::{text_of, unsigned, values};
use crate::config::SourceSpec;

/// Stable names of incarnations. Records of one are followed by more of it, so the last is kept.
#[derive(Default)]
pub(super) struct Incarnations {
    /// What the job file adds to each.
    own: Option<Vec<u8>>,
    parts: Vec<u8>,
    last: (Vec<u8>, u64),
}

impl Incarnations {
    pub(super) fn new(spec: &SourceSpec) -> Self {
        Incarnations { own: spec.incarnation.clone().map(String::into_bytes), ..Incarnations::default() }
    }

    /// The number of an incarnation by what names it, beginning with what kind of position it has. The parts are separated by a
    /// byte that no valid text holds.
    pub(super) fn name(&mut self, parts: &[&[u8]]) -> u64 {
        self.parts.clear();
        for part in parts.iter().copied().chain(self.own.as_deref()) {
            self.parts.extend_from_slice(part);
            self.parts.push(0xff);
        }
        if self.last.0 != self.parts {
            self.last.1 = xxhash_rust::xxh3::xxh3_64(&self.parts);
            self.last.0.clone_from(&self.parts);
        }
        self.last.1
    }

    /// A row of a binlog: `file`, `pos` and `row` by themselves.
    pub(super) fn mysql(&mut self, name: Value<'_>, [file, pos, row, server_id]: [Value<'_>; 4]) -> Option<Version> {
        let file = text_of(file);
        let (base, number) = binlog_file(&file)?;
        let pos = unsigned(pos).filter(|&pos| pos > 0)?;
        let incarnation = self.name(&[b"mysql", &text_of(name), base]);
        Some(Version { incarnation, server: small(server_id), position: Position(number, pos, small(row)) })
    }

    /// A place in PostgreSQL's log: `lsn`, or else the last item of `sequence`, the JSON text of an array, as rows of incremental snapshots
    /// have it.
    pub(super) fn postgres(&mut self, name: Value<'_>, db: Value<'_>, lsn: Value<'_>, sequence: Value<'_>) -> Option<Version> {
        let lsn = unsigned(lsn).filter(|&lsn| lsn > 0).or_else(|| last_of(sequence))?;
        let incarnation = self.name(&[b"postgresql", &text_of(name), &text_of(db)]);
        Some(Version { incarnation, server: 0, position: Position(0, lsn, 0) })
    }

    /// A cluster time as Debezium writes it: whole seconds in milliseconds, and the ordinal within the second.
    pub(super) fn mongodb(&mut self, name: Value<'_>, rs: Value<'_>, ts_ms: Value<'_>, ord: Value<'_>) -> Option<Version> {
        let seconds = u32::try_from(unsigned(ts_ms).filter(|&millis| millis > 0)? / 1_000).ok()?;
        let position = cluster_time(seconds, u32::try_from(unsigned(ord)?).ok()?);
        let incarnation = self.name(&[b"mongodb", &text_of(name), &text_of(rs)]);
        Some(Version { incarnation, server: 0, position })
    }
}

/// The number above 0 that is the text of the last item of an array in JSON text.
fn last_of(sequence: Value<'_>) -> Option<u64> {
    let text = text_of(sequence);
    let Ok(Value::Array(array)) = json::read(&text, &Fields::new::<&[u8]>([]), &mut []) else { return None };
    let lsn = values::integer(&text_of(json::items(array).last()?)).and_then(|lsn| u64::try_from(lsn).ok());
    lsn.filter(|&lsn| lsn > 0)
}

/// A binlog file's base name and number: what is before and behind its last dot.
pub(super) fn binlog_file(file: &[u8]) -> Option<(&[u8], u32)> {
    let dot = file.iter().rposition(|&byte| byte == b'.')?;
    let number = Some(&file[dot + 1..]).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let number = number.and_then(values::integer).and_then(|number| u32::try_from(number).ok())?;
    Some((&file[..dot], number))
}

/// The position of a cluster time: seconds, and the ordinal within the second.
pub(super) fn cluster_time(seconds: u32, ordinal: u32) -> Position {
    Position(0, u64::from(seconds) << 32 | u64::from(ordinal), 0)
}

/// A number of 32 bits; 0 for anything else.
pub(super) fn small(value: Value<'_>) -> u32 {
    unsigned(value).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, Role};

    #[test]
    fn an_incarnation_of_the_job_file_is_another_incarnation() {
        let mut spec = SourceSpec::plain("t", Role::Products, Format::Debezium, "store");
        let number = |text: &'static str| Value::Number(text.as_bytes());
        let of = |spec: &SourceSpec| {
            Incarnations::new(spec)
                .postgres(Value::Plain(b"shop"), Value::Plain(b"db"), number("7"), Value::Absent)
                .expect("a version")
        };
        let plain = of(&spec);
        assert_eq!(plain.incarnation, xxhash_rust::xxh3::xxh3_64(b"postgresql\xffshop\xffdb\xff"), "part of checkpoints");
        spec.incarnation = Some("after the failover".to_owned());
        assert_ne!(of(&spec).incarnation, plain.incarnation);
        assert_eq!(of(&spec).position, plain.position);
    }

    #[test]
    fn cluster_times() {
        let mut incarnations = Incarnations::default();
        let mut of = |ts_ms: &'static str, ord: &'static str| {
            let number = |text: &'static str| if text.is_empty() { Value::Null } else { Value::Number(text.as_bytes()) };
            let version = incarnations.mongodb(Value::Plain(b"m"), Value::Absent, number(ts_ms), number(ord));
            version.map(|version| version.position)
        };
        assert_eq!(of("1700000000000", "3"), Some(Position(0, (1_700_000_000 << 32) + 3, 0)));
        assert_eq!(of("1700000000999", "0"), Some(Position(0, 1_700_000_000 << 32, 0)));
        assert_eq!((of("0", "3"), of("1700000000000", ""), of("", "1")), (None, None, None));
        assert_eq!((of("18446744073709551615", "1"), of("1700000000000", "4294967296")), (None, None));
    }
}
