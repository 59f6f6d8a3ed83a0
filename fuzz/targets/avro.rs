//! Decoding of records of format "avro" by schemas that are known.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storeflow_fuzz::decode(storeflow_fuzz::config::Format::Avro, data));
