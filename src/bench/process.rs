//! What a process has used, as Linux tells in `/proc/self`; zeros where there is no such thing.
//!
//! Absent on purpose: `getrusage`, which would need `unsafe` or another dependency to say the same in 10 ms steps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Ticks of `/proc/self/stat` per second: `USER_HZ`, part of the kernel's interface and 100 on every architecture Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of all threads so far, user and system, in seconds.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name in brackets, which may hold anything; utime and stime are the 14th and 15th.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// A line of `/proc/self/status` that is in kB, in bytes.
fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// Most memory the process ever held, mapped files included.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM")
}

/// Runs `work` and returns with it the most anonymous memory seen meanwhile. The kernel keeps no peak of it, so a thread looks
/// every 10 ms.
pub fn with_peak_anonymous<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let look = || peak.fetch_max(status_bytes("RssAnon"), Ordering::Relaxed);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                look();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let result = work();
        look();
        done.store(true, Ordering::Relaxed);
        result
    });
    (result, peak.into_inner())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_are_seen() {
        let before = cpu_seconds();
        let (sum, peak) = with_peak_anonymous(|| {
            let mut words = vec![1u64; 4 << 20];
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(100) {
                words.iter_mut().for_each(|word| *word = std::hint::black_box(*word + 1));
            }
            words[0]
        });
        assert!(sum > 1);
        assert!(cpu_seconds() > before, "{before}");
        assert!(peak >= 32 << 20 && peak_rss_bytes() >= peak, "{peak}");
    }
}
