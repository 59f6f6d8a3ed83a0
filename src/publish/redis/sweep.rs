//! What is done to Redis in small steps between other work: keys of old generations go, times to live are kept ahead.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use storeflow_dataflows::key::Text;
use storeflow_dataflows::table::{Table, Window};

use super::error::RedisError;
use super::keys::{Keys, push_window};
use super::link::{Cursor, Link, Wire};
use super::steps::Style;
use crate::publish::view::MemoryView;

/// Removes the keys of generations before this one, once this one is current. By the leader only, as only its marker is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    scan: Option<(Cursor, bool)>,
    done: bool,
}

impl Sweep {
    /// Whether steps are left.
    pub(super) fn is_busy(&self) -> bool {
        self.scan.is_some()
    }

    /// Looks at one page of keys.
    pub(super) fn step(&mut self, link: &mut Link, keys: &Keys, generation: u64, current: bool) -> Result<(), RedisError> {
        if !current {
            *self = Sweep::default();
            return Ok(());
        }
        if self.done {
            return Ok(());
        }
        let (cursor, markers) = self.scan.get_or_insert_with(|| (Cursor::default(), false));
        let pattern = if *markers { keys.any_about() } else { keys.any_generation() };
        let mut found = Vec::new();
        link.scan(cursor, &pattern, &mut found)?;
        let mut wire = Wire::default();
        for key in found.iter().filter(|key| keys.generation_of(key).is_some_and(|of| of < generation)) {
            wire.command(&[b"UNLINK", key]);
        }
        let ended = cursor.at_end();
        link.call("remove an old generation", &wire)?;
        if ended && *markers {
            *self = Sweep { scan: None, done: true };
        } else if ended {
            self.scan = Some((Cursor::default(), true));
        }
        Ok(())
    }
}

/// Removes all keys of one generation, its marker first.
pub(super) fn remove(link: &mut Link, keys: &Keys) -> Result<(), RedisError> {
    for key in [keys.about(), keys.status()] {
        link.ask("remove a generation", &[b"UNLINK", key.as_bytes()])?;
    }
    let (mut cursor, mut found) = (Cursor::default(), Vec::new());
    while !cursor.at_end() {
        link.scan(&mut cursor, &keys.all(), &mut found)?;
        let mut wire = Wire::default();
        found.drain(..).for_each(|key| wire.command(&[b"UNLINK", &key]));
        link.call("remove a generation", &wire)?;
    }
    Ok(())
}

/// How often times to live are looked at.
const EVERY: Duration = Duration::from_secs(600);

/// A window's keys get a new time to live when the one they have ends so much before its retention does. Less than the least
/// time to live and the time between two looks, so that nothing is gone before its time.
const SLACK: Duration = Duration::from_secs(1_800);

/// Times to live are wall time, retention is log time, which may stand still: then keys are given more.
#[derive(Debug)]
pub(super) struct Refresh {
    /// When the first key of a window may go, since the thread began.
    deadlines: BTreeMap<Window, Duration>,
    due: Vec<(usize, Window)>,
    next: Instant,
    /// Workers of all processes.
    peers: usize,
}

impl Refresh {
    pub(super) fn new(now: Instant, peers: usize) -> Refresh {
        Refresh { deadlines: BTreeMap::new(), due: Vec::new(), next: now + EVERY, peers }
    }

    /// Whether steps are left.
    pub(super) fn is_busy(&self) -> bool {
        !self.due.is_empty()
    }

    /// A key of the window was given a time to live, at a time since the thread began.
    pub(super) fn gave(&mut self, window: Window, now: Duration, ttl_ms: u64) {
        let deadline = now + Duration::from_millis(ttl_ms);
        self.deadlines.entry(window).and_modify(|known| *known = deadline.min(*known)).or_insert(deadline);
    }

    /// Gives the keys of one worker and window more time, if any need it.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn step(
        &mut self,
        link: &mut Link,
        keys: &Keys,
        view: &MemoryView,
        workers: &[usize],
        as_of: u64,
        style: &Style,
        began: Instant,
        now: Instant,
    ) -> Result<(), RedisError> {
        let since = now.saturating_duration_since(began);
        if now >= self.next {
            self.next = now + EVERY;
            self.deadlines.retain(|window, _| !style.horizons.expired(*window, as_of));
            for window in due(&self.deadlines, since, as_of, style) {
                self.due.extend(workers.iter().map(|worker| (*worker, window)));
                self.deadlines.insert(window, since + Duration::from_millis(style.ttl(window, as_of)));
            }
        }
        let Some((worker, window)) = self.due.pop() else { return Ok(()) };
        let ttl = style.ttl(window, as_of).to_string();
        let mut stores: HashSet<(u64, Text)> = HashSet::new();
        let mut lists: HashSet<Vec<u8>> = HashSet::new();
        for table in Table::ALL.into_iter().filter(|table| table.windowed()) {
            view.look(worker, table, window, |cells| {
                for (key, _) in cells {
                    let (store, second) = key.cell_parts();
                    stores.insert((key.shard(), Text::new(store)));
                    lists.insert(keys.top(table, window, second));
                }
            });
        }
        let mut names: Vec<Vec<u8>> = lists.into_iter().collect();
        names.push(keys.totals(worker, self.peers, window).into_bytes());
        names.extend(stores.into_iter().map(|(bucket, store)| {
            let mut name = Vec::new();
            push_window(&mut name, &keys.bucket(bucket), window, store.as_bytes());
            name
        }));
        // The index of totals lives as long as the last of its windows.
        let newest = view.windows(worker).last().map_or(ttl.clone(), |newest| style.ttl(*newest, as_of).to_string());
        let index = keys.totals_index(worker, self.peers);
        link.ask("keep times to live ahead", &[b"PEXPIRE", index.as_bytes(), newest.as_bytes()])?;
        for names in names.chunks(1_000) {
            let mut wire = Wire::default();
            names.iter().for_each(|name| wire.command(&[b"PEXPIRE", name, ttl.as_bytes()]));
            link.call("keep times to live ahead", &wire)?;
        }
        Ok(())
    }
}

/// The windows whose keys may go before their retention ends.
fn due(deadlines: &BTreeMap<Window, Duration>, now: Duration, as_of: u64, style: &Style) -> Vec<Window> {
    let needs = |window| now + Duration::from_millis(style.ttl(window, as_of));
    deadlines.iter().filter(|(window, deadline)| needs(**window) > **deadline + SLACK).map(|(window, _)| *window).collect()
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::epoch::{Before, Horizons};

    use super::*;

    #[test]
    fn keys_get_more_time_when_log_time_stands_still() {
        let hour = 3_600_000;
        let horizons = Horizons { window: hour, grace: 0, retention: 48 * hour, replay_horizon: 0, before: Before::NOTHING };
        let style = Style { horizons, scale: 0, clicks_distinct: false };
        let mut refresh = Refresh::new(Instant::now(), 1);
        refresh.gave(0, Duration::ZERO, style.ttl(0, 0));
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        // Log time keeps pace with wall time, or runs ahead of it: nothing to do.
        assert!(due(&refresh.deadlines, hours(5), 5 * hour, &style).is_empty());
        assert!(due(&refresh.deadlines, hours(5), 20 * hour, &style).is_empty());
        assert_eq!(due(&refresh.deadlines, hours(5), 4 * hour, &style), [0]);
        // What stays after the retention is given once, not again and again at its end.
        assert!(due(&refresh.deadlines, hours(49), 49 * hour - 1, &style).is_empty());
    }
}
