//! The program from outside: one binary, so that it links once.

mod checkpoints;
mod decoding;
mod exactness;
mod faults;
mod going_on;
mod golden;
mod launch;
mod outside;
mod redis_view;
mod services;
mod store;
mod support;
mod tools;
