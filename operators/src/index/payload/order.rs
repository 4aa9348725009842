//! Rows in the order of a payload field's values.

use freshet_schemas::{OrderBy, OrderValue, values};
use serde_json::Value;

use super::column::key_float;
use super::read::Needed;
use super::{Documents, Field, PayloadIndex, PayloadKind};
use crate::index::bits::Bits;
use crate::index::rows::{Row, RowSet};

impl PayloadIndex {
    /// The first entries, in the order of `order` and then of rows, of at least `want` visible rows; all entries if fewer
    /// rows have values. A row has an entry for each of its values that can be ordered by, equal ones once.
    ///
    /// A declared number or time is looked up; rows of which the column does not tell all are read, and so are all rows of
    /// other fields.
    pub fn ordered(
        &self,
        order: &OrderBy,
        documents: &dyn Documents,
        visible: &RowSet<'_>,
        want: usize,
    ) -> Vec<(Row, OrderValue)> {
        let field = self.field(&order.key);
        let mut entries = Vec::new();
        let mut read = Bits::all(self.rows);
        if let Some(field) = field {
            let column = field.column();
            read = if column.is_some() { field.odd.clone() } else { field.filled.clone() };
            if let Some(value) = column {
                entries = field.first(order, value, visible, want);
            }
        }
        if let Some(bits) = visible.bits() {
            read.and(bits);
        }
        let needed = Needed::of_key(&order.key);
        for row in read.iter() {
            let payload = needed.read(documents.payload(row));
            for value in values(&payload, &order.key) {
                let elements = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let values = elements.iter().filter_map(|value| number(field, value));
                let values = values.filter(|value| order.includes(value));
                entries.extend(values.map(|value| (row, value)));
            }
        }
        entries.sort_by(|a, b| order.compare(&a.1, &b.1).then(a.0.cmp(&b.0)));
        entries.dedup();
        entries
    }
}

/// What a value is ordered by. All numbers of a field of floats are floats, as its column has them.
fn number(field: Option<&Field>, value: &Value) -> Option<OrderValue> {
    let is_float = field.is_some_and(|field| field.kind == PayloadKind::Float);
    let float = value.as_f64().filter(|_| is_float).map(OrderValue::Float);
    float.or_else(|| OrderValue::of(value))
}

impl Field {
    /// The value of a key, if the field's column holds what rows are ordered by.
    fn column(&self) -> Option<fn(i64) -> OrderValue> {
        match self.kind {
            PayloadKind::Integer | PayloadKind::Datetime => Some(OrderValue::Integer),
            PayloadKind::Float => Some(|key| OrderValue::Float(key_float(key))),
            PayloadKind::Keyword | PayloadKind::Bool | PayloadKind::Text => None,
        }
    }

    /// The first entries of at least `want` visible rows that are not odd.
    fn first(
        &self,
        order: &OrderBy,
        value: fn(i64) -> OrderValue,
        visible: &RowSet<'_>,
        want: usize,
    ) -> Vec<(Row, OrderValue)> {
        let mut entries: Vec<(Row, OrderValue)> = Vec::new();
        let mut rows = Bits::none(visible.rows());
        let mut count = 0;
        let mut last = None;
        for (key, row) in self.numbers.in_order(order.direction, |key| order.includes(&value(key))) {
            // Entries that tie with the last one may come in any order.
            if self.numbers.is_sealed() && count >= want && last != Some(key) {
                break;
            }
            if !visible.contains(row) || self.odd.contains(row) {
                continue;
            }
            count += usize::from(!rows.contains(row));
            rows.insert(row);
            last = Some(key);
            entries.push((row, value(key)));
        }
        entries
    }
}
