//! A document record: bytes → checked change of one document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{VectorKind, VectorValue};

/// What a document must look like; made from `[documents]` and `[vectors]` of the config.
#[derive(Clone, Debug)]
pub struct DocumentSpec {
    /// Field that holds the id.
    pub id: String,
    /// Fields joined by one space into the text that is embedded.
    pub text: Vec<String>,
    /// Longest text in bytes that is accepted.
    pub text_bytes_max: usize,
    /// Vector fields by name.
    pub vectors: BTreeMap<String, VectorSpec>,
}

/// One vector field, as far as a document must fit it.
#[derive(Clone, Copy, Debug)]
pub struct VectorSpec {
    /// Its kind.
    pub kind: VectorKind,
    /// Dimension; `None` for sparse vectors.
    pub size: Option<usize>,
    /// Whether a model makes it from the text (then a vector in the document replaces the model's).
    pub from_text: bool,
}

/// A whole document. Equal fields mean an equal document: an update to it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Id, not empty.
    pub id: String,
    /// Text fields joined by a space; empty only if no vector field needs text.
    pub text: String,
    /// All fields but id, text fields and vectors: compact JSON object text, fields in the document's order.
    pub payload: String,
    /// Precomputed vectors by field name.
    pub vectors: BTreeMap<String, VectorValue>,
}

/// What a document record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DocumentChange {
    /// The document is now this.
    Put(Document),
    /// The document with this id is gone.
    Delete(String),
}
