//! Clicks that are told twice: of one event id the first within a horizon counts.
//!
//! ```text
//! clicks ─(by shard of event id)─► stash per tick ─frontier─► in order: seen? ─┬─ no ──► judged by their own stamp ─┬─► combined ─► tally
//!                                                                  duplicate ◄─┘ yes                               └─► late adjustments
//! ```
//!
//! Upholds: which click counts is decided by the order (stamp, partition, position) alone; a duplicate does not extend the horizon.
//! Keeps: per event id the instant until which it is known; swept two slots per click.
//! Absent on purpose: clicks without an event id. They are combined where they are read, and cost no state.

use std::rc::Rc;

use differential_dataflow::collection::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::change::Order;
use crate::counts::Counts;
use crate::epoch::Horizons;
use crate::key::{Key, WordMap, push_varint, read_varint};
use crate::latest::judge;
use crate::measure::{Contribution, Measure};
use crate::rows::Rows;
use crate::stash::Stash;
use crate::state::{Section, StateChange, StateLog, StateRow};
use crate::table::{LateAdjustment, Table};
use crate::turns::{Event, Turns};

/// A click with an event id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Source and event id.
    pub event: Key,
    /// How long the id is known from a click that counted, milliseconds.
    pub horizon: u64,
    /// The click's place.
    pub order: Order,
    /// What it contributes to.
    pub contribution: Contribution,
}

impl Event for Told {
    fn hash(&self) -> u64 {
        self.event.hash
    }

    fn order(&self) -> Order {
        self.order
    }

    fn truncates(&self) -> bool {
        false
    }
}

/// What [`dedup_from`] gives.
pub struct Dedup<'scope> {
    /// Clicks that count, of windows that are not expired, combined per tick.
    pub clicks: VecCollection<'scope, u64, Contribution, Measure>,
    /// Clicks that count, of windows that are.
    pub late: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// Event ids that were counted, if that is tracked.
    pub state: StreamVec<'scope, u64, StateChange>,
    /// Live counts of this worker.
    pub counts: Rc<Counts>,
}

/// As [`dedup_from`], of clicks none of which was told before.
pub fn dedup(clicks: VecCollection<'_, u64, Told, isize>, horizons: Horizons) -> Dedup<'_> {
    dedup_from(clicks, DedupState::of(horizons, Rows::default()))
}

/// Lets pass the first click of each event id, going on from what is known already. Each is in the stream at its log time.
pub fn dedup_from<'scope>(clicks: VecCollection<'scope, u64, Told, isize>, mut state: DedupState) -> Dedup<'scope> {
    let counts = Rc::clone(&state.counts);
    let scope = clicks.inner.scope();
    let mut builder = OperatorBuilder::new("Dedup".to_owned(), scope);
    let mut input = builder.new_input(clicks.inner, Exchange::new(|(told, _, _): &(Told, u64, isize)| told.event.shard()));
    let (clicks_out, clicks) = builder.new_output();
    let (late_out, late) = builder.new_output();
    let (state_out, changed) = builder.new_output();
    let mut clicks_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(clicks_out);
    let mut late_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(late_out);
    let mut state_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(state_out);
    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut stash: Stash<Told> = Stash::default();
        let mut combined: WordMap<Contribution, i64> = WordMap::default();
        move |frontiers| {
            input.for_each(|_, batch| stash.extend(batch.drain(..).map(|(told, time, _)| (time, told))));
            let frontier = frontiers[0].frontier().first().copied();
            let due = stash.before(frontier);
            let Some(held) = &mut capabilities else { return };
            for (time, mut clicks) in due {
                held.iter_mut().for_each(|capability| capability.downgrade(&time));
                let mut late_out = late_out.activate();
                let mut late = late_out.session(&held[1]);
                state.apply(
                    &mut clicks,
                    |contribution| *combined.entry(contribution).or_insert(0) += 1,
                    |adjustment| late.give((adjustment, time, 1)),
                );
                let counted = |(contribution, count)| (contribution, time, Measure { sum: 0, count });
                clicks_out.activate().session(&held[0]).give_iterator(combined.drain().map(counted));
                if let Some(changed) = &mut state.changed {
                    let changes = changed.drain().map(|rows| StateChange { section: Section::Seen, rows });
                    state_out.activate().session(&held[2]).give_iterator(changes);
                }
                stash.recycle(clicks);
            }
            match frontier {
                Some(frontier) => held.iter_mut().for_each(|capability| capability.downgrade(&frontier)),
                None => capabilities = None,
            }
        }
    });
    Dedup { clicks: clicks.as_collection(), late: late.as_collection(), state: changed, counts }
}

/// The state of [`dedup_from`] on one worker.
pub struct DedupState {
    horizons: Horizons,
    seen: Rows,
    counts: Rc<Counts>,
    changed: Option<StateLog>,
    turns: Turns,
    value: Vec<u8>,
}

impl DedupState {
    /// Goes on from the ids that were handed out.
    pub(crate) fn of(horizons: Horizons, seen: Rows) -> Self {
        let (counts, turns, value) = Default::default();
        let state = DedupState { horizons, seen, counts, changed: None, turns, value };
        state.count();
        state
    }

    /// From now on changed state is handed out.
    pub fn track(&mut self) {
        self.changed.get_or_insert_with(StateLog::default);
    }

    /// Whether at `now` an id that was handed out is known.
    pub(crate) fn keeps(value: &[u8], now: u64) -> bool {
        read_varint(value, &mut 0) > now
    }

    fn count(&self) {
        self.counts.entries.set(self.seen.len() as u64);
        self.counts.bytes.set(self.seen.bytes() as u64);
    }

    /// Applies the clicks of one tick, and leaves none.
    fn apply(&mut self, clicks: &mut Vec<Told>, mut count: impl FnMut(Contribution), mut late: impl FnMut(LateAdjustment)) {
        let DedupState { horizons, seen, counts, changed, turns, value } = self;
        turns.take(clicks, |told| {
            let Told { event, horizon, order, contribution } = told;
            let (hash, key) = (event.hash, event.text.as_bytes());
            if seen.get(hash, key).is_some_and(|until| DedupState::keeps(until, order.stamp)) {
                return Counts::bump(&counts.duplicates);
            }
            value.clear();
            push_varint(value, order.stamp + *horizon);
            seen.put(hash, key, value);
            if let Some(changed) = changed {
                changed.push(StateRow { hash, key, value });
            }
            let measure = Measure { sum: 0, count: 1 };
            judge(Table::StoreClicks, horizons, counts, *order, contribution.clone(), measure, &mut late, &mut count);
        });
        // As in `stored`: nothing earlier comes any more.
        if let Some(now) = clicks.iter().map(|told| told.order.stamp).min() {
            seen.sweep(clicks.len() * 2, |_, until| DedupState::keeps(until, now));
        }
        clicks.clear();
        self.count();
    }
}
