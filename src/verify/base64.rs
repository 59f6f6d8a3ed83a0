//! Integers as base64 of their bytes, big endian and in two's complement.

use super::number::NumberError;

/// The integer that `text` holds; no bytes are zero.
pub(super) fn integer(text: &str) -> Result<i128, NumberError> {
    let bytes = bytes(text).ok_or(NumberError::Grammar)?;
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let filler = if negative { 0xff } else { 0 };
    // What is left begins with a byte that says more than the sign, or with one that has to say the sign.
    let mut rest = &bytes[..];
    while let [first, second, ..] = rest
        && *first == filler
        && (*second >= 0x80) == negative
    {
        rest = &rest[1..];
    }
    if rest.len() > 16 {
        return Err(NumberError::Range);
    }
    let start = if negative { -1 } else { 0 };
    Ok(rest.iter().fold(start, |value: i128, byte| value << 8 | i128::from(*byte)))
}

/// The bytes of a text in the standard alphabet, with padding; the bits that are left over are zero.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let plain = text.strip_suffix("==").or(text.strip_suffix('=')).unwrap_or(text);
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for letter in plain.bytes() {
        let six = ALPHABET.iter().position(|candidate| *candidate == letter)? as u32;
        (bits, held) = (bits << 6 | six, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn integers() {
        for (text, expected) in [
            ("", Ok(0)),
            ("AA==", Ok(0)),
            ("fw==", Ok(127)),
            ("gA==", Ok(-128)),
            ("/w==", Ok(-1)),
            ("AP8=", Ok(255)),
            ("//8=", Ok(-1)),
            ("/38=", Ok(-129)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAF", Ok(5)),
            ("EtaH", Ok(1_234_567)),
            ("AP//////////", Ok(18_446_744_073_709_551_615)),
            ("f////////////////////w==", Ok(i128::MAX)),
            ("gAAAAAAAAAAAAAAAAAAAAA==", Ok(i128::MIN)),
            ("AIAAAAAAAAAAAAAAAAAAAAA=", Err(NumberError::Range)),
            ("/3////////////////////8=", Err(NumberError::Range)),
            ("AA", Err(NumberError::Grammar)),
            ("AA=", Err(NumberError::Grammar)),
            ("A===", Err(NumberError::Grammar)),
            ("====", Err(NumberError::Grammar)),
            ("AB==", Err(NumberError::Grammar)),
            ("_w==", Err(NumberError::Grammar)),
            ("A A=", Err(NumberError::Grammar)),
            ("AA==AA==", Err(NumberError::Grammar)),
            ("12.5", Err(NumberError::Grammar)),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_library(content in proptest::collection::vec(proptest::num::u8::ANY, 0..20), text in "[A-D/+=]{0,9}") {
            proptest::prop_assert_eq!(bytes(&BASE64_STANDARD.encode(&content)), Some(content));
            proptest::prop_assert_eq!(bytes(&text), BASE64_STANDARD.decode(&text).ok());
        }
    }
}
