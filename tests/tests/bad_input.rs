//! Bad input, one kind at a time: a dead letter or an error answer, and the pipeline goes on.

use freshet_schemas::{Record, headers};
use freshet_tests::drive::{Bench, setup};
use serde_json::{Value, json};

fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    let (_, value) =
        record.headers.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no header {name}"));
    std::str::from_utf8(value.as_deref().unwrap()).unwrap()
}

/// Sends a document, sees its dead letter, and sees that the next document is indexed all the same.
fn refused(value: &[u8], key: Option<&[u8]>, code: &str, says: &[&str]) {
    let bench = Bench::start(&setup(2));
    let record = Record {
        key: key.map(<[u8]>::to_vec),
        value: Some(value.to_vec()),
        headers: vec![("traceparent".into(), None)],
        ..Record::default()
    };
    bench.memory.produce("documents", 1, record.clone());
    let letter = bench.memory.wait_for("documents.dlq", 1, freshet_tests::drive::LIMIT).remove(0);
    assert_eq!((&letter.key, &letter.value), (&record.key, &record.value), "the record is unchanged");
    assert_eq!(letter.headers[0], record.headers[0], "its headers come first");
    assert_eq!(header(&letter, headers::CODE), code);
    assert_eq!(header(&letter, headers::TOPIC), "documents");
    assert_eq!((header(&letter, headers::PARTITION), header(&letter, headers::OFFSET)), ("1", "0"));
    assert_eq!(header(&letter, headers::STAGE), "decode");
    let message = header(&letter, headers::MESSAGE);
    says.iter().for_each(|part| assert!(message.contains(part), "\"{message}\" does not say \"{part}\""));
    bench.document(&json!({"id": "good", "text": "a harbour"}));
    let answer = bench.ask(&json!({"id": "q", "text": "harbour", "consistency": "strong"}));
    assert_eq!(answer["points"][0]["id"], "good", "the pipeline goes on");
    bench.finish();
}

#[test]
fn document_that_is_not_utf8() {
    refused(b"{\"id\": \"a\xff\"}", Some(b"a"), "not_utf8", &[]);
}

#[test]
fn document_that_is_not_json() {
    refused(b"{\"id\": \"a\", ", Some(b"a"), "not_json", &["line 1"]);
    refused(b"[1, 2]", Some(b"a"), "not_json", &[]);
}

#[test]
fn document_without_id() {
    refused(br#"{"text": "x"}"#, None, "missing_id", &["id"]);
}

#[test]
fn document_whose_id_is_not_its_key() {
    refused(br#"{"id": "a", "text": "x"}"#, Some(b"b"), "id_mismatch", &["a", "b"]);
}

#[test]
fn document_with_empty_text() {
    refused(br#"{"id": "a", "text": "  "}"#, Some(b"a"), "empty_text", &["text"]);
}

#[test]
fn document_of_ten_megabytes() {
    let text = "word ".repeat(2 << 20);
    refused(json!({"id": "a", "text": text}).to_string().as_bytes(), Some(b"a"), "too_large", &["1048576"]);
}

#[test]
fn document_with_a_vector_of_the_wrong_size() {
    let value = json!({"id": "a", "text": "x", "vectors": {"given": [1, 2, 3]}}).to_string();
    refused(value.as_bytes(), Some(b"a"), "wrong_dimension", &["3", "4"]);
}

#[test]
fn document_with_nan_in_a_vector() {
    let value = br#"{"id": "a", "text": "x", "vectors": {"given": [1, NaN, 3, 4]}}"#;
    refused(value, Some(b"a"), "not_finite", &["NaN"]);
    let value = br#"{"id": "a", "text": "x", "vectors": {"given": [1, 1e300, 3, 4]}}"#;
    refused(value, Some(b"a"), "not_finite", &["given"]);
}

#[test]
fn document_with_an_unknown_vector() {
    let value = json!({"id": "a", "text": "x", "vectors": {"giben": [1, 2, 3, 4]}}).to_string();
    refused(value.as_bytes(), Some(b"a"), "unknown_vector", &["giben", "given"]);
}

/// Sends a query, sees its error answer, and sees that the next query is answered.
fn answered_with_error(query: &Value, code: &str, says: &[&str]) {
    let bench = Bench::start(&setup(2));
    bench.document(&json!({"id": "good", "text": "a harbour"}));
    let answer = bench.ask(query);
    assert_eq!(answer["error"]["code"], code, "{answer}");
    assert_eq!(answer["points"], json!([]));
    let message = answer["error"]["message"].as_str().unwrap();
    let field = answer["error"]["field"].as_str().unwrap_or_default();
    says.iter().for_each(|part| {
        assert!(
            message.contains(part) || field.contains(part),
            "\"{message}\" ({field}) does not say \"{part}\""
        );
    });
    let answer = bench.ask(&json!({"id": "good", "text": "harbour", "consistency": "strong"}));
    assert_eq!(answer["points"][0]["id"], "good", "the pipeline goes on");
    bench.finish();
}

#[test]
fn query_with_an_unknown_field() {
    answered_with_error(&json!({"id": "q", "text": "x", "limmit": 3}), "unknown_field", &["limmit"]);
    let nested = json!({"id": "q", "prefetch": [{"query": {"text": "x"}, "using": "bm25", "foo": 1}], "query": {"fusion": "rrf"}});
    answered_with_error(&nested, "unknown_field", &["prefetch[0].foo"]);
}

#[test]
fn query_with_an_unknown_vector_name() {
    answered_with_error(
        &json!({"id": "q", "query": {"text": "x"}, "using": "dens"}),
        "unknown_vector",
        &["dens", "dense"],
    );
}

#[test]
fn query_with_an_unknown_plan() {
    answered_with_error(
        &json!({"id": "q", "text": "x", "plan": "best"}),
        "unknown_plan",
        &["best", "default"],
    );
}

#[test]
fn query_with_limit_zero_or_a_million() {
    answered_with_error(&json!({"id": "q", "text": "x", "limit": 0}), "invalid_value", &["limit", "0"]);
    answered_with_error(
        &json!({"id": "q", "text": "x", "limit": 1_000_000}),
        "invalid_value",
        &["limit", "1000000"],
    );
}

#[test]
fn query_that_is_too_deep() {
    let mut node = json!({"query": {"text": "x"}, "using": "bm25"});
    for _ in 0..5 {
        node = json!({"prefetch": [node], "query": {"text": "x"}, "using": "colbert"});
    }
    node["id"] = json!("q");
    answered_with_error(&node, "too_deep", &["4"]);
}

#[test]
fn query_with_a_vector_of_the_wrong_size() {
    answered_with_error(
        &json!({"id": "q", "query": [1, 2], "using": "given"}),
        "wrong_dimension",
        &["2", "4"],
    );
}

#[test]
fn query_with_blank_text() {
    answered_with_error(&json!({"id": "q", "text": " "}), "empty_text", &["text"]);
}

#[test]
fn query_with_text_for_a_field_without_model() {
    answered_with_error(
        &json!({"id": "q", "query": {"text": "x"}, "using": "given"}),
        "invalid_value",
        &["given"],
    );
}

#[test]
fn query_without_id_is_a_dead_letter() {
    let bench = Bench::start(&setup(1));
    bench.memory.produce(
        "queries",
        0,
        Record { value: Some(b"{\"text\": \"x\"}".to_vec()), ..Record::default() },
    );
    bench.memory.produce("queries", 0, Record { value: Some(b"\xff\xfe".to_vec()), ..Record::default() });
    let letters = bench.memory.wait_for("queries.dlq", 2, freshet_tests::drive::LIMIT);
    assert_eq!(header(&letters[0], headers::CODE), "missing_id");
    assert_eq!(header(&letters[1], headers::CODE), "not_utf8");
    bench.finish();
}

#[test]
fn query_that_is_no_json_but_has_a_key_is_answered() {
    let bench = Bench::start(&setup(1));
    let record =
        Record { key: Some(b"q".to_vec()), value: Some(b"{\"text\": ".to_vec()), ..Record::default() };
    bench.memory.produce("queries", 0, record);
    assert_eq!(bench.answer("q")["error"]["code"], "not_json");
    bench.finish();
}

#[test]
fn query_id_used_twice_is_answered_once() {
    let bench = Bench::start(&setup(2));
    bench.document(&json!({"id": "good", "text": "a harbour"}));
    let query = json!({"id": "q", "text": "harbour", "consistency": "strong"});
    bench.ask(&query);
    bench.query(&query);
    let letter = bench.memory.wait_for("queries.dlq", 1, freshet_tests::drive::LIMIT).remove(0);
    assert_eq!(header(&letter, headers::CODE), "duplicate_id");
    assert_eq!(header(&letter, headers::STAGE), "plan");
    bench.ask(&json!({"id": "other", "text": "harbour"}));
    assert_eq!(bench.memory.len("answers"), 2, "q and other");
    bench.finish();
}
