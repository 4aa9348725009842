//! The manifest of a snapshot: which files it is made of, and what must fit to use it.

use std::collections::BTreeMap;

use freshet_schemas::{Offset, Partition};
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use crate::index::Time;

/// Version of the format.
pub const FORMAT: u32 = 2;

/// What a snapshot and a configuration must agree on: key of the configuration → value, models by their digests.
pub type Identity = BTreeMap<String, String>;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path in the store.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// XXH3, 128 bits, in hexadecimal digits.
    pub checksum: String,
}

/// A built index of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexEntry {
    /// Number of its field.
    pub field: usize,
    /// Its bytes.
    pub file: FileEntry,
}

/// A segment of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// The shard.
    pub shard: u32,
    /// Its number in the shard.
    pub number: u64,
    /// Document versions in it.
    pub versions: usize,
    /// Those of them that are not visible; they are listed in `removed`.
    pub removed: usize,
    /// Its versions, as Parquet.
    pub table: FileEntry,
    /// Its built indexes.
    pub indexes: Vec<IndexEntry>,
}

/// A whole snapshot. Written last: a snapshot without is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Name of the snapshot: the UTC date and time of its tick.
    pub id: String,
    /// The tick it was cut at, in milliseconds since the epoch.
    pub tick: Time,
    /// Version of Freshet that wrote it.
    pub written_by: String,
    /// Name of the pipeline; empty in snapshots of versions that did not say.
    #[serde(default)]
    pub pipeline: String,
    /// The run of the pipeline.
    #[serde(default)]
    pub run: String,
    /// What must fit.
    pub identity: Identity,
    /// Next offset of each partition of the documents topic.
    pub offsets: BTreeMap<Partition, Offset>,
    /// Documents in it.
    pub documents: usize,
    /// Its segments, by shard and number.
    pub segments: Vec<SegmentEntry>,
    /// Document versions in the segments that are not visible, as Parquet.
    pub removed: FileEntry,
}

impl Manifest {
    /// Path of the manifest of a snapshot.
    pub fn path(id: &str) -> String {
        format!("{SNAPSHOTS}/{id}/manifest.json")
    }

    /// All files but itself.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.segments
            .iter()
            .flat_map(|segment| {
                std::iter::once(&segment.table).chain(segment.indexes.iter().map(|index| &index.file))
            })
            .chain(std::iter::once(&self.removed))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Bytes that are none, or one of another format.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let broken = |what: String| SnapshotError::Broken { path: path.to_owned(), what };
        let json = |error: serde_json::Error| broken(format!("is not a manifest: {error}"));
        let Versioned { format } = serde_json::from_slice(bytes).map_err(json)?;
        if format != FORMAT {
            return Err(SnapshotError::Format { path: path.to_owned(), format });
        }
        serde_json::from_slice(bytes).map_err(json)
    }

    /// Which keys differ from what is configured: key, value here, value there. Documents topics that were named after the
    /// snapshot was cut, behind those that it knows, are no difference: they are read from their beginning.
    pub fn differences<'a>(&'a self, configured: &'a Identity) -> Vec<(&'a str, &'a str, &'a str)> {
        let keys: std::collections::BTreeSet<&String> =
            self.identity.keys().chain(configured.keys()).collect();
        let value = |of: &'a Identity, key: &str| of.get(key).map_or("nothing", String::as_str);
        let known =
            self.identity.keys().filter(|key| topic_number("topics.documents", key).is_some()).count();
        let is_new = |key: &str| {
            let number = ["topics.documents", "documents.topics"].iter().find_map(|of| topic_number(of, key));
            // One that is alone has no number in the identity.
            number.is_some_and(|number| number >= known.max(1))
                || (known == 0 && key == "topics.documents[0]")
        };
        keys.into_iter()
            .filter(|key| self.identity.contains_key(*key) || !is_new(key))
            .map(|key| (key.as_str(), value(&self.identity, key), value(configured, key)))
            .filter(|(_, here, there)| here != there)
            .collect()
    }
}

/// The number of a documents topic that a key names.
fn topic_number(of: &str, key: &str) -> Option<usize> {
    key.strip_prefix(of)?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Folder of the snapshots.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// Folder of the segments, which snapshots share.
pub(super) const SEGMENTS: &str = "segments";

/// The name of a snapshot: `20261121T140512.123Z`.
pub fn name(tick: Time) -> String {
    let instant = i64::try_from(tick).ok().and_then(|tick| jiff::Timestamp::from_millisecond(tick).ok());
    instant.map_or_else(|| tick.to_string(), |at| at.strftime("%Y%m%dT%H%M%S.%3fZ").to_string())
}

/// SQL for DuckDB: a view `documents` over the tables of a snapshot, without what is removed.
pub fn view(store: &str, manifest: &Manifest) -> String {
    // A bucket is read by DuckDB's extension httpfs, a folder as it is.
    let root = store.strip_prefix("file://").unwrap_or(store).trim_end_matches('/');
    let quoted = |path: &str| format!("'{}'", format!("{root}/{path}").replace('\'', "''"));
    let tables: Vec<String> = manifest.segments.iter().map(|segment| quoted(&segment.table.path)).collect();
    format!(
        "-- Snapshot {}: {} documents. A row is a chunk; chunk = 0 is there once per document.\n\
         CREATE OR REPLACE VIEW documents AS\n\
         SELECT d.* FROM read_parquet([\n  {}\n], union_by_name = true) AS d\n\
         ANTI JOIN read_parquet({}) AS removed USING (id, born);",
        manifest.id,
        manifest.documents,
        tables.join(",\n  "),
        quoted(&manifest.removed.path),
    )
}
