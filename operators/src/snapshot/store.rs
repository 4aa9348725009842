//! Where snapshots lie: a folder, or anything `object_store` knows. Calls block: never on a worker's thread.

use std::io::{self, Write};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::{Builder, Runtime};
use xxhash_rust::xxh3::Xxh3Default;

use super::SnapshotError;

/// Bytes sent at once.
const PART_BYTES: usize = 8 << 20;

/// A store of files, named by paths such as `segments/shard=0/…`.
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    runtime: Runtime,
    url: String,
}

/// A file that has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its length.
    pub bytes: u64,
    /// 32 hexadecimal digits: XXH3, 128 bits, of its bytes.
    pub checksum: String,
}

impl Store {
    /// Opens a store by its URL: `file://FOLDER`, which is there.
    ///
    /// # Errors
    /// A scheme this build does not know, or a folder that is not there.
    pub fn open(url: &str) -> Result<Self, SnapshotError> {
        let local =
            LocalFileSystem::new_with_prefix(folder(url)?).map_err(|error| cannot_open(url, &error))?;
        Self::over(Arc::new(local.with_fsync(true).with_automatic_cleanup(true)), url)
    }

    /// As [`Store::open`], making the folder if it is not there.
    ///
    /// # Errors
    /// A scheme this build does not know, or a folder that cannot be made.
    pub fn create(url: &str) -> Result<Self, SnapshotError> {
        std::fs::create_dir_all(folder(url)?).map_err(|error| cannot_open(url, &error))?;
        Self::open(url)
    }

    /// A store over any other.
    ///
    /// # Errors
    /// The system refusing what a runtime needs.
    pub fn over(inner: Arc<dyn ObjectStore>, url: &str) -> Result<Self, SnapshotError> {
        let runtime = Builder::new_current_thread().build().map_err(|error| cannot_open(url, &error))?;
        Ok(Self { inner, runtime, url: url.to_owned() })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn failed(&self, doing: &str, path: &str, error: &object_store::Error) -> SnapshotError {
        SnapshotError::Store {
            what: format!("cannot {doing} \"{path}\" in {}", self.url),
            cause: error.to_string(),
        }
    }

    /// Writes a file as a whole: it is there complete or not at all.
    ///
    /// # Errors
    /// The store refusing.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<Put, SnapshotError> {
        let put = Put { bytes: bytes.len() as u64, checksum: checksum(&bytes) };
        let result = self.runtime.block_on(self.inner.put(&Path::from(path), bytes.into()));
        result.map(|_| put).map_err(|error| self.failed("write", path, &error))
    }

    /// Writes a file as it comes: it is there complete, once `write` has returned without an error, or not at all.
    ///
    /// # Errors
    /// The store refusing, or `write` failing.
    pub fn stream<E: From<SnapshotError>>(
        &self,
        path: &str,
        write: impl FnOnce(&mut Upload<'_>) -> Result<(), E>,
    ) -> Result<Put, E> {
        let begun = self.runtime.block_on(self.inner.put_multipart(&Path::from(path)));
        let begun = begun.map_err(|error| self.failed("write", path, &error))?;
        let mut upload = Upload {
            store: self,
            upload: begun,
            waiting: Vec::with_capacity(PART_BYTES),
            hash: Xxh3Default::new(),
            bytes: 0,
        };
        let written = write(&mut upload);
        let sent = upload.send();
        let Upload { upload: mut begun, hash, bytes, .. } = upload;
        let done = match (written, sent) {
            (Ok(()), Ok(())) => self.runtime.block_on(begun.complete()).map(drop),
            (Ok(()), Err(error)) => Err(error),
            (Err(error), _) => {
                // What is left behind is no file; the first error is the one to tell.
                let _ = self.runtime.block_on(begun.abort());
                return Err(error);
            }
        };
        done.map_err(|error| self.failed("write", path, &error))?;
        Ok(Put { bytes, checksum: format!("{:032x}", hash.digest128()) })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that is not there, or the store refusing.
    pub fn get(&self, path: &str) -> Result<Vec<u8>, SnapshotError> {
        let bytes = self.runtime.block_on(async {
            let found = self.inner.get(&Path::from(path)).await?;
            found.bytes().await
        });
        bytes.map(Vec::from).map_err(|error| self.failed("read", path, &error))
    }

    /// Names of the folders in a folder, ascending; empty if it is not there.
    ///
    /// # Errors
    /// The store refusing.
    pub fn folders(&self, path: &str) -> Result<Vec<String>, SnapshotError> {
        let prefix = Path::from(path);
        let listed = self.runtime.block_on(self.inner.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|error| self.failed("list", path, &error))?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        let mut names: Vec<String> = listed.common_prefixes.iter().filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Paths of the files in a folder, ascending; empty if it is not there.
    ///
    /// # Errors
    /// The store refusing.
    pub fn files(&self, path: &str) -> Result<Vec<String>, SnapshotError> {
        let prefix = Path::from(path);
        let listed = self.runtime.block_on(self.inner.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|error| self.failed("list", path, &error))?;
        let mut paths: Vec<String> =
            listed.objects.into_iter().map(|object| object.location.to_string()).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// The store refusing.
    pub fn delete(&self, path: &str) -> Result<(), SnapshotError> {
        match self.runtime.block_on(self.inner.delete(&Path::from(path))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", path, &error)),
        }
    }
}

fn cannot_open(url: &str, error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError::Store { what: format!("cannot open \"{url}\""), cause: error.to_string() }
}

fn folder(url: &str) -> Result<&str, SnapshotError> {
    let folder = url.split_once("://").filter(|(scheme, _)| *scheme == "file").map(|(_, folder)| folder);
    folder.ok_or_else(|| cannot_open(url, &"this build knows file://FOLDER only"))
}

/// The checksum of some bytes.
pub(super) fn checksum(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}

/// A file on its way to the store.
pub struct Upload<'a> {
    store: &'a Store,
    upload: Box<dyn MultipartUpload>,
    waiting: Vec<u8>,
    hash: Xxh3Default,
    bytes: u64,
}

impl Upload<'_> {
    fn send(&mut self) -> object_store::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.waiting, Vec::with_capacity(PART_BYTES));
        self.store.runtime.block_on(self.upload.put_part(PutPayload::from(part)))
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PART_BYTES {
            self.send().map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    /// Parts are sent when they are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
