//! Log time as text: in file names, and in rows for people.

use jiff::Timestamp;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// `2026-11-20T10:00:00Z`, with milliseconds only if there are any.
///
/// Beyond the calendar's years (no window or stamp is) it is the bare number of milliseconds.
pub fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// What [`instant`] writes, or a number of milliseconds, back to milliseconds since 1970.
pub fn parse_instant(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok())
}

/// The day of an instant, counted from 1970.
pub(crate) fn day(ms: i64) -> i64 {
    ms.div_euclid(DAY)
}

/// `2026-11-20`.
pub(crate) fn date(day: i64) -> String {
    let text = instant(day.saturating_mul(DAY));
    text.split('T').next().unwrap_or_default().to_owned()
}

/// `20261120T100000Z`, as file names have it.
pub(crate) fn compact(ms: u64) -> String {
    instant(i64::try_from(ms).unwrap_or(i64::MAX)).chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// What [`compact`] writes, back to milliseconds.
pub(crate) fn parse_compact(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let part = |text: &str, at: std::ops::Range<usize>| text.get(at).map(str::to_owned);
    let [year, month, day] = [part(date, 0..4)?, part(date, 4..6)?, part(date, 6..date.len())?];
    let [hour, minute, second] = [part(time, 0..2)?, part(time, 2..4)?, part(time, 4..time.len())?];
    parse_instant(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_text() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_168_800_000, "2026-11-20T10:00:00Z"),
            (1_795_168_800_005, "2026-11-20T10:00:00.005Z"),
            (7_258_118_400_000, "2200-01-01T00:00:00Z"),
        ] {
            assert_eq!(instant(ms), text);
            assert_eq!((parse_instant(text), parse_instant(&ms.to_string())), (Some(ms as u64), Some(ms as u64)));
        }
        assert_eq!(instant(i64::MAX), "9223372036854775807");
        assert_eq!((parse_instant("1969-12-31T00:00:00Z"), parse_instant("yesterday")), (None, None));
        assert_eq!(date(day(1_795_168_800_000)), "2026-11-20");
        assert_eq!(date(day(-1)), "1969-12-31");
        assert_eq!(compact(1_795_168_800_000), "20261120T100000Z");
        for ms in [1_795_168_800_000, 1_795_168_800_005] {
            assert_eq!(parse_compact(&compact(ms)), Some(ms));
        }
        assert_eq!((parse_compact("20261120"), parse_compact("1T2Z")), (None, None));
    }
}
