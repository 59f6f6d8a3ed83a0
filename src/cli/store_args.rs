//! Flags that say where results are, shared by every command that writes or reads them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::duration;
use crate::store::{Address, Store, StoreError, StoreOptions};

/// Where results are. Credentials, region and endpoint of S3 come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
/// `AWS_ENDPOINT_URL`, `AWS_PROFILE` …), never from flags, which everybody on the machine can see.
#[derive(Debug, Clone, Args)]
pub(super) struct StoreArgs {
    /// s3://bucket/prefix, file:///folder or a folder. Credentials, region and endpoint come from the environment or a
    /// profile, as for the AWS command line (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL …)
    #[arg(long, env = "STOREFLOW_STORE", value_name = "URL|DIR", conflicts_with = "data_dir", help_heading = HEADING)]
    store: Option<String>,

    #[command(flatten)]
    place: PlaceArgs,
}

/// The same for a command whose `--store` is the id of a store.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct PlaceArgs {
    /// A folder, or s3://bucket/prefix [default: storeflow-data]
    #[arg(long, env = "STOREFLOW_DATA_DIR", value_name = "DIR|URL")]
    data_dir: Option<String>,

    /// Whether the bucket is part of the URL's path, as other servers than AWS want it [default: true with an endpoint]
    #[arg(long, env = "STOREFLOW_STORE_PATH_STYLE", value_name = "BOOL")]
    store_path_style: Option<bool>,

    /// Allow an endpoint without TLS that is not this machine; also AWS_ALLOW_HTTP=true
    #[arg(long, env = "STOREFLOW_STORE_ALLOW_HTTP")]
    store_allow_http: bool,

    /// How long a request that S3 cannot serve for the moment is tried again before the run ends
    #[arg(long, env = "STOREFLOW_STORE_RETRY", value_name = "DURATION", default_value = "3m", value_parser = parse_retry)]
    store_retry: Duration,

    /// Existing folder for files that wait for their upload to S3 [default: the system's for temporary files]
    #[arg(long, env = "STOREFLOW_STORE_SPOOL", value_name = "DIR")]
    store_spool: Option<PathBuf>,
}

const HEADING: &str = "Store (where history, dead letters and the view are)";

fn parse_retry(text: &str) -> Result<Duration, String> {
    duration::read(text).map(Duration::from_millis).map_err(str::to_owned)
}

impl StoreArgs {
    /// The address that was typed.
    pub(super) fn address(&self) -> Result<Address, StoreError> {
        match &self.store {
            Some(address) => address.parse(),
            None => self.place.address(),
        }
    }

    /// A store to read.
    pub(super) fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.address()?, &self.place.options())
    }

    /// A store to read by somebody who waits: it is given up after `patience`, or sooner if that was typed.
    pub(super) fn open_within(&self, patience: Duration) -> Result<Store, StoreError> {
        let options = self.place.options();
        Store::open(&self.address()?, &StoreOptions { retry_time: options.retry_time.min(patience), ..options })
    }

    /// A store to write; a folder is made if it is missing.
    pub(super) fn create(&self) -> Result<Store, StoreError> {
        Store::create(&self.address()?, &self.place.options())
    }

    /// Whether an address was typed.
    pub(super) fn is_given(&self) -> bool {
        self.store.is_some() || self.place.is_given()
    }
}

impl PlaceArgs {
    fn address(&self) -> Result<Address, StoreError> {
        self.data_dir.as_deref().unwrap_or("storeflow-data").parse()
    }

    /// A store to read.
    pub(super) fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.address()?, &self.options())
    }

    /// Whether an address was typed.
    pub(super) fn is_given(&self) -> bool {
        self.data_dir.is_some()
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            path_style: self.store_path_style,
            allow_http: self.store_allow_http,
            retry_time: self.store_retry,
            spool: self.store_spool.clone(),
            ..StoreOptions::of_process()
        }
    }

    /// The arguments `--data-dir FOLDER`.
    #[cfg(test)]
    pub(super) fn folder(folder: &std::path::Path) -> PlaceArgs {
        PlaceArgs {
            data_dir: Some(folder.to_str().expect("a path of a test").to_owned()),
            store_path_style: None,
            store_allow_http: false,
            store_retry: crate::store::RETRY_TIME,
            store_spool: None,
        }
    }
}

impl fmt::Display for StoreArgs {
    /// The place, for logs; nothing of what cannot be read, as it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Ok(address) => address.fmt(f),
            Err(_) => f.write_str("an address that cannot be read"),
        }
    }
}
