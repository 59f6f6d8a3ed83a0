//! A store in a bucket of S3, or of a server that speaks like it. Blocking outside, a small runtime inside.
//!
//! ```text
//! one request ─► answer ─┬─ done
//!        ▲               ├─ refused for good ──────────────► error, certainly not done
//!        └── pause ◄─────┴─ trouble of a moment, in time     too late ─► error that says whether it may have been done
//! ```
//!
//! Upholds: (1) each request is tried again on its own, so that a large upload goes on where it was cut; (2) a conditional
//! put whose answer was lost is read back before it counts as somebody else's; (3) memory for uploads is bounded by
//! [`AT_A_TIME`] parts.
//! Keeps: a runtime, a client with its connections, and the folder of files to be uploaded.
//! Absent on purpose: the client's own retries, which know neither the object's name nor what may be repeated.

use std::fs::File;
use std::future::Future;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::answer::{Answer, Meaning};
use super::error::StoreError;
use super::settings::Settings;
use super::{Spool, StoreOptions};

/// Requests under way at most, and objects fetched together: with parts of 8 MiB this bounds memory at 64 MiB, and few
/// connections already fill one.
pub(super) const AT_A_TIME: usize = 8;

/// The least size of a part; smaller files go in one request.
const PART_BYTES: u64 = 8 << 20;

/// Parts of one object at most; S3 allows 10,000.
const PARTS: u64 = 9_000;

/// How long the first request is tried at most: whoever starts a run wants to know soon that the endpoint is wrong.
const PROBE_TIME: Duration = Duration::from_secs(10);

/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Longest time for one request: a part over a slow line.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// A bucket and a prefix in it.
pub(super) struct S3 {
    client: Arc<AmazonS3>,
    bucket: String,
    prefix: String,
    endpoint: String,
    credentials: String,
    retry_time: Duration,
    spool: PathBuf,
    /// Files made in `spool` so far, which are named by it.
    spooled: AtomicU64,
    slots: Semaphore,
    runtime: Runtime,
}

impl std::fmt::Debug for S3 {
    /// Without the client, which holds credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bucket, prefix, endpoint) = (&self.bucket, &self.prefix, &self.endpoint);
        f.debug_struct("S3").field("bucket", bucket).field("prefix", prefix).field("endpoint", endpoint).finish_non_exhaustive()
    }
}

/// A request that was given up.
struct Failed {
    answer: Answer,
    tried: Duration,
    /// An attempt before the last, or the last, may have been carried out.
    uncertain: bool,
}

impl S3 {
    pub(super) fn open(bucket: &str, prefix: &str, options: &StoreOptions) -> Result<S3, StoreError> {
        static SPOOLS: AtomicU64 = AtomicU64::new(0);
        let settings = Settings::resolve(options)?;
        let (endpoint, credentials) = (settings.shown_endpoint(), settings.credentials.clone());
        let client_options = ClientOptions::new().with_timeout(REQUEST_TIME).with_connect_timeout(Duration::from_secs(5));
        let no_retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let client = settings.builder(bucket, options, client_options).with_retry(no_retries).build();
        // Errors of the builder name keys of settings, and values only of those that are no secrets.
        let client = client.map_err(|error| StoreError::Settings { what: Answer::of(&error).to_string() })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("s3").enable_all().build();
        let runtime = runtime.map_err(StoreError::io("start threads for", Path::new(&endpoint)))?;
        let spool = options.spool.clone().unwrap_or_else(std::env::temp_dir);
        let number = SPOOLS.fetch_add(1, Ordering::Relaxed);
        let s3 = S3 {
            client: Arc::new(client),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint,
            credentials,
            retry_time: options.retry_time,
            spool: spool.join(format!("storeflow-spool-{}-{number}", std::process::id())),
            spooled: AtomicU64::new(0),
            slots: Semaphore::new(AT_A_TIME),
            runtime,
        };
        s3.probe()?;
        Ok(s3)
    }

    /// One request that shows whether endpoint, bucket and credentials serve.
    fn probe(&self) -> Result<(), StoreError> {
        let limit = PROBE_TIME.min(self.retry_time);
        let prefix = self.object("");
        let first = || async { self.client.list(Some(&prefix)).next().await.transpose().map(|_| ()) };
        let probed = self.runtime.block_on(self.tried("list", "", limit, first));
        probed.map_err(|failed| match failed.answer.meaning {
            Meaning::Passing => {
                StoreError::Unreachable { endpoint: self.endpoint.clone(), tried: failed.tried, source: failed.answer.into() }
            }
            _ => self.error("list", "", false, failed),
        })
    }

    pub(super) fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.runtime.block_on(self.put_whole(key, bytes))
    }

    pub(super) fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, StoreError> {
        self.runtime.block_on(async {
            let (began, path) = (Instant::now(), self.object(key));
            loop {
                let put = || self.client.put_opts(&path, bytes.clone().into(), PutOptions::from(PutMode::Create));
                let failed = match self.once("create", key, put).await {
                    Ok(_) => return Ok(true),
                    Err(failed) => failed,
                };
                if !matches!(failed.answer.meaning, Meaning::Exists | Meaning::Passing) {
                    return Err(self.error("create", key, true, failed));
                }
                // A lost answer, or a conflict with another put under way: what is there now decides.
                match self.get_async(key).await? {
                    Some(found) => return Ok(found == bytes),
                    None if began.elapsed() >= self.retry_time => {
                        let tried = began.elapsed();
                        return Err(self.error("create", key, true, Failed { tried, uncertain: true, ..failed }));
                    }
                    None => tokio::time::sleep(PAUSES.0 * 4).await,
                }
            }
        })
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.runtime.block_on(self.get_async(key))
    }

    pub(super) fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let path = self.object(key);
        let options = || GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let get = || async { self.client.get_opts(&path, options()).await?.bytes().await };
        match self.runtime.block_on(self.tried("get", key, self.retry_time, get)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(failed) if failed.answer.meaning == Meaning::NotFound => Ok(None),
            // Servers refuse ranges of no bytes, and those that begin beyond the end: of an object that is shorter than it was.
            Err(failed) if failed.answer.meaning == Meaning::Refused => Ok(self.get(key)?.map(|bytes| {
                let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(within(range.start)..within(range.end).max(within(range.start)))
            })),
            Err(failed) => Err(self.error("get", key, false, failed)),
        }
    }

    pub(super) fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.runtime
            .block_on(async { stream::iter(keys.iter().map(|key| self.get_async(key))).buffered(AT_A_TIME).try_collect().await })
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.runtime.block_on(self.list_async(prefix))
    }

    pub(super) fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let root = self.object(prefix);
        let list = || self.client.list_with_delimiter(Some(&root));
        let listed = self.runtime.block_on(self.tried("list", prefix, self.retry_time, list));
        let listed = listed.map_err(|failed| self.error("list", prefix, false, failed))?;
        Ok(listed.common_prefixes.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect())
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.runtime.block_on(self.delete_async(key))
    }

    pub(super) fn delete_all(&self, prefix: &str) -> Result<(), StoreError> {
        self.runtime.block_on(async {
            // One by one: servers differ in what they want of a request that deletes many.
            let keys = self.list_async(prefix).await?;
            stream::iter(keys.iter().map(|key| Ok::<_, StoreError>(self.delete_async(key))))
                .try_buffer_unordered(AT_A_TIME)
                .try_collect::<()>()
                .await
        })
    }

    pub(super) fn spool(&self, key: &str) -> Result<Spool, StoreError> {
        // Dead letters wait here too: for the owner only.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(&self.spool).map_err(StoreError::io("create", &self.spool))?;
        let name = self.spooled.fetch_add(1, Ordering::Relaxed).to_string();
        Ok(Spool { key: key.to_owned(), path: self.spool.join(name) })
    }

    pub(super) fn show(&self, spools: Vec<Spool>) -> Result<(), StoreError> {
        self.runtime.block_on(async {
            stream::iter(spools.iter().map(|spool| Ok(self.upload(spool))))
                .try_buffer_unordered(AT_A_TIME)
                .try_collect::<()>()
                .await
        })
    }

    async fn upload(&self, spool: &Spool) -> Result<(), StoreError> {
        let file = File::open(&spool.path).map_err(StoreError::io("read", &spool.path))?;
        let size = file.metadata().map_err(StoreError::io("read", &spool.path))?.len();
        let file = Arc::new(file);
        if size <= PART_BYTES {
            let _slot = self.slots.acquire().await;
            let bytes = read(&file, spool, 0, size).await?;
            self.put_whole(&spool.key, bytes).await?;
        } else {
            self.upload_parts(spool, &file, size).await?;
        }
        std::fs::remove_file(&spool.path).map_err(StoreError::io("remove", &spool.path))
    }

    async fn upload_parts(&self, spool: &Spool, file: &Arc<File>, size: u64) -> Result<(), StoreError> {
        let (key, path) = (&*spool.key, self.object(&spool.key));
        let fail = |failed| self.error("upload", key, false, failed);
        let begin = || self.client.create_multipart(&path);
        let upload = self.tried("upload", key, self.retry_time, begin).await.map_err(fail)?;
        let part_bytes = size.div_ceil(PARTS).max(PART_BYTES);
        let part = |at: u64| {
            let (upload, path) = (&upload, &path);
            async move {
                let _slot = self.slots.acquire().await;
                let (start, index) = (at * part_bytes, at as usize);
                let bytes = read(file, spool, start, part_bytes.min(size - start)).await?;
                let put = || self.client.put_part(path, upload, index, PutPayload::from(bytes.clone()));
                self.tried("upload", key, self.retry_time, put).await.map_err(fail)
            }
        };
        let parts = stream::iter((0..size.div_ceil(part_bytes)).map(part)).buffered(AT_A_TIME);
        let parts: Result<Vec<PartId>, StoreError> = parts.try_collect().await;
        let done = match parts {
            Ok(parts) => {
                let complete = || async {
                    match self.client.complete_multipart(&path, &upload, parts.clone()).await {
                        // An answer that was lost: the upload is gone because it has become the object.
                        Err(object_store::Error::NotFound { path: missing, source }) => match self.client.head(&path).await {
                            Ok(found) if found.size == size => Ok(()),
                            _ => Err(object_store::Error::NotFound { path: missing, source }),
                        },
                        completed => completed.map(|_| ()),
                    }
                };
                let completed = self.tried("upload", key, self.retry_time, complete).await;
                completed.map_err(|failed| self.error("upload", key, true, failed))
            }
            Err(error) => Err(error),
        };
        if done.as_ref().is_err_and(|error| !error.may_have_happened()) {
            // Parts without an object cost money; if they cannot be removed now, a lifecycle rule of the bucket will.
            if let Err(error) = self.client.abort_multipart(&path, &upload).await {
                tracing::warn!(%key, error = %Answer::of(&error), "could not remove the parts of an upload that failed");
            }
        }
        done
    }

    async fn put_whole(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.object(key);
        let put = || self.client.put(&path, PutPayload::from(bytes.clone()));
        let done = self.tried("put", key, self.retry_time, put).await;
        done.map(|_| ()).map_err(|failed| self.error("put", key, true, failed))
    }

    async fn get_async(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.object(key);
        let get = || async { self.client.get(&path).await?.bytes().await };
        match self.tried("get", key, self.retry_time, get).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(failed) if failed.answer.meaning == Meaning::NotFound => Ok(None),
            Err(failed) => Err(self.error("get", key, false, failed)),
        }
    }

    async fn list_async(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let root = self.object(prefix);
        let list = || async { self.client.list(Some(&root)).map_ok(|found| found.location).try_collect::<Vec<_>>().await };
        let found = self.tried("list", prefix, self.retry_time, list).await;
        let found = found.map_err(|failed| self.error("list", prefix, false, failed))?;
        let skip = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        Ok(found.iter().filter_map(|path| path.as_ref().get(skip..).map(str::to_owned)).collect())
    }

    async fn delete_async(&self, key: &str) -> Result<(), StoreError> {
        let path = self.object(key);
        match self.tried("delete", key, self.retry_time, || self.client.delete(&path)).await {
            Err(failed) if failed.answer.meaning != Meaning::NotFound => Err(self.error("delete", key, true, failed)),
            _ => Ok(()),
        }
    }

    /// One attempt.
    async fn once<T, F>(&self, action: &'static str, key: &str, one: impl FnMut() -> F) -> Result<T, Failed>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        self.tried(action, key, Duration::ZERO, one).await
    }

    /// Tries until it is done, refused, or `limit` has passed.
    async fn tried<T, F>(&self, action: &'static str, key: &str, limit: Duration, mut one: impl FnMut() -> F) -> Result<T, Failed>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let (began, mut pause, mut uncertain) = (Instant::now(), PAUSES.0, false);
        loop {
            let answer = match one().await {
                Ok(done) => return Ok(done),
                Err(error) => Answer::of(&error),
            };
            uncertain |= answer.meaning == Meaning::Passing && !answer.never_sent;
            let tried = began.elapsed();
            if answer.meaning != Meaning::Passing || tried + pause >= limit {
                return Err(Failed { answer, tried, uncertain });
            }
            tracing::debug!(action, key, %answer, ?pause, "trying again");
            if pause == PAUSES.1 {
                tracing::warn!(action, key, %answer, ?tried, "the object store keeps failing; trying again");
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// What a request that was given up means for the caller. `write`: it would have made, changed or removed an object.
    fn error(&self, action: &'static str, key: &str, write: bool, failed: Failed) -> StoreError {
        let Failed { answer, tried, uncertain } = failed;
        let place = format!("s3://{}/{}", self.bucket, self.object(key));
        match answer.meaning {
            Meaning::NoBucket => {
                StoreError::NoBucket { bucket: self.bucket.clone(), endpoint: self.endpoint.clone(), source: answer.into() }
            }
            Meaning::Forbidden => {
                StoreError::Forbidden { action, place, credentials: self.credentials.clone(), source: answer.into() }
            }
            _ if write && uncertain => StoreError::Unconfirmed { place, tried, source: answer.into() },
            _ => StoreError::Refused { action, place, tried, source: answer.into() },
        }
    }

    fn object(&self, key: &str) -> ObjectPath {
        // Addresses are checked when they are read, and keys are made of names that need no escapes.
        let parts = self.prefix.split('/').chain(key.split('/')).filter(|part| !part.is_empty());
        ObjectPath::from_iter(parts)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.spool)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.spool.display(), %error, "could not remove a folder of files to be uploaded");
        }
    }
}

/// A piece of a file, read where waiting for the disk holds up nobody.
async fn read(file: &Arc<File>, spool: &Spool, start: u64, len: u64) -> Result<Bytes, StoreError> {
    let file = Arc::clone(file);
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, start).map(|()| Bytes::from(bytes))
    });
    let read = read.await.map_err(|_| StoreError::Broken { place: spool.key.clone() })?;
    read.map_err(StoreError::io("read", &spool.path))
}

/// Between half and all of a pause, so that those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    pause / 2 + (pause / 2) * (nanos / 1_000 % 1_000) / 1_000
}
