//! The rows of one field, as they come from its column.

use freshet_schemas::{SparseVector, VectorKind};

use super::Order;
use crate::index::dense::DenseRows;
use crate::index::multi::TokenRows;
use crate::index::rows::RowIndex;
use crate::index::segment::{FieldRows, Layout, SegmentField};
use crate::index::sparse::{Gathered, SparseRows};
use crate::index::{FieldSpec, IndexError, check};

/// What a field needs of its column. What is in the built bytes is not read twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Vectors,
    /// Of sparse vectors the weights: terms are in the postings.
    Weights,
    /// Of token vectors their number: they are in the codes.
    Scales,
}

/// Rows of a field so far, version by version.
pub struct Field {
    spec: FieldSpec,
    layout: Layout,
    /// Rows of the version that was begun last; none was yet without.
    open: Option<u32>,
    rows: Rows,
}

enum Rows {
    Dense(DenseRows, Option<Vec<u8>>),
    Multi(TokenRows, Option<Vec<u8>>),
    /// Sealed rows, in the order in which they come.
    Sparse(Gathered, Wanted),
    /// Rows of a head.
    SparseHead(SparseRows),
}

impl Field {
    pub(super) fn new(spec: &FieldSpec, order: Order, built: Option<Vec<u8>>) -> Result<Self, IndexError> {
        let rows = match spec.kind {
            VectorKind::Dense => Rows::Dense(DenseRows::head(spec)?, built),
            VectorKind::Multi => Rows::Multi(TokenRows::head(spec)?, built),
            VectorKind::Sparse if order == Order::Birth => Rows::SparseHead(SparseRows::head(spec)?),
            VectorKind::Sparse => {
                let wanted = if built.is_some() { Wanted::Weights } else { Wanted::Vectors };
                Rows::Sparse(Gathered::new(spec, built), wanted)
            }
        };
        Ok(Self { spec: spec.clone(), layout: Layout::default(), open: None, rows })
    }

    /// Makes room for so many rows, about.
    pub(super) fn reserve(&mut self, rows: usize) -> Result<(), IndexError> {
        match &mut self.rows {
            Rows::Dense(dense, _) => dense.reserve(rows),
            Rows::Multi(..) | Rows::Sparse(..) | Rows::SparseHead(_) => Ok(()),
        }
    }

    /// What it needs of its column.
    pub fn wanted(&self) -> Wanted {
        match &self.rows {
            Rows::Sparse(_, wanted) => *wanted,
            Rows::Multi(_, Some(_)) => Wanted::Scales,
            Rows::Dense(..) | Rows::Multi(_, None) | Rows::SparseHead(_) => Wanted::Vectors,
        }
    }

    /// Begins the next version.
    pub fn begin(&mut self) {
        if let Some(rows) = self.open.replace(0) {
            self.layout.push(rows);
        }
    }

    /// Rows of the version that was begun last.
    pub fn open(&self) -> u32 {
        self.open.unwrap_or(0)
    }

    /// The version that was begun last has another row, which is added now or with others.
    pub fn row(&mut self) {
        self.open = self.open.map(|rows| rows + 1);
    }

    /// Adds dense rows: row-major `[rows, size]`.
    ///
    /// # Errors
    /// What does not fit.
    pub fn dense(&mut self, vectors: &[f32]) -> Result<(), String> {
        let Rows::Dense(rows, _) = &mut self.rows else { return Err(self.unlike()) };
        if !check::are_finite(vectors) {
            return Err("has a value that is not finite".into());
        }
        rows.extend(vectors).map_err(|error| error.to_string())
    }

    /// Adds a sparse row: its terms, if they are wanted, and its weights.
    ///
    /// # Errors
    /// What does not fit.
    pub fn sparse(&mut self, terms: Option<&[u64]>, weights: &[f32]) -> Result<(), String> {
        match &mut self.rows {
            Rows::Sparse(rows, _) => rows.push(terms, weights),
            Rows::SparseHead(rows) => {
                let indices = terms.unwrap_or_default().to_vec();
                let vector = SparseVector { indices, values: weights.to_vec() };
                check::fits_sparse(&self.spec, &vector)?;
                rows.push(&vector).map_err(|error| error.to_string())
            }
            Rows::Dense(..) | Rows::Multi(..) => Err(self.unlike()),
        }
    }

    /// Adds a row of token vectors: row-major `[tokens, size]`, if they are wanted, and their scales.
    ///
    /// # Errors
    /// What does not fit.
    pub fn multi(&mut self, codes: Option<&[i8]>, scales: &[f32]) -> Result<(), String> {
        let added = match (&mut self.rows, codes) {
            (Rows::Multi(rows, Some(_)), _) => rows.extend_unknown(scales.len()),
            (Rows::Multi(rows, None), codes) => {
                let codes = codes.unwrap_or_default();
                check::multi(&self.spec, codes, scales)?;
                rows.extend(codes, scales)
            }
            (Rows::Dense(..) | Rows::Sparse(..) | Rows::SparseHead(_), _) => return Err(self.unlike()),
        };
        added.map_err(|error| error.to_string())
    }

    fn unlike(&self) -> String {
        format!("is of another kind, field is {}", self.spec.kind.as_str())
    }

    /// The field of a segment.
    pub(super) fn finish(mut self, order: Order) -> Result<SegmentField, IndexError> {
        self.begin();
        let rows = match (self.rows, order) {
            (Rows::Dense(rows, _), Order::Birth) => FieldRows::Dense(rows),
            (Rows::Dense(rows, Some(built)), Order::Id) => FieldRows::Dense(rows.seal_with(&built)?),
            (Rows::Dense(rows, None), Order::Id) => FieldRows::Dense(rows.seal_whole()?),
            (Rows::Multi(rows, _), Order::Birth) => FieldRows::Multi(rows),
            (Rows::Multi(rows, Some(built)), Order::Id) => FieldRows::Multi(rows.seal_with(&built)?),
            (Rows::Multi(rows, None), Order::Id) => FieldRows::Multi(rows.seal_whole()?),
            (Rows::Sparse(rows, _), _) => FieldRows::Sparse(rows.seal()?),
            (Rows::SparseHead(rows), _) => FieldRows::Sparse(rows),
        };
        Ok(SegmentField { layout: self.layout, rows })
    }
}
