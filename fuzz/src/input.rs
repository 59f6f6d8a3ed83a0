//! The shape of an input.

use super::config::Format;

/// An input taken apart.
pub(crate) struct Input<'a> {
    /// Which of the format's jobs.
    pub(crate) job: usize,
    /// The message key.
    pub(crate) key: Option<&'a [u8]>,
    /// The value.
    pub(crate) value: &'a [u8],
}

impl<'a> Input<'a> {
    /// Takes an input apart; `None`: it is too short to be one.
    pub(crate) fn split(format: Format, input: &'a [u8]) -> Option<Input<'a>> {
        let (&which, record) = input.split_first()?;
        let (key, value) = if format == Format::Avro {
            let (&length, rest) = record.split_first()?;
            rest.split_at(rest.len().min(usize::from(length)))
        } else {
            let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
            (&record[..end], record.get(end + 1..).unwrap_or_default())
        };
        // An empty key is another thing than none.
        let key = (!key.is_empty() || which >= 0x80).then_some(key);
        Some(Input { job: usize::from(which & 0x7F), key, value })
    }
}
