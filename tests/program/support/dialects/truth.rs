//! Rows, what happened to them, and in which order a log tells it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::support::histories::START;

/// Sites, each with a database of its own.
pub(crate) const SITES: [&str; 2] = ["seoul", "busan"];

/// The tables of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TableOf {
    Payments,
    Items,
    Products,
    Orders,
}

impl TableOf {
    pub(crate) const ALL: [TableOf; 4] = [TableOf::Payments, TableOf::Items, TableOf::Products, TableOf::Orders];

    pub(crate) fn name(self) -> &'static str {
        match self {
            TableOf::Payments => "payments",
            TableOf::Items => "items",
            TableOf::Products => "products",
            TableOf::Orders => "orders",
        }
    }
}

/// A row; all tables have the same columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) store: u8,
    pub(crate) order: u8,
    pub(crate) product: u8,
    /// Hundredths.
    pub(crate) amount: i32,
    pub(crate) quantity: i8,
    pub(crate) currency: Option<u8>,
    pub(crate) status: Option<u8>,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// A column that the job does not look at.
    pub(crate) note: u8,
}

/// Texts of a status; the first two count.
pub(crate) const STATUSES: [&str; 3] = ["PAID", "REFUNDED", "FAILED"];
/// Currencies; where a row has none it is the first.
pub(crate) const CURRENCIES: [&str; 3] = ["KRW", "USD", "EUR"];

impl Row {
    pub(crate) fn counts(&self) -> bool {
        self.status.is_some_and(|status| status < 2)
    }
}

/// Site, table and key of a row.
pub(crate) type Id = (u8, TableOf, u8);

/// All rows there are.
pub(crate) type State = BTreeMap<Id, Row>;

/// What a client of the database asks for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A new row, or of one that is there the fields of the mask.
    Write {
        key: u8,
        row: Row,
        mask: u16,
    },
    Delete {
        key: u8,
    },
    /// The row gets another key, and new values for the fields of the mask.
    Move {
        key: u8,
        to: u8,
        row: Row,
        mask: u16,
    },
    Truncate,
}

/// What befalls the connector.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    None,
    /// It starts again from so many changes back.
    Again(u8),
    /// It reads all tables, and publishes that so many steps later.
    Snapshot(u8),
}

/// A transaction, and what follows it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) seconds: u16,
    /// By site and table, as indices.
    pub(crate) asks: Vec<(u8, u8, Ask)>,
    pub(crate) trouble: Trouble,
}

/// All that happens.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Rows that were there before the connector was.
    pub(crate) before: Vec<(u8, u8, u8, Row)>,
    pub(crate) steps: Vec<Step>,
}

/// A change of a row, as the database's log has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) site: u8,
    pub(crate) table: TableOf,
    pub(crate) key: u8,
    pub(crate) what: What,
    /// Number of its transaction from 1 on; of a row of a snapshot the last one before.
    pub(crate) transaction: u64,
    /// Its place in the transaction.
    pub(crate) part: u32,
    /// Whether it is the transaction's last.
    pub(crate) last: bool,
    /// When it was committed, milliseconds.
    pub(crate) commit: u64,
    /// The row as it is when somebody looks it up later; `None`: it is gone by then.
    pub(crate) later: Option<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Insert(Row),
    Update {
        old: Row,
        new: Row,
    },
    Delete(Row),
    /// From another key to this.
    Move {
        from: u8,
        old: Row,
        new: Row,
    },
    Truncate,
    /// A row of a snapshot, of the first one or of another.
    Load {
        row: Row,
        first: bool,
    },
}

/// A change in the log, with the time at which it was appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Milliseconds; each entry's is greater than the one before.
    pub(crate) time: u64,
    pub(crate) event: Event,
    /// Number of what was appended together: a transaction, a swath or a snapshot.
    pub(crate) batch: usize,
}

/// What a dialect and its setting can tell.
#[derive(Clone, Debug)]
pub(crate) struct Abilities {
    pub(crate) tables: Vec<TableOf>,
    pub(crate) sites: u8,
    pub(crate) moves: bool,
    pub(crate) truncates: bool,
    /// Snapshots that are published late are known to be old.
    pub(crate) late_snapshots: bool,
}

/// What happened, as told by one log after the other.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) entries: Vec<Entry>,
    /// Instants at which everything was told, in order, with what there was.
    pub(crate) checks: Vec<(u64, State)>,
}

impl Told {
    pub(crate) fn end(&self) -> &State {
        &self.checks.last().expect("at least one").1
    }
}

/// Plays a history.
pub(crate) fn tell(history: &History, abilities: &Abilities) -> Told {
    let mut log = Log {
        abilities,
        state: State::new(),
        clock: START,
        transaction: 1,
        originals: Vec::new(),
        told: Told { entries: Vec::new(), checks: Vec::new() },
        batch: 0,
    };
    for (site, table, key, row) in &history.before {
        let id = (site % abilities.sites, abilities.tables[usize::from(*table) % abilities.tables.len()], *key);
        log.state.insert(id, *row);
    }
    let first = log.snapshot(true);
    log.append(first);
    let mut waiting: Vec<(usize, Vec<Event>)> = Vec::new();
    for (number, step) in history.steps.iter().enumerate() {
        log.clock += u64::from(step.seconds) * 1_000;
        log.transaction += 1;
        let mut events: Vec<Event> = Vec::new();
        for (site, table, ask) in &step.asks {
            log.ask(*site, *table, ask, &mut events);
        }
        if let Some(last) = events.last_mut() {
            last.last = true;
        }
        log.originals.extend(events.iter().copied());
        log.append(events);
        match step.trouble {
            Trouble::None => {}
            Trouble::Again(back) => {
                let from = log.originals.len().saturating_sub(usize::from(back) + 1);
                log.append(log.originals[from..].to_vec());
            }
            Trouble::Snapshot(delay) => {
                let snapshot = log.snapshot(false);
                let delay = if abilities.late_snapshots { usize::from(delay) } else { 0 };
                waiting.push((number + delay, snapshot));
            }
        }
        for (_, snapshot) in waiting.extract_if(.., |(due, _)| *due <= number) {
            log.append(snapshot);
        }
        log.told.checks.push((log.clock, log.state.clone()));
    }
    for (_, snapshot) in waiting {
        log.append(snapshot);
    }
    log.told.checks.push((log.clock, log.state.clone()));
    let later = later(&log.originals);
    for Entry { event, .. } in &mut log.told.entries {
        event.later = later.get(&(event.transaction, event.part)).copied().flatten();
    }
    log.told
}

struct Log<'a> {
    abilities: &'a Abilities,
    state: State,
    clock: u64,
    transaction: u64,
    /// All changes so far, once.
    originals: Vec<Event>,
    told: Told,
    batch: usize,
}

impl Log<'_> {
    fn append(&mut self, events: Vec<Event>) {
        self.batch += 1;
        for event in events {
            self.told.entries.push(Entry { time: self.clock, event, batch: self.batch });
            self.clock += 1;
        }
    }

    fn snapshot(&self, first: bool) -> Vec<Event> {
        let load = |(&(site, table, key), &row): (&Id, &Row)| self.event(site, table, key, What::Load { row, first }, 0);
        self.state.iter().map(load).collect()
    }

    fn event(&self, site: u8, table: TableOf, key: u8, what: What, part: usize) -> Event {
        let (transaction, commit) = (self.transaction, self.clock / 1_000 * 1_000);
        Event { site, table, key, what, transaction, part: part as u32, last: false, commit, later: None }
    }

    fn ask(&mut self, site: u8, table: u8, ask: &Ask, events: &mut Vec<Event>) {
        let (site, table) =
            (site % self.abilities.sites, self.abilities.tables[usize::from(table) % self.abilities.tables.len()]);
        match *ask {
            Ask::Write { key, row, mask } => {
                let what = match self.state.get(&(site, table, key)).copied() {
                    None => What::Insert(row),
                    Some(old) => What::Update { old, new: masked(old, row, mask) },
                };
                let (What::Insert(new) | What::Update { new, .. }) = what else { unreachable!("no other was made") };
                self.state.insert((site, table, key), new);
                events.push(self.event(site, table, key, what, events.len()));
            }
            Ask::Delete { key } => {
                if let Some(old) = self.state.remove(&(site, table, key)) {
                    events.push(self.event(site, table, key, What::Delete(old), events.len()));
                }
            }
            Ask::Move { key, to, row, mask } => {
                let Some(old) = self.state.get(&(site, table, key)).copied() else { return };
                if self.state.contains_key(&(site, table, to)) {
                    return;
                }
                let new = masked(old, row, mask);
                self.state.remove(&(site, table, key));
                self.state.insert((site, table, to), new);
                if self.abilities.moves {
                    events.push(self.event(site, table, to, What::Move { from: key, old, new }, events.len()));
                } else {
                    events.push(self.event(site, table, key, What::Delete(old), events.len()));
                    events.push(self.event(site, table, to, What::Insert(new), events.len()));
                }
            }
            Ask::Truncate => {
                if self.abilities.truncates {
                    self.state.retain(|(s, t, _), _| (*s, *t) != (site, table));
                    events.push(self.event(site, table, 0, What::Truncate, events.len()));
                }
            }
        }
    }
}

/// The fields of the mask from `new`, the others as they were.
fn masked(old: Row, new: Row, mask: u16) -> Row {
    let has = |bit: u16| mask >> bit & 1 == 1;
    Row {
        store: if has(0) { new.store } else { old.store },
        order: if has(1) { new.order } else { old.order },
        product: if has(2) { new.product } else { old.product },
        amount: if has(3) { new.amount } else { old.amount },
        quantity: if has(4) { new.quantity } else { old.quantity },
        currency: if has(5) { new.currency } else { old.currency },
        status: if has(6) { new.status } else { old.status },
        at: if has(7) { new.at } else { old.at },
        note: if has(8) { new.note } else { old.note },
    }
}

/// By transaction and part of an update: what the row is after the change of it that comes next; that is what a connector finds
/// which looks it up too late.
fn later(originals: &[Event]) -> BTreeMap<(u64, u32), Option<Row>> {
    let mut later = BTreeMap::new();
    // By row, seen from the end: what the next change makes of it.
    let mut next: BTreeMap<Id, Option<Row>> = BTreeMap::new();
    for event in originals.iter().rev() {
        let id = |key: u8| (event.site, event.table, key);
        match event.what {
            What::Insert(row) => drop(next.insert(id(event.key), Some(row))),
            What::Update { new, .. } => {
                let after = next.insert(id(event.key), Some(new)).unwrap_or(Some(new));
                later.insert((event.transaction, event.part), after);
            }
            What::Delete(_) => drop(next.insert(id(event.key), None)),
            What::Move { from, new, .. } => {
                next.insert(id(event.key), Some(new));
                next.insert(id(from), None);
            }
            What::Truncate => next.extend((0..=u8::MAX).map(|key| (id(key), None))),
            What::Load { .. } => unreachable!("a snapshot is no change"),
        }
    }
    later
}

fn row() -> impl Strategy<Value = Row> {
    let age = prop_oneof![6 => 0u64..600, 3 => 0u64..10_000, 1 => (0u64..8).prop_map(|k| k * 600)];
    let small = (0u8..4, 0u8..5, 0u8..4, 0u8..6);
    let currency = prop_oneof![2 => Just(None), 3 => (0u8..3).prop_map(Some)];
    let status = prop_oneof![1 => Just(None), 12 => (0u8..3).prop_map(Some)];
    (small, -2_000i32..20_000, -3i8..10, currency, status, age, 0u64..1_000).prop_map(
        |((store, order, product, note), amount, quantity, currency, status, age, millis)| Row {
            store,
            order,
            product,
            amount,
            quantity,
            currency,
            status,
            at: START + 3_600_000 - age * 1_000 + millis,
            note,
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let mask = prop_oneof![3 => any::<u16>(), 2 => (0u16..9).prop_map(|bit| 1 << bit)];
    prop_oneof![
        12 => (0u8..6, row(), mask.clone()).prop_map(|(key, row, mask)| Ask::Write { key, row, mask }),
        4 => (0u8..6).prop_map(|key| Ask::Delete { key }),
        3 => (0u8..6, 0u8..6, row(), mask).prop_map(|(key, to, row, mask)| Ask::Move { key, to, row, mask }),
        1 => Just(Ask::Truncate),
    ]
}

/// Histories of up to so many transactions.
pub(crate) fn history(most: usize) -> impl Strategy<Value = History> {
    let trouble = prop_oneof![
        12 => Just(Trouble::None),
        2 => (0u8..12).prop_map(Trouble::Again),
        2 => (0u8..5).prop_map(Trouble::Snapshot),
    ];
    let seconds = prop_oneof![6 => 0u16..120, 2 => 0u16..1_500];
    let asks = proptest::collection::vec((0u8..2, 0u8..4, ask()), 1..5);
    let step = (seconds, asks, trouble).prop_map(|(seconds, asks, trouble)| Step { seconds, asks, trouble });
    let before = proptest::collection::vec((0u8..2, 0u8..4, 0u8..6, row()), 0..6);
    (before, proptest::collection::vec(step, 1..most)).prop_map(|(before, steps)| History { before, steps })
}
