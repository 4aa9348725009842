//! What is wrong with a configuration: all of it at once, each problem with its key.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, such as `pipeline.shards`; a position for text that is not TOML, a path for a file that cannot be
    /// read.
    pub key: String,
    /// What was found and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.key, self.message)
    }
}

/// All that is wrong with a configuration; never empty. Displayed one problem per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The problems, in the order of the sections.
    pub problems: Vec<Problem>,
}

impl ConfigErrors {
    /// A single problem that leaves nothing else to check.
    pub(crate) fn single(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { problems: vec![Problem { key: key.into(), message: message.into() }] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(out, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    /// Keys whose value could not be made out: what is reported of them further would only follow from that.
    spoiled: BTreeSet<String>,
}

impl Problems {
    /// Reports a problem, unless the key's value was never made out.
    pub(crate) fn report(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        if !self.spoiled.contains(&key) {
            self.list.push(Problem { key, message: message.into() });
        }
    }

    /// Reports that a key has no usable value, and silences what would follow from that.
    pub(crate) fn spoil(&mut self, key: &str, message: impl Into<String>) {
        self.report(key, message);
        self.spoiled.insert(key.to_owned());
    }

    /// How many problems there are so far.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// `value`, if there are no problems.
    pub(crate) fn or<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.list.is_empty() { Ok(value) } else { Err(ConfigErrors { problems: self.list }) }
    }
}

/// The dotted key of `key` in the table at `path`; quoted where TOML needs quotes.
pub(crate) fn join(path: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Names in quotes, separated by commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `; did you mean "…"?` where a known name is near the one found.
pub(crate) fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known.into_iter().map(|name| (distance(found, name), name)).min();
    match near {
        Some((distance, name)) if distance <= (name.len() / 3).min(3) => {
            format!("; did you mean \"{name}\"?")
        }
        _ => String::new(),
    }
}

/// Edits (insert, remove, replace, swap neighbours) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
                let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
                let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(swap).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_suggested_and_others_not() {
        let known = ["shards", "workers", "name"];
        assert_eq!(did_you_mean("shard", known), "; did you mean \"shards\"?");
        assert_eq!(did_you_mean("wokrers", known), "; did you mean \"workers\"?");
        assert_eq!(did_you_mean("replicas", known), "");
    }
}
