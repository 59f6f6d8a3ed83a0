//! How to reach Kafka and from where to read, as the command line and the job file say it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::kafka::is_secret;

/// How to reach Kafka and from where to read.
#[derive(Clone, PartialEq)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Properties of librdkafka; of equal names the later wins. A value `env:NAME` or `file:PATH` is taken from there.
    pub options: Vec<(String, String)>,
    /// Where partitions without a position of ours start.
    pub start: Start,
    /// Read to the ends captured at the start, and no further; nothing is discovered then.
    pub until_end: bool,
    /// Bytes fetched and not yet taken by workers, over all partitions of this process.
    pub in_flight_bytes: u64,
    /// Between two looks for new partitions and topics.
    pub discover_every: Duration,
    /// Partitions to leave alone.
    pub exclude: Vec<(String, u32)>,
    /// The consumer group under which positions are reported for lag tools; nobody joins it.
    pub group: String,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("options", &shown(&self.options))
            .field("start", &self.start)
            .field("until_end", &self.until_end)
            .field("in_flight_bytes", &self.in_flight_bytes)
            .field("discover_every", &self.discover_every)
            .field("exclude", &self.exclude)
            .field("group", &self.group)
            .finish()
    }
}

/// Options as they may be shown: of a secret not even where it is.
pub(crate) fn shown(options: &[(String, String)]) -> Vec<(&str, &str)> {
    options.iter().map(|(name, value)| (name.as_str(), if is_secret(name) { "(secret)" } else { value })).collect()
}

/// Where a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// After the last.
    Latest,
    /// At the first record whose timestamp is not before this one, milliseconds.
    Timestamp(u64),
    /// Where the consumer group was reported to be; a partition without a report at its first record.
    Stored,
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            "stored" => Ok(Start::Stored),
            instant => {
                let millis = instant.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
                let millis = millis.and_then(|millis| u64::try_from(millis).ok());
                let wrong = "is none of earliest, latest, stored, nor an instant such as 2026-11-20T00:00:00Z";
                millis.map(Start::Timestamp).ok_or_else(|| wrong.to_owned())
            }
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::Stored => f.write_str("stored"),
            Start::Timestamp(millis) => {
                let instant = i64::try_from(*millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
                instant.map_or(Err(fmt::Error), |instant| write!(f, "{instant}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_and_written() {
        for text in ["earliest", "latest", "stored", "2026-11-20T00:00:00Z"] {
            assert_eq!(text.parse::<Start>().unwrap().to_string(), text);
        }
        assert_eq!("2026-11-20T09:00:00+09:00".parse(), Ok(Start::Timestamp(1_795_132_800_000)));
        for text in ["", "newest", "2026-11-20", "1969-01-01T00:00:00Z"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = KafkaSettings {
            brokers: "b:1".to_owned(),
            options: vec![option("sasl.username", "mall"), option("sasl.password", "hunter2")],
            start: Start::Earliest,
            until_end: false,
            in_flight_bytes: 1,
            discover_every: Duration::from_secs(1),
            exclude: Vec::new(),
            group: "g".to_owned(),
        };
        let debug = format!("{settings:?}");
        assert!(debug.contains("mall") && debug.contains("(secret)") && !debug.contains("hunter2"), "{debug}");
    }
}
