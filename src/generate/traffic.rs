//! When things happen: the day curve of a mall.
//!
//! Keeps: one cumulative weight per minute of the dataset (at most a year's). Upholds: instants come in order, all before the
//! end, and the n-th of N depends on n, N and its own jitter only.

use super::random::Dice;

/// Weight of each hour of the day in Seoul: quiet at 4, busy at noon and from 20 to 23.
const HOURS: [u64; 24] = [60, 38, 22, 14, 10, 12, 20, 36, 55, 72, 88, 98, 104, 92, 84, 82, 84, 88, 96, 108, 122, 130, 118, 88];
const SEOUL_MS: i64 = 9 * HOUR_MS;
pub(super) const SECOND_MS: i64 = 1_000;
pub(super) const MINUTE_MS: i64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// The day curve over the hours of a dataset.
pub(super) struct Traffic {
    start_ms: i64,
    /// Weight of all minutes up to and including this one.
    cumulative: Vec<u64>,
}

impl Traffic {
    /// Of `hours` from `start_ms`.
    pub(super) fn new(start_ms: i64, hours: u32) -> Self {
        let mut sum = 0;
        let minutes = 0..i64::from(hours) * 60;
        let cumulative = minutes.map(|minute| {
            sum += weight(start_ms + minute * MINUTE_MS);
            sum
        });
        Traffic { start_ms, cumulative: cumulative.collect() }
    }

    /// The instant after the last.
    pub(super) fn end_ms(&self) -> i64 {
        self.start_ms + self.cumulative.len() as i64 * MINUTE_MS
    }

    /// `count` instants in order.
    pub(super) fn instants(&self, count: u64, dice: Dice) -> Instants<'_> {
        Instants { traffic: self, count, next: 0, minute: 0, dice }
    }
}

/// Weight of the minute of `at_ms`, on the line between its hour's and the next hour's.
fn weight(at_ms: i64) -> u64 {
    let of_day = (at_ms + SEOUL_MS).rem_euclid(DAY_MS);
    let (hour, minute) = ((of_day / HOUR_MS) as usize, (of_day % HOUR_MS / MINUTE_MS) as u64);
    // Enough units per minute that every millisecond can be hit.
    100 * (HOURS[hour] * (60 - minute) + HOURS[(hour + 1) % 24] * minute)
}

/// Iterator over instants, in milliseconds since 1970.
pub(super) struct Instants<'a> {
    traffic: &'a Traffic,
    count: u64,
    next: u64,
    minute: usize,
    dice: Dice,
}

impl Iterator for Instants<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        if self.next >= self.count {
            return None;
        }
        let cumulative = &self.traffic.cumulative;
        let total = cumulative.last().copied().unwrap_or(0);
        // The n-th falls somewhere in the n-th of `count` equal pieces of the weight: ordered, yet irregular.
        let within = u128::from(self.next) * u128::from(total) + u128::from(self.dice.below(total));
        let target = (within / u128::from(self.count)) as u64;
        while cumulative[self.minute] <= target {
            self.minute += 1;
        }
        let before = self.minute.checked_sub(1).map_or(0, |minute| cumulative[minute]);
        let within_ms = (target - before) * MINUTE_MS as u64 / (cumulative[self.minute] - before);
        self.next += 1;
        Some(self.traffic.start_ms + self.minute as i64 * MINUTE_MS + within_ms as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Stream;
    use super::*;

    #[test]
    fn instants_are_ordered_and_within() {
        let traffic = Traffic::new(1_763_596_800_000, 24);
        let instants: Vec<i64> = traffic.instants(10_000, Dice::new(3, Stream::Traffic)).collect();
        assert_eq!(instants.len(), 10_000);
        assert!(instants.is_sorted());
        assert!(instants[0] >= 1_763_596_800_000 && instants[9_999] < traffic.end_ms());
    }

    #[test]
    fn evenings_are_busier_than_nights() {
        let traffic = Traffic::new(0, 24);
        let at = |hour_in_seoul: i64| {
            let from = (hour_in_seoul * HOUR_MS - SEOUL_MS).rem_euclid(DAY_MS);
            let instants = traffic.instants(10_000, Dice::new(3, Stream::Traffic));
            instants.filter(|at| (from..from + HOUR_MS).contains(at)).count()
        };
        assert!(at(21) > 5 * at(4));
    }
}
