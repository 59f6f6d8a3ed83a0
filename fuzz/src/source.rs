//! Of the program's sources what is pure.

#[path = "../../src/source/envelope.rs"]
pub mod envelope;
