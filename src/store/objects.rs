//! The store as checkpoints ask for it: whole objects, durable when a call returns.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use storeflow_checkpoints::objects::{ObjectError, Objects, Writing};

use super::{Spool, Store, StoreError};

impl Store {
    fn object_error(&self, doing: &'static str, key: &str) -> impl FnOnce(StoreError) -> ObjectError {
        let place = self.place(key).display().to_string();
        move |source| ObjectError { doing, place, may_have_happened: source.may_have_happened(), source: Arc::new(source) }
    }
}

impl Objects for Store {
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        Store::put(self, key, bytes).map_err(self.object_error("could not write", key))
    }

    fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        Store::put_if_absent(self, key, bytes).map_err(self.object_error("could not create", key))
    }

    fn create(&self, key: &str) -> Result<Box<dyn Writing + '_>, ObjectError> {
        let begun = || {
            let spool = self.spool(key)?;
            let file = File::create(spool.path()).map_err(StoreError::io("create", spool.path()))?;
            Ok(Spooled { store: self, spool: Some(spool), file })
        };
        Ok(Box::new(begun().map_err(self.object_error("could not begin", key))?))
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, ObjectError> {
        Store::get(self, key).map_err(self.object_error("could not read", key))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, ObjectError> {
        Store::get_range(self, key, range).map_err(self.object_error("could not read", key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        Store::list(self, prefix).map_err(self.object_error("could not list", prefix))
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        Store::delete(self, key).map_err(self.object_error("could not delete", key))
    }

    fn place(&self, key: &str) -> String {
        Store::place(self, key).display().to_string()
    }
}

/// An object that is being written to a local file.
struct Spooled<'s> {
    store: &'s Store,
    spool: Option<Spool>,
    file: File,
}

impl Spooled<'_> {
    fn key(&self) -> String {
        self.spool.as_ref().map(|spool| spool.key().to_owned()).unwrap_or_default()
    }
}

impl Writing for Spooled<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        let Some(spool) = &self.spool else { return Ok(()) };
        let written = self.file.write_all(bytes).map_err(StoreError::io("write", spool.path()));
        written.map_err(self.store.object_error("could not write", spool.key()))
    }

    fn finish(mut self: Box<Self>) -> Result<(), ObjectError> {
        let (key, spool) = (self.key(), self.spool.take());
        let finished = self.store.show(spool.into_iter().collect()).and_then(|()| self.store.sync());
        finished.map_err(self.store.object_error("could not finish", &key))
    }
}

impl Drop for Spooled<'_> {
    /// What was not finished leaves nothing behind.
    fn drop(&mut self) {
        if let Some(spool) = self.spool.take()
            && let Err(error) = spool.discard()
        {
            tracing::warn!(%error, "could not remove an unfinished object");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_a_folder_appears_whole_and_on_stable_storage() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path()).unwrap();
        let objects: &dyn Objects = &store;
        let mut writing = objects.create("a/b").unwrap();
        writing.write(b"hello ").unwrap();
        assert_eq!((objects.get("a/b").unwrap(), objects.list("a").unwrap()), (None, vec![]));
        writing.write(b"world").unwrap();
        writing.finish().unwrap();
        assert_eq!(objects.get("a/b").unwrap().as_deref(), Some(&b"hello world"[..]));
        assert_eq!(store.unsynced(), 0, "nothing that was finished waits for a sync");
        assert_eq!(objects.get_range("a/b", 6..9).unwrap().as_deref(), Some(&b"wor"[..]));
        assert_eq!(objects.get_range("a/b", 6..99).unwrap().as_deref(), Some(&b"world"[..]));
        assert_eq!(objects.get_range("a/c", 0..9).unwrap(), None);
    }

    #[test]
    fn an_object_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path()).unwrap();
        let objects: &dyn Objects = &store;
        objects.create("a/b").unwrap().write(b"half").unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
    }
}
