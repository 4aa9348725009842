//! One line of a JSON Lines topic ⇄ one record. Whatever is written is read back byte for byte.
//!
//! | line | key | value |
//! |---|---|---|
//! | `{"id": "a", …}` or `{"id": 7, …}` | `a`, `7` | the line |
//! | an object without such an id, or no JSON object, or not UTF-8 | none | the line |
//! | `{"key": "a", "value": {…}, "headers": {"traceparent": "00-…"}}` | `a` | the text of `value` |
//! | `{"key": "a", "value": null}` | `a` | none: deletes `a` |
//! | `{"key_base64": "/w==", "value_base64": "AAE="}` | the bytes | the bytes |
//!
//! The last three are *envelopes*: objects with one of `key`/`key_base64`, one of `value`/`value_base64`, `headers` or
//! not, and nothing else. A key that is no string stands for its JSON text, `null` for no key. Headers are an object,
//! or an array of `[name, value]` where names repeat; a value is a string, a number or a boolean (its text), `null`
//! (no value) or `{"base64": "…"}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshet_schemas::{Header, Headers, Record};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Blanks of JSON; the carriage return is here because lines may end with both.
const BLANKS: &[char] = &[' ', '\t', '\n', '\r'];

/// Reads a line without its `\n`. `None`: a blank line, which is no record.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    if is_blank(line) {
        return None;
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let plain = |key| Record { key, value: Some(line.to_vec()), ..Record::default() };
    Some(match members_of_line(line) {
        Some(members) => envelope(&members).unwrap_or_else(|| plain(id(&members))),
        None => plain(None),
    })
}

/// Whether nothing but blanks stands here.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| BLANKS.contains(&char::from(*byte)))
}

/// Whether the line is one whole JSON object. No proper beginning of such a line is one, save for blanks at its end.
pub(super) fn is_object(line: &[u8]) -> bool {
    members_of_line(line).is_some()
}

/// Appends the record as a line, `\n` included: as its value alone where that reads back as the same record, else as an
/// envelope, with base64 for what is not JSON on one line.
pub(super) fn encode(record: &Record, lines: &mut Vec<u8>) {
    let start = lines.len();
    for form in [plain_form, json_form, base64_form] {
        lines.truncate(start);
        if form(record, lines) && reads_back(&lines[start..], record) {
            break;
        }
    }
    debug_assert!(reads_back(&lines[start..], record), "{record:?}");
    lines.push(b'\n');
}

fn reads_back(line: &[u8], record: &Record) -> bool {
    !line.contains(&b'\n')
        && decode(line).is_some_and(|read| {
            (&read.key, &read.value, &read.headers) == (&record.key, &record.value, &record.headers)
        })
}

fn plain_form(record: &Record, line: &mut Vec<u8>) -> bool {
    line.extend(record.value.as_deref().unwrap_or_default());
    record.headers.is_empty() && record.value.as_deref().is_some_and(is_object)
}

fn json_form(record: &Record, line: &mut Vec<u8>) -> bool {
    envelope_form(record, line, |value| Some(("value", std::str::from_utf8(value).ok()?.to_owned())))
}

fn base64_form(record: &Record, line: &mut Vec<u8>) -> bool {
    envelope_form(record, line, |value| Some(("value_base64", format!("\"{}\"", STANDARD.encode(value)))))
}

fn envelope_form(
    record: &Record,
    line: &mut Vec<u8>,
    value_member: impl Fn(&[u8]) -> Option<(&'static str, String)>,
) -> bool {
    let (key_name, key) = match record.key.as_deref().map(|key| (std::str::from_utf8(key), key)) {
        None => ("key", Value::Null),
        Some((Ok(text), _)) => ("key", text.into()),
        Some((Err(_), bytes)) => ("key_base64", STANDARD.encode(bytes).into()),
    };
    let null = || Some(("value", "null".to_owned()));
    let Some((value_name, value)) = record.value.as_deref().map_or_else(null, value_member) else { return false };
    let mut text = format!("{{\"{key_name}\":{key},\"{value_name}\":{value}");
    if !record.headers.is_empty() {
        text.push_str(&format!(",\"headers\":{}", headers_json(&record.headers)));
    }
    text.push('}');
    line.extend(text.into_bytes());
    true
}

fn headers_json(headers: &Headers) -> Value {
    let value = |value: &Option<Vec<u8>>| match value.as_deref().map(|value| (std::str::from_utf8(value), value)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    };
    let object: Map<String, Value> = headers.iter().map(|(name, bytes)| (name.clone(), value(bytes))).collect();
    if object.len() == headers.len() {
        return Value::Object(object);
    }
    headers.iter().map(|(name, bytes)| serde_json::json!([name, value(bytes)])).collect()
}

/// Name and JSON text of each member of an object.
type Members<'text> = Vec<(String, &'text str)>;

fn members_of_line(line: &[u8]) -> Option<Members<'_>> {
    let text = std::str::from_utf8(line).ok()?;
    text.trim_start_matches(BLANKS).starts_with('{').then_some(())?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    members(text)
}

/// Members of an object whose text is known to be JSON. Numbers and spaces of nested values stay as they are, which a
/// tree of values would not promise.
fn members(text: &str) -> Option<Members<'_>> {
    let bytes = text.as_bytes();
    let mut members = Vec::new();
    let mut at = text.find('{')? + 1;
    loop {
        at = skip_blanks(bytes, at);
        match bytes.get(at)? {
            b'}' => return Some(members),
            b',' => at += 1,
            _ => {
                let name_end = skip_value(bytes, at)?;
                let name = serde_json::from_str(text.get(at..name_end)?).ok()?;
                let start = skip_blanks(bytes, skip_blanks(bytes, name_end) + 1); // behind the colon
                at = skip_value(bytes, start)?;
                members.push((name, text.get(start..at)?));
            }
        }
    }
}

fn skip_blanks(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| BLANKS.contains(&char::from(**byte))).count()
}

/// Index behind the value that starts at `from`.
fn skip_value(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = skip_string(bytes, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            _ if depth > 0 => at += 1,
            _ => {
                let scalar = |byte: &&u8| !matches!(**byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                at += bytes[at..].iter().take_while(scalar).count();
            }
        }
        if depth == 0 {
            return (at > from).then_some(at);
        }
    }
}

/// Index behind the closing quote of the string that opens at `from`.
fn skip_string(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The id that is the key: of several, the last, as for every JSON reader.
fn id(members: &Members<'_>) -> Option<Vec<u8>> {
    let (_, text) = members.iter().rev().find(|(name, _)| name == "id")?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.as_bytes().to_vec());
    }
    serde_json::from_str::<String>(text).ok().map(String::into_bytes)
}

/// The record that an envelope writes out; `None` where the object is no envelope.
fn envelope(members: &Members<'_>) -> Option<Record> {
    let (mut key, mut value, mut headers) = (None, None, None);
    for (name, text) in members {
        let first = match name.as_str() {
            "key" => key.replace(key_bytes(text)?).is_none(),
            "key_base64" => key.replace(Some(base64_bytes(text)?)).is_none(),
            "value" => value.replace((*text != "null").then(|| text.as_bytes().to_vec())).is_none(),
            "value_base64" => value.replace(Some(base64_bytes(text)?)).is_none(),
            "headers" => headers.replace(parse_headers(text)?).is_none(),
            _ => false,
        };
        first.then_some(())?;
    }
    Some(Record { key: key?, value: value?, headers: headers.unwrap_or_default(), ..Record::default() })
}

/// `Some(None)`: no key.
fn key_bytes(text: &str) -> Option<Option<Vec<u8>>> {
    if text.starts_with('"') {
        return Some(Some(serde_json::from_str::<String>(text).ok()?.into_bytes()));
    }
    Some((text != "null").then(|| text.as_bytes().to_vec()))
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(serde_json::from_str::<String>(text).ok()?).ok()
}

fn parse_headers(text: &str) -> Option<Headers> {
    if let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) {
        return object.into_iter().map(|(name, value)| header(name, &value)).collect();
    }
    let pairs: Vec<(String, Value)> = serde_json::from_str(text).ok()?;
    pairs.into_iter().map(|(name, value)| header(name, &value)).collect()
}

fn header(name: String, value: &Value) -> Option<Header> {
    let bytes = match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string().into_bytes()),
        Value::Object(object) if object.len() == 1 => Some(STANDARD.decode(object.get("base64")?.as_str()?).ok()?),
        Value::Object(_) | Value::Array(_) => return None,
    };
    Some((name, bytes))
}
