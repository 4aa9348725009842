//! A document record: bytes → checked change of one document.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::identify;
use crate::json::{Fields, Object, describe, invalid, join, list, quote};
use crate::source::{Key, Said, key_of, read_value};
use crate::{
    DocumentTopics, Fault, FaultCode, Format, Record, RecordSchemas, SourceSpec, VectorKind, VectorValue,
};

/// Field of a document that holds precomputed vectors; it is never text or payload.
pub const VECTORS_FIELD: &str = "vectors";

/// Room in a record for everything but its text: payload and precomputed vectors (as JSON, a token vector of 128
/// numbers takes about 2 KiB, so this holds a multi-vector of 30 000 tokens).
const BESIDES_TEXT_BYTES_MAX: usize = 64 << 20;

/// Most bytes of JSON that one byte of text can take: a control character as `\u001f`.
const ESCAPED_BYTES_MAX: usize = 6;

/// What a document must look like; made from `[documents]` and `[vectors]` of the config.
#[derive(Clone, Debug)]
pub struct DocumentSpec {
    /// Field that holds the id.
    pub id: String,
    /// Fields joined by one space into the text that is embedded.
    pub text: Vec<String>,
    /// Field that models read before every chunk of the text, if there is one; left out of the text.
    pub title: Option<String>,
    /// Field that holds the payload, if all that is not id, text or vectors is not it.
    pub payload: Option<String>,
    /// Longest text in bytes that is accepted.
    pub text_bytes_max: usize,
    /// Vector fields by name.
    pub vectors: BTreeMap<String, VectorSpec>,
    /// How records are encoded, and what becomes of their fields before all this.
    pub source: SourceSpec,
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
    /// Whether it holds the terms of the text for BM25: no vector that is of use to anybody else.
    pub terms: bool,
}

/// A whole document. Equal fields mean an equal document: an update to it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Id, not empty.
    pub id: String,
    /// What models read before every chunk; empty unless a title field is configured.
    pub title: String,
    /// Text fields but the title, those that are not empty, joined by a space. Spans of chunks are places in it. Blank
    /// only if there is a title, or if no vector field needs text.
    pub text: String,
    /// All fields but id, text fields and vectors, and with the title, or the object of the payload's own field: compact
    /// JSON object text, fields in the document's order.
    pub payload: String,
    /// Precomputed vectors by field name.
    pub vectors: BTreeMap<String, VectorValue>,
}

impl Document {
    /// Title and text: what terms are counted in.
    pub fn whole(&self) -> Cow<'_, str> {
        with_title(&self.title, &self.text)
    }
}

/// What models read of a piece of a document's text: the title, a space, and the piece.
pub fn with_title<'a>(title: &str, text: &'a str) -> Cow<'a, str> {
    match (title.is_empty(), text.is_empty()) {
        (true, _) => Cow::Borrowed(text),
        (false, true) => Cow::Owned(title.to_owned()),
        (false, false) => Cow::Owned(format!("{title} {text}")),
    }
}

/// What a document record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DocumentChange {
    /// The document is now this.
    Put(Document),
    /// The document with this id is gone.
    Delete(String),
}

impl DocumentSpec {
    /// Largest value of a record that is read at all: no document within the limits is larger.
    pub fn value_bytes_max(&self) -> usize {
        value_bytes_max(self.text_bytes_max)
    }

    /// The key under which the document of an id is written.
    ///
    /// # Errors
    /// Documents that cannot be written as JSON under their ids, since their topic is read otherwise.
    pub fn key<'a>(&self, id: &'a str) -> Result<&'a str, Fault> {
        if !self.source.is_plain() {
            let message = format!(
                "documents of topic \"{}\" are not JSON under the text of their id: write them as its readers expect",
                self.source.topic
            );
            return Err(Fault::whole(FaultCode::InvalidValue, message));
        }
        Ok(id.strip_prefix(self.source.id_prefix.as_str()).unwrap_or(id))
    }

    /// Fields of the text: those that are configured, but the title.
    fn text_fields(&self) -> impl Iterator<Item = &String> {
        self.text.iter().filter(|field| Some(*field) != self.title.as_ref())
    }

    /// Whether text must be there to make vectors that the document does not bring itself.
    fn needs_text(&self, given: &BTreeMap<String, VectorValue>) -> bool {
        self.vectors.iter().any(|(name, spec)| spec.from_text && !given.contains_key(name))
    }
}

/// Largest value of a record whose text may have `text_bytes_max` bytes.
pub(crate) fn value_bytes_max(text_bytes_max: usize) -> usize {
    text_bytes_max.saturating_mul(ESCAPED_BYTES_MAX).saturating_add(BESIDES_TEXT_BYTES_MAX)
}

impl DocumentChange {
    /// Reads a record of a documents topic that needs no schemas; see [`DocumentChange::read`].
    ///
    /// # Errors
    /// The first thing that is wrong, with its field; the record as a whole is then refused.
    pub fn parse(record: &Record, spec: &DocumentSpec) -> Result<Self, Fault> {
        Self::read(record, &RecordSchemas::default(), spec)
    }

    /// Reads a record of a documents topic.
    ///
    /// A record without a value deletes the document of its key. Fields that are `null` are read as absent, since
    /// that is how tables write a missing field; as payload they are kept.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field; the record as a whole is then refused.
    pub fn read(record: &Record, schemas: &RecordSchemas, spec: &DocumentSpec) -> Result<Self, Fault> {
        let source = &spec.source;
        let key = || key_of(record.key.as_deref(), &spec.id, source, schemas.key.as_ref());
        let Some(value) = &record.value else {
            return id_of(&Object::new(), key()?, spec).map(Self::Delete);
        };
        if value.len() > spec.value_bytes_max() {
            return Err(too_large("record", value.len(), spec.value_bytes_max(), None));
        }
        let text_field = spec.text_fields().next().map(String::as_str);
        let mut object = match read_value(value, source, text_field, schemas.value.as_ref())? {
            Said::Put(object) => object,
            Said::Gone(mut row) => {
                source.mapping.apply(&mut row, &[])?;
                return id_of(&row, key()?, spec).map(Self::Delete);
            }
        };
        source.mapping.apply(&mut object, &record.headers)?;
        let id = match key()? {
            Key::Absent if source.format == Format::Text && !object.contains_key(&spec.id) => {
                let (_, partition) = DocumentTopics::split(record.partition);
                format!("{}{}-{partition}-{}", source.id_prefix, source.topic, record.offset)
            }
            key @ (Key::Absent | Key::Text(_) | Key::Struct(_)) => id_of(&object, key, spec)?,
        };
        let text = text(&object, spec)?;
        let title = match &spec.title {
            Some(field) => Fields::new(&object, "").str(field)?.unwrap_or_default().to_owned(),
            None => String::new(),
        };
        let bytes = title.len() + text.len();
        if bytes > spec.text_bytes_max {
            let field = spec.text.first().cloned();
            return Err(too_large("text", bytes, spec.text_bytes_max, field));
        }
        let vectors = vectors(&object, spec)?;
        if text.trim().is_empty() && title.trim().is_empty() && spec.needs_text(&vectors) {
            let message = format!("no text in {}", list(spec.text.iter().map(String::as_str)));
            let field = spec.text.first().cloned();
            return Err(Fault { code: FaultCode::EmptyText, message, field });
        }
        let payload = payload(object, spec)?;
        Ok(Self::Put(Document { id, title, text, payload, vectors }))
    }

    /// Id of the document that changes.
    pub fn id(&self) -> &str {
        match self {
            Self::Put(document) => &document.id,
            Self::Delete(id) => id,
        }
    }
}

/// The id of a document, as it is known in the pipeline.
fn id_of(object: &Object, key: Key, spec: &DocumentSpec) -> Result<String, Fault> {
    let id = match key {
        Key::Struct(id) => id,
        Key::Text(key) => identify(object, &spec.id, Some(key.as_bytes()))?,
        Key::Absent => identify(object, &spec.id, None)?,
    };
    Ok(if spec.source.id_prefix.is_empty() { id } else { format!("{}{id}", spec.source.id_prefix) })
}

/// A fault with the size found and the size allowed.
pub(crate) fn too_large(what: &str, found: usize, max: usize, field: Option<String>) -> Fault {
    let message = format!("{what} has {found} bytes, at most {max} are accepted");
    Fault { code: FaultCode::TooLarge, message, field }
}

fn text(object: &Object, spec: &DocumentSpec) -> Result<String, Fault> {
    let fields = Fields::new(object, "");
    let mut text = String::new();
    for name in spec.text_fields() {
        let Some(part) = fields.str(name)?.filter(|part| !part.is_empty()) else { continue };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
    }
    Ok(text)
}

/// The payload as JSON text.
fn payload(mut object: Object, spec: &DocumentSpec) -> Result<String, Fault> {
    if let Some(field) = &spec.payload {
        return match object.shift_remove(field) {
            None | Some(Value::Null) => Ok("{}".to_owned()),
            Some(payload @ Value::Object(_)) => Ok(payload.to_string()),
            Some(other) => Err(invalid(field, format!("{} is not an object", describe(&other)))),
        };
    }
    let text_fields = spec.text_fields().map(String::as_str);
    for field in text_fields.chain([spec.id.as_str(), VECTORS_FIELD]) {
        object.shift_remove(field);
    }
    Ok(Value::Object(object).to_string())
}

fn vectors(object: &Object, spec: &DocumentSpec) -> Result<BTreeMap<String, VectorValue>, Fault> {
    let Some(value) = object.get(VECTORS_FIELD).filter(|value| !value.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let fields = Fields::of(value, VECTORS_FIELD)?;
    let mut vectors = BTreeMap::new();
    for name in fields.names() {
        let path = join(VECTORS_FIELD, name);
        let Some(field) = spec.vectors.get(name) else {
            let known = list(spec.vectors.keys().map(String::as_str));
            let message = format!("vector {} is not configured; known: {known}", quote(name));
            return Err(Fault::field(FaultCode::UnknownVector, path, message));
        };
        let Some(value) = fields.get(name) else { continue };
        let vector = VectorValue::parse(value, &path)?;
        vector.fit(field.kind, field.size, &path)?;
        vectors.insert(name.to_owned(), vector);
    }
    Ok(vectors)
}
