//! The embedding service: one per process, a few threads, one ONNX session each; queries go first.

pub use crate::index::TokenMatrix;

/// What one run of a model gives for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Pooled, [dim]; normalised if the model says so.
    pub dense: Vec<f32>,
    /// Token vectors, all tokens, L2-normalised then quantised; only when asked for.
    pub tokens: Option<TokenMatrix>,
}

/// Who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all documents; the model's query prefix is used.
    Query,
    /// The model's passage prefix is used.
    Document,
}
