//! What each process says of itself, for readers that are elsewhere: one field per process, about every two seconds and once at the end.
//!
//! Upholds: it is written by the writer's own thread between other work, so no worker waits for it, and is under no guard: whoever writes it writes only
//! its own field. If it cannot be written, Redis is away.
//! Keeps: a time to live, so that what is said goes with the view.

use std::time::{Duration, Instant};

use super::error::RedisError;
use super::keys::Keys;
use super::link::{Link, Wire, pairs};
use super::steps::{AFTERLIFE, Style};
use crate::observe::status::ProcessStatus;

/// Between two reports.
const EVERY: Duration = Duration::from_secs(2);

/// Gives what a process says of itself now. It must not wait.
pub(super) type Ask = Box<dyn Fn() -> ProcessStatus + Send>;

/// The reports of this process.
pub(super) struct Status {
    ask: Option<Ask>,
    next: Instant,
    /// Whether processes of a run that had more of them have been looked for.
    tidy: bool,
    ended: bool,
}

impl Status {
    /// Without `ask`, nothing is ever reported.
    pub(super) fn new(ask: Option<Ask>, now: Instant) -> Status {
        Status { ask, next: now, tidy: false, ended: false }
    }

    /// Reports, if it is time; `ending`: all else is written, and this is the last time.
    pub(super) fn step(
        &mut self,
        link: &mut Link,
        keys: &Keys,
        style: &Style,
        now: Instant,
        ending: bool,
    ) -> Result<(), RedisError> {
        let Some(ask) = &self.ask else { return Ok(()) };
        if self.ended || !(ending || now >= self.next) {
            return Ok(());
        }
        let status = ProcessStatus { ended: ending, ..ask() };
        let key = keys.status();
        let mut wire = Wire::default();
        // Process 0 takes out those that are no more.
        if status.process == 0 && !self.tidy {
            for (field, _) in pairs(link.ask("read the status", &[b"HGETALL", key.as_bytes()])?) {
                let process = std::str::from_utf8(&field).ok().and_then(|field| field.parse::<usize>().ok());
                if process.is_none_or(|process| process >= status.processes) {
                    wire.command(&[b"HDEL", key.as_bytes(), &field]);
                }
            }
        }
        let json = serde_json::to_vec(&status).expect("plain data has a JSON form");
        let ttl = (style.horizons.retention + style.horizons.window + AFTERLIFE).to_string();
        wire.command(&[b"HSET", key.as_bytes(), status.process.to_string().as_bytes(), &json]);
        wire.command(&[b"PEXPIRE", key.as_bytes(), ttl.as_bytes()]);
        link.call("write the status", &wire)?;
        (self.next, self.tidy, self.ended) = (now + EVERY, true, ending);
        Ok(())
    }
}
