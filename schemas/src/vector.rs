//! Vectors as they stand in documents and queries.

use serde::{Deserialize, Serialize};

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

impl SparseVector {
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
