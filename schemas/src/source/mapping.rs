//! Fields under other names, values for those that are missing, headers as fields.

use serde_json::{Map, Value};

use crate::json::{Object, describe, invalid, quote};
use crate::{Fault, FaultCode, Header};

/// What becomes of the fields of a record, in this order. In a path, a dot leads into an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping {
    /// Header and path of the field that holds its text, unless the record has that field.
    pub headers: Vec<(String, String)>,
    /// Path of a field and its new path. All are taken out before any is put back.
    pub rename: Vec<(String, String)>,
    /// Path and value of a field that is absent or null.
    pub defaults: Vec<(String, Value)>,
}

impl Mapping {
    /// Maps the fields of a record.
    ///
    /// # Errors
    /// A path that leads through something that is no object; a header that is not text.
    pub(crate) fn apply(&self, object: &mut Object, headers: &[Header]) -> Result<(), Fault> {
        for (name, path) in &self.headers {
            // Names may repeat: the last is the newest.
            let newest = headers.iter().rev().find(|(header, _)| header == name);
            let Some(Some(bytes)) = newest.map(|(_, value)| value) else { continue };
            if get(object, path).is_none() {
                let text = std::str::from_utf8(bytes).map_err(|_| {
                    Fault::field(FaultCode::NotUtf8, path, format!("header {} is not UTF-8", quote(name)))
                })?;
                put(object, path, Value::String(text.to_owned()))?;
            }
        }
        let taken: Vec<(&String, Value)> =
            self.rename.iter().filter_map(|(from, to)| Some((to, take(object, from)?))).collect();
        for (to, value) in taken {
            put(object, to, value)?;
        }
        for (path, value) in &self.defaults {
            if get(object, path).is_none() {
                put(object, path, value.clone())?;
            }
        }
        Ok(())
    }
}

/// The value at a path, unless it is absent or null.
fn get<'a>(object: &'a Object, path: &str) -> Option<&'a Value> {
    let (first, rest) = split(path);
    let value = object.get(first)?;
    match rest {
        None => Some(value).filter(|value| !value.is_null()),
        Some(rest) => get(value.as_object()?, rest),
    }
}

/// Takes the value at a path out.
fn take(object: &mut Object, path: &str) -> Option<Value> {
    let (first, rest) = split(path);
    match rest {
        None => object.shift_remove(first),
        Some(rest) => take(object.get_mut(first)?.as_object_mut()?, rest),
    }
}

/// Puts a value at a path; what stood there gives way.
fn put(object: &mut Object, path: &str, value: Value) -> Result<(), Fault> {
    let (first, rest) = split(path);
    let Some(rest) = rest else {
        object.insert(first.to_owned(), value);
        return Ok(());
    };
    let below = object.entry(first).or_insert(Value::Null);
    if below.is_null() {
        *below = Value::Object(Map::new());
    }
    match below {
        Value::Object(below) => put(below, rest, value),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            let message = format!("{} is not an object, so it has no \"{rest}\"", describe(other));
            Err(invalid(first, message))
        }
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)))
}
