//! One partition being read: lines of a file, what a connector brings, or dead letters once more, to decoded records with their place in the log.
//!
//! Upholds: (1) a clock starts at the least timestamp of the first records, whichever way they come; (2) a clock moves without
//! a record only to an instant before which the log itself says that nothing is missing; (3) a partition that has had no
//! record yet holds nobody back, and its first record takes no stamp before the log time its worker has reached; (4) a record whose schema
//! is not known yet is not passed by: it and all behind it come when the schema does.
//! Keeps: of a partition that goes on, the records its clock starts with; the one record that waits for its schema; if it is tracked, where
//! each tick begins that is in no checkpoint yet ([`Partition::resume_at`]).

mod again;
mod reading;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use storeflow_dataflows::change::Order;
use storeflow_dataflows::table::Table;

use self::again::Again;
use self::reading::{Newest, Unread, Unstamped, decode, needs, place};
use super::clock::{LogClock, START_RECORDS};
use super::dataset::{DatasetError, PartitionFile};
use super::envelope::{Envelopes, valid_timestamp};
use super::feed::{Feed, FeedError, Polled, Raw};
use super::key_space::key_space;
use super::lines::Lines;
use super::names::{PartitionNames, REPLAY};
use super::resume::{Marks, Resume};
use crate::config::{Job, Role, SourceSpec, StoreSpec};
use crate::decode::avro::Schemas;
use crate::decode::{Decoded, Decoder, Message};
use crate::observe::PartitionStats;
use crate::publish::dead_letters::DeadLetter;
use crate::publish::dead_letters::read::Letter;

/// A record with its place, or why it is none.
pub struct Placed {
    /// Stamp, partition and position.
    pub order: Order,
    /// Bytes it took in the file.
    pub bytes: usize,
    /// The line it was in, of a file.
    pub line: Option<u64>,
    /// Its message's own time is later than that of every record before it.
    pub fresh: bool,
    /// What it says.
    pub outcome: Result<(Decoded, usize), DeadLetter>,
}

/// What reading further brought.
#[allow(clippy::large_enum_variant, reason = "records are the rule, and never kept in this form")]
pub enum Next {
    /// A record.
    Record(Placed),
    /// Nothing now.
    Empty,
    /// Nothing, ever.
    End,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of a dataset.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A partition that goes on.
    #[error(transparent)]
    Feed(#[from] FeedError),
}

/// What moves the clock of a partition that has nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Records alone.
    Hold,
    /// Wall time, once the log has confirmed that nothing is missing before it.
    Wall,
    /// The heartbeats of the connector that writes the log, confirmed likewise.
    Heartbeat,
}

/// What the records of a source are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeds {
    /// Rows behind a table.
    Rows(Table),
    /// The same, of rows that find their store through a lookup.
    Referring(Table),
    /// Rows of a lookup.
    Lookup,
    /// Clicks; how long an event id is known, milliseconds, if they may be told twice.
    Clicks(Option<u64>),
}

impl Feeds {
    /// What a source is for.
    pub fn of(source: &SourceSpec) -> Feeds {
        let table = match source.role {
            Role::Payments => Table::StorePayments,
            Role::OrderItems => Table::StoreSales,
            Role::Products => Table::StoreProducts,
            Role::Clicks => return Feeds::Clicks(source.dedup.as_ref().map(|dedup| dedup.horizon)),
            Role::Lookup => return Feeds::Lookup,
        };
        match source.store {
            StoreSpec::Own(_) => Feeds::Rows(table),
            StoreSpec::Through { .. } => Feeds::Referring(table),
        }
    }
}

/// A partition being read.
pub struct Partition {
    index: u32,
    number: u32,
    topic: Arc<str>,
    input: Input,
    decoders: Vec<Decoder>,
    /// What each decoder's records are for.
    feeds: Vec<Feeds>,
    clock: LogClock,
    records_per_hour: u64,
    read_any: bool,
    /// The latest of the messages' own times.
    newest: Newest,
    /// Its file came when others had been read: the clock starts where they were.
    joined: bool,
    held: Option<Placed>,
    schemas: Arc<Schemas>,
    /// The next record, which cannot be decoded before its schema is known.
    unread: Option<Unread>,
    /// The place of the record handed out or held last.
    place: Resume,
    /// `None`: nobody asks where it would go on.
    marks: Option<Marks>,
    /// From this place on the clock is the one given here: an earlier run has stamped what is before it.
    post: Option<Resume>,
    stats: Arc<PartitionStats>,
}

/// What reading a file further brought, before the clock has seen it.
#[allow(clippy::large_enum_variant, reason = "records are the rule, and never kept in this form")]
enum Read {
    Record(Unstamped),
    /// The next record waits for this schema.
    Waits(u32),
    End,
}

/// The same, once it has its stamp.
#[allow(clippy::large_enum_variant, reason = "records are the rule, and never kept in this form")]
enum OfFile {
    Record(Placed),
    Waits(u32),
    End,
}

/// Where a partition's records come from.
#[allow(clippy::large_enum_variant, reason = "one per partition")]
enum Input {
    Lines(PartitionFile, Lines, Envelopes),
    /// Decoded before; see [`super::cache`].
    #[cfg(feature = "replay-cache")]
    Cached(PartitionFile, Box<super::cache::Cached>),
    Feed(Box<Going>),
    /// Dead letters that are read again.
    Again(Box<Again>),
}

/// A partition that goes on.
struct Going {
    feed: Box<dyn Feed>,
    quiet: Quiet,
    /// The clock has been close to wall time: it is not an old log being loaded.
    live: bool,
    /// The clock has not started: no record has come yet.
    waiting: bool,
    /// The log is known to hold records, so that a waiting partition holds log time where it was when it came.
    owes: bool,
    /// Records with their timestamps that the clock starts with, and whether the log ended behind them.
    first: VecDeque<(Option<u64>, Placed)>,
    ended: bool,
    /// The last poll brought nothing.
    dry: bool,
}

/// A clock this close to wall time, in milliseconds, is one of a log that is being written now.
const LIVE: u64 = 3_600_000;
/// What a quiet partition's clock stays behind wall time, in milliseconds: records on their way to the log have a timestamp
/// already.
const ON_THE_WAY: u64 = 1_000;

/// What decodes the records of a topic, and what these are for, by source.
fn readers(job: &Job, topic: &str, topic_index: usize, schemas: &Arc<Schemas>) -> (Vec<Decoder>, Vec<Feeds>) {
    let sources = job.sources.iter().filter(|source| source.reads(topic));
    let decoder = |source| Decoder::new(job, source, topic, key_space(source, topic_index)).with_schemas(schemas);
    sources.map(|source| (decoder(source), Feeds::of(source))).unzip()
}

impl Partition {
    /// Opens a partition, `index` in the job's list of partitions, whose topics are `topics`. Waits for the schemas of the records its
    /// clock starts with.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn open(
        job: &Job,
        file: &PartitionFile,
        index: u32,
        topics: &[String],
        chunk: usize,
        schemas: &Arc<Schemas>,
    ) -> Result<Self, DatasetError> {
        let unreadable = |source: io::Error| DatasetError::Unreadable { path: file.path.clone(), source };
        let open = |clock: LogClock, records_per_hour: u64| -> io::Result<Partition> {
            let input = Input::Lines(file.clone(), Lines::open(file, chunk)?, Envelopes::default());
            Ok(Partition::of_file(job, file, index, topics, input, clock, records_per_hour, schemas))
        };
        let mut first = open(LogClock::default(), 0).map_err(unreadable)?;
        let mut timestamps = Vec::with_capacity(START_RECORDS);
        let mut records = 0;
        while records < START_RECORDS {
            match first.next_line().map_err(unreadable)? {
                Read::Record((timestamp, _)) => {
                    timestamps.extend(timestamp);
                    records += 1;
                }
                Read::Waits(schema) => drop(schemas.wait_for(schema)),
                Read::End => break,
            }
        }
        let (least, per_hour) = density(timestamps);
        open(LogClock::starting_at(least), per_hour).map_err(unreadable)
    }

    /// A partition that goes on, `number` of `topic`, with the id it has in the job's [`PartitionNames`].
    pub fn going_on(
        job: &Job,
        topic: &str,
        number: u32,
        id: u32,
        feed: Box<dyn Feed>,
        quiet: Quiet,
        schemas: &Arc<Schemas>,
    ) -> Self {
        let first = VecDeque::new();
        let going = Going { feed, quiet, live: false, waiting: true, owes: false, first, ended: false, dry: false };
        let topic_index = PartitionNames::topic_of(id);
        let input = Input::Feed(Box::new(going));
        Partition::new(job, topic, number, id, topic_index, input, LogClock::default(), 0, schemas)
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
        let (clock, input) = (LogClock::replayed(start, jumps), Input::Cached(file.clone(), cached));
        Partition::of_file(job, file, index, topics, input, clock, records_per_hour, &Arc::default())
    }

    #[allow(clippy::too_many_arguments, reason = "built in one place, from what that place has at hand")]
    fn of_file(
        job: &Job,
        file: &PartitionFile,
        index: u32,
        topics: &[String],
        input: Input,
        clock: LogClock,
        records_per_hour: u64,
        schemas: &Arc<Schemas>,
    ) -> Self {
        let topic = topics.iter().position(|known| *known == file.topic).unwrap_or_default();
        Partition::new(job, &file.topic, file.partition, index, topic, input, clock, records_per_hour, schemas)
    }

    /// Dead letters of the topics that `names` knows, which are read again as the job reads these topics now: request `number`, with
    /// the id that partition `number` of [`REPLAY`] has.
    pub fn again(job: &Job, names: &PartitionNames, number: u32, id: u32, letters: Vec<Letter>, schemas: &Arc<Schemas>) -> Self {
        let (mut all, mut feeds) = (Vec::new(), Vec::new());
        let mut decoders = BTreeMap::new();
        for letter in &letters {
            let topic = &letter.place.topic;
            if let (false, Some(index)) = (decoders.contains_key(topic), names.number(topic)) {
                let first = all.len();
                let (decoders_of_topic, feeds_of_topic) = readers(job, topic, index, schemas);
                all.extend(decoders_of_topic);
                feeds.extend(feeds_of_topic);
                decoders.insert(topic.clone(), first..all.len());
            }
        }
        let again = Again { all: letters.len() as u64, letters: letters.into_iter(), decoders, since: 0 };
        let topic_index = PartitionNames::topic_of(id);
        let input = Input::Again(Box::new(again));
        let partition = Partition::new(job, REPLAY, number, id, topic_index, input, LogClock::default(), 0, schemas);
        Partition { decoders: all, feeds, joined: true, ..partition }
    }

    /// The stamp that the record handed out last had when it was read first, if it is a dead letter that is read again.
    #[inline]
    pub fn dead_since(&self) -> Option<u64> {
        match &self.input {
            Input::Again(again) => Some(again.since),
            _ => None,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "built in one place, from what that place has at hand")]
    fn new(
        job: &Job,
        topic: &str,
        number: u32,
        index: u32,
        topic_index: usize,
        input: Input,
        clock: LogClock,
        records_per_hour: u64,
        schemas: &Arc<Schemas>,
    ) -> Self {
        let (decoders, feeds) = readers(job, topic, topic_index, schemas);
        let stats = Arc::new(PartitionStats::new(topic, number));
        let topic = topic.into();
        Partition {
            index,
            number,
            topic,
            input,
            decoders,
            feeds,
            clock,
            records_per_hour,
            read_any: false,
            newest: Newest::default(),
            joined: false,
            held: None,
            schemas: Arc::clone(schemas),
            unread: None,
            place: Resume { position: 0, clock: None },
            marks: None,
            post: None,
            stats,
        }
    }

    /// Goes on where another run would have; of a log, the feed must begin there. Before the first record is read.
    ///
    /// # Errors
    /// If a file has fewer lines than were read of it.
    pub fn resume(&mut self, at: Resume) -> Result<(), DatasetError> {
        if let Input::Lines(file, lines, _) = &mut self.input {
            let unreadable = |source: io::Error| DatasetError::Unreadable { path: file.path.clone(), source };
            while lines.number() < at.position {
                if lines.next_line().map_err(unreadable)?.is_none() && lines.number() < at.position {
                    let (path, lines) = (file.path.clone(), lines.number());
                    return Err(DatasetError::Shorter { path, lines, wanted: at.position });
                }
            }
        }
        if let Input::Again(again) = &mut self.input {
            let read = at.position.saturating_sub(again.position());
            again.letters.by_ref().take(usize::try_from(read).unwrap_or(usize::MAX)).for_each(drop);
        }
        if let Some(clock) = at.clock {
            self.clock = clock;
            // An unread file has a clock only if it has joined.
            self.joined = at.position == 0;
            self.read_any = at.position > 0 || !matches!(self.input, Input::Lines(..));
            if let Input::Feed(going) = &mut self.input {
                going.waiting = false;
            }
        }
        Ok(())
    }

    /// Joins a run that has reached this log time: nothing of it is before. Before the first record is read.
    pub fn join(&mut self, reached: u64) {
        self.clock.pass(reached);
        self.joined = true;
    }

    /// What an earlier run has stamped up to a place is stamped no later than it was, and what is from there on as it was.
    pub fn post(&mut self, at: Resume) {
        if let Input::Again(_) = &self.input {
            // It had one stamp from its beginning on.
            self.clock = at.clock.unwrap_or(self.clock);
        }
        self.post = Some(at);
    }

    /// From now on [`Partition::resume_at`] is asked.
    pub fn track(&mut self) {
        self.marks.get_or_insert_default();
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

    /// Its index among all partitions.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What it tells of itself.
    pub fn stats(&self) -> &Arc<PartitionStats> {
        &self.stats
    }

    /// Whether it has had no record yet.
    pub fn waiting(&self) -> bool {
        matches!(&self.input, Input::Feed(going) if going.waiting)
    }

    /// Whether it holds log time: not while it has had no record, unless its log is known to have some.
    pub fn holds(&self) -> bool {
        !matches!(&self.input, Input::Feed(going) if going.waiting && !going.owes)
    }

    /// It came to a worker that has reached this log time, and its log has records, or not.
    pub fn arrive(&mut self, reached: u64, has_records: bool) {
        if let Input::Feed(going) = &mut self.input
            && going.waiting
        {
            going.owes = has_records;
            self.clock = LogClock::starting_at(Some(reached));
        }
        if let Input::Again(_) = &self.input {
            self.clock.pass(reached);
        }
    }

    /// What the records of the decoder with this number are for; see [`Placed::outcome`].
    #[inline]
    pub fn feeds(&self, decoder: usize) -> Feeds {
        self.feeds[decoder]
    }

    /// Takes back a record whose time has not come; it is the next one again.
    pub fn hold(&mut self, placed: Placed) {
        debug_assert!(self.held.is_none());
        self.held = Some(placed);
    }

    /// The next record of a file, or `None` at its end. Waits for its schema.
    ///
    /// # Errors
    /// If the file cannot be read further.
    pub fn next_record(&mut self) -> Result<Option<Placed>, DatasetError> {
        loop {
            match self.next_of_file()? {
                OfFile::Record(placed) => return Ok(Some(placed)),
                OfFile::Waits(schema) => drop(self.schemas.wait_for(schema)),
                OfFile::End => return Ok(None),
            }
        }
    }

    /// The next record of a file, or of what else is all there.
    fn next_of_file(&mut self) -> Result<OfFile, DatasetError> {
        if let Some(placed) = self.held.take() {
            return Ok(OfFile::Record(placed));
        }
        let read = match &mut self.input {
            Input::Lines(..) => self.next_line(),
            #[cfg(feature = "replay-cache")]
            Input::Cached(file, cached) => {
                let next = cached.next_record(self.index, &self.topic, file.partition);
                if let Some(placed) = &next {
                    self.clock.show(placed.order.stamp);
                    self.read_any = true;
                }
                return Ok(next.map_or(OfFile::End, OfFile::Record));
            }
            Input::Again(again) => {
                if let Some(schema) = again.needs(&mut self.decoders) {
                    self.schemas.want(schema, &self.topic, self.number);
                    return Ok(OfFile::Waits(schema));
                }
                let next = again.next(&mut self.decoders, self.index);
                return Ok(next.map_or(OfFile::End, |placed| OfFile::Record(self.stamped(None, placed))));
            }
            Input::Feed(_) => unreachable!("a partition that goes on is read by `next`"),
        };
        match read {
            Ok(Read::Record((timestamp, placed))) => Ok(OfFile::Record(self.stamped(timestamp, placed))),
            Ok(Read::Waits(schema)) => Ok(OfFile::Waits(schema)),
            Ok(Read::End) => Ok(OfFile::End),
            Err(source) => Err(match &self.input {
                Input::Lines(file, ..) => DatasetError::Unreadable { path: file.path.clone(), source },
                _ => unreachable!("only files fail with an I/O error"),
            }),
        }
    }

    /// The next record. `reached` is the log time this worker has reached: no first record is stamped before it.
    ///
    /// # Errors
    /// If the source cannot be read further.
    #[inline]
    pub fn next(&mut self, reached: u64) -> Result<Next, SourceError> {
        if !matches!(self.input, Input::Feed(_)) {
            return Ok(match self.next_of_file()? {
                OfFile::Record(placed) => Next::Record(placed),
                OfFile::Waits(_) => Next::Empty,
                OfFile::End => Next::End,
            });
        }
        if let Some(placed) = self.held.take() {
            return Ok(Next::Record(placed));
        }
        if self.waiting() && !self.start(reached, false)? {
            return Ok(Next::Empty);
        }
        if let Input::Feed(going) = &mut self.input
            && let Some((timestamp, placed)) = going.first.pop_front()
        {
            return Ok(Next::Record(self.stamped(timestamp, placed)));
        }
        match self.poll()? {
            (Polled::Record, Some((timestamp, placed))) => Ok(Next::Record(self.stamped(timestamp, placed))),
            (Polled::End, _) => Ok(Next::End),
            _ => Ok(Next::Empty),
        }
    }

    /// Starts the clock of a partition that goes on, if the records for it are there; they are if the log has no more now, or
    /// with `patient` only when it has said so. Returns whether the partition may be read.
    ///
    /// # Errors
    /// If the source cannot be read further.
    pub fn start(&mut self, reached: u64, patient: bool) -> Result<bool, SourceError> {
        loop {
            let Input::Feed(going) = &mut self.input else { return Ok(true) };
            if !going.waiting {
                return Ok(true);
            }
            if going.first.len() < START_RECORDS && !going.ended {
                match self.poll()? {
                    (Polled::Record, record) => {
                        if let Input::Feed(going) = &mut self.input {
                            going.first.extend(record);
                        }
                        continue;
                    }
                    (Polled::End, _) => {
                        if let Input::Feed(going) = &mut self.input {
                            going.ended = true;
                        }
                        continue;
                    }
                    (Polled::Empty, _) if self.unread.is_some() => {
                        // There is a record, and what it is stamped depends on its schema.
                        if let Input::Feed(going) = &mut self.input {
                            going.owes = true;
                        }
                        return Ok(false);
                    }
                    (Polled::Empty, _) => {
                        let Input::Feed(going) = &mut self.input else { return Ok(true) };
                        if patient && going.feed.complete_until().is_none() {
                            return Ok(false);
                        }
                        if going.first.is_empty() {
                            going.owes &= going.feed.complete_until().is_none();
                            return Ok(false);
                        }
                    }
                }
            }
            let Input::Feed(going) = &mut self.input else { return Ok(true) };
            going.waiting = false;
            let (least, per_hour) = density(going.first.iter().filter_map(|(timestamp, _)| *timestamp).collect());
            self.clock = LogClock::starting_at(least.map(|least| least.max(reached)).or(Some(reached)));
            self.records_per_hour = per_hour;
            return Ok(true);
        }
    }

    /// Whether the clock has started, or all that the log had has been read once and it was nothing.
    pub fn looked_through(&self) -> bool {
        match &self.input {
            Input::Feed(going) if going.waiting => {
                self.unread.is_none() && going.first.is_empty() && (going.ended || going.feed.complete_until().is_some())
            }
            _ => true,
        }
    }

    /// Lets the clock of a partition that has nothing new go on, as far as the log has confirmed.
    pub fn pass_time(&mut self, wall: u64) {
        let Input::Feed(going) = &mut self.input else { return };
        going.live |= !going.waiting && self.clock.now().saturating_add(LIVE) >= wall;
        // Records read for the clock to start with are still to come, though the log has nothing beyond them.
        if !going.dry || self.held.is_some() || self.unread.is_some() || !going.live || going.waiting || !going.first.is_empty() {
            return;
        }
        let confirmed = match going.quiet {
            Quiet::Hold => None,
            Quiet::Wall => going.feed.complete_until().map(|until| until.saturating_sub(ON_THE_WAY)),
            Quiet::Heartbeat => going.feed.heartbeat(),
        };
        if let Some(time) = confirmed {
            self.clock.pass(time);
        }
    }

    /// Notes that the record handed out last was taken into a tick; the first of each counts.
    pub fn mark(&mut self, tick: u64) {
        if let Some(marks) = &mut self.marks {
            marks.mark(tick, self.place);
        }
    }

    /// Where the first record is that is not before `as_of`, of a partition that is tracked; as-ofs asked for must ascend.
    pub fn resume_at(&mut self, as_of: u64) -> Resume {
        if let Some(place) = self.marks.as_mut().and_then(|marks| marks.at(as_of)) {
            return place;
        }
        if self.held.is_some() {
            return self.place;
        }
        let clock = (!self.waiting()).then_some(self.clock);
        let unread = self.unread.as_ref().map(|unread| unread.line.unwrap_or(unread.position));
        let position = match &self.input {
            Input::Lines(_, lines, _) => unread.unwrap_or_else(|| lines.number()),
            #[cfg(feature = "replay-cache")]
            Input::Cached(..) => unreachable!("a cache is for benchmarks, and nobody goes on from there"),
            Input::Again(again) => again.position(),
            Input::Feed(going) => match going.first.front() {
                Some((_, placed)) => placed.order.position,
                None => unread.unwrap_or_else(|| going.feed.position()),
            },
        };
        Resume { position, clock: clock.filter(|_| self.read_any || self.joined || !matches!(self.input, Input::Lines(..))) }
    }

    fn stamped(&mut self, timestamp: Option<u64>, mut placed: Placed) -> Placed {
        self.place.position = placed.line.unwrap_or(placed.order.position);
        if let Some(post) = self.post.filter(|post| self.place.position >= post.position) {
            self.clock = post.clock.unwrap_or(self.clock);
            self.post = None;
        }
        self.place.clock = Some(self.clock);
        placed.order.stamp = self.clock.stamp(timestamp);
        self.read_any = true;
        if let Err(letter) = &mut placed.outcome {
            letter.stamp = placed.order.stamp;
        }
        placed
    }

    /// The next record of a feed, before the clock has seen it.
    #[inline]
    fn poll(&mut self) -> Result<(Polled, Option<Unstamped>), SourceError> {
        if self.unread.is_some() {
            let taken = self.read_again();
            return Ok((if taken.is_some() { Polled::Record } else { Polled::Empty }, taken));
        }
        let Input::Feed(going) = &mut self.input else { return Ok((Polled::End, None)) };
        let (decoders, topic, index, number) = (&mut self.decoders, &self.topic, self.index, self.number);
        let newest = &mut self.newest;
        let (mut taken, mut unread) = (None, None);
        let polled = going.feed.poll(&mut |raw| {
            let Raw { position, timestamp, key, value, headers } = raw;
            let timestamp = timestamp.and_then(|timestamp| valid_timestamp(timestamp.into()));
            let order = Order { stamp: 0, partition: index, position, part: 0 };
            let message = Message { key, value, utf8: false };
            let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
            match needs(decoders, message) {
                None => {
                    let decoded = decode(decoders, message);
                    taken = Some(place(decoded, message, headers, timestamp, order, bytes, topic, number, newest));
                }
                // What the log lends is gone with the next poll.
                Some(schema) => unread = Some(Unread::of(schema, message, headers, timestamp, position, bytes, None)),
            }
        })?;
        going.dry = polled == Polled::Empty;
        match unread {
            None => Ok((polled, taken)),
            Some(unread) => {
                self.wait(unread);
                Ok((Polled::Empty, None))
            }
        }
    }

    /// Keeps a record until its schema is known.
    #[cold]
    fn wait(&mut self, unread: Unread) {
        let (topic, partition, position, schema) = (&self.topic, self.number, unread.position, unread.schema);
        tracing::debug!(%topic, partition, position, schema, "waiting for a schema");
        self.schemas.want(schema, topic, partition);
        self.unread = Some(unread);
    }

    /// The record that has waited, if its schemas are known now.
    #[cold]
    fn read_again(&mut self) -> Option<Unstamped> {
        let unread = self.unread.take()?;
        let message = Message { key: unread.key.as_deref(), value: unread.value.as_deref(), utf8: false };
        match needs(&mut self.decoders, message) {
            Some(schema) => {
                // It may be another one (key and value have one each), or the answer may have been too old when it was looked at.
                self.schemas.want(schema, &self.topic, self.number);
                self.unread = Some(Unread { schema, ..unread });
                None
            }
            None => {
                let Unread { position, timestamp, ref headers, bytes, line, .. } = unread;
                let newest = &mut self.newest;
                let order = Order { stamp: 0, partition: self.index, position, part: 0 };
                let decoded = decode(&mut self.decoders, message);
                let (topic, number) = (&self.topic, self.number);
                let (timestamp, placed) = place(decoded, message, Some(headers), timestamp, order, bytes, topic, number, newest);
                Some((timestamp, Placed { line, ..placed }))
            }
        }
    }

    /// The next line of a file, before the clock has seen it.
    #[inline]
    fn next_line(&mut self) -> io::Result<Read> {
        if self.unread.is_some() {
            let taken = self.read_again();
            return Ok(match (taken, &self.unread) {
                (Some(taken), _) => Read::Record(taken),
                (None, Some(unread)) => Read::Waits(unread.schema),
                (None, None) => unreachable!("what is not read is kept"),
            });
        }
        let Input::Lines(_, lines, envelopes) = &mut self.input else { return Ok(Read::End) };
        let Some(line) = lines.next_line()? else { return Ok(Read::End) };
        let mut order = Order { stamp: 0, partition: self.index, position: line.number, part: 0 };
        let opened = if line.utf8 || std::str::from_utf8(line.bytes).is_ok() { envelopes.open(line.bytes) } else { Ok(None) };
        let (timestamp, message) = match &opened {
            Ok(Some(record)) => {
                order.position = record.position;
                let message = Message { key: record.key.as_deref(), value: record.value.as_deref(), utf8: record.utf8 };
                (record.timestamp, message)
            }
            _ => (None, Message { key: None, value: Some(line.bytes), utf8: line.utf8 }),
        };
        let (bytes, number) = (line.bytes.len() + 1, Some(line.number));
        let decoded = match &opened {
            Err(reject) => Err(reject.clone()),
            _ => match needs(&mut self.decoders, message) {
                None => decode(&mut self.decoders, message),
                Some(schema) => {
                    let unread = Unread::of(schema, message, None, timestamp, order.position, bytes, number);
                    self.wait(unread);
                    return Ok(Read::Waits(schema));
                }
            },
        };
        let newest = &mut self.newest;
        let (timestamp, placed) = place(decoded, message, None, timestamp, order, bytes, &self.topic, self.number, newest);
        Ok(Read::Record((timestamp, Placed { line: number, ..placed })))
    }
}

/// The least of the first timestamps, and how many records an hour holds by them.
fn density(mut timestamps: Vec<u64>) -> (Option<u64>, u64) {
    timestamps.sort_unstable();
    let least = timestamps.first().copied();
    // Nine tenths of the first timestamps: a stray one says nothing about how dense they are.
    let dense = timestamps.len() * 9 / 10;
    let span = timestamps.get(dense).zip(least).map_or(0, |(most, least)| most - least);
    (least, (dense as u64 * 3_600_000).checked_div(span).unwrap_or(0))
}
