//! The program from outside: one binary, so that it links once.

mod decoding;
mod exactness;
mod faults;
mod golden;
mod launch;
mod services;
mod support;
