//! What the function is told, all of it by environment variables: a function has no command line.
//!
//! Upholds: (1) what is wrong is said in one line, with the variable's name and what to set it to; (2) no message repeats a value
//! that may hold a secret.

use std::path::PathBuf;

use crate::cli::admission_args;
use crate::publish::redis::{RedisSettings, SecretUrl};
use crate::serve::admission::AdmissionSettings;

/// The variables that are read, beside those of logging; `deploy/lambda/template.yaml` sets these and no others.
pub const VARIABLES: [&str; 12] =
    [REDIS, CLUSTER, PASSWORD, PASSWORD_FILE, JOB, KEYS, PUBLIC, RATE, ORIGINS, TIMEOUT, BASE_PATH, LOG];

const REDIS: &str = "STOREFLOW_REDIS";
const CLUSTER: &str = "STOREFLOW_REDIS_CLUSTER";
const PASSWORD: &str = "STOREFLOW_REDIS_PASSWORD";
const PASSWORD_FILE: &str = "STOREFLOW_REDIS_PASSWORD_FILE";
const JOB: &str = "STOREFLOW_JOB_NAME";
const KEYS: &str = "STOREFLOW_API_KEYS";
const PUBLIC: &str = "STOREFLOW_PUBLIC";
const RATE: &str = "STOREFLOW_RATE";
const ORIGINS: &str = "STOREFLOW_CORS_ORIGIN";
const TIMEOUT: &str = "STOREFLOW_REQUEST_TIMEOUT";
const BASE_PATH: &str = "STOREFLOW_BASE_PATH";
const LOG: &str = "STOREFLOW_LOG";

/// What the function is told.
#[derive(Clone, Debug)]
pub struct LambdaSettings {
    /// Where the view is.
    pub redis: RedisSettings,
    /// The job whose view it is.
    pub job: String,
    /// Who may ask; no keys if whoever invokes the function has checked that.
    pub admission: AdmissionSettings,
    /// What paths begin with before they are ours: `/numbers`, or empty.
    pub base_path: String,
}

/// What to mend.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable is not set.
    #[error("{name} is not set: {mend}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What to set it to.
        mend: &'static str,
    },
    /// A variable is set to something it cannot be.
    #[error("{name} is not what it may be: {problem}")]
    Wrong {
        /// The variable.
        name: &'static str,
        /// Why not, and what it may be.
        problem: String,
    },
}

impl LambdaSettings {
    /// Reads them; `variable` looks one up.
    ///
    /// # Errors
    /// What is to be mended first.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<LambdaSettings, SettingsError> {
        // A template cannot leave a variable out, only empty.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let flag = |name: &'static str| match variable(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(SettingsError::Wrong { name, problem: "it is \"true\" or \"false\"".to_owned() }),
        };
        let missing = |name, mend| SettingsError::Missing { name, mend };

        let address =
            variable(REDIS).ok_or_else(|| missing(REDIS, "the address of Redis, such as rediss://cache.example:6379"))?;
        let password = match variable(PASSWORD_FILE) {
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| SettingsError::Wrong {
                    name: PASSWORD_FILE,
                    problem: format!("could not read \"{path}\": {error}"),
                })?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => variable(PASSWORD),
        };
        let url = SecretUrl::parse(&address, password.as_deref())
            .map_err(|error| SettingsError::Wrong { name: REDIS, problem: error.to_string() })?;
        let cluster = flag(CLUSTER)? || url.count() > 1;
        let job = variable(JOB).ok_or_else(|| missing(JOB, "the name of the job whose view is served"))?;
        let keys = match (variable(KEYS), flag(PUBLIC)?) {
            (Some(path), false) => Some(PathBuf::from(path)),
            (None, true) => None,
            (None, false) => {
                let mend =
                    "a file of API keys in the package or a layer, or STOREFLOW_PUBLIC=true if the gateway says who may ask";
                return Err(missing(KEYS, mend));
            }
            (Some(_), true) => {
                let problem = format!("{KEYS} is set as well, and keys are for what is not public; leave one of them out");
                return Err(SettingsError::Wrong { name: PUBLIC, problem });
            }
        };
        let mut admission = AdmissionSettings { keys, ..AdmissionSettings::default() };
        let wrong = |name| move |problem: String| SettingsError::Wrong { name, problem: format!("it {problem}") };
        if let Some(text) = variable(RATE) {
            admission.rate = Some(admission_args::rate(&text).map_err(wrong(RATE))?);
        }
        if let Some(text) = variable(TIMEOUT) {
            admission.request_timeout = admission_args::timeout(&text).map_err(wrong(TIMEOUT))?;
        }
        let origins = variable(ORIGINS).unwrap_or_default();
        let origins = origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        admission.origins = origins.map(str::parse).collect::<Result<_, String>>().map_err(wrong(ORIGINS))?;
        let base_path = variable(BASE_PATH).unwrap_or_default();
        let base_path = base_path.trim_end_matches('/').to_owned();
        if !base_path.is_empty() && !base_path.starts_with('/') {
            return Err(SettingsError::Wrong { name: BASE_PATH, problem: "it begins with a slash, such as /numbers".to_owned() });
        }
        Ok(LambdaSettings { redis: RedisSettings { url, cluster }, job, admission, base_path })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    const GOOD: [(&str, &str); 3] = [(REDIS, "redis://mall:hunter2@cache:6380"), (JOB, "mall"), (KEYS, "/opt/keys")];

    fn read(changes: &[(&str, &str)]) -> Result<LambdaSettings, SettingsError> {
        let value = |name: &str| changes.iter().chain(&GOOD).find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        LambdaSettings::read(value)
    }

    #[test]
    fn what_is_set_is_read() {
        let settings = read(&[(PASSWORD, "unused"), (BASE_PATH, "/numbers/")]).unwrap();
        assert_eq!(settings.redis.url.server(), "cache:6380");
        assert!(!settings.redis.cluster);
        assert_eq!((settings.job.as_str(), settings.base_path.as_str()), ("mall", "/numbers"));
        assert_eq!(settings.admission.keys, Some(PathBuf::from("/opt/keys")));
        assert_eq!(settings.admission.request_timeout, AdmissionSettings::default().request_timeout);
        let open = read(&[(KEYS, ""), (PUBLIC, "true"), (CLUSTER, "true"), (BASE_PATH, ""), (RATE, ""), (ORIGINS, "")]).unwrap();
        assert_eq!((open.admission.keys, open.redis.cluster, open.base_path.as_str()), (None, true, ""));
        assert!(open.admission.origins.is_empty() && open.admission.rate.is_none());
        let bounded = [(RATE, "7"), (TIMEOUT, "4s"), (ORIGINS, "https://a.example, https://b.example")];
        let bounded = read(&bounded).unwrap().admission;
        assert_eq!((bounded.rate.map(u32::from), bounded.request_timeout.as_secs(), bounded.origins.len()), (Some(7), 4, 2));
    }

    #[test]
    fn no_other_variable_is_read() {
        let asked = RefCell::new(BTreeSet::from([LOG.to_owned()]));
        for public in ["true", "false"] {
            let settings = LambdaSettings::read(|name| {
                asked.borrow_mut().insert(name.to_owned());
                let usual = GOOD.iter().find(|(set, _)| *set == name && (public == "false" || name != KEYS));
                if name == PUBLIC { Some(public.to_owned()) } else { usual.map(|(_, value)| (*value).to_owned()) }
            });
            settings.unwrap();
        }
        assert_eq!(asked.into_inner(), VARIABLES.iter().map(|name| (*name).to_owned()).collect());
    }

    #[test]
    fn the_template_sets_what_is_read_and_nothing_else() {
        let template = include_str!("../../../deploy/lambda/template.yaml");
        let (_, variables) = template.split_once("        Variables:\n").unwrap();
        let set: BTreeSet<&str> = variables
            .lines()
            .take_while(|line| line.starts_with("          "))
            .filter(|line| !line.starts_with("           "))
            .filter_map(|line| Some(line.trim().split_once(':')?.0))
            .collect();
        // A secret of Secrets Manager is no file.
        assert_eq!(set, VARIABLES.into_iter().filter(|name| *name != PASSWORD_FILE).collect());
        let readme = include_str!("../../../deploy/lambda/README.md");
        assert!(VARIABLES.iter().all(|name| readme.contains(&format!("`{name}`"))));
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line_without_secrets() {
        let wrong: [(&[(&str, &str)], &str); 12] = [
            (&[(REDIS, "")], REDIS),
            (&[(REDIS, "hunter2@cache")], REDIS),
            (&[(PASSWORD_FILE, "/no/such/file")], PASSWORD_FILE),
            (&[(CLUSTER, "hunter2")], CLUSTER),
            (&[(JOB, "")], JOB),
            (&[(KEYS, "")], KEYS),
            (&[(KEYS, ""), (PUBLIC, "yes")], PUBLIC),
            (&[(PUBLIC, "true")], PUBLIC),
            (&[(RATE, "0")], RATE),
            (&[(ORIGINS, "https://a.example,*")], ORIGINS),
            (&[(TIMEOUT, "1")], TIMEOUT),
            (&[(BASE_PATH, "numbers")], BASE_PATH),
        ];
        for (changes, name) in wrong {
            let said = read(changes).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{name} is not")), "{said}");
            assert!(!said.contains('\n') && !said.contains("hunter2"), "{said}");
        }
    }
}
