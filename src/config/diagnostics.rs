//! What is wrong with a job file, and where: all of it at once.
//!
//! ```text
//! mall.toml:12:8: source 2 (topic "mall.clicks"): unknown field "produkt"; did you mean "product"?
//! ```
//!
//! Upholds: (1) one line per mistake, sorted by place, whatever bytes the file holds; (2) a [`Reported`] exists only
//! where a mistake was noted, so a job file cannot be refused without a reason; (3) no echo: a line TOML cannot read is
//! reported once, and what is missing because of it is not reported at all.
//! Absent on purpose: warnings. A job file is right or it is not; what may surprise in one that is right is [`Job::advice`](super::Job::advice).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;

/// Mistakes kept; a file with more is not a job file, and the rest is only counted.
const MISTAKES_MAX: usize = 200;
/// Characters of the user's text repeated in a message.
const QUOTED_MAX: usize = 80;
/// The longest word worth a suggestion.
const WORD_MAX: usize = 40;

/// How TOML's reader begins to say that a field is set twice, and that text stands without quotes.
const SET_TWICE: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted";
const BOOLEAN_LIKE: [&str; 6] = ["yes", "no", "on", "off", "true", "false"];

/// Why a job file did not become a job.
#[derive(Debug, thiserror::Error)]
pub enum JobFileError {
    /// Not there, a directory, no permission.
    #[error("could not read job file \"{file}\"")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// No job file is this large; it was not read to its end.
    #[error("job file \"{file}\" is larger than {limit} bytes; is it a job file?")]
    TooLarge {
        /// The file.
        file: String,
        /// The most a job file may have.
        limit: u64,
    },
    /// Everything found wrong with its text; one line each.
    #[error("{}", lines(file, mistakes, *more))]
    Mistakes {
        /// The file.
        file: String,
        /// At least one, sorted by place.
        mistakes: Vec<Mistake>,
        /// How many more were found than are listed.
        more: usize,
    },
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Where in the job, what is wrong, and what would be right.
    pub what: String,
}

fn lines(file: &str, mistakes: &[Mistake], more: usize) -> String {
    let mut text = String::new();
    for (i, Mistake { line, column, what }) in mistakes.iter().enumerate() {
        let separator = if i == 0 { "" } else { "\n" };
        let _ = write!(text, "{separator}{file}:{line}:{column}: {what}");
    }
    if more > 0 {
        let _ = write!(text, "\n{file}: and {more} more");
    }
    text
}

/// Proof that a mistake was noted, in place of the value it prevented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported(());

/// The mistakes found so far in one text.
pub(super) struct Mistakes<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    found: Vec<(usize, String)>,
    more: usize,
    /// Lines TOML could not read: what else is wrong there is not known yet.
    unread_lines: BTreeSet<usize>,
    /// Where text was lost, so that a missing field may only be an unread one; sorted.
    tears: Vec<usize>,
    /// Where a section begins, and the field one of its unknown fields was meant to be.
    misspelt: BTreeSet<(usize, &'static str)>,
}

impl<'t> Mistakes<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Mistakes {
            text,
            line_starts,
            found: Vec::new(),
            more: 0,
            unread_lines: BTreeSet::new(),
            tears: Vec::new(),
            misspelt: BTreeSet::new(),
        }
    }

    /// Notes what TOML could not read, each line once: the first error of a line causes the others.
    pub(super) fn syntax(&mut self, errors: &[toml::de::Error], subject_at: impl Fn(usize) -> String) {
        self.syntax_in_words(errors, |text, span, message| {
            format!("{}{}", subject_at(span.start), readable(text, span, message))
        });
    }

    /// The same in the caller's words for the text, the place in it, and what TOML's reader said.
    pub(super) fn syntax_in_words(&mut self, errors: &[toml::de::Error], words: impl Fn(&str, &Range<usize>, &str) -> String) {
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let offset = self.text.floor_char_boundary(span.start);
            let span = offset..span.end.max(offset);
            // A second value for a field is all there; everything else may have swallowed what follows.
            if !error.message().starts_with(SET_TWICE) {
                self.tears.push(offset);
            }
            let line = self.line_of(offset);
            if !self.unread_lines.insert(line) {
                continue;
            }
            if self.full() {
                self.more += 1;
            } else {
                let message = words(self.text, &span, error.message());
                self.push(offset, message);
            }
            if self.is_header(line) {
                // What follows belongs to a section that was not begun.
                let lines = line + 1..=self.line_starts.len();
                let body = lines.take_while(|line| !self.is_header(*line)).collect::<Vec<_>>();
                self.unread_lines.extend(body);
            }
        }
        self.tears.sort_unstable();
    }

    /// Notes a mistake at a byte of the text, unless its line could not be read at all.
    pub(super) fn note(&mut self, offset: usize, what: String) -> Reported {
        let offset = self.text.floor_char_boundary(offset);
        if !self.unread_lines.contains(&self.line_of(offset)) {
            self.push(offset, what);
        }
        Reported(())
    }

    /// Notes that something is missing within `extent`, unless text was lost there.
    pub(super) fn note_missing(&mut self, extent: &Range<usize>, what: String) -> Reported {
        let next_tear = self.tears.partition_point(|tear| *tear < extent.start);
        if self.tears.get(next_tear).is_none_or(|tear| *tear > extent.end) {
            self.push(extent.start, what);
        }
        Reported(())
    }

    /// Notes that `meant` is in the section that begins at `section`, in another spelling which is a mistake itself.
    pub(super) fn note_misspelt(&mut self, section: usize, meant: &'static str) {
        self.misspelt.insert((section, meant));
    }

    /// Whether that was noted: then the field is not missing as well.
    pub(super) fn misspelt(&self, section: usize, name: &str) -> Option<Reported> {
        let noted = self.misspelt.iter().any(|(at, meant)| *at == section && *meant == name);
        noted.then_some(Reported(()))
    }

    /// Whether further mistakes are only counted, and need no elaborate words.
    pub(super) fn full(&self) -> bool {
        self.found.len() >= MISTAKES_MAX
    }

    /// The value, if there is no mistake after all.
    pub(super) fn into_result<T>(self, file: &str, value: T) -> Result<T, JobFileError> {
        if self.found.is_empty() { Ok(value) } else { Err(self.into_error(file, Reported(()))) }
    }

    /// All mistakes as an error.
    pub(super) fn into_error(mut self, file: &str, _at_least_one: Reported) -> JobFileError {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(offset, _)| *offset);
        let mistakes = found
            .into_iter()
            .map(|(offset, what)| {
                let (line, column) = self.place(offset);
                Mistake { line, column, what: one_line(&what) }
            })
            .collect();
        JobFileError::Mistakes { file: one_line(file), mistakes, more: self.more }
    }

    fn push(&mut self, offset: usize, what: String) {
        if self.full() {
            self.more += 1;
        } else {
            self.found.push((offset, what));
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn is_header(&self, line: usize) -> bool {
        self.text[self.line_starts[line - 1]..].trim_start_matches([' ', '\t']).starts_with('[')
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let start = self.line_starts[line - 1];
        let before = &self.text[start..offset];
        // A byte order mark is on no screen.
        (line, before.trim_start_matches('\u{feff}').chars().count() + 1)
    }
}

/// The words for a TOML error.
fn readable(text: &str, span: &Range<usize>, message: &str) -> String {
    let raw = text.get(span.clone()).unwrap_or("");
    if message.starts_with(SET_TWICE) {
        let advice = match raw {
            "source" => "write [[source]], with two brackets, above each",
            _ => "keep one of them",
        };
        return format!("{} is set twice; {advice}", quoted(raw));
    }
    // An opening far above is noticed at the end, on a line that has nothing to do with it.
    let about_far = message.contains("unclosed") || message.contains("multi-line");
    let field = field_of_line(text, span.start).filter(|_| !about_far);
    let field = field.map(|field| format!("{field} ")).unwrap_or_default();
    if message.starts_with(UNQUOTED) && raw.is_empty() {
        return format!("{field}has no value");
    }
    let bare = raw.starts_with(|c: char| c.is_ascii_alphanumeric()) && !raw.contains(['\n', '"', '\'']);
    if bare && BOOLEAN_LIKE.contains(&raw.to_lowercase().as_str()) {
        return format!("{field}{raw} is not TOML; write true or false");
    }
    if bare && [UNQUOTED, "invalid float", "invalid boolean", "invalid integer"].iter().any(|start| message.starts_with(start)) {
        return format!("{field}is written without quotes; text needs them: {}", quoted(raw));
    }
    match field.as_str() {
        "" => format!("not TOML: {message}"),
        field => format!("{field}is not TOML: {message}"),
    }
}

/// The field set on the line of a place, as far as one can tell without reading TOML.
fn field_of_line(text: &str, offset: usize) -> Option<&str> {
    let before = text.get(..offset)?;
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    let (field, _) = line.split_once('=')?;
    let field = field.trim().trim_start_matches('\u{feff}');
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!field.is_empty() && field.chars().all(plain)).then_some(field)
}

/// The user's text in double quotes: cut where it is long, on one line, with nothing a terminal would act on.
pub(super) fn quoted(text: &str) -> String {
    let shown = cut(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", one_line(&shown))
}

/// Several of the user's texts, as `"a", "b", "c"`.
pub(super) fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// A text cut where it is long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The known word that was probably meant.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_MAX {
        return None;
    }
    let simple = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = simple(word);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &simple(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= length.min(candidate.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        for (word, expected) in [
            ("produkt", Some("product")),
            ("Product", Some("product")),
            ("counts-when", Some("counts_when")),
            ("topci", Some("topic")),
            ("x", None),
            ("", None),
            ("elephant", None),
        ] {
            assert_eq!(did_you_mean(word, ["topic", "product", "counts_when"]), expected, "{word}");
        }
        assert_eq!(did_you_mean(&"x".repeat(1 << 20), ["topic"]), None);
    }

    #[test]
    fn quoting_keeps_to_one_short_line() {
        assert_eq!(quoted("a\nb\u{1b}[31m\"\\"), r#""a\nb\u{1b}[31m\"\\""#);
        assert!(quoted(&"é".repeat(1000)).chars().count() <= QUOTED_MAX + 3);
    }

    #[test]
    fn places_count_characters_and_skip_a_byte_order_mark() {
        let text = "\u{feff}é=1\r\nüü = 2";
        let mut mistakes = Mistakes::new(text);
        for offset in [text.find('é'), text.find('2'), Some(text.len() + 9)].into_iter().flatten() {
            mistakes.note(offset, String::new());
        }
        let JobFileError::Mistakes { mistakes, .. } = mistakes.into_error("f", Reported(())) else { panic!("mistakes") };
        let places: Vec<_> = mistakes.iter().map(|m| (m.line, m.column)).collect();
        assert_eq!(places, [(1, 1), (2, 6), (2, 7)]);
    }
}
