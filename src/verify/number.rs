//! Exact decimal numbers from their text, without floating point.

/// Why a text is no amount, or none this job can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not a number by the grammar.
    Grammar,
    /// More significant digits behind the point than the scale has.
    Precision,
    /// Further from zero than allowed.
    Range,
}

/// The value of `text` in units of 10^-`scale`, at most `limit` from zero.
///
/// The grammar is that of JSON numbers; `lenient` also takes leading zeros and a leading `+`.
pub(super) fn parse_decimal(text: &str, lenient: bool, scale: u32, limit: i128) -> Result<i128, NumberError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, if lenient { text.strip_prefix('+').unwrap_or(text) } else { text }),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, digits(fraction)?),
        None => (mantissa, ""),
    };
    let whole = digits(whole)?;
    if !lenient && whole.len() > 1 && whole.starts_with('0') {
        return Err(NumberError::Grammar);
    }

    // The value is `significant` times 10^power.
    let all = format!("{whole}{fraction}");
    let stripped = all.trim_end_matches('0');
    let significant = stripped.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let power = exponent - fraction.len() as i128 + (all.len() - stripped.len()) as i128 + i128::from(scale);
    if power < 0 {
        return Err(NumberError::Precision);
    }
    // An i128 holds every number of 38 digits; no limit in this job comes near.
    if significant.len() as i128 + power > 38 {
        return Err(NumberError::Range);
    }
    let units = format!("{significant}{}", "0".repeat(power as usize)).parse::<i128>().map_err(|_| NumberError::Range)?;
    if units > limit {
        return Err(NumberError::Range);
    }
    Ok(if negative { -units } else { units })
}

/// `text` if it is one digit or more, and nothing else.
fn digits(text: &str) -> Result<&str, NumberError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) { Ok(text) } else { Err(NumberError::Grammar) }
}

/// An exponent; those of more than 18 digits are as good as 10^18, as no line is that long.
fn parse_exponent(text: &str) -> Result<i128, NumberError> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let significant = digits(unsigned)?.trim_start_matches('0');
    let value = match significant.len() {
        0 => 0,
        1..=18 => significant.parse::<i128>().map_err(|_| NumberError::Grammar)?,
        _ => 10_i128.pow(18),
    };
    Ok(sign * value)
}

#[cfg(test)]
mod tests {
    use super::NumberError::{Grammar, Precision, Range};
    use super::*;

    #[test]
    fn decimals() {
        let limit = 10_i128.pow(26);
        for (text, lenient, scale, expected) in [
            ("0", false, 2, Ok(0)),
            ("-0", false, 2, Ok(0)),
            ("0e999999999999999999999999", false, 0, Ok(0)),
            ("0.000e-5", false, 0, Ok(0)),
            ("12", false, 2, Ok(1200)),
            ("-12.3", false, 2, Ok(-1230)),
            ("12.34", false, 2, Ok(1234)),
            ("12.340000000000000000000000000000000000000000000", false, 2, Ok(1234)),
            ("12.345", false, 2, Err(Precision)),
            ("12.345e1", false, 2, Ok(12345)),
            ("1E2", false, 0, Ok(100)),
            ("100e-2", false, 0, Ok(1)),
            ("100e-3", false, 0, Err(Precision)),
            ("1e-18", false, 18, Ok(1)),
            ("100000000e-26", false, 18, Ok(1)),
            ("1e26", false, 0, Ok(10_i128.pow(26))),
            ("-1e26", false, 0, Ok(-10_i128.pow(26))),
            ("100000000000000000000000001", false, 0, Err(Range)),
            ("-1e26", false, 1, Err(Range)),
            ("1e99999999999999999999999999999", false, 0, Err(Range)),
            ("1e-99999999999999999999999999999", false, 0, Err(Precision)),
            ("1e0000000000000000000000000000001", false, 0, Ok(10)),
            ("0.00000000000000000000000000000000000000001e41", false, 0, Ok(1)),
            ("+1", false, 0, Err(Grammar)),
            ("+1", true, 0, Ok(1)),
            ("007.50", true, 2, Ok(750)),
            ("007.50", false, 2, Err(Grammar)),
            ("-007", true, 0, Ok(-7)),
            ("+-1", true, 0, Err(Grammar)),
            ("-+1", true, 0, Err(Grammar)),
            ("--1", true, 0, Err(Grammar)),
            (".5", true, 2, Err(Grammar)),
            ("5.", true, 2, Err(Grammar)),
            ("", true, 2, Err(Grammar)),
            ("-", true, 2, Err(Grammar)),
            ("1e", true, 2, Err(Grammar)),
            ("1e+", true, 2, Err(Grammar)),
            ("1e+-1", true, 2, Err(Grammar)),
            ("1e1.0", true, 2, Err(Grammar)),
            ("1.2.3", true, 2, Err(Grammar)),
            ("1,000", true, 2, Err(Grammar)),
            (" 1", true, 2, Err(Grammar)),
            ("1 ", true, 2, Err(Grammar)),
            ("NaN", true, 2, Err(Grammar)),
            ("１", true, 2, Err(Grammar)),
        ] {
            assert_eq!(parse_decimal(text, lenient, scale, limit), expected, "{text} at scale {scale}");
        }
    }
}
