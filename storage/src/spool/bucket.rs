//! The spool in a bucket of a service that speaks S3.
//!
//! What arrives is written to a staging folder of this machine and put from there; an object appears whole or not at
//! all. What is read as files is copied there. Memory is bounded by the size of a part, not by that of an object.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutPayload, RetryConfig,
    WriteMultipart,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use super::fetched::{self, FetchedFolder};
use super::folder::blocking;
use super::{FinishedFile, LocalFiles, SpoolError, SpoolKey};

/// Bytes of one part: what is larger is put in several. S3 takes no smaller ones.
const PART_BYTES: usize = 8 << 20;
/// Parts of one object that are on their way at the same time.
const PARALLEL_PARTS: usize = 2;
/// Objects that are on their way at the same time, to the bucket or from it.
const PARALLEL_OBJECTS: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the service.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketOptions {
    /// Its name.
    pub bucket: String,
    /// What every key in it begins with, without slashes around it; may be empty.
    pub prefix: String,
    /// Address of the service; nothing: that of AWS.
    pub endpoint: Option<String>,
    /// Region that requests are signed for; nothing: what the environment says, else `us-east-1`.
    pub region: Option<String>,
    /// Who we are to it.
    pub credentials: BucketCredentials,
    /// Folder of this machine for what is on its way.
    pub staging: PathBuf,
    /// How long a request is tried again while the service does not answer.
    pub patience: Duration,
}

/// Who we are to the service.
#[derive(Clone, PartialEq, Eq)]
pub enum BucketCredentials {
    /// What the machine has: the variables of AWS, a role of the container or of the machine.
    OfTheMachine,
    /// A key of our own.
    Key {
        /// Its name.
        access_key_id: String,
        /// The secret.
        secret_access_key: String,
    },
}

impl fmt::Debug for BucketCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfTheMachine => "of the machine",
            Self::Key { .. } => "***",
        })
    }
}

#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    name: Box<str>,
    prefix: Box<str>,
    staging: PathBuf,
}

impl Bucket {
    pub(super) async fn open(options: &BucketOptions) -> Result<Self, SpoolError> {
        let staging = options.staging.clone();
        blocking(move || {
            for folder in ["incoming", "fetched"] {
                std::fs::create_dir_all(staging.join(folder))
                    .map_err(SpoolError::io("make its staging folders"))?;
            }
            fetched::clear(&staging.join("fetched"))
        })
        .await?;
        let store = client(options).map_err(SpoolError::bucket("make a client for"))?;
        let bucket = Self {
            store,
            name: options.bucket.as_str().into(),
            prefix: options.prefix.as_str().into(),
            staging: options.staging.clone(),
        };
        bucket.probe().await?;
        Ok(bucket)
    }

    /// Writes an object and removes it again.
    async fn probe(&self) -> Result<(), SpoolError> {
        let path = self.path(&format!("incoming/probe-{}", Uuid::new_v4()));
        let put = self.store.put(&path, PutPayload::from_static(b"probe")).await;
        put.map_err(self.refusal("write to"))?;
        self.store.delete(&path).await.map_err(self.refusal("remove from"))
    }

    pub(super) async fn ping(&self) -> Result<(), SpoolError> {
        let incoming = self.path("incoming");
        let first = self.store.list(Some(&incoming)).try_next().await;
        first.map(drop).map_err(self.refusal("list"))
    }

    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Tells a bucket that is wrong from a service that has trouble.
    fn refusal(&self, step: &'static str) -> impl Fn(object_store::Error) -> SpoolError {
        use object_store::Error;

        let bucket = self.name.clone();
        move |error| match error {
            Error::NotFound { .. } => SpoolError::NoBucket { bucket: bucket.clone() },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                SpoolError::Credentials { bucket: bucket.clone(), source: Arc::new(error) }
            }
            error => SpoolError::bucket(step)(error),
        }
    }

    fn path(&self, key: &str) -> object_store::path::Path {
        object_store::path::Path::from(format!("{}/{key}", self.prefix))
    }

    fn key(&self, path: &object_store::path::Path) -> Option<SpoolKey> {
        let path = path.as_ref().strip_prefix(&*self.prefix)?;
        path.trim_start_matches('/').parse().ok()
    }

    pub(super) async fn commit_batch(
        &self,
        batch: Vec<(FinishedFile, SpoolKey)>,
    ) -> Vec<Result<(), SpoolError>> {
        let puts: Vec<_> =
            batch.into_iter().map(|(file, key)| self.upload_file(file, key)).collect();
        stream::iter(puts).buffered(PARALLEL_OBJECTS).collect().await
    }

    async fn upload_file(&self, file: FinishedFile, key: SpoolKey) -> Result<(), SpoolError> {
        let opened = tokio::fs::File::open(file.path()).await;
        self.upload(&key, opened.map_err(SpoolError::io("read a file"))?).await
    }

    /// Puts all of `source` under `key`. When this returns `Ok`, the service has the whole of it.
    pub(super) async fn upload(
        &self,
        key: &SpoolKey,
        mut source: impl AsyncRead + Unpin,
    ) -> Result<(), SpoolError> {
        let path = self.path(key.as_str());
        let first = next_part(&mut source).await?;
        if first.len() < PART_BYTES {
            let put = self.store.put(&path, PutPayload::from(first)).await;
            return put.map(drop).map_err(SpoolError::bucket("put an object into"));
        }
        let upload = self.store.put_multipart(&path).await;
        let upload = upload.map_err(SpoolError::bucket("put an object into"))?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match write_parts(&mut parts, first, &mut source).await {
            Ok(()) => {
                let finished = parts.finish().await;
                finished.map(drop).map_err(SpoolError::bucket("put an object into"))
            }
            Err(error) => {
                // Parts that stay behind cost space and are no object.
                let _ = parts.abort().await;
                Err(error)
            }
        }
    }

    pub(super) async fn fetch(&self, keys: Vec<SpoolKey>) -> Result<LocalFiles, SpoolError> {
        let parent = self.staging.join("fetched");
        let folder = blocking(move || FetchedFolder::create_in(&parent)).await?;
        let paths: Vec<PathBuf> =
            (0..keys.len()).map(|place| folder.path().join(format!("{place:06}.dcm"))).collect();
        let copies: Vec<_> =
            keys.into_iter().zip(paths.clone()).map(|(key, path)| self.copy(key, path)).collect();
        stream::iter(copies).buffer_unordered(PARALLEL_OBJECTS).try_collect::<()>().await?;
        Ok(LocalFiles::copies(paths, folder))
    }

    /// Copies an object to `path`; nothing where there is none.
    async fn copy(&self, key: SpoolKey, path: PathBuf) -> Result<(), SpoolError> {
        let object = match self.store.get(&self.path(key.as_str())).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            object => object.map_err(SpoolError::bucket("read an object of"))?,
        };
        let file = tokio::fs::File::create_new(path).await;
        let mut file = file.map_err(SpoolError::io("make a file"))?;
        let mut pieces = object.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(SpoolError::bucket("read an object of"))?;
            file.write_all(&piece).await.map_err(SpoolError::io("write a file"))?;
        }
        file.flush().await.map_err(SpoolError::io("write a file"))
    }

    pub(super) async fn read(&self, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
        let object = match self.store.get(&self.path(key.as_str())).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(SpoolError::Missing { key: key.clone() });
            }
            object => object.map_err(SpoolError::bucket("read an object of"))?,
        };
        let bytes = object.bytes().await.map_err(SpoolError::bucket("read an object of"))?;
        Ok(bytes.into())
    }

    pub(super) async fn remove(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        match self.store.delete(&self.path(key.as_str())).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(SpoolError::bucket("remove an object from")(error)),
        }
    }

    pub(super) async fn list(&self, age: Duration) -> Result<Vec<SpoolKey>, SpoolError> {
        let mut keys = Vec::new();
        for folder in ["instances", "results"] {
            let prefix = self.path(folder);
            let mut objects = self.store.list(Some(&prefix));
            while let Some(object) = objects.next().await {
                let object = object.map_err(SpoolError::bucket("list"))?;
                let made = SystemTime::from(object.last_modified);
                let is_old =
                    SystemTime::now().duration_since(made).is_ok_and(|passed| passed >= age);
                keys.extend(self.key(&object.location).filter(|_| is_old));
            }
        }
        Ok(keys)
    }

    pub(super) async fn set_aside(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        let to = self.path(&format!("set-aside/{key}"));
        let moved = self.store.rename(&self.path(key.as_str()), &to).await;
        moved.map_err(SpoolError::bucket("set an object aside in"))
    }
}

fn client(options: &BucketOptions) -> Result<AmazonS3, object_store::Error> {
    // Where another part of the program was first, the provider is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = match &options.credentials {
        BucketCredentials::OfTheMachine => AmazonS3Builder::from_env(),
        BucketCredentials::Key { access_key_id, secret_access_key } => AmazonS3Builder::new()
            .with_access_key_id(access_key_id)
            .with_secret_access_key(secret_access_key),
    };
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled();
    let retry = RetryConfig {
        backoff: BackoffConfig { max_backoff: LONGEST_PAUSE, ..BackoffConfig::default() },
        max_retries: usize::MAX,
        retry_timeout: options.patience,
    };
    builder =
        builder.with_bucket_name(&options.bucket).with_client_options(client).with_retry(retry);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    builder.build()
}

/// Up to a whole part; less at the end alone.
async fn next_part(source: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, SpoolError> {
    let mut part = Vec::new();
    let read = source.take(PART_BYTES as u64).read_to_end(&mut part).await;
    read.map_err(SpoolError::io("read a file"))?;
    Ok(part)
}

async fn write_parts(
    parts: &mut WriteMultipart,
    first: Vec<u8>,
    source: &mut (impl AsyncRead + Unpin),
) -> Result<(), SpoolError> {
    let mut part = first;
    while !part.is_empty() {
        parts.put(part.into());
        let capacity = parts.wait_for_capacity(PARALLEL_PARTS).await;
        capacity.map_err(SpoolError::bucket("put an object into"))?;
        part = next_part(source).await?;
    }
    Ok(())
}
