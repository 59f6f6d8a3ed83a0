//! JSON text to a tree, by RFC 8259 and nothing else.
//!
//! Written out by hand for three things `serde_json` does not give: numbers and members as the very text they had (an
//! amount must never pass through floating point, and a kcat payload that is not a string counts by its own text), an object
//! `{"$serde_json::private::Number": "1"}` that stays an object, and a limit on nesting that is ours. The tests hold it
//! against `serde_json` on good and broken texts.

use std::borrow::Cow;

/// Levels of nesting that are accepted; one more is an error.
pub(super) const LEVELS_MAX: usize = 127;

/// A value and the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node<'a> {
    /// The value's own text, without white space around it.
    pub(super) text: Cow<'a, str>,
    /// The value.
    pub(super) value: Json<'a>,
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`; the text says which.
    Bool,
    /// A number; the text is its value.
    Number,
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object, its members in order and with repeated keys.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// The text is not JSON, or is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// Reads `text`, which must be one value, with white space around it or not.
pub(super) fn parse(text: &str) -> Result<Node<'_>, NotJson> {
    let mut reader = Reader { text, at: 0 };
    reader.skip_space();
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.at == text.len() { Ok(node) } else { Err(NotJson) }
}

impl<'a> Node<'a> {
    /// The member `name` of an object; of equal keys the last. `None` for anything but an object.
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        let Json::Object(members) = &self.value else { return None };
        members.iter().rev().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// The same, but a member that is null counts as absent.
    pub(super) fn get_some(&self, name: &str) -> Option<&Node<'a>> {
        self.get(name).filter(|node| !node.is_null())
    }

    /// The content of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of an integer: a number without fraction and exponent.
    pub(super) fn as_integer(&self) -> Option<&str> {
        let integer = self.value == Json::Number && !self.text.contains(['.', 'e', 'E']);
        integer.then_some(&*self.text)
    }

    /// The items of an array.
    pub(super) fn as_array(&self) -> Option<&[Node<'a>]> {
        match &self.value {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is `true`.
    pub(super) fn is_true(&self) -> bool {
        self.value == Json::Bool && self.text == "true"
    }

    /// The value of an object whose members are all called `name` (of several the last counts), as extended JSON writes types.
    pub(super) fn only(&self, name: &str) -> Option<&Node<'a>> {
        let Json::Object(members) = &self.value else { return None };
        members.iter().all(|(key, _)| key == name).then(|| self.get(name)).flatten()
    }

    /// The same value, kept apart from the text it was read from.
    pub(super) fn into_owned(self) -> Node<'static> {
        let text = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let value = match self.value {
            Json::Null => Json::Null,
            Json::Bool => Json::Bool,
            Json::Number => Json::Number,
            Json::Text(content) => Json::Text(text(content)),
            Json::Array(items) => Json::Array(items.into_iter().map(Node::into_owned).collect()),
            Json::Object(members) => {
                Json::Object(members.into_iter().map(|(name, node)| (text(name), node.into_owned())).collect())
            }
        };
        Node { text: text(self.text), value }
    }

    /// Whether this is an object.
    pub(super) fn is_object(&self) -> bool {
        matches!(self.value, Json::Object(_))
    }

    /// Whether this is `null`.
    pub(super) fn is_null(&self) -> bool {
        self.value == Json::Null
    }
}

/// A place in the text. Every method either moves behind what it read, or fails.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Moves behind `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(NotJson) }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A value inside `level` arrays and objects.
    fn value(&mut self, level: usize) -> Result<Node<'a>, NotJson> {
        let start = self.at;
        let value = match self.peek().ok_or(NotJson)? {
            b'n' => self.word("null", Json::Null)?,
            b't' => self.word("true", Json::Bool)?,
            b'f' => self.word("false", Json::Bool)?,
            b'"' => Json::Text(self.string()?),
            b'[' | b'{' if level == LEVELS_MAX => return Err(NotJson),
            b'[' => self.array(level + 1)?,
            b'{' => self.object(level + 1)?,
            _ => self.number()?,
        };
        Ok(Node { text: Cow::Borrowed(&self.text[start..self.at]), value })
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, NotJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Json<'a>, NotJson> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(Json::Number)
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotJson) }
    }

    fn array(&mut self, level: usize) -> Result<Json<'a>, NotJson> {
        let mut items = Vec::new();
        self.expect(b'[')?;
        self.skip_space();
        if self.take(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(level)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Json::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, level: usize) -> Result<Json<'a>, NotJson> {
        let mut members = Vec::new();
        self.expect(b'{')?;
        self.skip_space();
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            members.push((key, self.value(level)?));
            self.skip_space();
            if self.take(b'}') {
                return Ok(Json::Object(members));
            }
            self.expect(b',')?;
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotJson> {
        self.expect(b'"')?;
        let mut unescaped: Option<String> = None;
        loop {
            let start = self.at;
            while !matches!(self.peek().ok_or(NotJson)?, b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            let plain = &self.text[start..self.at];
            if self.take(b'"') {
                return Ok(match unescaped {
                    None => Cow::Borrowed(plain),
                    Some(text) => Cow::Owned(text + plain),
                });
            }
            // A control character is the third thing the loop stops at; it fails here.
            self.expect(b'\\')?;
            let text = unescaped.get_or_insert_default();
            text.push_str(plain);
            text.push(self.escaped()?);
        }
    }

    /// The character behind a `\`.
    fn escaped(&mut self) -> Result<char, NotJson> {
        let letter = self.peek().ok_or(NotJson)?;
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four_hex_digits()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    let second = self.four_hex_digits()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(NotJson);
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                // What is left to fail here is a second half without a first.
                char::from_u32(code).ok_or(NotJson)?
            }
            _ => return Err(NotJson),
        })
    }

    fn four_hex_digits(&mut self) -> Result<u32, NotJson> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or(NotJson)?;
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `serde_json` makes of a text, in the shape our tree has.
    fn assert_same(ours: &Node<'_>, theirs: &serde_json::Value, of: &str) {
        use serde_json::Value;
        match (&ours.value, theirs) {
            (Json::Null, Value::Null) => {}
            (Json::Array(items), Value::Array(values)) => {
                assert_eq!(items.len(), values.len(), "{of}");
                items.iter().zip(values).for_each(|(item, value)| assert_same(item, value, of));
            }
            (Json::Bool, Value::Bool(value)) => assert_eq!(ours.text, value.to_string(), "{of}"),
            (Json::Number, Value::Number(_)) => {}
            (Json::Text(text), Value::String(value)) => assert_eq!(text, value, "{of}"),
            (Json::Object(members), Value::Object(values)) => {
                for (key, value) in values {
                    assert_same(ours.get(key).unwrap(), value, of);
                }
                assert!(members.iter().all(|(key, _)| values.contains_key(&**key)), "{of}");
            }
            _ => panic!("{ours:?} is not {theirs:?} of {of}"),
        }
    }

    fn check(text: &str) {
        match (parse(text), serde_json::from_str::<serde_json::Value>(text)) {
            (Ok(ours), Ok(theirs)) => assert_same(&ours, &theirs, text),
            (Err(NotJson), Err(_)) => {}
            (ours, theirs) => panic!("ours {ours:?}, serde_json {theirs:?}, of {text:?}"),
        }
    }

    #[test]
    fn agrees_with_serde_json() {
        for text in [
            "",
            " ",
            "null",
            " null\r",
            "nul",
            "nullx",
            "true",
            "false",
            "tru",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1, \"a\"]",
            "{}",
            "{ }",
            "{\"a\":1}",
            "{\"a\" : 1 , \"b\":[{}]}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1}}",
            "{\"a\":1,\"a\":\"2\"}",
            "0",
            "-0",
            "-",
            "00",
            "01",
            "-01",
            "1.",
            ".5",
            "1.5",
            "1.50",
            "1e",
            "1e5",
            "1E+5",
            "1e-05",
            "1e+",
            "+1",
            "0x10",
            "1e400",
            "-1E-400",
            "99999999999999999999999999999999999999999",
            "NaN",
            "Infinity",
            "\"\"",
            "\"a",
            "\"\\\"\"",
            "\"\\u00e9\\u20AC\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83dx\"",
            "\"\\ud83d\\u0041\"",
            "\"\\ud83d\\ud83d\"",
            "\"\\u12g4\"",
            "\"\\u123\"",
            "\"\\x\"",
            "\"\\",
            "\"\\u0000\"",
            "\"\u{7f}\"",
            "\"a\tb\"",
            "\"a\nb\"",
            "\"\u{0}\"",
            "\"é€😀\"",
            "\"\\b\\f\\n\\r\\t\\/\\\\\"",
            "\u{feff}null",
            "\u{a0}null",
            "\u{b}null",
            "1 2",
            "\"a\"\"b\"",
            "'a'",
            "// x",
            "[1]//",
        ] {
            check(text);
        }
    }

    #[test]
    fn nests_127_levels_like_serde_json() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for (levels, ok) in [(1, true), (126, true), (127, true), (128, false), (5000, false)] {
                let text = open.repeat(levels) + "1" + &close.repeat(levels);
                check(&text);
                assert_eq!(parse(&text).is_ok(), ok, "{levels} levels of {open}");
            }
        }
    }

    #[test]
    fn keeps_the_text_of_numbers_and_members() {
        for text in ["1.50", "1E2", "1e+002", "-0", "10000000000000000000000000000000000000000", "0.10E-7"] {
            let object = format!("{{\"n\" : {text} }}");
            assert_eq!(parse(&object).unwrap().get("n").unwrap().text, text);
        }
        let node = parse(r#" {"a": { "b":[1, 2] } , "a" : [ "x" ]} "#).unwrap();
        assert_eq!(node.get("a").unwrap().text, r#"[ "x" ]"#);
        assert_eq!(node.text, r#"{"a": { "b":[1, 2] } , "a" : [ "x" ]}"#);
    }

    #[test]
    fn an_object_with_the_private_name_of_serde_json_is_an_object() {
        let node = parse(r#"{"$serde_json::private::Number": "1"}"#).unwrap();
        assert!(node.is_object());
    }

    #[test]
    fn integers_are_digits() {
        for (text, integer) in [("-12", true), ("-0", true), ("1.0", false), ("1e0", false), ("\"1\"", false), ("true", false)] {
            assert_eq!(parse(text).unwrap().as_integer().is_some(), integer, "{text}");
        }
    }

    proptest::proptest! {
        /// Any soup of the characters JSON is made of.
        #[test]
        fn agrees_with_serde_json_on_soup(text in "[\\[\\]{}:, \"\\\\/bu0dD819eE.+\\-ntrulfas\u{1}é]{0,24}") {
            check(&text);
        }
        /// Mostly valid text with a flaw.
        #[test]
        fn agrees_with_serde_json_on_flawed_text(at in 0..60usize, flaw in "[\\[\\]{}:,\"\\\\0-]{0,2}") {
            let text = r#"{"a":[1,-2.5e+3,"x\u00e9\ud83d\ude00"],"b":{"c":null},"b":tr"#.to_string() + "ue }";
            let mut chars: Vec<char> = text.chars().collect();
            chars.splice(at..at + 1, flaw.chars());
            check(&chars.into_iter().collect::<String>());
        }
    }
}
