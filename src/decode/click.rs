//! Clicks: one JSON event per message.

use storeflow_dataflows::key::{Text, push_varint};

use super::json::{self, Value};
use super::paths::{Paths, Texts};
use super::project::{Hints, Id, Needs, ROOM};
use super::table::Table;
use super::values::{Hint, Times};
use super::{Click, Decoded, Record, Reject, Skipped, cell_key, clock_time, not_an_object, not_json, space};
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
        let captures = space::captures(spec, topic).unwrap_or_default();
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
            Some(id) if !id.lacks(values) => {
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
