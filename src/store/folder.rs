//! A store in a local folder: names appear by rename, and stay after `sync`.
//!
//! Upholds: (1) what has its final name is whole; (2) after [`Folder::sync`], all that this process has shown before is on
//! stable storage, with the folders it is in.
//! Keeps: the paths shown and not yet on stable storage; the operating system's lock is kept by whoever took it.
//! Absent on purpose: putting each file on stable storage as it comes. A file system commits what is asked for at the same
//! time in one go: 400 files take 60 ms together and 20 times as long one after the other.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Spool;
use super::error::StoreError;

/// Files put on stable storage at the same time.
const SYNC_THREADS: usize = 16;

/// Modes of files: as the process's mask lets them be, and for their owner only.
const EVERYBODY: u32 = 0o666;
const OWNER: u32 = 0o600;

/// A store in a local folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Shown, with the folders above them, and not yet on stable storage.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Folder {
        Folder { root, unsynced: Mutex::default() }
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.root.clone() } else { self.root.join(key) }
    }

    pub(super) fn lock(&self) -> Result<File, StoreError> {
        let path = self.root.join("lock");
        let file =
            File::options().write(true).create(true).truncate(false).open(&path).map_err(StoreError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: self.root.clone() }),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// Replaces a small file: the old or the new one is there, whole, whatever happens.
    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(key);
        let temporary = write_temporary(&path, bytes, EVERYBODY)?;
        std::fs::rename(&temporary, &path).map_err(StoreError::io("rename to", &path))?;
        self.sync_above(&path)
    }

    /// Creates a small file, unless there is one. A link to a whole file either appears or it does not.
    pub(super) fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        self.link(key, bytes, EVERYBODY)
    }

    /// The same for the owner only.
    pub(super) fn put_if_absent_private(&self, key: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        self.link(key, bytes, OWNER)
    }

    fn link(&self, key: &str, bytes: &[u8], mode: u32) -> Result<bool, StoreError> {
        let path = self.path(key);
        let temporary = write_temporary(&path, bytes, mode)?;
        let linked = std::fs::hard_link(&temporary, &path);
        std::fs::remove_file(&temporary).map_err(StoreError::io("remove", &temporary))?;
        match linked {
            Ok(()) => self.sync_above(&path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StoreError::io("create", &path)(error)),
        }
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key);
        match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read.map_err(StoreError::io("read", &path))?)),
        }
    }

    pub(super) fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key);
        let read = || {
            let file = File::open(&path)?;
            let len = range.end.min(file.metadata()?.len()).saturating_sub(range.start);
            let mut bytes = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        };
        match read() {
            Err(error) if ErrorKind::NotFound == std::io::Error::kind(&error) => Ok(None),
            read => Ok(Some(read.map_err(StoreError::io("read", &path))?)),
        }
    }

    /// The keys below a prefix. Hidden files are somebody's unfinished writes.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        while let Some(folder) = folders.pop() {
            for (name, is_folder) in self.entries(&folder)? {
                let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if is_folder { folders.push(key) } else { keys.push(key) }
            }
        }
        Ok(keys)
    }

    pub(super) fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.entries(prefix)?.into_iter().filter_map(|(name, is_folder)| is_folder.then_some(name)).collect())
    }

    /// The entries of a folder that are not hidden, and whether each is a folder; none if there is no such folder.
    fn entries(&self, prefix: &str) -> Result<Vec<(String, bool)>, StoreError> {
        let dir = self.path(prefix);
        let list = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            list => list.map_err(StoreError::io("list", &dir))?,
        };
        let mut entries = Vec::new();
        for entry in list {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            if let Some(name) = entry.file_name().to_str()
                && !name.starts_with('.')
            {
                entries.push((name.to_owned(), entry.path().is_dir()));
            }
        }
        Ok(entries)
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key);
        gone(std::fs::remove_file(&path)).map_err(StoreError::io("remove", &path))
    }

    pub(super) fn delete_all(&self, prefix: &str) -> Result<(), StoreError> {
        let path = self.path(prefix);
        gone(std::fs::remove_dir_all(&path)).map_err(StoreError::io("remove", &path))
    }

    pub(super) fn spool(&self, key: &str) -> Result<Spool, StoreError> {
        let path = self.path(key);
        create_parent(&path)?;
        Ok(Spool { key: key.to_owned(), path: temporary(&path) })
    }

    pub(super) fn show(&self, spool: &Spool) -> Result<(), StoreError> {
        let path = self.path(&spool.key);
        std::fs::rename(&spool.path, &path).map_err(StoreError::io("rename to", &path))?;
        let mut unsynced = self.unsynced();
        for path in path.ancestors().take_while(|path| path.starts_with(&self.root)) {
            if !unsynced.insert(path.to_owned()) {
                break;
            }
        }
        Ok(())
    }

    /// Puts all that was shown since the last time on stable storage, side by side, as waiting for the disk is all there is
    /// to it.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let paths: Vec<PathBuf> = std::mem::take(&mut *self.unsynced()).into_iter().collect();
        let next = AtomicUsize::new(0);
        let synced = std::thread::scope(|scope| {
            let sync_some = || {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    sync(path)?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..SYNC_THREADS.min(paths.len())).map(|_| scope.spawn(sync_some)).collect();
            let broken = || StoreError::Broken { place: self.root.display().to_string() };
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(broken())))
        });
        if synced.is_err() {
            self.unsynced().extend(paths);
        }
        synced
    }

    pub(super) fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the entries of the folders above a file on stable storage.
    fn sync_above(&self, path: &Path) -> Result<(), StoreError> {
        path.ancestors().skip(1).take_while(|path| path.starts_with(&self.root)).try_for_each(sync)
    }
}

/// What is not there need not be removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The name a file has while it is being written. No pattern of engines (`*.parquet`, `*.ndjson`) matches it.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

fn create_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent).map_err(StoreError::io("create", parent)),
        None => Ok(()),
    }
}

/// Writes what is to become `path`, under a name that nobody else writes to: several may put the same key.
fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, StoreError> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    create_parent(path)?;
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let temporary = temporary(path).with_extension(format!("{}-{number}.tmp", std::process::id()));
    let open = File::options().write(true).create(true).truncate(true).mode(mode).open(&temporary);
    let mut file = open.map_err(StoreError::io("create", &temporary))?;
    file.write_all(bytes).map_err(StoreError::io("write", &temporary))?;
    file.sync_all().map_err(StoreError::io("sync", &temporary))?;
    Ok(temporary)
}

/// Puts a file or a folder's entries on stable storage.
fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", path))
}
