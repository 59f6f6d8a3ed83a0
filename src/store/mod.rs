//! Where files go that outlive a run: a local folder, or a bucket of S3.
//!
//! ```text
//!  publish ── spool(key) ─► local file, written as rows come ── show ─► rename (folder) │ upload (S3)
//!          ── put, put_if_absent, get, list, delete ──────────────────► the same keys in both
//!  checkpoints ── the same, as they ask for it: `objects`
//! ```
//!
//! Upholds: (1) an object is there whole or not at all, under both kinds of store; (2) of several who put the same key if
//! it is absent, one learns that it did; (3) failures of a moment are tried again for a bounded time, and an error then
//! says on which object and whether the write may have happened; (4) no error and no log holds a secret.
//! Keeps: nothing of what is in the store. For S3 a runtime of two threads and a folder of files to be uploaded.
//! Absent on purpose: async outside (whoever calls may wait), a cache, and writing parts of objects.

pub mod address;
mod answer;
pub mod error;
mod folder;
mod objects;
mod profile;
mod s3;
mod settings;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use address::Address;
pub use error::StoreError;
use folder::Folder;
use s3::S3;

/// How to reach a store. A folder needs none of it.
#[derive(Clone)]
pub struct StoreOptions {
    /// The environment: credentials, region and endpoint by the conventions of AWS.
    pub environment: BTreeMap<String, String>,
    /// Whether the bucket is part of the path rather than of the host; `None`: if an endpoint is given.
    pub path_style: Option<bool>,
    /// Allows endpoints without TLS that are not this machine.
    pub allow_http: bool,
    /// How long a request that fails for a moment is tried again.
    pub retry_time: Duration,
    /// Where files wait for their upload; `None`: the system's folder for temporary files.
    pub spool: Option<PathBuf>,
}

/// Default of [`StoreOptions::retry_time`]: longer than an S3 partition takes to split, shorter than an operator's patience.
pub const RETRY_TIME: Duration = Duration::from_secs(180);

impl StoreOptions {
    /// What the process's environment says, and defaults.
    pub fn of_process() -> StoreOptions {
        // What is not text is none of ours.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        StoreOptions {
            environment: variables.collect(),
            path_style: None,
            allow_http: false,
            retry_time: RETRY_TIME,
            spool: None,
        }
    }
}

impl std::fmt::Debug for StoreOptions {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StoreOptions { environment: _, path_style, allow_http, retry_time, spool } = self;
        f.debug_struct("StoreOptions")
            .field("path_style", path_style)
            .field("allow_http", allow_http)
            .field("retry_time", retry_time)
            .field("spool", spool)
            .finish_non_exhaustive()
    }
}

/// A store; clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    address: Arc<Address>,
    kind: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    Folder(Folder),
    S3(Box<S3>),
}

/// A local file that is to become an object.
#[derive(Debug)]
pub struct Spool {
    key: String,
    path: PathBuf,
}

impl Spool {
    /// Where to write it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key it will have.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Removes the local file: it will not be shown.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn discard(self) -> Result<(), StoreError> {
        std::fs::remove_file(&self.path).map_err(StoreError::io("remove", &self.path))
    }
}

/// What is held while a run writes; released with the process however it ends.
#[derive(Debug)]
pub struct Exclusive {
    _lock: Option<File>,
}

impl Store {
    /// Opens a store that is there.
    ///
    /// # Errors
    /// If there is no such folder or bucket, or it cannot be reached or used with the credentials there are.
    pub fn open(address: &Address, options: &StoreOptions) -> Result<Store, StoreError> {
        if let Address::Folder(root) = address
            && !root.is_dir()
        {
            return Err(StoreError::NoFolder { path: root.clone() });
        }
        Store::create(address, options)
    }

    /// As [`Store::open`], but a folder that is missing is made.
    ///
    /// # Errors
    /// As [`Store::open`], or if the folder cannot be made.
    pub fn create(address: &Address, options: &StoreOptions) -> Result<Store, StoreError> {
        let kind = match address {
            Address::Folder(root) => {
                std::fs::create_dir_all(root).map_err(StoreError::io("create", root))?;
                Kind::Folder(Folder::new(root.clone()))
            }
            Address::S3 { bucket, prefix } => Kind::S3(Box::new(S3::open(bucket, prefix, options)?)),
        };
        Ok(Store { address: Arc::new(address.clone()), kind: Arc::new(kind) })
    }

    /// A local folder as a store, made if it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(root: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(root).map_err(StoreError::io("create", root))?;
        Ok(Store { address: Arc::new(root.into()), kind: Arc::new(Kind::Folder(Folder::new(root.to_owned()))) })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A key as people read it: a path of the folder, or a URL.
    pub fn place(&self, key: &str) -> PathBuf {
        self.address.place(key)
    }

    /// Takes the store for one run, where the kind of store can: a folder's lock. On S3 every run has keys of its own.
    ///
    /// # Errors
    /// If another run has it.
    pub fn exclusive(&self) -> Result<Exclusive, StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => Ok(Exclusive { _lock: Some(folder.lock()?) }),
            Kind::S3(_) => Ok(Exclusive { _lock: None }),
        }
    }

    /// Puts a small object; replaces what was there. It is on stable storage then.
    ///
    /// # Errors
    /// If it cannot be put; see [`StoreError::may_have_happened`].
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.put(key, &bytes),
            Kind::S3(s3) => s3.put(key, bytes),
        }
    }

    /// Puts a small object if there is none; says whether it did. Objects with the same bytes are taken for the same, as
    /// the answer to a first attempt may have been lost: put something in that nobody else has.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.put_if_absent(key, &bytes),
            Kind::S3(s3) => s3.put_if_absent(key, bytes),
        }
    }

    /// The same of an object that only the owner may read, where the store knows owners: in a folder.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_if_absent_private(&self, key: &str, bytes: Bytes) -> Result<bool, StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.put_if_absent_private(key, &bytes),
            Kind::S3(s3) => s3.put_if_absent(key, bytes),
        }
    }

    /// An object, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => Ok(folder.get(key)?.map(Bytes::from)),
            Kind::S3(s3) => s3.get(key),
        }
    }

    /// Some bytes of an object, if it is there; fewer if it ends before.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => Ok(folder.get_range(key, range)?.map(Bytes::from)),
            Kind::S3(s3) => s3.get_range(key, range),
        }
    }

    /// Visits objects in the order of `keys`; each is `None` if it is not there. From S3 several are fetched at a time.
    ///
    /// # Errors
    /// If one cannot be read, or what `visit` returns.
    pub fn get_each<E: From<StoreError>>(
        &self,
        keys: &[String],
        mut visit: impl FnMut(&str, Option<Bytes>) -> Result<(), E>,
    ) -> Result<(), E> {
        match &*self.kind {
            Kind::Folder(_) => keys.iter().try_for_each(|key| visit(key, self.get(key)?)),
            Kind::S3(s3) => keys.chunks(s3::AT_A_TIME).try_for_each(|keys| {
                let objects = s3.get_all(keys)?;
                keys.iter().zip(objects).try_for_each(|(key, bytes)| visit(key, bytes))
            }),
        }
    }

    /// The keys below a prefix (a folder's name, without a slash at its end), in bytewise order; none if there are none.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut keys = match &*self.kind {
            Kind::Folder(folder) => folder.list(prefix)?,
            Kind::S3(s3) => s3.list(prefix)?,
        };
        keys.sort_unstable();
        Ok(keys)
    }

    /// The names of the folders right below a prefix, in bytewise order.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut names = match &*self.kind {
            Kind::Folder(folder) => folder.folders(prefix)?,
            Kind::S3(s3) => s3.folders(prefix)?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes an object; it need not be there.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn delete(&self, key: &str) -> Result<(), StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.delete(key),
            Kind::S3(s3) => s3.delete(key),
        }
    }

    /// Deletes all objects below a prefix.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub fn delete_all(&self, prefix: &str) -> Result<(), StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.delete_all(prefix),
            Kind::S3(s3) => s3.delete_all(prefix),
        }
    }

    /// A local file in which an object of any size can be made; nothing of it is seen before [`Store::show`].
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn spool(&self, key: &str) -> Result<Spool, StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.spool(key),
            Kind::S3(s3) => s3.spool(key),
        }
    }

    /// Gives local files their final names, or uploads them, several at a time, and removes them. In a folder they stay
    /// after a loss of power only once [`Store::sync`] was called.
    ///
    /// # Errors
    /// If one of them cannot be shown; others may have been.
    pub fn show(&self, spools: Vec<Spool>) -> Result<(), StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => spools.iter().try_for_each(|spool| folder.show(spool)),
            Kind::S3(s3) => s3.show(spools),
        }
    }

    /// Puts all that this process has shown on stable storage. On S3 it is there already.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn sync(&self) -> Result<(), StoreError> {
        match &*self.kind {
            Kind::Folder(folder) => folder.sync(),
            Kind::S3(_) => Ok(()),
        }
    }

    /// How many paths have been shown and are not on stable storage yet.
    #[cfg(test)]
    pub(crate) fn unsynced(&self) -> usize {
        match &*self.kind {
            Kind::Folder(folder) => folder.unsynced().len(),
            Kind::S3(_) => 0,
        }
    }
}
