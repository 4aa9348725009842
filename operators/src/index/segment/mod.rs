//! A segment: document versions whole, with the indexes of all their fields.
//!
//! ```text
//! versions ── id, payload, chunk texts, birth, origin     ┐
//! fields ──── layout (rows of a version) · rows (index)   ├ numbered alike, so that a document is in all or in none
//! payload ─── indexed payload fields                      ┘
//! marks ───── who is visible when: beside the segment, since a sealed segment never changes
//! ```
//! A segment begins as a **head**, to which versions are pushed, and is searched exactly. `seal` makes one immutable
//! segment of several, without the versions that no time sees any more, in the order of ids: there, ties by row are ties
//! by id. `table` writes a segment as a file and reads it back.

mod fields;
mod layout;
mod marks;
mod restore;
mod strings;
pub mod table;
mod versions;

pub use fields::FieldRows;
pub use layout::Layout;
pub use marks::Marks;
pub use restore::{Begun, BuiltField, Field, Order, Restore, Room, Wanted};
pub use versions::{Version, Versions};

use freshet_schemas::{Offset, Partition};

use super::payload::{PayloadField, PayloadIndex};
use super::rows::{Pick, ROWS_MAX};
use super::{Chunk, FieldSpec, IndexError, RowVector, Time};

/// What is indexed of a document.
#[derive(Clone, Debug, Default)]
pub struct SegmentSpec {
    /// Vector fields.
    pub fields: Vec<FieldSpec>,
    /// Payload fields.
    pub payload: Vec<PayloadField>,
}

/// A version with all its vectors.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Document id.
    pub id: String,
    /// Where its record came from.
    pub origin: (Partition, Offset),
    /// Compact JSON object text.
    pub payload: String,
    /// What the upsert remembers of it; opaque here.
    pub digest: Vec<u8>,
    /// The chunks, in order.
    pub chunks: Vec<Chunk>,
    /// Per field the vectors of its rows.
    pub fields: Vec<Vec<RowVector>>,
}

impl NewVersion {
    /// Bytes of what it holds.
    pub fn bytes(&self) -> usize {
        let texts = self.chunks.iter().map(|chunk| chunk.text.len() + size_of::<u32>()).sum::<usize>();
        let vectors = self.fields.iter().flatten().map(RowVector::bytes).sum::<usize>();
        self.id.len() + self.payload.len() + self.digest.len() + texts + vectors
    }
}

/// The rows of one field, and whose they are.
pub struct SegmentField {
    /// Whose.
    pub layout: Layout,
    /// The index.
    pub rows: FieldRows,
}

/// Document versions and their indexes. Invariant: versions, layouts and payload rows are as many as each other.
pub struct Segment {
    versions: Versions,
    fields: Vec<SegmentField>,
    payload: PayloadIndex,
    sealed: bool,
}

/// A segment to be sealed again, with those of its versions that are wanted.
pub struct Source<'a> {
    /// The segment.
    pub segment: &'a Segment,
    /// Its marks, as they were when the work was begun.
    pub marks: Marks,
}

/// A sealed segment, and where it has put what it was made of.
pub struct Sealed {
    /// The segment.
    pub segment: Segment,
    /// Its marks, as those of the sources said.
    pub marks: Marks,
    /// Per source and version the new number; `GONE` for those that were left out.
    pub numbers: Vec<Vec<Version>>,
}

/// No number: the version has expired.
pub const GONE: Version = Version::MAX;

impl Segment {
    /// A head without versions.
    ///
    /// # Errors
    /// A field that cannot be indexed, or FAISS failing.
    pub fn head(spec: &SegmentSpec) -> Result<Self, IndexError> {
        let field = |spec| Ok(SegmentField { layout: Layout::default(), rows: FieldRows::head(spec)? });
        Ok(Self {
            versions: Versions::by_birth(),
            fields: spec.fields.iter().map(field).collect::<Result<_, IndexError>>()?,
            payload: PayloadIndex::head(&spec.payload),
            sealed: false,
        })
    }

    /// Adds a version, born no earlier than those before, to a head. Its vectors have been checked.
    ///
    /// # Errors
    /// The library below failing; the segment is of no use then.
    pub fn push(&mut self, version: &NewVersion, born: Time) -> Result<Version, IndexError> {
        debug_assert!(!self.sealed && version.fields.len() == self.fields.len());
        for (field, vectors) in self.fields.iter_mut().zip(&version.fields) {
            vectors.iter().try_for_each(|vector| field.rows.push(vector))?;
            field.layout.push(vectors.len() as u32);
        }
        self.payload.push(&version.payload);
        Ok(self.versions.push(version, born))
    }

    /// One segment of several: all versions that some time may still see.
    ///
    /// # Errors
    /// More rows than an index can hold, or the library below failing.
    pub fn seal(spec: &SegmentSpec, sources: &[Source<'_>]) -> Result<Sealed, IndexError> {
        let picks = picks(sources);
        let versions = Versions::by_id(
            picks.iter().map(|pick| (&sources[pick.from as usize].segment.versions, pick.row)),
        );
        let mut fields = Vec::with_capacity(spec.fields.len());
        for (number, spec) in spec.fields.iter().enumerate() {
            fields.push(seal_field(spec, number, sources, &picks)?);
        }
        let payloads: Vec<&PayloadIndex> = sources.iter().map(|source| &source.segment.payload).collect();
        let payload = PayloadIndex::seal(&spec.payload, &payloads, &picks);
        let segment = Self { versions, fields, payload, sealed: true };
        let mut numbers: Vec<Vec<Version>> =
            sources.iter().map(|source| vec![GONE; source.segment.versions.len()]).collect();
        let mut deaths = Vec::new();
        for (new, pick) in (0..).zip(&picks) {
            numbers[pick.from as usize][pick.row as usize] = new;
            deaths.extend(sources[pick.from as usize].marks.died(pick.row).map(|died| (died, new)));
        }
        let marks = Marks::new(segment.versions.births(), deaths);
        Ok(Sealed { segment, marks, numbers })
    }

    /// Its versions.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Its fields.
    pub fn fields(&self) -> &[SegmentField] {
        &self.fields
    }

    /// Its payload fields.
    pub fn payload(&self) -> &PayloadIndex {
        &self.payload
    }

    /// Whether it never changes, and its rows are in the order of ids.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The vectors of a version in a field.
    pub fn vectors(&self, version: Version, field: usize) -> impl Iterator<Item = RowVector> + '_ {
        let SegmentField { layout, rows } = &self.fields[field];
        layout.rows(version).map(|row| rows.vector(row))
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let fields = self.fields.iter().map(|field| field.layout.bytes() + field.rows.bytes());
        self.versions.bytes() + fields.sum::<usize>() + self.payload.bytes()
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        self.versions.check();
        self.payload.check();
        assert_eq!(self.payload.len(), self.versions.len());
        for field in &self.fields {
            assert_eq!(field.layout.len(), field.rows.len(), "rows have versions");
            field.rows.check();
        }
    }
}

/// The versions that some time may still see, by id, then by birth.
fn picks(sources: &[Source<'_>]) -> Vec<Pick> {
    let mut picks = Vec::new();
    for (from, source) in (0..).zip(sources) {
        let versions = source.segment.versions.sorted().into_iter();
        picks.extend(versions.filter(|&row| source.marks.kept(row)).map(|row| Pick { from, row }));
    }
    let key = |pick: &Pick| {
        let versions = &sources[pick.from as usize].segment.versions;
        (versions.id(pick.row), versions.born(pick.row))
    };
    // The sort finds the runs that the sources are, and merges them.
    picks.sort_by(|a, b| key(a).cmp(&key(b)));
    picks
}

fn seal_field(
    spec: &FieldSpec,
    number: usize,
    sources: &[Source<'_>],
    picks: &[Pick],
) -> Result<SegmentField, IndexError> {
    let fields: Vec<&SegmentField> = sources.iter().map(|source| &source.segment.fields[number]).collect();
    let mut layout = Layout::default();
    let mut rows = Vec::with_capacity(picks.len());
    for pick in picks {
        let of_version = fields[pick.from as usize].layout.rows(pick.row);
        layout.push(of_version.len() as u32);
        rows.extend(of_version.map(|row| Pick { from: pick.from, row }));
    }
    if rows.len() > ROWS_MAX {
        let what = format!("would have {} rows in one segment, at most {ROWS_MAX} are possible", rows.len());
        return Err(IndexError::Field { field: spec.name.clone(), what });
    }
    let from: Vec<&FieldRows> = fields.iter().map(|field| &field.rows).collect();
    Ok(SegmentField { layout, rows: FieldRows::seal(spec, &from, &rows)? })
}
