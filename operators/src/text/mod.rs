//! Texts: analysis into terms, splitting into chunks.
//!
//! ```text
//! text ─▶ Analyzer ─▶ SparseVector (term hash → count)      for BM25
//! text ─▶ Chunker  ─▶ byte ranges of at most N tokens, which end as sentences do, for embedding
//! ```
//! Plain functions of the text and the settings: no state, no clock, no order of hashing in the output. Both are
//! shared by reference between threads. What has been looked up already is the caller's to keep (`KnownTerms`).

mod analyzer;
mod chunker;
mod endings;
mod stopwords;
#[cfg(test)]
mod tests;
mod words;

pub use analyzer::{Analyzer, KnownTerms, LANGUAGES};
pub use chunker::{ChunkSettings, Chunker};
pub(crate) use words::words;

/// Why a text tool cannot be built or a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// No stemmer has this name.
    #[error("language \"{found}\" is not known; known: {known}")]
    UnknownLanguage {
        /// What the configuration says.
        found: String,
        /// All names, comma-separated.
        known: String,
    },
    /// Neighbouring windows share so much that they would not move on.
    #[error("chunks of {tokens_max} tokens cannot overlap by {overlap}; expected less than {tokens_max}")]
    Overlap {
        /// Tokens of a chunk.
        tokens_max: usize,
        /// Tokens shared.
        overlap: usize,
    },
    /// The tokenizer cannot read the text, or cannot be set up.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}
