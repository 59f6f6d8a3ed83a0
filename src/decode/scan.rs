//! Where a run of bytes of one kind ends, looked for sixteen bytes at a time.
//!
//! Sixteen is what the least of x86-64 and ARM64 processors compares at once, and most strings of records are shorter: one
//! step, and no branch that depends on their length. Absent on purpose: wider steps chosen at run time, and `unsafe`, which
//! the intrinsics themselves would need.

use wide::u8x16;

/// Bytes looked at in one step.
pub(super) const STEP: usize = 16;

/// How many of the first bytes are plain text of a string: no quote, backslash or control character.
#[inline(always)]
pub(super) fn plain(chunk: &[u8; STEP]) -> usize {
    let bytes = u8x16::new(*chunk);
    let special = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | at_most(bytes, 0x1f);
    first(special.to_bitmask())
}

/// How many of the first bytes are decimal digits.
#[inline(always)]
pub(super) fn digits(chunk: &[u8; STEP]) -> usize {
    first(!at_most(u8x16::new(*chunk) - u8x16::splat(b'0'), 9).to_bitmask())
}

/// All bits of the bytes that are at most `most`.
#[inline(always)]
fn at_most(bytes: u8x16, most: u8) -> u8x16 {
    bytes.min(u8x16::splat(most)).simd_eq(bytes)
}

/// The place of the first of sixteen bits that is set.
#[inline(always)]
fn first(bits: u32) -> usize {
    (bits | 1 << STEP).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        for byte in 0..=255 {
            for at in 0..STEP {
                let mut text = *b"abcdefghijklmnop";
                text[at] = byte;
                assert_eq!(plain(&text), if is_plain(byte) { STEP } else { at }, "{byte:#x} at {at}");
                let mut text = *b"0123456789012345";
                text[at] = byte;
                assert_eq!(digits(&text), if byte.is_ascii_digit() { STEP } else { at }, "{byte:#x} at {at}");
            }
        }
    }
}
