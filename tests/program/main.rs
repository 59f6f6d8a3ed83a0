//! The program from outside: one binary, so that it links once.

mod exactness;
mod golden;
mod support;
