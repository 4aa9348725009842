//! What a shard holds, as plain structs: no timely here.
//!
//! A shard owns some documents whole: payload, chunk texts and every vector. Each version of a document is visible at
//! the times `born ≤ t < died`; a query at time `t` sees exactly those versions, whatever has been applied since.
//!
//! ```text
//! ShardChange ──▶ shard ── which rows each version has, who sees them when
//!                   │
//!                   ├─ rows: the trait of an index over rows ◀── dense (FAISS) · sparse (postings) · multi (MaxSim)
//! Probe ──────▶ hits
//! ```
//! `exact` is the brute-force twin of it all, and the oracle in tests.

pub mod bits;
mod bytes;
pub mod check;
pub mod dense;
pub mod exact;
pub mod examples;
mod memory;
pub mod multi;
pub mod payload;
pub mod rows;
pub mod segment;
pub mod shard;
pub mod sparse;
#[cfg(test)]
mod tests;

use freshet_schemas::{Offset, Partition, SparseVector, VectorKind};
use serde::{Deserialize, Serialize};

/// Milliseconds since the epoch.
pub type Time = u64;

/// One vector field of the index; its place in the field list is its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldSpec {
    /// Name in `[vectors]`.
    pub name: String,
    /// Kind.
    pub kind: VectorKind,
    /// Dimension of dense and multi vectors; 0 for sparse.
    pub size: usize,
    /// How sparse vectors are scored.
    pub scoring: Scoring,
    /// Distance of dense vectors.
    pub metric: Metric,
    /// FAISS factory string of sealed dense rows, such as `"HNSW32,SQ8"`.
    pub factory: String,
    /// How sealed rows of a multi field are held.
    pub coding: TokenCoding,
}

/// How sealed segments hold token vectors. Heads hold them as int8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenCoding {
    /// As they came: a byte per dimension and a scale.
    #[default]
    Int8,
    /// As a centroid and the coded residual: see `multi::residual`.
    Residual,
}

/// How a dense field compares; the score is higher for better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Inner product; cosine fields are normalised before they get here, document and query alike.
    Dot,
    /// Negative Euclidean distance.
    Euclid,
}

/// How a sparse field scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scoring {
    /// Sum over terms of query weight × document weight.
    Dot,
    /// BM25 with the statistics that come with the query.
    Bm25 {
        /// Saturation of the term frequency.
        k1: f32,
        /// Weight of the length normalisation.
        b: f32,
    },
    /// As `Dot`, with the query's weights times the inverse document frequency of their term.
    Idf,
}

impl Scoring {
    /// Whether it needs statistics of the terms.
    pub fn is_counted(self) -> bool {
        match self {
            Self::Dot => false,
            Self::Bm25 { .. } | Self::Idf => true,
        }
    }
}

/// Token vectors of one text, quantised: row i is `codes[i·dim..][..dim] · scales[i]`, of unit length before rounding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenMatrix {
    /// Dimension.
    pub dim: usize,
    /// Row-major `[tokens, dim]`, −127..=127.
    pub codes: Vec<i8>,
    /// `[tokens]`, positive.
    pub scales: Vec<f32>,
}

impl TokenMatrix {
    /// The token vectors, decoded: `[tokens][dim]`.
    pub fn decoded(&self) -> Vec<Vec<f32>> {
        let tokens = self.codes.chunks(self.dim.max(1)).zip(&self.scales);
        tokens.map(|(codes, scale)| codes.iter().map(|code| f32::from(*code) * scale).collect()).collect()
    }
}

/// The vector of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RowVector {
    /// Words ascending, with their weights.
    Sparse(SparseVector),
    /// `[size]`
    Dense(Vec<f32>),
    /// `[tokens, size]`
    Multi(TokenMatrix),
}

impl RowVector {
    /// Bytes of its numbers.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(vector) => size_of_val(vector.as_slice()),
            Self::Multi(matrix) => matrix.codes.len() + size_of_val(matrix.scales.as_slice()),
            Self::Sparse(vector) => vector.indices.len() * (size_of::<u64>() + size_of::<f32>()),
        }
    }
}

/// Rows of one field of a document's new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FieldPut {
    /// The document has no vector in this field.
    None,
    /// One row per chunk, or a single row 0 for a precomputed vector.
    Rows(Vec<RowPut>),
    /// A new sparse vector over the whole document: BM25, precomputed vectors.
    Sparse(SparseVector),
    /// The sparse vector of the version before.
    KeepSparse,
}

/// One row of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RowPut {
    /// Row number in the version before: same text, same vector, not embedded again.
    Keep(u32),
    /// A new vector.
    New(RowVector),
}

/// The exact change of one document at one time; at most one per document and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ShardChange {
    /// The document is gone.
    Remove {
        /// Document id.
        id: String,
    },
    /// The document's new version; replaces the one before, if any.
    Put(Box<DocumentPut>),
}

/// A document's new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentPut {
    /// Document id.
    pub id: String,
    /// Where the record came from.
    pub origin: (Partition, Offset),
    /// Compact JSON object text.
    pub payload: String,
    /// What the upsert remembers of the version, beside its payload and chunks; opaque here.
    pub digest: Vec<u8>,
    /// The chunks, in order.
    pub chunks: Vec<Chunk>,
    /// One per field of the index, in its order.
    pub fields: Vec<FieldPut>,
}

/// A piece of a document's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Character of the document's text at which it starts, from 0.
    pub start: u32,
    /// The piece.
    pub text: String,
}

impl Chunk {
    /// Where it stands in the document's text, in characters: its first one, and the one after its last.
    pub fn span(start: u32, text: &str) -> (u32, u32) {
        let count = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        (start, start.saturating_add(count))
    }
}

/// What a leg searches with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Probe {
    /// `[size]`, normalised for cosine fields.
    Dense(Vec<f32>),
    /// Terms with query weights. For BM25 fields the weight is `count · idf(t) · (k1 + 1)` and `length_mean` is set.
    Sparse {
        /// Terms ascending, with their weights.
        terms: Vec<(u64, f64)>,
        /// Mean document length at the query's time; 0 for `Scoring::Dot`.
        length_mean: f64,
    },
    /// `[tokens][size]`, f32, each of unit length.
    Multi(Vec<Vec<f32>>),
}

/// A document found, scored by its best row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Document id.
    pub id: String,
    /// Number of the best row (chunk) in the version; 0 where a row is the whole document.
    pub chunk: u32,
    /// Score, finite; higher is better.
    pub score: f64,
}

/// What a hit shows of its document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// Document id.
    pub id: String,
    /// Compact JSON object text.
    pub payload: String,
    /// Text of the asked-for chunk; empty if the document has none.
    pub text: String,
    /// Where that chunk stands, as [`Chunk::span`] says; `None` if the document has none.
    pub span: Option<(u32, u32)>,
}

/// The vectors of a document in one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Document id.
    pub id: String,
    /// The rows asked for; none where the document has no vector in the field.
    pub rows: Vec<RowVector>,
}

/// The one order of hits: score descending, then id ascending.
pub fn by_rank(a: &Hit, b: &Hit) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id))
}

/// A change that cannot be applied: a bug upstream, never to be ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// `Remove` or `Keep` of something that is not there.
    #[error("document \"{id}\" {what}")]
    Unknown {
        /// Document id.
        id: String,
        /// What was asked of it.
        what: String,
    },
    /// A vector that does not fit its field.
    #[error("vector for document \"{id}\" in field \"{field}\" {what}")]
    Misfit {
        /// Document id.
        id: String,
        /// Field name.
        field: String,
        /// What does not fit, with both sizes.
        what: String,
    },
    /// A probe that does not fit its field.
    #[error("probe for field \"{field}\" {what}")]
    Probe {
        /// Name of the field; its number if it is not known.
        field: String,
        /// What does not fit, with both sizes.
        what: String,
    },
    /// Changes that come at a time already applied.
    #[error("changes at {time} come after those at {applied}")]
    Order {
        /// Their time.
        time: Time,
        /// The last time applied.
        applied: Time,
    },
    /// A field that cannot be indexed.
    #[error("vector field \"{field}\" {what}")]
    Field {
        /// Field name.
        field: String,
        /// What is wrong with it.
        what: String,
    },
    /// A segment that could not be built.
    #[error("index build: {0}")]
    Build(String),
    /// FAISS failed.
    #[error("faiss: {0}")]
    Faiss(String),
}
