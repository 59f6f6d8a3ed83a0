//! One partition being replayed: lines to decoded records with their place in the log.

use std::io;
use std::sync::Arc;

use storeflow_dataflows::change::Order;

use super::clock::{LogClock, START_RECORDS};
use super::dataset::{DatasetError, PartitionFile};
use super::envelope::Envelopes;
use super::lines::Lines;
use crate::config::{Job, KeySpace};
use crate::decode::{Decoded, Decoder, Message, Record, Reject, Skipped};
use crate::publish::dead_letters::DeadLetter;

/// A record with its place, or why it is none.
pub struct Placed {
    /// Stamp, partition and position.
    pub order: Order,
    /// Bytes it took in the file.
    pub bytes: usize,
    /// What it says.
    pub outcome: Result<(Decoded, usize), DeadLetter>,
}

/// A partition file being read.
pub struct Partition {
    index: u32,
    file: PartitionFile,
    topic: Arc<str>,
    input: Input,
    envelopes: Envelopes,
    decoders: Vec<Decoder>,
    clock: LogClock,
    records_per_hour: u64,
    read_any: bool,
    held: Option<Placed>,
}

/// Where a partition's records come from.
enum Input {
    Lines(Lines),
    /// Decoded before; see [`super::cache`].
    #[cfg(feature = "replay-cache")]
    Cached(Box<super::cache::Cached>),
}

/// The names under which keys are unique: a topic (and the one table a source takes of it), or a role for its shards. The
/// same number for the same name.
fn key_space(job: &Job, source: usize, topic: &str, topics: &[String]) -> u32 {
    let spec = &job.sources[source];
    let place = match spec.key_space {
        KeySpace::Topic => {
            let topic = topics.iter().position(|known| known == topic).unwrap_or_default();
            let table = if spec.table.is_some() { source + 1 } else { 0 };
            8 + topic * (job.sources.len() + 1) + table
        }
        KeySpace::Role => spec.role as usize,
    };
    u32::try_from(place).expect("topics times sources fit 32 bits")
}

impl Partition {
    /// Opens a partition, `index` in the job's list of partitions, whose topics are `topics`.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn open(job: &Job, file: &PartitionFile, index: u32, topics: &[String], chunk: usize) -> Result<Self, DatasetError> {
        let unreadable = |source: io::Error| DatasetError::Unreadable { path: file.path.clone(), source };
        let open = |clock: LogClock, records_per_hour: u64| -> io::Result<Partition> {
            let input = Input::Lines(Lines::open(file, chunk)?);
            Ok(Partition::new(job, file, index, topics, input, clock, records_per_hour))
        };
        let mut first = open(LogClock::default(), 0).map_err(unreadable)?;
        let mut timestamps = Vec::with_capacity(START_RECORDS);
        for _ in 0..START_RECORDS {
            let Some((timestamp, _)) = first.next_raw().map_err(unreadable)? else { break };
            timestamps.extend(timestamp);
        }
        timestamps.sort_unstable();
        let least = timestamps.first().copied();
        // Nine tenths of the first timestamps: a stray one says nothing about how dense they are.
        let dense = timestamps.len() * 9 / 10;
        let span = timestamps.get(dense).zip(least).map_or(0, |(most, least)| most - least);
        open(LogClock::starting_at(least), (dense as u64 * 3_600_000).checked_div(span).unwrap_or(0)).map_err(unreadable)
    }

    /// A partition of records decoded before: where its clock starts, the jumps it confirms, its records per hour.
    #[cfg(feature = "replay-cache")]
    pub(super) fn cached(
        job: &Job,
        file: &PartitionFile,
        index: u32,
        topics: &[String],
        cached: Box<super::cache::Cached>,
        (start, jumps, records_per_hour): (u64, u64, u64),
    ) -> Self {
        let clock = LogClock::replayed(start, jumps);
        Partition::new(job, file, index, topics, Input::Cached(cached), clock, records_per_hour)
    }

    fn new(
        job: &Job,
        file: &PartitionFile,
        index: u32,
        topics: &[String],
        input: Input,
        clock: LogClock,
        records_per_hour: u64,
    ) -> Self {
        let sources = job.sources.iter().enumerate().filter(|(_, source)| source.reads(&file.topic));
        let decoders = sources.map(|(at, source)| Decoder::new(job, source, key_space(job, at, &file.topic, topics)));
        Partition {
            index,
            file: file.clone(),
            topic: file.topic.as_str().into(),
            input,
            envelopes: Envelopes::default(),
            decoders: decoders.collect(),
            clock,
            records_per_hour,
            read_any: false,
            held: None,
        }
    }

    /// The first instant after all records read so far; 0 if there were none.
    pub fn end(&self) -> u64 {
        if self.read_any { self.clock.now() + 1 } else { 0 }
    }

    /// How many records an hour of log time holds, judged by the first hundred; 0 if they do not say.
    pub fn records_per_hour(&self) -> u64 {
        self.records_per_hour
    }

    /// The partition's log clock.
    pub fn clock(&self) -> &LogClock {
        &self.clock
    }

    /// The role of the decoder with this number; see [`Placed::outcome`].
    pub fn decoder(&self, at: usize) -> &Decoder {
        &self.decoders[at]
    }

    /// Where this partition comes from.
    pub fn file(&self) -> &PartitionFile {
        &self.file
    }

    /// Takes back a record whose time has not come; it is the next one again.
    pub fn hold(&mut self, placed: Placed) {
        debug_assert!(self.held.is_none());
        self.held = Some(placed);
    }

    /// The next record, or `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read further.
    pub fn next_record(&mut self) -> Result<Option<Placed>, DatasetError> {
        if let Some(placed) = self.held.take() {
            return Ok(Some(placed));
        }
        #[cfg(feature = "replay-cache")]
        if let Input::Cached(cached) = &mut self.input {
            let next = cached.next_record(self.index, &self.topic, self.file.partition);
            if let Some(placed) = &next {
                self.clock.show(placed.order.stamp);
                self.read_any = true;
            }
            return Ok(next);
        }
        let raw = self.next_raw();
        let next = raw.map_err(|source| DatasetError::Unreadable { path: self.file.path.clone(), source })?;
        Ok(next.map(|(timestamp, mut placed)| {
            placed.order.stamp = self.clock.stamp(timestamp);
            self.read_any = true;
            if let Err(letter) = &mut placed.outcome {
                letter.stamp = placed.order.stamp;
            }
            placed
        }))
    }

    /// The next record and its timestamp, before the clock has seen it.
    #[inline]
    fn next_raw(&mut self) -> io::Result<Option<(Option<u64>, Placed)>> {
        let lines = match &mut self.input {
            Input::Lines(lines) => lines,
            #[cfg(feature = "replay-cache")]
            Input::Cached(_) => return Ok(None),
        };
        let Some(line) = lines.next_line()? else { return Ok(None) };
        let mut order = Order { stamp: 0, partition: self.index, position: line.number };
        let opened =
            if line.utf8 || std::str::from_utf8(line.bytes).is_ok() { self.envelopes.open(line.bytes) } else { Ok(None) };
        let (timestamp, message) = match &opened {
            Ok(Some(record)) => {
                order.position = record.position;
                let message = Message { key: record.key.as_deref(), value: record.value.as_deref(), utf8: true };
                (record.timestamp, message)
            }
            _ => (None, Message { key: None, value: Some(line.bytes), utf8: line.utf8 }),
        };
        let decoded = match &opened {
            Err(reject) => Err(reject.clone()),
            _ => decode(&mut self.decoders, message),
        };
        let bytes = line.bytes.len() + 1;
        Ok(Some(match decoded {
            Ok((record, decoder)) => {
                let timestamp = timestamp.or(record.own_time);
                (timestamp, Placed { order, bytes, outcome: Ok((record.decoded, decoder)) })
            }
            Err(reject) => {
                let letter = DeadLetter {
                    topic: Arc::clone(&self.topic),
                    partition: self.file.partition,
                    offset: order.position,
                    timestamp: timestamp.and_then(|timestamp| i64::try_from(timestamp).ok()),
                    key: message.key.map(<[u8]>::to_vec),
                    value: message.value.map(<[u8]>::to_vec),
                    reason: reject.reason.code(),
                    error: reject.detail,
                    stamp: 0,
                };
                (timestamp, Placed { order, bytes, outcome: Err(letter) })
            }
        }))
    }
}

/// The first source that takes the record; sources that share a topic differ in their table.
fn decode(decoders: &mut [Decoder], message: Message<'_>) -> Result<(Record, usize), Reject> {
    let last = decoders.len() - 1;
    for (at, decoder) in decoders.iter_mut().enumerate() {
        match decoder.decode(message)? {
            Record { decoded: Decoded::Skipped(Skipped::OtherTable), .. } if at < last => {}
            record => return Ok((record, at)),
        }
    }
    unreachable!("a partition is opened only for topics that some source reads")
}
