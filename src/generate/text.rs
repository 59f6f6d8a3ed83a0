//! Numbers and JSON strings, appended to a reused buffer: what serde_json would cost in allocations, saved on the hot path.

/// "00" to "99".
const PAIRS: [u8; 200] = pairs();
const HEX: &[u8; 16] = b"0123456789abcdef";

const fn pairs() -> [u8; 200] {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[2 * number] = b'0' + (number / 10) as u8;
        pairs[2 * number + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
}

/// Appends text.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends decimal digits.
#[inline]
pub(super) fn push_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number >= 100 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number >= 10 {
        let pair = number as usize * 2;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends decimal digits, with a sign if negative.
#[inline]
pub(super) fn push_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_u64(out, number.unsigned_abs());
}

/// Appends exactly `width` digits, with leading zeros.
pub(super) fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    out.resize(out.len() + width.saturating_sub(digits), b'0');
    push_u64(out, number);
}

/// Appends hundredths as a decimal number with two digits after the point.
pub(super) fn push_hundredths(out: &mut Vec<u8>, hundredths: i64) {
    if hundredths < 0 {
        out.push(b'-');
    }
    push_u64(out, hundredths.unsigned_abs() / 100);
    out.push(b'.');
    let pair = (hundredths.unsigned_abs() % 100) as usize * 2;
    out.extend_from_slice(&PAIRS[pair..pair + 2]);
}

/// Appends the lowest `digits` hexadecimal digits.
pub(super) fn push_hex(out: &mut Vec<u8>, bits: u64, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(HEX[(bits >> (4 * digit)) as usize & 15]);
    }
}

/// Appends a random UUID (version 4) of these bits.
pub(super) fn push_uuid(out: &mut Vec<u8>, high: u64, low: u64) {
    push_hex(out, high >> 32, 8);
    out.push(b'-');
    push_hex(out, high >> 16, 4);
    push(out, "-4");
    push_hex(out, high, 3);
    out.push(b'-');
    push_hex(out, (low >> 48 & 0x3fff) | 0x8000, 4);
    out.push(b'-');
    push_hex(out, low, 12);
}

/// Appends `bytes` as a JSON string. Bytes that are not UTF-8 go through as they are, as `kcat -J` lets them.
#[inline]
pub(super) fn push_json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + bytes.len() / 4 + 2);
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                push(out, "\\u00");
                push_hex(out, u64::from(byte), 2);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers() {
        for number in [0, 9, 10, 99, 100, 101, 12_345, 1_000_000, u64::MAX] {
            assert_eq!(text(|out| push_u64(out, number)), number.to_string());
            assert_eq!(text(|out| push_padded(out, number, 6)), format!("{number:06}"));
        }
        assert_eq!(text(|out| push_i64(out, i64::MIN)), i64::MIN.to_string());
    }

    #[test]
    fn money() {
        for (hundredths, expected) in [(0, "0.00"), (5, "0.05"), (1_234_500, "12345.00"), (-705, "-7.05")] {
            assert_eq!(text(|out| push_hundredths(out, hundredths)), expected);
        }
    }

    #[test]
    fn strings_survive_a_json_parser() {
        for string in ["", "plain", "quote \" and \\ and \u{1} and \n", "검색"] {
            let json = text(|out| push_json_string(out, string.as_bytes()));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), string);
        }
    }

    #[test]
    fn uuids_have_version_and_variant() {
        let uuid = text(|out| push_uuid(out, u64::MAX, u64::MAX));
        assert_eq!(uuid, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
