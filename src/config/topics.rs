//! Topic names and patterns of a job file, and the promise that no topic is read twice.
//!
//! Upholds: (1) a name is one Kafka allows, so it can also be a directory of a dataset; (2) two sources never count the
//! same record, as far as names tell: equal names, a name within a pattern, a pattern within a pattern. Patterns that
//! merely could meet (`a-*` and `*-b`) are left alone, as whether a topic is in both shows only when there is one. (3) Sources that
//! share a topic, each with its own table, have one format.

use std::collections::{BTreeMap, BTreeSet};

use super::Format;
use super::diagnostics::{Mistakes, Reported, quoted};
use super::fields::{Field, Section};
use super::pattern::{self, covers, is_pattern};

/// The longest name Kafka allows.
const TOPIC_CHARACTERS_MAX: usize = 249;
/// Topics and patterns of one job; above that, a pattern is the way to write them.
const TOPICS_MAX: usize = 10_000;

/// Topics of one source, each with its place.
pub(super) type Topics<'a> = Vec<(Field<'a>, &'a str)>;

/// Reads `topic` or `topics`.
pub(super) fn read<'a>(section: &Section<'a>, mistakes: &mut Mistakes<'_>) -> Result<Topics<'a>, Reported> {
    let topics = match (section.field("topic"), section.field("topics")) {
        (Some(_), Some(topics)) => {
            return Err(topics.wrong("cannot be set together with topic; keep one of them", mistakes));
        }
        (Some(topic), None) => vec![(topic.clone(), topic.text(mistakes)?)],
        (None, Some(topics)) => {
            topics.items(mistakes)?;
            topics.texts(mistakes)?
        }
        (None, None) => {
            return Err(section.missing("topic", "name the topic to read, or list several as topics", mistakes));
        }
    };
    let mut trouble = Ok(());
    for (field, topic) in &topics {
        if let Err(what) = check_name(topic) {
            trouble = Err(field.wrong(format!("{} {what}", quoted(topic)), mistakes));
        }
    }
    trouble.map(|()| topics)
}

fn check_name(topic: &str) -> Result<(), String> {
    const ALLOWED: &str =
        "letters, digits, \".\", \"_\" and \"-\", \"*\" for any run of them, and {name} for one that ids can use";
    let no_name = |why: &str| Err(format!("is no topic name; {why}"));
    let mut captured = BTreeSet::new();
    for name in pattern::names(topic) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
            return Err(format!("captures {}, which is no name; letters, digits and \"_\", a letter first", quoted(name)));
        }
        if !captured.insert(name) {
            return Err(format!("captures {} twice; give each its own name", quoted(name)));
        }
    }
    // What remains of a pattern without its captures: each is a "*", which it cannot touch.
    let literal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let (mut rest, mut after_run) = (topic, false);
    while let Some(c) = rest.chars().next() {
        let end = if c == '{' { rest.find('}') } else { Some(0) };
        let (true, Some(end)) = (c == '*' || c == '{' || literal(c), end) else { return no_name(ALLOWED) };
        if c == '{' && (after_run || rest[end + 1..].starts_with(['*', '{'])) {
            return Err(format!("has another run right beside {}; put some text between them", &rest[..=end]));
        }
        after_run = c == '*';
        rest = &rest[end + 1..];
    }
    match topic {
        _ if topic.len() > TOPIC_CHARACTERS_MAX => no_name("at most 249 characters"),
        "." | ".." => no_name("\".\" and \"..\" are not allowed"),
        _ => Ok(()),
    }
}

/// What the topics of a source capture.
#[derive(Clone, Default)]
pub(super) struct Captured<'a> {
    topics: Topics<'a>,
    /// How many topics capture each name.
    counts: BTreeMap<&'a str, usize>,
}

impl<'a> Captured<'a> {
    pub(super) fn new(topics: Topics<'a>) -> Self {
        let mut counts = BTreeMap::new();
        for name in topics.iter().flat_map(|(_, topic)| pattern::names(topic)) {
            *counts.entry(name).or_default() += 1;
        }
        Captured { topics, counts }
    }

    /// The topics.
    pub(super) fn topics(&self) -> &[(Field<'a>, &'a str)] {
        &self.topics
    }

    /// Whether any topic captures a name: then it stands for that, and not for a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.counts.contains_key(name)
    }

    /// The first topic that does not capture a name.
    pub(super) fn without(&self, name: &str) -> Option<&(Field<'a>, &'a str)> {
        if self.counts.get(name) == Some(&self.topics.len()) {
            return None;
        }
        self.topics.iter().find(|(_, topic)| pattern::names(topic).all(|captured| captured != name))
    }
}

/// What tells two readers of one topic apart.
pub(super) struct Reader<'a> {
    /// Number of the source, from 1.
    pub(super) number: usize,
    /// Its topics.
    pub(super) topics: Topics<'a>,
    /// Its table, if it reads only one.
    pub(super) table: Option<String>,
    /// Its format; `None`: it was itself a mistake.
    pub(super) format: Option<Format>,
}

/// Notes every topic that a source reads although an earlier one does.
pub(super) fn check_read_once(readers: &[Reader<'_>], mistakes: &mut Mistakes<'_>) {
    let all = || readers.iter().flat_map(|reader| reader.topics.iter().map(move |(field, topic)| (reader, field, *topic)));
    if let Some((_, field, _)) = all().nth(TOPICS_MAX) {
        field.wrong(format!("is one of more than {TOPICS_MAX} topics; use a pattern, such as \"site-*.payments\""), mistakes);
        return;
    }
    // Names meet names by looking them up; only patterns are held against everything.
    let mut by_name: BTreeMap<&str, Vec<&Reader<'_>>> = BTreeMap::new();
    let mut patterns: Vec<(&Reader<'_>, &str)> = Vec::new();
    for (reader, field, topic) in all() {
        let same_name = by_name.get(topic).into_iter().flatten().map(|earlier| (*earlier, topic));
        let covered = patterns.iter().filter(|(_, pattern)| covers(pattern, topic) || covers(topic, pattern)).copied();
        let covers_earlier = is_pattern(topic).then_some(()).into_iter().flat_map(|()| {
            by_name
                .iter()
                .filter(|(name, _)| covers(topic, name))
                .flat_map(|(name, of)| of.iter().map(|earlier| (*earlier, *name)))
        });
        let clash = same_name.chain(covered).chain(covers_earlier).filter_map(|(earlier, other)| {
            let clash = clash(earlier, reader)?;
            Some((earlier.number, other, clash))
        });
        if let Some((earlier, other, clash)) = clash.min_by_key(|(earlier, ..)| *earlier) {
            let also = if other == topic { String::new() } else { format!(" as {}", quoted(other)) };
            let what = match clash {
                Clash::Twice => {
                    format!(
                        "is read by source {earlier} already{also}; a topic is read once, unless each source names another table"
                    )
                }
                Clash::Formats(format) => {
                    format!(
                        "is read by source {earlier}{also} with format {}; sources that share a topic have one format",
                        quoted(format.name())
                    )
                }
            };
            field.wrong(format!("{} {what}", quoted(topic)), mistakes);
        }
        if is_pattern(topic) {
            patterns.push((reader, topic));
        } else {
            by_name.entry(topic).or_default().push(reader);
        }
    }
}

/// What two sources cannot both do with one topic.
enum Clash {
    /// Count its records.
    Twice,
    /// Decode them by another format than this one.
    Formats(Format),
}

fn clash(earlier: &Reader<'_>, later: &Reader<'_>) -> Option<Clash> {
    let apart = matches!((&earlier.table, &later.table), (Some(a), Some(b)) if a != b);
    let formats = earlier.format.zip(later.format).filter(|(earlier, later)| earlier != later);
    match formats {
        _ if earlier.number == later.number => None,
        _ if !apart => Some(Clash::Twice),
        formats => formats.map(|(format, _)| Clash::Formats(format)),
    }
}
