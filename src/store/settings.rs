//! Credentials, region and endpoint: what the environment, a profile and flags say together.
//!
//! Upholds: the order of the AWS command line (environment before profile, S3's own endpoint before the general one); a
//! connection without TLS leaves this machine only when that was asked for.
//! Keeps: secrets, so nothing here can be printed.

use std::path::PathBuf;

use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};

use super::StoreOptions;
use super::error::StoreError;
use super::profile::Profile;

/// How to reach S3.
pub(super) struct Settings {
    keys: Option<(String, String, Option<String>)>,
    /// Where the credentials come from, for messages.
    pub(super) credentials: String,
    region: String,
    endpoint: Option<String>,
    path_style: bool,
    plain_http: bool,
}

impl Settings {
    /// Brings together what is known.
    pub(super) fn resolve(options: &StoreOptions) -> Result<Settings, StoreError> {
        let wrong = |what: String| StoreError::Settings { what };
        // An empty variable counts as none, as for the AWS command line.
        let variable = |name: &str| options.environment.get(name).filter(|value| !value.is_empty()).cloned();
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name));
        let profile_name = first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        let profile = profile(profile_name.as_deref(), &variable)?;
        let name = profile_name.as_deref().unwrap_or("default");
        let (keys, credentials) = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => (Some((id, secret, variable("AWS_SESSION_TOKEN"))), "the environment".to_owned()),
            (Some(_), None) => return Err(wrong("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not".to_owned())),
            (None, Some(_)) => return Err(wrong("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not".to_owned())),
            (None, None) => match profile.keys(name)? {
                Some(keys) => (Some(keys), format!("profile \"{name}\"")),
                None if variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() => (None, "AWS_WEB_IDENTITY_TOKEN_FILE".to_owned()),
                None if first(&["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]).is_some() => {
                    (None, "the container's service".to_owned())
                }
                None => (None, "the machine's metadata service, as there are none in the environment or a profile".to_owned()),
            },
        };
        let of_profile = |name: &str| profile.get(name).map(str::to_owned);
        let endpoint = first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]).or_else(|| of_profile("endpoint_url"));
        let region = first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| of_profile("region"));
        let region = match (region, &endpoint) {
            (Some(region), _) => region,
            // Other servers sign with this one unless they say otherwise.
            (None, Some(_)) => "us-east-1".to_owned(),
            (None, None) => return Err(wrong("no region: set AWS_REGION, or region in the profile".to_owned())),
        };
        let yes = |name: &str| variable(name).is_some_and(|value| matches!(&*value.to_ascii_lowercase(), "true" | "1" | "yes"));
        let mut plain_http = false;
        if let Some(endpoint) = &endpoint {
            let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
            let authority = rest.split('/').next().unwrap_or("");
            if authority.contains('@') {
                return Err(wrong("credentials do not belong into the endpoint; use the environment or a profile".to_owned()));
            }
            match scheme {
                "https" => {}
                "http" if options.allow_http || yes("AWS_ALLOW_HTTP") || loopback(authority) => plain_http = true,
                "http" => {
                    return Err(wrong(format!(
                        "endpoint {endpoint} would be used without TLS; use https, or allow it with AWS_ALLOW_HTTP=true"
                    )));
                }
                _ => return Err(wrong(format!("endpoint \"{endpoint}\" is no URL such as https://s3.example.com"))),
            }
        }
        let virtual_hosted = variable("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").map(|_| yes("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"));
        let path_style = options.path_style.or(virtual_hosted.map(|hosted| !hosted)).unwrap_or(endpoint.is_some());
        Ok(Settings { keys, credentials, region, endpoint, path_style, plain_http })
    }

    /// The endpoint without the bucket, for messages.
    pub(super) fn shown_endpoint(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.region))
    }

    /// A client's builder for a bucket.
    pub(super) fn builder(self, bucket: &str, options: &StoreOptions, client: ClientOptions) -> AmazonS3Builder {
        let mut builder = AmazonS3Builder::new().with_client_options(client);
        // What else the client knows of AWS_…: encryption by KMS, the files of web identity, and so on.
        for (name, value) in options.environment.iter().filter(|(_, value)| !value.is_empty()) {
            if name.starts_with("AWS_")
                && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
                && !ours(key)
            {
                builder = builder.with_config(key, value);
            }
        }
        if let Some((id, secret, token)) = self.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = token {
                builder = builder.with_token(token);
            }
        }
        // Certificates of names with dots do not match the one of all buckets.
        let path_style = self.path_style || bucket.contains('.');
        if let Some(endpoint) = self.endpoint {
            let endpoint = endpoint.trim_end_matches('/');
            builder = builder.with_endpoint(match endpoint.split_once("://") {
                Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
                _ => endpoint.to_owned(),
            });
        }
        builder
            .with_bucket_name(bucket)
            .with_region(self.region)
            .with_virtual_hosted_style_request(!path_style)
            .with_allow_http(self.plain_http)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
    }
}

/// What is resolved here and not by the client.
fn ours(key: AmazonS3ConfigKey) -> bool {
    use AmazonS3ConfigKey as Key;
    matches!(key, Key::AccessKeyId | Key::SecretAccessKey | Key::Token | Key::Region | Key::DefaultRegion | Key::Endpoint)
        || matches!(key, Key::Bucket | Key::VirtualHostedStyleRequest | Key::ConditionalPut)
        || matches!(key.as_ref(), "aws_endpoint_url_s3" | "allow_http")
}

/// The profile in use; one that was asked for by name must be there.
fn profile(name: Option<&str>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Profile, StoreError> {
    let file = |of: &str, default: &str| {
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".aws").join(default));
        variable(of).map(PathBuf::from).or_else(home)
    };
    let read = |path: Option<PathBuf>| match path.map(|path| (std::fs::read_to_string(&path), path)) {
        None => Ok(String::new()),
        Some((Ok(text), _)) => Ok(text),
        Some((Err(error), _)) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Some((Err(error), path)) => Err(StoreError::io("read", &path)(error)),
    };
    let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
    let config = read(file("AWS_CONFIG_FILE", "config"))?;
    match (Profile::find(name.unwrap_or("default"), &credentials, &config), name) {
        (Some(profile), _) => Ok(profile),
        (None, None) => Ok(Profile::default()),
        (None, Some(name)) => Err(StoreError::Settings {
            what: format!(
                "AWS_PROFILE names profile \"{name}\", which is neither in the credentials file nor in the config file"
            ),
        }),
    }
}

/// Whether `host:port` is this machine.
fn loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(environment: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::resolve(&StoreOptions { environment, ..StoreOptions::of_process() }).map_err(|error| error.to_string())
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hidden")];

    fn with_keys(more: &[(&str, &str)]) -> Result<Settings, String> {
        resolve(&[&KEYS[..], more].concat())
    }

    #[test]
    fn the_environment_is_enough() {
        let aws = with_keys(&[("AWS_DEFAULT_REGION", "ap-northeast-2")]).expect("settings");
        assert_eq!((aws.region.as_str(), aws.path_style, aws.plain_http), ("ap-northeast-2", false, false));
        assert_eq!(
            (aws.credentials.as_str(), aws.shown_endpoint().as_str()),
            ("the environment", "https://s3.ap-northeast-2.amazonaws.com")
        );
        let other = with_keys(&[("AWS_ENDPOINT_URL", "https://all"), ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")]);
        let other = other.expect("settings");
        assert_eq!((other.shown_endpoint().as_str(), other.path_style, other.plain_http), ("http://127.0.0.1:9000", true, true));
        assert!(
            !with_keys(&[("AWS_ENDPOINT_URL", "https://s3"), ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")])
                .expect("settings")
                .path_style
        );
    }

    #[test]
    fn a_profile_serves_where_the_environment_has_no_keys() {
        let dir = tempfile::tempdir().expect("a folder");
        let (credentials, config) = (dir.path().join("credentials"), dir.path().join("config"));
        std::fs::write(&credentials, "[shop]\naws_access_key_id=id\naws_secret_access_key=hidden\n").expect("written");
        std::fs::write(&config, "[profile shop]\nregion=eu-west-1\n").expect("written");
        let files = [
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().expect("UTF-8")),
            ("AWS_CONFIG_FILE", config.to_str().expect("UTF-8")),
        ];
        let shop = resolve(&[&files[..], &[("AWS_PROFILE", "shop")]].concat()).expect("settings");
        assert_eq!((shop.credentials.as_str(), shop.region.as_str()), ("profile \"shop\"", "eu-west-1"));
        let error = resolve(&[&files[..], &[("AWS_PROFILE", "none")]].concat()).err().expect("an error");
        assert!(error.contains("profile \"none\""), "{error}");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (environment, expected) in [
            (vec![("AWS_ACCESS_KEY_ID", "id")], "AWS_SECRET_ACCESS_KEY is not"),
            (KEYS.to_vec(), "set AWS_REGION"),
            ([&KEYS[..], &[("AWS_ENDPOINT_URL", "http://minio.internal:9000")]].concat(), "AWS_ALLOW_HTTP=true"),
            ([&KEYS[..], &[("AWS_ENDPOINT_URL", "https://id:hidden@minio")]].concat(), "do not belong"),
            ([&KEYS[..], &[("AWS_ENDPOINT_URL", "minio:9000")]].concat(), "is no URL"),
        ] {
            let error = resolve(&environment).err().expect("an error");
            assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
        }
        let asked = [("AWS_ENDPOINT_URL", "http://minio.internal:9000"), ("AWS_ALLOW_HTTP", "true")];
        assert!(with_keys(&asked).expect("settings").plain_http);
    }
}
