//! What all fuzz targets share: job configurations, the shape of an input, and the bound on memory.
//!
//! ```text
//! input: one byte ──► which configuration; then key, line feed, value (text), or length of the key, key, value (Avro)
//! ```
//!
//! Upholds: a decoder (1) does not panic, (2) allocates within one record at most [`FACTOR`] times its bytes and [`SPARE`] more, whatever
//! lengths and depths the record claims, (3) says the same of a record a second time, when it has seen it.
//! The program's own modules are mounted here instead of the program being a dependency: decoding is pure, and what makes the program
//! large (a Kafka client, object stores) is not. Should decoding come to need more, this no longer builds, which is as it should be.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "modules of the program, of which a part is used here")]

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/decode/mod.rs"]
pub mod decode;
mod input;
mod jobs;
mod observe;
mod schemas;
pub mod source;

use std::alloc::System;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use self::config::{Format, Job};
use self::decode::avro::{Known, Schema, Schemas};
use self::decode::{Decoder, Message};
use self::input::Input;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that may be allocated for each byte of a record: what is needed is copied a few times, and what is wrong is quoted.
pub const FACTOR: usize = 64;
/// Bytes that may be allocated whatever the record: scratch space of a new decoder.
pub const SPARE: usize = 1 << 20;

/// The topic of all records, of which `site` is captured.
const TOPIC: &str = "seoul.rows";

/// Runs `work`, which is given so many bytes, and panics if it allocates out of proportion.
pub fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let region = Region::new(COUNTED);
    let result = work();
    let change = region.change();
    let grown = usize::try_from(change.bytes_reallocated).unwrap_or(0);
    let allocated = change.bytes_allocated + grown;
    assert!(allocated <= bytes * FACTOR + SPARE, "{allocated} bytes allocated for {bytes}");
    result
}

/// Decodes an input as a record of a format.
pub fn decode(format: Format, input: &[u8]) {
    let Some(Input { job, key, value }) = Input::split(format, input) else { return };
    thread_local! {
        static SCHEMAS: Arc<Schemas> = schemas::all();
    }
    let message = Message { key, value: Some(value), utf8: false };
    with_job(format, job, |job| SCHEMAS.with(|schemas| decode_twice(job, schemas, message)));
}

/// Decodes a datum by a schema that comes with it, as what any job for Avro reads.
pub fn decode_by_schema(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let Ok(text) = std::str::from_utf8(&input[..end]) else { return };
    let schemas = Arc::new(Schemas::default());
    let known = match bounded(input.len(), || Schema::parse(text, &[])) {
        Ok(schema) => Known::Schema(Arc::new(schema)),
        Err(error) => Known::Refused(error.to_string().into()),
    };
    schemas.add(1, known);
    let value = [&[0, 0, 0, 0, 1], input.get(end + 1..).unwrap_or_default()].concat();
    let message = Message { key: None, value: Some(&value), utf8: false };
    for job in 0..JOBS_BY_SCHEMA {
        with_job(Format::Avro, job, |job| decode_twice(job, &schemas, message));
    }
}

/// Jobs that a datum with its own schema is read by: one of each role, and both kinds of clicks.
const JOBS_BY_SCHEMA: usize = 8;

fn decode_twice(job: &Job, schemas: &Arc<Schemas>, message: Message<'_>) {
    let bytes = message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len);
    let mut decoder = Decoder::new(job, &job.sources[0], TOPIC, 8).with_schemas(schemas);
    let first = bounded(bytes, || decoder.decode(message));
    let again = bounded(bytes, || decoder.decode(message));
    assert_eq!(first, again, "a record means the same whatever came before");
}

/// Hands over the job that a number chooses; jobs are read once.
fn with_job(format: Format, which: usize, work: impl FnOnce(&Job)) {
    thread_local! {
        static JOBS: RefCell<HashMap<Format, Vec<Job>>> = RefCell::default();
    }
    JOBS.with_borrow_mut(|known| {
        let jobs = known.entry(format).or_insert_with(|| jobs::of(format));
        work(&jobs[which % jobs.len()]);
    });
}
