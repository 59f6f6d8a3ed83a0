//! Objects of changed state: what one worker writes per checkpoint.
//!
//! ```text
//! rows of many ticks ─► (hash, place) ─► sorted ─► last of each key ─► blocks ─► object
//! ```
//!
//! Upholds: (1) an object has a key of a section once, with the last row it was given; (2) the same rows make the same bytes;
//! (3) rows lie in the order of (section, hash, key). Keeps, while it writes: sixteen bytes per row, and a block.
//! Absent on purpose: deletes. A row says all there is to know of its key, also that it is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::state::{Section, StateRow, StateRows};

use crate::block::shard;
use crate::file::Writer;
use crate::last;
use crate::objects::{ObjectError, Objects};

/// An object of state, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its key in the store.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3 of its index in hexadecimal, which covers every block by its own checksum.
    pub checksum: String,
    /// The as-of whose state it is part of, in milliseconds. Of several objects' rows of a key, the one with the latest counts.
    pub through: u64,
    /// The shards for which it counts. Rows of others, if it has any, are as if they were not there.
    pub group: Group,
    /// Rows in it.
    pub rows: u64,
    /// Bytes before compression.
    pub raw: u64,
}

/// The shards of worker `index` of `of`: those `s` with `s % of == index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Which worker.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Group {
    /// Whether a shard is one of them.
    pub fn owns(self, shard: u64) -> bool {
        shard % self.of.max(1) as u64 == self.index as u64
    }

    /// The shards of both, which are a group again; `None` if there are none.
    ///
    /// After a rescale, each new worker goes on with the objects of the old ones narrowed to what is its own.
    pub fn and(self, other: Group) -> Option<Group> {
        let of = self.of / greatest_common_divisor(self.of, other.of) * other.of;
        // The first shard in both is the remainder of all of them. Beyond the last shard there is none.
        let first = (0..SHARDS).find(|&shard| self.owns(shard) && other.owns(shard))?;
        Some(Group { index: first as usize, of })
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

/// Writes an object with the changes up to as-of `through`, in milliseconds. Lists of a section are in the order of time: of each key the last
/// row counts.
///
/// # Errors
/// If it cannot be written; then nothing of it is to be seen, unless the error says that it may have happened.
///
/// # Panics
/// If a row is of a shard that `group` does not own: it would be lost when the object is loaded.
pub fn write(
    objects: &dyn Objects,
    key: &str,
    through: u64,
    group: Group,
    sections: &BTreeMap<Section, Vec<StateRows>>,
) -> Result<Object, ObjectError> {
    let mut writer = Writer::new(objects, key)?;
    let owned: Vec<bool> = (0..SHARDS).map(|shard| group.owns(shard)).collect();
    for (&section, lists) in sections {
        for_each_last(lists, &mut |row| {
            let shard = shard(row.hash);
            assert!(owned[shard as usize], "{} hold a row of shard {shard}, which is not worker {group:?}'s", section.name());
            writer.push(section, row)
        })?;
    }
    writer.finish(key, through, group)
}

/// Bits of a row's place that say where in its list it is; the others say which list.
const OFFSET_BITS: u32 = 40;

/// Visits of each key the last row, in the order of (hash, key).
fn for_each_last<'a, E>(lists: &'a [StateRows], visit: &mut impl FnMut(StateRow<'a>) -> Result<(), E>) -> Result<(), E> {
    let mut order = Vec::with_capacity(lists.iter().map(StateRows::len).sum());
    for (list, rows) in lists.iter().enumerate() {
        let list = (list as u64) << OFFSET_BITS;
        order.extend(rows.places().map(|(place, row)| last::entry(row.hash, list | place as u64)));
    }
    let row = |place: u64| lists[(place >> OFFSET_BITS) as usize].at((place & ((1 << OFFSET_BITS) - 1)) as usize);
    last::for_each(&mut order, row, visit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_meet_in_what_both_own() {
        let groups: Vec<Group> = [1, 2, 3, 4, 5, 6, 7, 40, 1024, 1500]
            .into_iter()
            .flat_map(|of| [0, 1, of / 2, of - 1].map(|index| Group { index, of }))
            .collect();
        for &a in &groups {
            for &b in &groups {
                let both = a.and(b);
                for shard in 0..SHARDS {
                    let owned = both.is_some_and(|both| both.owns(shard));
                    assert_eq!(owned, a.owns(shard) && b.owns(shard), "{a:?} {b:?} {both:?} shard {shard}");
                }
            }
        }
        assert_eq!(Group { index: 1, of: 2 }.and(Group { index: 0, of: 2 }), None);
        assert_eq!(Group { index: 1, of: 2 }.and(Group { index: 3, of: 4 }), Some(Group { index: 3, of: 4 }));
    }
}
