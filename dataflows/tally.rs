//! Tallies: contributions in, new values of cells and rows of history out.
//!
//! ```text
//! contributions ─(by shard of store)─► stash per tick ─frontier─► windows: cell ─► value ─┬─► cell changes, window expiries ─► view
//! ends ─(to all)───────────────────────────────────────────────────────────────────────   └─► rows of epochs ─► history
//! ```
//!
//! Upholds, at every as-of: (1) a cell's value is the sum of the contributions before it, and a cell exists iff its count is
//! not zero; (2) history holds each epoch's cells as of exactly that epoch; (3) a revision counts the epochs after the
//! window's own at which the published value differs from the one before.
//! **Times**: everything that first shows at as-ofs greater than `a` is sent at time `a`, so whoever has seen the frontier
//! reach T holds exactly what as-of T shows.
//!
//! Every row of changed state (see [`crate::state`]) is sent with what it makes show, so the same cut holds for both.
//!
//! Keeps: per window a map of cells, and of distinct products; both go at once when the window has expired and its last
//! corrections are in history. For closed windows, the values published at the last epoch of cells changed since.
//!
//! Absent on purpose: retractions of expired windows, and any decision about expiry or closing of a record: contributions
//! arrive judged.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::collection::VecCollection;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;

use crate::cells::ChangedCells;
use crate::epoch::Horizons;
use crate::key::{Key, Text, WordMap};
use crate::measure::{Contribution, Measure};
use crate::stash::Stash;
use crate::state::StateChange;
use crate::table::{CellChange, HistoryRow, NO_WINDOW, Table, Value, Window, WindowExpiry};

/// What a tally tells the outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Published {
    /// A cell has a new value or none.
    Cell(CellChange),
    /// A window left the view.
    Expired(WindowExpiry),
    /// A cell at an epoch.
    History(HistoryRow),
    /// What touched keys have now; only if it is tracked.
    State(StateChange),
}

/// How a worker's source came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It has read all there was. The first instant after all its records, milliseconds; 0 if there were none.
    Complete(u64),
    /// It was told to stop. The tick boundary before which it has read everything; `u64::MAX` of a source that held nobody back.
    Stopped(u64),
}

/// How far log time got when the input of all workers is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending {
    complete: u64,
    stopped: Option<u64>,
}

impl Ending {
    /// Adds what a worker's source says.
    pub fn add(&mut self, end: End) {
        match end {
            End::Complete(end) => self.complete = self.complete.max(end),
            End::Stopped(u64::MAX) => {}
            End::Stopped(at) => self.stopped = Some(self.stopped.map_or(at, |stopped| stopped.min(at))),
        }
    }

    /// No as-of after this one holds all of its records: a source has stopped there.
    pub fn limit(&self) -> Option<u64> {
        self.stopped
    }

    /// The last as-of. Of a complete input the one that holds all of it, in whole seconds, so that it does not depend on the
    /// tick; of a stopped one the last before which nothing is missing.
    pub fn as_of(&self) -> u64 {
        self.stopped.unwrap_or(self.complete.div_ceil(1_000) * 1_000)
    }
}

/// Accumulates contributions per cell and publishes what changes, at every tick, epoch and expiry.
///
/// `ends` carries how each worker's source came to its end; once the input is over, they say how far log time got, and epochs up
/// to there are closed.
pub fn tally<'scope>(
    contributions: VecCollection<'scope, u64, Contribution, Measure>,
    ends: StreamVec<'scope, u64, End>,
    table: Table,
    horizons: Horizons,
) -> StreamVec<'scope, u64, Published> {
    tally_from(contributions, ends, TallyState::new(table, horizons))
}

/// As [`tally`], going on from what is known already.
pub fn tally_from<'scope>(
    contributions: VecCollection<'scope, u64, Contribution, Measure>,
    ends: StreamVec<'scope, u64, End>,
    mut state: TallyState,
) -> StreamVec<'scope, u64, Published> {
    let table = state.table;
    let route = |(contribution, _, _): &(Contribution, u64, Measure)| contribution.cell.shard();
    contributions.inner.binary_frontier::<_, CapacityContainerBuilder<Vec<Published>>, _, _, _, _>(
        ends.broadcast(),
        Exchange::new(route),
        Pipeline,
        &format!("Tally: {}", table.name()),
        |capability, _| {
            let mut capability = Some(capability);
            let mut stash: Stash<(Contribution, Measure)> = Stash::default();
            let mut ending = Ending::default();
            move |(input, frontier), (ends, ends_frontier), output| {
                input.for_each(|_, batch| {
                    stash.extend(batch.drain(..).map(|(contribution, time, measure)| (time, (contribution, measure))));
                });
                ends.for_each(|_, batch| {
                    batch.drain(..).for_each(|end| ending.add(end));
                });
                let Some(held) = &mut capability else { return };
                let frontier = match (frontier.frontier().first(), ends_frontier.frontier().first()) {
                    (Some(a), Some(b)) => Some(*a.min(b)),
                    (a, b) => a.or(b).copied(),
                };
                let due = stash.before(frontier);
                let mut send = |after: u64, out: &mut Vec<Published>| {
                    if !out.is_empty() {
                        held.downgrade(&after.max(*held.time()));
                        output.session(&*held).give_iterator(out.drain(..));
                    }
                };
                for (time, mut contributions) in due {
                    state.advance(time, &mut send);
                    state.apply(time, &mut contributions, &mut send);
                    stash.recycle(contributions);
                }
                state.advance(frontier.unwrap_or(ending.as_of()), &mut send);
                match frontier {
                    Some(frontier) => held.downgrade(&frontier),
                    None => capability = None,
                }
            }
        },
    )
}

/// The cells of one window.
#[derive(Default)]
pub(crate) struct Cells {
    pub(crate) cells: WordMap<Key, CellState>,
    /// Rows per (cell, product).
    pub(crate) members: WordMap<(u32, Text), i64>,
    /// Its own epoch has passed.
    pub(crate) closed: bool,
    /// It has left the view.
    pub(crate) hidden: bool,
    /// Cells changed since the last epoch, with what that epoch published; kept for closed windows only.
    pub(crate) dirty: WordMap<Key, Value>,
    pub(crate) next_id: u32,
}

pub(crate) struct CellState {
    pub(crate) value: Value,
    pub(crate) revision: u32,
    /// Small name of the cell within its window, for `members`.
    pub(crate) id: u32,
    /// The tick that last listed this cell as touched.
    pub(crate) touched: u32,
}

/// The state of [`tally`] on one worker, without the dataflow around it.
pub struct TallyState {
    pub(crate) table: Table,
    pub(crate) horizons: Horizons,
    pub(crate) windows: BTreeMap<Window, Cells>,
    /// Windows whose own epoch has not passed.
    pub(crate) open: BTreeSet<Window>,
    /// Windows that have not left the view, and those that have but are still kept.
    pub(crate) shown: BTreeSet<Window>,
    pub(crate) hidden: BTreeSet<Window>,
    /// Windows with dirty cells, and the epoch that will publish them.
    pub(crate) dirty: BTreeSet<Window>,
    pub(crate) dirty_epoch: Option<u64>,
    pub(crate) changed: Option<ChangedCells>,
    tick: u32,
    touched: Vec<(Window, Key)>,
    out: Vec<Published>,
}

type Send<'a> = &'a mut dyn FnMut(u64, &mut Vec<Published>);

impl TallyState {
    /// No cells yet.
    pub fn new(table: Table, horizons: Horizons) -> Self {
        TallyState {
            table,
            horizons,
            windows: BTreeMap::new(),
            open: BTreeSet::new(),
            shown: BTreeSet::new(),
            hidden: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dirty_epoch: None,
            changed: None,
            tick: 0,
            touched: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Applies the contributions of one tick, and leaves none; every epoch up to `time` has been advanced over.
    fn apply(
        &mut self,
        time: u64,
        contributions: &mut Vec<(Contribution, Measure)>,
        send: &mut impl FnMut(u64, &mut Vec<Published>),
    ) {
        self.tick = self.tick.wrapping_add(1);
        let mut last: Option<(Window, &mut Cells)> = None;
        for (Contribution { window, cell: key, member }, measure) in contributions.drain(..) {
            let cells = match last.take() {
                Some((at, cells)) if at == window => cells,
                _ => self.windows.entry(window).or_insert_with(|| {
                    let closed = window == NO_WINDOW || self.horizons.own_epoch(window) <= time;
                    if !closed {
                        self.open.insert(window);
                    }
                    if window != NO_WINDOW {
                        self.shown.insert(window);
                    }
                    Cells { closed, ..Cells::default() }
                }),
            };
            let key_hash = key.hash;
            let state = match cells.cells.get_mut(&key) {
                Some(state) => state,
                None => {
                    let id = cells.next_id;
                    cells.next_id += 1;
                    let state = CellState { value: Value::default(), revision: 0, id, touched: self.tick.wrapping_sub(1) };
                    cells.cells.entry(key.clone()).or_insert(state)
                }
            };
            if let Some(changed) = &mut self.changed
                && !member.is_empty()
            {
                changed.name_member(window, &key, &member);
            }
            if state.touched != self.tick {
                state.touched = self.tick;
                if cells.closed {
                    if cells.dirty.is_empty() {
                        self.dirty.insert(window);
                    }
                    let published = state.value;
                    cells.dirty.entry(key.clone()).or_insert(published);
                }
                self.touched.push((window, key));
            }
            state.value.sum += measure.sum;
            state.value.count += measure.count;
            if !member.is_empty() {
                let rows = match cells.members.entry((state.id, member)) {
                    Entry::Vacant(vacant) => {
                        if measure.count != 0 {
                            vacant.insert(measure.count);
                            state.value.distinct += 1;
                        }
                        measure.count
                    }
                    Entry::Occupied(mut occupied) => {
                        *occupied.get_mut() += measure.count;
                        let rows = *occupied.get();
                        if rows == 0 {
                            occupied.remove();
                            state.value.distinct -= 1;
                        }
                        rows
                    }
                };
                if let Some(changed) = &mut self.changed {
                    changed.member(key_hash, rows);
                }
            }
            last = Some((window, cells));
        }
        if !self.dirty.is_empty() {
            self.dirty_epoch = Some(self.horizons.epoch_after(time));
        }
        let mut last: Option<(Window, &Cells)> = None;
        for (window, key) in self.touched.drain(..) {
            let cells = match last {
                Some((at, cells)) if at == window => cells,
                _ => &self.windows[&window],
            };
            last = Some((window, cells));
            let state = &cells.cells[&key];
            assert!(state.value.count >= 0, "rows of a cell cannot be negative in {}", self.table.name());
            if let Some(changed) = &mut self.changed {
                changed.cell(window, &key, state, cells.dirty.get(&key));
            }
            let value = (state.value.count != 0).then_some((state.value, state.revision));
            self.out.push(Published::Cell(CellChange { after: time, table: self.table, window, key, value }));
        }
        self.changed.iter_mut().for_each(|changed| changed.take(self.table, &mut self.out));
        send(time, &mut self.out);
    }

    /// Runs every epoch and expiry up to and including `to`, in order.
    fn advance(&mut self, to: u64, send: Send<'_>) {
        loop {
            let own = self.open.first().map(|&window| self.horizons.own_epoch(window));
            let hide = self.shown.first().and_then(|&window| self.horizons.expiry(window));
            let drop = self.hidden.first().and_then(|&window| self.horizons.dropped(window));
            let Some(next) = [own, self.dirty_epoch, hide, drop].into_iter().flatten().min().filter(|&next| next <= to) else {
                return;
            };
            if own == Some(next) || self.dirty_epoch == Some(next) {
                self.run_epoch(next);
            }
            if hide == Some(next) {
                self.hide(next);
            }
            let dropped = |&window: &Window| self.horizons.dropped(window) <= Some(next);
            while self.hidden.first().is_some_and(dropped) {
                if let Some(window) = self.hidden.pop_first() {
                    self.windows.remove(&window);
                    self.open.remove(&window);
                    self.dirty.remove(&window);
                }
            }
            self.changed.iter_mut().for_each(|changed| changed.take(self.table, &mut self.out));
            send(next - 1, &mut self.out);
        }
    }

    /// Publishes the window that closes and what changed in closed ones since the last epoch.
    fn run_epoch(&mut self, epoch: u64) {
        if self.dirty_epoch == Some(epoch) {
            self.dirty_epoch = None;
            for window in std::mem::take(&mut self.dirty) {
                let Some(cells) = self.windows.get_mut(&window) else { continue };
                for (key, published) in std::mem::take(&mut cells.dirty) {
                    let Some(state) = cells.cells.get_mut(&key) else { continue };
                    let gone = state.value.count == 0;
                    if state.value != published {
                        let windowed = window != NO_WINDOW;
                        state.revision += u32::from(windowed);
                        let (table, revision) = (self.table, state.revision);
                        let value = if gone { Value::default() } else { state.value };
                        self.out.push(Published::History(HistoryRow { epoch, table, window, key: key.clone(), value, revision }));
                        if windowed && !gone && !cells.hidden {
                            let value = Some((value, revision));
                            self.out.push(Published::Cell(CellChange {
                                after: epoch - 1,
                                table,
                                window,
                                key: key.clone(),
                                value,
                            }));
                        }
                    }
                    if let Some(changed) = &mut self.changed {
                        changed.cell(window, &key, state, None);
                    }
                    if gone && state.revision == 0 {
                        cells.cells.remove(&key);
                    }
                }
            }
        }
        while let Some(&window) = self.open.first() {
            if self.horizons.own_epoch(window) > epoch {
                break;
            }
            self.open.remove(&window);
            let Some(cells) = self.windows.get_mut(&window) else { continue };
            cells.closed = true;
            cells.cells.retain(|_, state| state.value.count != 0);
            self.out.extend(cells.cells.iter().map(|(key, state)| {
                let (table, value) = (self.table, state.value);
                Published::History(HistoryRow { epoch, table, window, key: key.clone(), value, revision: 0 })
            }));
        }
    }

    /// Takes expired windows out of the view.
    fn hide(&mut self, at: u64) {
        while let Some(&window) = self.shown.first() {
            if !self.horizons.expired(window, at) {
                break;
            }
            self.shown.remove(&window);
            self.hidden.insert(window);
            if let Some(cells) = self.windows.get_mut(&window) {
                cells.hidden = true;
            }
            self.out.push(Published::Expired(WindowExpiry { after: at - 1, table: self.table, window }));
        }
    }
}
