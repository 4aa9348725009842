//! Writes cuts to a store: segments once, then what is removed, the manifest last.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow::error::ArrowError;
use freshet_schemas::{Offset, Partition, VectorKind};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::manifest::{
    FORMAT, FileEntry, Identity, IndexEntry, Manifest, SEGMENTS, SNAPSHOTS, SegmentEntry, name,
};
use super::store::{Put, Store};
use super::{Claim, SnapshotError, answers, load};
use crate::crash;
use crate::index::Time;
use crate::index::segment::table::{self, TableError};
use crate::index::segment::{BuiltField, SegmentSpec};
use crate::index::shard::PartCut;

/// Rows of a field below which what was built of them has no file: it is built as soon as one is fetched.
const BUILT_ROWS_MIN: usize = 2048;

/// All shards at one tick.
pub struct Cut {
    /// The tick.
    pub tick: Time,
    /// Next offset of each partition of the documents topic.
    pub offsets: BTreeMap<Partition, Offset>,
    /// Parts by shard.
    pub shards: BTreeMap<u32, Vec<PartCut>>,
}

/// Which snapshots are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// At least so many of the newest.
    pub keep: usize,
    /// And those that are not older than this, before the newest.
    pub keep_for: Duration,
}

/// Writes the snapshots of a pipeline.
pub struct Writer {
    store: Arc<Store>,
    spec: Arc<SegmentSpec>,
    identity: Identity,
    retention: Retention,
    /// Whose files are whose.
    claim: Claim,
    /// Segments that are in the store, by shard and number.
    written: BTreeMap<(u32, u64), SegmentEntry>,
    /// Whether the last attempt to remove old files failed: told once.
    cleaning_failed: bool,
}

impl Writer {
    /// A writer. `restored` are segments of the store that the shards were restored from.
    pub fn new(
        store: Arc<Store>,
        spec: Arc<SegmentSpec>,
        identity: Identity,
        retention: Retention,
        claim: Claim,
        restored: Vec<SegmentEntry>,
    ) -> Self {
        let written = restored.into_iter().map(|entry| ((entry.shard, entry.number), entry)).collect();
        Self { store, spec, identity, retention, claim, written, cleaning_failed: false }
    }

    /// Where it writes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which run writes.
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Writes a snapshot, and removes what no snapshot needs any more.
    ///
    /// # Errors
    /// The store refusing: what is there already stays as it is.
    pub fn write(&mut self, cut: Cut) -> Result<Manifest, SnapshotError> {
        crash::point("snapshot.begin");
        self.claim.check(&self.store)?;
        let id = name(cut.tick);
        let mut segments = Vec::new();
        let mut removed = Removed::default();
        let mut documents = 0;
        for (&shard, parts) in &cut.shards {
            for part in parts {
                let entry = self.segment(shard, part)?;
                documents += entry.versions - part.removed.len();
                removed.add(&entry.table.path, part);
                segments.push(SegmentEntry { removed: part.removed.len(), ..entry });
            }
        }
        crash::point("snapshot.removed");
        let path = format!("{SNAPSHOTS}/{id}/removed.parquet");
        let bytes = removed.table().map_err(|source| SnapshotError::Table { path: path.clone(), source })?;
        let put = self.store.put_new(&path, bytes)?.ok_or_else(|| self.taken(&id))?;
        let removed = entry(path, put);
        let mut manifest = Manifest {
            format: FORMAT,
            id: id.clone(),
            tick: cut.tick,
            written_by: format!("freshet {}", env!("CARGO_PKG_VERSION")),
            pipeline: self.claim.pipeline().to_owned(),
            run: self.claim.run().to_owned(),
            identity: self.identity.clone(),
            offsets: cut.offsets,
            documents,
            segments,
            removed,
            checksum: None,
        };
        let text = manifest.write().map_err(|error| SnapshotError::Broken {
            path: Manifest::path(&id),
            what: format!("cannot be written as JSON: {error}"),
        })?;
        crash::point("snapshot.manifest");
        // Once more: the segments may have taken long.
        self.claim.check(&self.store)?;
        if self.store.put_new(&Manifest::path(&id), text)?.is_none() {
            return Err(self.taken(&id));
        }
        crash::point("snapshot.manifest.written");
        self.written = manifest.segments.iter().map(|s| ((s.shard, s.number), s.clone())).collect();
        match self.clean() {
            Ok(()) => self.cleaning_failed = false,
            Err(error) if !self.cleaning_failed => {
                self.cleaning_failed = true;
                tracing::warn!(%error, "old snapshots are not removed; tried again after each snapshot");
            }
            Err(_) => {}
        }
        crash::point("snapshot.cleaned");
        Ok(manifest)
    }

    fn taken(&self, id: &str) -> SnapshotError {
        let other = load::manifest(&self.store, id).ok();
        let (pipeline, run) = other.map_or_else(
            || (self.claim.pipeline().to_owned(), "unknown".to_owned()),
            |other| (other.pipeline, other.run),
        );
        SnapshotError::Taken { id: id.to_owned(), pipeline, run }
    }

    /// Writes a segment, unless it is there.
    fn segment(&mut self, shard: u32, part: &PartCut) -> Result<SegmentEntry, SnapshotError> {
        if let Some(entry) = self.written.get(&(shard, part.number)) {
            return Ok(entry.clone());
        }
        crash::point("snapshot.segment");
        let stem = format!("{SEGMENTS}/shard={shard}/{:012}-{}", part.number, self.claim.run());
        let path = format!("{stem}.parquet");
        let about = [("freshet.shard".to_owned(), shard.to_string())];
        let failed = |source| SnapshotError::Table { path: path.clone(), source };
        let put = self.store.stream(&path, |upload| {
            table::write(&part.segment, &self.spec, &about, upload).map(drop).map_err(failed)
        })?;
        crash::point("snapshot.segment.written");
        let mut indexes = Vec::new();
        for BuiltField { field, bytes } in table::built(&part.segment, BUILT_ROWS_MIN).map_err(failed)? {
            let name = match self.spec.fields[field].kind {
                VectorKind::Dense => "faiss",
                VectorKind::Sparse => "postings",
                VectorKind::Multi => "codes",
            };
            let path = format!("{stem}.{field}.{name}");
            indexes.push(IndexEntry { field, file: entry(path.clone(), self.store.put(&path, bytes)?) });
        }
        let versions = part.segment.versions().len();
        let entry = SegmentEntry {
            shard,
            number: part.number,
            versions,
            removed: 0,
            table: entry(path, put),
            indexes,
        };
        // Kept even if this snapshot fails: the next one need not write it again.
        self.written.insert((shard, part.number), entry.clone());
        Ok(entry)
    }

    /// Removes snapshots that are too old, those that never became whole, and files of segments that none names.
    /// Manifests go first: a snapshot that is there is whole. Nothing is removed unless all manifests are known.
    fn clean(&self) -> Result<(), SnapshotError> {
        self.claim.check(&self.store)?;
        let all = load::manifests(&self.store)?;
        let whole: Vec<&Manifest> = all.iter().filter_map(|(_, manifest)| manifest.as_ref()).collect();
        let newest = whole.last().map_or(0, |manifest| manifest.tick);
        let limit =
            newest.saturating_sub(u64::try_from(self.retention.keep_for.as_millis()).unwrap_or(u64::MAX));
        let kept_from = whole.len().saturating_sub(self.retention.keep.max(1));
        let is_old = |place: usize, manifest: &Manifest| place < kept_from && manifest.tick < limit;
        let (old, kept): (Vec<_>, Vec<_>) =
            whole.iter().enumerate().partition(|(place, manifest)| is_old(*place, manifest));
        for (_, manifest) in old {
            crash::point("snapshot.clean");
            self.store.delete(&Manifest::path(&manifest.id))?;
            self.store.delete(&manifest.removed.path)?;
        }
        let torn = all.iter().filter(|(_, manifest)| manifest.is_none());
        for (id, _) in torn {
            let folder = format!("{SNAPSHOTS}/{id}");
            for path in self.store.files(&folder)? {
                self.store.delete(&path)?;
            }
            self.store.sweep(&folder)?;
        }
        let mut named: BTreeSet<&str> =
            kept.iter().flat_map(|(_, manifest)| manifest.files()).map(|file| file.path.as_str()).collect();
        let written = self.written.values();
        named.extend(written.flat_map(|segment| {
            let indexes = segment.indexes.iter().map(|index| index.file.path.as_str());
            indexes.chain(std::iter::once(segment.table.path.as_str()))
        }));
        for folder in self.store.folders(SEGMENTS)? {
            let folder = format!("{SEGMENTS}/{folder}");
            for path in self.store.files(&folder)? {
                if !named.contains(path.as_str()) {
                    self.store.delete(&path)?;
                }
            }
            self.store.sweep(&folder)?;
        }
        answers::clean(&self.store, limit)
    }
}

fn entry(path: String, put: Put) -> FileEntry {
    FileEntry { path, bytes: put.bytes, checksum: put.checksum }
}

/// Rows of `removed.parquet`: which versions of which table are not visible.
#[derive(Default)]
struct Removed {
    tables: Vec<String>,
    versions: Vec<u32>,
    ids: Vec<String>,
    born: Vec<i64>,
}

impl Removed {
    fn add(&mut self, table: &str, part: &PartCut) {
        let versions = part.segment.versions();
        for &version in &part.removed {
            self.tables.push(table.to_owned());
            self.versions.push(version);
            self.ids.push(versions.id(version).to_owned());
            self.born.push(i64::try_from(versions.born(version)).unwrap_or(i64::MAX));
        }
    }

    fn table(self) -> Result<Vec<u8>, TableError> {
        let columns: [(&str, ArrayRef); 4] = [
            ("table", Arc::new(StringArray::from(self.tables))),
            ("version", Arc::new(UInt32Array::from(self.versions))),
            ("id", Arc::new(StringArray::from(self.ids))),
            ("born", Arc::new(TimestampMillisecondArray::from(self.born).with_timezone("UTC"))),
        ];
        let batch =
            RecordBatch::try_from_iter(columns).map_err(|error: ArrowError| TableError::from(error))?;
        let level = ZstdLevel::try_new(1).map_err(|error: ParquetError| TableError::from(error))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(bytes.into_inner())
    }
}
