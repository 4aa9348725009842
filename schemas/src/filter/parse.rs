//! A filter's JSON → checked filter. Unknown fields are faults.

use serde_json::Value;

use super::{Bounds, Condition, Filter, MatchValue, MinShould, Test, microseconds, words};
use crate::json::{Fields, describe, element, invalid};
use crate::{Fault, FaultCode};

/// Most conditions of a filter, those of nested filters included.
pub const FILTER_CONDITIONS_MAX: usize = 256;
/// Deepest nesting of filters.
pub const FILTER_DEPTH_MAX: usize = 8;

/// Fields of a filter.
const CLAUSES: [&str; 4] = ["must", "should", "must_not", "min_should"];
/// Fields of a condition.
const CONDITION: [&str; 11] = [
    "key",
    "match",
    "range",
    "is_empty",
    "is_null",
    "has_id",
    "nested",
    "must",
    "should",
    "must_not",
    "min_should",
];
/// Conditions of Qdrant that are not served yet.
const NOT_YET: [&str; 6] =
    ["geo_bounding_box", "geo_radius", "geo_polygon", "values_count", "has_vector", "slice"];
/// Matches of Qdrant that are not served yet.
const MATCHES_NOT_YET: [&str; 3] = ["text_any", "phrase", "prefix"];
/// Forms of a condition, for messages.
const FORMS: &str = "{\"key\": …, \"match\": …}, {\"key\": …, \"range\": …}, {\"is_empty\": …}, {\"is_null\": …}, \
                     {\"has_id\": …}, {\"nested\": …} or a filter";

impl Filter {
    /// Reads a filter, which stands at `path`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field below `path`.
    pub fn parse(value: &Value, path: &str) -> Result<Self, Fault> {
        Reader { conditions: 0 }.filter(value, path, 1)
    }
}

impl Condition {
    /// Reads one condition, which stands at `path`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field below `path`.
    pub fn parse(value: &Value, path: &str) -> Result<Self, Fault> {
        Reader { conditions: 0 }.condition(value, path, 1)
    }
}

/// Counts what it reads.
struct Reader {
    conditions: usize,
}

impl Reader {
    fn filter(&mut self, value: &Value, path: &str, depth: usize) -> Result<Filter, Fault> {
        if depth > FILTER_DEPTH_MAX {
            let message = format!("filters are nested more than {FILTER_DEPTH_MAX} deep");
            return Err(Fault::field(FaultCode::TooDeep, path, message));
        }
        let fields = Fields::of(value, path)?;
        fields.only(&CLAUSES, &[])?;
        Ok(Filter {
            must: self.clause(&fields, "must", depth)?,
            should: self.clause(&fields, "should", depth)?,
            must_not: self.clause(&fields, "must_not", depth)?,
            min_should: self.min_should(&fields, depth)?,
        })
    }

    /// A list of conditions, or one.
    fn clause(&mut self, fields: &Fields<'_>, clause: &str, depth: usize) -> Result<Vec<Condition>, Fault> {
        let path = fields.path(clause);
        match fields.get(clause) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let condition = |(index, item)| self.condition(item, &element(&path, index), depth);
                items.iter().enumerate().map(condition).collect()
            }
            Some(value @ Value::Object(_)) => Ok(vec![self.condition(value, &path, depth)?]),
            Some(other) => Err(fields.unlike(clause, other, "a condition or an array of conditions")),
        }
    }

    fn min_should(&mut self, fields: &Fields<'_>, depth: usize) -> Result<Option<MinShould>, Fault> {
        let Some(value) = fields.get("min_should") else { return Ok(None) };
        let min = Fields::of(value, &fields.path("min_should"))?;
        min.only(&["conditions", "min_count"], &[])?;
        let conditions = self.clause(&min, "conditions", depth)?;
        let Some(count) = min.get("min_count") else {
            return Err(invalid(min.path("min_count"), "missing: say how many conditions must hold"));
        };
        let min_count = count.as_u64().and_then(|count| usize::try_from(count).ok());
        let min_count = min_count.ok_or_else(|| min.unlike("min_count", count, "a count"))?;
        Ok(Some(MinShould { conditions, min_count }))
    }

    fn condition(&mut self, value: &Value, path: &str, depth: usize) -> Result<Condition, Fault> {
        self.conditions += 1;
        if self.conditions > FILTER_CONDITIONS_MAX {
            let message = format!("the filter has more than {FILTER_CONDITIONS_MAX} conditions");
            return Err(Fault::field(FaultCode::TooDeep, path, message));
        }
        let fields = Fields::of(value, path)?;
        fields.only(&CONDITION, &NOT_YET)?;
        let only = |known: &[&str]| fields.only(known, &[]);
        if CLAUSES.iter().any(|clause| fields.get(clause).is_some()) {
            return Ok(Condition::Filter(Box::new(self.filter(value, path, depth + 1)?)));
        }
        if fields.get("key").is_some() {
            only(&["key", "match", "range"])?;
            return field(&fields);
        }
        for (name, of) in
            [("is_empty", Condition::IsEmpty as fn(String) -> Condition), ("is_null", Condition::IsNull)]
        {
            if let Some(value) = fields.get(name) {
                only(&[name])?;
                let below = Fields::of(value, &fields.path(name))?;
                below.only(&["key"], &[])?;
                return Ok(of(key(&below)?));
            }
        }
        if let Some(ids) = fields.get("has_id") {
            only(&["has_id"])?;
            let mut ids = list(ids, &fields, "has_id", id)?;
            ids.sort_unstable();
            ids.dedup();
            return Ok(Condition::HasId(ids));
        }
        if let Some(value) = fields.get("nested") {
            only(&["nested"])?;
            return self.nested(&Fields::of(value, &fields.path("nested"))?, depth);
        }
        if fields.get("match").is_some() || fields.get("range").is_some() {
            return Err(invalid(fields.path("key"), "missing: name the payload field"));
        }
        Err(invalid(path, format!("the condition says nothing: give {FORMS}")))
    }

    fn nested(&mut self, fields: &Fields<'_>, depth: usize) -> Result<Condition, Fault> {
        fields.only(&["key", "filter"], &[])?;
        let mut key = key(fields)?;
        if !key.ends_with("[]") {
            key.push_str("[]");
        }
        let Some(value) = fields.get("filter") else {
            return Err(invalid(fields.path("filter"), "missing: say what one of the objects must be like"));
        };
        let filter = self.filter(value, &fields.path("filter"), depth + 1)?;
        Ok(Condition::Nested { key, filter: Box::new(filter) })
    }
}

fn field(fields: &Fields<'_>) -> Result<Condition, Fault> {
    let key = key(fields)?;
    let test = match (fields.get("match"), fields.get("range")) {
        (Some(value), None) => matching(value, &fields.path("match"))?,
        (None, Some(value)) => range(value, &fields.path("range"))?,
        (None, None) => {
            return Err(invalid(fields.path("match"), "missing: give \"match\" or \"range\""));
        }
        (Some(_), Some(_)) => {
            return Err(invalid(fields.path("range"), "cannot stand beside \"match\": give two conditions"));
        }
    };
    Ok(Condition::Field { key, test })
}

fn key(fields: &Fields<'_>) -> Result<String, Fault> {
    let Some(key) = fields.str("key")? else {
        return Err(invalid(fields.path("key"), "missing: name the payload field"));
    };
    if is_path(key) {
        return Ok(key.to_owned());
    }
    let value = Value::from(key);
    Err(fields.unlike("key", &value, "a path such as \"city\", \"address.city\" or \"offers[].price\""))
}

/// Whether a text is a path of a payload field: `city`, `address.city`, `offers[].price`.
pub fn is_path(text: &str) -> bool {
    text.split('.').all(|step| {
        let name = step.trim_end_matches("[]");
        !name.is_empty() && !name.contains(['[', ']'])
    })
}

fn matching(value: &Value, path: &str) -> Result<Test, Fault> {
    let fields = Fields::of(value, path)?;
    let known = ["value", "any", "except", "text"];
    fields.only(&known, &MATCHES_NOT_YET)?;
    let mut given = known.iter().filter_map(|name| Some((*name, fields.get(name)?)));
    let (Some((name, value)), None) = (given.next(), given.next()) else {
        return Err(invalid(path, "takes one of \"value\", \"any\", \"except\", \"text\""));
    };
    match name {
        "value" => match_value(value, &fields.path(name)).map(Test::Value),
        "any" => list(value, &fields, name, match_value).map(Test::Any),
        "except" => list(value, &fields, name, match_value).map(Test::Except),
        _ => {
            let words = value.as_str().map(words).unwrap_or_default();
            if words.is_empty() {
                Err(fields.unlike(name, value, "a text with words"))
            } else {
                Ok(Test::Text(words))
            }
        }
    }
}

fn list<T>(
    value: &Value,
    fields: &Fields<'_>,
    name: &str,
    read: impl Fn(&Value, &str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let Value::Array(items) = value else { return Err(fields.unlike(name, value, "an array")) };
    let path = fields.path(name);
    items.iter().enumerate().map(|(index, item)| read(item, &element(&path, index))).collect()
}

fn match_value(value: &Value, path: &str) -> Result<MatchValue, Fault> {
    let read = match value {
        Value::String(text) => Some(MatchValue::String(text.clone())),
        Value::Bool(value) => Some(MatchValue::Bool(*value)),
        Value::Number(number) => number.as_i64().map(MatchValue::Integer),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    read.ok_or_else(|| {
        invalid(path, format!("{} is not a string, an integer, true or false", describe(value)))
    })
}

fn id(value: &Value, path: &str) -> Result<String, Fault> {
    match value {
        Value::String(id) => Ok(id.clone()),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(invalid(path, format!("{} is not an id: a string or an integer", describe(value))))
        }
    }
}

/// Bounds of numbers, or of times where they are strings.
fn range(value: &Value, path: &str) -> Result<Test, Fault> {
    const NAMES: [&str; 4] = ["gt", "gte", "lt", "lte"];
    let fields = Fields::of(value, path)?;
    fields.only(&NAMES, &[])?;
    if NAMES.iter().all(|name| fields.get(name).is_none()) {
        return Err(invalid(path, "takes at least one of \"gt\", \"gte\", \"lt\", \"lte\""));
    }
    if NAMES.iter().any(|name| fields.get(name).is_some_and(Value::is_string)) {
        let of = |value: &Value| value.as_str().and_then(microseconds);
        return bounds(&fields, NAMES, of, "a time as in RFC 3339, such as \"2026-01-31T12:00:00Z\"")
            .map(Test::Dates);
    }
    bounds(&fields, NAMES, Value::as_f64, "a number").map(Test::Range)
}

fn bounds<T>(
    fields: &Fields<'_>,
    names: [&str; 4],
    of: impl Fn(&Value) -> Option<T>,
    expected: &str,
) -> Result<Bounds<T>, Fault> {
    let bound = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(value) => of(value).map(Some).ok_or_else(|| fields.unlike(name, value, expected)),
    };
    let [gt, gte, lt, lte] = names;
    Ok(Bounds { gt: bound(gt)?, gte: bound(gte)?, lt: bound(lt)?, lte: bound(lte)? })
}
