//! Why something could not be published or read back.

use std::path::{Path, PathBuf};

use crate::store::StoreError;
pub use crate::store::error::BoxError;

/// Why something could not be published or read back. Nothing of it is half done: a file that failed never got its name.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The file system refused.
    #[error("could not {action} \"{path}\"")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is there, but it is damaged or not one of ours.
    #[error("could not read \"{path}\" as {expected}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should have been.
        expected: &'static str,
        /// What is wrong with it.
        source: BoxError,
    },
    /// Rows could not be encoded.
    #[error("could not encode \"{path}\"")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: BoxError,
    },
    /// A data directory holds one job.
    #[error("data directory \"{root}\" holds job \"{found}\", not \"{wanted}\"")]
    OtherJob {
        /// The data directory.
        root: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        wanted: String,
    },
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The view in Redis is not ours to write any more.
    #[error(transparent)]
    Redis(#[from] super::redis::RedisError),
    /// No run has finished in it yet.
    #[error("no finished run in data directory \"{root}\"")]
    NoRun {
        /// The data directory.
        root: PathBuf,
    },
    /// The process that creates the generation has not, or not in this store.
    #[error("no run has started at \"{place}\"; do all processes have the same --store or --data-dir?")]
    NoGeneration {
        /// Where it should be.
        place: PathBuf,
    },
    /// A run that began later has moved the pointer.
    #[error(
        "generation {newer} of a newer run is current, so \"{place}\" cannot become it; let one run at a time write to a store"
    )]
    Superseded {
        /// This run's generation.
        place: PathBuf,
        /// The newer one.
        newer: u64,
    },
    /// A live run's view is not in files.
    #[error("the run at \"{place}\" goes on, and its view is in Redis; its history can be read, with --history")]
    Unfinished {
        /// Its generation.
        place: PathBuf,
    },
    /// The run kept its view elsewhere.
    #[error("the run at \"{place}\" left no view in files; it was in Redis. Its history can be read, with --history")]
    NoView {
        /// Its generation.
        place: PathBuf,
    },
    /// The history writer met an error, or was closed; closing it tells which.
    #[error("the history writer has stopped")]
    Stopped,
    /// Rows of an epoch came after that epoch had been published: the order of the commit was broken.
    #[error("rows of epoch {epoch} came after as-of {as_of} was published")]
    AfterPublish {
        /// Epoch of the rows, milliseconds.
        epoch: u64,
        /// The as-of already published, milliseconds.
        as_of: u64,
    },
}

impl PublishError {
    /// Whether the same may work later with nothing mended here.
    pub fn may_pass(&self) -> bool {
        match self {
            PublishError::Store(error) => error.may_pass(),
            PublishError::Redis(error) => error.may_pass(),
            _ => false,
        }
    }

    /// For `map_err`: the file system refused `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PublishError {
        move |source| PublishError::Io { action, path: path.to_owned(), source }
    }

    /// For `map_err`: `path` is not what it should be.
    pub(crate) fn unreadable<E: Into<BoxError>>(path: &Path, expected: &'static str) -> impl FnOnce(E) -> PublishError {
        move |source| PublishError::Unreadable { path: path.to_owned(), expected, source: source.into() }
    }

    /// For `map_err`: rows for `path` could not be encoded.
    pub(crate) fn encode<E: Into<BoxError>>(path: &Path) -> impl FnOnce(E) -> PublishError {
        move |source| PublishError::Encode { path: path.to_owned(), source: source.into() }
    }
}
