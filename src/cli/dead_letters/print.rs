//! Dead letters as people and programs read them.
//!
//! Upholds: raw bytes of a record are printed as text only if they are UTF-8, and without the characters that move a terminal.

use serde_json::Value;

use crate::publish::dead_letters::MadeBy;
use crate::publish::dead_letters::read::{Letter, Place, Stored};
use crate::publish::time::instant;

/// Longest error in a table, characters.
const ERROR_MAX: usize = 100;

/// The way a letter is asked for: `topic/partition/offset`.
pub(super) fn address(place: &Place) -> String {
    format!("{}/{}/{}", place.topic, place.partition, place.offset)
}

/// What [`address`] writes.
pub(super) fn parse_address(text: &str) -> Result<(String, u32, u64), String> {
    let parse = || {
        let (rest, offset) = text.rsplit_once('/')?;
        let (topic, partition) = rest.rsplit_once('/')?;
        Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?)).filter(|(topic, ..)| !topic.is_empty())
    };
    parse().ok_or_else(|| "is no TOPIC/PARTITION/OFFSET, as `storeflow dead-letters list` prints them".to_owned())
}

/// A line of the table.
pub(super) fn row(letter: &Letter) -> Vec<String> {
    let error = printable(&letter.error);
    let short: String = error.chars().take(ERROR_MAX).collect();
    let error = if short.len() < error.len() { format!("{short}…") } else { error };
    let stamp = instant(i64::try_from(letter.place.stamp).unwrap_or(i64::MAX));
    vec![stamp, address(&letter.place), letter.reason.clone(), error]
}

/// One JSON object, as the files have it, and whether it is in one.
pub(super) fn json(letter: Letter) -> anyhow::Result<String> {
    let shown = letter.shown;
    let mut object = serde_json::to_value(Stored::from(letter))?;
    if let Some(object) = object.as_object_mut() {
        object.insert("shown".to_owned(), Value::Bool(shown));
    }
    Ok(object.to_string())
}

/// All of a letter, for people.
pub(super) fn whole(letter: &Letter) -> String {
    let Letter { place, timestamp, key, value, headers, reason, error, job, by, first_stamp, shown } = letter;
    let MadeBy { job_version, storeflow_version } = by;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    line("record", &address(place));
    line("reason", reason);
    line("error", &printable(error));
    line("stamp", &instant(i64::try_from(place.stamp).unwrap_or(i64::MAX)));
    if let Some(first) = first_stamp {
        line("read first", &instant(i64::try_from(*first).unwrap_or(i64::MAX)));
    }
    line("timestamp", &timestamp.map_or_else(|| "none".to_owned(), instant));
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    line("job", &format!("{job}, version {}, storeflow {}", version(job_version), version(storeflow_version)));
    line("in", if *shown { "a file" } else { "the newest checkpoint; its epoch is not over" });
    line("key", &bytes(key.as_deref()));
    for (name, value) in headers {
        line("header", &format!("{} = {}", printable(name), bytes(value.as_deref())));
    }
    line("value", &bytes(value.as_deref()));
    text
}

/// Text if it is UTF-8, otherwise hexadecimal.
fn bytes(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    match std::str::from_utf8(bytes) {
        Ok("") => "empty".to_owned(),
        Ok(text) => printable(text),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes, not UTF-8: {digits}", bytes.len())
        }
    }
}

/// A text with what moves a terminal escaped.
fn printable(text: &str) -> String {
    let moves = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if moves(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_printed() {
        let place = Place { stamp: 5, topic: "a/b.c".to_owned(), partition: 3, offset: 17 };
        assert_eq!(parse_address(&address(&place)), Ok(("a/b.c".to_owned(), 3, 17)));
        for wrong in ["", "a", "a/1", "/1/2", "a/1/x", "a/-1/2"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn raw_bytes_move_no_terminal() {
        assert_eq!(bytes(Some("a\u{1b}[2J\nüb\u{202e}".as_bytes())), "a\\u{1b}[2J\\nüb\\u{202e}");
        assert_eq!(bytes(Some(&[0x7b, 0xff])), "2 bytes, not UTF-8: 7bff");
        assert_eq!((bytes(None), bytes(Some(b""))), ("null".to_owned(), "empty".to_owned()));
    }
}
