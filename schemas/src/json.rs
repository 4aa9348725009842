//! Reading JSON with the path of every field, so that each fault can name where it stands.

use serde_json::{Map, Value};

use crate::{Fault, FaultCode};

/// Longest part of a foreign value that a message repeats, in characters.
const QUOTED_CHARS_MAX: usize = 64;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// Reads bytes as a JSON object.
///
/// A number that no float can hold, such as `NaN` or `1e400`, is reported as such with its field, although it is not
/// JSON at all: it is what some serialisers write, and the field is what their user must know.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Object, Fault> {
    let text = utf8(bytes, "value")?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            Err(Fault::whole(FaultCode::NotJson, format!("value is {}, not a JSON object", describe(&other))))
        }
        Err(error) => Err(not_json(text, &error)),
    }
}

/// Bytes as text; `what` they are stands in the message.
pub(crate) fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Fault::whole(FaultCode::NotUtf8, format!("{what} is not UTF-8 from byte {at} on"))
    })
}

fn not_json(text: &str, error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    if let Some((path, literal)) = literal_at(text, offset_of(text, line, column)) {
        if is_not_finite(literal) {
            let message = format!("{literal} at line {line} column {column} is not a finite number");
            return Fault::field(FaultCode::NotFinite, path, message);
        }
        if literal.parse::<f64>().is_ok_and(f64::is_infinite) {
            let message = format!(
                "{} at line {line} column {column} is beyond the range of numbers",
                quote_plain(literal)
            );
            return Fault::field(FaultCode::NotFinite, path, message);
        }
    }
    let text = error.to_string();
    if text.starts_with("recursion limit exceeded") {
        let message = format!("nested more than 127 deep at line {line} column {column}");
        return Fault::whole(FaultCode::TooDeep, message);
    }
    Fault::whole(FaultCode::NotJson, format!("not JSON: {text}"))
}

/// Byte offset of a position as serde_json counts it: lines and byte columns from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column.saturating_sub(1)
}

/// Whether a word is a spelling of NaN or of an infinity.
pub(crate) fn is_not_finite(word: &str) -> bool {
    let bare = word.trim_start_matches(['-', '+']).to_ascii_lowercase();
    matches!(bare.as_str(), "nan" | "inf" | "infinity")
}

/// One level of nesting while [`literal_at`] walks.
enum Level {
    /// In an object, at this key.
    Key(String),
    /// In an array, at this index.
    Index(usize),
}

/// The number or word around a byte offset, with the path of the field it stands in.
fn literal_at(text: &str, offset: usize) -> Option<(String, &str)> {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level> = Vec::new();
    let mut key_next = false;
    let mut at = 0;
    while at < bytes.len() && at <= offset + 1 {
        match bytes[at] {
            b'{' => {
                levels.push(Level::Key(String::new()));
                key_next = true;
            }
            b'[' => levels.push(Level::Index(0)),
            b'}' | b']' => {
                levels.pop();
            }
            b':' => key_next = false,
            b',' => match levels.last_mut() {
                Some(Level::Index(index)) => *index += 1,
                Some(Level::Key(_)) => key_next = true,
                None => {}
            },
            b'"' => {
                let end = string_end(bytes, at);
                if let (true, Some(Level::Key(key))) = (key_next, levels.last_mut()) {
                    *key = text.get(at + 1..end)?.to_owned();
                }
                at = end;
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => {
                let rest = &bytes[at..];
                let len = rest.iter().position(|byte| is_boundary(*byte)).unwrap_or(rest.len());
                if offset <= at + len {
                    return Some((path_of(&levels), text.get(at..at + len)?));
                }
                at += len - 1;
            }
        }
        at += 1;
    }
    None
}

/// Offset of the quote that ends the string which starts at `start`, or the end of the text.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

fn is_boundary(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b",:{}[]\"".contains(&byte)
}

fn path_of(levels: &[Level]) -> String {
    levels.iter().fold(String::new(), |path, level| match level {
        Level::Key(key) => join(&path, key),
        Level::Index(index) => element(&path, *index),
    })
}

/// Path of a field of the object at `path`; the outermost object has the empty path.
pub(crate) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// Path of an element of the array at `path`.
pub(crate) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// A value in the words of a message: its type, and the value itself where it is short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => format!("the number {value}"),
        Value::String(value) => format!("the string {}", quote(value)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A foreign text in quotes, shortened.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", quote_plain(text))
}

fn quote_plain(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect();
    if chars.next().is_some() { format!("{head}…") } else { head }
}

/// Names in quotes, separated by commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A fault of a value that is not what the field takes.
pub(crate) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault::field(FaultCode::InvalidValue, path, message)
}

/// The fields of one JSON object and the path at which it stands. `null` is read as absent.
pub(crate) struct Fields<'a> {
    object: &'a Object,
    path: String,
}

impl<'a> Fields<'a> {
    /// The fields of an object that stands at `path`.
    pub(crate) fn new(object: &'a Object, path: &str) -> Self {
        Self { object, path: path.to_owned() }
    }

    /// The fields of a value, which must be an object.
    pub(crate) fn of(value: &'a Value, path: &str) -> Result<Self, Fault> {
        let Value::Object(object) = value else {
            return Err(invalid(path, format!("{} is not an object", describe(value))));
        };
        Ok(Self::new(object, path))
    }

    /// Names of all fields, in the order of the text; those that are null, too.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.object.keys().map(String::as_str)
    }

    /// Where a field stands.
    pub(crate) fn path(&self, field: &str) -> String {
        join(&self.path, field)
    }

    /// The value of a field, unless it is absent or null.
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Refuses fields that are not known, and those of Qdrant that are not served yet.
    pub(crate) fn only(&self, known: &[&str], not_yet: &[&str]) -> Result<(), Fault> {
        for (field, value) in self.object {
            if known.contains(&field.as_str()) {
                continue;
            }
            if not_yet.contains(&field.as_str()) {
                if !value.is_null() {
                    return Err(self.not_supported(field));
                }
                continue;
            }
            let message = format!("unknown field {}; known: {}", quote(field), list(known.iter().copied()));
            return Err(Fault::field(FaultCode::UnknownField, self.path(field), message));
        }
        Ok(())
    }

    /// A fault for a field that Freshet does not serve yet.
    pub(crate) fn not_supported(&self, field: &str) -> Fault {
        invalid(self.path(field), format!("\"{field}\" is not supported yet"))
    }

    /// A truth value, if given.
    pub(crate) fn bool(&self, field: &str) -> Result<Option<bool>, Fault> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.unlike(field, other, "true or false")),
        }
    }

    /// A string, if given.
    pub(crate) fn str(&self, field: &str) -> Result<Option<&'a str>, Fault> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(self.unlike(field, other, "a string")),
        }
    }

    /// A fault for a value of another type than expected.
    pub(crate) fn unlike(&self, field: &str, value: &Value, expected: &str) -> Fault {
        invalid(self.path(field), format!("{} is not {expected}", describe(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_with_their_path() {
        let text = r#"{"a": {"b\"": [1, 2]}, "c": [[0.5], [0.1, NaN]]}"#;
        let at = text.find("NaN").expect("it is there");
        assert_eq!(literal_at(text, at), Some(("c[1][1]".to_owned(), "NaN")));
        assert_eq!(
            literal_at(text, text.find("1").expect("it is there")),
            Some(("a.b\\\"[0]".to_owned(), "1"))
        );
    }

    #[test]
    fn long_values_are_shortened_in_messages() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        assert_eq!(quote(&"ü".repeat(100)).chars().count(), QUOTED_CHARS_MAX + 3);
    }
}
