//! The embedding service: one per process, a few threads, one ONNX session each; queries go first.
//!
//! ```text
//! submit(EmbedJob) ─▶ queue of queries   ─┐             ┌─ tokenise ─ sort by length ─ batches ─ run ─ pool ─┐
//!                  ─▶ queue of documents ─┴▶ embed-0… ──┘                                                    │
//! reply(Vec<Result<Embedding, String>>) ◀── once all texts of the job are there, in the job's order ─────────┘
//! ```
//! A text that cannot be embedded is data (`Err` in its place); a model that cannot be loaded is an [`EmbedError`].
//! Folders are found by `locate`, read by `manifest`, run by `onnx` through `runtime`; `hashing` stands in for a model
//! where no ONNX Runtime is wanted. Only `documents` and `queries`, the operators that use the service, know timely;
//! `assemble` and `fields` are what they decide.

pub mod assemble;
mod batches;
pub mod documents;
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

pub use crate::index::TokenMatrix;
pub use error::EmbedError;
pub use locate::{Located, locate, pull};
pub use manifest::Manifest;
pub use metrics::{EmbedCounts, EmbedMetrics};
pub use model::{Backend, Hidden, ModelInfo, Pooling, Runner, load};
pub use onnx::OnnxModel;
pub use pool::quantize;
pub use runtime::environment;
pub use service::{EmbedJob, EmbeddingService, Reply};

/// What one run of a model gives for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Pooled, `[dim]`; normalised if the model says so.
    pub dense: Vec<f32>,
    /// Token vectors, all tokens, L2-normalised then quantised; only for [`Wants::Tokens`].
    pub tokens: Option<TokenMatrix>,
    /// Token vectors, all tokens, `[tokens][dim]`, each L2-normalised; only for [`Wants::Rows`].
    pub rows: Option<Vec<Vec<f32>>>,
}

/// What is asked of a run, besides the pooled vector, which costs nothing once a model has run.
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
