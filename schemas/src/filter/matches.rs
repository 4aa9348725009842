//! What a filter means, written to be read: one document, one walk.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde_json::Value;

use super::{Condition, Filter, MatchValue, Test};

impl Filter {
    /// Whether a document passes.
    pub fn matches(&self, id: &str, payload: &Value) -> bool {
        let holds = |condition: &Condition| condition.holds(id, payload);
        self.must.iter().all(holds)
            && (self.should.is_empty() || self.should.iter().any(holds))
            && !self.must_not.iter().any(holds)
            && self.min_should.as_ref().is_none_or(|min| {
                min.conditions.iter().filter(|condition| holds(condition)).count() >= min.min_count
            })
    }
}

impl Condition {
    /// Whether it holds for a document.
    pub fn holds(&self, id: &str, payload: &Value) -> bool {
        match self {
            Self::Field { key, test } => any(payload, key, |value| match value {
                Value::Array(elements) => elements.iter().any(|element| test.passes(element)),
                one @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_)) => test.passes(one),
            }),
            Self::IsEmpty(key) => !any(payload, key, |value| match value {
                Value::Null => false,
                Value::Array(elements) => !elements.is_empty(),
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => true,
            }),
            Self::IsNull(key) => any(payload, key, |value| match value {
                Value::Array(elements) => elements.iter().any(Value::is_null),
                Value::Null => true,
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
            }),
            Self::HasId(ids) => ids.binary_search_by(|known| known.as_str().cmp(id)).is_ok(),
            Self::Nested { key, filter } => {
                any(payload, key, |value| value.is_object() && filter.matches(id, value))
            }
            Self::Filter(filter) => filter.matches(id, payload),
        }
    }
}

impl Test {
    /// Whether one value passes; arrays are taken apart before.
    pub fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Value(wanted) => wanted.equals(value),
            Self::Any(wanted) => wanted.iter().any(|wanted| wanted.equals(value)),
            Self::Except(unwanted) => {
                !value.is_null() && !unwanted.iter().any(|unwanted| unwanted.equals(value))
            }
            Self::Text(wanted) => value.as_str().is_some_and(|text| {
                let found = words(text);
                wanted.iter().all(|word| found.contains(word))
            }),
            Self::Range(bounds) => value.as_f64().is_some_and(|number| bounds.contains(&number)),
            Self::Dates(bounds) => {
                value.as_str().and_then(microseconds).is_some_and(|time| bounds.contains(&time))
            }
        }
    }
}

impl MatchValue {
    /// Whether a JSON value is this.
    pub fn equals(&self, value: &Value) -> bool {
        match self {
            Self::String(wanted) => value.as_str() == Some(wanted),
            Self::Integer(wanted) => value.as_i64() == Some(*wanted),
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
        }
    }
}

/// The values at a path, before arrays at its end are taken apart. `[]` behind a name goes through the elements of an
/// array, without it an array has no fields.
pub fn values<'a>(payload: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    any(payload, path, |value| {
        found.push(value);
        false
    });
    found
}

/// Whether some value at a path is as asked.
fn any<'a>(payload: &'a Value, path: &str, mut asked: impl FnMut(&'a Value) -> bool) -> bool {
    walk(payload, path, &mut asked)
}

fn walk<'a>(value: &'a Value, path: &str, asked: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let name = step.trim_end_matches("[]");
    let Some(below) = value.get(name) else { return false };
    spread(below, (step.len() - name.len()) / 2, rest, asked)
}

/// Goes through so many levels of arrays, then on.
fn spread<'a>(
    value: &'a Value,
    levels: usize,
    rest: Option<&str>,
    asked: &mut dyn FnMut(&'a Value) -> bool,
) -> bool {
    match (levels, rest) {
        (0, None) => asked(value),
        (0, Some(rest)) => walk(value, rest, asked),
        (levels, rest) => value.as_array().is_some_and(|elements| {
            elements.iter().any(|element| spread(element, levels - 1, rest, &mut *asked))
        }),
    }
}

/// The words of a text, lower-cased, ascending, each once: runs of letters, digits and `_`.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut words: Vec<String> =
        lower.split(|char| !is_word(char)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Microseconds since the epoch of an RFC 3339 time; without a zone it is UTC, without a time it is midnight.
pub fn microseconds(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || first == '-' || first == '+') {
        return None;
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let time = text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp().as_microsecond())
}
