//! Runs that differ by a seed, which is said, so that one that failed can be had again.
//!
//! `STOREFLOW_LONG=1` makes hundreds of runs out of some, `STOREFLOW_SEED=N` one: that with the seed N.

use std::ops::Range;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Seeds: so many usually, and so many in a long run.
pub(crate) fn seeds(usual: u64, long: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("STOREFLOW_SEED"), number("STOREFLOW_LONG")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(1)) => 0..long,
        (None, _) => 0..usual,
    }
}

/// What is decided by chance.
pub(crate) struct Chance(Pcg64Mcg);

impl Chance {
    /// By a seed, which is said.
    pub(crate) fn of(seed: u64) -> Chance {
        println!("seed {seed}");
        Chance(Pcg64Mcg::seed_from_u64(seed))
    }

    /// One of so many numbers, from 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A time of up to so many milliseconds.
    pub(crate) fn up_to_ms(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.0.random_range(0..end * 1_000))
    }
}
