//! Places in a database's log, written as text.
//!
//! ```text
//! mysql-bin-changelog.002171:36912271:0:…        a binlog's base name, its number, a position in it
//! 00000002/7C007178.3.00000002/7C007178          an LSN, high and low half
//! ```
//!
//! Absent on purpose: what follows. DMS writes more behind either, which no order of changes needs.

use super::values;
use super::version::binlog_file;

/// A place in a MySQL binlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binlog<'a> {
    /// The name of the binlog's files, without their number.
    pub(super) base: &'a [u8],
    /// The file's number.
    pub(super) file: u32,
    /// The position within the file.
    pub(super) at: u64,
}

/// The binlog place that the text begins with, and what follows it.
pub(super) fn binlog(text: &[u8]) -> Option<(Binlog<'_>, &[u8])> {
    let (name, rest) = text.split_at(memchr::memchr(b':', text)?);
    let (base, file) = binlog_file(name)?;
    let (at, rest) = rest[1..].split_at(run(&rest[1..], u8::is_ascii_digit));
    let at = u64::try_from(values::integer(at)?).ok()?;
    Some((Binlog { base, file, at }, rest))
}

/// The LSN that the text begins with.
pub(super) fn lsn(text: &[u8]) -> Option<u64> {
    let (high, rest) = text.split_at(run(text, u8::is_ascii_hexdigit));
    let rest = rest.strip_prefix(b"/")?;
    let low = &rest[..run(rest, u8::is_ascii_hexdigit)];
    Some(half(high)? << 32 | half(low)?)
}

/// Up to eight hexadecimal digits.
fn half(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(u64::from);
    (1..=8).contains(&text.len()).then(|| text.iter().try_fold(0, |value, byte| Some(value << 4 | digit(byte)?)))?
}

/// How many bytes at the beginning are of a kind.
fn run(text: &[u8], of: impl Fn(&u8) -> bool) -> usize {
    text.iter().position(|byte| !of(byte)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binlog_places() {
        for (text, expected) in [
            ("mysql-bin.000012:345", Some(("mysql-bin", 12, 345, ""))),
            (
                "mysql-bin-changelog.002171:36912271:0:369:93:mysql-bin.1:5",
                Some(("mysql-bin-changelog", 2171, 36_912_271, ":0:369:93:mysql-bin.1:5")),
            ),
            ("a.b.4294967295:18446744073709551615", Some(("a.b", u32::MAX, u64::MAX, ""))),
            (".1:0x", Some(("", 1, 0, "x"))),
            ("a.4294967296:1", None),
            ("a.1:18446744073709551616", None),
            ("a.:1", None),
            ("a.1:", None),
            ("a.1", None),
            ("a:b.1:2", None),
            ("a.-1:2", None),
            ("a.1:-2", None),
            ("a.+1:2", None),
            ("", None),
            (":", None),
            ("00000002/7C007178.3.00000002/7C007178", None),
        ] {
            let found = binlog(text.as_bytes());
            let expected = expected.map(|(base, file, at, rest): (&'static str, u32, u64, &'static str)| {
                (Binlog { base: base.as_bytes(), file, at }, rest.as_bytes())
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn lsns() {
        for (text, expected) in [
            ("00000002/7C007178.3.00000002/7C007178", Some(0x2_7C00_7178)),
            ("16/b374D848", Some(0x16_B374_D848)),
            ("ffffffff/FFFFFFFF", Some(u64::MAX)),
            ("0/0;", Some(0)),
            ("123456789/0", None),
            ("0/123456789", None),
            ("/1", None),
            ("1/", None),
            ("1/x", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(lsn(text.as_bytes()), expected, "{text}");
        }
    }
}
