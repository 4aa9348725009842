//! Ids of points: integers and UUIDs in Qdrant, texts in Freshet.

use serde_json::Value;

use super::Problem;
use crate::collections::Layout;

/// The id of a document, from that of a point. In a pipeline of the configuration, any text is an id.
pub(super) fn to_text(value: &Value, layout: &Layout) -> Result<String, Problem> {
    let text = match value {
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        Value::String(text) => match (canonical(text), layout) {
            (Some(uuid), Layout::Wrapped) => Some(uuid),
            (_, Layout::Plain) if !text.is_empty() => Some(text.clone()),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    text.ok_or_else(|| {
        Problem::format(format!(
            "value {value} is not a valid point ID, valid values are either an unsigned integer or a UUID"
        ))
    })
}

/// The id of a point, from that of a document.
pub(super) fn from_text(text: &str) -> Value {
    match text.parse::<u64>() {
        // "+1" and "01" would be second spellings of a number.
        Ok(number) if number.to_string() == text => Value::from(number),
        _ => Value::from(text),
    }
}

/// A UUID in the one form that it is kept in: five groups of lower-case digits.
fn canonical(text: &str) -> Option<String> {
    let bare = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
    let places: &[usize] = match bare.len() {
        32 => &[],
        36 => &[8, 13, 18, 23],
        _ => return None,
    };
    let mut digits = String::with_capacity(36);
    for (place, byte) in bare.bytes().enumerate() {
        match (byte, places.contains(&place)) {
            (b'-', true) => {}
            (byte, false) if byte.is_ascii_hexdigit() => {
                if matches!(digits.len(), 8 | 13 | 18 | 23) {
                    digits.push('-');
                }
                digits.push(char::from(byte.to_ascii_lowercase()));
            }
            _ => return None,
        }
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_keep_their_type() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        for (id, text) in [
            (json!(0), "0"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(uuid), uuid),
            (json!("550E8400E29B41D4A716446655440000"), uuid),
            (json!(format!("urn:uuid:{uuid}")), uuid),
            (json!(format!("{{{uuid}}}")), uuid),
        ] {
            assert_eq!(to_text(&id, &Layout::Wrapped).unwrap(), text);
        }
        assert_eq!(from_text("7"), json!(7));
        assert_eq!(from_text("007"), json!("007"));
        assert_eq!(from_text(uuid), json!(uuid));
        assert_eq!(to_text(&json!("ticket-17"), &Layout::Plain).unwrap(), "ticket-17");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let long = "5".repeat(36);
        for id in [json!(-1), json!(1.5), json!(""), json!("7"), json!("ticket-17"), json!(null), json!(long)]
        {
            assert!(to_text(&id, &Layout::Wrapped).unwrap_err().message.contains("valid point ID"), "{id}");
        }
    }
}
