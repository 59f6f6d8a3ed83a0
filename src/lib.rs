//! storeflow: exact sums and counts of every store, kept current from CDC and click topics.

pub mod cli;
pub mod config;
pub mod generate;
