//! A shard: documents with their versions, and an index per vector field.
//!
//! A version of a document is visible at `born ≤ t < died`; several may be visible at different times that are still
//! asked for, since readers lag behind what has been applied. A version names the rows of its vectors; a row is shared
//! by the versions that follow each other with the same vector, and is visible as long as one of them is. `compact`
//! frees what no reader can see any more.
//!
//! `apply` changes it, `find` reads it, `compact` frees.

use std::collections::{BTreeMap, VecDeque};

use freshet_schemas::{Offset, Partition, SparseVector};

use super::rows::{NEVER, Row, RowIndex, RowTable, VectorRef, open};
use super::{FieldSpec, IndexError, Time};

mod apply;
mod compact;
mod find;

/// A version of a document.
#[derive(Debug)]
struct Version {
    born: Time,
    /// `NEVER` while it is the newest and not removed.
    died: Time,
    origin: (Partition, Offset),
    payload: String,
    chunks: Vec<String>,
    /// Per field the rows of its vectors, by number of the chunk; at most one for sparse fields.
    rows: Vec<Vec<Row>>,
}

/// A document. Invariant: `versions` ascend and do not overlap; only the last may live for ever.
#[derive(Debug, Default)]
struct Document {
    id: String,
    versions: VecDeque<Version>,
}

impl Document {
    fn at(&self, time: Time) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.born <= time && time < version.died)
    }

    fn newest(&self) -> Option<&Version> {
        self.versions.back().filter(|version| version.died == NEVER)
    }
}

/// A vector field: its index, and who its rows belong to.
struct Field {
    spec: FieldSpec,
    index: Box<dyn RowIndex>,
    table: RowTable,
}

/// Some documents whole, at every time that is still asked for.
///
/// Invariants: `slots` names the places of all documents that have a version, `free` all other places; a row's owner is
/// the place of the document whose versions name it; `ended` holds the place of each version that died, by time of its
/// death; `sizes` says how many documents there were as of each time that something was applied.
pub struct Shard {
    fields: Vec<Field>,
    slots: BTreeMap<String, u32>,
    documents: Vec<Document>,
    free: Vec<u32>,
    ended: VecDeque<(Time, u32)>,
    sizes: VecDeque<(Time, usize)>,
    applied: Option<Time>,
    /// No query comes at an earlier time.
    since: Time,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Documents of the newest state.
    pub documents: usize,
    /// Versions of documents, those that only lagging readers see included.
    pub versions: usize,
    /// Rows of all fields that the newest state holds.
    pub rows: usize,
    /// Rows of all fields that are dead or freed, and still take place.
    pub rows_dead: usize,
    /// Bytes of memory of vectors, payloads and texts, about.
    pub bytes: usize,
}

impl Shard {
    /// An empty shard with these fields.
    ///
    /// # Errors
    /// A field that cannot be indexed, or FAISS failing.
    pub fn new(fields: Vec<FieldSpec>) -> Result<Self, IndexError> {
        let field = |spec: FieldSpec| Ok(Field { index: open(&spec)?, spec, table: RowTable::default() });
        Ok(Self {
            fields: fields.into_iter().map(field).collect::<Result<_, IndexError>>()?,
            slots: BTreeMap::new(),
            documents: Vec::new(),
            free: Vec::new(),
            ended: VecDeque::new(),
            sizes: VecDeque::new(),
            applied: None,
            since: 0,
        })
    }

    /// The last time applied.
    pub fn applied(&self) -> Option<Time> {
        self.applied
    }

    /// Documents visible at a time.
    pub fn len_at(&self, time: Time) -> usize {
        let later = self.sizes.partition_point(|(applied, _)| *applied <= time);
        later.checked_sub(1).map_or(0, |last| self.sizes[last].1)
    }

    /// The sparse vector of a document's newest version in a field, as of the last time applied.
    pub fn sparse(&self, id: &str, field: usize) -> Option<&SparseVector> {
        let rows = self.newest(id)?.rows.get(field)?;
        match self.fields[field].index.vector(*rows.first()?) {
            VectorRef::Sparse(vector) => Some(vector),
            VectorRef::Dense(_) | VectorRef::Multi(_) => None,
        }
    }

    /// Where the record of a document's newest version came from, as of the last time applied.
    pub fn origin(&self, id: &str) -> Option<(Partition, Offset)> {
        self.newest(id).map(|version| version.origin)
    }

    /// What it holds.
    pub fn counters(&self) -> ShardCounters {
        let versions = || self.documents.iter().flat_map(|document| &document.versions);
        let text =
            |version: &Version| version.payload.len() + version.chunks.iter().map(String::len).sum::<usize>();
        let dead: usize = self.fields.iter().map(|field| field.table.closed()).sum();
        ShardCounters {
            documents: self.sizes.back().map_or(0, |(_, size)| *size),
            versions: versions().count(),
            rows: self.fields.iter().map(|field| field.table.len()).sum::<usize>() - dead,
            rows_dead: dead,
            bytes: versions().map(text).sum::<usize>()
                + self.fields.iter().map(|f| f.index.bytes()).sum::<usize>(),
        }
    }

    fn document(&self, slot: u32) -> &Document {
        &self.documents[slot as usize]
    }

    fn newest(&self, id: &str) -> Option<&Version> {
        self.slots.get(id).and_then(|slot| self.document(*slot).newest())
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        assert_eq!(self.slots.len() + self.free.len(), self.documents.len(), "every place is used or free");
        let mut deaths: Vec<(Time, u32)> = Vec::new();
        for (id, &slot) in &self.slots {
            let document = self.document(slot);
            assert_eq!(id, &document.id, "place {slot}");
            assert!(!document.versions.is_empty(), "document \"{id}\" has no version");
            for (version, next) in document.versions.iter().zip(document.versions.iter().skip(1)) {
                assert!(
                    version.born < version.died && version.died <= next.born,
                    "versions of \"{id}\" overlap"
                );
            }
            deaths.extend(document.versions.iter().filter(|v| v.died != NEVER).map(|v| (v.died, slot)));
            for (number, field) in self.fields.iter().enumerate() {
                field.check_rows(
                    slot,
                    document.versions.iter().map(|version| (version, &version.rows[number])),
                );
            }
        }
        deaths.sort_unstable();
        let mut ended: Vec<(Time, u32)> = self.ended.iter().copied().collect();
        assert!(ended.is_sorted_by_key(|(died, _)| *died), "deaths ascend");
        ended.sort_unstable();
        assert_eq!(ended, deaths, "every death is noted");
        let living = self.slots.values().filter(|slot| self.document(**slot).newest().is_some()).count();
        assert_eq!(living, self.counters().documents, "documents are counted");
        for field in &self.fields {
            assert!(field.table.len() <= field.index.len(), "rows of field \"{}\"", field.spec.name);
            field.index.check();
        }
    }
}

impl Field {
    /// Asserts that the rows of a document are its own, and visible when its versions are.
    fn check_rows<'a>(&self, slot: u32, versions: impl Iterator<Item = (&'a Version, &'a Vec<Row>)>) {
        let mut deaths: BTreeMap<Row, Time> = BTreeMap::new();
        for (version, rows) in versions {
            for &row in rows {
                assert_eq!(self.table.owner(row), slot, "row {row} of field \"{}\"", self.spec.name);
                assert!(
                    self.table.visible(version.born, self.index.len()).contains(row),
                    "row {row} is seen with its version"
                );
                deaths.insert(row, version.died);
            }
        }
        for (row, died) in deaths {
            assert_eq!(
                self.table.died(row),
                died,
                "row {row} of field \"{}\" dies with its version",
                self.spec.name
            );
        }
    }
}
