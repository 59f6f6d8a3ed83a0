//! Flags that say how to run, shared by every command that runs the dataflow.

use clap::Args;

use crate::config::duration;
use crate::runtime::workers::Tuning;
use crate::source::operator::Speed;

/// How to run. None of it changes a number.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tuning (changes speed and freshness, never a number)")]
pub(super) struct TuningArgs {
    /// Worker threads; one per core serves best
    #[arg(long, env = "STOREFLOW_WORKERS", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: u16,

    /// Rounding of log time; "auto" follows volume, from one second up to the window
    #[arg(long, env = "STOREFLOW_TICK", value_name = "DURATION", default_value = "auto", value_parser = parse_tick)]
    tick: Tick,

    /// Least log time between two as-ofs at which results are shown
    #[arg(long, env = "STOREFLOW_FRONTIER", value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    frontier: u64,

    /// Ticks that a partition may be ahead of the slowest one
    #[arg(long, env = "STOREFLOW_ALIGN", value_name = "TICKS", default_value_t = 4)]
    align: u32,

    /// Undecoded input held at most, over all partitions (at least 16 KiB each)
    #[arg(long, env = "STOREFLOW_IN_FLIGHT_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    in_flight_bytes: u64,

    /// Speed of log time: "max", or a factor of real time such as 1 or 60
    #[arg(long, env = "STOREFLOW_SPEED", value_name = "FACTOR", default_value = "max", value_parser = parse_speed)]
    speed: Speed,
}

#[derive(Debug, Clone, Copy)]
enum Tick {
    Auto,
    Fixed(u64),
}

fn parse_duration(text: &str) -> Result<u64, String> {
    match duration::read(text) {
        Ok(0) => Err("must be longer than nothing".to_owned()),
        Ok(millis) => Ok(millis),
        Err(what) => Err(what.to_owned()),
    }
}

fn parse_tick(text: &str) -> Result<Tick, String> {
    if text == "auto" { Ok(Tick::Auto) } else { parse_duration(text).map(Tick::Fixed) }
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let wrong = || "is neither \"max\" nor a factor between 0.001 and 1000000, such as 1 or 60".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 7 || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let permille = format!("{whole}{fraction:0<3}").parse::<u64>().map_err(|_| wrong())?;
    if (1..=1_000_000_000).contains(&permille) { Ok(Speed::Permille(permille)) } else { Err(wrong()) }
}

impl TuningArgs {
    /// As the runtime takes it.
    pub(super) fn resolve(&self) -> Tuning {
        Tuning {
            workers: usize::from(self.workers),
            tick: match self.tick {
                Tick::Auto => None,
                Tick::Fixed(millis) => Some(millis),
            },
            frontier: self.frontier,
            align: u64::from(self.align),
            in_flight_bytes: self.in_flight_bytes,
            speed: self.speed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        for (text, expected) in [
            ("max", Some(Speed::Max)),
            ("1", Some(Speed::Permille(1_000))),
            ("0.5", Some(Speed::Permille(500))),
            ("60.25", Some(Speed::Permille(60_250))),
            ("0", None),
            ("-1", None),
            ("fast", None),
            (".", None),
            ("99999999", None),
        ] {
            assert_eq!(parse_speed(text).ok(), expected, "{text}");
        }
    }
}
