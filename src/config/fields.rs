//! Typed access to one table of a job file: each wrong type, unknown or missing field is noted where it stands.
//!
//! A [`Section`] is a table with the words to name it in a message; a [`Field`] is one of its values. Readers return
//! the value or [`Reported`], never a default, so that one wrong field does not hide another.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Mistakes, Reported, cut, did_you_mean, quoted, quoted_list};
use super::duration;
use super::field_path::FieldPath;

/// A table of the job file.
#[derive(Clone)]
pub(super) struct Section<'a> {
    /// Its values.
    pub(super) table: &'a DeTable<'a>,
    /// The text it may extend over, from its header.
    pub(super) extent: Range<usize>,
    /// What messages begin with, such as `source 2 (topic "a"): `.
    pub(super) subject: String,
    /// What its fields' names begin with, such as `time.`.
    pub(super) path: String,
    /// The fields it can have; none: its names are the author's.
    pub(super) known: &'static [&'static str],
}

/// A value of a section.
#[derive(Clone)]
pub(super) struct Field<'a> {
    /// Such as `time.unit`.
    pub(super) name: String,
    /// Where the value is in the text.
    pub(super) offset: usize,
    subject: String,
    /// The end of its section.
    end: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    /// The field of a name, if it is set.
    pub(super) fn field(&self, name: &str) -> Option<Field<'a>> {
        let (key, value) = self.table.get_key_value(name)?;
        Some(self.with_value(key, value))
    }

    /// The field of a name; `why` says who needs it and what for.
    pub(super) fn required(&self, name: &str, why: &str, mistakes: &mut Mistakes<'_>) -> Result<Field<'a>, Reported> {
        self.field(name).ok_or_else(|| self.missing(name, why, mistakes))
    }

    /// Notes a missing field, unless it is there but misspelt.
    pub(super) fn missing(&self, name: &str, why: &str, mistakes: &mut Mistakes<'_>) -> Reported {
        if let Some(reported) = mistakes.misspelt(self.extent.start, name) {
            return reported;
        }
        let what = format!("{}missing field {}; {why}", self.subject, quoted(&format!("{}{name}", self.path)));
        mistakes.note_missing(&self.extent, what)
    }

    /// All fields, whatever they are called.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), self.with_value(key, value)))
    }

    /// Notes every field that is not known; `hint` knows more than a likeness of names. Comes before what is missing.
    pub(super) fn unknown(&self, hint: impl Fn(&str) -> Option<&'static str>, mistakes: &mut Mistakes<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let known = || self.known.iter().copied();
            let advice = if mistakes.full() {
                String::new()
            } else if let Some(hint) = hint(name) {
                hint.to_owned()
            } else if let Some(meant) = did_you_mean(name, known()) {
                mistakes.note_misspelt(self.extent.start, meant);
                format!("did you mean {}?", quoted(meant))
            } else {
                format!("known here: {}", quoted_list(known()))
            };
            let name = quoted(&format!("{}{name}", self.path));
            mistakes.note(key.span().start, format!("{}unknown field {name}; {advice}", self.subject));
        }
    }

    fn with_value(&self, key: &'a Spanned<std::borrow::Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Field<'a> {
        // A value TOML could not read has no place of its own.
        let place = if value.span().is_empty() { key.span() } else { value.span() };
        Field {
            name: format!("{}{}", self.path, name_in_path(key.get_ref())),
            offset: place.start,
            subject: self.subject.clone(),
            end: self.extent.end,
            value: value.get_ref(),
        }
    }
}

impl<'a> Field<'a> {
    /// Notes a mistake: `what` continues a sentence that begins with the field's name.
    pub(super) fn wrong(&self, what: impl AsRef<str>, mistakes: &mut Mistakes<'_>) -> Reported {
        mistakes.note(self.offset, format!("{}{} {}", self.subject, self.name, what.as_ref()))
    }

    /// The value as it is.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// A text that is not empty.
    pub(super) fn text(&self, mistakes: &mut Mistakes<'_>) -> Result<&'a str, Reported> {
        match self.value {
            DeValue::String(text) if text.is_empty() => Err(self.wrong("is empty; give it a value", mistakes)),
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type("text", mistakes)),
        }
    }

    /// A text, or a list of texts: at least one, none of them empty, none twice.
    pub(super) fn texts(&self, mistakes: &mut Mistakes<'_>) -> Result<Vec<(Field<'a>, &'a str)>, Reported> {
        let items = match self.value {
            DeValue::String(_) => vec![self.clone()],
            DeValue::Array(_) => self.items(mistakes)?,
            _ => return Err(self.wrong_type("text or a list of texts", mistakes)),
        };
        let mut seen = std::collections::HashSet::new();
        let mut texts = Vec::with_capacity(items.len());
        let mut trouble = Ok(());
        for item in items {
            match item.text(mistakes) {
                Ok(text) if !seen.insert(text) => {
                    trouble = Err(item.wrong(format!("repeats {}; list it once", quoted(text)), mistakes));
                }
                Ok(text) => texts.push((item, text)),
                Err(reported) => trouble = Err(reported),
            }
        }
        trouble.map(|()| texts)
    }

    /// A field of a record, by its path.
    pub(super) fn path(&self, mistakes: &mut Mistakes<'_>) -> Result<FieldPath, Reported> {
        let text = self.text(mistakes)?;
        FieldPath::parse(text).map_err(|what| self.wrong(format!("{} {what}", quoted(text)), mistakes))
    }

    /// Fields of a record, by their paths: at least one, none twice.
    pub(super) fn paths(&self, mistakes: &mut Mistakes<'_>) -> Result<Vec<FieldPath>, Reported> {
        let (mut paths, mut seen) = (Vec::new(), std::collections::HashSet::new());
        let mut trouble = Ok(());
        for (item, text) in self.texts(mistakes)? {
            match item.path(mistakes) {
                // The same names in another spelling: the texts differ.
                Ok(path) if !seen.insert(path.clone()) => {
                    trouble = Err(item.wrong(format!("repeats {}; list it once", quoted(text)), mistakes));
                }
                Ok(path) => paths.push(path),
                Err(reported) => trouble = Err(reported),
            }
        }
        trouble.map(|()| paths)
    }

    /// A length of time within a range, milliseconds.
    pub(super) fn duration(&self, range: std::ops::RangeInclusive<u64>, mistakes: &mut Mistakes<'_>) -> Result<u64, Reported> {
        let DeValue::String(text) = self.value else {
            return Err(self.wrong_type("a duration in quotes, such as \"90d\"", mistakes));
        };
        let length = duration::read(text).map_err(str::to_owned).and_then(|length| {
            let [least, most] = [range.start(), range.end()].map(|length| quoted(&duration::written(*length)));
            if range.contains(&length) { Ok(length) } else { Err(format!("is out of range; from {least} to {most}")) }
        });
        length.map_err(|what| self.wrong(format!("{} {what}", quoted(text)), mistakes))
    }

    /// The items of a list that is not empty.
    pub(super) fn items(&self, mistakes: &mut Mistakes<'_>) -> Result<Vec<Field<'a>>, Reported> {
        let DeValue::Array(items) = self.value else {
            return Err(self.wrong_type("a list", mistakes));
        };
        if items.is_empty() {
            return Err(self.wrong("is an empty list; list at least one", mistakes));
        }
        let item = |(number, item): (usize, &'a Spanned<DeValue<'a>>)| Field {
            name: format!("item {number} of {}", self.name),
            offset: item.span().start,
            value: item.get_ref(),
            ..self.clone()
        };
        Ok((1..).zip(items.iter()).map(item).collect())
    }

    /// A whole number from a range.
    pub(super) fn integer(&self, range: std::ops::RangeInclusive<u32>, mistakes: &mut Mistakes<'_>) -> Result<u32, Reported> {
        let DeValue::Integer(integer) = self.value else {
            return Err(self.wrong_type("a whole number", mistakes));
        };
        let value = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            self.wrong(
                format!("{} is out of range; from {} to {}", cut(&integer.to_string()), range.start(), range.end()),
                mistakes,
            )
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, mistakes: &mut Mistakes<'_>) -> Result<bool, Reported> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false", mistakes))
    }

    /// A text that is one of several words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)], mistakes: &mut Mistakes<'_>) -> Result<T, Reported> {
        let text = self.text(mistakes)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*choice);
        }
        let words = || choices.iter().map(|(word, _)| *word);
        let advice = match did_you_mean(text, words()) {
            Some(meant) => format!("did you mean {}?", quoted(meant)),
            None => format!("one of {}", quoted_list(words())),
        };
        Err(self.wrong(format!("{} is unknown; {advice}", quoted(text)), mistakes))
    }

    /// A table within the section.
    pub(super) fn table(
        &self,
        known: &'static [&'static str],
        example: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Result<Section<'a>, Reported> {
        let DeValue::Table(table) = self.value else {
            return Err(self.wrong_type(&format!("a table, such as {example}"), mistakes));
        };
        Ok(Section {
            table,
            extent: self.offset..self.end,
            subject: self.subject.clone(),
            path: format!("{}.", self.name),
            known,
        })
    }

    /// Notes that the value is of another kind than `expected`.
    pub(super) fn wrong_type(&self, expected: &str, mistakes: &mut Mistakes<'_>) -> Reported {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("must be {expected}, not {found}"), mistakes)
    }
}

/// A key as one would write it.
fn name_in_path(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { cut(key) } else { quoted(key) }
}
