//! How often somebody may ask: requests per second, of a key or of an address.
//!
//! Upholds: (1) who is refused is told when to come back, and is served then; (2) memory is bounded, whoever asks: a key's state is
//! the key's own, and of addresses at most [`ADDRESSES_MAX`] are told apart.
//! A rate's burst is a second's worth, or [`BURST_LEAST`], whichever is more: a page that opens asks several things at once.
//! Keeps: one number per key or address (the generic cell rate algorithm), no timers.
//! Absent on purpose: `X-Forwarded-For`. Anybody may write it; behind a load balancer, keys tell callers apart.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// The least burst.
pub const BURST_LEAST: NonZeroU32 = NonZeroU32::new(10).expect("not 0");

/// Addresses told apart at the same time, some 100 bytes each; what comes when there are more shares one state.
pub const ADDRESSES_MAX: usize = 1 << 16;

/// The limit of one key.
pub struct Limit<C: Clock = DefaultClock>(RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>);

impl Limit {
    /// So many requests per second.
    pub fn new(rate: NonZeroU32) -> Limit {
        Limit::with_clock(rate, DefaultClock::default())
    }
}

impl<C: Clock> Limit<C> {
    fn with_clock(rate: NonZeroU32, clock: C) -> Limit<C> {
        Limit(RateLimiter::direct_with_clock(quota(rate), clock))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// If it is one too many: how long to wait. It is not counted then.
    pub fn take(&self) -> Result<(), Duration> {
        self.0.check().map_err(|refused| refused.wait_time_from(self.0.clock().now()))
    }
}

/// The same limit for each address.
pub struct AddressLimit<C: Clock = DefaultClock> {
    limiter: RateLimiter<Caller, DashMapStateStore<Caller>, C, NoOpMiddleware<C::Instant>>,
    callers_max: usize,
    /// When old states were last looked for, which takes a look at all of them.
    swept: Mutex<C::Instant>,
}

/// How often that is worth it, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Address(IpAddr),
    /// All that there was no room for, and those without an address.
    Others,
}

impl AddressLimit {
    /// So many requests per second of each.
    pub fn new(rate: NonZeroU32) -> AddressLimit {
        AddressLimit::with_clock(rate, ADDRESSES_MAX, DefaultClock::default())
    }
}

impl<C: Clock> AddressLimit<C> {
    fn with_clock(rate: NonZeroU32, callers_max: usize, clock: C) -> AddressLimit<C> {
        let swept = Mutex::new(clock.now());
        AddressLimit { limiter: RateLimiter::new(quota(rate), DashMapStateStore::default(), clock), callers_max, swept }
    }

    /// Counts a request of an address, if it is known.
    ///
    /// # Errors
    /// If it is one too many: how long to wait. It is not counted then.
    pub fn take(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        if self.limiter.len() >= self.callers_max {
            self.sweep();
        }
        let caller = match address {
            Some(address) if self.limiter.len() < self.callers_max => Caller::Address(whole_site(address)),
            _ => Caller::Others,
        };
        self.limiter.check_key(&caller).map_err(|refused| refused.wait_time_from(self.limiter.clock().now()))
    }

    /// Forgets whoever has not asked for so long that he is as new.
    fn sweep(&self) {
        let now = self.limiter.clock().now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if Duration::from(now.duration_since(*swept)) >= SWEEP_EVERY {
            *swept = now;
            self.limiter.retain_recent();
        }
    }
}

fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(rate.max(BURST_LEAST))
}

/// Of IPv6 the first half: one customer has all of the second.
fn whole_site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(rate: u32) -> NonZeroU32 {
        NonZeroU32::new(rate).expect("not 0")
    }

    #[test]
    fn who_waits_as_told_is_served() {
        for (per_second, burst) in [(1, 10), (10, 10), (50, 50)] {
            let clock = FakeRelativeClock::default();
            let limit = Limit::with_clock(rate(per_second), clock.clone());
            let served = (0..1000).take_while(|_| limit.take().is_ok()).count();
            assert_eq!(served, burst, "{per_second} per second");
            let wait = limit.take().expect_err("too many");
            assert_eq!(wait, Duration::from_secs(1) / per_second);
            clock.advance(wait - Duration::from_nanos(1));
            assert!(limit.take().is_err());
            clock.advance(Duration::from_nanos(1));
            assert_eq!(limit.take(), Ok(()));
            assert!(limit.take().is_err());
        }
    }

    #[test]
    fn addresses_are_told_apart_by_site() {
        let limit = AddressLimit::with_clock(rate(1), 100, FakeRelativeClock::default());
        let from = |address: &str| limit.take(Some(address.parse().expect("an address")));
        while from("10.0.0.1").is_ok() {}
        assert!(from("::ffff:10.0.0.1").is_err());
        assert_eq!(from("10.0.0.2"), Ok(()));
        while from("2001:db8::1").is_ok() {}
        assert!(from("2001:db8::ffff:1").is_err());
        assert_eq!(from("2001:db8:0:1::1"), Ok(()));
    }

    #[test]
    fn a_crowd_shares_what_is_left_until_it_has_gone() {
        let clock = FakeRelativeClock::default();
        let limit = AddressLimit::with_clock(rate(1), 100, clock.clone());
        let from = |host: u32| limit.take(Some(IpAddr::V4(host.into())));
        let served = (0..10_000).filter(|host| from(*host).is_ok()).count();
        // A hundred of their own, and a burst for all others.
        assert_eq!(served, 110);
        assert!(limit.limiter.len() <= 101, "{}", limit.limiter.len());
        clock.advance(Duration::from_secs(60));
        assert_eq!(from(20_000), Ok(()));
        assert_eq!(limit.limiter.len(), 1);
        assert_eq!(limit.take(None), Ok(()));
    }
}
