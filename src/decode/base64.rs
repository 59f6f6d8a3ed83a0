//! Base64 of big integers, as Kafka Connect writes decimals: standard alphabet with padding, big-endian two's complement.
//!
//! Upholds: nothing is allocated, whatever the length: bytes go into the integer as they come. Text that another decoder would
//! refuse is refused: missing padding, and bits behind the last byte that are not zero.

use super::values::DecimalError;

/// The integer; no bytes are zero.
///
/// # Errors
/// [`DecimalError::Syntax`] if it is no base64, [`DecimalError::Range`] if the integer has more than 16 bytes.
pub(super) fn integer(text: &[u8]) -> Result<i128, DecimalError> {
    let (groups, rest) = text.as_chunks::<4>();
    let Some((last, groups)) = groups.split_last().filter(|_| rest.is_empty()) else {
        return if text.is_empty() { Ok(0) } else { Err(DecimalError::Syntax) };
    };
    let mut number = Number { value: 0, started: false, over: false };
    for group in groups {
        let bits = bits(group)?;
        number.push(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
    }
    match last {
        [a, b, b'=', b'='] => match bits(&[*a, *b, b'A', b'A'])? {
            bits if bits & 0xffff == 0 => number.push(&[(bits >> 16) as u8]),
            _ => return Err(DecimalError::Syntax),
        },
        [a, b, c, b'='] => match bits(&[*a, *b, *c, b'A'])? {
            bits if bits & 0xff == 0 => number.push(&[(bits >> 16) as u8, (bits >> 8) as u8]),
            _ => return Err(DecimalError::Syntax),
        },
        group => {
            let bits = bits(group)?;
            number.push(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
        }
    }
    if number.over { Err(DecimalError::Range) } else { Ok(number.value) }
}

struct Number {
    value: i128,
    started: bool,
    over: bool,
}

impl Number {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.started {
                self.started = true;
                self.value = if *byte >= 0x80 { -1 } else { 0 };
            }
            // What is shifted out must be sign alone.
            self.over |= !matches!(self.value >> 119, 0 | -1);
            self.value = self.value << 8 | i128::from(*byte);
        }
    }
}

/// The 24 bits of four digits.
fn bits(group: &[u8; 4]) -> Result<u32, DecimalError> {
    group.iter().try_fold(0, |bits, digit| {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(DecimalError::Syntax),
        };
        Ok(bits << 6 | u32::from(six))
    })
}

#[cfg(test)]
mod tests {
    use ::base64::Engine;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_example() {
        for (text, expected) in [
            ("", Ok(0)),
            ("AA==", Ok(0)),
            ("AQ==", Ok(1)),
            ("/w==", Ok(-1)),
            ("EtaH", Ok(1_234_567)),
            ("JwY=", Ok(9_990)),
            ("AP//////////", Ok(u64::MAX.into())),
            ("f////////////////////w==", Ok(i128::MAX)),
            ("gAAAAAAAAAAAAAAAAAAAAA==", Ok(i128::MIN)),
            ("AIAAAAAAAAAAAAAAAAAAAAA=", Err(DecimalError::Range)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAH", Ok(7)),
            ("AQ", Err(DecimalError::Syntax)),
            ("AQ=", Err(DecimalError::Syntax)),
            ("AR==", Err(DecimalError::Syntax)),
            ("AQE", Err(DecimalError::Syntax)),
            ("AAF=", Err(DecimalError::Syntax)),
            ("====", Err(DecimalError::Syntax)),
            ("A===", Err(DecimalError::Syntax)),
            ("AQ==AQ==", Err(DecimalError::Syntax)),
            ("_w==", Err(DecimalError::Syntax)),
            ("12.5", Err(DecimalError::Syntax)),
            ("AQ==\n", Err(DecimalError::Syntax)),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_come_back(value in any::<i128>(), sign_bytes in 0usize..5, drop in 0usize..16) {
            let value = value >> (8 * drop);
            let sign = if value < 0 { 0xff } else { 0 };
            let bytes: Vec<u8> = std::iter::repeat_n(sign, sign_bytes).chain(value.to_be_bytes()).collect();
            prop_assert_eq!(integer(STANDARD.encode(bytes).as_bytes()), Ok(value));
        }

        #[test]
        fn takes_what_the_reference_takes(text in "[A-Ca-c0-2+/=_ ]{0,9}") {
            prop_assert_eq!(integer(text.as_bytes()).is_ok(), STANDARD.decode(&text).is_ok());
        }

        #[test]
        fn more_than_sixteen_bytes_are_out_of_range(first in 1u8..0x7f, rest in proptest::collection::vec(any::<u8>(), 16..24)) {
            let bytes: Vec<u8> = std::iter::once(first).chain(rest).collect();
            prop_assert_eq!(integer(STANDARD.encode(bytes).as_bytes()), Err(DecimalError::Range));
        }
    }
}
