//! What follows from an as-of and a job's lengths of time: today, the newest closed window, and instants as they are typed.
//!
//! Upholds: every instant that RFC 3339 can write is understood, also those that no calendar of ours reaches.

use std::ops::Range;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::table::Window;

use super::problem::{Code, Problem};
use crate::publish::layout::About;

/// Milliseconds of the last instant that has a date in every time zone.
const LAST: i64 = 253_402_207_200_000;

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// By its IANA name.
    ///
    /// # Errors
    /// If this program does not know it.
    pub fn named(name: &str) -> Result<Zone, Problem> {
        TimeZone::get(name).map(Zone).map_err(|error| {
            tracing::error!(timezone = name, %error, "the job's time zone is not known to this program; is it older than the job's?");
            Problem::new(Code::Internal, "the job's time zone is not known; the log says more")
        })
    }
}

/// A day of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// `2026-11-25`.
    pub date: String,
    /// Its first instant, milliseconds.
    pub from: i64,
    /// The windows that start within it.
    pub windows: Range<Window>,
}

/// The day that an instant (milliseconds) is in.
pub fn day_of(horizons: &Horizons, zone: &Zone, at: u64) -> Day {
    let at = Timestamp::from_millisecond(clamped(i64::try_from(at).unwrap_or(LAST))).unwrap_or_default();
    let now = at.to_zoned(zone.0.clone());
    // There is a first instant and a day after for all but the last day of the calendar, which no log time is in.
    let first = now.start_of_day().unwrap_or_else(|_| now.clone());
    let next = now.tomorrow().and_then(|tomorrow| tomorrow.start_of_day()).unwrap_or_else(|_| now.clone());
    let ms = |at: &Zoned| at.timestamp().as_millisecond();
    let windows = window_from(horizons, ms(&first))..window_from(horizons, ms(&next));
    Day { date: now.date().to_string(), from: ms(&first), windows }
}

/// The last window that is closed at an instant (milliseconds), if one is.
pub fn newest_closed(horizons: &Horizons, at: u64) -> Option<Window> {
    let mut window = horizons.window_of(at.min(LAST as u64));
    while window >= 0 && !horizons.closed(window, at) {
        window -= horizons.window as Window;
    }
    (window >= 0).then_some(window)
}

/// The windows that an answer about a store needs at an as-of: those of today, and the newest closed one.
pub fn needed_now(about: &About, zone: &Zone, as_of: u64) -> Range<Window> {
    let horizons = &about.horizons;
    let Range { start, end } = day_of(horizons, zone, as_of).windows;
    match newest_closed(horizons, as_of) {
        Some(closed) => start.min(closed)..end.max(closed + horizons.window as Window),
        None => start..end,
    }
}

/// All windows there can be.
pub fn all_windows(horizons: &Horizons) -> Range<Window> {
    0..LAST - LAST % horizons.window as i64
}

/// The first window that starts at or after an instant (milliseconds).
pub fn window_from(horizons: &Horizons, at: i64) -> Window {
    let (at, window) = (clamped(at), horizons.window as i64);
    (at + window - 1).div_euclid(window).saturating_mul(window).min(all_windows(horizons).end)
}

/// The window that an instant (milliseconds) is in.
pub fn window_at(horizons: &Horizons, at: i64) -> Window {
    horizons.window_of(clamped(at) as u64).min(all_windows(horizons).end - horizons.window as i64)
}

fn clamped(at: i64) -> i64 {
    at.clamp(0, LAST)
}

/// An instant as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typed {
    /// Milliseconds since 1970, rounded down.
    pub ms: i64,
    /// It is some way into the millisecond.
    pub inexact: bool,
}

impl Typed {
    /// The first whole millisecond at or after it.
    pub fn rounded_up(self) -> i64 {
        self.ms + i64::from(self.inexact)
    }
}

/// An instant of RFC 3339, of any year from 0000 to 9999 and any offset. A leap second is the first one of the next minute.
pub fn parse(text: &str) -> Option<Typed> {
    let bytes = text.as_bytes();
    let digits = |range: Range<usize>| -> Option<i64> {
        let digits = bytes.get(range)?;
        digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|byte| any.contains(byte));
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let separated = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second <= 60;
    if !separated || !in_range || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let mut at = 19;
    let (mut ms, mut inexact) = (0, false);
    if is(at, b".") {
        let fraction = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if fraction == 0 {
            return None;
        }
        let digit = |place: usize| if place < fraction { i64::from(bytes[at + 1 + place] - b'0') } else { 0 };
        ms = digit(0) * 100 + digit(1) * 10 + digit(2);
        inexact = (3..fraction).any(|place| digit(place) != 0);
        at += 1 + fraction;
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let (hours, minutes) = (digits(at + 1..at + 3)?, digits(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    let minutes = (days_before(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some(Typed { ms: (minutes * 60 + second) * 1_000 + ms, inexact })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    years + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::epoch::Before;

    use super::*;

    const MINUTE: u64 = 60_000;

    fn horizons(window: u64) -> Horizons {
        let (window, grace, retention) = (window * MINUTE, 2 * MINUTE, 48 * 60 * MINUTE);
        Horizons { window, grace, retention, replay_horizon: 0, before: Before::NOTHING }
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("an instant").as_millisecond()
    }

    fn day(window: u64, zone: &str, at: &str) -> (String, i64, Range<i64>) {
        let Day { date, from, windows } = day_of(&horizons(window), &Zone::named(zone).expect("a zone"), ms(at) as u64);
        (date, from, windows)
    }

    #[test]
    fn a_day_is_of_its_zone() {
        let (from, to) = (ms("2026-11-24T15:00:00Z"), ms("2026-11-25T15:00:00Z"));
        assert_eq!(day(30, "Asia/Seoul", "2026-11-25T05:41:07Z"), ("2026-11-25".to_owned(), from, from..to));
        assert_eq!(day(30, "Asia/Seoul", "2026-11-24T15:00:00Z").0, "2026-11-25");
        assert_eq!(day(30, "Asia/Seoul", "2026-11-24T14:59:59.999Z").0, "2026-11-24");
        // A day that begins within a window, or is not as long as others.
        let windows = day(60, "Asia/Kolkata", "2026-11-25T05:00:00Z").2;
        assert_eq!(windows, ms("2026-11-24T19:00:00Z")..ms("2026-11-25T19:00:00Z"));
        let (_, from, windows) = day(30, "Europe/Berlin", "2026-10-25T12:00:00Z");
        assert_eq!(from, ms("2026-10-24T22:00:00Z"));
        assert_eq!(windows.end - windows.start, 25 * 60 * MINUTE as i64);
        assert_eq!(day(30, "UTC", "1970-01-01T00:00:00Z").2.start, 0);
        assert_eq!(Zone::named("Mars/Olympus").expect_err("unknown").code, Code::Internal);
    }

    #[test]
    fn a_window_is_closed_after_its_grace() {
        let newest = |at: &str| newest_closed(&horizons(30), ms(at) as u64);
        assert_eq!(newest("2026-11-25T05:41:07Z"), Some(ms("2026-11-25T05:00:00Z")));
        assert_eq!(newest("2026-11-25T05:31:59.999Z"), Some(ms("2026-11-25T04:30:00Z")));
        assert_eq!(newest("2026-11-25T05:32:00Z"), Some(ms("2026-11-25T05:00:00Z")));
        assert_eq!(newest("1970-01-01T00:31:00Z"), None);
    }

    #[test]
    fn after_midnight_the_newest_closed_window_is_of_yesterday() {
        let about = crate::serve::testing::about();
        let needed = needed_now(&about, &Zone::named("UTC").expect("UTC"), ms("2026-11-25T00:10:00Z") as u64);
        assert_eq!(needed, ms("2026-11-24T23:30:00Z")..ms("2026-11-26T00:00:00Z"));
    }

    #[test]
    fn instants_of_any_kind_are_read() {
        for text in [
            "2026-11-25T05:30:00Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999Z",
            "2024-02-29T12:00:00.5+09:00",
            "2000-02-29T23:59:59-12:34",
            "2100-03-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "0000-02-29T00:00:00Z",
            "9999-12-30T00:00:00Z",
        ] {
            assert_eq!(parse(text), Some(Typed { ms: ms(text), inexact: false }), "{text}");
        }
        let end = parse("9999-12-31T23:59:59.999-23:59").expect("far away");
        assert!(end.ms > LAST);
        assert_eq!(window_from(&horizons(30), end.ms), all_windows(&horizons(30)).end);
        assert_eq!(window_at(&horizons(30), end.ms), all_windows(&horizons(30)).end - 30 * MINUTE as i64);
        assert_eq!(window_from(&horizons(30), parse("0001-01-01T00:00:00Z").expect("long ago").ms), 0);
        assert_eq!(parse("2016-12-31t23:59:60z").map(|typed| typed.ms), Some(ms("2017-01-01T00:00:00Z")));
        let within = parse("2026-11-25T05:30:00.0001Z").expect("within a millisecond");
        assert_eq!((within.ms, within.rounded_up()), (ms("2026-11-25T05:30:00Z"), ms("2026-11-25T05:30:00.001Z")));
        for text in [
            "",
            "yesterday",
            "2026-11-25",
            "2026-11-25T05:30Z",
            "2026-11-25T05:30:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T05:30:00.Z",
            "2026-11-25T05:30:00+0900",
            "2026-11-25T05:30:00+24:00",
            "2026-11-25T05:30:00Zz",
            "+2026-11-25T05:30:00Z",
            "2026-11-25T05:30:00é",
            "2026-11-00T05:30:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
