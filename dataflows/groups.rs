//! Rows that refer to one row of a lookup, as groups: what moves together when that row changes.
//!
//! Most keys have one group or a few (the payments of an order), packed as one entry of [`Rows`]. A key with many (the sales of a merchant)
//! has a map of its own, so that a change costs the group it touches, not all of its key's.
//!
//! Upholds: a group that is forgotten at an instant is not there for whoever looks at that instant, swept or not.
//! Keeps: sum, count and stamp of the last change per (lookup key, table, own window, second part, product).

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::entry::forgotten_at;
use crate::epoch::Horizons;
use crate::key::{Text, WordMap, push_signed, push_varint, read_signed, read_varint};
use crate::measure::Measure;
use crate::rows::Rows;
use crate::state::StateRow;
use crate::table::{Table, Window};

/// What the rows of a group have in common, apart from the key they refer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The table they contribute to.
    pub table: Table,
    /// Their own window, [`NO_WINDOW`](crate::table::NO_WINDOW), or [`ELSEWHERE`](crate::table::ELSEWHERE).
    pub window: Window,
    /// The second part of their cell.
    pub second: Text,
    /// Their product.
    pub member: Text,
}

/// What the rows of a group come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Sum and number.
    pub measure: Measure,
    /// Stamp of the last change, milliseconds.
    pub since: u64,
}

impl Group {
    /// Whether at `now` it is forgotten.
    pub(crate) fn forgotten(&self, window: Window, horizons: &Horizons, now: u64) -> bool {
        forgotten_at(self.since, window, horizons).is_some_and(|at| at <= now)
    }
}

/// A row of [`Section::Groups`](crate::state::Section::Groups).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// The key of the row that is referred to.
    pub lookup: Box<[u8]>,
    /// Which group it is.
    pub id: GroupId,
    /// What it comes to; nothing: it is gone.
    pub group: Group,
}

impl StoredGroup {
    /// Reads a row that was handed out. Files carry checksums, so what is read is what was written.
    ///
    /// # Panics
    /// If it is a row of another section.
    pub fn read(row: StateRow<'_>) -> StoredGroup {
        let mut at = 0;
        let lookup = read_bytes(row.key, &mut at).into();
        let id = read_id(row.key, &mut at);
        let mut at = 0;
        StoredGroup { lookup, id, group: read_group(row.value, &mut at) }
    }

    /// Whether at `now` anything is left of a row that was handed out.
    pub(crate) fn keeps(row: StateRow<'_>, horizons: &Horizons, now: u64) -> bool {
        let StoredGroup { id, group, .. } = StoredGroup::read(row);
        group.measure != Measure::default() && !group.forgotten(id.window, horizons, now)
    }
}

/// Writes a row of [`Section::Groups`](crate::state::Section::Groups): its key and its value.
pub(crate) fn write_stored(lookup: &[u8], id: &GroupId, group: &Group, key: &mut Vec<u8>, value: &mut Vec<u8>) {
    key.clear();
    push_bytes(lookup, key);
    push_id(id, key);
    value.clear();
    push_group(group, value);
}

/// Groups by lookup key. Keys come with their hash.
#[derive(Default)]
pub(crate) struct Groups {
    few: Rows,
    many: BTreeMap<Box<[u8]>, WordMap<GroupId, Group>>,
    /// How many groups there are in all, and of keys with many.
    len: usize,
    of_many: usize,
    /// The last of the keys with many that was swept, and how many groups may be looked at next.
    swept: Option<Box<[u8]>>,
    credit: usize,
    scratch: Vec<(GroupId, Group)>,
    packed: Vec<u8>,
}

/// A key with more groups than this has a map of its own.
const FEW: usize = 16;

impl Groups {
    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// About the bytes allocated for them.
    pub(crate) fn bytes(&self) -> usize {
        // A map is between seven sixteenths and seven eighths full.
        self.few.bytes() + self.of_many * size_of::<(GroupId, Group)>() * 3 / 2
    }

    /// Adds to a group at `now`, and gives it as it was and is. Of groups of the key that are found forgotten, `gone` is told.
    pub(crate) fn add(
        &mut self,
        (hash, key): (u64, &[u8]),
        id: GroupId,
        measure: Measure,
        now: u64,
        horizons: &Horizons,
        mut gone: impl FnMut(&Group),
    ) -> (Option<Group>, Group) {
        let after = |before: Option<Group>| {
            let Measure { sum, count } = before.map_or_else(Measure::default, |group| group.measure);
            Group { measure: Measure { sum: sum + measure.sum, count: count + measure.count }, since: now }
        };
        if let Some(groups) = self.many.get_mut(key) {
            let mut before = groups.get(&id).copied();
            if let Some(group) = before.filter(|group| group.forgotten(id.window, horizons, now)) {
                gone(&group);
                before = None;
            }
            let (there, after) = (groups.len(), after(before));
            if after.measure == Measure::default() {
                groups.remove(&id);
            } else {
                groups.insert(id, after);
            }
            self.len = self.len - there + groups.len();
            self.of_many = self.of_many - there + groups.len();
            if groups.is_empty() {
                self.many.remove(key);
            }
            return (before, after);
        }
        let mut groups = std::mem::take(&mut self.scratch);
        groups.clear();
        if let Some(packed) = self.few.get(hash, key) {
            groups.extend(unpack(packed));
        }
        self.len -= groups.len();
        groups.retain(|(id, group)| {
            let forgotten = group.forgotten(id.window, horizons, now);
            if forgotten {
                gone(group);
            }
            !forgotten
        });
        let place = groups.iter().position(|(known, _)| *known == id);
        let before = place.map(|place| groups[place].1);
        let after = after(before);
        match (place, after.measure == Measure::default()) {
            (Some(place), true) => drop(groups.swap_remove(place)),
            (Some(place), false) => groups[place].1 = after,
            (None, true) => {}
            (None, false) => groups.push((id, after)),
        }
        self.len += groups.len();
        self.put(hash, key, &mut groups);
        self.scratch = groups;
        (before, after)
    }

    /// Visits the groups of a key, forgotten ones that were not swept included.
    pub(crate) fn visit(&self, hash: u64, key: &[u8], mut visit: impl FnMut(&GroupId, &Group)) {
        match self.many.get(key) {
            Some(groups) => groups.iter().for_each(|(id, group)| visit(id, group)),
            None => {
                self.few.get(hash, key).into_iter().flat_map(unpack).for_each(|(id, group)| visit(&id, &group));
            }
        }
    }

    /// Visits all groups with their keys, in no order.
    pub(crate) fn visit_all(&self, mut visit: impl FnMut(&[u8], &GroupId, &Group)) {
        for (key, packed) in self.few.iter() {
            unpack(packed).for_each(|(id, group)| visit(key, &id, &group));
        }
        for (key, groups) in &self.many {
            groups.iter().for_each(|(id, group)| visit(key, id, group));
        }
    }

    /// Takes a group that was handed out; of several of a key the last one given counts.
    pub(crate) fn restore(&mut self, hash: u64, stored: StoredGroup) {
        let StoredGroup { lookup, id, group } = stored;
        let there = group.measure != Measure::default();
        if let Some(groups) = self.many.get_mut(&lookup) {
            let before = if there { groups.insert(id, group) } else { groups.remove(&id) };
            self.len = self.len + usize::from(there) - usize::from(before.is_some());
            self.of_many = self.of_many + usize::from(there) - usize::from(before.is_some());
            if groups.is_empty() {
                self.many.remove(&lookup);
            }
            return;
        }
        let mut groups: Vec<(GroupId, Group)> = self.few.get(hash, &lookup).into_iter().flat_map(unpack).collect();
        self.len -= groups.len();
        groups.retain(|(known, _)| *known != id);
        if there {
            groups.push((id, group));
        }
        self.len += groups.len();
        self.put(hash, &lookup, &mut groups);
    }

    /// Forgets what is due among some of the groups, more than `applied`; tells of each with its key. Of a key with few, all are forgotten
    /// at once, when all are due.
    pub(crate) fn sweep(&mut self, applied: usize, now: u64, horizons: &Horizons, mut gone: impl FnMut(&[u8], &Group)) {
        let len = &mut self.len;
        self.few.sweep(applied * 2, |key, packed| {
            let keep = unpack(packed).any(|(id, group)| !group.forgotten(id.window, horizons, now));
            if !keep {
                unpack(packed).for_each(|(_, group)| {
                    gone(key, &group);
                    *len -= 1;
                });
            }
            keep
        });
        // A key's groups are looked at in one go, once so many are owed.
        self.credit = (self.credit + applied * 2).min(2 * self.of_many);
        while self.of_many > 0 {
            let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.many.range_mut::<[u8], _>((from.as_ref().map(|key| &**key), Bound::Unbounded)).next();
            let Some((key, groups)) = next else {
                // Once round is enough.
                return;
            };
            if groups.len() > self.credit {
                self.swept = match from {
                    Bound::Excluded(key) => Some(key),
                    _ => None,
                };
                return;
            }
            self.credit -= groups.len();
            let there = groups.len();
            groups.retain(|id, group| {
                let forgotten = group.forgotten(id.window, horizons, now);
                if forgotten {
                    gone(key, group);
                }
                !forgotten
            });
            *len = *len - there + groups.len();
            self.of_many = self.of_many - there + groups.len();
            let key = key.clone();
            if groups.is_empty() {
                self.many.remove(&key);
            }
            self.swept = Some(key);
        }
    }

    /// Sets the groups of a key that has no map of its own.
    fn put(&mut self, hash: u64, key: &[u8], groups: &mut Vec<(GroupId, Group)>) {
        if groups.len() > FEW {
            self.few.remove(hash, key);
            self.of_many += groups.len();
            self.many.insert(key.into(), groups.drain(..).collect());
        } else if groups.is_empty() {
            self.few.remove(hash, key);
        } else {
            self.packed.clear();
            for (id, group) in &*groups {
                push_id(id, &mut self.packed);
                push_group(group, &mut self.packed);
            }
            self.few.put(hash, key, &self.packed);
        }
    }
}

fn unpack(packed: &[u8]) -> impl Iterator<Item = (GroupId, Group)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || (at < packed.len()).then(|| (read_id(packed, &mut at), read_group(packed, &mut at))))
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_bytes<'b>(bytes: &'b [u8], at: &mut usize) -> &'b [u8] {
    let len = read_varint(bytes, at) as usize;
    *at += len;
    &bytes[*at - len..*at]
}

fn push_id(GroupId { table, window, second, member }: &GroupId, out: &mut Vec<u8>) {
    out.push(*table as u8);
    out.extend_from_slice(&window.to_be_bytes());
    push_bytes(second.as_bytes(), out);
    push_bytes(member.as_bytes(), out);
}

fn read_id(bytes: &[u8], at: &mut usize) -> GroupId {
    let table = Table::ALL[usize::from(bytes[*at])];
    let mut window = [0; 8];
    window.copy_from_slice(&bytes[*at + 1..*at + 9]);
    *at += 9;
    let second = Text::new(read_bytes(bytes, at));
    GroupId { table, window: Window::from_be_bytes(window), second, member: Text::new(read_bytes(bytes, at)) }
}

fn push_group(Group { measure: Measure { sum, count }, since }: &Group, out: &mut Vec<u8>) {
    push_signed(out, *sum);
    push_signed(out, (*count).into());
    push_varint(out, *since);
}

fn read_group(bytes: &[u8], at: &mut usize) -> Group {
    let sum = read_signed(bytes, at);
    let count = read_signed(bytes, at) as i64;
    Group { measure: Measure { sum, count }, since: read_varint(bytes, at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Before;
    use crate::table::{ELSEWHERE, NO_WINDOW};
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    #[derive(Clone, Debug)]
    enum Step {
        Add { key: u8, id: GroupId, sum: i128, count: i64, passed: u64 },
        Sweep(usize),
    }

    fn id() -> impl Strategy<Value = GroupId> {
        let window = prop_oneof![Just(NO_WINDOW), Just(ELSEWHERE), (0i64..3).prop_map(|window| window * 10 * MINUTE as i64)];
        let text = |len| prop_oneof![Just("a".repeat(len)), Just("b".to_owned())].prop_map(|text| Text::new(text.as_bytes()));
        let table = proptest::sample::select(&[Table::StorePayments, Table::StoreSales][..]);
        (table, window, text(3), text(40)).prop_map(|(table, window, second, member)| GroupId { table, window, second, member })
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let add = (0u8..3, id(), -3i128..3, -1i64..3, 0..MINUTE).prop_map(|(key, id, sum, count, passed)| Step::Add {
            key,
            id,
            sum,
            count,
            passed,
        });
        proptest::collection::vec(prop_oneof![12 => add, 1 => (1usize..9).prop_map(Step::Sweep)], 1..250)
    }

    proptest! {
        /// However a key's groups are kept, they are those of a sorted map; and so they are when they come back.
        #[test]
        fn agree_with_a_sorted_map(steps in steps()) {
            let horizons = Horizons { window: 10 * MINUTE, grace: 0, retention: MINUTE, replay_horizon: MINUTE, before: Before::NOTHING };
            let (mut groups, mut back, mut now) = (Groups::default(), Groups::default(), 0);
            let mut twin = BTreeMap::<(u8, GroupId), Group>::new();
            let (mut row_key, mut value) = (Vec::new(), Vec::new());
            for step in steps {
                let (key, id, measure) = match step {
                    Step::Sweep(some) => {
                        groups.sweep(some, now, &horizons, |_, group| assert!(group.since < now));
                        continue;
                    }
                    Step::Add { key, id, sum, count, passed } => {
                        now += passed;
                        (key, id, Measure { sum, count })
                    }
                };
                twin.retain(|(_, id), group| !group.forgotten(id.window, &horizons, now));
                let old = twin.get(&(key, id.clone())).copied();
                let (before, after) = groups.add((u64::from(key), &[key; 9]), id.clone(), measure, now, &horizons, |_| {});
                prop_assert_eq!(before, old);
                let Measure { sum, count } = old.map_or_else(Measure::default, |group| group.measure);
                let new = Measure { sum: sum + measure.sum, count: count + measure.count };
                prop_assert_eq!(after, Group { measure: new, since: now });
                twin.insert((key, id.clone()), after);
                twin.retain(|_, group| group.measure != Measure::default());
                write_stored(&[key; 9], &id, &after, &mut row_key, &mut value);
                back.restore(u64::from(key), StoredGroup::read(StateRow { hash: 0, key: &row_key, value: &value }));
            }
            for groups in [&groups, &back] {
                let (mut found, mut all) = (BTreeMap::new(), 0);
                groups.visit_all(|key, id, group| {
                    all += 1;
                    if !group.forgotten(id.window, &horizons, now) {
                        found.insert((key[0], id.clone()), *group);
                    }
                });
                prop_assert_eq!(&found, &twin);
                prop_assert_eq!(groups.len(), all);
                prop_assert_eq!(groups.of_many, groups.many.values().map(WordMap::len).sum::<usize>());
                let mut by_key = BTreeMap::new();
                for key in 0u8..3 {
                    groups.visit(u64::from(key), &[key; 9], |id, group| {
                        by_key.insert((key, id.clone()), *group);
                    });
                }
                by_key.retain(|(_, id), group| !group.forgotten(id.window, &horizons, now));
                prop_assert_eq!(&by_key, &twin);
            }
        }
    }

    #[test]
    fn sweeping_forgets_all_that_is_due() {
        let horizons =
            Horizons { window: 10 * MINUTE, grace: 0, retention: MINUTE, replay_horizon: MINUTE, before: Before::NOTHING };
        let mut groups = Groups::default();
        for number in 0..2_000u64 {
            // One key with many, the others with one each.
            let key = if number % 2 == 0 { 0 } else { number };
            let member = Text::new(&number.to_le_bytes());
            let id = GroupId { table: Table::StoreSales, window: ELSEWHERE, second: Text::EMPTY, member };
            groups.add((key, &key.to_le_bytes()), id, Measure { sum: 1, count: 1 }, 5, &horizons, |_| {});
        }
        assert_eq!((groups.len(), groups.many.len()), (2_000, 1));
        let (mut gone, now) = (0, 5 + 12 * MINUTE);
        groups.sweep(2_000, now - 1, &horizons, |_, _| gone += 1);
        assert_eq!((gone, groups.len()), (0, 2_000));
        for _ in 0..3 {
            groups.sweep(2_000, now, &horizons, |_, _| gone += 1);
        }
        assert_eq!((gone, groups.len()), (2_000, 0));
    }
}
