//! What the fuzzers call, and the test that replays their corpus: whatever the bytes are, nothing panics, and what must hold
//! of every result is asserted.

use std::collections::BTreeMap;

use freshet_schemas::{
    DocumentChange, DocumentSpec, Envelope, Fault, Filter, Query, QueryLimits, Record, SourceSpec,
    VectorKind, VectorSpec,
};
use serde_json::Value;

/// What a fuzzer and the test call.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 3] = [("query", query), ("document", document), ("filter", filter)];

fn check(fault: &Fault) {
    assert!(!fault.message.is_empty(), "a fault says what is wrong");
    assert!(fault.message.len() < 100_000, "and does not repeat what was sent");
}

/// The record that bytes are: a key, if the first byte says how long it is, and a value.
fn record(bytes: &[u8]) -> Record {
    let (key, value) = match bytes.split_first() {
        // A brace begins an object: no key stands before it.
        Some((length @ 1..=31, rest)) if rest.len() >= usize::from(*length) => {
            let (key, value) = rest.split_at(usize::from(*length));
            (Some(key.to_vec()), value)
        }
        _ => (None, bytes),
    };
    Record { key, value: Some(value.to_vec()), ..Record::default() }
}

/// A record of the queries topic.
pub fn query(bytes: &[u8]) {
    let limits = QueryLimits { limit_max: 1000, depth_max: 5, nodes_max: 32, text_bytes_max: 4096 };
    match Query::parse(&record(bytes), &limits) {
        Ok(query) => {
            assert!(!query.id.is_empty() && query.limit >= 1);
            assert!(query.offset + query.limit <= limits.limit_max, "no more hits than allowed");
        }
        Err(refused) => check(&refused.fault),
    }
}

/// A record of the documents topic.
pub fn document(bytes: &[u8]) {
    let vector = |kind, size| VectorSpec { kind, size, from_text: false, terms: false };
    let spec = |envelope| DocumentSpec {
        id: "id".to_owned(),
        text: vec!["text".to_owned()],
        title: Some("title".to_owned()),
        payload: None,
        text_bytes_max: 4096,
        vectors: BTreeMap::from([
            ("dense".to_owned(), vector(VectorKind::Dense, Some(2))),
            ("multi".to_owned(), vector(VectorKind::Multi, Some(2))),
            ("sparse".to_owned(), vector(VectorKind::Sparse, None)),
        ]),
        source: SourceSpec { envelope, ..SourceSpec::default() },
    };
    let record = record(bytes);
    for spec in [Envelope::None, Envelope::Debezium].map(spec) {
        document_of(&record, &spec);
    }
}

fn document_of(record: &Record, spec: &DocumentSpec) {
    match DocumentChange::parse(record, spec) {
        Ok(change) => {
            assert!(!change.id().is_empty());
            // Reading is a function.
            assert_eq!(Ok(change), DocumentChange::parse(record, spec));
        }
        Err(fault) => check(&fault),
    }
}

/// A filter, a zero byte, and a payload that passes it or not.
pub fn filter(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let read = |part: Option<&[u8]>| serde_json::from_slice::<Value>(part.unwrap_or_default()).ok();
    let (Some(filter), payload) = (read(parts.next()), read(parts.next())) else { return };
    match Filter::parse(&filter, "filter") {
        Err(fault) => check(&fault),
        Ok(filter) => {
            let payload =
                payload.filter(Value::is_object).unwrap_or_else(|| Value::Object(Default::default()));
            // A filter and its opposite: a payload passes one of them.
            let passes = filter.matches("a", &payload);
            let opposite = serde_json::json!({"must_not": [read(bytes.splitn(2, |byte| *byte == 0).next())]});
            if let Ok(opposite) = Filter::parse(&opposite, "filter") {
                assert_ne!(passes, opposite.matches("a", &payload), "{filter:?} and its opposite, {payload}");
            }
        }
    }
}
