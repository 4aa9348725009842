//! Segments as Parquet: one table per segment, one row per chunk.
//!
//! ```text
//! segment ─▶ write ─▶ table: id, chunk, start, text, payload, origin, birth, digest │ vectors │ declared payload fields
//!         └▶ built ─▶ bytes of what took long to build, beside the table: FAISS indexes, postings
//! table + bytes ─▶ read ─▶ the segment: same versions, same numbers, same vectors to the bit
//! ```
//! What the table holds is not in the bytes, and what the bytes hold is not read from the table.
//! A version has as many rows as it has chunks or vectors in its widest field, and at least one. They follow each other,
//! numbered from 0 by `chunk`; text *n*, the character of the document's text at which it starts, and vector *n* of a field
//! stand in row *n*, null where there is none. What a document has once (its digest, a sparse vector) stands in row 0.
//! Declared payload fields are columns of their own for those who query the table; `read` takes them from the payload itself.
//!
//! `read` checks all that it relies on, but cannot tell a value from another valid one: checksums are for whoever keeps
//! the bytes.

mod read;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

pub use read::{Table, read};
pub use source::Source;
pub use write::{Written, built, write};

use crate::index::IndexError;

/// A table that cannot be written, or that is not one of this segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The bytes are no Parquet, or cannot be read or written.
    #[error("parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// Arrays that do not go together.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
    /// The bytes are torn.
    #[error("table is torn: {0}")]
    Torn(String),
    /// A column that is missing or of another type.
    #[error("table column \"{column}\" {what}")]
    Column {
        /// Its name.
        column: String,
        /// What was found, and what would be right.
        what: String,
    },
    /// Metadata that is missing or different.
    #[error("table metadata \"{key}\" {what}")]
    Metadata {
        /// Its key.
        key: &'static str,
        /// What was found, and what would be right.
        what: String,
    },
    /// A value that cannot be.
    #[error("table row {row}, column \"{column}\": {what}")]
    Value {
        /// Row of the table, from 0.
        row: usize,
        /// Name of the column.
        column: String,
        /// What was found, and what would be right.
        what: String,
    },
    /// Versions that make no segment.
    #[error("table of a segment: {0}")]
    Index(#[from] IndexError),
}

/// Calls the reader of Parquet, which panics on some torn pages (parquet 60: definition levels past their end). What has
/// panicked is not used again.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, TableError> {
    let result = catch_unwind(AssertUnwindSafe(call));
    let panicked = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        TableError::Torn(text.unwrap_or("its reader panicked").to_owned())
    };
    Ok(result.map_err(panicked)??)
}
