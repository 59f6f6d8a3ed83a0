//! Flags that say where Redis is, shared by every command that reads or writes the Redis view.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Failure;
use crate::publish::redis::{RedisSettings, SecretUrl};

/// Where the Redis view is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Redis")]
pub(super) struct RedisArgs {
    /// Redis of the view: redis://[user:password@]host[:port][/database], rediss:// for TLS; several, by commas, of one cluster
    #[arg(long, env = "STOREFLOW_REDIS", value_name = "URL", hide_env_values = true, value_parser = typed)]
    redis: Option<Typed>,

    /// Redis is a cluster
    #[arg(long, env = "STOREFLOW_REDIS_CLUSTER", requires = "redis")]
    redis_cluster: bool,

    /// A file with the password on its first line; or set STOREFLOW_REDIS_PASSWORD
    #[arg(long, env = "STOREFLOW_REDIS_PASSWORD_FILE", value_name = "FILE")]
    redis_password_file: Option<PathBuf>,
}

/// A URL as it was typed. It is read later: clap would repeat a wrong value, password and all, in its message.
#[derive(Clone)]
struct Typed(String);

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(..)")
    }
}

fn typed(text: &str) -> Result<Typed, std::convert::Infallible> {
    Ok(Typed(text.to_owned()))
}

impl RedisArgs {
    /// The same as variables of another process; none if Redis was not asked for.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let Some(Typed(url)) = &self.redis else { return Vec::new() };
        let mut variables = vec![("STOREFLOW_REDIS", url.clone())];
        variables.extend(self.redis_cluster.then(|| ("STOREFLOW_REDIS_CLUSTER", "true".to_owned())));
        if let Some(file) = &self.redis_password_file {
            variables.push(("STOREFLOW_REDIS_PASSWORD_FILE", file.to_string_lossy().into_owned()));
        }
        variables.extend(std::env::var("STOREFLOW_REDIS_PASSWORD").ok().map(|password| ("STOREFLOW_REDIS_PASSWORD", password)));
        variables
    }

    /// The settings, if Redis was asked for.
    pub(super) fn resolve(&self) -> Result<Option<RedisSettings>, Failure> {
        let Some(Typed(url)) = &self.redis else { return Ok(None) };
        let password = match (&self.redis_password_file, std::env::var("STOREFLOW_REDIS_PASSWORD")) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("could not read the password of Redis from \"{}\"", path.display()))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            (None, Ok(password)) if !password.is_empty() => Some(password),
            (None, _) => None,
        };
        let url = SecretUrl::parse(url, password.as_deref())?;
        let cluster = self.redis_cluster || url.count() > 1;
        Ok(Some(RedisSettings { url, cluster }))
    }
}
