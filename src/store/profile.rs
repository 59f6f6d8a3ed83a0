//! The files of the AWS command line: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Upholds: credentials win over the config file, as everywhere; a profile that gets its keys in a way that is not built in
//! is an error that says how to go on, rather than a run with other keys.
//! Absent on purpose: roles, single sign-on, credential processes, and indented sub-sections. `aws configure
//! export-credentials` turns all of them into what is read here.

use std::collections::BTreeMap;

use super::error::StoreError;

/// What a profile says; settings it does not name are absent.
#[derive(Default)]
pub(super) struct Profile {
    values: BTreeMap<String, String>,
}

impl Profile {
    /// Finds a profile in the two files' texts, if one of them has it.
    pub(super) fn find(name: &str, credentials: &str, config: &str) -> Option<Profile> {
        let of_config = section(config, &|header| header == name && name == "default" || header == format!("profile {name}"));
        let of_credentials = section(credentials, &|header| header == name);
        let found = of_config.is_some() || of_credentials.is_some();
        let mut values = of_config.unwrap_or_default();
        values.extend(of_credentials.unwrap_or_default());
        found.then_some(Profile { values })
    }

    /// A setting.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Key id, secret and token.
    pub(super) fn keys(&self, name: &str) -> Result<Option<(String, String, Option<String>)>, StoreError> {
        let owned = |name: &str| self.get(name).map(str::to_owned);
        match (owned("aws_access_key_id"), owned("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Some((id, secret, owned("aws_session_token")))),
            (None, None) => {
                let others = ["role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source"];
                match others.into_iter().find(|other| self.get(other).is_some()) {
                    None => Ok(None),
                    Some(other) => Err(StoreError::Settings {
                        what: format!(
                            "profile \"{name}\" gets its keys by {other}, which is not built in; \
                             run `eval \"$(aws configure export-credentials --profile {name} --format env)\"` first"
                        ),
                    }),
                }
            }
            _ => Err(StoreError::Settings {
                what: format!("profile \"{name}\" has only one of aws_access_key_id and aws_secret_access_key"),
            }),
        }
    }
}

/// The settings of a section, if it is there; a later line wins.
fn section(text: &str, wanted: &dyn Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let (mut found, mut inside) = (None, false);
    for line in text.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            let header: Vec<&str> = header.split(']').next().unwrap_or("").split_whitespace().collect();
            inside = wanted(&header.join(" "));
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if inside
            // Indented lines belong to a setting with parts of its own, such as `s3 =`.
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && let Some(found) = &mut found
        {
            let value = value.split(" #").next().unwrap_or("").trim();
            found.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = ID\naws_secret_access_key=SECRET/with=signs\n\n\
                               [ other ]\naws_access_key_id=ID2\n# a note\naws_secret_access_key=SECRET2\naws_session_token=TOKEN\n";
    const CONFIG: &str = "[default]\nregion = ap-northeast-2\ns3 =\n  max_concurrent_requests = 20\n\
                          [profile other]\nregion=eu-west-1 # near\nendpoint_url=http://localhost:9000\naws_access_key_id=LOSES\n\
                          [profile role]\nrole_arn=arn:aws:iam::1:role/x\nsource_profile=default\n\
                          [profile half]\naws_access_key_id=ID\n";

    fn profile(name: &str) -> Profile {
        Profile::find(name, CREDENTIALS, CONFIG).expect("a profile")
    }

    #[test]
    fn both_files_make_a_profile() {
        let default = profile("default");
        assert_eq!(default.keys("default").expect("keys"), Some(("ID".into(), "SECRET/with=signs".into(), None)));
        assert_eq!((default.get("region"), default.get("max_concurrent_requests")), (Some("ap-northeast-2"), None));
        let other = profile("other");
        assert_eq!(other.keys("other").expect("keys"), Some(("ID2".into(), "SECRET2".into(), Some("TOKEN".into()))));
        assert_eq!((other.get("region"), other.get("endpoint_url")), (Some("eu-west-1"), Some("http://localhost:9000")));
        assert!(Profile::find("none", CREDENTIALS, CONFIG).is_none());
    }

    #[test]
    fn keys_that_cannot_be_had_are_an_error() {
        let role = profile("role").keys("role").expect_err("no keys").to_string();
        assert!(role.contains("role_arn") && role.contains("export-credentials --profile role"), "{role}");
        let half = profile("half").keys("half").expect_err("no keys").to_string();
        assert!(half.contains("only one of"), "{half}");
    }
}
