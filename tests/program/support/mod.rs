//! What several tests use: writing datasets, running them, and looking at every as-of.

pub(crate) mod avro;
pub(crate) mod binary;
pub(crate) mod browser;
pub(crate) mod chance;
pub(crate) mod connect;
pub(crate) mod databases;
pub(crate) mod dialects;
pub(crate) mod exact;
pub(crate) mod exported;
pub(crate) mod fuzz;
pub(crate) mod histories;
pub(crate) mod kept;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod malls;
pub(crate) mod memory;
pub(crate) mod recorder;
pub(crate) mod redis;
pub(crate) mod running;
pub(crate) mod s3;
pub(crate) mod services;
pub(crate) mod shop;
pub(crate) mod watch;
pub(crate) mod workload;
