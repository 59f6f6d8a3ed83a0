//! Flags that say how to reach Kafka and from where to read, shared by every command that does.

use std::time::Duration;

use clap::Args;

use crate::config::kafka::{is_reference, is_secret};
use crate::config::{Job, duration};
use crate::source::kafka::{KafkaSettings, Start};

/// How to reach Kafka.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kafka")]
pub struct BrokerArgs {
    /// Kafka's brokers; default: those of the job file's [kafka]
    #[arg(long, env = "STOREFLOW_BROKERS", value_name = "HOST:PORT,…")]
    brokers: Option<String>,

    /// A property of librdkafka, such as security.protocol=SASL_SSL; repeatable, goes before the job file's. Secrets, such as
    /// sasl.password, are given as env:NAME or file:PATH; other values may be, too. In the environment separated by ";"
    #[arg(long = "kafka-option", env = "STOREFLOW_KAFKA_OPTIONS", hide_env_values = true, value_name = "NAME=VALUE", value_delimiter = ';', value_parser = parse_option)]
    options: Vec<KafkaOption>,
}

/// From where to read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    #[command(flatten)]
    brokers: BrokerArgs,

    /// Where partitions start that no checkpoint knows: earliest, latest, stored (the positions last reported for the consumer
    /// group, else earliest) or an instant, RFC 3339
    #[arg(long, env = "STOREFLOW_START", value_name = "WHERE", default_value = "earliest")]
    start: Start,

    /// Read up to the ends that the topics have now, then end like a replay
    #[arg(long, env = "STOREFLOW_UNTIL_END")]
    until_end: bool,

    /// A partition to leave alone; repeatable. Its records are missing from every number
    #[arg(long = "exclude-partition", env = "STOREFLOW_EXCLUDE_PARTITIONS", value_name = "TOPIC/PARTITION", value_delimiter = ',', value_parser = parse_partition)]
    exclude: Vec<(String, u32)>,

    /// Between two looks for new partitions and topics
    #[arg(long, env = "STOREFLOW_DISCOVER_EVERY", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    discover_every: Duration,

    /// Consumer group under which positions are reported for lag tools; nobody joins it [default: storeflow-JOB]
    #[arg(long, env = "STOREFLOW_GROUP", value_name = "NAME")]
    group: Option<String>,
}

/// A property; its value is not shown if it is a secret.
#[derive(Clone)]
struct KafkaOption(String, String);

impl std::fmt::Debug for KafkaOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if is_secret(&self.0) { "(secret)" } else { &self.1 };
        write!(f, "{}={value}", self.0)
    }
}

/// A property of the command line. Never with its value in the message: clap prints what was typed on top of it, so a
/// secret that was typed out is taken here and refused by [`BrokerArgs::options`], which does not.
fn parse_option(text: &str) -> Result<KafkaOption, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok(KafkaOption(name.trim().to_owned(), value.to_owned())),
        _ => Err("is no NAME=VALUE, such as security.protocol=SASL_SSL".to_owned()),
    }
}

fn parse_partition(text: &str) -> Result<(String, u32), String> {
    let parts = text.rsplit_once('/').filter(|(topic, _)| !topic.is_empty());
    let parts = parts.and_then(|(topic, partition)| Some((topic.to_owned(), partition.parse().ok()?)));
    parts.ok_or_else(|| "is no TOPIC/PARTITION, such as mall.clicks/3".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match duration::read(text) {
        Ok(0) => Err("must be longer than nothing".to_owned()),
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(what) => Err(what.to_owned()),
    }
}

impl BrokerArgs {
    /// The brokers: of the command line, else of the job file; `None` if neither names any.
    pub fn brokers(&self, job: Option<&Job>) -> Option<String> {
        self.brokers.clone().or_else(|| job.and_then(|job| job.kafka.brokers.clone()))
    }

    /// Properties: the job file's, then those of the command line, which win.
    ///
    /// # Errors
    /// If a secret is given as itself: it would be seen in the list of processes.
    pub fn options(&self, job: Option<&Job>) -> anyhow::Result<Vec<(String, String)>> {
        let mut options = job.map_or_else(Vec::new, |job| job.kafka.options.clone());
        for KafkaOption(name, value) in &self.options {
            if is_secret(name) && !is_reference(value) {
                anyhow::bail!(
                    "kafka option \"{name}\" is a secret and everybody could see it in the list of processes; \
                     give it as {name}=env:NAME or {name}=file:PATH"
                );
            }
            options.push((name.clone(), value.clone()));
        }
        Ok(options)
    }
}

impl KafkaArgs {
    /// Settings from the flags and the job file; `None` if neither names brokers.
    ///
    /// # Errors
    /// If an option is given that may not be.
    pub fn settings(&self, job: &Job, in_flight_bytes: u64) -> anyhow::Result<Option<KafkaSettings>> {
        let Some(brokers) = self.brokers.brokers(Some(job)) else { return Ok(None) };
        let mut options = self.brokers.options(Some(job))?;
        let of_options = options.iter().rev().find(|(name, _)| name == "group.id").map(|(_, group)| group.clone());
        options.retain(|(name, _)| name != "group.id");
        let group = self.group.clone().or(of_options).unwrap_or_else(|| format!("storeflow-{}", job.name));
        Ok(Some(KafkaSettings {
            brokers,
            options,
            start: self.start,
            until_end: self.until_end,
            in_flight_bytes,
            discover_every: self.discover_every,
            exclude: self.exclude.clone(),
            group,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::job_file;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        kafka: KafkaArgs,
    }

    fn settings(job: &str, flags: &[&str]) -> anyhow::Result<Option<KafkaSettings>> {
        let source = "[[source]]\ntopic = \"t\"\nrole = \"products\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\n";
        let job = job_file::parse(&format!("name = \"j\"\n{job}{source}"), "job")?;
        Cli::try_parse_from(["storeflow"].iter().chain(flags))?.kafka.settings(&job, 1 << 20)
    }

    #[test]
    fn the_command_line_goes_before_the_job_file() {
        assert!(settings("", &[]).expect("no brokers are no mistake").is_none());
        let job = "[kafka]\nbrokers = \"a:1\"\noptions = { \"fetch.min.bytes\" = \"1\", \"sasl.password\" = \"env:P\" }\n";
        let of_job = settings(job, &[]).expect("valid").expect("brokers");
        assert_eq!((of_job.brokers.as_str(), of_job.group.as_str(), of_job.start), ("a:1", "storeflow-j", Start::Earliest));
        let flags = ["--brokers", "b:2", "--kafka-option", "fetch.min.bytes=2", "--kafka-option", "group.id=g"];
        let more = ["--start", "2026-11-20T00:00:00Z", "--exclude-partition", "a/b/3", "--until-end", "--discover-every", "5s"];
        let both = settings(job, &[&flags[..], &more[..]].concat()).expect("valid").expect("brokers");
        assert_eq!((both.brokers.as_str(), both.group.as_str()), ("b:2", "g"));
        assert_eq!(both.options.last(), Some(&("fetch.min.bytes".to_owned(), "2".to_owned())));
        assert_eq!(both.start, Start::Timestamp(1_795_132_800_000));
        assert_eq!(both.exclude, [("a/b".to_owned(), 3)]);
        assert_eq!((both.until_end, both.discover_every), (true, Duration::from_secs(5)));
    }

    #[test]
    fn secrets_are_not_typed() {
        let flags = ["--brokers", "b:2", "--kafka-option", "sasl.password=hunter2"];
        let error = settings("", &flags).expect_err("a secret").to_string();
        assert!(error.contains("sasl.password=env:NAME") && !error.contains("hunter2"), "{error}");
        let args = Cli::try_parse_from(["storeflow"].iter().chain(&flags)).expect("parses");
        assert!(!format!("{args:?}").contains("hunter2"));
    }
}
