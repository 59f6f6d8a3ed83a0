//! Columns of numbers, each in as few whole bytes as the widest needs.
//!
//! ```text
//! 21 22 20 25 ─► width 1 │ least 20 │ 1 2 0 5          7 7 7 7 ─► width 0 │ least 7
//! ```
//!
//! Whole bytes and one width per column: a row is a copy of a constant size, which is what makes writing and reading cost about a
//! nanosecond. Numbers that are all equal, as the lengths of keys often are, take nothing. Bits would save one byte in seven of
//! the hashes, at several times the price.

/// Appends a column.
pub(crate) fn push(out: &mut Vec<u8>, numbers: &[u64]) {
    let (least, greatest) = numbers.iter().fold((u64::MAX, 0), |(least, greatest), &n| (n.min(least), n.max(greatest)));
    let least = least.min(greatest);
    let width = (u64::BITS - (greatest - least).leading_zeros()).div_ceil(8) as usize;
    out.push(width as u8);
    out.extend_from_slice(&least.to_le_bytes());
    match width {
        0 => {}
        1 => push_width::<1>(out, numbers, least),
        2 => push_width::<2>(out, numbers, least),
        3 => push_width::<3>(out, numbers, least),
        4 => push_width::<4>(out, numbers, least),
        5 => push_width::<5>(out, numbers, least),
        6 => push_width::<6>(out, numbers, least),
        7 => push_width::<7>(out, numbers, least),
        _ => push_width::<8>(out, numbers, least),
    }
}

fn push_width<const WIDTH: usize>(out: &mut Vec<u8>, numbers: &[u64], least: u64) {
    let from = out.len();
    out.resize(from + WIDTH * numbers.len(), 0);
    for (place, number) in out[from..].as_chunks_mut::<WIDTH>().0.iter_mut().zip(numbers) {
        place.copy_from_slice(&(number - least).to_le_bytes()[..WIDTH]);
    }
}

/// Reads a column of `count` numbers into `numbers`, moving `bytes` past it; `None` if they are not one.
pub(crate) fn take(bytes: &mut &[u8], count: usize, numbers: &mut Vec<u64>) -> Option<()> {
    let width = usize::from(bytes.split_off_first().copied()?);
    let least = take_u64(bytes)?;
    let column = bytes.split_off(..width.checked_mul(count)?)?;
    numbers.clear();
    match width {
        0 => numbers.resize(count, least),
        1 => take_width::<1>(column, least, numbers),
        2 => take_width::<2>(column, least, numbers),
        3 => take_width::<3>(column, least, numbers),
        4 => take_width::<4>(column, least, numbers),
        5 => take_width::<5>(column, least, numbers),
        6 => take_width::<6>(column, least, numbers),
        7 => take_width::<7>(column, least, numbers),
        8 => take_width::<8>(column, least, numbers),
        _ => return None,
    }
    Some(())
}

fn take_width<const WIDTH: usize>(column: &[u8], least: u64, numbers: &mut Vec<u64>) {
    numbers.extend(column.as_chunks::<WIDTH>().0.iter().map(|place| {
        let mut word = [0; 8];
        word[..WIDTH].copy_from_slice(place);
        least.wrapping_add(u64::from_le_bytes(word))
    }));
}

/// Reads eight bytes, least first.
pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let word = bytes.split_off(..8)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_and_what_is_cut_off_is_noticed(
            numbers in (0..64u32).prop_flat_map(|bits| proptest::collection::vec(0..=u64::MAX >> bits, 0..50)),
            base in any::<u32>(),
        ) {
            let numbers: Vec<u64> = numbers.into_iter().map(|n| n.saturating_add(u64::from(base))).collect();
            let mut bytes = Vec::new();
            push(&mut bytes, &numbers);
            let mut found = Vec::new();
            let mut rest = &[&bytes[..], b"rest"].concat()[..];
            prop_assert_eq!(take(&mut rest, numbers.len(), &mut found), Some(()));
            prop_assert_eq!(rest, b"rest");
            prop_assert_eq!(&found, &numbers);
            let mut short = &bytes[..bytes.len() - 1];
            prop_assert_eq!(take(&mut short, numbers.len(), &mut found), None);
        }
    }

    #[test]
    fn equal_numbers_take_nothing() {
        let mut bytes = Vec::new();
        push(&mut bytes, &[12; 1000]);
        assert_eq!(bytes.len(), 9);
    }
}
