//! The id of a record: from its value, else from its key.

use serde_json::Value;

use crate::json::{Object, describe, invalid, quote};
use crate::source::text_of_key;
use crate::{Fault, FaultCode};

/// The id of a record whose value is `object`.
///
/// The value's id counts, and the key must be equal to it; without one in the value, the key is the id.
pub(crate) fn identify(object: &Object, field: &str, key: Option<&[u8]>) -> Result<String, Fault> {
    let key = key.map(text_of_key).transpose()?;
    match (id_in_value(object, field)?, key) {
        (Some(id), Some(key)) if id != key => Err(Fault::field(
            FaultCode::IdMismatch,
            field,
            format!("id {} is not the record's key {}", quote(&id), quote(key)),
        )),
        (Some(id), _) => Ok(id),
        (None, Some("")) => Err(missing(field, "the record's key is empty")),
        (None, Some(key)) => Ok(key.to_owned()),
        (None, None) => Err(missing(field, "the record has no key")),
    }
}

/// The id that the key alone gives.
pub(crate) fn identify_by_key(field: &str, key: Option<&[u8]>) -> Result<String, Fault> {
    identify(&Object::new(), field, key)
}

/// The id in the value: a string, or an integer as its decimal text.
pub(crate) fn id_in_value(object: &Object, field: &str) -> Result<Option<String>, Fault> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.is_empty() => Err(invalid(field, "the id is empty")),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(Value::Number(id)) if !id.is_f64() => Ok(Some(id.to_string())),
        Some(other) => {
            Err(invalid(field, format!("{} is not an id: a string or an integer", describe(other))))
        }
    }
}

fn missing(field: &str, key: &str) -> Fault {
    let message = format!("no id: the value has no \"{field}\" and {key}");
    Fault::field(FaultCode::MissingId, field, message)
}
