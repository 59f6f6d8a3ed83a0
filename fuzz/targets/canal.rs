//! Decoding of records of format "canal".
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storeflow_fuzz::decode(storeflow_fuzz::config::Format::Canal, data));
