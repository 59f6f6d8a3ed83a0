//! The order in which the events of a tick apply: by key, within a key by their place in the log, truncates in their place among all.

use crate::change::{Change, Order, What};

/// Something that happened to a key, or to a table.
pub(crate) trait Event {
    /// The hash of its key.
    fn hash(&self) -> u64;

    /// Its place in the log.
    fn order(&self) -> Order;

    /// Whether it is about all keys of a table.
    fn truncates(&self) -> bool;
}

impl Event for Change {
    fn hash(&self) -> u64 {
        self.key.hash
    }

    fn order(&self) -> Order {
        self.order
    }

    fn truncates(&self) -> bool {
        matches!(self.what, What::Truncate)
    }
}

/// Scratch space: hash and place of each event.
#[derive(Default)]
pub(crate) struct Turns(Vec<(u64, u32)>);

impl Turns {
    /// Takes every event in its turn.
    #[inline]
    pub(crate) fn take<E: Event>(&mut self, events: &mut [E], mut turn: impl FnMut(&mut E)) {
        let order = &mut self.0;
        order.clear();
        let mut truncates = false;
        order.extend(events.iter().zip(0..).map(|(event, at)| {
            truncates |= event.truncates();
            (event.hash(), at)
        }));
        if !truncates {
            return by_key(events, order, &mut turn);
        }
        order.sort_unstable_by_key(|(_, at)| (events[*at as usize].order(), *at));
        let mut rest = &mut order[..];
        while let Some(place) = rest.iter().position(|(_, at)| events[*at as usize].truncates()) {
            let (before, behind) = rest.split_at_mut(place);
            by_key(events, before, &mut turn);
            turn(&mut events[behind[0].1 as usize]);
            rest = &mut behind[1..];
        }
        by_key(events, rest, &mut turn);
    }
}

/// By hash, so that neighbours in the index are touched together; within a key (mostly one event) in its order.
#[inline]
fn by_key<E: Event>(events: &mut [E], order: &mut [(u64, u32)], turn: &mut impl FnMut(&mut E)) {
    order.sort_unstable();
    for run in order.chunk_by_mut(|(one, _), (other, _)| one == other) {
        if run.len() > 1 {
            run.sort_by_key(|(_, at)| events[*at as usize].order());
        }
        for &(_, at) in &*run {
            turn(&mut events[at as usize]);
        }
    }
}
