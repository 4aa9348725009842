//! How records of a documents topic are encoded: what of them is the document, and what its id.
//!
//! ```text
//! value ─▶ format (JSON, text, Avro) ─▶ envelope (Debezium's) ─▶ headers, rename, defaults ─▶ the object of the document
//! key ───▶ format (text, JSON, Avro) ─▶ id
//! ```
//! Nothing here asks for a schema: [`wanted`] says which ones a record needs, and whoever reads the topic brings them.

mod avro;
mod debezium;
mod decimal;
mod key;
mod mapping;
mod schema;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::json::{Object, describe, parse_object, utf8};
use crate::{Fault, FaultCode, Record};

pub(crate) use key::{Key, key_of, text_of_key};
pub use mapping::Mapping;
pub use schema::{WireSchema, frame};

/// How bytes are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object; of a key, a JSON value.
    #[default]
    Json,
    /// Text: the value is the text of the document, the key its id.
    Text,
    /// Avro, behind the number of its schema as in the wire format of Confluent's serialisers.
    Avro,
    /// JSON, behind the number of its schema. The schema is not asked for: whoever wrote the record has checked it.
    JsonSchema,
}

/// What stands around a document in its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// Nothing: the value is the document, a record without a value deletes it.
    #[default]
    None,
    /// Debezium's change event: `op`, `before`, `after`.
    Debezium,
}

/// How the records of one documents topic are read.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// Name of the topic: part of the id of a text that has no key.
    pub topic: String,
    /// Encoding of values.
    pub format: Format,
    /// Encoding of keys.
    pub key_format: Format,
    /// What stands around documents.
    pub envelope: Envelope,
    /// What becomes of fields and headers.
    pub mapping: Mapping,
    /// What every id of the topic begins with.
    pub id_prefix: String,
}

impl Default for SourceSpec {
    /// JSON objects under the text of their id, as they are.
    fn default() -> Self {
        Self {
            topic: String::new(),
            format: Format::Json,
            key_format: Format::Text,
            envelope: Envelope::None,
            mapping: Mapping::default(),
            id_prefix: String::new(),
        }
    }
}

impl SourceSpec {
    /// Whether a document can be written to the topic as JSON under its id.
    pub fn is_plain(&self) -> bool {
        self.format == Format::Json && self.key_format == Format::Text && self.envelope == Envelope::None
    }

    /// Whether reading it needs schemas.
    pub fn needs_schemas(&self) -> bool {
        self.format == Format::Avro || self.key_format == Format::Avro
    }
}

/// The schemas that a record needs, each found or with the reason why there is none.
#[derive(Clone, Debug, Default)]
pub struct RecordSchemas {
    /// Of the key.
    pub key: Option<Result<Arc<WireSchema>, Fault>>,
    /// Of the value.
    pub value: Option<Result<Arc<WireSchema>, Fault>>,
}

/// Numbers of the schemas of key and value, where they are Avro and say so.
pub fn wanted(record: &Record, spec: &SourceSpec) -> (Option<u32>, Option<u32>) {
    let number = |format: Format, bytes: &Option<Vec<u8>>| {
        let bytes = bytes.as_deref().filter(|_| format == Format::Avro)?;
        frame(bytes).ok().map(|(number, _)| number)
    };
    (number(spec.key_format, &record.key), number(spec.format, &record.value))
}

/// What a value says of its document.
pub(crate) enum Said {
    /// The document is now this.
    Put(Object),
    /// It is gone; what is known of it, besides the key.
    Gone(Object),
}

/// Reads a value.
pub(crate) fn read_value(
    value: &[u8],
    spec: &SourceSpec,
    text_field: Option<&str>,
    schema: Option<&Result<Arc<WireSchema>, Fault>>,
) -> Result<Said, Fault> {
    let object = match spec.format {
        Format::Json => parse_object(value)?,
        Format::JsonSchema => parse_object(frame(value)?.1)?,
        Format::Text => {
            let text = Value::String(utf8(value, "value")?.to_owned());
            Map::from_iter([(text_field.unwrap_or("text").to_owned(), text)])
        }
        Format::Avro => match read_avro(value, schema)? {
            Value::Object(object) => object,
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                let message = format!("the schema makes {} of the value, not a record", describe(&other));
                return Err(Fault::whole(FaultCode::NotDecoded, message));
            }
        },
    };
    match spec.envelope {
        Envelope::None => Ok(Said::Put(object)),
        Envelope::Debezium => debezium::open(object),
    }
}

/// Reads Avro by its schema.
fn read_avro(bytes: &[u8], schema: Option<&Result<Arc<WireSchema>, Fault>>) -> Result<Value, Fault> {
    let (number, data) = frame(bytes)?;
    match schema {
        Some(Ok(schema)) => schema.read(data),
        Some(Err(fault)) => Err(fault.clone()),
        None => Err(Fault::whole(FaultCode::UnknownSchema, format!("schema {number} is not at hand"))),
    }
}
