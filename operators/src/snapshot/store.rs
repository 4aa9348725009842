//! Where snapshots lie: a folder, or a bucket. Calls block: never on a worker's thread.

use std::error::Error;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use freshet_config::StoreOptions;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::runtime::{Builder, Runtime};
use xxhash_rust::xxh3::Xxh3Default;

use super::SnapshotError;
use super::open::{self, Place};

/// Bytes sent or read at once.
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
    /// Opens a store by its URL: `file://FOLDER`, which is there, or `s3://BUCKET/PREFIX`, which is asked nothing yet.
    ///
    /// # Errors
    /// A scheme this build does not know, options that are none, or a folder that is not there.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Self, SnapshotError> {
        Self::over(open::open(url, options)?, url)
    }

    /// As [`Store::open`], making the folder if it is not there.
    ///
    /// # Errors
    /// A scheme this build does not know, options that are none, or a folder that cannot be made.
    pub fn create(url: &str, options: &StoreOptions) -> Result<Self, SnapshotError> {
        if let Place::Folder(folder) = Place::of(url)? {
            std::fs::create_dir_all(folder).map_err(|error| cannot_open(url, &error))?;
        }
        Self::open(url, options)
    }

    /// A store over any other.
    ///
    /// # Errors
    /// The system refusing what a runtime needs.
    pub fn over(inner: Arc<dyn ObjectStore>, url: &str) -> Result<Self, SnapshotError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self { inner, runtime: runtime.map_err(|error| cannot_open(url, &error))?, url: url.to_owned() })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether asking costs next to nothing.
    pub fn is_local(&self) -> bool {
        matches!(Place::of(&self.url), Ok(Place::Folder(_)))
    }

    fn failed(&self, doing: &str, path: &str, error: &object_store::Error) -> SnapshotError {
        SnapshotError::Store {
            what: format!("cannot {doing} \"{path}\" in {}", self.url),
            cause: error.to_string(),
            advice: advice(&self.url, error),
        }
    }

    /// As [`Store::failed`], for files that a manifest names: one that is not there is not the store's fault.
    fn unread(&self, path: &str, error: &object_store::Error) -> SnapshotError {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return SnapshotError::Broken { path: path.to_owned(), what: "is missing".to_owned() };
        }
        self.failed("read", path, error)
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

    /// Writes a file that nobody else has written: `None` if another one has that name. One that is the same to the byte
    /// counts as written: a request whose reply was lost is made again.
    ///
    /// # Errors
    /// The store refusing.
    pub fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<Option<Put>, SnapshotError> {
        let put = Put { bytes: bytes.len() as u64, checksum: checksum(&bytes) };
        let payload = PutPayload::from(bytes);
        let result =
            self.runtime.block_on(self.inner.put_opts(&Path::from(path), payload, PutMode::Create.into()));
        match result {
            Ok(_) => Ok(Some(put)),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Some(put).filter(|put| self.get(path).is_ok_and(|there| checksum(&there) == put.checksum)))
            }
            Err(error) => Err(self.failed("write", path, &error)),
        }
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
            failure: None,
        };
        let written = write(&mut upload);
        let done = match (upload.failure.take(), written) {
            // What the writer made of it does not say what to do.
            (Some(refused), _) => Err(self.failed("write", path, &refused).into()),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => {
                let done = upload.send().and_then(|()| self.runtime.block_on(upload.upload.complete()));
                done.map_err(|error| self.failed("write", path, &error).into())
            }
        };
        if let Err(error) = done {
            // What is left behind is no file; the first error is the one to tell.
            let _ = self.runtime.block_on(upload.upload.abort());
            return Err(error);
        }
        Ok(Put { bytes: upload.bytes, checksum: format!("{:032x}", upload.hash.digest128()) })
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
        bytes.map(Vec::from).map_err(|error| self.unread(path, &error))
    }

    /// Length of a file.
    ///
    /// # Errors
    /// A file that is not there, or the store refusing.
    pub fn size(&self, path: &str) -> Result<u64, SnapshotError> {
        let found = self.runtime.block_on(self.inner.head(&Path::from(path)));
        found.map(|found| found.size).map_err(|error| self.unread(path, &error))
    }

    /// Reads a part of a file, in requests of bounded size; into `room`, whose contents are of no use any more.
    ///
    /// # Errors
    /// A file that is not there or shorter, or the store refusing.
    pub fn get_range(&self, path: &str, range: Range<u64>, room: Vec<u8>) -> Result<Bytes, SnapshotError> {
        let mut whole = room;
        whole.clear();
        whole.reserve_exact(usize::try_from(range.end - range.start).unwrap_or(0));
        let mut from = range.start;
        while from < range.end {
            let to = range.end.min(from + PART_BYTES as u64);
            let part = self.runtime.block_on(self.inner.get_range(&Path::from(path), from..to));
            let part = part.map_err(|error| self.unread(path, &error))?;
            if part.len() as u64 != to - from {
                let what = format!("ends before byte {to}");
                return Err(SnapshotError::Broken { path: path.to_owned(), what });
            }
            whole.extend_from_slice(&part);
            from = to;
        }
        Ok(whole.into())
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

    /// Removes all that the store holds, and its folder where it is one.
    ///
    /// # Errors
    /// The store refusing.
    pub fn remove_all(&self) -> Result<(), SnapshotError> {
        if let Ok(Place::Folder(root)) = Place::of(&self.url) {
            return match std::fs::remove_dir_all(root) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SnapshotError::Store {
                    what: format!("cannot remove {root}"),
                    advice: io_advice(&error).to_owned(),
                    cause: error.to_string(),
                }),
                _ => Ok(()),
            };
        }
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for path in self.files(&folder)? {
                self.delete(&path)?;
            }
            let below = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
            folders.extend(self.folders(&folder)?.into_iter().map(below));
        }
        Ok(())
    }

    /// Removes what processes that were killed have begun to write into a folder, in a local store: nobody else sees it.
    ///
    /// # Errors
    /// The system refusing.
    pub fn sweep(&self, path: &str) -> Result<(), SnapshotError> {
        let Ok(Place::Folder(root)) = Place::of(&self.url) else { return Ok(()) };
        let folder = std::path::Path::new(root).join(path);
        let failed = |error: io::Error| SnapshotError::Store {
            what: format!("cannot remove what is left in {}", folder.display()),
            advice: io_advice(&error).to_owned(),
            cause: error.to_string(),
        };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            // As object_store names a file that is being written: `NAME#7`.
            let begun = name.to_str().and_then(|name| name.rsplit_once('#'));
            if begun
                .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

pub(super) fn cannot_open(url: &str, error: &(dyn Error + 'static)) -> SnapshotError {
    let io = error.downcast_ref::<io::Error>().map(|error| io_advice(error).to_owned());
    let store = || error.downcast_ref::<object_store::Error>().map(|error| advice(url, error));
    SnapshotError::Store {
        what: format!("cannot open \"{url}\""),
        cause: error.to_string(),
        advice: io.or_else(store).unwrap_or_else(|| CHECK.to_owned()),
    }
}

const CHECK: &str = "check that the store is there, writable and not full";

/// What to do about an error.
fn advice(url: &str, error: &object_store::Error) -> String {
    let io = io_error(error);
    let local = matches!(Place::of(url), Ok(Place::Folder(_)));
    match (error, io) {
        (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }, _)
            if !local =>
        {
            "check the credentials (AWS_ACCESS_KEY_ID and its like, or [snapshots.options]) and what they may do".into()
        }
        (object_store::Error::NotFound { .. }, _) if !local => "check that the bucket is there".into(),
        // Lists report it in the server's words alone.
        _ if !local && error.to_string().contains("NoSuchBucket") => "check that the bucket is there".into(),
        (_, Some(error)) if local => io_advice(error).into(),
        _ => CHECK.into(),
    }
}

/// What the system said, if it was the system.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => Some(error),
        None => io_error(error.source()?),
    }
}

fn io_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // ENOSPC, EFBIG, EDQUOT
        Some(28 | 27 | 122) => "free space there, or name another snapshots.store",
        // EPERM, EACCES, EROFS
        Some(1 | 13 | 30) => "make the folder writable for the user that runs Freshet",
        _ => CHECK,
    }
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
    failure: Option<object_store::Error>,
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
    /// Takes what fills a part: some stores want all of one size.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.waiting.len());
        self.hash.update(&bytes[..taken]);
        self.bytes += taken as u64;
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == PART_BYTES
            && let Err(error) = self.send()
        {
            let told = io::Error::other(error.to_string());
            self.failure = Some(error);
            return Err(told);
        }
        Ok(taken)
    }

    /// Parts are sent when they are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
