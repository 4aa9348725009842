//! Which rows a filter lets through.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use freshet_schemas::{Bounds, Condition, Filter, MatchValue, MinShould, Test};

use super::column::{float_key, key_float};
use super::read::Needed;
use super::{Documents, Field, PayloadIndex, PayloadKind, term_of};
use crate::index::bits::Bits;
use crate::index::rows::{Row, RowSet};

/// Most fields that are warned about, and the longest path of one.
const WARNED_MAX: usize = 64;
const WARNED_BYTES_MAX: usize = 128;

/// What is known without reading payloads. Invariant: `sure` rows are among the `possible` ones.
struct Verdict {
    /// Rows for which it holds.
    sure: Bits,
    /// Rows for which it may hold.
    possible: Bits,
}

impl Verdict {
    fn all(rows: usize) -> Self {
        Self { sure: Bits::all(rows), possible: Bits::all(rows) }
    }

    fn none(rows: usize) -> Self {
        Self { sure: Bits::none(rows), possible: Bits::none(rows) }
    }

    fn unknown(rows: usize) -> Self {
        Self { sure: Bits::none(rows), possible: Bits::all(rows) }
    }

    fn exact(sure: Bits) -> Self {
        Self { possible: sure.clone(), sure }
    }

    fn and(&mut self, other: &Self) {
        self.sure.and(&other.sure);
        self.possible.and(&other.possible);
    }

    fn or(&mut self, other: &Self) {
        self.sure.or(&other.sure);
        self.possible.or(&other.possible);
    }

    fn not(&mut self) {
        self.sure.not();
        self.possible.not();
        std::mem::swap(&mut self.sure, &mut self.possible);
    }
}

impl PayloadIndex {
    /// Those of the visible rows that a filter lets through. No payload of another row is read.
    pub fn select(&self, filter: &Filter, documents: &dyn Documents, visible: &RowSet<'_>) -> Bits {
        debug_assert_eq!(visible.rows(), self.rows);
        let Verdict { mut sure, mut possible } = self.filter(filter, documents);
        if let Some(visible) = visible.bits() {
            sure.and(visible);
            possible.and(visible);
        }
        possible.and_not(&sure);
        let needed = Needed::of(filter);
        let passes = |&row: &Row| filter.matches(documents.id(row), &needed.read(documents.payload(row)));
        possible.iter().filter(passes).for_each(|row| sure.insert(row));
        sure
    }

    fn filter(&self, filter: &Filter, documents: &dyn Documents) -> Verdict {
        let look_up = |condition: &Condition| self.condition(condition, documents);
        let mut verdict = Verdict::all(self.rows);
        for condition in &filter.must {
            verdict.and(&look_up(condition));
        }
        if !filter.should.is_empty() {
            let mut some = Verdict::none(self.rows);
            filter.should.iter().for_each(|condition| some.or(&look_up(condition)));
            verdict.and(&some);
        }
        for condition in &filter.must_not {
            let mut condition = look_up(condition);
            condition.not();
            verdict.and(&condition);
        }
        if let Some(min) = &filter.min_should {
            let verdicts: Vec<Verdict> = min.conditions.iter().map(look_up).collect();
            let enough = |of: fn(&Verdict) -> &Bits| {
                let mut counts = vec![0usize; self.rows];
                let rows = verdicts.iter().flat_map(|verdict| of(verdict).iter());
                rows.for_each(|row| counts[row as usize] += 1);
                let rows = (0..).zip(counts).filter(|(_, count)| *count >= min.min_count);
                Bits::of(rows.map(|(row, _)| row), self.rows)
            };
            verdict.and(&Verdict { sure: enough(|v| &v.sure), possible: enough(|v| &v.possible) });
        }
        verdict
    }

    fn condition(&self, condition: &Condition, documents: &dyn Documents) -> Verdict {
        match condition {
            Condition::Field { key, test } => match self.field(key) {
                Some(field) => field.test(test, self.rows),
                None => {
                    warn(key, suited(test));
                    Verdict::unknown(self.rows)
                }
            },
            Condition::IsEmpty(key) => {
                let Some(field) = self.field(key) else {
                    warn(key, "keyword");
                    return Verdict::unknown(self.rows);
                };
                let mut empty = field.filled.clone();
                empty.not();
                Verdict::exact(empty)
            }
            Condition::IsNull(key) => {
                let Some(field) = self.field(key) else {
                    warn(key, "keyword");
                    return Verdict::unknown(self.rows);
                };
                Verdict::exact(field.null.clone())
            }
            Condition::HasId(ids) => {
                let mut rows = Bits::none(self.rows);
                ids.iter().for_each(|id| documents.of(id, &mut |row| rows.insert(row)));
                Verdict::exact(rows)
            }
            Condition::Nested { key, filter } => {
                let flat = flat(key, filter);
                let verdict = self.filter(&flat.filter, documents);
                match flat.same {
                    true => verdict,
                    false => Verdict { sure: Bits::none(self.rows), ..verdict },
                }
            }
            Condition::Filter(filter) => self.filter(filter, documents),
        }
    }

    pub(super) fn field(&self, path: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.path == path)
    }
}

/// A filter over whole payloads that every payload passes in which an object passes another filter.
struct Flat {
    filter: Filter,
    /// Whether no other payload passes it.
    same: bool,
}

/// What it takes that some object at `at` passes a filter: of each condition that one value can fulfil, that some value in
/// some object does. The others (something is missing, or does not hold) say nothing about other objects.
fn flat(at: &str, filter: &Filter) -> Flat {
    let above = |conditions: &[Condition]| -> Vec<Condition> {
        conditions.iter().filter_map(|condition| raised(at, condition)).collect()
    };
    let all_above =
        |conditions: &[Condition]| Some(above(conditions)).filter(|raised| raised.len() == conditions.len());
    let min_should = filter.min_should.as_ref().and_then(|min| {
        Some(MinShould { conditions: all_above(&min.conditions)?, min_count: min.min_count })
    });
    let raised = Filter {
        must: above(&filter.must),
        should: all_above(&filter.should).unwrap_or_default(),
        must_not: Vec::new(),
        min_should,
    };
    let is_one = matches!(filter.must.as_slice(), [Condition::Field { .. } | Condition::IsNull(_)]);
    let same = is_one && Filter { must: Vec::new(), ..filter.clone() }.is_empty();
    Flat { filter: raised, same }
}

/// A condition on an object at `at` as one on the payload; `None` if it says nothing there.
fn raised(at: &str, condition: &Condition) -> Option<Condition> {
    let path = |key: &str| format!("{at}.{key}");
    Some(match condition {
        Condition::Field { key, test } => Condition::Field { key: path(key), test: test.clone() },
        Condition::IsNull(key) => Condition::IsNull(path(key)),
        Condition::HasId(ids) => Condition::HasId(ids.clone()),
        Condition::Nested { key, filter } => Condition::Nested { key: path(key), filter: filter.clone() },
        Condition::Filter(filter) => Condition::Filter(Box::new(flat(at, filter).filter)),
        Condition::IsEmpty(_) => return None,
    })
}

impl Field {
    /// What is known of a test: of odd rows nothing.
    fn test(&self, test: &Test, rows: usize) -> Verdict {
        let mut sure = Bits::none(rows);
        let mut possible = self.odd.clone();
        if self.look_up(test, &mut sure) {
            possible.or(&sure);
            sure.and_not(&self.odd);
        } else if let (PayloadKind::Float, Some(wanted)) = (self.kind, equals(test)) {
            // A number that equals an integer may still be written as a float, which is another value.
            for integer in wanted.iter().filter_map(integer) {
                let key = float_key(integer as f64);
                self.numbers.collect(|other| other < key, |other| other > key, &mut possible);
            }
        } else {
            possible.or(&self.filled);
        }
        Verdict { sure, possible }
    }

    /// Adds the rows that have a value of the field's kind that passes; false if the field cannot tell.
    fn look_up(&self, test: &Test, into: &mut Bits) -> bool {
        match (self.kind, test) {
            (PayloadKind::Keyword | PayloadKind::Bool, Test::Value(_) | Test::Any(_)) => {
                let wanted = equals(test).unwrap_or_default();
                let terms = wanted.iter().filter_map(|value| self.term(value));
                terms.for_each(|term| self.terms.collect(term, into));
            }
            (PayloadKind::Keyword | PayloadKind::Bool, Test::Except(unwanted)) => {
                let unwanted: BTreeSet<&str> = unwanted.iter().filter_map(|value| self.term(value)).collect();
                self.terms.each(|term, rows| {
                    if !unwanted.contains(term) {
                        rows.for_each(|row| into.insert(row));
                    }
                });
            }
            (PayloadKind::Integer, Test::Value(_) | Test::Any(_)) => {
                for key in equals(test).unwrap_or_default().iter().filter_map(integer) {
                    self.numbers.collect(|other| other < key, |other| other > key, into);
                }
            }
            (PayloadKind::Integer, Test::Except(unwanted)) => {
                let mut unwanted: Vec<i64> = unwanted.iter().filter_map(integer).collect();
                unwanted.sort_unstable();
                self.numbers.collect_others(&unwanted, into);
            }
            (PayloadKind::Integer, Test::Range(bounds)) => self.range(bounds, |key| key as f64, into),
            (PayloadKind::Float, Test::Range(bounds)) => self.range(bounds, key_float, into),
            (PayloadKind::Datetime, Test::Dates(bounds)) => self.range(bounds, |key| key, into),
            (PayloadKind::Text, Test::Text(words)) => {
                let found = words.iter().map(|word| {
                    let mut rows = Bits::none(into.len());
                    self.terms.collect(word, &mut rows);
                    rows
                });
                let found = found.reduce(|mut all, rows| {
                    all.and(&rows);
                    all
                });
                found.iter().for_each(|found| into.or(found));
            }
            // A value of this kind never passes.
            (
                PayloadKind::Integer | PayloadKind::Float | PayloadKind::Bool,
                Test::Text(_) | Test::Dates(_),
            )
            | (
                PayloadKind::Keyword | PayloadKind::Bool | PayloadKind::Datetime | PayloadKind::Text,
                Test::Range(_),
            ) => {}
            (PayloadKind::Keyword, Test::Text(_) | Test::Dates(_))
            | (PayloadKind::Float, Test::Value(_) | Test::Any(_) | Test::Except(_))
            | (PayloadKind::Datetime, Test::Value(_) | Test::Any(_) | Test::Except(_) | Test::Text(_))
            | (PayloadKind::Text, Test::Value(_) | Test::Any(_) | Test::Except(_) | Test::Dates(_)) => {
                return false;
            }
        }
        true
    }

    fn range<T: PartialOrd>(&self, bounds: &Bounds<T>, value: impl Fn(i64) -> T, into: &mut Bits) {
        let (below, above) = (|key| bounds.is_below(&value(key)), |key| bounds.is_above(&value(key)));
        self.numbers.collect(below, above, into);
    }

    /// The term of a value of the field's kind.
    fn term<'a>(&self, value: &'a MatchValue) -> Option<&'a str> {
        match (self.kind, value) {
            (PayloadKind::Keyword, MatchValue::String(text)) => Some(text),
            (PayloadKind::Bool, MatchValue::Bool(truth)) => Some(term_of(*truth)),
            _ => None,
        }
    }
}

/// The values one of which a test asks for.
fn equals(test: &Test) -> Option<&[MatchValue]> {
    match test {
        Test::Value(value) => Some(std::slice::from_ref(value)),
        Test::Any(values) => Some(values),
        Test::Except(_) | Test::Text(_) | Test::Range(_) | Test::Dates(_) => None,
    }
}

fn integer(value: &MatchValue) -> Option<i64> {
    match value {
        MatchValue::Integer(integer) => Some(*integer),
        MatchValue::String(_) | MatchValue::Bool(_) => None,
    }
}

/// The kind of field that serves a test.
fn suited(test: &Test) -> &'static str {
    match test {
        Test::Value(_) | Test::Any(_) | Test::Except(_) => {
            let except = if let Test::Except(values) = test { values.as_slice() } else { &[] };
            match equals(test).unwrap_or(except).first() {
                Some(MatchValue::Integer(_)) => "integer",
                Some(MatchValue::Bool(_)) => "bool",
                Some(MatchValue::String(_)) | None => "keyword",
            }
        }
        Test::Text(_) => "text",
        Test::Range(_) => "float",
        Test::Dates(_) => "datetime",
    }
}

/// Says once per field that filters by it read payloads.
fn warn(path: &str, kind: &str) {
    // Paths come with queries, and may be as long as these.
    if path.len() > WARNED_BYTES_MAX {
        return;
    }
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.len() < WARNED_MAX && warned.insert(path.to_owned()) {
        let line = format!("{path:?} = \"{kind}\"");
        tracing::warn!(
            field = path,
            "a filter reads payloads, for its field is not indexed; in [payload]: {line}"
        );
    }
}
