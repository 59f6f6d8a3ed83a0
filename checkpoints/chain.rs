//! When to merge what: a worker's objects, from the oldest to the newest, kept few and small at little cost.
//!
//! ```text
//! base │ · · · · · · ·            a delta per checkpoint
//! base │ (· · · · · · ·) ─► o     many small ones become one
//! base │ o o o (· · ·)            and these one again when the newer ones together are as large
//! (base  O  o o o · · ·) ─► base  newer than the base twice as large: most bytes may be out of date
//! ```
//!
//! Upholds, if every plan is carried out: (1) fewer than [`SMALL_MOST`] objects that are small, and than [`OBJECTS_MOST`] in all; (2)
//! beyond [`BYTES_FREE`], at most three times the bytes of the live state; (3) little work: per byte of deltas merges read about one
//! and a half, if the state is some forty deltas or fewer, and two to three and a half if it is hundreds or thousands.
//! Keeps: nothing. A plan is a function of what the manifest says.
//!
//! Absent on purpose: levels and their sizes. An order of age in which sizes decide is the same, without numbers to choose. And a guess
//! how many rows are out of date: only merging tells.

use std::ops::Range;

use crate::object::{Group, Object};

/// With this many objects some are merged: a manifest names them all.
pub const OBJECTS_MOST: usize = 64;
/// With this many small objects some are merged: each costs a start a request or two, which for a small one is all it costs.
pub const SMALL_MOST: usize = 24;
/// Objects with fewer bytes are small.
pub const SMALL_BYTES: u64 = 4 << 20;
/// While a worker's objects have no more bytes than this together, their number alone counts: a start reads them in a second.
pub const BYTES_FREE: u64 = 128 << 20;

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
    if newer > 2 * base && base + newer > BYTES_FREE {
        return Some(0..chain.len());
    }
    let is_small = |object: &Object| object.bytes < SMALL_BYTES;
    if chain.len() >= OBJECTS_MOST {
        // If the base is due soon, what is merged without it now would be merged twice in a row.
        let from = if newer >= base { 0 } else { balanced(chain, |_| true).max(1) };
        return Some(from..chain.len());
    }
    if chain.iter().filter(|object| is_small(object)).count() >= SMALL_MOST {
        return Some(balanced(chain, is_small)..chain.len());
    }
    None
}

/// Where the newest objects begin that are worth merging: as long as one is wanted, and no larger than all newer ones together;
/// at least two.
fn balanced(chain: &[Object], wanted: impl Fn(&Object) -> bool) -> usize {
    let mut from = chain.len() - 2;
    let mut bytes = chain[from].bytes + chain[from + 1].bytes;
    while from > 0 && wanted(&chain[from - 1]) && chain[from - 1].bytes <= bytes {
        from -= 1;
        bytes += chain[from].bytes;
    }
    from
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
        small: usize,
        /// Most bytes kept per live byte.
        kept: f64,
    }

    /// A state of `live` bytes that `checkpoints` deltas of `delta` bytes change, all of it in turn; it begins with `base` bytes.
    fn run(base: u64, live: u64, delta: u64, checkpoints: u64) -> Cost {
        let mut chain = vec![object(base, ONE)];
        let (mut merged, mut objects, mut small, mut kept) = (0, 0, 0, 0);
        for _ in 0..checkpoints {
            chain.push(object(delta, ONE));
            while let Some(range) = plan(&chain, ONE) {
                assert!(range.len() > 1 && range.end <= chain.len());
                let bytes: u64 = chain[range.clone()].iter().map(|object| object.bytes).sum();
                merged += bytes;
                chain.splice(range, [object(bytes.min(live), ONE)]);
            }
            objects = objects.max(chain.len());
            small = small.max(chain.iter().filter(|object| object.bytes < SMALL_BYTES).count());
            kept = kept.max(chain.iter().map(|object| object.bytes).sum());
        }
        Cost { merged: merged as f64 / (delta * checkpoints) as f64, objects, small, kept: kept as f64 / live as f64 }
    }

    #[test]
    fn few_objects_few_bytes_and_little_work_whatever_the_sizes() {
        const MIB: u64 = 1 << 20;
        let few_deltas = [(100, 50, 1.5), (160, 6, 1.5), (400, 16, 1.5), (1000, 16, 2.0)];
        let many_deltas = [(1000, 2, 2.5), (5000, 10, 3.0), (20_000, 5, 3.5), (100_000, 1, 3.5)];
        for (live, delta, most) in few_deltas.into_iter().chain(many_deltas) {
            let (live, delta) = (live * MIB, delta * MIB);
            // In the middle of a long life, and from nothing.
            for (base, checkpoints) in [(live, 5000), (0, 60), (0, 1000)] {
                let cost = run(base, live, delta, checkpoints);
                let told =
                    format!("{checkpoints} deltas of {delta}, live {live}: merged {:.2}, kept {:.2}", cost.merged, cost.kept);
                println!("{told}, {} objects, {} of them small", cost.objects, cost.small);
                assert!(cost.objects < OBJECTS_MOST && cost.small < SMALL_MOST, "{told}");
                assert!(cost.kept <= 3.0, "{told}");
                assert!(cost.merged <= most, "{told}");
            }
        }
        // Small states are never worth more than a look at their number.
        let cost = run(MIB, MIB, MIB / 4, 1000);
        assert!(cost.small < SMALL_MOST && cost.merged < 1.5, "{} {}", cost.small, cost.merged);
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
        for _ in 0..SMALL_MOST - 2 {
            chain.push(object(0, ONE));
            assert_eq!(plan(&chain, ONE), None);
        }
        chain.push(object(0, ONE));
        assert_eq!(plan(&chain, ONE), Some(0..SMALL_MOST));
    }
}
