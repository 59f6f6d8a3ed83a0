//! Walks JSON and hands out the wanted fields of an object, without building anything.
//!
//! Upholds: everything is checked, also what is skipped: grammar (RFC 8259), control characters, escapes and surrogate pairs,
//! and at most 127 levels of nesting; so what passes here passes any strict parser. Numbers stay text. Of equal keys the last counts.
//! Input must be valid UTF-8 (the reader checks a whole chunk at once).
//!
//! Absent on purpose: recursion (the stack of open brackets is one `u128`), allocation, and `unsafe`: strings are scanned
//! eight bytes at a time with the zero-byte trick (Mycroft 1987; Warren, Hacker's Delight, 6-1).

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
}

/// Names of the fields that are wanted of an object.
#[derive(Clone, Debug)]
pub struct Fields {
    names: Vec<Vec<u8>>,
    /// By length of a key: which names have it, as bits.
    by_len: [u32; 64],
    long: u32,
}

impl Fields {
    /// At most 32 names; the position of a name is the position of its value.
    pub fn new<N: AsRef<[u8]>>(names: impl IntoIterator<Item = N>) -> Self {
        let names: Vec<Vec<u8>> = names.into_iter().map(|name| name.as_ref().to_vec()).collect();
        assert!(names.len() <= 32, "at most 32 fields are looked for at once");
        let (mut by_len, mut long) = ([0; 64], 0);
        for (at, name) in names.iter().enumerate() {
            *by_len.get_mut(name.len()).unwrap_or(&mut long) |= 1 << at;
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
    fn of(&self, key: &[u8]) -> u32 {
        let mut candidates = self.by_len.get(key.len()).copied().unwrap_or(self.long);
        let mut found = 0;
        while candidates != 0 {
            let at = candidates.trailing_zeros();
            candidates &= candidates - 1;
            if self.names[at as usize] == key {
                found |= 1 << at;
            }
        }
        found
    }
}

/// Reads one value that fills `text` but for white space; if it is an object, its wanted fields go to `out` (one per name).
///
/// # Errors
/// If `text` is not one JSON value.
pub fn read<'a>(text: &'a [u8], fields: &Fields, out: &mut [Value<'a>]) -> Result<Value<'a>, JsonError> {
    let mut walker = Walker { text, at: 0 };
    walker.space();
    let value = if walker.peek() == Some(b'{') {
        out.fill(Value::Absent);
        walker.object(fields, out)?
    } else {
        walker.value(0)?
    };
    walker.space();
    if walker.at != text.len() { Err(walker.wrong("more text after the value")) } else { Ok(value) }
}

/// Reads the wanted fields of an object that [`read`] handed out.
///
/// # Errors
/// None for what `read` accepted; the check costs little and keeps this total.
pub fn read_object<'a>(object: &'a [u8], fields: &Fields, out: &mut [Value<'a>]) -> Result<(), JsonError> {
    out.fill(Value::Absent);
    Walker { text: object, at: 0 }.object(fields, out).map(|_| ())
}

struct Walker<'a> {
    text: &'a [u8],
    at: usize,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bits of the bytes that end plain text: quote, backslash, control characters. The lowest one set is exact.
#[inline(always)]
fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    ((quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash) | (word.wrapping_sub(ONES * 0x20) & !word)) & HIGHS
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

    /// Fields of the object that starts here.
    #[inline]
    fn object(&mut self, fields: &Fields, out: &mut [Value<'a>]) -> Result<Value<'a>, JsonError> {
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
            let value = self.value(1)?;
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
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
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
            while let Some(chunk) = self.text[self.at..].first_chunk::<8>() {
                let found = special(u64::from_le_bytes(*chunk));
                if found != 0 {
                    self.at += found.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
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
    out
}

fn hex4(text: &[u8]) -> u32 {
    text.iter().take(4).fold(0, |value, &byte| value * 16 + (byte as char).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &[u8]) -> bool {
        let fields = Fields::new(["a", "bb"]);
        let mut out = [Value::Absent; 2];
        std::str::from_utf8(text).is_ok() && read(text, &fields, &mut out).is_ok()
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
