//! Lines of a dataset, of which some are kcat's envelopes.
#![no_main]

use storeflow_fuzz::{bounded, source::envelope::Envelopes};

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    let envelopes = Envelopes::default();
    bounded(line.len(), || {
        let _ = envelopes.open(line);
    });
});
