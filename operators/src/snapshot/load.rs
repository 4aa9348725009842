//! Reads snapshots: the newest whole one, what each is made of.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use arrow::array::{Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use xxhash_rust::xxh3::Xxh3Default;

use super::SnapshotError;
use super::manifest::{FORMAT, FileEntry, Identity, Manifest, SNAPSHOTS, SegmentEntry};
use super::store::{Store, checksum};
use crate::index::Time;
use crate::index::segment::{BuiltField, Segment, SegmentSpec, Version, table};
use crate::index::shard::RestoredPart;

/// A snapshot in memory.
pub struct Loaded {
    /// Its manifest.
    pub manifest: Manifest,
    /// Parts by shard.
    pub shards: BTreeMap<u32, Vec<RestoredPart>>,
}

/// A snapshot that cannot be used.
#[derive(Debug)]
pub struct Skipped {
    /// Its name.
    pub id: String,
    /// Why.
    pub error: SnapshotError,
}

/// Names of all snapshots that have been begun, oldest first: those without a manifest are not whole.
///
/// # Errors
/// The store refusing.
pub fn list(store: &Store) -> Result<Vec<String>, SnapshotError> {
    store.folders(SNAPSHOTS)
}

/// All snapshots, oldest first; those that are not whole without their manifest.
///
/// # Errors
/// The store refusing, or a manifest of another version, whose files nobody here knows.
pub fn manifests(store: &Store) -> Result<Vec<(String, Option<Manifest>)>, SnapshotError> {
    let mut all = Vec::new();
    for id in list(store)? {
        let manifest = match manifest(store, &id) {
            Ok(manifest) => Some(manifest),
            Err(SnapshotError::Broken { .. }) => None,
            Err(error) => return Err(error),
        };
        all.push((id, manifest));
    }
    Ok(all)
}

/// The manifest of a snapshot.
///
/// # Errors
/// A snapshot that is not there or not whole.
pub fn manifest(store: &Store, id: &str) -> Result<Manifest, SnapshotError> {
    let path = Manifest::path(id);
    Manifest::parse(&path, &store.get(&path)?)
}

/// The manifest of a snapshot, all of whose files have been found to be what it says.
///
/// # Errors
/// Files that are missing or not what the manifest says.
pub fn inspect(store: &Store, id: &str) -> Result<Manifest, SnapshotError> {
    let manifest = manifest(store, id)?;
    manifest.files().try_for_each(|file| Parts::of(store, file)?.check())?;
    Ok(manifest)
}

/// Whether the newest snapshot is of a configuration; one without snapshots is of any.
///
/// # Errors
/// The store refusing to list, or the newest snapshot being of another configuration.
pub fn fits(store: &Store, identity: &Identity) -> Result<(), SnapshotError> {
    for id in list(store)?.into_iter().rev() {
        match manifest(store, &id) {
            Ok(manifest) => return same(&manifest, identity),
            Err(error) if may_be_whole(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether a snapshot that cannot be used here may be used elsewhere, or later.
fn may_be_whole(error: &SnapshotError) -> bool {
    match error {
        SnapshotError::Unfit { .. } | SnapshotError::Store { .. } => true,
        // Of a later version of this program.
        SnapshotError::Format { format, .. } => *format > FORMAT,
        SnapshotError::Owned(_)
        | SnapshotError::Taken { .. }
        | SnapshotError::Broken { .. }
        | SnapshotError::Table { .. }
        | SnapshotError::Shard { .. } => false,
    }
}

fn same(manifest: &Manifest, identity: &Identity) -> Result<(), SnapshotError> {
    let differences = manifest.differences(identity);
    if differences.is_empty() {
        return Ok(());
    }
    let told: Vec<String> =
        differences.iter().map(|(key, here, there)| format!("{key} was {here} and is {there}")).collect();
    Err(SnapshotError::Unfit { id: manifest.id.clone(), differences: told.join(", ") })
}

/// The newest whole snapshot that fits; `None` if there is none. Broken ones are told, and the one before is tried.
///
/// # Errors
/// The store refusing to list, or the newest snapshot being of another configuration.
pub fn newest(
    store: &Store,
    spec: &SegmentSpec,
    identity: &Identity,
    mut skipped: impl FnMut(Skipped),
) -> Result<Option<Loaded>, SnapshotError> {
    for id in list(store)?.into_iter().rev() {
        match load(store, &id, spec, identity) {
            Ok(loaded) => return Ok(Some(loaded)),
            // To begin without it must be somebody's wish.
            Err(error) if may_be_whole(&error) => return Err(error),
            Err(error) => skipped(Skipped { id, error }),
        }
    }
    Ok(None)
}

/// A snapshot.
///
/// # Errors
/// Files that are missing or not what the manifest says, or another configuration.
pub fn load(
    store: &Store,
    id: &str,
    spec: &SegmentSpec,
    identity: &Identity,
) -> Result<Loaded, SnapshotError> {
    let manifest = manifest(store, id)?;
    same(&manifest, identity)?;
    let mut removed = removed(store, &manifest.removed)?;
    let parts = parts(store, &manifest.segments, spec)?;
    let mut shards: BTreeMap<u32, Vec<RestoredPart>> = BTreeMap::new();
    for (entry, segment) in manifest.segments.iter().zip(parts) {
        let path = &entry.table.path;
        let mut gone: Vec<Version> = removed.remove(path).unwrap_or_default();
        if gone.len() != entry.removed || gone.iter().any(|&version| version as usize >= entry.versions) {
            let what = format!(
                "{} versions are said to be removed, the manifest says {}",
                gone.len(),
                entry.removed
            );
            return Err(SnapshotError::Broken { path: path.clone(), what });
        }
        gone.sort_unstable();
        gone.dedup();
        let part = RestoredPart { number: entry.number, segment, removed: gone };
        shards.entry(entry.shard).or_default().push(part);
    }
    Ok(Loaded { manifest, shards })
}

/// Reads segments, as many at once as there are cores: what that takes beside the segments is a row group each. If several
/// cannot be read, the first of them is the error.
fn parts(store: &Store, entries: &[SegmentEntry], spec: &SegmentSpec) -> Result<Vec<Segment>, SnapshotError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(entries.len());
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut read = Vec::new();
        // Numbers are handed out in order: whoever comes before one that fails is read to its end.
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(number) else { break };
            let part = part(store, entry, spec);
            failed.fetch_or(part.is_err(), Ordering::Relaxed);
            read.push((number, part));
        }
        read
    };
    let mut read = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut read = work();
        for other in others {
            read.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        read
    });
    read.sort_by_key(|(number, _)| *number);
    read.into_iter().map(|(_, part)| part).collect()
}

/// Reads a segment.
fn part(store: &Store, entry: &SegmentEntry, spec: &SegmentSpec) -> Result<Segment, SnapshotError> {
    let path = &entry.table.path;
    let mut built = Vec::with_capacity(entry.indexes.len());
    for index in &entry.indexes {
        built.push(BuiltField { field: index.field, bytes: read(store, &index.file)? });
    }
    let mut parts = Parts::of(store, &entry.table)?;
    let table = table::read(&mut parts, spec, built);
    let segment = match (parts.failure.take(), table) {
        (Some(error), _) => return Err(error),
        (None, Err(source)) => return Err(SnapshotError::Table { path: path.clone(), source }),
        (None, Ok(table)) => table.segment,
    };
    parts.check()?;
    match segment.versions().len() {
        found if found == entry.versions => Ok(segment),
        found => {
            let what = format!("has {found} versions, its manifest says {}", entry.versions);
            Err(SnapshotError::Broken { path: path.clone(), what })
        }
    }
}

/// Reads a file, and checks that it is what was written.
fn read(store: &Store, file: &FileEntry) -> Result<Vec<u8>, SnapshotError> {
    let bytes = store.get_range(&file.path, 0..sized(store, file)?, Vec::new())?;
    matches(file, &checksum(&bytes))?;
    Ok(bytes.into())
}

/// The length of a file, which is what its manifest says.
fn sized(store: &Store, file: &FileEntry) -> Result<u64, SnapshotError> {
    match store.size(&file.path)? {
        size if size == file.bytes => Ok(size),
        size => {
            let what = format!("has {size} bytes, its manifest says {}", file.bytes);
            Err(SnapshotError::Broken { path: file.path.clone(), what })
        }
    }
}

fn matches(file: &FileEntry, found: &str) -> Result<(), SnapshotError> {
    if found == file.checksum {
        return Ok(());
    }
    let what = format!("has checksum {found}, its manifest says {}", file.checksum);
    Err(SnapshotError::Broken { path: file.path.clone(), what })
}

/// Bytes read at once where nobody looks at them.
const PART_BYTES: u64 = 8 << 20;

/// A file that is read in parts, in order, and hashed as it comes.
struct Parts<'a> {
    store: &'a Store,
    file: &'a FileEntry,
    hash: Xxh3Default,
    /// Bytes that are in the hash.
    hashed: u64,
    /// The store refusing: not the file's fault.
    failure: Option<SnapshotError>,
}

impl<'a> Parts<'a> {
    fn of(store: &'a Store, file: &'a FileEntry) -> Result<Self, SnapshotError> {
        sized(store, file)?;
        Ok(Self { store, file, hash: Xxh3Default::new(), hashed: 0, failure: None })
    }

    fn part(&mut self, range: Range<u64>, room: Vec<u8>) -> Result<Bytes, SnapshotError> {
        let bytes = self.store.get_range(&self.file.path, range.clone(), room)?;
        if let Some(known) = self.hashed.checked_sub(range.start).filter(|_| range.end > self.hashed) {
            self.hash.update(&bytes[usize::try_from(known).unwrap_or(bytes.len())..]);
            self.hashed = range.end;
        }
        Ok(bytes)
    }

    /// Reads what has not come yet, and compares the checksum.
    fn check(mut self) -> Result<(), SnapshotError> {
        let mut room = Vec::new();
        while self.hashed < self.file.bytes {
            room = self.part(self.hashed..self.file.bytes.min(self.hashed + PART_BYTES), room)?.into();
        }
        matches(self.file, &format!("{:032x}", self.hash.digest128()))
    }
}

impl table::Source for &mut Parts<'_> {
    fn size(&self) -> u64 {
        self.file.bytes
    }

    fn range(&mut self, range: Range<u64>, room: Vec<u8>) -> Result<Bytes, table::TableError> {
        self.part(range, room).map_err(|error| {
            let told = table::TableError::Torn(error.to_string());
            self.failure = Some(error);
            told
        })
    }
}

/// Removed versions by table.
fn removed(store: &Store, file: &FileEntry) -> Result<BTreeMap<String, Vec<Version>>, SnapshotError> {
    let failed = |source: table::TableError| SnapshotError::Table { path: file.path.clone(), source };
    let bytes = Bytes::from(read(store, file)?);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
    let mut removed: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for batch in reader.map_err(|error| failed(error.into()))? {
        let batch = batch.map_err(|error| failed(error.into()))?;
        let (Some(tables), Some(versions)) =
            (column::<StringArray>(&batch, "table"), column::<UInt32Array>(&batch, "version"))
        else {
            let what = "has no columns \"table\" and \"version\"".to_owned();
            return Err(SnapshotError::Broken { path: file.path.clone(), what });
        };
        for row in 0..batch.num_rows() {
            removed.entry(tables.value(row).to_owned()).or_default().push(versions.value(row));
        }
    }
    Ok(removed)
}

/// The documents of a snapshot: id → the tick at which what is there now came.
///
/// # Errors
/// Files that are missing or not what the manifest says.
pub fn documents(store: &Store, manifest: &Manifest) -> Result<BTreeMap<String, Time>, SnapshotError> {
    let mut removed = removed(store, &manifest.removed)?;
    let mut documents = BTreeMap::new();
    for entry in &manifest.segments {
        let path = &entry.table.path;
        let failed = |source: table::TableError| SnapshotError::Table { path: path.clone(), source };
        let mut gone = removed.remove(path).unwrap_or_default();
        gone.sort_unstable();
        let mut version: Version = 0;
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(read(store, &entry.table)?));
        let reader = reader.map_err(|error| failed(error.into()))?;
        let columns = ProjectionMask::columns(reader.parquet_schema(), ["id", "chunk", "born"]);
        let batches = reader.with_projection(columns).build().map_err(|error| failed(error.into()))?;
        for batch in batches {
            let batch = batch.map_err(|error| failed(error.into()))?;
            let (Some(ids), Some(chunks), Some(born)) = (
                column::<StringArray>(&batch, "id"),
                column::<Int32Array>(&batch, "chunk"),
                column::<TimestampMillisecondArray>(&batch, "born"),
            ) else {
                let what = "has no columns \"id\", \"chunk\" and \"born\"".to_owned();
                return Err(SnapshotError::Broken { path: path.clone(), what });
            };
            // A version begins with its chunk 0.
            for row in (0..batch.num_rows()).filter(|&row| chunks.value(row) == 0) {
                if gone.binary_search(&version).is_err() {
                    documents.insert(ids.value(row).to_owned(), Time::try_from(born.value(row)).unwrap_or(0));
                }
                version += 1;
            }
        }
    }
    Ok(documents)
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a A> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}
