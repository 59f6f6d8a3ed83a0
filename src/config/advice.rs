//! What is right in a job, and yet may surprise its author: `check` says so, and accepts it.
//!
//! Absent on purpose: matters of taste. Each advice names what happens to the numbers.

use super::{Format, Job, KeySpace, Role, SourceSpec};

impl Job {
    /// What its author should know, a line each, in the order of the sources.
    pub fn advice(&self) -> Vec<String> {
        (1..).zip(&self.sources).flat_map(|(number, source)| of_source(number, source)).collect()
    }
}

fn of_source(number: usize, source: &SourceSpec) -> Vec<String> {
    let topic = source.topics.first().map_or("", String::as_str);
    let said = |what: String| format!("source {number} (topic \"{topic}\"): {what}");
    let mut advice = Vec::new();
    if source.role == Role::Lookup && source.keep.is_none() {
        let name = source.name.as_deref().unwrap_or_default();
        advice.push(said(format!(
            "rows of lookup \"{name}\" are kept until they are deleted, so that state grows with the table; \
             keep = \"90d\" lets go of those that are not changed for 90 days"
        )));
    }
    // Whatever an envelope calls it.
    let truncates = !matches!(source.format, Format::Upsert | Format::Json);
    if source.key_space == KeySpace::Role && truncates {
        advice.push(said(
            "with key_space = \"role\" a truncate is skipped, since it empties one topic's part of the table only, \
             and which rows came from it is not kept"
                .to_owned(),
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use crate::config::job_file;

    #[test]
    fn is_given_where_it_is_due() {
        let text = |keep: &str, key_space: &str, format: &str| {
            format!(
                "name = \"j\"\n[[source]]\ntopic = \"p\"\nrole = \"products\"\nformat = \"{format}\"\nkey = \"k\"\n\
                 store = {{ through = \"shops\", on = \"shop\" }}\n{key_space}\n\
                 [[source]]\ntopic = \"s\"\nrole = \"lookup\"\nname = \"shops\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\n{keep}\n"
            )
        };
        let advice = |keep, key_space, format| job_file::parse(&text(keep, key_space, format), "f").unwrap().advice();
        let [kept] = &advice("", "", "debezium")[..] else { panic!("one") };
        assert!(kept.starts_with("source 2 (topic \"s\"): rows of lookup \"shops\" are kept until"), "{kept}");
        let [truncates] = &advice("keep = \"90d\"", "key_space = \"role\"", "canal")[..] else { panic!("one") };
        assert!(truncates.starts_with("source 1 (topic \"p\"): with key_space = \"role\" a truncate is skipped"), "{truncates}");
        assert!(advice("keep = \"90d\"", "key_space = \"role\"", "upsert").is_empty());
    }
}
