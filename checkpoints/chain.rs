//! When to merge what: a worker's objects, from the oldest to the newest, kept few and small at little cost.
//!
//! ```text
//! base │ · · · · · · ·            a delta per checkpoint
//! base │ (· · · · · · ·) ─► o     many small ones become one
//! base │ o o o · · ·              which become one when the newer ones together are as large
//! (base  O  o  · · ·)    ─► base  newer than the base as large as the base: half of the bytes are out of date, or soon will be
//! ```
//!
//! Upholds, if every plan is carried out: (1) at most [`OBJECTS_MOST`] objects; (2) beyond [`BYTES_FREE`], at most about twice the
//! bytes of the live state, so that loading reads each row about twice; (3) a row is merged about twice before it is in the base,
//! however many checkpoints lie between, and the base about once per its own size of changes.
//! Keeps: nothing. A plan is a function of what the manifest says.
//!
//! Absent on purpose: levels and their sizes. An order of age in which sizes decide is the same, without numbers to choose.

use std::ops::Range;

use crate::object::{Group, Object};

/// With this many objects some are merged.
pub const OBJECTS_MOST: usize = 24;
/// While a worker's objects have no more bytes than this together, their number alone counts.
pub const BYTES_FREE: u64 = 32 << 20;

/// The objects of a worker, from the oldest to the newest, of all that a manifest names; those of other workers, which are there after a
/// rescale, narrowed to what is this one's.
pub fn chain(all: &[Object], group: Group) -> Vec<Object> {
    let narrowed = |object: &Object| object.group.and(group).map(|group| Object { group, ..object.clone() });
    let mut chain: Vec<Object> = all.iter().filter_map(narrowed).collect();
    chain.sort_by(|a, b| (a.through, &a.key, a.group).cmp(&(b.through, &b.key, b.group)));
    chain.dedup();
    chain
}

/// What to merge next, if anything, of the [`chain`] of the worker with this group. The merged object takes their place.
///
/// A merge that begins at 0 may drop rows (see [`merge`](crate::merge::merge)); no other may.
pub fn plan(chain: &[Object], group: Group) -> Option<Range<usize>> {
    // After a rescale: objects with other workers' rows. While they are named nobody can delete them, so they go first.
    if let Some(foreign) = chain.iter().rposition(|object| object.group != group) {
        // Those of one as-of stay together: the merged object has it too, and of two with one as-of neither is the later.
        let later = chain[foreign..].iter().position(|object| object.through > chain[foreign].through);
        return Some(0..later.map_or(chain.len(), |later| foreign + later));
    }
    if chain.len() < 2 {
        return None;
    }
    let base = chain[0].bytes;
    let newer: u64 = chain[1..].iter().map(|object| object.bytes).sum();
    if newer > 0 && newer >= base && base + newer > BYTES_FREE {
        return Some(0..chain.len());
    }
    if chain.len() < OBJECTS_MOST {
        return None;
    }
    // The base would be due soon: what is merged without it would be merged twice in a row.
    if newer >= base / 2 {
        return Some(0..chain.len());
    }
    // From the newest, as long as an object is no larger than all newer ones together.
    let mut from = chain.len() - 2;
    let mut bytes = chain[from].bytes + chain[from + 1].bytes;
    while from > 1 && chain[from - 1].bytes <= bytes {
        from -= 1;
        bytes += chain[from].bytes;
    }
    Some(from..chain.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    fn object(bytes: u64, group: Group) -> Object {
        Object { key: String::new(), bytes, checksum: String::new(), through: 0, group, rows: bytes, raw: bytes }
    }

    const ONE: Group = Group { index: 0, of: 1 };

    struct Cost {
        /// Bytes read by merges per byte of deltas.
        merged: f64,
        objects: usize,
        /// Most bytes kept per live byte.
        kept: f64,
    }

    /// A state of `live` bytes that `checkpoints` deltas of `delta` bytes change, all of it in turn.
    fn run(live: u64, delta: u64, checkpoints: u64) -> Cost {
        let mut chain = vec![object(live, ONE)];
        let (mut merged, mut objects, mut kept) = (0, 0, 0);
        for _ in 0..checkpoints {
            chain.push(object(delta, ONE));
            while let Some(range) = plan(&chain, ONE) {
                assert!(range.len() > 1 && range.end <= chain.len());
                let bytes: u64 = chain[range.clone()].iter().map(|object| object.bytes).sum();
                merged += bytes;
                chain.splice(range, [object(bytes.min(live), ONE)]);
            }
            objects = objects.max(chain.len());
            kept = kept.max(chain.iter().map(|object| object.bytes).sum());
        }
        Cost { merged: merged as f64 / (delta * checkpoints) as f64, objects, kept: kept as f64 / live as f64 }
    }

    #[test]
    fn few_objects_few_bytes_and_little_work_whatever_the_sizes() {
        const MIB: u64 = 1 << 20;
        for (live, delta) in [(100, 50), (100, 10), (400, 16), (1000, 16), (5000, 10), (20_000, 5), (100_000, 1)] {
            let cost = run(live * MIB, delta * MIB, 5000);
            let told = format!(
                "live {live} MiB, deltas of {delta}: merged {:.2}, {} objects, kept {:.2}",
                cost.merged, cost.objects, cost.kept
            );
            assert!(cost.objects < OBJECTS_MOST, "{told}");
            assert!(cost.kept <= 2.0, "{told}");
            assert!(cost.merged <= 5.0, "{told}");
            println!("{told}");
        }
        // Small states are never worth more than a look at their number.
        let cost = run(MIB, MIB / 4, 1000);
        assert!(cost.objects < OBJECTS_MOST && cost.merged < 2.0, "{} {}", cost.objects, cost.merged);
    }

    #[test]
    fn what_other_workers_wrote_goes_first() {
        let group = Group { index: 0, of: 3 };
        let foreign = |index, through| Object { through, ..object(1 << 30, Group { index, of: 6 }) };
        let own = |through| Object { through, ..object(1, group) };
        assert_eq!(plan(&[foreign(0, 1), foreign(3, 1), own(2), own(3)], group), Some(0..2));
        assert_eq!(plan(&[foreign(0, 1), foreign(3, 1), foreign(0, 2), foreign(3, 2)], group), Some(0..4));
        assert_eq!(plan(&[foreign(0, 1), own(1), own(2)], group), Some(0..2));
        assert_eq!(plan(&[foreign(0, 1)], group), Some(0..1));
        assert_eq!(plan(&[own(1), own(2)], group), None);
        assert_eq!(plan(&[own(1)], group), None);
        assert_eq!(plan(&[], group), None);
    }

    #[test]
    fn a_worker_goes_on_with_what_is_its_own_of_others_objects() {
        let named = |key: &str, through, index, of| Object { key: key.to_owned(), through, ..object(1, Group { index, of }) };
        let all = [named("c", 2, 0, 2), named("b", 1, 1, 2), named("a", 1, 0, 2), named("d", 2, 1, 2)];
        let keys = |index, of| {
            let chain = chain(&all, Group { index, of });
            chain.into_iter().map(|object| (object.key, object.group.index, object.group.of)).collect::<Vec<_>>()
        };
        let expected = |all: &[(&str, usize, usize)]| all.iter().map(|&(key, i, of)| (key.to_owned(), i, of)).collect::<Vec<_>>();
        assert_eq!(keys(1, 2), expected(&[("b", 1, 2), ("d", 1, 2)]));
        assert_eq!(keys(0, 1), expected(&[("a", 0, 2), ("b", 1, 2), ("c", 0, 2), ("d", 1, 2)]));
        assert_eq!(keys(2, 3), expected(&[("a", 2, 6), ("b", 5, 6), ("c", 2, 6), ("d", 5, 6)]));
        assert_eq!(keys(2, 4), expected(&[("a", 2, 4), ("c", 2, 4)]));
    }

    #[test]
    fn empty_objects_are_merged_by_number_only() {
        let mut chain = vec![object(0, ONE)];
        for _ in 0..OBJECTS_MOST - 2 {
            chain.push(object(0, ONE));
            assert_eq!(plan(&chain, ONE), None);
        }
        chain.push(object(0, ONE));
        assert_eq!(plan(&chain, ONE), Some(0..OBJECTS_MOST));
    }
}
