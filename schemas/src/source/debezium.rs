//! Debezium's change events.
//!
//! ```text
//! {"before": …, "after": …, "source": …, "op": "c" | "r" | "u" | "d" | "t" | "m", …}     or that as "payload" beside a "schema"
//! ```

use serde_json::Value;

use super::Said;
use crate::json::{Object, describe, invalid, join};
use crate::{Fault, FaultCode};

/// What Debezium writes for a column that the database did not hand over, since it is large and has not changed.
const UNAVAILABLE: &str = "__debezium_unavailable_value";
/// The same in columns of bytes, as Base64.
const UNAVAILABLE_BYTES: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

/// Reads a change event.
pub(super) fn open(mut event: Object) -> Result<Said, Fault> {
    // Kafka Connect's JSON converter writes the schema beside each record, unless `schemas.enable` is false.
    if event.len() == 2 && event.contains_key("schema") {
        event = match event.remove("payload") {
            Some(Value::Object(payload)) => payload,
            Some(other) => return Err(invalid("payload", unlike(&other))),
            None => event,
        };
    }
    let op = match event.get("op") {
        Some(Value::String(op)) => op.clone(),
        Some(other) => return Err(invalid("op", format!("{} is not a string", describe(other)))),
        None => {
            let message = "no \"op\": not a change event of Debezium; of events that \
                           ExtractNewRecordState has flattened, the envelope is \"none\"";
            return Err(invalid("op", message));
        }
    };
    match op.as_str() {
        "c" | "r" | "u" => row(&mut event, "after")?
            .map(Said::Put)
            .ok_or_else(|| invalid("after", format!("is missing, but \"op\" is \"{op}\""))),
        "d" => row(&mut event, "before").map(|row| Said::Gone(row.unwrap_or_default())),
        "t" => Err(invalid(
            "op",
            "\"t\": the table was truncated, which names no row; its documents stay until they are deleted",
        )),
        "m" => Err(invalid("op", "\"m\": a message of the database's log, not of a row")),
        _ => {
            let message =
                format!("{} is not one of \"c\", \"r\", \"u\", \"d\"", describe(&Value::String(op)));
            Err(invalid("op", message))
        }
    }
}

/// A row of the table, whole; `None` where there is none.
fn row(event: &mut Object, field: &str) -> Result<Option<Object>, Fault> {
    match event.shift_remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(row)) => {
            // What is deleted needs its id only.
            if field == "after" {
                row.iter().try_for_each(|(name, value)| available(value, &join(field, name)))?;
            }
            Ok(Some(row))
        }
        Some(other) => Err(invalid(field, unlike(&other))),
    }
}

fn unlike(value: &Value) -> String {
    format!("{} is not an object", describe(value))
}

/// Refuses a row that lacks a column: the document would lose it.
fn available(value: &Value, path: &str) -> Result<(), Fault> {
    let is_marker =
        |value: &Value| value.as_str().is_some_and(|text| text == UNAVAILABLE || text == UNAVAILABLE_BYTES);
    let elements = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if is_marker(value) || elements.iter().any(is_marker) {
        let message = "the database did not hand over this unchanged large column; \
                       ALTER TABLE … REPLICA IDENTITY FULL makes PostgreSQL do so";
        return Err(Fault::field(FaultCode::InvalidValue, path, message));
    }
    Ok(())
}
