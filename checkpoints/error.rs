//! Why a checkpoint could not be found, read, or committed, and what to do about it.

use crate::objects::ObjectError;

/// Why the log of a generation's checkpoints did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A manifest is not what was written.
    #[error(
        "the manifest {place} is damaged: {what}; put back an intact copy, or go back to an earlier checkpoint: \
         `storeflow checkpoints list` shows them, `storeflow checkpoints drop-after` makes one the newest"
    )]
    Damaged {
        /// The manifest.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// A program that this one does not know wrote it.
    #[error(
        "the manifest {place} has format {found}, and this program reads format {known}: \
         run the version that wrote it, or a newer one"
    )]
    Format {
        /// The manifest.
        place: String,
        /// Its format.
        found: u32,
        /// The only one known here.
        known: u32,
    },
    /// The manifest belongs elsewhere.
    #[error(
        "the manifest {place} belongs to generation {found_generation} of job \"{found_job}\", \
         not to generation {generation} of job \"{job}\": was it copied here, or is the store's address another job's?"
    )]
    Job {
        /// The manifest.
        place: String,
        /// Whose it is.
        found_job: String,
        /// Of which generation.
        found_generation: u64,
        /// Whose was wanted.
        job: String,
        /// Of which generation.
        generation: u64,
    },
    /// The sequence has a hole.
    #[error(
        "manifest {number} is missing ({place}), though there are earlier and later ones: something other than storeflow deleted it; \
         put it back (versions of the bucket, a backup), or build the state anew in a new generation"
    )]
    Gap {
        /// The number that is not there.
        number: u64,
        /// Where it would be.
        place: String,
    },
    /// There is state of checkpoints that there must have been.
    #[error(
        "manifest {number} is missing ({place}): {object} was written after it had been committed, so something other than \
         storeflow deleted it; put the manifests back (versions of the bucket, a backup), or build the state anew in a new generation"
    )]
    Lost {
        /// The first number that is not there.
        number: u64,
        /// Where it would be.
        place: String,
        /// The object that proves it.
        object: String,
    },
    /// No such manifest.
    #[error("there is no manifest {number} ({place}); `storeflow checkpoints list` shows those there are")]
    Missing {
        /// The number that was asked for.
        number: u64,
        /// Where it would be.
        place: String,
    },
    /// The checkpoint's objects are gone, or may be at any moment.
    #[error(
        "checkpoint {number} cannot be loaded any more: {what}; `storeflow checkpoints list` shows which can, \
         and a run's `--keep` says how many stay"
    )]
    Collected {
        /// The checkpoint.
        number: u64,
        /// How that is known.
        what: String,
    },
    /// Somebody else committed the checkpoint that was to follow.
    #[error(
        "checkpoint {number} was committed by run \"{run}\" ({place}), so this run no longer owns the job and must stop; \
         it has shown nothing that it did not commit. If that run is not wanted, stop it before starting this one again"
    )]
    Superseded {
        /// The checkpoint that was lost to another run.
        number: u64,
        /// Who won.
        run: String,
        /// Its manifest.
        place: String,
    },
    /// It is not known whether the checkpoint was committed.
    #[error("no answer whether the manifest {place} was created; started again, the run finds out which it was")]
    Unconfirmed {
        /// The manifest.
        place: String,
        /// What the store said.
        source: ObjectError,
    },
    /// The store refused, or did not answer.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl LogError {
    /// Whether the same may succeed later, or in another try, without anybody's help.
    pub fn is_outage(&self) -> bool {
        matches!(self, LogError::Objects(_) | LogError::Unconfirmed { .. })
    }
}
