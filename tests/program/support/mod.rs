//! What several tests use: writing datasets, running them, and looking at every as-of.

pub(crate) mod binary;
pub(crate) mod histories;
pub(crate) mod recorder;
