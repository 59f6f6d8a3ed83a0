//! What the fuzz targets are made of: the shape of an input, and the jobs it is decoded by.

use storeflow::{config, decode};

#[path = "../../../fuzz/src/input.rs"]
pub(crate) mod input;
#[path = "../../../fuzz/src/jobs.rs"]
pub(crate) mod jobs;
#[path = "../../../fuzz/src/schemas.rs"]
pub(crate) mod schemas;
