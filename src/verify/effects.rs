//! From records to what they do to cells: partitions are read one after the other and stamped, then all changes are
//! applied in their order.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::Recomputation;
use super::clock::{CONFIRMATIONS, Clock};
use super::dataset::for_each_line;
use super::decode::{self, EventId, Key, Outcome, Record, Skip, Space, TopicDecoder};
use super::latest::{Change, Contribution, Effect, KeptRow, KeptStore, Latest, OwnWindow, What};
use super::names::{Names, Texts};
use super::row::{Row, Store, Time};
use super::types::{CellId, DeadLetter, LateRow};
use super::windows::Windows;
use crate::config::{Job, Role};

/// A change of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delta {
    /// The stamp of the record.
    pub(super) stamp: u64,
    /// The cell, by number.
    pub(super) cell: u32,
    /// The product, by number.
    pub(super) member: Option<u32>,
    /// Change of the sum.
    pub(super) sum: i128,
    /// Change of the count.
    pub(super) count: i64,
}

/// Where and when a record is; the order of changes. Partitions are numbered in the order of topic and partition; `line`
/// decides where positions repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    stamp: u64,
    partition: usize,
    position: u64,
    line: u64,
}

/// A click that can be told twice.
#[derive(Debug)]
struct Event {
    place: Place,
    /// By number.
    id: u32,
    /// How long the id is remembered.
    horizon: u64,
    contribution: Contribution,
}

/// All effects of a dataset.
#[derive(Debug)]
pub(super) struct Effects {
    windows: Windows,
    /// By source: how long an event's id is remembered.
    remembered: Vec<u64>,
    /// Whether rows may have to wait for those of a lookup.
    has_lookups: bool,
    /// Topic and partition of what was read, ascending.
    partitions: Vec<(String, u32)>,
    cells: Names<CellId>,
    members: Names<Arc<str>>,
    keys: Names<Key>,
    spaces: Names<Space>,
    /// By key.
    space_of: Vec<u32>,
    ids: Names<EventId>,
    texts: Texts,
    /// Changes of keys, to be applied when all are known; likewise of clicks that can be told twice.
    changes: Vec<(Place, Change)>,
    events: Vec<Event>,
    deltas: Vec<Delta>,
    late: Vec<(Place, Contribution)>,
    dead_letters: Vec<(DeadLetter, u64)>,
    records: Vec<u64>,
    skipped: Vec<(u64, Skip)>,
    stale: Vec<u64>,
    corrections: Vec<u64>,
    duplicate_clicks: Vec<u64>,
    clock_jumps: Vec<u64>,
}

impl Effects {
    /// Of nothing.
    pub(super) fn new(job: &Job) -> Self {
        Effects {
            windows: Windows::of(job),
            remembered: job.sources.iter().map(|source| source.dedup.as_ref().map_or(0, |dedup| dedup.horizon)).collect(),
            has_lookups: job.sources.iter().any(|source| source.role == Role::Lookup),
            partitions: Vec::new(),
            cells: Names::new(),
            members: Names::new(),
            keys: Names::new(),
            spaces: Names::new(),
            space_of: Vec::new(),
            ids: Names::new(),
            texts: Texts::default(),
            changes: Vec::new(),
            events: Vec::new(),
            deltas: Vec::new(),
            late: Vec::new(),
            dead_letters: Vec::new(),
            records: Vec::new(),
            skipped: Vec::new(),
            stale: Vec::new(),
            corrections: Vec::new(),
            duplicate_clicks: Vec::new(),
            clock_jumps: Vec::new(),
        }
    }

    /// Reads a partition to its end. Partitions must come in the order of topic and number.
    pub(super) fn read_partition(&mut self, decoder: &TopicDecoder<'_>, partition: u32, content: impl BufRead) -> io::Result<()> {
        let name = (decoder.topic.to_string(), partition);
        assert!(self.partitions.last().is_none_or(|last| *last < name), "partitions come in order and once");
        self.partitions.push(name);

        // The clock starts when its first records are known; they wait for it here.
        let mut first: Vec<(u64, Record)> = Vec::new();
        let mut clock: Option<Clock> = None;
        for_each_line(content, |line, bytes| {
            let Some(record) = decoder.record(line, bytes) else { return };
            match &mut clock {
                Some(clock) => self.record(clock, line, record),
                None => {
                    first.push((line, record));
                    if first.len() == CONFIRMATIONS {
                        clock = Some(self.start_clock(std::mem::take(&mut first)));
                    }
                }
            }
        })?;
        self.start_clock(first);
        Ok(())
    }

    fn start_clock(&mut self, first: Vec<(u64, Record)>) -> Clock {
        let mut clock = Clock::starting(first.iter().map(|(_, record)| record.timestamp));
        for (line, record) in first {
            self.record(&mut clock, line, record);
        }
        clock
    }

    fn record(&mut self, clock: &mut Clock, line: u64, record: Record) {
        let (stamp, jumped) = clock.stamp(record.timestamp);
        let place = Place { stamp, partition: self.partitions.len() - 1, position: record.position, line };
        self.records.push(stamp);
        if jumped {
            self.clock_jumps.push(stamp);
        }
        match record.outcome {
            Outcome::Dead(reason) => {
                let (topic, partition) = self.partitions[place.partition].clone();
                self.dead_letters.push((DeadLetter { topic, partition, position: record.position, reason }, stamp));
            }
            Outcome::Skipped(why) => self.skipped.push((stamp, why)),
            Outcome::Event(row, id) => self.event(place, row, id),
            Outcome::Changes(changes) => {
                for change in changes {
                    let change = self.keep(stamp, change);
                    self.changes.push((place, change));
                }
            }
            Outcome::Truncate(space, version) => {
                let what = What::Truncate(self.spaces.number(space));
                self.changes.push((place, Change { stamp, version, what }));
            }
        }
    }

    fn event(&mut self, place: Place, row: Row, id: Option<EventId>) {
        let row = self.keep_row(row, None);
        let (Some(KeptStore::Own(store)), Some(OwnWindow::At(window))) = (&row.store, row.window) else { return };
        let (table, second) = (row.table.expect("clicks have a table"), row.second.as_deref().unwrap_or_default());
        let cell = CellId { table, store: store.to_string(), second: second.to_string(), window: Some(window) };
        let cell = self.cells.number(cell);
        let contribution = Contribution { cell, window: Some(window), member: row.member.flatten(), sum: 0, count: 1 };
        match id {
            Some(id) => {
                let source = id.source;
                let id = self.ids.number(id);
                self.events.push(Event { place, id, horizon: self.remembered[source], contribution });
            }
            None => self.exchange(place, None, Some(contribution)),
        }
    }

    /// Numbers a change's names.
    fn keep(&mut self, stamp: u64, change: decode::Change) -> Change {
        let decode::Change { key, version, row, refers_to } = change;
        let key = self.number_key(key);
        let what = match row {
            None => What::Delete(key),
            Some(row) => {
                let refers_to = refers_to.map(|key| self.number_key(key));
                let patch = row.is_patch();
                What::Row { key, row: self.keep_row(row, refers_to), patch }
            }
        };
        Change { stamp, version, what }
    }

    fn number_key(&mut self, key: Key) -> u32 {
        let space = self.spaces.number(key.space.clone());
        let number = self.keys.number(key);
        if number as usize == self.space_of.len() {
            self.space_of.push(space);
        }
        number
    }

    fn keep_row(&mut self, row: Row, refers_to: Option<u32>) -> KeptRow {
        let Row { table, store, second, member, sum, time, conditions, keep } = row;
        let texts = &mut self.texts;
        KeptRow {
            table,
            store: store.map(|store| match store {
                Store::Own(store) => KeptStore::Own(texts.keep(&store)),
                Store::Through(_) => KeptStore::Through(refers_to.expect("a row that refers to another says to which")),
            }),
            second: second.map(|second| texts.keep(&second)),
            member: member.map(|member| member.map(|member| texts.keep(&member))),
            sum,
            window: time.map(|time| match time {
                Time::Without => OwnWindow::Without,
                Time::Elsewhere => OwnWindow::Elsewhere,
                Time::At(millis) => OwnWindow::At(self.windows.start(millis)),
            }),
            conditions: conditions.into(),
            keep,
        }
    }

    /// Takes one contribution out and puts another in; what belongs to an expired window becomes a late adjustment.
    fn exchange(&mut self, place: Place, taken: Option<Contribution>, put: Option<Contribution>) {
        let sides = match (taken, put) {
            (Some(taken), Some(put)) if (taken.cell, &taken.member) == (put.cell, &put.member) => {
                [Some(Contribution { sum: put.sum - taken.sum, count: put.count - taken.count, ..put }), None]
            }
            (taken, put) => [taken.map(|taken| Contribution { sum: -taken.sum, count: -taken.count, ..taken }), put],
        };
        for side in sides.into_iter().flatten() {
            if side.sum == 0 && side.count == 0 {
                continue;
            }
            if side.window.is_some_and(|window| self.windows.expiry(window) <= place.stamp) {
                self.late.push((place, side));
                continue;
            }
            if side.window.is_some_and(|window| self.windows.own_epoch(window) <= place.stamp) {
                self.corrections.push(place.stamp);
            }
            let member = side.member.map(|member| self.members.number(member));
            self.deltas.push(Delta { stamp: place.stamp, cell: side.cell, member, sum: side.sum, count: side.count });
        }
    }

    /// Counts the clicks that can be told twice, in their order.
    fn count_events(&mut self) {
        let mut counted: HashMap<u32, u64> = HashMap::new();
        let mut events = std::mem::take(&mut self.events);
        events.sort_by_key(|event| event.place);
        for Event { place, id, horizon, contribution } in events {
            if counted.get(&id).is_some_and(|before| place.stamp - before < horizon) {
                self.duplicate_clicks.push(place.stamp);
            } else {
                counted.insert(id, place.stamp);
                self.exchange(place, None, Some(contribution));
            }
        }
    }

    /// Applies the changes and puts everything in order.
    pub(super) fn finish(mut self) -> Recomputation {
        self.count_events();
        let mut latest = Latest::new(self.windows);
        let mut changes = std::mem::take(&mut self.changes);
        changes.sort_by_key(|(place, _)| *place);
        for (place, change) in &changes {
            for effect in latest.apply(change, &self.space_of, &mut self.cells) {
                match effect {
                    Effect::Stale => self.stale.push(place.stamp),
                    Effect::Exchange { taken, put } => self.exchange(*place, taken, put),
                }
            }
        }

        let cells = self.cells.into_list();
        let late_row = |(place, side): (Place, Contribution)| {
            let (topic, partition) = self.partitions[place.partition].clone();
            let (cell, epoch) = (cells[side.cell as usize].clone(), self.windows.epoch_of(place.stamp));
            let Place { stamp, position, .. } = place;
            LateRow { stamp, topic, partition, position, cell, sum: side.sum, count: side.count, epoch }
        };
        let mut late: Vec<LateRow> = self.late.into_iter().map(late_row).collect();
        late.sort_unstable();
        self.dead_letters.sort_unstable();
        self.deltas.sort_by_key(|delta| delta.stamp);
        self.skipped.sort_unstable();
        for stamps in
            [&mut self.records, &mut self.stale, &mut self.corrections, &mut self.duplicate_clicks, &mut self.clock_jumps]
        {
            stamps.sort_unstable();
        }
        let changes = if self.has_lookups { changes.into_iter().map(|(_, change)| change).collect() } else { Vec::new() };
        Recomputation {
            windows: self.windows,
            cells,
            deltas: self.deltas,
            late,
            dead_letters: self.dead_letters,
            records: self.records,
            skipped: self.skipped,
            stale: self.stale,
            corrections: self.corrections,
            duplicate_clicks: self.duplicate_clicks,
            clock_jumps: self.clock_jumps,
            changes,
            space_of: self.space_of,
        }
    }
}
