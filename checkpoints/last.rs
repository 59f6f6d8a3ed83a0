//! Of rows in the order of time, the last of each key, in the order of (hash, key).
//!
//! ```text
//! (hash, place) ─► sorted ─► rows of a batch looked up ─► of equal hashes by key ─► the last of each key
//! ```
//!
//! What is sorted is sixteen bytes per row, not the rows. Places ascend with time, so sorting by both is stable; and as one number they
//! compare without a branch. Rows that come in sorted lists are sorted by merging these, which the standard library's stable sort does.

use std::hint::black_box;

use storeflow_dataflows::state::StateRow;

use crate::sizes::BATCH;

/// From lists of so many rows on, merging them costs less than sorting.
const RUN_LEAST: usize = 16;

/// A row that is still elsewhere.
pub(crate) fn entry(hash: u64, place: u64) -> u128 {
    u128::from(hash) << 64 | u128::from(place)
}

/// Visits the last row of each key; later rows have greater places. `row` looks a place up.
pub(crate) fn for_each<'a, E>(
    entries: &mut [u128],
    row: impl Fn(u64) -> StateRow<'a>,
    visit: &mut impl FnMut(StateRow<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let breaks = entries.windows(2).filter(|pair| pair[0] > pair[1]).count();
    if breaks < entries.len() / RUN_LEAST {
        entries.sort();
    } else {
        entries.sort_unstable();
    }
    let mut batch: Vec<StateRow<'_>> = Vec::with_capacity(BATCH);
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let mut count = rest.len().min(BATCH);
        while count < rest.len() && rest[count - 1] >> 64 == rest[count] >> 64 {
            count += 1;
        }
        batch.clear();
        // Where the processor waits for memory, it waits for several rows at once, and for the ends of long ones, too.
        batch.extend(rest[..count].iter().map(|&entry| {
            let row = row(entry as u64);
            black_box(row.value.last());
            row
        }));
        rest = &rest[count..];
        for equal in batch.chunk_by_mut(|a, b| a.hash == b.hash) {
            if equal.len() > 1 {
                // Stable: rows of a key stay in the order of time. Mostly it is one key, and this is one look at each.
                equal.sort_by_key(|row| row.key);
            }
            for rows in equal.chunk_by(|a, b| a.key == b.key) {
                visit(*rows.last().expect("chunks have rows"))?;
            }
        }
    }
    Ok(())
}
