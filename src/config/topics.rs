//! Topic names and patterns of a job file, and the promise that no topic is read twice.
//!
//! Upholds: (1) a name is one Kafka allows, so it can also be a directory of a dataset; (2) two sources never count the
//! same record, as far as names tell: equal names, a name within a pattern, a pattern within a pattern. Patterns that
//! merely could meet (`a-*` and `*-b`) are left alone, as whether a topic is in both shows only when there is one.

use std::collections::BTreeMap;

use super::diagnostics::{Mistakes, Reported, quoted};
use super::fields::{Field, Section};
use super::matches_pattern;

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

fn check_name(topic: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
    if !topic.chars().all(allowed) {
        return Err("is no topic name; letters, digits, \".\", \"_\" and \"-\", and \"*\" for any run of them");
    }
    if topic.len() > TOPIC_CHARACTERS_MAX {
        return Err("is no topic name; at most 249 characters");
    }
    if topic == "." || topic == ".." {
        return Err("is no topic name; \".\" and \"..\" are not allowed");
    }
    Ok(())
}

/// What tells two readers of one topic apart.
pub(super) struct Reader<'a> {
    /// Number of the source, from 1.
    pub(super) number: usize,
    /// Its topics.
    pub(super) topics: Topics<'a>,
    /// Its table, if it reads only one.
    pub(super) table: Option<String>,
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
        let covers_earlier = topic.contains('*').then_some(()).into_iter().flat_map(|()| {
            by_name
                .iter()
                .filter(|(name, _)| covers(topic, name))
                .flat_map(|(name, of)| of.iter().map(|earlier| (*earlier, *name)))
        });
        let clash = same_name.chain(covered).chain(covers_earlier).filter(|(earlier, _)| clashes(earlier, reader));
        if let Some((earlier, other)) = clash.min_by_key(|(earlier, _)| earlier.number) {
            let also = if other == topic { String::new() } else { format!(" as {}", quoted(other)) };
            let what = format!(
                "{} is read by source {} already{also}; a topic is read once, unless each source names another table",
                quoted(topic),
                earlier.number
            );
            field.wrong(what, mistakes);
        }
        if topic.contains('*') {
            patterns.push((reader, topic));
        } else {
            by_name.entry(topic).or_default().push(reader);
        }
    }
}

/// Whether every topic of `topic`, itself a name or a pattern, is one of `pattern`: only a `*` can take in a `*`.
fn covers(pattern: &str, topic: &str) -> bool {
    matches_pattern(pattern, topic)
}

fn clashes(earlier: &Reader<'_>, later: &Reader<'_>) -> bool {
    let apart = matches!((&earlier.table, &later.table), (Some(a), Some(b)) if a != b);
    earlier.number != later.number && !apart
}
