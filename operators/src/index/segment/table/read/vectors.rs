//! The vectors of a field, in one row group.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, ListArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int8Type};
use freshet_schemas::VectorKind;
use parquet::data_type::{FloatType, Int64Type};
use parquet::file::metadata::RowGroupMetaData;

use super::super::schema::{self, VectorColumns};
use super::super::source::Window;
use super::super::{TableError, guarded};
use super::lists::Lists;
use super::{column_is, list, primitive, wrong};
use crate::index::FieldSpec;
use crate::index::segment::{Field, Wanted};

/// Where they come from.
pub(super) enum Vectors {
    Dense(Lists<FloatType>),
    Sparse {
        /// None where they are not wanted.
        terms: Option<Lists<Int64Type>>,
        weights: Lists<FloatType>,
    },
    /// Out of batches of Arrow's.
    Multi,
}

/// Rows that come next.
pub(super) struct Next<'a> {
    /// Number of the first one.
    pub(super) row: usize,
    /// The number that each has in its version.
    pub(super) chunks: &'a [i32],
    /// Their columns, but for those of lists.
    pub(super) batch: &'a RecordBatch,
}

impl Vectors {
    /// Those of a field that wants them.
    pub(super) fn open(
        window: &Window,
        group: &RowGroupMetaData,
        names: &VectorColumns,
        spec: &FieldSpec,
        wanted: Wanted,
    ) -> Result<Self, TableError> {
        let name = names.name.as_str();
        let leaf = |last: &str| {
            let found = group.columns().iter().position(|column| {
                let path = column.column_path().parts();
                path.first().is_some_and(|first| first == name)
                    && path.last().is_some_and(|name| name == last)
            });
            found.ok_or_else(|| column_is(name, &format!("has no \"{last}\"")))
        };
        Ok(match spec.kind {
            VectorKind::Dense => {
                let leaf = leaf(schema::ELEMENT)?;
                Self::Dense(guarded(|| Lists::open(window, group, leaf, spec.size))?)
            }
            VectorKind::Sparse => {
                let (terms, weights) = (leaf(schema::TERM)?, leaf(schema::WEIGHT)?);
                let open = || guarded(|| Lists::open(window, group, terms, 0));
                let terms = (wanted == Wanted::Vectors).then(open);
                let weights = guarded(|| Lists::open(window, group, weights, 0))?;
                Self::Sparse { terms: terms.transpose()?, weights }
            }
            VectorKind::Multi => Self::Multi,
        })
    }

    /// Gives the vectors of the next rows to their field.
    pub(super) fn add(
        &mut self,
        next: &Next<'_>,
        names: &VectorColumns,
        spec: &FieldSpec,
        to: &mut Field,
    ) -> Result<(), TableError> {
        let rows_max = match self {
            Self::Dense(lists) => lists.rows_max(),
            Self::Sparse { weights, .. } => weights.rows_max(),
            Self::Multi => next.chunks.len().max(1),
        };
        let mut row = next.row;
        for chunks in next.chunks.chunks(rows_max) {
            let wrong = |(at, what)| wrong(row + at, &names.name, what);
            match self {
                Self::Dense(lists) => {
                    let (rows, values) = guarded(|| lists.read(chunks.len()))?;
                    add_dense(rows, values, chunks, spec, to).map_err(wrong)?;
                }
                Self::Sparse { terms, weights } => {
                    let terms =
                        terms.as_mut().map(|terms| guarded(|| terms.read(chunks.len()))).transpose()?;
                    let weights = guarded(|| weights.read(chunks.len()))?;
                    add_sparse(terms, weights, chunks, to).map_err(wrong)?;
                }
                Self::Multi => Multi::of(next.batch, names)?.add(chunks, spec, to).map_err(wrong)?,
            }
            row += chunks.len();
        }
        Ok(())
    }
}

/// What is wrong with a row.
type Wrong = (usize, String);
/// The lists of some rows, as `Lists::read` gives them.
type Read<'a, T> = (&'a [Option<Range<usize>>], &'a [T]);

/// The next row of a field is there or not.
fn next(chunk: i32, there: bool, to: &mut Field) -> Result<(), String> {
    if chunk == 0 {
        to.begin();
    }
    if there {
        super::follows(to.open() as usize, chunk)?;
        to.row();
    }
    Ok(())
}

fn add_dense(
    rows: &[Option<Range<usize>>],
    values: &[f32],
    chunks: &[i32],
    spec: &FieldSpec,
    to: &mut Field,
) -> Result<(), Wrong> {
    for (at, (row, &chunk)) in rows.iter().zip(chunks).enumerate() {
        next(chunk, row.is_some(), to).map_err(|what| (at, what))?;
        if let Some(odd) = row.as_ref().map(Range::len).filter(|&len| len != spec.size) {
            return Err((at, format!("has {odd} values, must be {}", spec.size)));
        }
    }
    // Rows that are null have no values: all lie together.
    to.dense(values).map_err(|what| {
        let odd = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
        let of_row = |row: &Option<Range<usize>>| row.as_ref().is_some_and(|row| row.contains(&odd));
        (rows.iter().position(of_row).unwrap_or(0), what)
    })
}

fn add_sparse(
    terms: Option<Read<'_, i64>>,
    (rows, weights): Read<'_, f32>,
    chunks: &[i32],
    to: &mut Field,
) -> Result<(), Wrong> {
    if terms.is_some_and(|terms| terms.0 != rows) {
        return Err((0, "has terms and weights of different numbers from here on".to_owned()));
    }
    let mut of_row = Vec::new();
    for (at, (row, &chunk)) in rows.iter().zip(chunks).enumerate() {
        next(chunk, row.is_some(), to).map_err(|what| (at, what))?;
        let Some(row) = row.clone() else { continue };
        of_row.clear();
        // Parquet has unsigned numbers as signed ones of the same bits.
        of_row.extend(terms.iter().flat_map(|terms| &terms.1[row.clone()]).map(|term| term.cast_unsigned()));
        let terms = terms.map(|_| of_row.as_slice());
        to.sparse(terms, &weights[row]).map_err(|what| (at, what))?;
    }
    Ok(())
}

/// Token vectors of some rows.
struct Multi<'a> {
    /// None where they are not wanted.
    tokens: Option<Tokens<'a>>,
    scales: &'a ListArray,
    each: &'a [f32],
}

impl<'a> Multi<'a> {
    fn of(batch: &'a RecordBatch, names: &VectorColumns) -> Result<Self, TableError> {
        let tokens = batch.column_by_name(&names.name);
        let tokens = tokens.map(|column| Tokens::of(&names.name, column)).transpose()?;
        let name = names.scales.as_deref().unwrap_or_default();
        let scales = batch.column_by_name(name).ok_or_else(|| column_is(name, "is missing"))?;
        let scales = list(name, scales)?;
        Ok(Self { tokens, scales, each: primitive::<Float32Type>(name, scales.values())? })
    }

    fn add(&self, chunks: &[i32], spec: &FieldSpec, to: &mut Field) -> Result<(), Wrong> {
        for (row, &chunk) in chunks.iter().enumerate() {
            let there = self.scales.is_valid(row);
            next(chunk, there, to).map_err(|what| (row, what))?;
            if there {
                self.add_row(row, spec, to).map_err(|what| (row, what))?;
            } else if self.tokens.as_ref().is_some_and(|tokens| tokens.lists.is_valid(row)) {
                return Err((row, "has tokens and no scales".to_owned()));
            }
        }
        Ok(())
    }

    fn add_row(&self, row: usize, spec: &FieldSpec, to: &mut Field) -> Result<(), String> {
        let scales = &self.each[range(self.scales, row)];
        let codes = self.tokens.as_ref().map(|tokens| tokens.row(row, scales.len(), spec.size));
        to.multi(codes.transpose()?, scales)
    }
}

/// The codes of token vectors.
struct Tokens<'a> {
    /// Tokens of a row.
    lists: &'a ListArray,
    /// Codes of a token.
    codes: &'a ListArray,
    values: &'a [i8],
}

impl<'a> Tokens<'a> {
    fn of(name: &str, column: &'a ArrayRef) -> Result<Self, TableError> {
        let lists = list(name, column)?;
        let codes = list(name, lists.values())?;
        Ok(Self { lists, codes, values: primitive::<Int8Type>(name, codes.values())? })
    }

    /// The codes of a row, which has so many scales.
    fn row(&self, row: usize, scales: usize, size: usize) -> Result<&'a [i8], String> {
        let tokens = range(self.lists, row);
        if self.lists.is_null(row) || tokens.len() != scales {
            return Err(format!("has {} tokens and {scales} scales, or one of both is null", tokens.len()));
        }
        let mut sizes = tokens.clone().map(|token| range(self.codes, token).len());
        if let Some(odd) = sizes.find(|codes| *codes != size) {
            return Err(format!("has a token of {odd} codes, must be {size}"));
        }
        let offsets = self.codes.value_offsets();
        Ok(&self.values[offsets[tokens.start] as usize..offsets[tokens.end] as usize])
    }
}

/// Where the elements of a list are.
fn range(lists: &ListArray, row: usize) -> Range<usize> {
    let offsets = lists.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}
