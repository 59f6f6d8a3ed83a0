//! Lengths of time as they are written in a job file: `90s`, `30m`, `48h`, `7d`, `1h30m`.
//!
//! Upholds: [`written`] is read back by [`read`] as the same length; a length beyond 64 bits is the longest there is, for
//! the caller's limits to refuse. Absent on purpose: fractions, months, years and
//! blanks; each length has few ways to be written, and none that depends on a calendar.

/// Milliseconds of each unit, largest first.
const UNITS: [(char, u64); 4] = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];

/// Milliseconds of a written length, or what is wrong with it.
pub(crate) fn read(text: &str) -> Result<u64, &'static str> {
    const SHAPE: &str = "is not a duration; write a number with s, m, h or d, such as \"30m\", \"7d\" or \"1h30m\"";
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(SHAPE);
        }
        let mut tail = tail.chars();
        let unit = tail.next().ok_or("has no unit; add s, m, h or d, such as \"30m\"")?;
        if !UNITS.iter().any(|(known, _)| *known == unit) {
            return Err(SHAPE);
        }
        // Each step looks only at the units after the one before.
        let Some((_, millis)) = units.find(|(known, _)| *known == unit) else {
            return Err("names its units out of order; largest first and each once, such as \"1h30m\"");
        };
        // Only digits: what cannot be parsed is too large.
        let number: u64 = number.parse().unwrap_or(u64::MAX);
        total = total.saturating_add(number.saturating_mul(*millis));
        rest = tail.as_str();
    }
    if text.is_empty() { Err(SHAPE) } else { Ok(total) }
}

/// A length (milliseconds, whole seconds) in the largest unit that divides it.
pub(super) fn written(millis: u64) -> String {
    // Up to two days one speaks of hours.
    let fits = |unit: char, length: u64| millis.is_multiple_of(length) && (unit != 'd' || millis > 2 * length);
    match UNITS.into_iter().find(|(unit, length)| fits(*unit, *length)) {
        Some((unit, length)) if millis > 0 => format!("{}{unit}", millis / length),
        _ => format!("{}m", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (text, millis) in
            [("90s", 90_000), ("30m", 1_800_000), ("48h", 172_800_000), ("7d", 604_800_000), ("1h30m", 5_400_000), ("0m", 0)]
        {
            assert_eq!(read(text), Ok(millis), "{text}");
            assert_eq!(read(&written(millis)), Ok(millis), "{text}");
        }
        for text in ["", "30", "m", "30 m", "30M", "-1m", "1.5h", "30m1h", "1m1m", "30min", "1ms", "٣m"] {
            assert!(read(text).is_err(), "{text}");
        }
        for text in ["99999999999999999999d", "999999999999999999d", "9999999999999999d99999999999999999h"] {
            assert_eq!(read(text), Ok(u64::MAX), "{text}");
        }
        for (millis, text) in [(172_800_000, "48h"), (259_200_000, "3d"), (3_600_000, "1h"), (5_400_000, "90m"), (0, "0m")] {
            assert_eq!(written(millis), text);
        }
    }
}
