//! librdkafka's properties: ours, the user's on top, and those that nobody may change.
//!
//! Upholds: (1) what exactness stands on cannot be switched off by an option; (2) the values of secrets leave this module
//! only inside librdkafka's own configuration, and as a list of words to strike from what librdkafka says.
//!
//! Memory: librdkafka stops fetching a partition when its queue holds `queued.max.messages.kbytes`, which is the partition's
//! share of the bytes in flight, and may then overshoot by one fetch of `fetch.message.max.bytes`, a quarter of it. Brokers
//! cut no batch: a producer's that is larger than a fetch comes whole, and overshoots by its own size. Fetches are counted as
//! they travel: compressed ones unpack to more. Larger fetches or a lower mark would be a tighter bound, but
//! a partition is fetched again only below its mark: it would run dry (measured: half the speed).

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::KafkaError;
use super::settings::KafkaSettings;
use crate::config::kafka::is_secret;
use crate::source::secrets;

/// Least bytes of a partition's queue, and of one fetch: below, requests cost more than what they carry. A larger message
/// passes all the same, as brokers send at least one.
const PARTITION_BYTES_MIN: u64 = 64 << 10;
/// Most bytes of one partition in one fetch; more gains nothing.
const FETCH_BYTES_MAX: u64 = 8 << 20;
/// Bounds of a whole response: at least the largest message brokers accept by default, at most librdkafka's own default.
const RESPONSE_BYTES: (u64, u64) = (2 << 20, 50 << 20);
/// At most this between two attempts to reach a broker, so that its return is noticed at once.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// Properties that cannot be changed, with the reason.
const FIXED: [(&str, &str); 10] = [
    ("bootstrap.servers", "is set by --brokers"),
    ("metadata.broker.list", "is set by --brokers"),
    ("enable.auto.commit", "cannot be set; positions are reported only for what was published"),
    ("enable.auto.offset.store", "cannot be set; positions are reported only for what was published"),
    ("auto.offset.reset", "cannot be set; a position outside the log must stop the job instead of jumping"),
    ("isolation.level", "cannot be set; records of aborted transactions must not count"),
    ("allow.auto.create.topics", "cannot be set; reading a topic must not create it"),
    ("enable.partition.eof", "cannot be set; ends are known from the brokers' answers"),
    ("statistics.interval.ms", "cannot be set; ends are known from the statistics"),
    ("group.instance.id", "cannot be set; partitions are assigned by storeflow, nobody joins the group"),
];

/// Checked options, with the secrets in place.
pub(crate) struct Options {
    brokers: String,
    resolved: Vec<(String, String)>,
}

impl Options {
    /// Checks options and fetches secrets from where they are.
    ///
    /// # Errors
    /// If an option may not be set, or its secret is not where it should be.
    pub(crate) fn resolve(brokers: &str, options: &[(String, String)]) -> Result<Self, KafkaError> {
        let resolve = |(name, value): &(String, String)| Ok((name.clone(), look_up(name, value)?));
        Ok(Options { brokers: brokers.to_owned(), resolved: options.iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The values of secrets, to be struck from texts.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secrets = self.resolved.iter().filter(|(name, value)| is_secret(name) && !value.is_empty());
        secrets.map(|(_, value)| value.clone()).collect()
    }

    /// The value of a property, if it was set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.resolved.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Configuration of any client: ours below the user's.
    pub(crate) fn client(&self, ours: &[(&str, String)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "storeflow");
        config.set("reconnect.backoff.ms", "100");
        config.set("reconnect.backoff.max.ms", RECONNECT_MAX.as_millis().to_string());
        config.set("socket.keepalive.enable", "true");
        for (name, value) in ours {
            config.set(*name, value);
        }
        for (name, value) in &self.resolved {
            config.set(name, value);
        }
        // What some failures are logged at; it is we who decide what is worth a line.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// Configuration of a client that asks, and never reads records.
    pub(crate) fn control(&self, group: &str) -> ClientConfig {
        self.consumer(group, &[])
    }

    /// Configuration of the client that reads `partitions`.
    pub(crate) fn data(&self, settings: &KafkaSettings, partitions: usize) -> ClientConfig {
        let share = settings.in_flight_bytes / (partitions.max(1) as u64);
        let queue = share.clamp(PARTITION_BYTES_MIN, 1 << 30);
        let fetch = (share / 4).clamp(PARTITION_BYTES_MIN, FETCH_BYTES_MAX);
        let message = self.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let response = (settings.in_flight_bytes / 4).clamp(RESPONSE_BYTES.0, RESPONSE_BYTES.1).max(message);
        let ours = [
            // Bytes bound a queue, not records: there are many small ones.
            ("queued.min.messages", "1000000".to_owned()),
            ("queued.max.messages.kbytes", (queue >> 10).to_string()),
            ("fetch.message.max.bytes", fetch.to_string()),
            ("fetch.max.bytes", response.to_string()),
            // A full queue is drained in milliseconds; the default second would leave it dry.
            ("fetch.queue.backoff.ms", "2".to_owned()),
            // A broker answers one fetch at a time, and waits this long if the partitions in it have nothing new. One whose
            // queue was full when it was sent waits as long.
            ("fetch.wait.max.ms", "50".to_owned()),
            ("fetch.error.backoff.ms", "200".to_owned()),
            ("statistics.interval.ms", "1000".to_owned()),
        ];
        self.consumer(&settings.group, &ours)
    }

    fn consumer(&self, group: &str, ours: &[(&str, String)]) -> ClientConfig {
        let fixed = [
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
        ];
        let all: Vec<(&str, String)> = ours.iter().cloned().chain(fixed.map(|(name, value)| (name, value.to_owned()))).collect();
        self.client(&all)
    }
}

fn look_up(name: &str, value: &str) -> Result<String, KafkaError> {
    let wrong = |why: String| KafkaError::Option { option: name.to_owned(), why };
    if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        return Err(wrong((*why).to_owned()));
    }
    secrets::look_up(value).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str, value: &str) -> Result<Options, KafkaError> {
        Options::resolve("b:1", &[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_exactness_stands_on_is_refused_by_name() {
        let error = resolve("auto.offset.reset", "earliest").err().expect("refused").to_string();
        assert_eq!(
            error,
            "kafka option \"auto.offset.reset\" cannot be set; a position outside the log must stop the job instead of jumping"
        );
        let config = resolve("fetch.wait.max.ms", "7").expect("allowed").control("g");
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
        assert_eq!(config.get("group.id"), Some("g"));
    }

    #[test]
    fn secrets_come_from_files_and_the_environment() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2\n").expect("temporary file");
        let options = resolve("sasl.password", &format!("file:{}", path.display())).expect("readable");
        assert_eq!(options.control("g").get("sasl.password"), Some("hunter2"));
        assert_eq!(options.secrets(), ["hunter2"]);
        let error = resolve("sasl.password", "env:STOREFLOW_NOT_SET").err().expect("not set").to_string();
        assert!(error.contains("\"STOREFLOW_NOT_SET\", which is not set"), "{error}");
        assert!(resolve("sasl.password", "file:/does/not/exist").is_err());
    }

    #[test]
    fn partitions_share_the_bytes_in_flight() {
        let settings = KafkaSettings {
            brokers: String::new(),
            options: Vec::new(),
            start: super::super::Start::Earliest,
            until_end: false,
            in_flight_bytes: 64 << 20,
            discover_every: Duration::from_secs(1),
            exclude: Vec::new(),
            group: "g".to_owned(),
        };
        let options = Options::resolve("b:1", &[]).expect("no options");
        let of = |partitions: usize, name: &str| options.data(&settings, partitions).get(name).map(str::to_owned);
        assert_eq!(of(16, "queued.max.messages.kbytes").as_deref(), Some("4096"));
        assert_eq!(of(16, "fetch.message.max.bytes").as_deref(), Some("1048576"));
        assert_eq!(of(100_000, "queued.max.messages.kbytes").as_deref(), Some("64"));
        assert!(options.data(&settings, 16).create_native_config().is_ok());
    }
}
