//! Dice and tables: every decision of the generator.
//!
//! Upholds: a decision depends on the seed, the name of the stream and (for rows) the row's number alone, and is made with
//! integers, so the same seed gives the same bytes on every machine, however many partitions there are and whichever topics
//! are made. Absent on purpose: floating point, and any randomness from outside.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_pcg::Pcg32;

/// A stream of random numbers.
pub(super) struct Dice(Pcg32);

/// One seed's independent streams, one per thing that is decided.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Mall = 1,
    Traffic,
    Order,
    Payment,
    OrderItem,
    Product,
    Click,
    Connector,
}

impl Dice {
    /// The dice of one stream.
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        Dice::of(seed, stream, 0)
    }

    /// The dice of one row of a stream: its decisions do not depend on those of other rows.
    pub(super) fn of(seed: u64, stream: Stream, row: u64) -> Self {
        let stream = stream as u64;
        Dice(Pcg32::new(mix(mix(seed ^ (stream << 56)).wrapping_add(row)), stream))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`; 0 if the bound is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        if bound <= u64::from(u32::MAX) {
            (u64::from(self.0.next_u32()) * bound) >> 32
        } else {
            ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
        }
    }

    /// A number in `least..=most`.
    pub(super) fn between(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least + 1).max(1) as u64) as i64
    }

    /// True in `share` of the cases. Always one throw, so that other decisions do not move with the share.
    pub(super) fn hits(&mut self, share: Share) -> bool {
        self.below(u64::from(Share::ONE.0)) < u64::from(share.0)
    }

    /// One of `choices`.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// The choice whose weight, of the sum of all, was thrown.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let total: u64 = choices.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut thrown = self.below(total);
        for &(weight, choice) in choices {
            match thrown.checked_sub(u64::from(weight)) {
                Some(rest) => thrown = rest,
                None => return choice,
            }
        }
        choices[0].1
    }
}

/// Splitmix64's finaliser: neighbouring seeds give unrelated streams.
pub(super) fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Popularity: rank r is drawn with weight 1 / (r + 3), so a few are busy and most are quiet.
pub(super) struct Popularity {
    cumulative: Vec<u64>,
}

impl Popularity {
    /// Of `count` ranks.
    pub(super) fn new(count: u64) -> Self {
        let mut sum = 0;
        let weights = (0..count).map(|rank| (1 << 32) / (rank + 3));
        Popularity {
            cumulative: weights
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        }
    }

    /// A rank.
    pub(super) fn draw(&self, dice: &mut Dice) -> usize {
        let thrown = dice.below(self.cumulative.last().copied().unwrap_or(0));
        self.cumulative.partition_point(|&sum| sum <= thrown)
    }
}

/// A share of something, in millionths; written as a decimal number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// None of it.
    pub const ZERO: Share = Share(0);
    /// All of it.
    pub const ONE: Share = Share(1_000_000);

    /// So many millionths; more than a million is all.
    pub const fn millionths(millionths: u32) -> Share {
        if millionths > 1_000_000 { Share::ONE } else { Share(millionths) }
    }

    /// This share, divided by `parts`, rounded up so that a share of something stays one.
    pub(super) fn divided(self, parts: u32) -> Share {
        Share(self.0.div_ceil(parts.max(1)))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The text of a share was not one.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a share: a decimal number from 0 to 1 with up to six digits after the point, like 0.05")]
pub struct ShareError(String);

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError(text.to_owned());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if text == "." || text.is_empty() || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
        match whole.saturating_mul(1_000_000).saturating_add(fraction) {
            millionths @ 0..=1_000_000 => Ok(Share(millionths as u32)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_and_print() {
        for (text, millionths) in
            [("0", 0), ("1", 1_000_000), ("0.05", 50_000), (".5", 500_000), ("1.0", 1_000_000), ("0.000001", 1)]
        {
            assert_eq!(text.parse::<Share>().unwrap(), Share(millionths), "{text}");
        }
        for text in ["", ".", "-1", "1.1", "2", "5%", "0.0000001", "1e-2", "99999999999999999999"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!(Share(50_000).to_string(), "0.05");
        assert_eq!(Share::ONE.to_string(), "1");
        assert_eq!(Share::ZERO.to_string(), "0");
    }

    #[test]
    fn dice_are_fair_enough_and_repeatable() {
        let mut dice = Dice::new(7, Stream::Mall);
        let hits = (0..100_000).filter(|_| dice.hits(Share::millionths(100_000))).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
        assert_eq!(Dice::of(7, Stream::Click, 3).bits(), Dice::of(7, Stream::Click, 3).bits());
        assert_ne!(Dice::of(7, Stream::Click, 3).bits(), Dice::of(7, Stream::Click, 4).bits());
        assert_ne!(Dice::of(7, Stream::Click, 3).bits(), Dice::of(7, Stream::Payment, 3).bits());
    }

    #[test]
    fn the_popular_are_drawn_more() {
        let popularity = Popularity::new(100);
        let mut dice = Dice::new(1, Stream::Mall);
        let mut drawn = [0; 100];
        for _ in 0..20_000 {
            drawn[popularity.draw(&mut dice)] += 1;
        }
        assert!(drawn[0] > 10 * drawn[60] && drawn[99] > 0);
    }
}
