//! What can be wrong with what a store holds, told apart from a store that does not answer.

use crate::objects::ObjectError;

/// Why an object of state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Its bytes are not those that were written.
    #[error("{place} is damaged: {what}")]
    Damaged {
        /// The object, as people read it.
        place: String,
        /// What is wrong, and where in the object.
        what: String,
    },
    /// It is not there.
    #[error("{place} is missing")]
    Missing {
        /// The object, as people read it.
        place: String,
    },
    /// Another version of storeflow wrote it.
    #[error(
        "{place} has format version {found}, and this build reads version {known}: run the build that wrote it, or a later one"
    )]
    Format {
        /// The object, as people read it.
        place: String,
        /// The version in it.
        found: u32,
        /// The version that this build knows.
        known: u32,
    },
    /// The store refused, or did not answer.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl CheckpointError {
    /// Whether the object itself is lost: trying again does not help, an older state and a replay do. Otherwise the store is out
    /// of reach, or another build has to read it, and the object may be whole.
    pub fn is_damage(&self) -> bool {
        match self {
            CheckpointError::Damaged { .. } | CheckpointError::Missing { .. } => true,
            CheckpointError::Format { .. } | CheckpointError::Objects(_) => false,
        }
    }
}
