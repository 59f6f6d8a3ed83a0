//! storeflow: exact sums and counts of every store, kept current from CDC and click topics.

pub mod bench;
pub mod cli;
pub mod config;
pub mod decode;
pub mod generate;
pub mod observe;
pub mod publish;
pub mod runtime;
pub mod serve;
pub mod source;
pub mod store;
pub mod verify;
