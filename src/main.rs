//! The storeflow program.
fn main() {}
