//! The id that a key gives.

use std::sync::Arc;

use serde_json::Value;

use super::{Format, SourceSpec, WireSchema, frame, read_avro};
use crate::json::{describe, invalid, quote, utf8};
use crate::{Fault, FaultCode};

/// What the fields of a key that has several are joined by.
const SEPARATOR: &str = "/";

/// What the key says.
pub(crate) enum Key {
    /// There is none.
    Absent,
    /// Text: the value may have an id, which must then be the same.
    Text(String),
    /// A struct, as databases' connectors write them: it alone is the id, and puts and deletes agree on it.
    Struct(String),
}

/// Reads a key.
pub(crate) fn key_of(
    key: Option<&[u8]>,
    id: &str,
    spec: &SourceSpec,
    schema: Option<&Result<Arc<WireSchema>, Fault>>,
) -> Result<Key, Fault> {
    let Some(key) = key else { return Ok(Key::Absent) };
    let json = |bytes: &[u8]| {
        serde_json::from_slice::<Value>(bytes)
            .map_err(|error| Fault::whole(FaultCode::NotJson, format!("the key is not JSON: {error}")))
    };
    let value = match spec.key_format {
        Format::Text => return text_of_key(key).map(|text| Key::Text(text.to_owned())),
        Format::Json => json(key),
        Format::JsonSchema => frame(key).and_then(|(_, data)| json(data)),
        Format::Avro => read_avro(key, schema),
    };
    let value = value.map_err(|fault| Fault { message: in_key(&fault), ..fault })?;
    let value = without_schema(value);
    if value.is_null() {
        return Ok(Key::Absent);
    }
    id_of(&value, id).map(Key::Struct)
}

/// A key that is text.
pub(crate) fn text_of_key(key: &[u8]) -> Result<&str, Fault> {
    utf8(key, "key")
}

fn in_key(fault: &Fault) -> String {
    if fault.message.contains("key") { fault.message.clone() } else { format!("the key: {}", fault.message) }
}

/// The key itself, without the schema that Kafka Connect's JSON converter may write beside it.
fn without_schema(value: Value) -> Value {
    match value {
        Value::Object(mut object)
            if object.len() == 2 && object.contains_key("schema") && object.contains_key("payload") =>
        {
            object.remove("payload").unwrap_or(Value::Null)
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => other,
    }
}

/// The id in a key: the field of the id, or the only field, or all of them, joined; or the key itself, if it is no struct.
fn id_of(key: &Value, id: &str) -> Result<String, Fault> {
    let Value::Object(fields) = key else { return scalar(key, "the key") };
    if let Some(value) = fields.get(id) {
        return scalar(value, &format!("\"{id}\" of the key"));
    }
    let parts: Result<Vec<String>, Fault> =
        fields.iter().map(|(name, value)| scalar(value, &format!("{} of the key", quote(name)))).collect();
    let parts = parts?;
    if parts.is_empty() {
        return Err(Fault::field(FaultCode::MissingId, id, "no id: the key has no fields"));
    }
    Ok(parts.join(SEPARATOR))
}

fn scalar(value: &Value, what: &str) -> Result<String, Fault> {
    match value {
        Value::String(text) if text.is_empty() => Err(invalid("key", format!("{what} is empty"))),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let message = format!("{what} is {}, not an id: a string or an integer", describe(other));
            Err(invalid("key", message))
        }
    }
}
