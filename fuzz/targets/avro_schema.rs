//! A schema that a registry might serve, and a datum of it: the schema's text, a byte 0, the datum.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storeflow_fuzz::decode_by_schema(data));
