//! What a filter needs of a payload, without the rest of it.

use std::collections::BTreeSet;
use std::fmt;

use freshet_schemas::{Condition, Filter};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The outermost fields that a filter asks for.
pub(super) struct Needed<'a>(BTreeSet<&'a str>);

impl<'a> Needed<'a> {
    /// Those of a filter.
    pub(super) fn of(filter: &'a Filter) -> Self {
        let mut needed = Self(BTreeSet::new());
        needed.filter(filter);
        needed
    }

    /// That of a path.
    pub(super) fn of_key(path: &'a str) -> Self {
        let mut needed = Self(BTreeSet::new());
        needed.key(path);
        needed
    }

    fn key(&mut self, path: &'a str) {
        let step = path.split('.').next().unwrap_or_default();
        self.0.insert(step.trim_end_matches("[]"));
    }

    fn filter(&mut self, filter: &'a Filter) {
        let min = filter.min_should.iter().flat_map(|min| &min.conditions);
        let conditions = filter.must.iter().chain(&filter.should).chain(&filter.must_not).chain(min);
        conditions.for_each(|condition| self.condition(condition));
    }

    fn condition(&mut self, condition: &'a Condition) {
        match condition {
            Condition::Field { key, .. }
            | Condition::IsEmpty(key)
            | Condition::IsNull(key)
            | Condition::Nested { key, .. } => self.key(key),
            Condition::HasId(_) => {}
            Condition::Filter(filter) => self.filter(filter),
        }
    }

    /// An object with those fields that a payload has; decoding has checked that it is a JSON object.
    pub(super) fn read(&self, payload: &str) -> Value {
        let mut reader = serde_json::Deserializer::from_str(payload);
        self.deserialize(&mut reader).unwrap_or_default()
    }
}

impl<'de> DeserializeSeed<'de> for &Needed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Needed<'_> {
    type Value = Value;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key_seed(Name(&self.0))? {
            match name {
                Some(name) => drop(object.insert(name.to_owned(), map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(object))
    }
}

/// One of some names, or `None`: another, which is not kept.
struct Name<'a>(&'a BTreeSet<&'a str>);

impl<'a, 'de> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name).copied())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_asked_for_is_read() {
        let filter = json!({
            "must": [{"key": "a.b", "match": {"value": 1}}, {"has_id": ["x"]}],
            "should": {"must_not": {"is_null": {"key": "c[][].d"}}},
            "min_should": {"conditions": [{"nested": {"key": "e", "filter": {"must": {"is_empty": {"key": "f"}}}}}], "min_count": 1},
        });
        let filter = Filter::parse(&filter, "").unwrap();
        let payload = json!({"a": {"b": 1, "x": "\"]}"}, "\u{e4}\"": ["{", 1e300], "c": null, "e": [{"f": []}], "f": 3, "aa": {}});
        let read = Needed::of(&filter).read(&payload.to_string());
        assert_eq!(read, json!({"a": {"b": 1, "x": "\"]}"}, "c": null, "e": [{"f": []}]}));
        assert_eq!(Needed::of(&filter).read("{\"\\u0061\":7,\"b\":{}}"), json!({"a": 7}));
        assert_eq!(Needed::of(&filter).read("[1]"), Value::Null);
    }
}
