//! File descriptors: what a system gives a process is shared by clients and by all else that the process does.
//!
//! Upholds: connections never take the last ones, so that no client keeps a run in the same process from writing its files, or a server from
//! reaching Redis and its keys.
//! Absent on purpose: a count of those that are open. What a run needs comes and goes with its files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the rest of a process has for itself, or half of all if there are fewer than twice as many.
const OTHERS: u64 = 1_024;
/// What it has at least, however few there are: a small run with checkpoints had not enough of 32.
const OTHERS_LEAST: u64 = 128;

/// How many connections there may be of those that are wanted. Asks the system for more descriptors first, where it allows that: many
/// have 1024 to begin with, and several times as many for whoever asks.
pub(super) fn spared(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(OTHERS);
    let limit = getrlimit(Resource::Nofile);
    // Unlimited is written as none.
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_ok() {
        current = raised;
    }
    let spared = of(current, wanted);
    if spared < wanted {
        tracing::warn!(
            descriptors = current,
            connections_max = spared,
            wanted,
            "fewer connections than wanted: the rest of the process needs file descriptors; raise the limit (ulimit -n, LimitNOFILE)"
        );
    }
    spared
}

/// Of so many descriptors.
fn of(descriptors: u64, wanted: usize) -> usize {
    let others = OTHERS.min(descriptors / 2).max(OTHERS_LEAST);
    let spared = descriptors.saturating_sub(others).max(1);
    usize::try_from(spared).unwrap_or(usize::MAX).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_process_keeps_its_part() {
        for (descriptors, wanted, spared) in [
            (u64::MAX, 10_000, 10_000),
            (20_000, 10_000, 10_000),
            (4_096, 10_000, 3_072),
            (1_024, 10_000, 512),
            (256, 10_000, 128),
            (160, 10_000, 32),
            (64, 10_000, 1),
            (1, 10, 1),
        ] {
            assert_eq!(of(descriptors, wanted), spared, "{descriptors} {wanted}");
        }
    }
}
