//! Vectors as they stand in documents and queries.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::json::{Fields, describe, element, invalid, is_not_finite, join, quote};
use crate::{Fault, FaultCode};

/// The three kinds of vector field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorKind {
    /// One vector of fixed size.
    Dense,
    /// Term weights over an open vocabulary.
    Sparse,
    /// One vector per token (late interaction).
    Multi,
}

/// Term weights. Invariants: as long as each other, `indices` strictly ascending, `values` finite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SparseVector {
    /// Terms: hashes of stems for BM25, vocabulary numbers for learned models.
    pub indices: Vec<u64>,
    /// Weights; for BM25 documents the term frequency, for BM25 queries the count of the term.
    pub values: Vec<f32>,
}

impl VectorKind {
    /// The kind as it stands in the config and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::Multi => "multi",
        }
    }
}

impl SparseVector {
    /// Terms, each weighed by how often it is there; exact up to 2²⁴ times.
    pub fn counted(mut terms: Vec<u64>) -> Self {
        terms.sort_unstable();
        let mut vector = Self::default();
        for same in terms.chunk_by(|a, b| a == b) {
            vector.indices.push(same[0]);
            vector.values.push(same.len() as f32);
        }
        vector
    }

    /// Pairs of term and weight, terms ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, f32)> + '_ {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    /// Sum of the weights: for BM25 documents their length in terms.
    pub fn sum(&self) -> f32 {
        self.values.iter().sum()
    }
}

/// A vector given with a document or a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VectorValue {
    /// One vector.
    Dense(Vec<f32>),
    /// Term weights.
    Sparse(SparseVector),
    /// Token vectors, all of one size, at least one.
    Multi(Vec<Vec<f32>>),
}

impl VectorValue {
    /// Its kind.
    pub fn kind(&self) -> VectorKind {
        match self {
            Self::Dense(_) => VectorKind::Dense,
            Self::Sparse(_) => VectorKind::Sparse,
            Self::Multi(_) => VectorKind::Multi,
        }
    }

    /// Dimension of a dense vector or of the rows of a multi-vector; a sparse vector has none.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::Dense(vector) => Some(vector.len()),
            Self::Sparse(_) => None,
            Self::Multi(rows) => rows.first().map(Vec::len),
        }
    }

    /// Reads a vector whose kind its shape tells: numbers, rows of numbers, or indices and values.
    pub(crate) fn parse(value: &Value, path: &str) -> Result<Self, Fault> {
        match value {
            Value::Object(_) => sparse(value, path).map(Self::Sparse),
            Value::Array(items) => match items.first() {
                None => Err(invalid(path, "the vector is empty")),
                Some(Value::Array(_)) => multi(items, path).map(Self::Multi),
                Some(_) => dense(items, path).map(Self::Dense),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(invalid(
                path,
                format!(
                    "{} is not a vector: numbers, rows of numbers, or indices and values",
                    describe(value)
                ),
            )),
        }
    }

    /// Refuses a vector that does not fit a field of this kind and size.
    pub(crate) fn fit(&self, kind: VectorKind, size: Option<usize>, path: &str) -> Result<(), Fault> {
        fit((self.kind(), self.size()), (kind, size), path)
    }
}

/// Refuses a vector of one kind and size where a field has another; a size that is `None` fits every size.
pub(crate) fn fit(
    (found, found_size): (VectorKind, Option<usize>),
    (expected, expected_size): (VectorKind, Option<usize>),
    path: &str,
) -> Result<(), Fault> {
    if found != expected {
        let message = format!(
            "the vector is {}, the field is {}: {}",
            found.as_str(),
            expected.as_str(),
            shape(expected)
        );
        return Err(invalid(path, message));
    }
    match (found_size, expected_size) {
        (Some(found), Some(expected)) if found != expected => {
            let message = format!("the vector has {found} dimensions, the index has {expected}");
            Err(Fault::field(FaultCode::WrongDimension, path, message))
        }
        _ => Ok(()),
    }
}

fn shape(kind: VectorKind) -> &'static str {
    match kind {
        VectorKind::Dense => "it takes an array of numbers",
        VectorKind::Sparse => "it takes an object of \"indices\" and \"values\"",
        VectorKind::Multi => "it takes an array of rows of numbers",
    }
}

fn dense(items: &[Value], path: &str) -> Result<Vec<f32>, Fault> {
    if items.is_empty() {
        return Err(invalid(path, "the vector is empty"));
    }
    numbers(items, path)
}

fn multi(items: &[Value], path: &str) -> Result<Vec<Vec<f32>>, Fault> {
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = element(path, index);
        let Value::Array(row) = item else {
            return Err(invalid(at, format!("{} is not a row of numbers", describe(item))));
        };
        let row = dense(row, &at)?;
        if let Some(first) = rows.first().filter(|first| first.len() != row.len()) {
            let message = format!("the row has {} dimensions, the first row has {}", row.len(), first.len());
            return Err(Fault::field(FaultCode::WrongDimension, at, message));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn sparse(value: &Value, path: &str) -> Result<SparseVector, Fault> {
    let fields = Fields::of(value, path)?;
    fields.only(&["indices", "values"], &[])?;
    let array = |field: &str| match fields.get(field) {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(fields.unlike(field, other, "an array")),
        None => {
            let message = format!("a sparse vector needs \"{field}\"");
            Err(invalid(fields.path(field), message))
        }
    };
    let (indices, values) = (array("indices")?, array("values")?);
    if indices.len() != values.len() {
        let message = format!("{} indices and {} values", indices.len(), values.len());
        return Err(invalid(path, message));
    }
    let values = numbers(values, &join(path, "values"))?;
    let mut terms = Vec::with_capacity(indices.len());
    for (at, (index, weight)) in indices.iter().zip(values).enumerate() {
        let Some(term) = index.as_u64().filter(|term| *term <= u64::from(u32::MAX)) else {
            let message = format!("{} is not an integer from 0 to {}", describe(index), u32::MAX);
            return Err(invalid(element(&join(path, "indices"), at), message));
        };
        terms.push((term, weight));
    }
    terms.sort_unstable_by_key(|(term, _)| *term);
    if let Some(pair) = terms.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let message = format!("index {} stands twice", pair[0].0);
        return Err(invalid(join(path, "indices"), message));
    }
    let (indices, values) = terms.into_iter().unzip();
    Ok(SparseVector { indices, values })
}

fn numbers(items: &[Value], path: &str) -> Result<Vec<f32>, Fault> {
    items.iter().enumerate().map(|(index, item)| number(item, path, index)).collect()
}

fn number(item: &Value, path: &str, index: usize) -> Result<f32, Fault> {
    if let Value::Number(value) = item {
        return finite(value).ok_or_else(|| {
            let message = format!("{value} is beyond the range of 32-bit floats");
            Fault::field(FaultCode::NotFinite, element(path, index), message)
        });
    }
    if let Some(word) = item.as_str().filter(|word| is_not_finite(word)) {
        let message = format!("{} is not a finite number", quote(word));
        return Err(Fault::field(FaultCode::NotFinite, element(path, index), message));
    }
    Err(invalid(element(path, index), format!("{} is not a number", describe(item))))
}

/// The nearest 32-bit float, unless that is infinite.
#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is meant")]
fn finite(value: &Number) -> Option<f32> {
    value.as_f64().map(|value| value as f32).filter(|value| value.is_finite())
}
