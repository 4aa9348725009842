//! Filters over payloads, in Qdrant's JSON.
//!
//! `parse.rs` reads them, `matches.rs` says what they mean: whether one document passes. Indexes must agree with it.

mod matches;
mod parse;

pub use matches::{microseconds, values, words};
pub use parse::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, is_path};

use serde::{Deserialize, Serialize};

/// Which documents may be found. An empty filter passes all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// At least one of these holds, unless there are none.
    pub should: Vec<Condition>,
    /// None of these holds.
    pub must_not: Vec<Condition>,
    /// So many of these hold.
    pub min_should: Option<MinShould>,
}

/// At least so many of some conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinShould {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// How many of them must hold.
    pub min_count: usize,
}

/// One condition. Keys are paths: `city`, `address.city`, `offers[].price`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    /// Some value of a payload field passes a test.
    Field {
        /// Path of the field.
        key: String,
        /// What is asked of its value, or of one of its values where it is an array.
        test: Test,
    },
    /// The field is missing, null or an empty array.
    IsEmpty(String),
    /// The field is null, or an array that holds null.
    IsNull(String),
    /// The document has one of these ids, which ascend, each once.
    HasId(Vec<String>),
    /// One of the objects at a path passes a filter by itself: what its conditions ask is found in the same object.
    Nested {
        /// Path of the objects, from the root: it ends with `[]`.
        key: String,
        /// What one object must be like: paths begin in it; an id is that of the document.
        filter: Box<Filter>,
    },
    /// A filter as condition.
    Filter(Box<Filter>),
}

/// What is asked of a value. A value of another type does not pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Test {
    /// Equals this.
    Value(MatchValue),
    /// Equals one of these.
    Any(Vec<MatchValue>),
    /// Is not null and equals none of these.
    Except(Vec<MatchValue>),
    /// Holds all of these words, which are lower-cased and ascending.
    Text(Vec<String>),
    /// Lies between these numbers.
    Range(Bounds<f64>),
    /// Lies between these times, in microseconds since the epoch.
    Dates(Bounds<i64>),
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MatchValue {
    /// A whole string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A truth value.
    Bool(bool),
}

/// Bounds of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bounds<T> {
    /// Greater than.
    pub gt: Option<T>,
    /// Greater than or equal.
    pub gte: Option<T>,
    /// Less than.
    pub lt: Option<T>,
    /// Less than or equal.
    pub lte: Option<T>,
}

impl<T: PartialOrd> Bounds<T> {
    /// Whether a value lies below the range.
    pub fn is_below(&self, value: &T) -> bool {
        self.gt.as_ref().is_some_and(|bound| value <= bound)
            || self.gte.as_ref().is_some_and(|bound| value < bound)
    }

    /// Whether a value lies above the range.
    pub fn is_above(&self, value: &T) -> bool {
        self.lt.as_ref().is_some_and(|bound| value >= bound)
            || self.lte.as_ref().is_some_and(|bound| value > bound)
    }

    /// Whether a value lies in the range.
    pub fn contains(&self, value: &T) -> bool {
        !self.is_below(value) && !self.is_above(value)
    }
}

impl Filter {
    /// Whether it passes all documents, whatever they hold.
    pub fn is_empty(&self) -> bool {
        self.must.is_empty()
            && self.should.is_empty()
            && self.must_not.is_empty()
            && self.min_should.is_none()
    }

    /// The filter that passes what both pass; `None` passes all.
    pub fn both(a: Option<&Self>, b: Option<&Self>) -> Option<Self> {
        match (a.filter(|a| !a.is_empty()), b.filter(|b| !b.is_empty())) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (Some(a), Some(b)) if a == b => Some(a.clone()),
            (Some(a), Some(b)) => {
                let must = [a, b].map(|filter| Condition::Filter(Box::new(filter.clone()))).to_vec();
                Some(Self { must, ..Self::default() })
            }
        }
    }
}
