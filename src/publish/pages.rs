//! The bytes within a page: dictionary indices packed to their width, levels, plain values.
//!
//! The format is Parquet's "RLE / bit-packing hybrid" with one run per page: repeated if all indices are equal, packed
//! otherwise. Absent on purpose: mixing runs. What repeats within a page is left to the compressor.

use storeflow_dataflows::key::push_varint;

/// Bits that hold every index of a dictionary of this size.
pub(crate) fn width(entries: usize) -> u32 {
    usize::BITS - entries.saturating_sub(1).leading_zeros()
}

/// Appends an index repeated for all rows of a page.
pub(crate) fn push_repeated(out: &mut Vec<u8>, index: u32, rows: usize, width: u32) {
    push_varint(out, (rows as u64) << 1);
    out.extend_from_slice(&index.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Appends the indices of a page, `width` bits each, least bit first.
pub(crate) fn push_packed(out: &mut Vec<u8>, indices: &[u32], width: u32) {
    let groups = indices.len().div_ceil(8);
    push_varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * width as usize;
    out.reserve(groups * width as usize + 4);
    let (mut bits, mut held) = (0_u64, 0);
    for index in indices {
        bits |= u64::from(*index) << held;
        held += width;
        if held >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            held -= 32;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes());
    // Whole groups of eight: the last one is filled up with zeros.
    out.resize(end, 0);
}

/// Appends the levels of a nullable column, preceded by their length: runs of rows that are all there or all null.
pub(crate) fn push_levels(out: &mut Vec<u8>, runs: impl Iterator<Item = (bool, usize)>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    for (present, rows) in runs {
        push_repeated(out, u32::from(present), rows, 1);
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a text as Parquet's plain encoding has it.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

/// Appends numbers, 64 or 32 bits each.
pub(crate) fn push_longs(out: &mut Vec<u8>, values: &[i64], narrow: bool) {
    if narrow {
        out.extend(values.iter().flat_map(|value| (*value as i32).to_le_bytes()));
    } else {
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// Appends yes and no, one bit each.
pub(crate) fn push_bools(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = bool>) {
    let start = out.len();
    out.resize(start + values.len().div_ceil(8), 0);
    for (at, value) in values.enumerate() {
        out[start + at / 8] |= u8::from(value) << (at % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        for (entries, expected) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (1 << 17, 17)] {
            assert_eq!(width(entries), expected, "{entries} entries");
        }
    }

    /// Packing against a twin that sets one bit at a time.
    #[test]
    fn packed_bit_by_bit() {
        for width in 0..=32_u32 {
            for rows in [1_usize, 7, 8, 9, 31, 32, 33, 100] {
                let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
                let indices: Vec<u32> = (0..rows as u32).map(|n| n.wrapping_mul(2_654_435_761) & mask).collect();
                let mut expected = vec![0_u8; rows.div_ceil(8) * width as usize];
                for (row, index) in indices.iter().enumerate() {
                    for bit in 0..width as usize {
                        let to = row * width as usize + bit;
                        expected[to / 8] |= ((index >> bit & 1) as u8) << (to % 8);
                    }
                }
                let mut out = Vec::new();
                push_packed(&mut out, &indices, width);
                assert_eq!(out[0], (rows.div_ceil(8) as u8) << 1 | 1);
                assert_eq!(out[1..], expected, "{rows} rows of {width} bits");
            }
        }
    }

    #[test]
    fn levels_in_runs() {
        let mut out = vec![9];
        push_levels(&mut out, [(true, 3), (false, 200)].into_iter());
        assert_eq!(out, [9, 5, 0, 0, 0, 6, 1, 0x90, 3, 0]);
    }
}
