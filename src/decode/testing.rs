//! What tests of decoders share.

use super::{Decoder, Message, Record, Reject};
use crate::config::{Job, SourceSpec};
use crate::publish::testing;

/// A job of one source.
pub(super) fn job_of(spec: SourceSpec) -> Job {
    Job { sources: vec![spec], ..testing::job("test") }
}

/// What a source's decoder makes of one message, in topic "t" and key space 8.
pub(super) fn decode(spec: &SourceSpec, key: Option<&str>, value: Option<&str>) -> Result<Record, Reject> {
    let mut decoder = Decoder::new(&job_of(spec.clone()), spec, "t", 8);
    decoder.decode(Message { key: key.map(str::as_bytes), value: value.map(str::as_bytes), utf8: false })
}
