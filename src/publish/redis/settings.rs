//! Where Redis is, and how to speak to it, without ever showing the password.

use std::fmt;

use ::redis::{ConnectionInfo, IntoConnectionInfo};

use super::error::RedisError;

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// One URL, or several of one cluster.
    pub url: SecretUrl,
    /// It is a cluster.
    pub cluster: bool,
}

/// One or more Redis URLs. What is shown of them is host, port and database, never user or password.
#[derive(Clone)]
pub struct SecretUrl {
    infos: Vec<ConnectionInfo>,
    shown: String,
}

impl SecretUrl {
    /// Reads `redis://` or `rediss://` URLs, separated by commas. `password` counts where a URL has none.
    ///
    /// # Errors
    /// If one is no such URL; the message does not repeat it.
    pub fn parse(text: &str, password: Option<&str>) -> Result<SecretUrl, RedisError> {
        let wrong = |problem: &str| RedisError::Url { problem: problem.to_owned() };
        let mut infos = Vec::new();
        for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            if !url.starts_with("redis://") && !url.starts_with("rediss://") {
                return Err(wrong("the address of Redis has neither redis:// nor rediss://"));
            }
            let info = url.into_connection_info().map_err(|_| wrong("the address of Redis cannot be read"))?;
            infos.push(info);
        }
        if infos.is_empty() {
            return Err(wrong("the address of Redis is empty"));
        }
        let shown = infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(",");
        let url = SecretUrl { infos, shown };
        Ok(match password {
            Some(password) => url.with_password(password),
            None => url,
        })
    }

    /// The same with a password where a URL has none.
    pub fn with_password(mut self, password: &str) -> SecretUrl {
        for info in &mut self.infos {
            if info.redis_settings().password().is_none() {
                let redis = info.redis_settings().clone().set_password(password);
                *info = info.clone().set_redis_settings(redis);
            }
        }
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.infos.len()
    }

    /// Hosts and ports.
    pub fn server(&self) -> &str {
        &self.shown
    }

    /// All there is to connect.
    pub(crate) fn infos(&self) -> &[ConnectionInfo] {
        &self.infos
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let url = SecretUrl::parse("redis://mall:hunter2@cache:6380/3, rediss://other", Some("letmein")).unwrap();
        let settings = RedisSettings { url, cluster: true };
        let shown = format!("{settings:?} {}", settings.url);
        assert!(shown.contains("cache:6380") && shown.contains("other:6379"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("letmein") && !shown.contains("mall"), "{shown}");
        let [first, second] = settings.url.infos() else { panic!() };
        assert_eq!((first.redis_settings().password(), first.redis_settings().db()), (Some("hunter2"), 3));
        assert_eq!(second.redis_settings().password(), Some("letmein"));
        for wrong in ["", "cache:6379", "http://x:hunter2@y", "redis://x:hunter2@h:port", "redis://x:hunter2@h/nodb"] {
            let error = SecretUrl::parse(wrong, None).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
