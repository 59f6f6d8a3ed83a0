//! `--store URL|DIR` as it was typed: where a store is.
//!
//! Upholds: what is not understood is an error that says what would be; an address never holds a secret, so it may be
//! printed anywhere.
//! Absent on purpose: looking whether anything is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::StoreError;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A local folder.
    Folder(PathBuf),
    /// A bucket of S3, or of a server that speaks like it.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with, without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
}

impl Address {
    /// A key of this store, as people read it.
    pub fn place(&self, key: &str) -> PathBuf {
        match self {
            Address::Folder(root) if key.is_empty() => root.clone(),
            Address::Folder(root) => root.join(key),
            Address::S3 { .. } if key.is_empty() => PathBuf::from(self.to_string()),
            Address::S3 { .. } => PathBuf::from(format!("{self}/{key}")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Folder(root) => write!(f, "{}", root.display()),
            Address::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Address::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl From<&Path> for Address {
    fn from(root: &Path) -> Self {
        Address::Folder(root.to_owned())
    }
}

impl FromStr for Address {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        // The text is not repeated where it may hold a password.
        let wrong = |what: &str| Err(StoreError::Address { what: what.to_owned() });
        match text.split_once("://") {
            _ if text.is_empty() => wrong("it is empty"),
            None => Ok(Address::Folder(PathBuf::from(text))),
            Some(("file", path)) if path.starts_with('/') => Ok(Address::Folder(PathBuf::from(path))),
            Some(("file", _)) => wrong("a file URL has three slashes: file:///some/folder"),
            Some(("s3" | "s3a", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                if bucket.contains('@') {
                    return wrong("credentials do not belong into the URL; use the environment or a profile");
                }
                if bucket.is_empty() || !bucket.bytes().all(allowed) {
                    return wrong("after s3:// comes the name of a bucket, of letters, digits, \".\", \"-\" and \"_\"");
                }
                let prefix = prefix.trim_matches('/');
                if prefix.split('/').any(|part| part == "." || part == "..")
                    || prefix.contains("//")
                    // Keys are escaped once more than an escape would allow for.
                    || prefix.contains('%')
                    || object_store::path::Path::parse(prefix).is_err()
                {
                    return wrong("its prefix is no plain path");
                }
                Ok(Address::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            Some((scheme, _)) => {
                wrong(&format!("scheme \"{scheme}\" is not known; use s3://bucket/prefix, file:///folder or a folder"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_place_or_a_reason() {
        for (text, expected) in [
            ("out", "out"),
            ("/var/lib/storeflow", "/var/lib/storeflow"),
            ("file:///var/lib", "/var/lib"),
            ("s3://mall", "s3://mall"),
            ("s3://mall/", "s3://mall"),
            ("s3://mall/a/b/", "s3://mall/a/b"),
            ("", "it is empty"),
            ("file://var", "three slashes"),
            ("s3://", "name of a bucket"),
            ("s3://key:secret@mall/x", "credentials do not belong"),
            ("s3://mall/../x", "no plain path"),
            ("s3://mall/a%20b", "no plain path"),
            ("gs://mall/x", "scheme \"gs\" is not known"),
        ] {
            match text.parse::<Address>() {
                Ok(address) => assert_eq!(address.to_string(), expected),
                Err(error) => assert!(error.to_string().contains(expected) && !error.to_string().contains("secret"), "{error}"),
            }
        }
        let address: Address = "s3://mall/a".parse().expect("an address");
        assert_eq!(address.place("current.json").to_str(), Some("s3://mall/a/current.json"));
        assert_eq!(Address::from(Path::new("out")).place("").to_str(), Some("out"));
    }
}
