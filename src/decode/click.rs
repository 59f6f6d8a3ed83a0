//! Clicks: one JSON event per message.

use storeflow_dataflows::key::{Text, push_varint};

use super::json::{self, Value};
use super::paths::{Paths, Texts};
use super::project::{Hints, Id, Needs, ROOM};
use super::table::Table;
use super::values::{Hint, Times};
use super::{Click, Decoded, Record, Reject, Skipped, cell_key, clock_time, not_an_object, not_json};
use crate::config::field_path::FieldPath;
use crate::config::{SourceSpec, StoreSpec};

pub(super) struct Clicks {
    names: Vec<String>,
    paths: Paths,
    field_paths: Vec<FieldPath>,
    /// What is known of the fields, if they are of Avro; else nothing.
    hints: Vec<Hint>,
    store: Id,
    kind: Option<Id>,
    product: Option<Id>,
    time: Option<(usize, Times)>,
    distinct: bool,
    /// Event ids begin with the source's number.
    event: Option<(Vec<u8>, Id)>,
    table: Table,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    store: Vec<u8>,
    kind: Vec<u8>,
    product: Vec<u8>,
    event: Vec<u8>,
    cell: Vec<u8>,
}

impl Clicks {
    pub(super) fn new(spec: &SourceSpec, topic: &str) -> Self {
        let captures = spec.captures(topic).unwrap_or_default();
        let mut needs = Needs::default();
        let StoreSpec::Own(store) = &spec.store else { unreachable!("a click has its store in itself") };
        let store = needs.id(store, &captures);
        let mut id = |id| needs.id(id, &captures);
        let (kind, product) = (spec.kind.as_ref().map(&mut id), spec.product.as_ref().map(&mut id));
        let event = spec.dedup.as_ref().map(|dedup| {
            let mut slot = Vec::new();
            push_varint(&mut slot, spec.slot as u64);
            (slot, id(&dedup.id))
        });
        let time = spec.time.as_ref().map(|time| (needs.add(&time.field), Times::new(&time.unit, time.zone.as_deref())));
        let (names, paths, field_paths) = needs.finish();
        let (distinct, table, scratch) = (spec.distinct, Table::new(spec), Scratch::default());
        Clicks { names, paths, field_paths, hints: Vec::new(), store, kind, product, time, distinct, event, table, scratch }
    }

    /// The needed fields.
    pub(super) fn field_paths(&self) -> &[FieldPath] {
        &self.field_paths
    }

    /// What is known of the next record's fields, where it is JSON of Avro.
    pub(super) fn hints(&mut self) -> &mut [Hint] {
        self.hints.resize(self.paths.len(), Hint::Unknown);
        &mut self.hints
    }

    pub(super) fn decode(&mut self, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Err(not_an_object("an empty message")) };
        let (texts, mut values) = (Texts::default(), ROOM);
        let values = &mut values[..self.paths.len()];
        match json::read(text, self.paths.fields(), values).map_err(not_json)? {
            Value::Object(_) => {}
            _ => return Err(not_an_object("the message")),
        }
        if !self.table.is_any() {
            return Ok(Record::skipped(Skipped::OtherTable, None));
        }
        self.paths.descend(values, &texts, false);
        self.click(values)
    }

    fn click(&mut self, values: &[Value<'_>]) -> Result<Record, Reject> {
        let Scratch { store, kind, product, event, cell } = &mut self.scratch;
        let (names, hints) = (&self.names[..], Hints::Schema(&self.hints));
        self.store.write(values, hints, names, store)?;
        if let Some(id) = &self.kind {
            id.write(values, hints, names, kind)?;
        }
        let product = match &self.product {
            Some(id) if !id.is_null(values) => {
                id.write(values, hints, names, product)?;
                if self.distinct { Text::new(product) } else { Text::EMPTY }
            }
            _ => Text::EMPTY,
        };
        let time = match &self.time {
            Some((at, times)) => {
                let (value, hint) = hints.of(values, *at);
                times.read(value, hint, &names[*at])?
            }
            None => 0,
        };
        let event = match &self.event {
            Some((slot, id)) => {
                id.write(values, hints, names, event)?;
                event.splice(..0, slot.iter().copied());
                Some(Text::new(event))
            }
            None => None,
        };
        let cell = cell_key(store, kind, cell);
        Ok(Record { decoded: Decoded::Click(Click { cell, product, time, event }), own_time: clock_time(time.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::field_path::{FieldPath, IdPart, IdSpec};
    use crate::config::{DedupSpec, Format, Role, TimeSpec, TimeUnit};
    use crate::decode::Reason;
    use crate::decode::testing::decode;

    fn clicks() -> SourceSpec {
        SourceSpec {
            kind: Some("kind".into()),
            product: Some("product".into()),
            time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None }),
            distinct: true,
            ..SourceSpec::plain("t", Role::Clicks, Format::Json, "store")
        }
    }

    fn path(path: &str) -> FieldPath {
        FieldPath::parse(path).expect("a path")
    }

    /// Store and kind, product, time, event.
    type Said = (String, String, u64, Option<Vec<u8>>);

    fn click(spec: &SourceSpec, value: &str) -> Result<Said, Reason> {
        match decode(spec, None, Some(value)).map_err(|reject| reject.reason)?.decoded {
            Decoded::Click(Click { cell, product, time, event }) => {
                let (store, kind) = cell.cell_parts();
                let cell = format!("{} {}", String::from_utf8_lossy(store), String::from_utf8_lossy(kind));
                Ok((cell, product.to_str().into_owned(), time, event.map(|event| event.as_bytes().to_vec())))
            }
            other => panic!("{value} is {other:?}"),
        }
    }

    #[test]
    fn clicks_with_and_without_a_product() {
        let good = |product: &str| Ok(("7 view".to_owned(), product.to_owned(), 5, None));
        for (product, expected) in [
            (r#","product":"p""#, good("p")),
            (r#","product":9"#, good("9")),
            (r#","product":null"#, good("")),
            ("", good("")),
            (r#","product":"""#, Err(Reason::BadId)),
            (r#","product":[]"#, Err(Reason::BadId)),
        ] {
            let value = format!(r#"{{"store":7,"kind":"view","at":5{product}}}"#);
            assert_eq!(click(&clicks(), &value), expected, "{product}");
            let counted = SourceSpec { distinct: false, ..clicks() };
            assert_eq!(click(&counted, &value), expected.and(good("")), "{product}");
        }
        for (value, reason) in [
            (r#"{"kind":"view","at":5}"#, Reason::MissingField),
            (r#"{"store":7,"at":5}"#, Reason::MissingField),
            (r#"{"store":7,"kind":"view","at":"x"}"#, Reason::BadTime),
            ("[]", Reason::NotAnObject),
            ("null", Reason::NotAnObject),
            ("", Reason::NotAnObject),
        ] {
            assert_eq!(click(&clicks(), value), Err(reason), "{value}");
        }
    }

    #[test]
    fn fields_lie_deep_and_ids_are_composed() {
        let spec = SourceSpec {
            topics: vec!["{site}".to_owned()],
            store: StoreSpec::Own(IdSpec::Composed(vec![
                IdPart::Captured("site".to_owned()),
                IdPart::Text(":".to_owned()),
                IdPart::Field(path("ctx.store")),
            ])),
            kind: Some(IdSpec::Field(path("ctx.event.kind"))),
            product: Some(IdSpec::Composed(vec![IdPart::Field(path("a")), IdPart::Field(path("b"))])),
            time: Some(TimeSpec { field: path("ctx.at"), unit: TimeUnit::Millis, zone: None }),
            ..clicks()
        };
        let of = |more: &str| click(&spec, &format!(r#"{{"ctx":{{"store":7,"at":5,"event":{{"kind":"view"}}}}{more}}}"#));
        let good = |product: &str| Ok(("t:7 view".to_owned(), product.to_owned(), 5, None));
        assert_eq!(of(r#","a":1,"b":"x""#), good("1x"));
        assert_eq!(of(r#","a":null"#), good(""));
        assert_eq!(of(r#","a":1"#), Err(Reason::MissingField));
        assert_eq!(of(r#","a":1,"b":null"#), Err(Reason::BadId));
    }

    #[test]
    fn events_are_known_by_source_and_id() {
        let spec = SourceSpec { slot: 300, dedup: Some(DedupSpec { id: "event".into(), horizon: 1 }), ..clicks() };
        let of = |more: &str| click(&spec, &format!(r#"{{"store":7,"kind":"view","at":5{more}}}"#)).map(|(.., event)| event);
        assert_eq!(of(r#","event":"e-1""#), Ok(Some(b"\xac\x02e-1".to_vec())));
        assert_eq!(of(r#","event":12"#), Ok(Some(b"\xac\x0212".to_vec())));
        assert_eq!((of(""), of(r#","event":"""#)), (Err(Reason::MissingField), Err(Reason::BadId)));
    }
}
