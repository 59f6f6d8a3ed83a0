//! What Debezium wrote into Kafka, read by a plain consumer that knows nothing of storeflow.
//!
//! Keeps: every message that was ever read.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

use super::connect::PATIENCE;
use super::services::Service;

/// A message, without the schemas around it.
pub(crate) struct Entry {
    pub(crate) topic: String,
    /// `Null` if there is none.
    pub(crate) key: Value,
    /// `Null` for a tombstone.
    pub(crate) value: Value,
}

impl Entry {
    pub(crate) fn op(&self) -> &str {
        self.value["op"].as_str().unwrap_or_default()
    }

    /// What kind of snapshot it is from: `false` for a change.
    pub(crate) fn snapshot(&self) -> &str {
        self.value["source"]["snapshot"].as_str().unwrap_or_default()
    }

    /// Whether a column of the key has this value, as text.
    pub(crate) fn has_in_key(&self, value: &str) -> bool {
        let text = |column: &Value| column.as_str().map_or_else(|| column.to_string(), str::to_owned);
        self.key.as_object().is_some_and(|key| key.values().any(|column| text(column) == value))
    }

    /// What tells two changes of one database from each other.
    fn place(&self) -> String {
        let source = &self.value["source"];
        let parts = ["lsn", "txId", "file", "pos", "row"].map(|part| source[part].to_string());
        format!("{} {} {} {}", self.topic, self.key, self.op(), parts.join(" "))
    }
}

/// Topics, read from their beginning.
pub(crate) struct Log {
    consumer: BaseConsumer,
    topics: Vec<String>,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    /// Waits until the topics are there, and begins.
    pub(crate) fn of(kafka: &Service, topics: &[String]) -> Log {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.address()).set("group.id", "nobody").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let known = consumer.fetch_metadata(None, Duration::from_secs(30)).expect("Kafka answers");
            let of_topics = known.topics().iter().filter(|topic| topics.iter().any(|wanted| wanted == topic.name()));
            let mut all = TopicPartitionList::new();
            for topic in of_topics.clone() {
                for partition in topic.partitions() {
                    all.add_partition_offset(topic.name(), partition.id(), Offset::Beginning).expect("a place");
                }
            }
            if of_topics.count() == topics.len() {
                consumer.assign(&all).expect("assigned");
                return Log { consumer, topics: topics.to_vec(), entries: Vec::new() };
            }
            assert!(Instant::now() < deadline, "Connect makes no topics");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Reads on until something can be seen in all that was read of every topic.
    pub(crate) fn await_in_each(&mut self, what: &str, seen: impl Fn(&Entry) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut missing = self.topics.clone();
        let mut looked = 0;
        loop {
            missing.retain(|topic| !self.entries[looked..].iter().any(|entry| entry.topic == *topic && seen(entry)));
            looked = self.entries.len();
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{what} never came in {missing:?}");
            self.read(Duration::from_millis(100));
        }
    }

    /// Reads what is there, waiting up to so long for the first.
    pub(crate) fn read(&mut self, patience: Duration) {
        let mut patience = patience;
        while let Some(message) = self.consumer.poll(patience) {
            let message = message.expect("a message");
            let read =
                |bytes: Option<&[u8]>| bytes.map_or(Value::Null, |bytes| bare(serde_json::from_slice(bytes).expect("JSON")));
            let (key, value) = (read(message.key()), read(message.payload()));
            self.entries.push(Entry { topic: message.topic().to_owned(), key, value });
            patience = Duration::ZERO;
        }
    }

    /// How many changes of the databases were sent more than once.
    pub(crate) fn duplicates(&self) -> usize {
        let changes = self.entries.iter().filter(|entry| !entry.value.is_null() && entry.snapshot() == "false");
        let mut places: Vec<String> = changes.map(Entry::place).collect();
        let all = places.len();
        places.sort();
        places.dedup();
        all - places.len()
    }
}

/// What a schema is around of.
fn bare(mut value: Value) -> Value {
    if value.get("schema").is_some() { value["payload"].take() } else { value }
}
