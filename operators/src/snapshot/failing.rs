//! A store that fails now and then, on purpose.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// Which calls fail: one in `every` (none if 0), by a seed. Half of those that write have done it before they fail, as
/// when a reply is lost.
#[derive(Debug)]
pub(super) struct Luck {
    state: AtomicU64,
    every: AtomicU64,
    failed: AtomicU64,
}

enum Fate {
    Well,
    Refused,
    DoneAndRefused,
}

impl Luck {
    pub(super) fn new(seed: u64) -> Self {
        let state = AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self { state, every: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    pub(super) fn fail_one_in(&self, every: u64) {
        self.every.store(every, Ordering::SeqCst);
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    fn fate(&self) -> Fate {
        let every = self.every.load(Ordering::SeqCst);
        let step = |x: u64| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 7);
            Some(x ^ (x << 17))
        };
        let x = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).expect("always some") >> 20;
        if every == 0 || !x.is_multiple_of(every) {
            return Fate::Well;
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        if (x / every).is_multiple_of(2) { Fate::Refused } else { Fate::DoneAndRefused }
    }

    fn reads(&self) -> Result<()> {
        match self.fate() {
            Fate::Well => Ok(()),
            Fate::Refused | Fate::DoneAndRefused => Err(refused()),
        }
    }
}

fn refused() -> Error {
    Error::Generic { store: "Failing", source: "on purpose".into() }
}

#[derive(Debug)]
pub(super) struct Failing<S> {
    pub(super) inner: Arc<S>,
    pub(super) luck: Arc<Luck>,
}

impl<S> fmt::Display for Failing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that fails on purpose")
    }
}

#[derive(Debug)]
struct FailingUpload {
    inner: Box<dyn MultipartUpload>,
    luck: Arc<Luck>,
}

#[async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.luck.fate() {
            Fate::Well => self.inner.put_part(data),
            Fate::Refused | Fate::DoneAndRefused => Box::pin(async { Err(refused()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.luck.fate() {
            Fate::Well => self.inner.complete().await,
            Fate::Refused => Err(refused()),
            Fate::DoneAndRefused => {
                self.inner.complete().await?;
                Err(refused())
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.luck.reads()?;
        self.inner.abort().await
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Failing<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.luck.fate() {
            Fate::Well => self.inner.put_opts(location, payload, opts).await,
            Fate::Refused => Err(refused()),
            Fate::DoneAndRefused => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(refused())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.luck.reads()?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FailingUpload { inner, luck: Arc::clone(&self.luck) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.luck.reads()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.luck.reads()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.luck.fate() {
            Fate::Well => self.inner.delete_stream(locations),
            Fate::Refused => stream::once(async { Err(refused()) }).boxed(),
            Fate::DoneAndRefused => self.inner.delete_stream(locations).map(|_| Err(refused())).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.luck.reads() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.luck.reads()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.luck.reads()?;
        self.inner.copy_opts(from, to, options).await
    }
}
