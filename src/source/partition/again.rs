//! Dead letters read again: decoded as the job reads their topics now, with the place and the time they had.

use std::collections::BTreeMap;
use std::ops::Range;

use storeflow_dataflows::change::Order;

use super::Placed;
use super::reading::{decode, needs};
use crate::decode::{Decoder, Message, Reason, Reject};
use crate::publish::dead_letters::DeadLetter;
use crate::publish::dead_letters::read::{Letter, Place};

/// Dead letters that are read again: see [`crate::publish::replays`]. They have one stamp, which is the log time that the worker had
/// reached when they came to it, whatever their timestamps say; so a run that goes on in their middle stamps them as they were.
pub(super) struct Again {
    /// Those that were not read, of so many.
    pub(super) letters: std::vec::IntoIter<Letter>,
    pub(super) all: u64,
    /// The places of each topic's decoders among all.
    pub(super) decoders: BTreeMap<String, Range<usize>>,
    /// The stamp that the record of the letter handed out last had when it was read first.
    pub(super) since: u64,
}

impl Again {
    /// The place of the next letter.
    pub(super) fn position(&self) -> u64 {
        self.all - self.letters.len() as u64
    }

    /// A schema without which it cannot be told what the next letter says now.
    pub(super) fn needs(&self, all: &mut [Decoder]) -> Option<u32> {
        let letter = self.letters.as_slice().first()?;
        let message = Message { key: letter.key.as_deref(), value: letter.value.as_deref(), utf8: false };
        needs(&mut all[self.decoders.get(&letter.place.topic)?.clone()], message)
    }

    /// The next letter, before it has its stamp.
    pub(super) fn next(&mut self, all: &mut [Decoder], index: u32) -> Option<Placed> {
        let order = Order { stamp: 0, partition: index, position: self.position(), part: 0 };
        let letter = self.letters.next()?;
        let since = letter.read_first();
        let Letter { place: Place { topic, partition, offset, .. }, timestamp, key, value, headers, reason, .. } = letter;
        self.since = since;
        let bytes = key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len);
        let message = Message { key: key.as_deref(), value: value.as_deref(), utf8: false };
        let decoders = self.decoders.get(&topic).cloned().filter(|decoders| !decoders.is_empty());
        let decoded = match decoders {
            Some(range) => decode(&mut all[range.clone()], message).map(|(record, at)| (record.decoded, range.start + at)),
            None => {
                // Whoever changes a job so that it reads a topic no more is refused; this is not the place to lose a record all the same.
                let known = Reason::ALL.iter().find(|known| known.code() == reason);
                let reason = known.copied().unwrap_or(Reason::NotAnObject);
                Err(Reject::new(reason, format!("no source of the job reads topic \"{topic}\"")))
            }
        };
        let outcome = decoded.map_err(|Reject { reason, detail }| DeadLetter {
            topic: topic.into(),
            partition,
            offset,
            timestamp,
            key,
            value,
            headers,
            reason: reason.code(),
            error: detail,
            stamp: 0,
            first_stamp: Some(since),
            by: None,
        });
        Some(Placed { order, bytes, line: None, fresh: false, outcome })
    }
}
