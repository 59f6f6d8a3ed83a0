//! Walks JSON and hands out the wanted fields of an object, without building anything.
//!
//! Upholds: everything is checked, also what is skipped: grammar (RFC 8259), control characters, escapes and surrogate pairs,
//! and at most 127 levels of nesting; so what passes here passes any strict parser. Numbers stay text. Of equal keys the last counts.
//! Input must be valid UTF-8 (the reader checks a whole chunk at once).
//!
//! Absent on purpose: recursion (the stack of open brackets is one `u128`), allocation, and `unsafe`: strings and numbers are
//! scanned sixteen bytes at a time by safe means (see `scan`).

use super::scan;

/// Where and why text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// What is wrong.
    pub what: &'static str,
    /// Byte offset within the value.
    pub at: usize,
}

/// A value as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Value<'a> {
    /// The object has no such field.
    #[default]
    Absent,
    /// `null`
    Null,
    /// `true` or `false`, as text.
    Bool(&'a [u8]),
    /// A number, as text.
    Number(&'a [u8]),
    /// A string between its quotes, without escapes.
    Plain(&'a [u8]),
    /// A string between its quotes, with escapes; see [`unescape`].
    Escaped(&'a [u8]),
    /// An object, from brace to brace.
    Object(&'a [u8]),
    /// An array, from bracket to bracket.
    Array(&'a [u8]),
    /// The record does not say what it is: it is as it was. No text reads as this.
    Unsaid,
}

/// Names of the fields that are wanted of an object.
#[derive(Clone, Debug)]
pub struct Fields {
    names: Vec<Name>,
    /// By length of a key: which names have it, as bits.
    by_len: [u64; 64],
    long: u64,
}

impl Fields {
    /// At most 64 names; the position of a name is the position of its value.
    pub fn new<N: AsRef<[u8]>>(names: impl IntoIterator<Item = N>) -> Self {
        let names: Vec<Name> = names.into_iter().map(|name| Name::new(name.as_ref())).collect();
        assert!(names.len() <= 64, "at most 64 fields are looked for at once");
        let (mut by_len, mut long) = ([0; 64], 0);
        for (at, name) in names.iter().enumerate() {
            *by_len.get_mut(name.bytes.len()).unwrap_or(&mut long) |= 1 << at;
        }
        Fields { names, by_len, long }
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    #[inline]
    fn of(&self, key: &[u8]) -> u64 {
        let mut candidates = self.by_len.get(key.len()).copied().unwrap_or(self.long);
        if candidates == 0 {
            return 0;
        }
        let mut found = 0;
        let ends = ends(key);
        while candidates != 0 {
            let at = candidates.trailing_zeros();
            candidates &= candidates - 1;
            let name = &self.names[at as usize];
            // Of equal length already; so up to sixteen bytes both ends are all there is.
            if name.ends == ends && (key.len() <= 16 || name.bytes == key) {
                found |= 1 << at;
            }
        }
        found
    }
}

impl Default for Fields {
    fn default() -> Self {
        Fields { names: Vec::new(), by_len: [0; 64], long: 0 }
    }
}

/// A name, and its [`ends`], by which most are told apart without a call.
#[derive(Clone, Debug)]
struct Name {
    bytes: Vec<u8>,
    ends: [u64; 2],
}

impl Name {
    fn new(bytes: &[u8]) -> Self {
        Name { bytes: bytes.to_vec(), ends: ends(bytes) }
    }
}

/// The first and the last bytes, up to eight of each; they overlap in shorter text, and tell apart any two texts of one
/// length up to sixteen.
#[inline(always)]
fn ends(text: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        [u64::from_le_bytes(*first), u64::from_le_bytes(*last)]
    } else if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        [u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))]
    } else {
        let byte = |at: usize| u64::from(text.get(at).copied().unwrap_or(0));
        [byte(0) | byte(1) << 8 | byte(2) << 16, 0]
    }
}

/// Fields wanted of an object within an object: of the one that is the outer field number `of`.
pub struct Inner<'f, 'o, 'a> {
    /// Position of the outer field.
    pub of: usize,
    /// What is wanted of it.
    pub fields: &'f Fields,
    /// Where that goes; all absent if the outer field is no object.
    pub out: &'o mut [Value<'a>],
}

/// Reads one value that fills `text` but for white space; if it is an object, its wanted fields go to `out` (one per name).
///
/// # Errors
/// If `text` is not one JSON value.
#[inline]
pub fn read<'a>(text: &'a [u8], fields: &Fields, out: &mut [Value<'a>]) -> Result<Value<'a>, JsonError> {
    read_both(text, fields, out, &mut [])
}

/// As [`read`], and in the same pass the wanted fields of objects within the object.
///
/// # Errors
/// If `text` is not one JSON value.
#[inline]
pub fn read_both<'a>(
    text: &'a [u8],
    fields: &Fields,
    out: &mut [Value<'a>],
    inner: &mut [Inner<'_, '_, 'a>],
) -> Result<Value<'a>, JsonError> {
    let mut walker = Walker { text, at: 0 };
    walker.space();
    let value = if walker.peek() == Some(b'{') { walker.outer(0, fields, out, inner)? } else { walker.value(0)? };
    walker.end()?;
    Ok(value)
}

/// As [`read_both`] of the last member of an object, whose value begins at byte `at`; what is before it is known to be JSON and
/// is not looked at.
///
/// # Errors
/// If what follows is not one JSON value, the object's closing brace, and the end.
#[inline]
pub fn read_last<'a>(
    text: &'a [u8],
    at: usize,
    fields: &Fields,
    out: &mut [Value<'a>],
    inner: &mut [Inner<'_, '_, 'a>],
) -> Result<Value<'a>, JsonError> {
    let mut walker = Walker { text, at };
    walker.space();
    let value = if walker.peek() == Some(b'{') { walker.outer(1, fields, out, inner)? } else { walker.value(1)? };
    walker.space();
    if walker.peek() != Some(b'}') {
        return Err(walker.wrong("no closing brace"));
    }
    walker.at += 1;
    walker.end()?;
    Ok(value)
}

/// Reads the wanted fields of an object that [`read`] handed out.
///
/// # Errors
/// None for what `read` accepted; the check costs little and keeps this total.
#[inline]
pub fn read_object<'a>(object: &'a [u8], fields: &Fields, out: &mut [Value<'a>]) -> Result<(), JsonError> {
    Walker { text: object, at: 0 }.outer(0, fields, out, &mut []).map(|_| ())
}

/// The members of an object that [`read`] handed out, in their order: names as they stand between their quotes (a [`Value::Plain`]
/// or [`Value::Escaped`]), and values.
pub fn members(object: &[u8]) -> Members<'_> {
    Members(Walker { text: object, at: 1 })
}

/// See [`members`].
pub struct Members<'a>(Walker<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.seek_item();
        if self.0.peek() != Some(b'"') {
            return None;
        }
        let name = self.0.value(0).ok()?;
        self.0.colon().ok()?;
        Some((name, self.0.value(1).ok()?))
    }
}

/// The member of an object that [`read`] handed out, by its name; of equal names the last.
pub fn member<'a>(object: &'a [u8], name: &[u8]) -> Value<'a> {
    members(object).filter(|(its, _)| is_named(*its, name)).last().map_or(Value::Absent, |(_, value)| value)
}

/// Whether a name that [`members`] gave is this one.
pub fn is_named(value: Value<'_>, name: &[u8]) -> bool {
    match value {
        Value::Plain(text) => text == name,
        Value::Escaped(text) => unescape(text) == name,
        _ => false,
    }
}

/// The items of an array that [`read`] handed out.
pub fn items(array: &[u8]) -> Items<'_> {
    Items(Walker { text: array, at: 1 })
}

/// See [`items`].
pub struct Items<'a>(Walker<'a>);

impl<'a> Items<'a> {
    /// The next item; if it is an object, its wanted fields go to `out` in the same walk. All are absent if it is none.
    #[inline]
    pub fn next_object<'b>(&mut self, fields: &Fields, out: &mut [Value<'b>]) -> Option<Value<'b>>
    where
        'a: 'b,
    {
        self.0.seek_item();
        // A walker of its own, so that values may live shorter than the array.
        let mut walker = Walker { text: self.0.text, at: self.0.at };
        let item = if walker.peek() == Some(b'{') {
            walker.outer(1, fields, out, &mut []).ok()
        } else {
            out.fill(Value::Absent);
            walker.value(1).ok()
        };
        self.0.at = walker.at;
        item
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.seek_item();
        self.0.value(1).ok()
    }
}

struct Walker<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walker<'a> {
    fn wrong(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline(always)]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Nothing but white space is left.
    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at != self.text.len() { Err(self.wrong("more text after the value")) } else { Ok(()) }
    }

    /// Moves on to the next member or item of a container that was read before.
    fn seek_item(&mut self) {
        self.space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.space();
        }
    }

    /// The object that starts here, `depth` levels down, with the fields of objects in it.
    #[inline]
    fn outer(
        &mut self,
        depth: u32,
        fields: &Fields,
        out: &mut [Value<'a>],
        inner: &mut [Inner<'_, '_, 'a>],
    ) -> Result<Value<'a>, JsonError> {
        let special = inner.iter().fold(0u64, |bits, inner| bits | 1 << inner.of);
        inner.iter_mut().for_each(|inner| inner.out.fill(Value::Absent));
        self.object(fields, out, |walker, wanted| {
            if wanted & special == 0 {
                return walker.value(depth + 1);
            }
            match (inner.iter_mut().find(|inner| wanted & 1 << inner.of != 0), walker.peek()) {
                (Some(inner), Some(b'{')) => walker.object(inner.fields, inner.out, |walker, _| walker.value(depth + 2)),
                (Some(inner), _) => {
                    // Of equal keys the last counts.
                    inner.out.fill(Value::Absent);
                    walker.value(depth + 1)
                }
                (None, _) => walker.value(depth + 1),
            }
        })
    }

    /// Fields of the object that starts here; `value` reads the value of a wanted field.
    #[inline(always)]
    fn object(
        &mut self,
        fields: &Fields,
        out: &mut [Value<'a>],
        mut value: impl FnMut(&mut Self, u64) -> Result<Value<'a>, JsonError>,
    ) -> Result<Value<'a>, JsonError> {
        out.fill(Value::Absent);
        let start = self.at;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(&self.text[start..self.at]));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.wrong("no key where one must be"));
            }
            let (key, escaped) = self.string()?;
            let mut wanted = if escaped { fields.of(&unescape(key)) } else { fields.of(key) };
            self.colon()?;
            let value = value(self, wanted)?;
            while wanted != 0 {
                out[wanted.trailing_zeros() as usize] = value;
                wanted &= wanted - 1;
            }
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(&self.text[start..self.at]));
                }
                _ => return Err(self.wrong("neither comma nor closing brace")),
            }
        }
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong("no colon after a key"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// The value that starts here, `depth` levels down.
    #[inline]
    fn value(&mut self, depth: u32) -> Result<Value<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => {
                let (text, escaped) = self.string()?;
                Ok(if escaped { Value::Escaped(text) } else { Value::Plain(text) })
            }
            Some(b'{' | b'[') => self.container(depth),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Ok(Value::Number(&self.text[start..self.at]))
            }
            Some(b't') => self.word(b"true").map(Value::Bool),
            Some(b'f') => self.word(b"false").map(Value::Bool),
            Some(b'n') => self.word(b"null").map(|_| Value::Null),
            _ => Err(self.wrong("no value where one must be")),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<&'a [u8], JsonError> {
        match self.text.get(self.at..self.at + word.len()) {
            Some(text) if text == word => {
                self.at += word.len();
                Ok(text)
            }
            _ => Err(self.wrong("no value where one must be")),
        }
    }

    #[inline]
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        loop {
            if let Some(chunk) = self.text[self.at..].first_chunk() {
                let digits = scan::digits(chunk);
                self.at += digits;
                if digits < scan::STEP {
                    break;
                }
            } else if let Some(b'0'..=b'9') = self.peek() {
                self.at += 1;
            } else {
                break;
            }
        }
        if self.at == start { Err(self.wrong("no digit where one must be")) } else { Ok(()) }
    }

    #[inline]
    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// The string that starts here: what is between its quotes, and whether it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<(&'a [u8], bool), JsonError> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            while let Some(chunk) = self.text[self.at..].first_chunk() {
                let plain = scan::plain(chunk);
                self.at += plain;
                if plain < scan::STEP {
                    break;
                }
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((&self.text[start..self.at - 1], escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.wrong("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a string without end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex()?;
                match unit {
                    0xD800..0xDC00 => {
                        if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(self.wrong("a surrogate without its pair"));
                        }
                        self.at += 2;
                        match self.hex()? {
                            0xDC00..0xE000 => Ok(()),
                            _ => Err(self.wrong("a surrogate without its pair")),
                        }
                    }
                    0xDC00..0xE000 => Err(self.wrong("a surrogate without its pair")),
                    _ => Ok(()),
                }
            }
            _ => Err(self.wrong("an unknown escape")),
        }
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            value = value * 16 + digit.ok_or_else(|| self.wrong("no hexadecimal digit where one must be"))?;
            self.at += 1;
        }
        Ok(value)
    }

    /// Skips the container that starts here, checking everything inside.
    fn container(&mut self, depth: u32) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        // Open brackets as bits, the innermost lowest; 1 is an object.
        let (mut open, mut levels) = (0u128, depth);
        loop {
            // A value starts here.
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    levels += 1;
                    if levels > 127 {
                        return Err(self.wrong("more than 127 levels of nesting"));
                    }
                    open = open << 1 | u128::from(bracket == b'{');
                    self.at += 1;
                    self.space();
                    match (bracket, self.peek()) {
                        (b'{', Some(b'}')) | (b'[', Some(b']')) => {}
                        (b'{', _) => {
                            self.key()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // A value ended here (or an empty container, at its closing bracket).
            loop {
                self.space();
                let object = open & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return Err(self.wrong("neither comma nor closing bracket")),
                }
                self.at += 1;
                open >>= 1;
                levels -= 1;
                if levels == depth {
                    let text = &self.text[start..self.at];
                    return Ok(if text[0] == b'{' { Value::Object(text) } else { Value::Array(text) });
                }
            }
        }
    }

    #[inline(always)]
    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("no key where one must be"));
        }
        self.string()?;
        self.colon()
    }
}

/// The bytes a string with escapes stands for; `text` is what [`Value::Escaped`] holds.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    unescape_into(text, &mut out);
    out
}

/// Appends what [`unescape`] gives.
pub fn unescape_into(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let code = rest.get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match code {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut unit = hex4(rest);
                rest = rest.get(4..).unwrap_or_default();
                if (0xD800..0xDC00).contains(&unit) && rest.starts_with(b"\\u") {
                    unit = 0x10000 + ((unit - 0xD800) << 10) + (hex4(&rest[2..]).wrapping_sub(0xDC00) & 0x3FF);
                    rest = rest.get(6..).unwrap_or_default();
                }
                let char = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
}

fn hex4(text: &[u8]) -> u32 {
    text.iter().take(4).fold(0, |value, &byte| value * 16 + (byte as char).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether text is taken; fields of an object within make no difference.
    fn accepts(text: &[u8]) -> bool {
        let (fields, inner) = (Fields::new(["a", "bb"]), Fields::new(["a", "k"]));
        let (mut out, mut both, mut found) = ([Value::Absent; 2], [Value::Absent; 2], [Value::Absent; 2]);
        let plain = read(text, &fields, &mut out);
        let inner = Inner { of: 0, fields: &inner, out: &mut found };
        let with = read_both(text, &fields, &mut both, &mut [inner]);
        // Words may differ ("brace" or "bracket"), what is found and where it is wrong may not.
        assert_eq!(plain.map_err(|wrong| wrong.at), with.map_err(|wrong| wrong.at));
        assert!(plain.is_err() || out == both);
        std::str::from_utf8(text).is_ok() && plain.is_ok()
    }

    fn reference(text: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(text).is_ok()
    }

    #[test]
    fn grammar_by_example() {
        for (text, ok) in [
            (r#"{"a":1}"#, true),
            (r#" {"a" : 1 , "bb":[1,2,{}],"c":{"d":[[]]}} "#, true),
            (r#"{"a":01}"#, false),
            (r#"{"a":-}"#, false),
            (r#"{"a":1.}"#, false),
            (r#"{"a":1e+5}"#, true),
            (r#"{"a":1,}"#, false),
            (r#"{"a":[1,]}"#, false),
            (r#"{"a":[}"#, false),
            (r#"{"a":{]}"#, false),
            (r#"{"a":"\ud800"}"#, false),
            (r#"{"a":"\ud83d\ude00"}"#, true),
            (r#"{"a":"\x"}"#, false),
            (r#"{"a":tru}"#, false),
            (r#"{"a":1}}"#, false),
            (r#"{"a""#, false),
            ("", false),
            ("[]", true),
            ("3", true),
            ("{\"a\":\"\u{1}\"}", false),
        ] {
            assert_eq!(accepts(text.as_bytes()), ok, "{text}");
            assert_eq!(reference(text.as_bytes()), ok, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_where_the_reference_bounds_it() {
        for depth in [1, 126, 127, 128, 5_000] {
            for (open, inner, close) in [("[", "", "]"), ("{\"k\":", "1", "}")] {
                let text = [open.repeat(depth), inner.to_owned(), close.repeat(depth)].concat();
                assert_eq!(accepts(text.as_bytes()), depth <= 127, "{depth} of {open}");
                assert_eq!(reference(text.as_bytes()), depth <= 127, "{depth} of {open}");
            }
        }
    }

    #[test]
    fn fields_are_found_whatever_surrounds_them() {
        let fields = Fields::new(["id", "store", "none"]);
        let mut out = [Value::Absent; 3];
        let text = br#"{"x":{"id":9},"id":1,"st\u006fre":"a\"b","id":"2\t","y":[{"store":1}]}"#;
        read(text, &fields, &mut out).expect("valid");
        assert_eq!(out, [Value::Escaped(br"2\t"), Value::Escaped(br#"a\"b"#), Value::Absent]);
        assert_eq!(unescape(br"2\t"), b"2\t");
        assert_eq!(unescape("\\ud83d\\ude00\\u20ac-é\\/".as_bytes()), "😀€-é/".as_bytes());
    }

    #[test]
    fn names_of_every_length_are_told_apart() {
        for len in 0..40 {
            let name: Vec<u8> = (0..len).map(|at| b'a' + at).collect();
            let fields = Fields::new([&name]);
            assert_eq!(fields.of(&name), 1);
            for at in 0..name.len() {
                let mut other = name.clone();
                other[at] = b'_';
                assert_eq!(fields.of(&other), 0, "{len} but for {at}");
            }
        }
    }

    #[test]
    fn inner_fields_are_those_of_the_last_object() {
        let (fields, inner) = (Fields::new(["x", "id", "y"]), Fields::new(["id", "v"]));
        for (text, outer, expected) in [
            (r#"{"id":1,"x":{"id":2,"n":{"id":3},"v":[{}]},"y":{"id":4}}"#, "1", ["2", "[{}]"]),
            (r#"{"x":{"id":2},"x":{"v":3},"id":1}"#, "1", ["", "3"]),
            (r#"{"x":{"id":2},"x":null,"id":1}"#, "1", ["", ""]),
            (r#"{"x":[{"id":2}],"id":1}"#, "1", ["", ""]),
            (r#"{"x":{},"id":1}"#, "1", ["", ""]),
            (r#"{"id":1}"#, "1", ["", ""]),
        ] {
            let (mut out, mut found) = ([Value::Absent; 3], [Value::Null; 2]);
            let inner = Inner { of: 0, fields: &inner, out: &mut found };
            read_both(text.as_bytes(), &fields, &mut out, &mut [inner]).expect(text);
            let shown = |value: Value<'_>| match value {
                Value::Number(text) | Value::Array(text) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            };
            assert_eq!((shown(out[1]), found.map(shown)), (outer.to_owned(), expected.map(str::to_owned)), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("-0.5e3".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            ".{0,20}".prop_map(|text| serde_json::to_string(&text).expect("a string")),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
                proptest::collection::vec(("a|bb|[a-z\"]{0,9}", inner), 0..6).prop_map(|items| {
                    let items: Vec<String> = items
                        .into_iter()
                        .map(|(key, value)| format!("{} :{value}", serde_json::to_string(&key).expect("a string")))
                        .collect();
                    format!("{{{}}}", items.join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Valid text, and text with a few bytes changed, is taken or refused exactly as by serde_json.
        #[test]
        fn takes_what_the_reference_takes(text in json(), edits in proptest::collection::vec((any::<u16>(), any::<u8>(), 0u8..3), 0..4)) {
            let mut bytes = text.into_bytes();
            for (at, byte, kind) in edits {
                let at = usize::from(at) % (bytes.len() + 1);
                match kind {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 if at < bytes.len() => { bytes.remove(at); }
                    _ => bytes.insert(at, b"{}[]\",:\\0e-"[usize::from(byte) % 11]),
                }
            }
            prop_assert_eq!(accepts(&bytes), reference(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn strings_come_back(text in ".{0,40}") {
            let quoted = serde_json::to_string(&text).expect("a string");
            prop_assert_eq!(unescape(&quoted.as_bytes()[1..quoted.len() - 1]), text.as_bytes());
        }
    }
}
