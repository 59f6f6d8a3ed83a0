//! Flags that say who may ask, and how often, shared by every command that serves the query API.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::Failure;
use crate::config::duration;
use crate::config::key_file::RATE_MAX;
use crate::serve::admission::AdmissionSettings;
use crate::serve::origins::Origin;

/// Milliseconds that a request may be given.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

/// Who may ask the query API.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Who may ask")]
pub struct AdmissionArgs {
    /// File of API keys, made by storeflow api-keys; without it, whoever reaches the address may ask
    #[arg(long, env = "STOREFLOW_API_KEYS", value_name = "FILE")]
    api_keys: Option<PathBuf>,

    /// Requests per second of each key whose entry says none [default: 100]; without keys, of each address [default: no limit]
    #[arg(long, env = "STOREFLOW_RATE", value_name = "N", value_parser = rate)]
    rate: Option<NonZeroU32>,

    /// Pages of this origin may ask, such as https://a.example; may be given several times, or several with commas
    #[arg(long, env = "STOREFLOW_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<Origin>,

    /// How long a request may take until its answer begins: 1s to 10m
    #[arg(long, env = "STOREFLOW_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    request_timeout: Duration,
}

impl AdmissionArgs {
    /// The settings.
    pub fn settings(&self) -> AdmissionSettings {
        AdmissionSettings {
            keys: self.api_keys.clone(),
            rate: self.rate,
            origins: self.cors_origin.clone(),
            request_timeout: self.request_timeout,
        }
    }

    /// Refuses to serve other machines without keys; `address` is where it is listened.
    ///
    /// # Errors
    /// If there are no keys, and the address is not of this machine only.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), Failure> {
        if self.api_keys.is_some() || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(anyhow!(
            "\"{address}\" is open to other machines, and there are no API keys; add --api-keys FILE (storeflow api-keys new makes one), \
             or listen on 127.0.0.1"
        )
        .into())
    }
}

/// Requests per second, as typed.
///
/// # Errors
/// What is wrong with it, to follow its name in a sentence.
pub(crate) fn rate(text: &str) -> Result<NonZeroU32, String> {
    let rate = text.parse().ok().filter(|rate: &NonZeroU32| rate.get() <= RATE_MAX);
    rate.ok_or_else(|| format!("is no number from 1 to {RATE_MAX}"))
}

/// How long a request may take, as typed.
///
/// # Errors
/// What is wrong with it, to follow its name in a sentence.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let millis = duration::read(text)?;
    if TIMEOUTS.contains(&millis) { Ok(Duration::from_millis(millis)) } else { Err("is out of range; from 1s to 10m".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        admission: AdmissionArgs,
    }

    fn typed(flags: &[&str]) -> Result<AdmissionArgs, clap::Error> {
        Typed::try_parse_from([&["storeflow"], flags].concat()).map(|typed| typed.admission)
    }

    #[test]
    fn flags() {
        let settings = typed(&["--cors-origin", "https://a.example,http://b.example:81", "--cors-origin", "https://c.example"]);
        assert_eq!(settings.expect("right").settings().origins.len(), 3);
        let settings = typed(&["--rate", "7", "--request-timeout", "1m30s"]).expect("right").settings();
        assert_eq!((settings.rate, settings.request_timeout), (NonZeroU32::new(7), Duration::from_secs(90)));
        for wrong in
            [["--rate", "0"], ["--rate", "-1"], ["--cors-origin", "*"], ["--request-timeout", "0s"], ["--request-timeout", "11m"]]
        {
            assert!(typed(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn other_machines_need_keys() {
        let address = |text: &str| text.parse().expect("an address");
        let (open, keyed) = (typed(&[]).expect("right"), typed(&["--api-keys", "f"]).expect("right"));
        for own in ["127.0.0.1:80", "127.8.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(open.check_address(address(own)).is_ok(), "{own}");
        }
        for others in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80"] {
            assert!(open.check_address(address(others)).is_err(), "{others}");
            assert!(keyed.check_address(address(others)).is_ok(), "{others}");
        }
    }
}
