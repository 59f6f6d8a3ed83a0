//! The program from outside: one binary, so that it links once.

mod alarms;
mod api;
mod api_access;
mod api_schema;
mod avro;
#[cfg(feature = "dashboard")]
mod browser;
mod chain;
mod checkpoints;
mod crash;
mod crash_cluster;
mod damage;
#[cfg(feature = "dashboard")]
mod dashboard_units;
mod dead_letters;
mod decode_command;
mod decoding;
mod dialects;
mod exactness;
mod faults;
mod formats;
mod fuzzing;
mod going_on;
mod golden;
mod job_changes;
#[cfg(feature = "lambda")]
mod lambda;
mod launch;
mod lookups;
mod otlp;
mod outages;
mod outside;
mod redis_serve;
mod redis_view;
mod services;
mod store;
mod support;
mod tools;
