//! Spans as OTLP has them in JSON: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

use serde_json::{Map, Value as Json, json};

use super::{Attribute, Span, SpanKind, Value};

/// Number of `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;

/// The body of a request: spans of one service.
pub(super) fn request(service_name: &str, spans: &[Span]) -> Json {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [super::text("service.name", service_name), super::text("service.version", version)];
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes(&resource)},
        "scopeSpans": [{
            "scope": {"name": "freshet", "version": version},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(span: &Span) -> Json {
    let nanos = |micros: u64| format!("{micros}000");
    let mut json = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": span.name,
        "kind": kind(span.kind),
        "startTimeUnixNano": nanos(span.start_us),
        "endTimeUnixNano": nanos(span.end_us),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if let Some(state) = &span.state {
        json["traceState"] = json!(state);
    }
    if let Some(error) = &span.error {
        json["status"] = json!({"code": STATUS_ERROR, "message": error});
    }
    json
}

fn kind(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn attributes(attributes: &[Attribute]) -> Json {
    let attribute = |(name, value): &Attribute| {
        let (kind, value) = match value {
            Value::Text(text) => ("stringValue", json!(text)),
            // 64 bits are more than a number of JSON holds everywhere.
            Value::Number(number) => ("intValue", json!(number.to_string())),
        };
        let value: Map<String, Json> = [(kind.to_owned(), value)].into_iter().collect();
        json!({"key": name, "value": value})
    };
    attributes.iter().map(attribute).collect()
}

/// How many spans a collector that took a request has rejected all the same.
pub(super) fn rejected(answer: &[u8]) -> usize {
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = &answer["partialSuccess"]["rejectedSpans"];
    // 64-bit numbers are texts in this encoding; not everybody writes them so.
    let number = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok());
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}
