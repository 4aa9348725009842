//! Which parts of a payload, or which vectors, a hit carries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Some paths of payload fields as a tree, as Qdrant reads them: `city`, `address.city`, `offers[].price`, and `"a.b"` in
/// quotes for a name that holds a dot.
///
/// A step into an array is `[]`: without it an array is left out as a whole by `include`, and kept as a whole by `exclude`.
/// A number as in `a[0]` selects nothing, which is how Qdrant has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayloadPaths(BTreeMap<Step, PayloadPathsBelow>);

/// What is selected below a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PayloadPathsBelow {
    All,
    Some(PayloadPaths),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Item(u64),
    Items,
}

impl PayloadPaths {
    /// The paths that are written so. Texts that are no paths select nothing.
    pub fn of(paths: &[String]) -> Self {
        let mut tree = Self::default();
        paths.iter().filter_map(|path| steps(path)).for_each(|steps| tree.add(&steps));
        tree
    }

    fn add(&mut self, steps: &[Step]) {
        let [first, rest @ ..] = steps else { return };
        if rest.is_empty() {
            self.0.insert(first.clone(), PayloadPathsBelow::All);
            return;
        }
        let below = self.0.entry(first.clone()).or_insert_with(|| PayloadPathsBelow::Some(Self::default()));
        // A shorter path selects everything below it already.
        if let PayloadPathsBelow::Some(below) = below {
            below.add(rest);
        }
    }

    /// The parts of a value that lie under these paths.
    pub fn include(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let kept = fields.iter().filter_map(|(name, value)| {
                    let kept = match self.0.get(&Step::Key(name.clone()))? {
                        PayloadPathsBelow::All => value.clone(),
                        PayloadPathsBelow::Some(below) => below.include(value),
                    };
                    Some((name.clone(), kept))
                });
                Value::Object(kept.collect::<Map<_, _>>())
            }
            Value::Array(items) => match self.0.get(&Step::Items) {
                None => Value::Array(Vec::new()),
                Some(PayloadPathsBelow::All) => value.clone(),
                Some(PayloadPathsBelow::Some(below)) => {
                    items.iter().map(|item| below.include(item)).collect()
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }

    /// The parts of a value that lie under none of these paths.
    pub fn exclude(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let kept = fields.iter().filter_map(|(name, value)| {
                    let kept = match self.0.get(&Step::Key(name.clone())) {
                        None => value.clone(),
                        Some(PayloadPathsBelow::All) => return None,
                        Some(PayloadPathsBelow::Some(below)) => below.exclude(value),
                    };
                    Some((name.clone(), kept))
                });
                Value::Object(kept.collect::<Map<_, _>>())
            }
            Value::Array(items) => match self.0.get(&Step::Items) {
                None => value.clone(),
                Some(PayloadPathsBelow::All) => Value::Array(Vec::new()),
                Some(PayloadPathsBelow::Some(below)) => {
                    items.iter().map(|item| below.exclude(item)).collect()
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
}

/// Whether a text is a path as `with_payload` takes it.
pub(super) fn is_selector(text: &str) -> bool {
    steps(text).is_some()
}

/// The steps of a path: names with dots between them, in quotes where they hold one, each with `[]` or `[n]` behind it.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find(['.', '[', ']', '"']).unwrap_or(rest.len())),
        };
        if name.is_empty() && !rest.starts_with('"') {
            return None;
        }
        steps.push(Step::Key(name.to_owned()));
        rest = after;
        while let Some(bracket) = rest.strip_prefix('[') {
            let (index, after) = bracket.split_once(']')?;
            let digits = index.bytes().all(|byte| byte.is_ascii_digit());
            steps.push(match index {
                "" => Step::Items,
                _ if digits => Step::Item(index.parse().ok()?),
                _ => return None,
            });
            rest = after;
        }
        if rest.is_empty() {
            return Some(steps);
        }
        rest = rest.strip_prefix('.')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(paths: &[&str]) -> PayloadPaths {
        assert!(paths.iter().all(|path| is_selector(path)), "{paths:?}");
        PayloadPaths::of(&paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn paths_select_as_in_qdrant() {
        let payload = json!({"a": {"b": 1, "c": 2}, "aa": {"b": 3}, "a.b": 4, "l": [{"b": 5, "c": 6}]});
        let include = |of: &[&str]| paths(of).include(&payload);
        assert_eq!(include(&["a.b"]), json!({"a": {"b": 1}}));
        assert_eq!(include(&["\"a.b\"", "l[].c"]), json!({"a.b": 4, "l": [{"c": 6}]}));
        assert_eq!(include(&["a", "a.b"]), json!({"a": {"b": 1, "c": 2}}), "the shorter path is as good");
        assert_eq!(include(&["a.b", "a"]), include(&["a", "a.b"]));
        assert_eq!(include(&["l", "none"]), json!({"l": [{"b": 5, "c": 6}]}));
        assert_eq!(include(&["l.c"]), json!({"l": []}), "a step into an array is written");
        assert_eq!(include(&["l[0]"]), json!({"l": []}));
        assert_eq!(include(&["a.b.x"]), json!({"a": {"b": 1}}), "what has nothing below it is kept");
        assert_eq!(include(&[]), json!({}));
        let exclude = |of: &[&str]| paths(of).exclude(&payload);
        assert_eq!(exclude(&["a", "l[].b"]), json!({"aa": {"b": 3}, "a.b": 4, "l": [{"c": 6}]}));
        assert_eq!(exclude(&["l[]"])["l"], json!([]));
        assert_eq!(exclude(&["l.b", "l[0].b", "x.y"]), payload);
        assert_eq!(exclude(&[]), payload);
    }

    #[test]
    fn what_is_no_path_is_told_apart() {
        for text in ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a]", "[]", "\"a", "a\"b\"", "a[-1]", "a[]b"]
        {
            assert!(!is_selector(text), "{text}");
        }
        for text in ["a", "a b", "ä-ö_1", "a[][].b[0]", "\"\"", "\"a[]\".b", "a[18446744073709551615]"] {
            assert!(is_selector(text), "{text}");
        }
    }
}
