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

use crate::object::Object;

/// With this many objects some are merged.
pub const OBJECTS_MOST: usize = 24;
/// While a worker's objects have no more bytes than this together, their number alone counts.
pub const BYTES_FREE: u64 = 32 << 20;

/// What to merge next, if anything, of a worker's objects in the order of `through`. The merged object takes their place.
///
/// A merge that begins at 0 may drop rows (see [`merge`](crate::merge::merge)); no other may.
pub fn plan(chain: &[Object]) -> Option<Range<usize>> {
    let newest = chain.last()?;
    // After a rescale: objects with other workers' rows. While they are named nobody can delete them, so they go first.
    if let Some(foreign) = chain.iter().rposition(|object| object.group != newest.group) {
        return Some(0..foreign + 1);
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
    use crate::object::Group;

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
            while let Some(range) = plan(&chain) {
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
        let others = [Group { index: 0, of: 6 }, Group { index: 3, of: 6 }].map(|group| object(1 << 30, group));
        let own = || object(1, Group { index: 0, of: 3 });
        let [first, second] = others;
        assert_eq!(plan(&[first, second, own(), own()]), Some(0..2));
        assert_eq!(plan(&[own(), own()]), None);
        assert_eq!(plan(&[own()]), None);
        assert_eq!(plan(&[]), None);
    }

    #[test]
    fn empty_objects_are_merged_by_number_only() {
        let mut chain = vec![object(0, ONE)];
        for _ in 0..OBJECTS_MOST - 2 {
            chain.push(object(0, ONE));
            assert_eq!(plan(&chain), None);
        }
        chain.push(object(0, ONE));
        assert_eq!(plan(&chain), Some(0..OBJECTS_MOST));
    }
}
