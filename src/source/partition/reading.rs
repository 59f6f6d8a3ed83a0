//! One record read: by the first source that takes it, with its place in the log; or kept until its schema is known.
//!
//! Upholds: what a record is, and why it is none, does not depend on where it came from.

use std::sync::Arc;

use storeflow_dataflows::change::Order;

use super::Placed;
use crate::decode::{Decoded, Decoder, Message, Record, Reject, Skipped};
use crate::publish::dead_letters::{DeadLetter, Header};
use crate::source::feed::Headers;

/// A record before the clock has seen it, with its timestamp.
pub(super) type Unstamped = (Option<u64>, Placed);

/// A record that waits for its schema, with what is known of it.
pub(super) struct Unread {
    pub(super) schema: u32,
    pub(super) position: u64,
    pub(super) timestamp: Option<u64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Kept,
    pub(super) bytes: usize,
    pub(super) line: Option<u64>,
}

/// Headers of a record whose log has gone on.
pub(super) struct Kept(Vec<Header>);

impl Headers for Kept {
    fn headers(&self) -> Vec<Header> {
        self.0.clone()
    }
}

impl Unread {
    /// Of a record that the log lends.
    pub(super) fn of(
        schema: u32,
        message: Message<'_>,
        headers: Option<&dyn Headers>,
        timestamp: Option<u64>,
        position: u64,
        bytes: usize,
        line: Option<u64>,
    ) -> Self {
        let (key, value) = (message.key.map(<[u8]>::to_vec), message.value.map(<[u8]>::to_vec));
        let headers = Kept(headers.map(Headers::headers).unwrap_or_default());
        Unread { schema, position, timestamp, key, value, headers, bytes, line }
    }
}

/// The latest own time of the messages of a partition, milliseconds; of none before the first.
#[derive(Default)]
pub(super) struct Newest(Option<u64>);

impl Newest {
    /// Takes the own time of the next message; whether it is later than all before.
    #[inline]
    pub(super) fn take(&mut self, own_time: Option<u64>) -> bool {
        let later = own_time > self.0;
        if later {
            self.0 = own_time;
        }
        later
    }
}

/// A record with its place and its timestamp.
#[inline]
#[allow(clippy::too_many_arguments, reason = "called in two places, with what they have at hand")]
pub(super) fn place(
    decoded: Result<(Record, usize), Reject>,
    message: Message<'_>,
    headers: Option<&dyn Headers>,
    timestamp: Option<u64>,
    order: Order,
    bytes: usize,
    topic: &Arc<str>,
    partition: u32,
    newest: &mut Newest,
) -> (Option<u64>, Placed) {
    match decoded {
        Ok((record, decoder)) => {
            let fresh = newest.take(record.own_time);
            let outcome = Ok((record.decoded, decoder));
            (timestamp.or(record.own_time), Placed { order, bytes, line: None, fresh, outcome })
        }
        Err(reject) => {
            let letter = DeadLetter {
                topic: Arc::clone(topic),
                partition,
                offset: order.position,
                timestamp: timestamp.and_then(|timestamp| i64::try_from(timestamp).ok()),
                key: message.key.map(<[u8]>::to_vec),
                value: message.value.map(<[u8]>::to_vec),
                headers: headers.map(Headers::headers).unwrap_or_default(),
                reason: reject.reason.code(),
                error: reject.detail,
                stamp: 0,
                first_stamp: None,
                by: None,
            };
            (timestamp, Placed { order, bytes, line: None, fresh: false, outcome: Err(letter) })
        }
    }
}

/// A schema without which one of the sources cannot tell what the record says.
#[inline]
pub(super) fn needs(decoders: &mut [Decoder], message: Message<'_>) -> Option<u32> {
    decoders.iter_mut().find_map(|decoder| decoder.needs(message))
}

/// The first source that takes the record; sources that share a topic differ in their table.
pub(super) fn decode(decoders: &mut [Decoder], message: Message<'_>) -> Result<(Record, usize), Reject> {
    let last = decoders.len() - 1;
    for (at, decoder) in decoders.iter_mut().enumerate() {
        match decoder.decode(message)? {
            Record { decoded: Decoded::Skipped(Skipped::OtherTable), .. } if at < last => {}
            record => return Ok((record, at)),
        }
    }
    unreachable!("a partition is opened only for topics that some source reads")
}
