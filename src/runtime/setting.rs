//! What a manifest says of its job, for commands that have no job file.
//!
//! A run writes its setting into each manifest (see [`super::run`]) to refuse jobs that would give the state another meaning. It also
//! says what the state means: how long windows are, how many digits money has, which fields a key is made of.
//!
//! Absent on purpose: comparing, which a run does with the whole setting.

use serde::Deserialize;
use storeflow_checkpoints::manifest::Manifest;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::table::Table;

use crate::config::{Role, matches_pattern};
use crate::publish::layout::{About, utc};
use crate::source::key_space::{KeySpaceOf, key_space_of};

/// What a manifest says of its job.
#[derive(Clone, Debug, Deserialize)]
pub struct Setting {
    window_ms: u64,
    grace_ms: u64,
    retention_ms: u64,
    replay_horizon_ms: u64,
    #[serde(default)]
    changed: Changed,
    scale: u32,
    #[serde(default = "utc")]
    timezone: String,
    /// By slot.
    sources: Vec<Source>,
}

/// Grace and retention up to an as-of.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Changed {
    as_of: u64,
    grace_ms: u64,
    retention_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Source {
    topics: Vec<String>,
    role: String,
    table: Option<String>,
    key: Vec<String>,
    key_space: String,
    distinct: bool,
}

/// The setting in a manifest is none that this program writes.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {number} does not say what its state means; another program or a test wrote it")]
pub struct SettingError {
    number: u64,
    source: serde_json::Error,
}

impl Setting {
    /// The setting of a manifest.
    ///
    /// # Errors
    /// If it is none that this program writes.
    pub fn of(manifest: &Manifest) -> Result<Setting, SettingError> {
        let Manifest { number, setting, .. } = manifest;
        Setting::deserialize(setting).map_err(|source| SettingError { number: *number, source })
    }

    /// The job's lengths of time.
    pub fn horizons(&self) -> Horizons {
        let Changed { as_of, grace_ms, retention_ms } = self.changed;
        let before = Before { until: as_of, grace: grace_ms, retention: retention_ms };
        let Setting { window_ms, grace_ms, retention_ms, replay_horizon_ms, .. } = *self;
        Horizons { window: window_ms, grace: grace_ms, retention: retention_ms, replay_horizon: replay_horizon_ms, before }
    }

    /// What is true of all that is shown of the manifest.
    pub fn about(&self, manifest: &Manifest) -> About {
        let clicks = name(Role::Clicks);
        About {
            job: manifest.job.clone(),
            generation: manifest.generation,
            horizons: self.horizons(),
            scale: self.scale,
            workers: manifest.workers,
            clicks_distinct: self.sources.iter().any(|source| source.role == clicks && source.distinct),
            timezone: self.timezone.clone(),
        }
    }

    /// Whether the job has a source that feeds a table.
    pub fn feeds(&self, table: Table) -> bool {
        self.sources.iter().any(|source| source.role == name(role(table)))
    }

    /// The place of a key space of a table's rows in the words of the job file (topic, table, role), and the fields of its keys.
    /// `topics` are those of the manifest.
    pub fn key_space(&self, table: Table, number: u32, topics: &[String]) -> Option<(String, &[String])> {
        let role = name(role(table));
        let of_role = |source: &&Source| source.role == role;
        match key_space_of(number) {
            KeySpaceOf::Role => {
                let source =
                    self.sources.iter().filter(of_role).find(|source| source.key_space == name(crate::config::KeySpace::Role))?;
                Some((format!("role {role}"), &source.key))
            }
            KeySpaceOf::Topic { topic, slot: Some(slot) } => {
                let (topic, source) = (topics.get(topic)?, self.sources.get(slot)?);
                Some((format!("{topic} table {}", source.table.as_deref().unwrap_or_default()), &source.key))
            }
            KeySpaceOf::Topic { topic, slot: None } => {
                let topic = topics.get(topic)?;
                let reads = |source: &&Source| {
                    source.table.is_none() && source.topics.iter().any(|pattern| matches_pattern(pattern, topic))
                };
                let source = self.sources.iter().filter(of_role).find(reads)?;
                Some((topic.clone(), &source.key))
            }
        }
    }
}

/// As a setting has it.
fn name(of: impl std::fmt::Debug) -> String {
    format!("{of:?}")
}

fn role(table: Table) -> Role {
    match table {
        Table::StorePayments => Role::Payments,
        Table::StoreSales => Role::OrderItems,
        Table::StoreClicks => Role::Clicks,
        Table::StoreProducts => Role::Products,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(topics: &[&str], role: &str, table: Option<&str>, key: &[&str], key_space: &str) -> serde_json::Value {
        serde_json::json!({
            "topics": topics, "role": role, "table": table, "key": key, "key_space": key_space, "distinct": false, "store": "s"
        })
    }

    #[test]
    fn key_spaces_have_the_names_of_the_job_file() {
        let sources = [
            source(&["all"], "Payments", Some("pay"), &["id"], "Topic"),
            source(&["site-*.items"], "OrderItems", None, &["order", "line"], "Topic"),
            source(&["a", "b"], "Products", None, &["sku"], "Role"),
        ];
        let whole = serde_json::json!({
            "input": "kafka", "window_ms": 1, "grace_ms": 2, "retention_ms": 3, "replay_horizon_ms": 4, "scale": 2,
            "changed": { "as_of": 5, "grace_ms": 6, "retention_ms": 7 },
            "currency": null, "sources": sources
        });
        let setting = Setting::deserialize(whole).expect("a setting");
        let topics = ["a", "all", "site-7.items"].map(str::to_owned);
        let named = |table, number| {
            let found = setting.key_space(table, number, &topics);
            found.map(|(place, fields)| (place, fields.join("+")))
        };
        let is = |place: &str, fields: &str| Some((place.to_owned(), fields.to_owned()));
        assert_eq!(named(Table::StorePayments, 8 + 1024 + 1), is("all table pay", "id"));
        assert_eq!(named(Table::StoreSales, 8 + 2 * 1024), is("site-7.items", "order+line"));
        assert_eq!(named(Table::StoreProducts, 2), is("role Products", "sku"));
        assert_eq!(named(Table::StoreSales, 8), None, "no source of items reads it");
        assert_eq!(named(Table::StoreSales, 8 + 9 * 1024), None, "there is no such topic");
        let before = Before { until: 5, grace: 6, retention: 7 };
        assert_eq!(setting.horizons(), Horizons { window: 1, grace: 2, retention: 3, replay_horizon: 4, before });
        assert!(setting.feeds(Table::StoreSales) && !setting.feeds(Table::StoreClicks));
    }
}
