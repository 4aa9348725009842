//! Segments that were written and are read back, column by column.

mod field;

use freshet_schemas::{Offset, Partition};

pub use field::{Field, Wanted};

use super::{Segment, SegmentField, SegmentSpec, Versions};
use crate::index::payload::PayloadIndex;
use crate::index::rows::{Pick, ROWS_MAX};
use crate::index::{IndexError, Time};

/// The order of the versions of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By id, then by birth: sealed segments.
    Id,
    /// By birth: heads.
    Birth,
}

/// What was built of a field, beside the table: see [`FieldRows::write`](super::FieldRows::write).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltField {
    /// Number of the field.
    pub field: usize,
    /// Bytes.
    pub bytes: Vec<u8>,
}

/// A segment being read back. Unlike a head it trusts nobody: whatever comes is checked.
pub struct Restore {
    spec: SegmentSpec,
    versions: Versions,
    fields: Vec<Field>,
    payload: PayloadIndex,
    order: Order,
}

/// What is about to come, about: room is made for it at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Rows of the table.
    pub rows: usize,
    /// Bytes of ids.
    pub ids: usize,
    /// Bytes of payloads.
    pub payloads: usize,
    /// Bytes of texts.
    pub texts: usize,
}

/// What a version has beside chunks and vectors.
#[derive(Clone, Copy, Debug)]
pub struct Begun<'a> {
    /// Document id.
    pub id: &'a str,
    /// The tick at which it came.
    pub born: Time,
    /// Where its record came from.
    pub origin: (Partition, Offset),
    /// Compact JSON object text.
    pub payload: &'a str,
    /// What the upsert remembers of it.
    pub digest: &'a [u8],
}

impl Segment {
    /// A segment without versions, to be given them in their order. `built`: what is beside the table; only a sealed segment
    /// has any. What was not built is built anew.
    ///
    /// # Errors
    /// A field that cannot be indexed, or something built for no field.
    pub fn restore(
        spec: &SegmentSpec,
        order: Order,
        built: Vec<BuiltField>,
        room: &Room,
    ) -> Result<Restore, IndexError> {
        let mut of_fields: Vec<Option<Vec<u8>>> = spec.fields.iter().map(|_| None).collect();
        for BuiltField { field, bytes } in built {
            match of_fields.get_mut(field).filter(|_| order == Order::Id) {
                Some(of_field) => *of_field = Some(bytes),
                None => {
                    let what = format!("a built index for field {field}, which has none");
                    return Err(IndexError::Build(what));
                }
            }
        }
        let fields = spec.fields.iter().zip(of_fields).map(|(spec, built)| Field::new(spec, order, built));
        let mut fields: Vec<Field> = fields.collect::<Result<_, _>>()?;
        fields.iter_mut().try_for_each(|field| field.reserve(room.rows))?;
        let mut versions = match order {
            Order::Id => Versions::restored(),
            Order::Birth => Versions::by_birth(),
        };
        versions.reserve(room);
        Ok(Restore {
            versions,
            fields,
            payload: PayloadIndex::head(&spec.payload),
            spec: spec.clone(),
            order,
        })
    }
}

impl Restore {
    /// Begins the next version.
    ///
    /// # Errors
    /// A version that does not follow the one before, or one too many.
    pub fn begin(&mut self, version: Begun<'_>) -> Result<(), IndexError> {
        let Begun { id, born, origin, payload, digest } = version;
        let refused = |what| IndexError::Unknown { id: id.to_owned(), what };
        if !self.versions.ascends(id, born) {
            return Err(refused(format!("born at {born} does not follow the version before it")));
        }
        if self.versions.len() >= ROWS_MAX {
            return Err(refused("is one too many for a segment".into()));
        }
        self.payload.push(payload);
        self.versions.begin(id, (born, origin), payload, digest);
        Ok(())
    }

    /// Id of the version that was begun last.
    pub fn last_id(&self) -> Option<&str> {
        self.versions.last_id()
    }

    /// Chunks of the version that was begun last.
    pub fn last_chunks(&self) -> usize {
        let last = self.versions.len().checked_sub(1);
        last.map_or(0, |last| self.versions.chunk_starts(last as u32).len())
    }

    /// Adds a chunk to the version that was begun last.
    ///
    /// # Errors
    /// One too many.
    pub fn chunk(&mut self, start: u32, text: &str) -> Result<(), IndexError> {
        if u32::try_from(self.versions.chunks_len() + 1).is_err() {
            let id = self.last_id().unwrap_or_default().to_owned();
            return Err(IndexError::Unknown { id, what: "has one chunk too many for a segment".into() });
        }
        self.versions.add_chunk(start, text);
        Ok(())
    }

    /// The fields, each of which gets the vectors of its rows.
    pub fn fields(&mut self) -> &mut [Field] {
        &mut self.fields
    }

    /// The segment: what was sealed is sealed again, what was a head is one that nothing is added to any more.
    ///
    /// # Errors
    /// Something built of other rows, two versions of a document born at the same time, or the library below failing.
    pub fn finish(self) -> Result<Segment, IndexError> {
        let Self { spec, mut versions, fields: grown, payload, order } = self;
        let sealed = order == Order::Id;
        if sealed {
            versions.shrink();
        } else {
            ascend(&versions)?;
        }
        // Field by field, so that there is never more than one of them twice.
        let fields: Vec<SegmentField> =
            grown.into_iter().map(|field| field.finish(order)).collect::<Result<_, _>>()?;
        let payload = match sealed {
            true => {
                let all = (0..versions.len() as u32).map(|row| Pick { from: 0, row });
                PayloadIndex::seal(&spec.payload, &[&payload], &all.collect::<Vec<_>>())
            }
            false => payload,
        };
        Ok(Segment { versions, fields, payload, sealed })
    }
}

/// No two versions of a document are born at the same time.
fn ascend(versions: &Versions) -> Result<(), IndexError> {
    let sorted = versions.sorted();
    let key = |version| (versions.id(version), versions.born(version));
    match sorted.windows(2).find(|pair| key(pair[0]) >= key(pair[1])) {
        None => Ok(()),
        Some(twice) => {
            let what = format!("has two versions born at {}", versions.born(twice[0]));
            Err(IndexError::Unknown { id: versions.id(twice[0]).to_owned(), what })
        }
    }
}
