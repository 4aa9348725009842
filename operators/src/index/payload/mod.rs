//! Payloads: filters evaluated before a search.
//!
//! Declared fields are kept by value. What they cannot tell of a row is read from its payload: a filter's conditions are
//! first looked up as two sets, the rows for which it surely holds and those for which it may, and only rows of the
//! second that are not in the first are read.
//!
//! ```text
//! payload ─▶ Field: terms │ numbers ─▶ column.rs
//!            filled, null, odd rows
//! filter ──▶ select.rs: sure, possible ─▶ the rest by `Filter::matches`, of what read.rs takes out of the payload
//! order ───▶ order.rs: the first rows by value, of the sorted numbers or of payloads
//! ```

mod column;
mod order;
mod read;
mod select;
#[cfg(test)]
mod tests;

pub use freshet_config::PayloadKind;
use freshet_schemas::{microseconds, values, words};
use serde_json::Value;

use self::column::{Numbers, Terms, float_key};
use super::bits::Bits;
use super::rows::{Pick, Row};

/// A payload field that is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadField {
    /// Dotted path in the payload.
    pub path: String,
    /// What its values are.
    pub kind: PayloadKind,
}

/// What a filter may have to look up, row by row.
pub trait Documents {
    /// Document id of a row.
    fn id(&self, row: Row) -> &str;
    /// Payload of a row: compact JSON object text.
    fn payload(&self, row: Row) -> &str;
    /// Calls with each row of a document.
    fn of(&self, id: &str, each: &mut dyn FnMut(Row));
}

/// One indexed field. Invariant: each set has as many rows as the index.
#[derive(Debug)]
struct Field {
    path: String,
    kind: PayloadKind,
    terms: Terms,
    numbers: Numbers,
    /// Rows with a value: neither missing nor null nor an empty array.
    filled: Bits,
    /// Rows that are null or hold null.
    null: Bits,
    /// Rows that terms and numbers do not tell all about: some value is of another type, or there are several texts.
    odd: Bits,
}

/// The indexed payload fields of numbered rows, one row per document version.
#[derive(Debug)]
pub struct PayloadIndex {
    fields: Vec<Field>,
    rows: usize,
}

impl PayloadIndex {
    /// A head without rows.
    pub fn head(fields: &[PayloadField]) -> Self {
        let field = |field: &PayloadField| Field {
            path: field.path.clone(),
            kind: field.kind,
            terms: Terms::Head(Default::default()),
            numbers: Numbers::default(),
            filled: Bits::default(),
            null: Bits::default(),
            odd: Bits::default(),
        };
        Self { fields: fields.iter().map(field).collect(), rows: 0 }
    }

    /// Adds a row to a head.
    pub fn push(&mut self, payload: &str) {
        if !self.fields.is_empty() {
            let value = parsed(payload);
            let row = self.rows as Row;
            self.fields.iter_mut().for_each(|field| field.push(&value, row));
        }
        self.rows += 1;
    }

    /// The picked rows, in their order, as an immutable index.
    pub fn seal(fields: &[PayloadField], from: &[&Self], picks: &[Pick]) -> Self {
        let mut numbers: Vec<Vec<Option<Row>>> = from.iter().map(|index| vec![None; index.rows]).collect();
        for (row, pick) in (0..).zip(picks) {
            numbers[pick.from as usize][pick.row as usize] = Some(row);
        }
        let fields = fields.iter().enumerate().map(|(number, field)| {
            let from: Vec<&Field> = from.iter().map(|index| &index.fields[number]).collect();
            Field::seal(field, &from, &numbers, picks)
        });
        Self { fields: fields.collect(), rows: picks.len() }
    }

    /// Rows stored.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is stored.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let bits = |field: &Field| field.filled.bytes() + field.null.bytes() + field.odd.bytes();
        self.fields.iter().map(|field| field.terms.bytes() + field.numbers.bytes() + bits(field)).sum()
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        for field in &self.fields {
            field.numbers.check();
            for bits in [&field.filled, &field.null, &field.odd] {
                assert_eq!(bits.len(), self.rows, "{}", field.path);
            }
            let mut terms = Vec::new();
            field.terms.each(|term, rows| {
                terms.push(term);
                let rows: Vec<Row> = rows.collect();
                assert!(!rows.is_empty() && rows.is_sorted_by(|a, b| a < b), "rows of {term} ascend");
                assert!((rows[rows.len() - 1] as usize) < self.rows, "rows of {term} are there");
            });
            assert!(terms.is_sorted_by(|a, b| a < b), "terms ascend");
        }
    }
}

impl Field {
    fn push(&mut self, payload: &Value, row: Row) {
        let (mut filled, mut null, mut odd, mut texts) = (false, false, false, 0);
        for value in values(payload, &self.path) {
            let elements = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            filled |= !value.is_null() && !elements.is_empty();
            for element in elements {
                null |= element.is_null();
                odd |= !element.is_null() && !self.keep(element, row);
                texts += usize::from(element.is_string());
            }
        }
        self.filled.push(filled);
        self.null.push(null);
        self.odd.push(odd || (self.kind == PayloadKind::Text && texts > 1));
    }

    /// Whether a value is of the field's kind; it is kept then.
    fn keep(&mut self, value: &Value, row: Row) -> bool {
        let key = match self.kind {
            PayloadKind::Keyword => {
                value.as_str().inspect(|text| self.terms.push(text, row));
                return value.is_string();
            }
            PayloadKind::Bool => {
                value.as_bool().inspect(|&truth| self.terms.push(term_of(truth), row));
                return value.is_boolean();
            }
            PayloadKind::Text => {
                let text = value.as_str().map(words).unwrap_or_default();
                text.iter().for_each(|word| self.terms.push(word, row));
                return value.is_string();
            }
            PayloadKind::Integer => value.as_i64(),
            PayloadKind::Float => value.as_f64().map(float_key),
            PayloadKind::Datetime => value.as_str().and_then(microseconds),
        };
        key.inspect(|&key| self.numbers.push(key, row)).is_some()
    }

    fn seal(spec: &PayloadField, from: &[&Self], numbers: &[Vec<Option<Row>>], picks: &[Pick]) -> Self {
        let bits = |of: fn(&Self) -> &Bits| {
            let rows = (0..).zip(picks);
            let rows = rows.filter(|(_, pick)| of(from[pick.from as usize]).contains(pick.row));
            Bits::of(rows.map(|(row, _)| row), picks.len())
        };
        let new = || numbers.iter().map(Vec::as_slice);
        Self {
            path: spec.path.clone(),
            kind: spec.kind,
            terms: Terms::seal(from.iter().map(|field| &field.terms).zip(new())),
            numbers: Numbers::seal(from.iter().map(|field| &field.numbers).zip(new())),
            filled: bits(|field| &field.filled),
            null: bits(|field| &field.null),
            odd: bits(|field| &field.odd),
        }
    }
}

/// A truth value as term.
fn term_of(truth: bool) -> &'static str {
    if truth { "true" } else { "false" }
}

/// A payload's value; decoding has checked that it is JSON.
fn parsed(payload: &str) -> Value {
    serde_json::from_str(payload).unwrap_or_default()
}
