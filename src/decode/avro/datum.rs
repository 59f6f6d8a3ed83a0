//! One datum of a schema: checked to its last byte, and what is needed of it written as JSON text.
//!
//! Upholds: (1) no bytes panic, and none keep it busy for longer than their number: a length or a count beyond what is left is refused before
//! anything follows it, values that take no bytes are not counted out, and types within types go [`DEPTH_MAX`] levels deep; (2) what
//! is skipped is checked as what is needed is: a datum is good or bad whatever fields a job needs; (3) numbers stay exact.
//! Keeps: nothing. Text goes to the end of a buffer that the caller keeps.

use std::io::Write;

use super::schema::{Meaning, Place, Schema, Type};

/// Types within types; JSON's limit as well.
const DEPTH_MAX: u32 = 100;
/// Bytes of JSON after which no more records are written.
const TEXT_MAX: usize = 64 << 20;
/// Digits of a decimal beyond this many bytes are not written: it is out of range for whatever it is.
const DECIMAL_BYTES_MAX: usize = 16;

/// Where and why bytes are not of their schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(super) struct Wrong {
    /// What is wrong.
    pub what: &'static str,
    /// Byte offset within the datum.
    pub at: usize,
}

/// Reads a datum.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Nothing is left over.
    pub(super) fn end(&self) -> Result<(), Wrong> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.wrong("more bytes than the schema has")) }
    }

    #[cold]
    pub(super) fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { what, at: self.at }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Wrong> {
        match self.bytes[self.at..].get(..length) {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => Err(self.wrong("a value that goes beyond the end")),
        }
    }

    /// A number of variable length.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Wrong> {
        let mut value = 0u64;
        for (place, &byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.at += place + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(self.wrong("a number without end"))
    }

    fn int(&mut self) -> Result<i64, Wrong> {
        let value = self.long()?;
        if i32::try_from(value).is_ok() { Ok(value) } else { Err(self.wrong("an int beyond 32 bits")) }
    }

    fn boolean(&mut self) -> Result<bool, Wrong> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.wrong("a boolean that is neither 0 nor 1")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Wrong> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(self.wrong("a negative length")),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], Wrong> {
        let text = self.bytes()?;
        if simdutf8::basic::from_utf8(text).is_ok() { Ok(text) } else { Err(self.wrong("a string that is not UTF-8")) }
    }

    /// Which of so many branches or symbols follows.
    #[inline]
    pub(super) fn choice(&mut self, of: usize) -> Result<usize, Wrong> {
        let chosen = self.long()?;
        let chosen = usize::try_from(chosen).ok().filter(|chosen| *chosen < of);
        chosen.ok_or_else(|| self.wrong("a branch or symbol that the schema does not have"))
    }

    /// How many items follow in the next block of an array or map; 0 ends it.
    pub(super) fn block(&mut self, items_are_empty: bool) -> Result<u64, Wrong> {
        let mut count = self.long()?;
        if count < 0 {
            // Readers may skip such a block by its length. Its items are checked like all others, and say where it ends.
            count = count.checked_neg().ok_or_else(|| self.wrong("a count beyond all bounds"))?;
            self.long()?;
        }
        let left = (self.bytes.len() - self.at) as u64;
        if !items_are_empty && count as u64 > left {
            return Err(self.wrong("more items than bytes"));
        }
        Ok(count as u64)
    }

    /// Checks a value and goes on behind it.
    pub(super) fn skip(&mut self, schema: &Schema, place: Place, depth: u32) -> Result<(), Wrong> {
        if schema.is_empty(place) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(self.wrong("types that go too deep"));
        }
        match schema.of(place) {
            Type::Null => {}
            Type::Boolean => drop(self.boolean()?),
            Type::Int => drop(self.int()?),
            Type::Long => drop(self.long()?),
            Type::Float => drop(self.take(4)?),
            Type::Double => drop(self.take(8)?),
            Type::Bytes => drop(self.bytes()?),
            Type::String => drop(self.text()?),
            Type::Fixed(size) => drop(self.take(*size)?),
            Type::Enum(symbols) => drop(self.choice(symbols.len())?),
            Type::Meant(of, _) => self.skip(schema, *of, depth)?,
            Type::Union(branches) => {
                let branch = branches[self.choice(branches.len())?];
                self.skip(schema, branch, depth + 1)?;
            }
            Type::Record(fields) => {
                for &(_, of) in fields {
                    self.skip(schema, of, depth + 1)?;
                }
            }
            Type::Array(items) => self.items(schema, *items, |reader| reader.skip(schema, *items, depth + 1))?,
            Type::Map(values) => self.items(schema, Place::MAX, |reader| {
                reader.text()?;
                reader.skip(schema, *values, depth + 1)
            })?,
        }
        Ok(())
    }

    /// Each item of an array (of this type), or of a map (`Place::MAX`: its items have at least a name's length).
    pub(super) fn items(
        &mut self,
        schema: &Schema,
        of: Place,
        mut item: impl FnMut(&mut Self) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let empty = of != Place::MAX && schema.is_empty(of);
        loop {
            let count = self.block(empty)?;
            if count == 0 {
                return Ok(());
            }
            // Items without bytes are not there to be told apart.
            for _ in 0..if empty { 0 } else { count } {
                item(self)?;
            }
        }
    }

    /// Writes a whole value as JSON.
    pub(super) fn write(&mut self, schema: &Schema, place: Place, depth: u32, out: &mut Vec<u8>) -> Result<(), Wrong> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("types that go too deep"));
        }
        match schema.of(place) {
            Type::Null => out.extend_from_slice(b"null"),
            Type::Boolean => {
                let text: &[u8] = if self.boolean()? { b"true" } else { b"false" };
                out.extend_from_slice(text);
            }
            Type::Int => push_integer(out, self.int()?.into()),
            Type::Long => push_integer(out, self.long()?.into()),
            Type::Float => {
                let bytes = self.take(4)?;
                let value = f32::from_le_bytes(bytes.try_into().unwrap_or_default());
                // As long as is needed to read the same again, and always with a point or an exponent: never an integer.
                push_float(out, value.is_finite(), format_args!("{value:?}"));
            }
            Type::Double => {
                let bytes = self.take(8)?;
                let value = f64::from_le_bytes(bytes.try_into().unwrap_or_default());
                push_float(out, value.is_finite(), format_args!("{value:?}"));
            }
            Type::Bytes => push_base64(out, self.bytes()?),
            Type::Fixed(size) => push_base64(out, self.take(*size)?),
            Type::String => push_text(out, self.text()?),
            Type::Enum(symbols) => push_text(out, symbols[self.choice(symbols.len())?].as_bytes()),
            Type::Meant(of, meaning) => match (meaning, schema.of(*of)) {
                (Meaning::Decimal(scale), Type::Fixed(size)) => push_decimal(out, self.take(*size)?, *scale),
                (Meaning::Decimal(scale), _) => push_decimal(out, self.bytes()?, *scale),
                (Meaning::Uuid, _) => push_uuid(out, self.take(16)?),
                (Meaning::Time(_), _) => self.write(schema, *of, depth, out)?,
            },
            Type::Union(branches) => {
                let branch = branches[self.choice(branches.len())?];
                self.write(schema, branch, depth + 1, out)?;
            }
            // Records of records without bytes could go on for ever, by a schema made for it.
            Type::Record(_) if out.len() > TEXT_MAX => return Err(self.wrong("a value too long to be needed")),
            Type::Record(fields) if fields.is_empty() => out.extend_from_slice(b"{}"),
            Type::Record(fields) => {
                let mut before = b'{';
                for (name, of) in fields {
                    out.push(before);
                    before = b',';
                    push_text(out, name.as_bytes());
                    out.push(b':');
                    self.write(schema, *of, depth + 1, out)?;
                }
                out.push(b'}');
            }
            Type::Array(items) => {
                let mut before = b'[';
                self.items(schema, *items, |reader| {
                    out.push(before);
                    before = b',';
                    reader.write(schema, *items, depth + 1, out)
                })?;
                out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
            }
            Type::Map(values) => {
                let mut before = b'{';
                self.items(schema, Place::MAX, |reader| {
                    out.push(before);
                    before = b',';
                    push_text(out, reader.text()?);
                    out.push(b':');
                    reader.write(schema, *values, depth + 1, out)
                })?;
                out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
            }
        }
        Ok(())
    }
}

/// Writes a JSON string.
pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            special @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', special]),
            control => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(control >> 4), hex(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn push_integer(out: &mut Vec<u8>, value: i128) {
    if value < 0 {
        out.push(b'-');
    }
    push_digits(out, value.unsigned_abs(), 1);
}

/// Writes decimal digits, at least so many.
fn push_digits(out: &mut Vec<u8>, value: u128, least: usize) {
    // The longest has 39 digits; scales go no further than 38 here.
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    let mut high = value;
    while high > u128::from(u64::MAX) {
        at -= 1;
        digits[at] = b'0' + (high % 10) as u8;
        high /= 10;
    }
    // Divisions of 64 bits are several times as fast.
    let mut low = high as u64;
    while low > 0 {
        at -= 1;
        digits[at] = b'0' + (low % 10) as u8;
        low /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - least)..]);
}

/// Writes a float's shortest text; what is not finite has none, and is the text of its name.
fn push_float(out: &mut Vec<u8>, finite: bool, text: std::fmt::Arguments<'_>) {
    let quote: &[u8] = if finite { b"" } else { b"\"" };
    out.extend_from_slice(quote);
    write!(out, "{text}").expect("memory takes what is written to it");
    out.extend_from_slice(quote);
}

/// Writes the number that a big-endian two's complement integer in units of 10^-scale is.
fn push_decimal(out: &mut Vec<u8>, bytes: &[u8], scale: i32) {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let sign = if negative { 0xff } else { 0 };
    let mut rest = bytes;
    // A byte that only repeats the sign of the one behind it says nothing.
    while let [first, second, ..] = rest
        && *first == sign
        && (*second >= 0x80) == negative
    {
        rest = &rest[1..];
    }
    if negative {
        out.push(b'-');
    }
    if rest.len() > DECIMAL_BYTES_MAX {
        // Beyond every range, and no integer.
        out.extend_from_slice(b"1e999");
        return;
    }
    let value = rest.iter().fold(if negative { -1i128 } else { 0 }, |value, byte| value << 8 | i128::from(*byte));
    let value = value.unsigned_abs();
    match scale {
        0 => push_digits(out, value, 1),
        1..=38 => {
            let ten = 10u128.pow(scale.unsigned_abs());
            push_digits(out, value / ten, 1);
            out.push(b'.');
            push_digits(out, value % ten, scale.unsigned_abs() as usize);
        }
        _ => {
            push_digits(out, value, 1);
            out.push(b'e');
            push_integer(out, -i128::from(scale));
        }
    }
}

/// Writes bytes as a string of base64.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = engine.encode_slice(bytes, &mut out[start..]).expect("four bytes for each three");
    out.truncate(start + written);
    out.push(b'"');
}

fn push_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
        out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
    }
    out.push(b'"');
}
