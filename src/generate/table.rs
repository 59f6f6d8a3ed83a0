//! A table of the mall and how its changes become records: one loop for payments, order items and products.
//!
//! ```text
//! creations ─► schedule ─► step due ─► the row's own dice ─► life, delay, row ─► connector
//!                 ▲                                            │
//!                 └───────────── its next step ────────────────┘
//! ```
//!
//! Upholds: every change is counted where it is published, so the summary cannot say anything else than the files.

use super::connector::{Connector, Payload};
use super::envelope::Flaw;
use super::life::{Delay, Due, Life, Schedule, Step, Tempo};
use super::random::{Dice, Stream};
use super::{GenerateError, Options, TopicSummary};

/// How a table's records look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Debezium's envelope; a tombstone follows each delete.
    Debezium,
    /// The row alone; a tombstone is the delete.
    Upsert,
}

/// A step of a row, with all that is drawn from the row's dice before the row itself.
pub(super) struct Turn<'a> {
    /// Which step of which row.
    pub(super) due: Due,
    /// What it is.
    pub(super) step: Step,
    /// The whole life of the row.
    pub(super) life: &'a Life,
    /// How far before its creation its event was.
    pub(super) delay: Delay,
}

/// What a table has to know of itself.
pub(super) trait Table {
    /// Whose dice.
    const STREAM: Stream;
    /// How its records look.
    const FORM: Form;
    /// How soon things happen.
    const TEMPO: Tempo;
    /// Whether its rows have an event time, which can be late.
    const EVENT_TIME: bool = true;
    /// How its records can be broken.
    const FLAWS: &'static [Flaw];

    /// Whether a row is there from the start, and read by a snapshot.
    fn in_snapshot(&self, _row: u64) -> bool {
        false
    }

    /// Follows the life of a row up to a turn, with the row's dice.
    fn turn(&mut self, dice: &mut Dice, turn: &Turn<'_>);

    /// Writes the key of the row whose turn it is.
    fn key(&self, out: &mut Vec<u8>);

    /// Writes the record of the turn; with a flaw, as its broken copy.
    fn body(&mut self, out: &mut Vec<u8>, flaw: Option<Flaw>);
}

impl Turn<'_> {
    /// The steps after the creation, up to and including this one.
    pub(super) fn later_steps(&self) -> &[(i64, Step)] {
        &self.life.until(self.due.step)[1..]
    }
}

/// Publishes a table whose rows are created at these instants.
pub(super) fn publish<T: Table>(
    options: &Options,
    mut table: T,
    end_ms: i64,
    creations: impl Iterator<Item = (u64, i64)>,
    mut connector: Connector,
) -> Result<TopicSummary, GenerateError> {
    let mut schedule = Schedule::new(creations);
    let (mut key, mut body) = (Vec::new(), Vec::new());
    while let Some(due) = schedule.next() {
        let mut dice = Dice::of(options.seed, T::STREAM, due.row);
        let life = Life::draw(&mut dice, T::TEMPO, due.created_ms, end_ms, &options.shares);
        schedule.enter_next(due, &life);
        let delay = match T::EVENT_TIME {
            true => Delay::draw(&mut dice, &options.shares, true),
            false => Delay::None,
        };
        let turn = Turn { due, step: life.step(due.step), life: &life, delay };
        table.turn(&mut dice, &turn);
        count(&table, &turn, &mut connector);
        key.clear();
        table.key(&mut key);
        if turn.step == Step::Delete && T::FORM == Form::Upsert {
            connector.send(due.at_ms, &key, Payload::Tombstone)?;
            continue;
        }
        body.clear();
        table.body(&mut body, None);
        connector.send(due.at_ms, &key, payload::<T>(&body))?;
        if turn.step == Step::Delete {
            connector.send(due.at_ms, &key, Payload::Tombstone)?;
        } else if let Some(flaw) = connector.flaw(T::FLAWS) {
            body.clear();
            table.body(&mut body, Some(flaw));
            connector.send_broken(&key, payload::<T>(&body), flaw)?;
        }
    }
    connector.finish()
}

fn payload<T: Table>(body: &[u8]) -> Payload<'_> {
    match T::FORM {
        Form::Debezium => Payload::Debezium(body),
        Form::Upsert => Payload::Row(body),
    }
}

fn count<T: Table>(table: &T, turn: &Turn<'_>, connector: &mut Connector) {
    let counts = &mut connector.counts;
    match turn.step {
        Step::Create if table.in_snapshot(turn.due.row) => counts.snapshot += 1,
        Step::Create => {
            counts.inserts += 1;
            turn.delay.count(counts);
        }
        Step::Change | Step::Move | Step::Refund => {
            counts.updates += 1;
            counts.store_moves += u64::from(turn.step == Step::Move);
            counts.refunds += u64::from(turn.step == Step::Refund);
        }
        Step::Delete => {
            counts.deletes += 1;
            counts.tombstones += u64::from(T::FORM == Form::Debezium);
        }
    }
}
