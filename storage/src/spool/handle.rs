//! The handle of a spool of either kind.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Bucket, BucketOptions};
use super::folder::{Folder, blocking};
use super::writer::{FinishedFile, SpoolWriter};
use super::{LocalFiles, SpoolError, SpoolKey};

/// How a spool treats its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Bytes that stay free for the work that was promised: below, nothing new is received.
    pub reserve_bytes: u64,
}

/// Room in the file system of the spool, with a bucket in that of its staging folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still use.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that stay free.
    pub reserve_bytes: u64,
}

impl Space {
    /// Whether something of `size_bytes` fits above the reserve.
    pub fn admits(&self, size_bytes: u64) -> bool {
        self.free_bytes >= self.reserve_bytes.saturating_add(size_bytes)
    }
}

/// Bytes: received instances and results. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    backend: Backend,
    options: SpoolOptions,
}

#[derive(Debug, Clone)]
enum Backend {
    Folder(Folder),
    Bucket(Arc<Bucket>),
}

impl Spool {
    /// Opens `file://PATH`, making the folder where it is absent. A relative path is taken from the working directory.
    ///
    /// # Errors
    /// [`SpoolError::Address`] for another scheme, [`SpoolError::Io`] where the folder cannot be made or written.
    pub async fn open(url: &str, options: SpoolOptions) -> Result<Self, SpoolError> {
        let path = url.strip_prefix("file://").filter(|path| !path.is_empty());
        let folder = Folder::open(PathBuf::from(path.ok_or(SpoolError::Address)?)).await?;
        Ok(Self { backend: Backend::Folder(folder), options })
    }

    /// Opens a bucket, and writes to it once to see that it is there.
    ///
    /// # Errors
    /// [`SpoolError::NoBucket`], [`SpoolError::Credentials`], [`SpoolError::Bucket`] where the service does not
    /// answer, [`SpoolError::Io`] where the staging folder cannot be made or written.
    pub async fn open_bucket(
        bucket: &BucketOptions,
        options: SpoolOptions,
    ) -> Result<Self, SpoolError> {
        let bucket = Bucket::open(bucket).await?;
        Ok(Self { backend: Backend::Bucket(Arc::new(bucket)), options })
    }

    /// Whether the place of the bytes answers. A folder has nothing that could not.
    ///
    /// # Errors
    /// [`SpoolError::Bucket`] and its like.
    pub async fn ping(&self) -> Result<(), SpoolError> {
        match &self.backend {
            Backend::Folder(_) => Ok(()),
            Backend::Bucket(bucket) => bucket.ping().await,
        }
    }

    /// The room in the file system.
    ///
    /// # Errors
    /// Where the file system cannot be asked.
    pub fn space(&self) -> Result<Space, SpoolError> {
        let root = match &self.backend {
            Backend::Folder(folder) => folder.root(),
            Backend::Bucket(bucket) => bucket.staging(),
        };
        let stat = rustix::fs::statvfs(root)
            .map_err(|errno| SpoolError::io("ask for free space")(errno.into()))?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            reserve_bytes: self.options.reserve_bytes,
        })
    }

    /// Begins a new file, unless the reserve would be touched.
    ///
    /// # Errors
    /// [`SpoolError::BelowReserve`], or [`SpoolError::Io`].
    pub async fn create(&self) -> Result<SpoolWriter, SpoolError> {
        let space = self.space()?;
        if !space.admits(0) {
            return Err(SpoolError::BelowReserve {
                free_bytes: space.free_bytes,
                reserve_bytes: space.reserve_bytes,
            });
        }
        self.create_regardless().await
    }

    /// Begins a new file even where the reserve is touched: results of promised work.
    async fn create_regardless(&self) -> Result<SpoolWriter, SpoolError> {
        let incoming = self.incoming();
        blocking(move || SpoolWriter::create_in(&incoming)).await
    }

    pub(super) fn incoming(&self) -> PathBuf {
        let root = match &self.backend {
            Backend::Folder(folder) => folder.root(),
            Backend::Bucket(bucket) => bucket.staging(),
        };
        root.join("incoming")
    }

    /// Makes finished files durable under their keys, together. In a folder each is synced and renamed into place, and
    /// the folders are synced once; in a bucket each is an object that was put whole. The outcomes are in the order of
    /// `batch`; one file's trouble is not another's.
    ///
    /// Cancel safety: dropped half-way, some files may be in place without a row; see [`Spool::reconcile`].
    pub async fn commit_batch(
        &self,
        batch: Vec<(FinishedFile, SpoolKey)>,
    ) -> Vec<Result<(), SpoolError>> {
        match &self.backend {
            Backend::Folder(folder) => folder.commit_batch(batch).await,
            Backend::Bucket(bucket) => bucket.commit_batch(batch).await,
        }
    }

    /// Stores `bytes` durably under `key`, replacing what was there. The reserve is there for this.
    ///
    /// # Errors
    /// [`SpoolError::Io`] or [`SpoolError::Bucket`].
    pub async fn put(&self, key: &SpoolKey, bytes: &[u8]) -> Result<(), SpoolError> {
        if let Backend::Bucket(bucket) = &self.backend {
            return bucket.upload(key, bytes).await;
        }
        let mut writer = self.create_regardless().await?;
        writer.write(bytes).await?;
        let file = writer.finish().await?;
        self.commit_batch(vec![(file, key.clone())]).await.pop().unwrap_or(Err(SpoolError::Stopped))
    }

    /// The files of `keys`, in their order, as paths that hold for as long as the answer lives. A file that is not in
    /// the spool is not at its path either.
    ///
    /// In a folder these are the files themselves; from a bucket they are copied, a few at a time, each piece by piece.
    ///
    /// # Errors
    /// [`SpoolError::Bucket`], or [`SpoolError::Io`] where there is no room for the copies.
    pub async fn fetch(&self, keys: Vec<SpoolKey>) -> Result<LocalFiles, SpoolError> {
        match &self.backend {
            Backend::Folder(folder) => {
                Ok(LocalFiles::in_place(keys.iter().map(|key| folder.path(key)).collect()))
            }
            Backend::Bucket(bucket) => bucket.fetch(keys).await,
        }
    }

    /// All bytes under `key`.
    ///
    /// # Errors
    /// [`SpoolError::Missing`], [`SpoolError::Io`] or [`SpoolError::Bucket`].
    pub async fn read(&self, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
        match &self.backend {
            Backend::Folder(folder) => folder.read(key).await,
            Backend::Bucket(bucket) => bucket.read(key).await,
        }
    }

    /// Removes the file under `key`, and the folders that are empty then. Nothing happens where there is none.
    ///
    /// # Errors
    /// [`SpoolError::Io`] or [`SpoolError::Bucket`].
    pub async fn remove(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        match &self.backend {
            Backend::Folder(folder) => folder.remove(key).await,
            Backend::Bucket(bucket) => bucket.remove(key).await,
        }
    }

    /// Every file in place that is older than `age`.
    pub(super) async fn list(&self, age: Duration) -> Result<Vec<SpoolKey>, SpoolError> {
        match &self.backend {
            Backend::Folder(folder) => folder.list(age).await,
            Backend::Bucket(bucket) => bucket.list(age).await,
        }
    }

    /// Moves a file to `set-aside/`, under the same key.
    pub(super) async fn set_aside(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        match &self.backend {
            Backend::Folder(folder) => folder.set_aside(key).await,
            Backend::Bucket(bucket) => bucket.set_aside(key).await,
        }
    }
}
