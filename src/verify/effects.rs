//! From records to what they do to cells: partitions are read one after the other and stamped, then all changes are
//! applied in their order.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, BufRead};

use super::Recomputation;
use super::clock::{CONFIRMATIONS, Clock};
use super::dataset::for_each_line;
use super::decode::{Key, Outcome, Record, TopicDecoder, Version};
use super::latest::{Contribution, Effect, KeptRow, Latest};
use super::row::Row;
use super::types::{CellId, DeadLetter, LateRow};
use super::windows::Windows;
use crate::config::Job;

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
    /// Change of the count: 1, 0 or -1.
    pub(super) count: i8,
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

/// A change with its names numbered.
#[derive(Debug)]
struct Change {
    place: Place,
    key: u32,
    version: Option<Version>,
    row: Option<KeptRow>,
}

/// All effects of a dataset.
#[derive(Debug)]
pub(super) struct Effects {
    windows: Windows,
    /// Topic and partition of what was read, ascending.
    partitions: Vec<(String, u32)>,
    cells: Names<CellId>,
    members: Names<String>,
    keys: Names<Key>,
    /// Changes of keys, to be applied when all are known.
    changes: Vec<Change>,
    deltas: Vec<Delta>,
    late: Vec<(Place, Contribution, i8)>,
    dead_letters: Vec<(DeadLetter, u64)>,
    records: Vec<u64>,
    skipped: Vec<u64>,
    stale: Vec<u64>,
    corrections: Vec<u64>,
    clock_jumps: Vec<u64>,
}

impl Effects {
    /// Of nothing.
    pub(super) fn new(job: &Job) -> Self {
        Effects {
            windows: Windows::of(job),
            partitions: Vec::new(),
            cells: Names(HashMap::new()),
            members: Names(HashMap::new()),
            keys: Names(HashMap::new()),
            changes: Vec::new(),
            deltas: Vec::new(),
            late: Vec::new(),
            dead_letters: Vec::new(),
            records: Vec::new(),
            skipped: Vec::new(),
            stale: Vec::new(),
            corrections: Vec::new(),
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
            Outcome::Skipped => self.skipped.push(stamp),
            Outcome::Event(row) => {
                let row = self.keep(row);
                if row.counts {
                    self.exchange(place, None, Some(row.contribution));
                }
            }
            Outcome::Change(key, version, row) => {
                let key = self.keys.number(key);
                let row = row.map(|row| self.keep(row));
                self.changes.push(Change { place, key, version, row });
            }
        }
    }

    /// Numbers a row's names.
    fn keep(&mut self, row: Row) -> KeptRow {
        let window = row.cell.window;
        let member = row.member.map(|member| self.members.number(member));
        let contribution = Contribution { cell: self.cells.number(row.cell), window, member, sum: row.sum };
        KeptRow { contribution, counts: row.counts }
    }

    /// Takes one contribution out and puts another in; what belongs to an expired window becomes a late adjustment.
    fn exchange(&mut self, place: Place, taken: Option<Contribution>, put: Option<Contribution>) {
        let sides = match (taken, put) {
            (Some(taken), Some(put)) if (taken.cell, taken.member) == (put.cell, put.member) => {
                [Some((Contribution { sum: put.sum - taken.sum, ..put }, 0)), None]
            }
            _ => [taken.map(|taken| (Contribution { sum: -taken.sum, ..taken }, -1)), put.map(|put| (put, 1))],
        };
        for (side, count) in sides.into_iter().flatten() {
            if side.sum == 0 && count == 0 {
                continue;
            }
            if side.window.is_some_and(|window| self.windows.expiry(window) <= place.stamp) {
                self.late.push((place, side, count));
                continue;
            }
            if side.window.is_some_and(|window| self.windows.own_epoch(window) <= place.stamp) {
                self.corrections.push(place.stamp);
            }
            self.deltas.push(Delta { stamp: place.stamp, cell: side.cell, member: side.member, sum: side.sum, count });
        }
    }

    /// Applies the changes and puts everything in order.
    pub(super) fn finish(mut self) -> Recomputation {
        let mut latest = Latest::default();
        let mut changes = std::mem::take(&mut self.changes);
        changes.sort_by_key(|change| change.place);
        for Change { place, key, version, row } in changes {
            match latest.apply(self.windows, key, place.stamp, version, row) {
                Effect::Stale => self.stale.push(place.stamp),
                Effect::Exchange { taken, put } => self.exchange(place, taken, put),
            }
        }

        let cells = self.cells.into_list();
        let late_row = |(place, side, count): (Place, Contribution, i8)| {
            let (topic, partition) = self.partitions[place.partition].clone();
            let (cell, epoch) = (cells[side.cell as usize].clone(), self.windows.epoch_of(place.stamp));
            let Place { stamp, position, .. } = place;
            LateRow { stamp, topic, partition, position, cell, sum: side.sum, count: count.into(), epoch }
        };
        let mut late: Vec<LateRow> = self.late.into_iter().map(late_row).collect();
        late.sort_unstable();
        self.dead_letters.sort_unstable();
        self.deltas.sort_by_key(|delta| delta.stamp);
        for stamps in [&mut self.records, &mut self.skipped, &mut self.stale, &mut self.corrections, &mut self.clock_jumps] {
            stamps.sort_unstable();
        }
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
            clock_jumps: self.clock_jumps,
        }
    }
}

/// Numbers for names.
#[derive(Debug)]
struct Names<T>(HashMap<T, u32>);

impl<T: Hash + Eq> Names<T> {
    fn number(&mut self, name: T) -> u32 {
        let next = u32::try_from(self.0.len()).expect("fewer than 2^32 names");
        *self.0.entry(name).or_insert(next)
    }

    fn into_list(self) -> Vec<T> {
        let mut names: Vec<(T, u32)> = self.0.into_iter().collect();
        names.sort_unstable_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect()
    }
}
