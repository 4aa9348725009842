//! What is wrong with a record: a value, not an exception. Bad data travels as data.

use serde::{Deserialize, Serialize};

/// Kinds of bad input. The snake_case name is the code on the wire, and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The text is not JSON, or not a JSON object.
    NotJson,
    /// The bytes do not follow their schema, or are not in the wire format of a schema registry.
    NotDecoded,
    /// The schema registry has no schema of the number, or one that cannot be read.
    UnknownSchema,
    /// No id in the value and no key.
    MissingId,
    /// The id in the value is not the key of the record.
    IdMismatch,
    /// No text, or nothing but white space, where a model needs text.
    EmptyText,
    /// The record or its text is larger than the configured limit.
    TooLarge,
    /// A field has the wrong type or a value outside its range.
    InvalidValue,
    /// A vector whose size is not that of the index.
    WrongDimension,
    /// NaN or infinite number in a vector.
    NotFinite,
    /// A field that is not known.
    UnknownField,
    /// A vector name that is not configured.
    UnknownVector,
    /// A plan name that is not configured.
    UnknownPlan,
    /// A plan nested deeper, or with more nodes, than the limit; or JSON nested deeper than any record may be.
    TooDeep,
    /// A query id that is already being answered or was answered recently.
    DuplicateId,
    /// The asked-for freshness was not reached in time.
    ConsistencyTimeout,
    /// The model failed on this text.
    ModelFailed,
    /// The answer could not be written, for example because it is too large.
    NotWritten,
    /// A formula that has no finite result for a document.
    FormulaFailed,
    /// A cursor that is not known, or not any more.
    UnknownCursor,
    /// No document has the id that a query names, or it has no vector in the field.
    NotFound,
}

impl FaultCode {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotDecoded => "not_decoded",
            Self::UnknownSchema => "unknown_schema",
            Self::MissingId => "missing_id",
            Self::IdMismatch => "id_mismatch",
            Self::EmptyText => "empty_text",
            Self::TooLarge => "too_large",
            Self::InvalidValue => "invalid_value",
            Self::WrongDimension => "wrong_dimension",
            Self::NotFinite => "not_finite",
            Self::UnknownField => "unknown_field",
            Self::UnknownVector => "unknown_vector",
            Self::UnknownPlan => "unknown_plan",
            Self::TooDeep => "too_deep",
            Self::DuplicateId => "duplicate_id",
            Self::ConsistencyTimeout => "consistency_timeout",
            Self::ModelFailed => "model_failed",
            Self::NotWritten => "not_written",
            Self::FormulaFailed => "formula_failed",
            Self::UnknownCursor => "unknown_cursor",
            Self::NotFound => "not_found",
        }
    }
}

/// One thing wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Kind of fault.
    pub code: FaultCode,
    /// Lowercase sentence with field, value and what would be right.
    pub message: String,
    /// Path of the field, such as `prefetch[1].using`; `None` when the record as a whole is wrong.
    pub field: Option<String>,
}

impl Fault {
    /// A fault of the record as a whole.
    pub fn whole(code: FaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// The message, after the field if there is one: for places that have no field of its own.
    pub fn message_with_field(&self) -> String {
        match &self.field {
            Some(field) => format!("{field}: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// A fault of one field.
    pub fn field(code: FaultCode, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: Some(field.into()) }
    }
}
