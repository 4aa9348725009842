//! The index of a field, whatever its kind.

use freshet_schemas::VectorKind;

use crate::index::dense::DenseRows;
use crate::index::multi::TokenRows;
use crate::index::rows::{Found, Pick, Row, RowHit, RowIndex, RowSet, Search};
use crate::index::sparse::SparseRows;
use crate::index::{FieldSpec, IndexError, Probe, RowVector};

/// The rows of one field.
pub enum FieldRows {
    /// Dense vectors.
    Dense(DenseRows),
    /// Sparse vectors.
    Sparse(SparseRows),
    /// Token vectors.
    Multi(TokenRows),
}

/// The same call on any kind.
macro_rules! any {
    ($field:expr, $rows:ident => $call:expr) => {
        match $field {
            FieldRows::Dense($rows) => $call,
            FieldRows::Sparse($rows) => $call,
            FieldRows::Multi($rows) => $call,
        }
    };
}

impl FieldRows {
    /// See [`RowIndex::head`].
    pub fn head(spec: &FieldSpec) -> Result<Self, IndexError> {
        Ok(match spec.kind {
            VectorKind::Dense => Self::Dense(DenseRows::head(spec)?),
            VectorKind::Sparse => Self::Sparse(SparseRows::head(spec)?),
            VectorKind::Multi => Self::Multi(TokenRows::head(spec)?),
        })
    }

    /// See [`RowIndex::push`].
    pub fn push(&mut self, vector: &RowVector) -> Result<(), IndexError> {
        match (self, vector) {
            (Self::Dense(rows), RowVector::Dense(vector)) => rows.push(vector),
            (Self::Sparse(rows), RowVector::Sparse(vector)) => rows.push(vector),
            (Self::Multi(rows), RowVector::Multi(matrix)) => rows.push(matrix),
            (Self::Dense(_) | Self::Sparse(_) | Self::Multi(_), _) => Err(IndexError::Misfit {
                id: String::new(),
                field: String::new(),
                what: "is of another kind than its field".into(),
            }),
        }
    }

    /// See [`RowIndex::seal`]. The sources are of the field's kind.
    pub fn seal(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Result<Self, IndexError> {
        macro_rules! seal {
            ($kind:ident) => {{
                let mut same = Vec::with_capacity(from.len());
                for field in from {
                    let Self::$kind(rows) = field else {
                        return Err(IndexError::Build("sources of different kinds".into()));
                    };
                    same.push(rows);
                }
                Ok(Self::$kind(RowIndex::seal(spec, &same, picks)?))
            }};
        }
        match spec.kind {
            VectorKind::Dense => seal!(Dense),
            VectorKind::Sparse => seal!(Sparse),
            VectorKind::Multi => seal!(Multi),
        }
    }

    /// What took long to build of sealed rows, as bytes, for [`Segment::restore`](super::Segment::restore); `None` where
    /// nothing was.
    ///
    /// # Errors
    /// The library below failing.
    pub fn write(&self) -> Result<Option<Vec<u8>>, IndexError> {
        match self {
            Self::Dense(rows) => rows.write(),
            Self::Sparse(rows) => rows.write(),
            Self::Multi(rows) => Ok(rows.write()),
        }
    }

    /// See [`RowIndex::search`].
    pub fn search(&self, search: &Search<'_>) -> Result<Found, IndexError> {
        any!(self, rows => rows.search(search))
    }

    /// See [`RowIndex::scan`].
    pub fn scan(&self, probe: &Probe, visible: &RowSet<'_>) -> Result<Vec<RowHit>, IndexError> {
        any!(self, rows => rows.scan(probe, visible))
    }

    /// See [`RowIndex::score`].
    pub fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        any!(self, index => index.score(probe, rows))
    }

    /// See [`RowIndex::vector`].
    pub fn vector(&self, row: Row) -> RowVector {
        match self {
            Self::Dense(rows) => RowVector::Dense(rows.vector(row)),
            Self::Sparse(rows) => RowVector::Sparse(rows.vector(row)),
            Self::Multi(rows) => RowVector::Multi(rows.vector(row)),
        }
    }

    /// See [`RowIndex::len`].
    pub fn len(&self) -> usize {
        any!(self, rows => rows.len())
    }

    /// See [`RowIndex::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`RowIndex::bytes`].
    pub fn bytes(&self) -> usize {
        any!(self, rows => rows.bytes())
    }

    /// See [`RowIndex::check`].
    pub fn check(&self) {
        any!(self, rows => rows.check());
    }
}
