//! A partition that goes on: what a connector keeps for the worker that reads it.
//!
//! Every feed promises that
//! * records come in the order of their positions, each once;
//! * [`Feed::poll`] never waits: what has not arrived is [`Polled::Empty`];
//! * [`Feed::complete_until`] says only what the log itself has confirmed.

use std::sync::Arc;

use crate::publish::dead_letters::Header;

/// What has a record's headers. They are asked for only if the record cannot be decoded, so that the others pay nothing for them.
pub trait Headers {
    /// All of them, in their order.
    fn headers(&self) -> Vec<Header>;
}

/// A record as the log has it.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// Its position.
    pub position: u64,
    /// Its timestamp, milliseconds; `None` if it has none.
    pub timestamp: Option<u64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// What has its headers; `None`: there are none.
    pub headers: Option<&'a dyn Headers>,
}

/// What a poll brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// A record; it was taken.
    Record,
    /// Nothing now.
    Empty,
    /// Nothing, ever.
    End,
}

/// Why a feed cannot go on; the job must stop.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not read topic \"{topic}\" partition {partition}")]
pub struct FeedError {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Why.
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

/// A partition that goes on.
pub trait Feed: Send {
    /// Takes the next record, if there is one.
    ///
    /// # Errors
    /// If the log cannot be read further, and waiting does not help.
    fn poll(&mut self, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, FeedError>;

    /// The position of the next record.
    fn position(&self) -> u64;

    /// The wall time, milliseconds, up to which nothing is missing: the log was asked then, and had nothing beyond what was
    /// polled. `None` before that was so once, and of feeds that know of no wall time.
    fn complete_until(&self) -> Option<u64>;

    /// The same, by the heartbeats of the connector that writes the log: the time of the last one before
    /// [`Feed::complete_until`].
    fn heartbeat(&self) -> Option<u64> {
        None
    }
}
