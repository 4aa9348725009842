//! The manifest of a snapshot: which files it is made of, and what must fit to use it.

use std::collections::BTreeMap;

use freshet_schemas::{Offset, Partition};
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use super::store::checksum;
use crate::index::Time;

/// Version of the format that is written.
///
/// 4: files of sparse and coded fields (`.postings`, `.codes`), graphs without the vectors that are in the table. 3: a checksum
/// of its own.
pub const FORMAT: u32 = 4;
/// The oldest one that is read.
pub(super) const FORMAT_OLDEST: u32 = 2;

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
    /// XXH3, 128 bits, of the manifest as it is written without this line; `None` in format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
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

    /// The bytes of its file, with the checksum that they have.
    pub fn write(&mut self) -> serde_json::Result<Vec<u8>> {
        self.checksum = Some(self.sum()?);
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// What its checksum must be.
    fn sum(&self) -> serde_json::Result<String> {
        serde_json::to_vec_pretty(&Self { checksum: None, ..self.clone() }).map(|text| checksum(&text))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Bytes that are none or not those that were written, or one of another format.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let broken = |what: String| SnapshotError::Broken { path: path.to_owned(), what };
        let json = |error: serde_json::Error| broken(format!("is not a manifest: {error}"));
        let Versioned { format } = serde_json::from_slice(bytes).map_err(json)?;
        if !(FORMAT_OLDEST..=FORMAT).contains(&format) {
            return Err(SnapshotError::Format { path: path.to_owned(), format });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(json)?;
        match &manifest.checksum {
            None if format == FORMAT_OLDEST => Ok(manifest),
            None => Err(broken("has no checksum".into())),
            Some(_) if format == FORMAT_OLDEST => {
                Err(broken(format!("has a checksum, format {format} has none")))
            }
            Some(said) => match manifest.sum().map_err(json)? {
                found if found == *said => Ok(manifest),
                found => Err(broken(format!("has checksum {found}, and says {said}"))),
            },
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Manifest {
        let file = |path: &str| FileEntry { path: path.into(), bytes: 7, checksum: "0f".into() };
        Manifest {
            format: FORMAT,
            id: name(1_700_000_000_000),
            tick: 1_700_000_000_000,
            written_by: "freshet".into(),
            pipeline: "tickets".into(),
            run: "a1".into(),
            identity: BTreeMap::from([("shards".into(), "4".into())]),
            offsets: BTreeMap::from([(0, 12), (1, 30)]),
            documents: 3,
            segments: Vec::new(),
            removed: file("removed.parquet"),
            checksum: None,
        }
    }

    #[test]
    fn no_turned_byte_goes_unnoticed() {
        let mut manifest = some();
        let bytes = manifest.write().unwrap();
        assert_eq!(Manifest::parse("m", &bytes).unwrap(), manifest);
        for place in 0..bytes.len() {
            for turn in [0x01, 0x20, 0x80] {
                let mut bytes = bytes.clone();
                bytes[place] ^= turn;
                // White space between the values is not what it says.
                if let Ok(read) = Manifest::parse("m", &bytes) {
                    assert_eq!(read, manifest, "byte {place}");
                }
            }
        }
    }

    #[test]
    fn the_format_before_has_no_checksum() {
        let older = Manifest { format: FORMAT_OLDEST, ..some() };
        assert_eq!(Manifest::parse("m", &serde_json::to_vec(&older).unwrap()).unwrap(), older);
        let wrong = |manifest: &Manifest| {
            Manifest::parse("m", &serde_json::to_vec(manifest).unwrap()).unwrap_err().to_string()
        };
        assert!(wrong(&some()).contains("has no checksum"));
        let with = Manifest { checksum: Some("00".into()), ..older };
        assert!(wrong(&with).contains("format 2 has none"));
        assert!(wrong(&Manifest { format: FORMAT + 1, ..some() }).contains("reads formats 2 to 4"));
    }
}
