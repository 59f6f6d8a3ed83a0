//! Who asks: keys by their hash, and what each may see.
//!
//! ```text
//! key file ─► KeySpec … ─► Keys ◄── find(hash of what was sent) ─► Key { Access, Limit }
//!     ▲                      │
//!     └── looked at again ───┘   every two seconds in which somebody asks
//! ```
//!
//! Upholds: (1) a key that was taken out, limited or has expired is refused within five seconds, without a restart; (2) a file that is gone or wrong
//! changes nothing but the log; (3) the state of a limit outlives a change of the file, so that nobody gets a new burst by it.
//! Keeps: hashes, not keys. A key is 256 random bits, so that SHA-256 alone hides it: there is no list of likely keys to try. It is looked up
//! by its hash in a hash map, which takes a time that depends on hashes only; who asks cannot choose a hash, so what the time tells leads
//! nowhere near a key.
//! Absent on purpose: watching by the system's notices, which do not cross every mount, and a thread: a look is taken when somebody asks, so
//! that a process that was frozen meanwhile (a Lambda function) looks before it answers.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::limits::Limit;
use crate::config::key_file::{self, Digest, KEY_PREFIX, KeyFileError, KeySpec};

/// Requests per second of a key where neither its entry nor the server says otherwise.
pub const RATE_DEFAULT: NonZeroU32 = NonZeroU32::new(100).expect("not 0");

/// How long what is known of the file counts.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// Nobody but the owner reads or writes it.
const MODE_OF_OTHERS: u32 = 0o077;

/// Who asks, and what may be seen. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    id: Option<Arc<str>>,
    stores: Option<Arc<BTreeSet<String>>>,
    rate: Option<NonZeroU32>,
}

impl Access {
    /// Whoever asks a server without keys.
    pub fn everything() -> Access {
        Access { id: None, stores: None, rate: None }
    }

    /// The key's id; `None` where there are no keys.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Requests per second; `None` where there are no keys.
    pub fn rate(&self) -> Option<NonZeroU32> {
        self.rate
    }

    /// Whether it may see a store. Nothing is said of whether that exists.
    pub fn may_see(&self, store: &str) -> bool {
        self.stores().is_none_or(|stores| stores.contains(store))
    }

    /// Whether it may see what is of all stores.
    pub fn sees_all(&self) -> bool {
        self.stores.is_none()
    }

    /// The stores it may see; `None`: all.
    pub fn stores(&self) -> Option<&BTreeSet<String>> {
        self.stores.as_deref()
    }
}

/// A key that is in use.
pub struct Key {
    /// What it may see.
    pub access: Access,
    /// How often it may ask.
    pub limit: Limit,
    /// When it ends, milliseconds since 1970.
    expires: Option<u64>,
}

/// The keys of a file, followed.
pub struct Keys {
    path: PathBuf,
    rate: NonZeroU32,
    held: RwLock<HashMap<Digest, Arc<Key>>>,
    look: Mutex<Look>,
}

/// The last look at the file.
struct Look {
    at: Instant,
    /// Of the text that counts.
    hash: u128,
    /// What was wrong with it, which is told once.
    trouble: Option<String>,
}

impl Keys {
    /// Reads the file; `rate` is of keys whose entry says none.
    ///
    /// # Errors
    /// If it cannot be read or is wrong.
    pub fn open(path: &Path, rate: NonZeroU32) -> Result<Keys, KeyFileError> {
        let bytes = key_file::read(path)?;
        let specs = key_file::parse(&bytes, &path.display().to_string())?;
        let look = Look { at: Instant::now(), hash: xxhash_rust::xxh3::xxh3_128(&bytes), trouble: None };
        let keys = Keys { path: path.to_owned(), rate, held: RwLock::default(), look: Mutex::new(look) };
        keys.take(specs);
        Ok(keys)
    }

    /// The key of a hash, unless it has expired at `now`, milliseconds since 1970.
    pub fn find(&self, digest: &Digest, now: u64) -> Option<Arc<Key>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(digest).filter(|key| key.expires.is_none_or(|expires| now < expires)).cloned()
    }

    /// Whether it is time to [`look_again`](Keys::look_again). Not while somebody does.
    pub fn is_due(&self) -> bool {
        match self.look.try_lock() {
            Ok(look) => look.at.elapsed() >= LOOK_EVERY,
            Err(TryLockError::Poisoned(_)) => true,
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Looks at the file, if it is time. Waits for the file system.
    pub fn look_again(&self) {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if look.at.elapsed() >= LOOK_EVERY {
            self.look_now(&mut look);
            look.at = Instant::now();
        }
    }

    /// By content: a file that is put in the place of another may have its time and size.
    fn look_now(&self, look: &mut Look) {
        let file = self.path.display().to_string();
        let read = key_file::read(&self.path).and_then(|bytes| {
            let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
            let changed = hash != look.hash;
            Ok((hash, if changed { Some(key_file::parse(&bytes, &file)?) } else { None }))
        });
        match read {
            Ok((hash, specs)) => {
                look.hash = hash;
                if let Some(specs) = specs {
                    self.take(specs);
                } else if look.trouble.is_some() {
                    tracing::info!(file, "API keys are as they were");
                }
                look.trouble = None;
            }
            Err(error) => {
                let trouble = format!("{:#}", anyhow::Error::from(error)).replace('\n', "; ");
                if look.trouble.as_ref() != Some(&trouble) {
                    tracing::error!(file, error = trouble, "API keys could not be read again; those of before count");
                    look.trouble = Some(trouble);
                }
            }
        }
    }

    fn take(&self, specs: Vec<KeySpec>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let before: HashMap<_, _> = held.drain().map(|(digest, key)| (key.access.id.clone(), (digest, key))).collect();
        for spec in specs {
            let access = Access {
                id: Some(spec.id.into()),
                stores: spec.stores.map(Arc::new),
                rate: Some(spec.rate.unwrap_or(self.rate)),
            };
            let same = before
                .get(&access.id)
                .filter(|(digest, key)| *digest == spec.digest && key.access == access && key.expires == spec.expires);
            let key = match same {
                Some((_, key)) => Arc::clone(key),
                None => Arc::new(Key { limit: Limit::new(access.rate.unwrap_or(self.rate)), access, expires: spec.expires }),
            };
            held.insert(spec.digest, key);
        }
        let file = self.path.display();
        tracing::info!(%file, keys = held.len(), "API keys read");
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.mode() & MODE_OF_OTHERS != 0 => {
                tracing::warn!(%file, mode = format!("{:o}", metadata.mode() & 0o777), "others than its owner may read or change the API keys; chmod 600");
            }
            _ => {}
        }
    }
}

/// What a key is known by.
pub fn digest_of(key: &str) -> Digest {
    Digest(Sha256::digest(key.as_bytes()).into())
}

/// A new key, from the system's random numbers.
///
/// # Errors
/// If there are none to be had.
pub fn new_key() -> Result<String, getrandom::Error> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Wall time, milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RATE: NonZeroU32 = RATE_DEFAULT;

    fn entry(id: &str, key: &str, more: &str) -> String {
        format!("[[key]]\nid = \"{id}\"\nsha256 = \"{}\"\n{more}\n", digest_of(key).hex())
    }

    /// A look whose time has come.
    fn look(keys: &Keys) {
        keys.look_now(&mut keys.look.lock().expect("one thread"));
    }

    fn trouble(keys: &Keys) -> Option<String> {
        keys.look.lock().expect("one thread").trouble.clone()
    }

    #[test]
    fn keys_are_random_and_found_by_their_hash() {
        let (one, other) = (new_key().expect("random"), new_key().expect("random"));
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..4]), (47, "sfk_"));
        // As anybody makes it: printf %s abc | sha256sum
        assert_eq!(digest_of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_key_sees_its_stores_until_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        let ends = "stores = [\"7\"]\nexpires = 2027-01-01T00:00:00Z";
        fs::write(&path, entry("all", "a", "rate = 3") + &entry("owner", "b", ends)).expect("written");
        let keys = Keys::open(&path, RATE).expect("right");
        let found = |key: &str, now| keys.find(&digest_of(key), now).map(|key| key.access.clone());
        let all = found("a", 0).expect("known");
        assert!(all.may_see("8") && all.sees_all() && all.stores().is_none());
        assert_eq!((all.id(), all.rate()), (Some("all"), NonZeroU32::new(3)));
        let owner = found("b", 1_798_761_599_999).expect("known");
        assert!(owner.may_see("7") && !owner.may_see("8") && !owner.may_see("") && !owner.sees_all());
        assert_eq!((owner.id(), owner.rate()), (Some("owner"), Some(RATE)));
        assert_eq!(found("b", 1_798_761_600_000), None);
        assert_eq!(found("c", 0), None);
        // The hash opens nothing.
        assert_eq!(found(&digest_of("a").hex(), 0), None);
        let anybody = Access::everything();
        assert!(anybody.may_see("7") && anybody.sees_all() && anybody.id().is_none());
    }

    #[test]
    fn the_file_is_followed_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        fs::write(&path, entry("one", "1", "") + &entry("two", "2", "")).expect("written");
        let keys = Keys::open(&path, RATE).expect("right");
        let found = |key: &str| keys.find(&digest_of(key), 0);
        let (one, two) = (found("1").expect("known"), found("2").expect("known"));
        // As long as the text before: neither time nor size need tell them apart.
        fs::write(&path, entry("one", "1", "") + &entry("six", "6", "")).expect("written");
        look(&keys);
        assert!(Arc::ptr_eq(&found("1").expect("known"), &one), "its limit goes on");
        assert!(found("2").is_none() && found("6").is_some());
        for damage in [Some("[[key]]\n"), None] {
            match damage {
                Some(text) => fs::write(&path, text).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            look(&keys);
            assert!(found("1").is_some() && found("6").is_some() && trouble(&keys).is_some());
        }
        fs::write(&path, entry("one", "1", "stores = [\"7\"]")).expect("written");
        look(&keys);
        assert_eq!(trouble(&keys), None);
        assert!(!found("1").expect("known").access.sees_all() && found("6").is_none());
        assert!(two.access.sees_all());
    }

    #[test]
    fn a_file_that_is_wrong_from_the_beginning_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = Keys::open(&folder.path().join("none"), RATE).err().expect("missing");
        assert!(matches!(missing, KeyFileError::Unreadable { .. }), "{missing}");
    }
}
