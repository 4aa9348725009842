//! Changes within a payload, at Qdrant's paths: `a.b`, `list[].x`, `list[0].x`, `"a.b".c`.

use serde_json::{Map, Value};

/// Longest path, in parts.
const PARTS_MAX: usize = 64;

/// One part of a path.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Key(String),
    /// All elements of an array.
    All,
    /// One element of an array.
    Index(usize),
}

/// A path into a payload; it begins with a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Part>);

impl JsonPath {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let key = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let (key, behind) = quoted.split_once('"')?;
                    rest = behind;
                    key
                }
                None => {
                    let end = rest.find(['.', '[']).unwrap_or(rest.len());
                    let (key, behind) = rest.split_at(end);
                    rest = behind;
                    key
                }
            };
            if key.is_empty() || parts.len() == PARTS_MAX {
                return None;
            }
            parts.push(Part::Key(key.to_owned()));
            while let Some(inner) = rest.strip_prefix('[') {
                let (index, behind) = inner.split_once(']')?;
                parts.push(if index.is_empty() { Part::All } else { Part::Index(index.parse().ok()?) });
                rest = behind;
            }
            if rest.is_empty() {
                return Some(Self(parts));
            }
            rest = rest.strip_prefix('.')?;
        }
    }

    /// Puts the fields of an object into the one at the path, which is made where it is missing.
    pub(super) fn merge(&self, payload: &mut Map<String, Value>, fields: &Map<String, Value>) {
        within(payload, |value| merge(value, &self.0, fields));
    }

    /// Removes what stands at the path.
    pub(super) fn remove(&self, payload: &mut Map<String, Value>) {
        within(payload, |value| remove(value, &self.0));
    }
}

/// Changes an object as a value.
fn within(payload: &mut Map<String, Value>, change: impl FnOnce(&mut Value)) {
    let mut value = Value::Object(std::mem::take(payload));
    change(&mut value);
    if let Value::Object(changed) = value {
        *payload = changed;
    }
}

fn merge(value: &mut Value, path: &[Part], fields: &Map<String, Value>) {
    match path.split_first() {
        None => match value.as_object_mut() {
            Some(object) => object.extend(fields.clone()),
            None => *value = Value::Object(fields.clone()),
        },
        Some((Part::Key(key), rest)) => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            if let Value::Object(object) = value {
                merge(object.entry(key.as_str()).or_insert(Value::Null), rest, fields);
            }
        }
        Some((Part::All, rest)) => match value.as_array_mut() {
            Some(items) => items.iter_mut().for_each(|item| merge(item, rest, fields)),
            None => *value = Value::Array(Vec::new()),
        },
        Some((Part::Index(index), rest)) => match value.as_array_mut() {
            Some(items) => items.get_mut(*index).into_iter().for_each(|item| merge(item, rest, fields)),
            None => *value = Value::Array(Vec::new()),
        },
    }
}

fn remove(value: &mut Value, path: &[Part]) {
    match (path, value) {
        ([Part::Key(key)], Value::Object(object)) => drop(object.shift_remove(key)),
        ([Part::All], Value::Array(items)) => items.clear(),
        ([Part::Index(index)], Value::Array(items)) if *index < items.len() => drop(items.remove(*index)),
        ([Part::Key(key), rest @ ..], Value::Object(object)) => {
            object.get_mut(key).into_iter().for_each(|value| remove(value, rest));
        }
        ([Part::All, rest @ ..], Value::Array(items)) => items.iter_mut().for_each(|item| remove(item, rest)),
        ([Part::Index(index), rest @ ..], Value::Array(items)) => {
            items.get_mut(*index).into_iter().for_each(|item| remove(item, rest));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(payload: Value, change: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let Value::Object(mut payload) = payload else { panic!("an object") };
        change(&mut payload);
        Value::Object(payload)
    }

    fn merged(payload: Value, path: &str, fields: Value) -> Value {
        let path = JsonPath::parse(path).unwrap();
        edited(payload, |payload| path.merge(payload, fields.as_object().unwrap()))
    }

    fn removed(payload: Value, path: &str) -> Value {
        let path = JsonPath::parse(path).unwrap();
        edited(payload, |payload| path.remove(payload))
    }

    #[test]
    fn fields_are_put_where_the_path_leads() {
        assert_eq!(merged(json!({"a": {"x": 1}}), "a", json!({"y": 2})), json!({"a": {"x": 1, "y": 2}}));
        assert_eq!(merged(json!({"a": 1}), "a.b", json!({"y": 2})), json!({"a": {"b": {"y": 2}}}));
        assert_eq!(
            merged(json!({"a": [{}, {"x": 1}]}), "a[]", json!({"y": 2})),
            json!({"a": [{"y": 2}, {"x": 1, "y": 2}]})
        );
        assert_eq!(
            merged(json!({"a": [{}, {}]}), "a[1].b", json!({"y": 2})),
            json!({"a": [{}, {"b": {"y": 2}}]})
        );
        assert_eq!(merged(json!({"a": [{}]}), "a[5]", json!({"y": 2})), json!({"a": [{}]}));
        assert_eq!(merged(json!({}), "\"a.b\".c", json!({"y": 2})), json!({"a.b": {"c": {"y": 2}}}));
    }

    #[test]
    fn what_stands_at_a_path_is_removed() {
        let payload = json!({"a": {"x": 1, "y": 2}, "l": [{"x": 1}, {"x": 2, "y": 3}]});
        assert_eq!(removed(payload.clone(), "a.x")["a"], json!({"y": 2}));
        assert_eq!(removed(payload.clone(), "l[].x")["l"], json!([{}, {"y": 3}]));
        assert_eq!(removed(payload.clone(), "l[1].x")["l"], json!([{"x": 1}, {"y": 3}]));
        assert_eq!(removed(payload.clone(), "l[]")["l"], json!([]));
        assert_eq!(removed(payload.clone(), "l[0]")["l"], json!([{"x": 2, "y": 3}]));
        assert_eq!(removed(payload.clone(), "none.x"), payload);
        assert_eq!(removed(payload.clone(), "a.x.z"), payload);
    }

    #[test]
    fn what_is_no_path_is_not_read() {
        for path in ["", ".", "a.", "a..b", "[0]", "a[", "a[x]", "a]b[", "\"a", "a[0]b"] {
            assert_eq!(JsonPath::parse(path).filter(|_| path != "a]b["), None, "{path}");
        }
    }
}
