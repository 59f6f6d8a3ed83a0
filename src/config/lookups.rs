//! Lookups and the sources that find their store through them: what no source can know by itself.
//!
//! Upholds: of a job that is accepted, (1) each reference leads to a lookup whose key has as many fields as it names, (2) a row and the
//! lookup row it refers to are in one key space, which is either the whole lookup or told by names that the topics of both capture, (3) there
//! is a time wherever one is needed, (4) every lookup is of use.
//! Absent on purpose: what depends on a source that has mistakes of its own; it shows once they are mended.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostics::{Mistakes, Reported, did_you_mean, quoted, quoted_list};
use super::fields::{Field, Section};
use super::pattern::{self, is_pattern};
use super::topics::Captured;
use super::{KeySpace, Role};

/// What a source says that others must agree with; each part `None` if it was itself a mistake.
pub(super) struct Party<'a> {
    /// Number of the source, from 1.
    pub(super) number: usize,
    /// All of it.
    pub(super) section: Section<'a>,
    /// Its role.
    pub(super) role: Option<Role>,
    /// Its topics.
    pub(super) captured: Option<Captured<'a>>,
    /// How many fields its key has.
    pub(super) key_count: Option<usize>,
    /// Its key space.
    pub(super) key_space: Option<KeySpace>,
    /// Of a lookup: how long its rows are kept.
    pub(super) keep: Option<Option<u64>>,
    /// How it refers to a lookup; `Some(None)`: it does not.
    pub(super) through: Option<Option<Through<'a>>>,
}

/// `{ through = …, on = … }`
#[derive(Clone)]
pub(super) struct Through<'a> {
    /// The lookup's name.
    pub(super) lookup: (Field<'a>, &'a str),
    /// How many fields hold its key.
    pub(super) on: (Field<'a>, usize),
}

/// The sources of one name.
struct Lookup<'p, 'a> {
    first: &'p Party<'a>,
    key_count: Option<usize>,
    key_space: KeySpaceOfLookup<'a>,
    /// The number of the first one without a time.
    timeless: Option<usize>,
}

/// Names shown to whoever named none of them.
const NAMES_SHOWN: usize = 10;

/// Holds all sources against each other.
pub(super) fn check(parties: &[Party<'_>], mistakes: &mut Mistakes<'_>) {
    let mut lookups: BTreeMap<&str, Vec<&Party<'_>>> = BTreeMap::new();
    let mut all_known = parties.iter().all(|party| party.role.is_some());
    for party in parties.iter().filter(|party| party.role == Some(Role::Lookup)) {
        match name_of(party) {
            Some((_, name)) => lookups.entry(name).or_default().push(party),
            None => all_known = false,
        }
    }
    let lookups: BTreeMap<&str, Lookup<'_, '_>> = lookups
        .into_iter()
        .filter_map(|(name, sources)| {
            check_agreement(&sources, mistakes);
            let lookup = Lookup {
                first: sources.first()?,
                key_count: sources.iter().find_map(|source| source.key_count),
                key_space: key_space(name, &sources, mistakes),
                timeless: sources.iter().find(|source| source.section.field("time").is_none()).map(|source| source.number),
            };
            Some((name, lookup))
        })
        .collect();
    let mut referred = BTreeSet::new();
    for party in parties {
        let Some(Some(through)) = &party.through else { continue };
        let (field, name) = &through.lookup;
        match lookups.get(name) {
            Some(lookup) => check_reference(party, through, lookup, mistakes),
            None if all_known => {
                let names = || lookups.keys().copied();
                let meant = if mistakes.full() { None } else { did_you_mean(name, names()) };
                let advice = match meant {
                    Some(meant) => format!("did you mean {}?", quoted(meant)),
                    None if lookups.is_empty() => "add a [[source]] with role = \"lookup\" and this name".to_owned(),
                    None => format!("there is {}", quoted_list(names().take(NAMES_SHOWN))),
                };
                // Whoever is meant by another spelling is not without use.
                referred.extend(meant);
                field.wrong(format!("{} is no lookup of this job; {advice}", quoted(name)), mistakes);
            }
            None => {}
        }
        referred.insert(*name);
    }
    if parties.iter().any(|party| party.through.is_none()) {
        return;
    }
    for (name, lookup) in lookups.iter().filter(|(name, _)| !referred.contains(*name)) {
        if let Some((field, _)) = name_of(lookup.first) {
            let what = format!(
                "{name} is a lookup that no source refers to; write store = {{ through = {name}, on = … }} there, or take it out",
                name = quoted(name)
            );
            field.wrong(what, mistakes);
        }
    }
}

fn name_of<'a>(party: &Party<'a>) -> Option<(Field<'a>, &'a str)> {
    let field = party.section.field("name")?;
    let name = field.value().as_str().filter(|name| !name.is_empty())?;
    Some((field, name))
}

/// The sources of one lookup have one key and one key space.
fn check_agreement(parties: &[&Party<'_>], mistakes: &mut Mistakes<'_>) {
    let Some((first, others)) = parties.split_first() else { return };
    for party in others {
        let differs = |field: &str, how: &str, mistakes: &mut Mistakes<'_>| {
            let what = format!("{how} of source {}, which is of the same lookup", first.number);
            match party.section.field(field) {
                Some(field) => field.wrong(what, mistakes),
                None => party.section.missing(field, &what, mistakes),
            }
        };
        if let (Some(count), Some(of_first)) = (party.key_count, first.key_count)
            && count != of_first
        {
            differs("key", &format!("has {}, unlike the {of_first} of the key", fields(count)), mistakes);
        }
        if party.key_space.is_some() && first.key_space.is_some() && party.key_space != first.key_space {
            differs("key_space", "is not the one", mistakes);
        }
        if party.keep.is_some() && first.keep.is_some() && party.keep != first.keep {
            differs("keep", "is not that", mistakes);
        }
    }
}

const ADVICE: &str =
    "capture the same names in all its topics, such as \"{site}.orders\", or write key_space = \"role\" if they are one table";

/// What tells the key spaces of a lookup apart.
enum KeySpaceOfLookup<'a> {
    /// Nothing: there is one.
    One,
    /// The names that its topics capture.
    Names(Vec<&'a str>),
    /// A mistake hides it.
    Unknown,
}

fn key_space<'a>(name: &str, parties: &[&Party<'a>], mistakes: &mut Mistakes<'_>) -> KeySpaceOfLookup<'a> {
    let mut unclear = |field: &Field<'_>, topic: &str, why: &str| {
        let (topic, name) = (quoted(topic), quoted(name));
        field.wrong(
            format!("{topic} {why}, so that nothing says which rows of lookup {name} others refer to; {ADVICE}"),
            mistakes,
        );
        KeySpaceOfLookup::Unknown
    };
    let mut topics: Vec<&(Field<'_>, &str)> = Vec::new();
    let mut names: Vec<&'a str> = Vec::new();
    for party in parties {
        let (Some(key_space), Some(captured)) = (party.key_space, &party.captured) else { return KeySpaceOfLookup::Unknown };
        if key_space == KeySpace::Role {
            return KeySpaceOfLookup::One;
        }
        if let ([], Some((_, first))) = (topics.as_slice(), captured.topics().first()) {
            names = pattern::names(first).collect();
        }
        topics.extend(captured.topics());
    }
    let Some((_, first)) = topics.first() else { return KeySpaceOfLookup::Unknown };
    if !is_pattern(first) && topics.iter().all(|(_, topic)| topic == first) {
        return KeySpaceOfLookup::One;
    }
    for (field, topic) in &topics {
        if names.is_empty() {
            return unclear(
                field,
                topic,
                if topics.len() > 1 { "is one of several topics" } else { "stands for several topics" },
            );
        }
        let of_topic: Vec<&str> = pattern::names(topic).collect();
        if let Some(name) = names.iter().find(|name| !of_topic.contains(name)) {
            return unclear(field, topic, &format!("does not capture {{{name}}} as other topics do"));
        }
        if let Some(name) = of_topic.iter().find(|name| !names.contains(name)) {
            return unclear(field, topic, &format!("captures {{{name}}}, which other topics do not"));
        }
    }
    KeySpaceOfLookup::Names(names)
}

fn check_reference(party: &Party<'_>, through: &Through<'_>, lookup: &Lookup<'_, '_>, mistakes: &mut Mistakes<'_>) {
    let (field, count) = &through.on;
    let name = quoted(through.lookup.1);
    if let Some(of_key) = lookup.key_count
        && of_key != *count
    {
        field.wrong(format!("has {}, but the key of lookup {name} has {of_key}", fields(*count)), mistakes);
    }
    if let (Some(captured), KeySpaceOfLookup::Names(names)) = (&party.captured, &lookup.key_space) {
        for captured_name in names {
            if let Some((field, topic)) = captured.without(captured_name) {
                let what = format!("does not capture {{{captured_name}}}, which tells the keys of lookup {name} apart");
                field.wrong(format!("{} {what}", quoted(topic)), mistakes);
            }
        }
    }
    let needs_time = matches!(party.role, Some(Role::Payments | Role::OrderItems)) && party.section.field("time").is_none();
    if let (true, Some(role), Some(source)) = (needs_time, party.role, lookup.timeless) {
        let why = format!("{} need one, or a lookup {name} with a time, which source {source} does not have", role.name());
        let _: Reported = party.section.missing("time", &why, mistakes);
    }
}

fn fields(count: usize) -> String {
    match count {
        1 => "1 field".to_owned(),
        count => format!("{count} fields"),
    }
}
