//! Why a store did not do what was asked, by what the caller can do about it.
//!
//! Upholds: no error holds a secret. What a server answers to a wrong signature repeats headers of the request, so only its
//! code and its message are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cause of any type, printed by whoever prints the chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was typed is no address of a store.
    #[error("the store's address cannot be used: {what}")]
    Address {
        /// What is wrong and what would be right; without the address, which may hold a password.
        what: String,
    },
    /// Credentials, region or endpoint are missing or make no sense.
    #[error("the settings of the object store cannot be used: {what}")]
    Settings {
        /// What is wrong and what would be right.
        what: String,
    },
    /// The file system refused.
    #[error("could not {action} \"{}\"", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no such folder.
    #[error("no data directory at \"{}\"", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such bucket.
    #[error("bucket \"{bucket}\" does not exist at {endpoint}; create it, or correct --store or the endpoint")]
    NoBucket {
        /// The bucket.
        bucket: String,
        /// Where it was looked for.
        endpoint: String,
        /// The answer.
        source: BoxError,
    },
    /// The credentials are unknown, wrong, or do not allow it.
    #[error(
        "not allowed to {action} \"{place}\" with credentials from {credentials}; \
         storeflow needs to list, get, put and delete below the prefix"
    )]
    Forbidden {
        /// What was tried.
        action: &'static str,
        /// On which object or prefix.
        place: String,
        /// Where the credentials came from; never what they are.
        credentials: String,
        /// The answer.
        source: BoxError,
    },
    /// Nothing answered in time.
    #[error("could not reach the object store at {endpoint} within {tried:?}; is the endpoint right, and the server up?")]
    Unreachable {
        /// Where it should be.
        endpoint: String,
        /// How long it was tried.
        tried: Duration,
        /// The last failure.
        source: BoxError,
    },
    /// Certainly not done: the server said no, or it was no write.
    #[error("could not {action} \"{place}\" (tried for {tried:?})")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// On which object or prefix.
        place: String,
        /// How long it was tried.
        tried: Duration,
        /// The last answer.
        source: BoxError,
    },
    /// An answer to a write is missing, so it may have been done: read back before deciding anything.
    #[error("could not confirm that \"{place}\" was written (tried for {tried:?}); the same run may write it again")]
    Unconfirmed {
        /// The object.
        place: String,
        /// How long it was tried.
        tried: Duration,
        /// The last failure.
        source: BoxError,
    },
    /// Another process holds the folder.
    #[error("data directory \"{}\" is in use by another run", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A thread of this program ended before its time; its own message was printed.
    #[error("the transfer of \"{place}\" was cut off by a defect of this program")]
    Broken {
        /// The object.
        place: String,
    },
}

impl StoreError {
    /// For `map_err`: the file system refused `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
        move |source| StoreError::Io { action, path: path.to_owned(), source }
    }

    /// Whether the same may work later with nothing mended here: the store did not answer, or not well.
    pub fn may_pass(&self) -> bool {
        use StoreError::{Broken, Refused, Unconfirmed, Unreachable};
        matches!(self, Unreachable { .. } | Refused { .. } | Unconfirmed { .. } | Broken { .. })
    }

    /// Whether the write that failed may have taken effect all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, StoreError::Unconfirmed { .. })
    }
}
