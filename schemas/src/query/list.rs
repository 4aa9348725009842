//! Lists of documents: by id, or by a value of the payload.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::Fault;
use crate::filter::{is_path, microseconds};
use crate::identity::id_in_value;
use crate::json::{Fields, Object, invalid};

/// Lists documents by id, without a score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Which id comes first.
    pub order: IdOrder,
    /// The first id that may be listed.
    pub from: Option<String>,
}

/// An order of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdOrder {
    /// By the bytes of their text.
    #[default]
    Text,
    /// Those that are decimal numbers of 64 bits first, by value; then the others, by the bytes of their text.
    Number,
}

impl IdOrder {
    /// What ids are compared by.
    pub fn key(self, id: &str) -> IdKey<'_> {
        match self {
            Self::Text => (false, 0, id),
            Self::Number => match number(id) {
                Some(number) => (false, number, ""),
                None => (true, 0, id),
            },
        }
    }
}

/// The number that an id is; "+1" and "01" would be second spellings of one.
fn number(id: &str) -> Option<u64> {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_digit()) && (id.len() == 1 || !id.starts_with('0'));
    id.parse().ok().filter(|_| is_plain)
}

/// Place of an id in an order.
pub type IdKey<'a> = (bool, u64, &'a str);

/// Lists documents by a value of their payload; those that have none are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderBy {
    /// Path of the field.
    pub key: String,
    /// Which values come first.
    pub direction: Direction,
    /// The first value that may be listed.
    pub start_from: Option<OrderValue>,
}

/// Which values come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The least.
    #[default]
    Asc,
    /// The greatest.
    Desc,
}

impl OrderBy {
    /// Which of two values is listed first.
    pub fn compare(&self, a: &OrderValue, b: &OrderValue) -> Ordering {
        match self.direction {
            Direction::Asc => a.cmp(b),
            Direction::Desc => b.cmp(a),
        }
    }

    /// Whether a value may be listed.
    pub fn includes(&self, value: &OrderValue) -> bool {
        self.start_from.as_ref().is_none_or(|start| self.compare(value, start) != Ordering::Less)
    }
}

/// A value that documents are listed by. Integers and floats have one order; a time is its microseconds since the epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum OrderValue {
    /// An integer, or a time.
    Integer(i64),
    /// A finite number.
    Float(f64),
}

impl OrderValue {
    /// The value of a payload; `None` of what is neither a number nor a time.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => {
                number.as_i64().map(Self::Integer).or_else(|| number.as_f64().map(Self::Float))
            }
            Value::String(text) => microseconds(text).map(Self::Integer),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// As JSON.
    pub fn number(self) -> Option<Number> {
        match self {
            Self::Integer(integer) => Some(integer.into()),
            Self::Float(float) => Number::from_f64(float),
        }
    }
}

impl Ord for OrderValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(&b),
            // −0 is 0.
            (Self::Float(a), Self::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Integer(a), Self::Float(b)) => mixed(a, b),
            (Self::Float(a), Self::Integer(b)) => mixed(b, a).reverse(),
        }
    }
}

impl PartialOrd for OrderValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for OrderValue {}

/// Compares without rounding: an integer may have more digits than a float can hold.
fn mixed(integer: i64, float: f64) -> Ordering {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if float >= END {
        return Ordering::Less;
    }
    if float < -END {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    #[allow(clippy::cast_possible_truncation, reason = "it lies in the range of integers")]
    let of_float = whole as i64;
    integer.cmp(&of_float).then_with(|| 0.0f64.total_cmp(&(float - whole + 0.0)))
}

/// Reads `{"list": …}`.
pub(super) fn list(fields: &Fields<'_>) -> Result<List, Fault> {
    fields.only(&["list"], &[])?;
    let Some(value) = fields.get("list") else { return Ok(List::default()) };
    let list = Fields::of(value, &fields.path("list"))?;
    list.only(&["order", "from"], &[])?;
    let order = match list.str("order")? {
        None | Some("id") => IdOrder::Text,
        Some("number") => IdOrder::Number,
        Some(other) => return Err(list.unlike("order", &Value::from(other), "\"id\" or \"number\"")),
    };
    let from = match list.get("from") {
        None => None,
        Some(value) => {
            let at = list.path("from");
            let object = Object::from_iter([("from".to_owned(), value.clone())]);
            id_in_value(&object, "from").map_err(|fault| Fault { field: Some(at), ..fault })?
        }
    };
    Ok(List { order, from })
}

/// Reads `{"order_by": …}`.
pub(super) fn order_by(fields: &Fields<'_>) -> Result<OrderBy, Fault> {
    fields.only(&["order_by"], &[])?;
    let path = fields.path("order_by");
    let value = match fields.get("order_by") {
        None => return Err(invalid(path, "missing: name the payload field")),
        Some(Value::String(key)) => {
            return Ok(OrderBy {
                key: checked(fields, "order_by", key)?,
                direction: Direction::Asc,
                start_from: None,
            });
        }
        Some(value) => value,
    };
    let order = Fields::of(value, &path)?;
    order.only(&["key", "direction", "start_from"], &[])?;
    let Some(key) = order.str("key")? else {
        return Err(invalid(order.path("key"), "missing: name the payload field"));
    };
    let direction = match order.str("direction")? {
        None | Some("asc") => Direction::Asc,
        Some("desc") => Direction::Desc,
        Some(other) => return Err(order.unlike("direction", &Value::from(other), "\"asc\" or \"desc\"")),
    };
    let start_from = match order.get("start_from") {
        None => None,
        Some(value) => Some(
            OrderValue::of(value)
                .ok_or_else(|| order.unlike("start_from", value, "a number or a time as in RFC 3339"))?,
        ),
    };
    Ok(OrderBy { key: checked(&order, "key", key)?, direction, start_from })
}

/// A path, or the fault of a field that holds none.
pub(super) fn checked(fields: &Fields<'_>, field: &str, path: &str) -> Result<String, Fault> {
    if is_path(path) {
        return Ok(path.to_owned());
    }
    Err(fields.unlike(field, &Value::from(path), "a path such as \"city\" or \"address.city\""))
}
