//! Segments that were written and are read back, version by version.

use super::{FieldRows, Layout, NewVersion, Segment, SegmentField, SegmentSpec, Versions};
use freshet_schemas::VectorKind;

use crate::index::dense::DenseRows;
use crate::index::payload::PayloadIndex;
use crate::index::rows::{Pick, ROWS_MAX, RowIndex};
use crate::index::sparse::Gathered;
use crate::index::{FieldSpec, IndexError, RowVector, Time, check};

/// The order of the versions of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By id, then by birth: sealed segments.
    Id,
    /// By birth: heads.
    Birth,
}

/// A segment being read back. Unlike a head it trusts nobody: whatever is pushed is checked.
pub struct Restore {
    spec: SegmentSpec,
    versions: Versions,
    fields: Vec<Field>,
    payload: PayloadIndex,
    order: Order,
}

/// Rows of a field, so far.
struct Field {
    layout: Layout,
    rows: Rows,
}

enum Rows {
    /// To be sealed.
    Head(FieldRows),
    /// To be sealed in the order in which they come.
    Sparse(Gathered),
    /// Built long ago; the vectors that come must be its rows.
    Built(DenseRows),
}

impl Segment {
    /// A segment without versions, to be given them in their order. `indexes`: bytes of built indexes by field number;
    /// only a sealed segment has any. Dense fields without are built anew.
    ///
    /// # Errors
    /// A field that cannot be indexed, or bytes that are not its index.
    pub fn restore(
        spec: &SegmentSpec,
        order: Order,
        indexes: Vec<(usize, Vec<u8>)>,
    ) -> Result<Restore, IndexError> {
        let mut built: Vec<Option<DenseRows>> = spec.fields.iter().map(|_| None).collect();
        for (number, bytes) in indexes {
            let (Some(field), Some(built), Order::Id) =
                (spec.fields.get(number), built.get_mut(number), order)
            else {
                let what = format!("a built index for field {number}, which has none");
                return Err(IndexError::Build(what));
            };
            *built = Some(DenseRows::restore(field, &bytes)?);
        }
        let field = |(spec, built): (&FieldSpec, Option<DenseRows>)| {
            let rows = match built {
                Some(built) => Rows::Built(built),
                None if spec.kind == VectorKind::Sparse && order == Order::Id => {
                    Rows::Sparse(Gathered::new(spec))
                }
                None => Rows::Head(FieldRows::head(spec)?),
            };
            Ok(Field { layout: Layout::default(), rows })
        };
        Ok(Restore {
            versions: match order {
                Order::Id => Versions::restored(),
                Order::Birth => Versions::by_birth(),
            },
            fields: spec.fields.iter().zip(built).map(field).collect::<Result<_, IndexError>>()?,
            payload: PayloadIndex::head(&spec.payload),
            spec: spec.clone(),
            order,
        })
    }
}

impl Restore {
    /// Adds the next version.
    ///
    /// # Errors
    /// A version that does not follow the one before, vectors that do not fit or are not those of the built index.
    pub fn push(&mut self, version: &NewVersion, born: Time) -> Result<(), IndexError> {
        let id = || version.id.clone();
        if !self.versions.ascends(&version.id, born) {
            let what = format!("born at {born} does not follow the version before it");
            return Err(IndexError::Unknown { id: id(), what });
        }
        let chunks = self.versions.chunks_len() + version.chunks.len();
        if self.versions.len() >= ROWS_MAX || u32::try_from(chunks).is_err() {
            return Err(IndexError::Unknown { id: id(), what: "is one too many for a segment".into() });
        }
        for ((field, spec), vectors) in self.fields.iter_mut().zip(&self.spec.fields).zip(&version.fields) {
            let misfit = |what| IndexError::Misfit { id: id(), field: spec.name.clone(), what };
            for (number, vector) in vectors.iter().enumerate() {
                check::fits(spec, vector).map_err(misfit)?;
                match &mut field.rows {
                    Rows::Head(rows) => rows.push(vector)?,
                    Rows::Sparse(rows) => match vector {
                        RowVector::Sparse(vector) => rows.push(vector)?,
                        RowVector::Dense(_) | RowVector::Multi(_) => {
                            return Err(misfit("is not sparse, field is".into()));
                        }
                    },
                    Rows::Built(rows) => {
                        let row = field.layout.len() + number;
                        if !is_row(rows, row, vector) {
                            return Err(misfit(format!("is not row {row} of the built index")));
                        }
                    }
                }
            }
            field.layout.push(vectors.len() as u32);
        }
        self.payload.push(&version.payload);
        self.versions.push(version, born);
        Ok(())
    }

    /// The segment: what was sealed is sealed again, what was a head is one that nothing is added to any more.
    ///
    /// # Errors
    /// A built index with more rows than have come, two versions of a document born at the same time, or the library
    /// below failing.
    pub fn finish(self) -> Result<Segment, IndexError> {
        match self.order {
            Order::Id => self.sealed(),
            Order::Birth => self.head(),
        }
    }

    /// Field by field, so that there is never more than one of them twice.
    fn sealed(self) -> Result<Segment, IndexError> {
        let Self { spec, mut versions, fields: grown, payload, order: _ } = self;
        versions.shrink();
        let picks = |count: usize| (0..count as u32).map(|row| Pick { from: 0, row }).collect::<Vec<_>>();
        let mut fields = Vec::with_capacity(grown.len());
        for (Field { layout, rows }, spec) in grown.into_iter().zip(&spec.fields) {
            let rows = match rows {
                Rows::Sparse(rows) => FieldRows::Sparse(rows.seal()),
                Rows::Head(FieldRows::Dense(rows)) => FieldRows::Dense(rows.seal_whole()?),
                Rows::Head(head) => FieldRows::seal(spec, &[&head], &picks(head.len()))?,
                Rows::Built(rows) if rows.len() == layout.len() => FieldRows::Dense(rows),
                Rows::Built(rows) => {
                    let what = format!("has {} rows, its built index has {}", layout.len(), rows.len());
                    return Err(IndexError::Field { field: spec.name.clone(), what });
                }
            };
            fields.push(SegmentField { layout, rows });
        }
        let payload = PayloadIndex::seal(&spec.payload, &[&payload], &picks(versions.len()));
        Ok(Segment { versions, fields, payload, sealed: true })
    }

    fn head(self) -> Result<Segment, IndexError> {
        let Self { spec: _, versions, fields: grown, payload, order: _ } = self;
        let sorted = versions.sorted();
        let key = |version| (versions.id(version), versions.born(version));
        if let Some(twice) = sorted.windows(2).find(|pair| key(pair[0]) >= key(pair[1])) {
            let what = format!("has two versions born at {}", versions.born(twice[0]));
            return Err(IndexError::Unknown { id: versions.id(twice[0]).to_owned(), what });
        }
        let mut fields = Vec::with_capacity(grown.len());
        for Field { layout, rows } in grown {
            let Rows::Head(rows) = rows else {
                return Err(IndexError::Build("a built index of a head".into()));
            };
            fields.push(SegmentField { layout, rows });
        }
        Ok(Segment { versions, fields, payload, sealed: false })
    }
}

/// Whether a vector is a row of built ones, to the bit.
fn is_row(rows: &DenseRows, row: usize, vector: &RowVector) -> bool {
    match vector {
        RowVector::Dense(vector) if row < rows.len() => {
            vector.iter().map(|value| value.to_bits()).eq(rows.row(row as u32).iter().map(|v| v.to_bits()))
        }
        RowVector::Dense(_) | RowVector::Multi(_) | RowVector::Sparse(_) => false,
    }
}
