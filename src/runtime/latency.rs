//! Time from read to visible, as a histogram.

use std::time::Duration;

/// Records by how long they took, in buckets of about 6 % (sixteen per doubling) of microseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    buckets: Vec<u64>,
}

const PER_DOUBLING: u64 = 16;

impl Default for Latencies {
    fn default() -> Self {
        Latencies { buckets: vec![0; 64 * PER_DOUBLING as usize] }
    }
}

fn bucket(micros: u64) -> usize {
    let value = micros + PER_DOUBLING;
    let doubling = u64::from(value.ilog2());
    ((doubling - 4) * PER_DOUBLING + (value >> (doubling - 4)) - PER_DOUBLING) as usize
}

/// The least number of microseconds of a bucket.
fn floor(bucket: usize) -> u64 {
    let (doubling, rest) = (bucket as u64 / PER_DOUBLING, bucket as u64 % PER_DOUBLING);
    ((PER_DOUBLING + rest) << doubling) - PER_DOUBLING
}

impl Latencies {
    /// Counts `records` that took so long.
    pub fn add(&mut self, took: Duration, records: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(1 << 60);
        self.buckets[bucket(micros)] += records;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Latencies) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
    }

    /// The time within which `percent` of the records were visible; `None` without records.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        let mut left = (total * percent).div_ceil(100).max(1);
        for (at, &records) in self.buckets.iter().enumerate() {
            if records >= left {
                return Some(Duration::from_micros(floor(at + 1)));
            }
            left -= records;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_ordered() {
        for micros in (0..100_000).chain([1 << 40, (1 << 40) + 1]) {
            let at = bucket(micros);
            assert!(floor(at) <= micros && micros < floor(at + 1), "{micros} in {at}");
        }
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50), None);
        (1..=1_000).for_each(|millis| latencies.add(Duration::from_millis(millis), 1));
        let p99 = latencies.percentile(99).expect("records").as_millis();
        assert!((990..1_060).contains(&p99), "{p99}");
    }
}
