//! The embedding service: one per process, a few threads, one ONNX session each; queries go first.
//!
//! ```text
//! submit(EmbedJob) ─▶ queue of queries   ─┐             ┌─ tokenise ─ sort by length ─ batches ─ run ─ pool ─┐
//!                  ─▶ queue of documents ─┴▶ embed-0… ──┘                                                    │
//! reply(Vec<Result<Embedding, String>>) ◀── once all texts of the job are there, in the job's order ─────────┘
//! ```
//! A text that cannot be embedded is data (`Err` in its place); a model that cannot be loaded is an [`EmbedError`].
//! Folders are found by `locate`, read by `manifest`; texts become tokens in `encode`, run by `onnx` through `runtime`;
//! `pool` makes of a run what the model's head says. `hashing` stands in for a model
//! where no ONNX Runtime is wanted. Only `documents` and `queries`, the operators that use the service, know timely;
//! `assemble` and `fields` are what they decide.

pub mod assemble;
mod batches;
pub mod documents;
mod encode;
mod error;
pub mod fields;
pub mod hashing;
mod locate;
mod manifest;
mod metrics;
mod model;
mod onnx;
mod pool;
pub mod queries;
mod queue;
pub mod registry;
mod runtime;
mod service;
#[cfg(test)]
mod tests;
mod watchdog;

use freshet_schemas::SparseVector;

pub use crate::index::TokenMatrix;
pub use error::EmbedError;
pub use hf_hub::api::Progress;
pub use locate::{Located, locate, pull};
pub use manifest::Manifest;
pub use metrics::{EmbedCounts, EmbedMetrics};
pub use model::{
    Activation, Backend, Head, Hidden, Markers, ModelInfo, Pooling, Runner, Tokens, Values, load,
};
pub use onnx::OnnxModel;
pub use pool::quantize;
pub use runtime::environment;
pub use service::{EmbedJob, EmbeddingService, Reply};

/// What one run of a model gives for one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// Pooled, `[dim]`; normalised if the model says so. Empty if the model makes none.
    pub dense: Vec<f32>,
    /// Token vectors, L2-normalised then quantised; only for [`Wants::Tokens`].
    pub tokens: Option<TokenMatrix>,
    /// Token vectors, `[tokens][dim]`, each L2-normalised; only for [`Wants::Rows`].
    pub rows: Option<Vec<Vec<f32>>>,
    /// Weights of words; only of sparse models.
    pub sparse: Option<SparseVector>,
    /// How well the text answers the query; only of cross-encoders.
    pub score: Option<f32>,
}

/// What is asked of a model that gives token vectors, besides the pooled vector, which costs nothing once it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// The pooled vector only.
    Dense,
    /// Also quantised token vectors: documents.
    Tokens,
    /// Also token vectors as they are: queries.
    Rows,
}

/// Who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all documents; the model's query prefix is used.
    Query,
    /// The model's passage prefix is used.
    Document,
}
