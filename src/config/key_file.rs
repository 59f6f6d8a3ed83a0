//! Reads a file of API keys: TOML in, the hash of each key with what it may see, or every mistake, out.
//!
//! ```toml
//! [[key]]
//! id = "owner-7"
//! sha256 = "…64 hexadecimal digits…"
//! stores = ["7", "12"]            # absent: all
//! rate = 50                       # requests per second; absent: the server's
//! expires = 2027-01-01T00:00:00Z  # absent: never
//! ```
//!
//! Upholds: (1) no bytes make it panic or run for long; (2) ids and hashes are each there once; (3) a message never repeats a value: one
//! who pastes a key where its hash belongs does not find it in a log.
//! Absent on purpose: keys. A file that was read by others has told them nothing that opens anything.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;

use jiff::Timestamp;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{JobFileError, Mistakes, Reported};
use super::fields::{Field, Section};
use super::job_file::{not_utf8, on_large_stack};

/// What every key begins with, so that scanners of repositories can know one.
pub const KEY_PREFIX: &str = "sfk_";

/// The most requests per second that a key may have.
pub const RATE_MAX: u32 = 1_000_000;

/// Every field of a key.
const FIELDS: [&str; 5] = ["id", "sha256", "stores", "rate", "expires"];

/// Room for a key of each of 50,000 stores.
const FILE_BYTES_MAX: u64 = 8 << 20;
const ID_CHARACTERS_MAX: usize = 64;

const ID_RULE: &str = "must be 1 to 64 letters, digits, \"-\", \"_\" or \".\", and no key itself";

/// Why a file of API keys was not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not there, a directory, no permission.
    #[error("could not read API key file \"{file}\"")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// No key file is this large; it was not read to its end.
    #[error("API key file \"{file}\" is larger than {FILE_BYTES_MAX} bytes; is it a key file?")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// Everything found wrong with its text; one line each.
    #[error(transparent)]
    Mistakes(JobFileError),
}

/// SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// As it stands in the file: 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// One `[[key]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What it is called, in logs as well.
    pub id: String,
    /// What it is known by.
    pub digest: Digest,
    /// The stores it may see; `None`: all.
    pub stores: Option<BTreeSet<String>>,
    /// Requests per second; `None`: the server's.
    pub rate: Option<NonZeroU32>,
    /// When it ends, milliseconds since 1970; `None`: never.
    pub expires: Option<u64>,
    /// Where it stands in the text, from its header to the end of its last value.
    pub place: Range<usize>,
}

/// Reads the bytes of a key file, as many as there may be and one more.
///
/// # Errors
/// If the system does not give them.
pub fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|source| KeyFileError::Unreadable { file: path.display().to_string(), source })?;
    Ok(bytes)
}

/// Reads the text of a key file, in the order in which keys stand there; `file` is its name in messages.
///
/// # Errors
/// Every mistake with its place.
pub fn parse(bytes: &[u8], file: &str) -> Result<Vec<KeySpec>, KeyFileError> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(KeyFileError::TooLarge { file: file.to_owned() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| KeyFileError::Mistakes(not_utf8(bytes, error, file)))?;
    on_large_stack("API key file", || resolve(text, file))
        .map_err(|source| KeyFileError::Unreadable { file: file.to_owned(), source })?
        .map_err(KeyFileError::Mistakes)
}

/// Whether a key may have this id.
pub fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=ID_CHARACTERS_MAX).contains(&text.len()) && text.chars().all(plain) && !text.starts_with(KEY_PREFIX)
}

fn resolve(text: &str, file: &str) -> Result<Vec<KeySpec>, JobFileError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = table.get_ref();
    let mut mistakes = Mistakes::new(text);
    // TOML's own words say what was expected; what was found stays where it is.
    mistakes.syntax_in_words(&errors, |_, _, message| format!("not TOML: {message}"));
    let sections = sections(table, text.len());
    let head = sections.iter().map(|section| section.extent.start).min().unwrap_or(text.len());
    let top = Section { table, extent: 0..head, subject: String::new(), path: String::new(), known: &["key"] };
    top.unknown(|_| Some("each key begins with [[key]]"), &mut mistakes);
    if let Some(field) = top.field("key") {
        check_kind(&field, &mut mistakes);
    }
    let (mut ids, mut digests) = (HashMap::new(), HashMap::new());
    let mut keys = Vec::with_capacity(sections.len());
    for (section, number) in sections.iter().zip(1..) {
        keys.extend(read_key(section, number, (&mut ids, &mut digests), &mut mistakes));
    }
    mistakes.into_result(file, keys)
}

fn check_kind(field: &Field<'_>, mistakes: &mut Mistakes<'_>) {
    let tables = |value: &DeValue<'_>| value.as_array().is_some_and(|items| items.iter().all(|item| item.get_ref().is_table()));
    if !tables(field.value()) {
        field.wrong_type("a list of tables, [[key]]", mistakes);
    }
}

/// The tables of `key`, each up to the next one.
fn sections<'a>(table: &'a DeTable<'a>, end: usize) -> Vec<Section<'a>> {
    let Some(DeValue::Array(items)) = table.get("key").map(|key| key.get_ref()) else { return Vec::new() };
    let ends = items.iter().skip(1).map(|item| item.span().start).chain([end]);
    let section = |(number, (item, end)): (usize, (&'a toml::Spanned<DeValue<'a>>, usize))| {
        let table = item.get_ref().as_table()?;
        let id = table.get("id").and_then(|id| id.get_ref().as_str()).filter(|id| is_id(id));
        let subject = match id {
            Some(id) => format!("key {number} (id \"{id}\"): "),
            None => format!("key {number}: "),
        };
        Some(Section { table, extent: item.span().start..end, subject, path: String::new(), known: &FIELDS })
    };
    (1..).zip(items.iter().zip(ends)).filter_map(section).collect()
}

fn read_key<'a>(
    section: &Section<'a>,
    number: usize,
    (ids, digests): (&mut HashMap<&'a str, usize>, &mut HashMap<Digest, usize>),
    mistakes: &mut Mistakes<'_>,
) -> Result<KeySpec, Reported> {
    let hint = |name: &str| match name {
        "key" | "token" | "secret" | "hash" => Some("keys are known by their hash, sha256; storeflow api-keys new writes it"),
        "store" => Some("write stores = [\"…\"]"),
        _ => None,
    };
    section.unknown(hint, mistakes);
    let id = section.required("id", "it says in logs who asked", mistakes).and_then(|field| {
        let id = field.text(mistakes)?;
        if !is_id(id) {
            return Err(field.wrong(ID_RULE, mistakes));
        }
        match ids.insert(id, number) {
            Some(first) => Err(field.wrong(format!("is that of key {first}; each needs its own"), mistakes)),
            None => Ok(id.to_owned()),
        }
    });
    let digest = section.required("sha256", "storeflow api-keys new writes it", mistakes).and_then(|field| {
        let digest = digest(field.text(mistakes)?).map_err(|what| field.wrong(what, mistakes))?;
        match digests.insert(digest, number) {
            Some(first) => Err(field.wrong(format!("is that of key {first}; each needs a key of its own"), mistakes)),
            None => Ok(digest),
        }
    });
    let stores = section.field("stores").map(|field| {
        // One text alone is as likely to be several, with commas.
        if field.value().is_str() {
            return Err(field.wrong_type("a list of texts, such as [\"7\", \"12\"]", mistakes));
        }
        let stores = field.texts(mistakes)?;
        Ok(stores.into_iter().map(|(_, store)| store.to_owned()).collect())
    });
    let rate = section.field("rate").map(|field| field.integer(1..=RATE_MAX, mistakes));
    let expires = section.field("expires").map(|field| read_expiry(&field, mistakes));
    let last = section.table.values().map(|value| value.span().end).max();
    Ok(KeySpec {
        id: id?,
        digest: digest?,
        stores: stores.transpose()?,
        rate: rate.transpose()?.and_then(NonZeroU32::new),
        expires: expires.transpose()?,
        place: section.extent.start..last.unwrap_or(section.extent.end),
    })
}

fn digest(text: &str) -> Result<Digest, &'static str> {
    if text.starts_with(KEY_PREFIX) {
        return Err(
            "is a key, not its hash; revoke it, as it has been written down, and let storeflow api-keys new write another",
        );
    }
    let nibbles: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes = nibbles.filter(|nibbles| nibbles.len() == 64).map(|nibbles| {
        let bytes = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
        bytes.collect::<Vec<u8>>()
    });
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Digest).ok_or("must be 64 hexadecimal digits")
}

fn read_expiry(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<u64, Reported> {
    const RULE: &str = "must be an instant with its offset, such as 2027-01-01T00:00:00Z";
    let text = match field.value() {
        DeValue::Datetime(instant) => instant.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => return Err(field.wrong_type("an instant, such as 2027-01-01T00:00:00Z", mistakes)),
    };
    let instant = text.parse::<Timestamp>().map_err(|_| field.wrong(RULE, mistakes))?;
    u64::try_from(instant.as_millisecond()).map_err(|_| field.wrong("is before 1970", mistakes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    fn complaints(text: &str) -> String {
        parse(text.as_bytes(), "keys.toml").expect_err("mistakes").to_string()
    }

    #[test]
    fn a_file_of_keys() {
        let text = format!(
            "# ours\n[[key]]\nid = \"all\"\nsha256 = \"{HASH}\"\n\n# theirs\n[[key]]\nid = \"owner-7\"\nsha256 = \"{OTHER}\" # hash\n\
             stores = [\"7\", \"12\"]\nrate = 50\nexpires = 2027-01-01T00:00:00Z\n"
        );
        let keys = parse(text.as_bytes(), "keys.toml").expect("right");
        let [all, owner] = &keys[..] else { panic!("two keys") };
        assert_eq!((all.id.as_str(), all.digest.hex()), ("all", HASH.to_lowercase()));
        assert_eq!((&all.stores, all.rate, all.expires), (&None, None, None));
        assert_eq!(owner.stores, Some(BTreeSet::from(["7".to_owned(), "12".to_owned()])));
        assert_eq!((owner.rate, owner.expires), (NonZeroU32::new(50), Some(1_798_761_600_000)));
        assert!(text[owner.place.clone()].starts_with("[[key]]\nid = \"owner-7\""), "{}", &text[owner.place.clone()]);
        assert!(text[owner.place.clone()].ends_with("2027-01-01T00:00:00Z"), "{}", &text[owner.place.clone()]);
        let quoted = text.replace("2027-01-01T00:00:00Z", "\"2027-01-01T01:00:00+01:00\"");
        assert_eq!(parse(quoted.as_bytes(), "keys.toml").expect("right")[1].expires, owner.expires);
        assert_eq!(parse(b"", "keys.toml").expect("no keys"), []);
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = format!(
            "keys = 1\n[[key]]\nid = \"a b\"\nsha256 = \"12\"\nstores = []\nrate = 0\nexpires = 2027-01-01\nexpire = 1\n[[key]]\nid = \"x\"\n\
             sha256 = \"{HASH}\"\nstores = \"7\"\n[[key]]\nid = \"x\"\nsha256 = \"{}\"\n[[key]]\n",
            HASH.to_lowercase()
        );
        assert_eq!(
            complaints(&text),
            "keys.toml:1:1: unknown field \"keys\"; each key begins with [[key]]\n\
             keys.toml:3:6: key 1: id must be 1 to 64 letters, digits, \"-\", \"_\" or \".\", and no key itself\n\
             keys.toml:4:10: key 1: sha256 must be 64 hexadecimal digits\n\
             keys.toml:5:10: key 1: stores is an empty list; list at least one\n\
             keys.toml:6:8: key 1: rate 0 is out of range; from 1 to 1000000\n\
             keys.toml:7:11: key 1: expires must be an instant with its offset, such as 2027-01-01T00:00:00Z\n\
             keys.toml:8:1: key 1: unknown field \"expire\"; did you mean \"expires\"?\n\
             keys.toml:12:10: key 2 (id \"x\"): stores must be a list of texts, such as [\"7\", \"12\"], not text\n\
             keys.toml:14:6: key 3 (id \"x\"): id is that of key 2; each needs its own\n\
             keys.toml:15:10: key 3 (id \"x\"): sha256 is that of key 2; each needs a key of its own\n\
             keys.toml:16:1: key 4: missing field \"id\"; it says in logs who asked\n\
             keys.toml:16:1: key 4: missing field \"sha256\"; storeflow api-keys new writes it"
        );
        for text in ["key = 1", "key = [1]", "[key]\nid = \"a\""] {
            assert!(complaints(text).contains("key must be a list of tables, [[key]]"), "{text}");
        }
        assert!(
            parse(b"[[key]]\nid = \"\xff\"", "keys.toml").expect_err("bytes").to_string().contains("keys.toml:2:7: byte 0xff")
        );
    }

    #[test]
    fn no_message_repeats_a_value() {
        const SECRET: &str = "sfk_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U";
        for shape in [
            "[[key]]\nid = \"a\"\nsha256 = \"SECRET\"",
            "[[key]]\nid = \"SECRET\"\nsha256 = \"SECRET\"",
            "[[key]]\nid = \"a\"\nsha256 = SECRET",
            "[[key]]\nid = SECRET",
            "[[key]]\nid = \"a\"\nsha256 = \"SECRET",
            "[[key]]\nSECRET",
            "SECRET",
            "[[key]]\nid = \"a\"\nsha256 = \"x\"\nexpires = \"SECRET\"\nrate = \"SECRET\"\nstores = \"SECRET\"",
            "[[key]]\nkey = \"SECRET\"",
        ] {
            let said = complaints(&shape.replace("SECRET", SECRET));
            assert!(!said.contains("c2VjcmV0"), "{said}");
        }
    }

    #[test]
    fn hostile_files_end() {
        let deep = format!("{} = 1", ["a"; 4000].join("."));
        assert!(parse(deep.as_bytes(), "keys.toml").is_err());
        assert!(matches!(parse(&vec![b'#'; (8 << 20) + 1], "keys.toml"), Err(KeyFileError::TooLarge { .. })));
    }
}
