//! Reading one table of the file key by key: types, ranges, units, defaults; keys left over are unknown.

use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use crate::problems::{Problems, did_you_mean, join, list};
use crate::units::parse_size;

/// A table of the file while it is read.
///
/// Each reading method takes the key's value out and returns it checked, or reports a problem and returns the
/// default. A number or truth value may also stand in quotes, so that it can come from the environment.
pub(crate) struct Section<'p> {
    path: String,
    table: Table,
    /// Keys that were asked for.
    known: Vec<&'static str>,
    /// Those of them that were there, also with a value that was refused.
    given: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'p> Section<'p> {
    /// The table that stands at `path`.
    pub(crate) fn new(path: impl Into<String>, table: Table, problems: &'p mut Problems) -> Self {
        Self { path: path.into(), table, known: Vec::new(), given: Vec::new(), problems }
    }

    /// Whether the key is given and not read yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key has an array.
    pub(crate) fn is_array(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(Value::is_array)
    }

    /// Reports a problem of one key.
    pub(crate) fn report(&mut self, key: &str, message: impl Into<String>) {
        self.problems.report(join(&self.path, key), message);
    }

    /// Reports a problem of a key anywhere in the file.
    pub(crate) fn report_at(&mut self, key: String, message: impl Into<String>) {
        self.problems.report(key, message);
    }

    /// How many problems there are so far, in the whole file.
    pub(crate) fn problem_count(&self) -> usize {
        self.problems.count()
    }

    /// Whether the key was read and had a value.
    pub(crate) fn was_given(&self, key: &str) -> bool {
        self.given.contains(&key)
    }

    /// Adds keys to those that are known.
    pub(crate) fn also_known(&mut self, keys: &[&'static str]) {
        for key in keys {
            if !self.known.contains(key) {
                self.known.push(key);
            }
        }
    }

    /// Takes a value out as it is.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.also_known(&[key]);
        let value = self.table.remove(key);
        self.given.extend(value.is_some().then_some(key));
        value
    }

    /// Takes all values out, whatever their keys; for tables whose keys are names.
    pub(crate) fn take_all(&mut self) -> Table {
        std::mem::take(&mut self.table)
    }

    /// A table within this one, as a section of its own; empty if it is absent.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'_> {
        let table = self.table(key).unwrap_or_default();
        Section::new(join(&self.path, key), table, self.problems)
    }

    /// A table within this one.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Table> {
        let value = self.take(key)?;
        self.typed(key, value, "a table", |value| value.as_table().cloned())
    }

    /// A section for one entry of a table whose keys are names.
    pub(crate) fn named(&mut self, name: &str, value: Value) -> Option<Section<'_>> {
        let table = self.typed(name, value, "a table", |value| value.as_table().cloned())?;
        Some(Section::new(join(&self.path, name), table, self.problems))
    }

    /// A string that is not empty.
    pub(crate) fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        let text = self.typed(key, value, "a string", |value| value.as_str().map(str::to_owned))?;
        if text.trim().is_empty() {
            self.report(key, "is empty");
            return None;
        }
        Some(text)
    }

    /// A string, which may be empty.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        self.typed(key, value, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// The address of a service, which must be there.
    pub(crate) fn address(&mut self, key: &'static str, example: &str) -> Option<String> {
        let url = self.string(key);
        let is_url = |url: &String| {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        };
        match &url {
            Some(found) if !is_url(found) => {
                // An address may hold a password.
                let shown = if found.contains('@') { "what is given" } else { found };
                self.report(key, format!("{shown:?} is not an address such as \"{example}\""));
            }
            None if !self.was_given(key) => self.report(key, "missing: address of the service"),
            _ => {}
        }
        url.filter(is_url)
    }

    /// An array of strings that are not empty.
    pub(crate) fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        let items = self.typed(key, value, "an array of strings", |value| value.as_array().cloned())?;
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let at = format!("{}[{index}]", join(&self.path, key));
            match item.as_str() {
                Some(text) if text.trim().is_empty() => self.problems.report(at, "is empty"),
                Some(text) => strings.push(text.to_owned()),
                None => self.problems.report(at, format!("{} is not a string", describe(&item))),
            }
        }
        Some(strings)
    }

    /// One of several words.
    pub(crate) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known = || words.iter().map(|(word, _)| *word);
            let message =
                format!("\"{text}\" is not one of {}{}", list(known()), did_you_mean(&text, known()));
            self.report(key, message);
        }
        found.map(|(_, value)| *value)
    }

    /// True or false.
    pub(crate) fn bool(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        self.typed(key, value, "true or false", |value| {
            value.as_bool().or_else(|| value.as_str()?.trim().parse().ok())
        })
    }

    /// An integer in a range.
    pub(crate) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let number = self.typed(key, value, "an integer", as_integer)?;
        self.in_range(key, number, &number.to_string(), range)
    }

    /// An integer from 1 to `max`.
    pub(crate) fn count(&mut self, key: &'static str, max: usize) -> Option<NonZeroUsize> {
        let number = self.integer(key, 1..=max as u64)?;
        usize::try_from(number).ok().and_then(NonZeroUsize::new)
    }

    /// An integer from 1 to `max`.
    pub(crate) fn count_u32(&mut self, key: &'static str, max: u32) -> Option<NonZeroU32> {
        let number = self.integer(key, 1..=u64::from(max))?;
        u32::try_from(number).ok().and_then(NonZeroU32::new)
    }

    /// A number in a range.
    pub(crate) fn float(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.take(key)?;
        let number = self.typed(key, value, "a number", as_float)?;
        if !range.contains(&number) {
            let (min, max) = (range.start(), range.end());
            self.report(key, format!("{number} is not from {min} to {max}"));
            return None;
        }
        Some(number)
    }

    /// Bytes: an integer, or a string with a unit such as `"16MiB"`; at least 1.
    pub(crate) fn size(&mut self, key: &'static str) -> Option<NonZeroUsize> {
        let value = self.take(key)?;
        let text = describe(&value);
        let expected = "a size in bytes, such as 1024 or \"16MiB\"";
        let bytes = self.typed(key, value, expected, |value| match value.as_str() {
            Some(text) => parse_size(text),
            None => as_integer(value),
        })?;
        let bytes = self.in_range(key, bytes, &text, 1..=MAX_BYTES)?;
        usize::try_from(bytes).ok().and_then(NonZeroUsize::new)
    }

    /// A duration with its unit, such as `"10ms"`; longer than zero.
    pub(crate) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let value = self.take(key)?;
        let expected = "a duration with its unit, such as \"10ms\" or \"60s\"";
        let duration =
            self.typed(key, value, expected, |value| humantime::parse_duration(value.as_str()?.trim()).ok())?;
        if duration.is_zero() {
            self.report(key, "is not longer than zero");
            return None;
        }
        Some(duration)
    }

    /// Reports the keys that nothing has read.
    pub(crate) fn finish(mut self) {
        for key in self.take_all().keys() {
            let hint = did_you_mean(key, self.known.iter().copied());
            let known = list(self.known.iter().copied());
            self.report(key, format!("unknown key; known: {known}{hint}"));
        }
    }

    fn in_range(&mut self, key: &str, number: i128, text: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (min, max) = (i128::from(*range.start()), i128::from(*range.end()));
        if number < min {
            self.report(key, format!("{text} is not at least {min}"));
        } else if number > max {
            self.report(key, format!("{text} is not at most {max}"));
        }
        u64::try_from(number).ok().filter(|number| range.contains(number))
    }

    fn typed<T>(
        &mut self,
        key: &str,
        value: Value,
        expected: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let converted = convert(&value);
        if converted.is_none() {
            self.report(key, format!("{} is not {expected}", describe(&value)));
        }
        converted
    }
}

/// Largest size of anything, 1 TiB: larger ones are slips of the unit.
const MAX_BYTES: u64 = 1 << 40;

fn as_integer(value: &Value) -> Option<i128> {
    value.as_integer().map(i128::from).or_else(|| value.as_str()?.trim().parse().ok())
}

fn as_float(value: &Value) -> Option<f64> {
    let written = value.as_integer().map(|number| number.to_string());
    let text = written.as_deref().or(value.as_str());
    value.as_float().or_else(|| text?.trim().parse().ok())
}

/// A value in the words of a message.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Datetime(value) => value.to_string(),
    }
}
