//! What checkpoints ask of a store: whole objects under keys, and one create that only one can win.
//!
//! The program's folders and buckets implement it, and so does the simulation of the tests, which crashes at every step.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// A store refused, or did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{doing} {place}")]
pub struct ObjectError {
    /// What was tried: `could not write`.
    pub doing: &'static str,
    /// On what, as people read it.
    pub place: String,
    /// Whether it may have happened all the same.
    pub may_have_happened: bool,
    /// Why.
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

/// A store of whole objects. Failures of a moment were tried again inside.
pub trait Objects: Send + Sync {
    /// Puts an object, whole, on stable storage; replaces what was there.
    ///
    /// # Errors
    /// If it cannot be put.
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError>;

    /// Puts an object if there is none, on stable storage; whether it did. Of several who try, one is told so.
    ///
    /// # Errors
    /// If it cannot be put, or it is not known whether it was.
    fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError>;

    /// Begins an object of any size; nothing of it is seen before [`Writing::finish`].
    ///
    /// # Errors
    /// If it cannot be begun.
    fn create(&self, key: &str) -> Result<Box<dyn Writing + '_>, ObjectError>;

    /// An object, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get(&self, key: &str) -> Result<Option<Bytes>, ObjectError>;

    /// Some bytes of an object, if it is there; fewer if it ends before.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, ObjectError>;

    /// The keys below a prefix (a folder's name, without a slash at its end), in bytewise order.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError>;

    /// Deletes an object; it need not be there.
    ///
    /// # Errors
    /// If it cannot be deleted.
    fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// A key as people read it: a path, or a URL.
    fn place(&self, key: &str) -> String;
}

/// An object that is being written.
pub trait Writing {
    /// Adds bytes.
    ///
    /// # Errors
    /// If they cannot be kept.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError>;

    /// The object is whole: it appears, on stable storage.
    ///
    /// # Errors
    /// If it cannot be made to appear.
    fn finish(self: Box<Self>) -> Result<(), ObjectError>;
}
