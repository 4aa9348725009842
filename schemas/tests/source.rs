//! Records as databases, schema registries and plain producers write them.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod common;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshet_schemas::{
    Document, DocumentChange, DocumentSpec, DocumentTopics, Envelope, Format, Mapping, Record, RecordSchemas,
    SourceSpec, WireSchema, frame, wanted,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use common::{line, spec};

fn with(source: SourceSpec) -> DocumentSpec {
    DocumentSpec {
        source: SourceSpec { topic: "tickets".to_owned(), ..source },
        text_bytes_max: 2000,
        ..spec()
    }
}

fn debezium() -> DocumentSpec {
    with(SourceSpec { key_format: Format::Json, envelope: Envelope::Debezium, ..SourceSpec::default() })
}

fn record(key: &Value, value: &Value) -> Record {
    let bytes = |value: &Value| (!value.is_null()).then(|| value.to_string().into_bytes());
    Record { partition: 3, offset: 17, key: bytes(key), value: bytes(value), headers: Vec::new() }
}

fn put(record: &Record, spec: &DocumentSpec) -> Document {
    match DocumentChange::parse(record, spec) {
        Ok(DocumentChange::Put(document)) => document,
        other => panic!("{other:?}"),
    }
}

fn deleted(record: &Record, spec: &DocumentSpec) -> String {
    match DocumentChange::parse(record, spec) {
        Ok(DocumentChange::Delete(id)) => id,
        other => panic!("{other:?}"),
    }
}

fn refused(record: &Record, spec: &DocumentSpec) -> String {
    line(&DocumentChange::parse(record, spec).expect_err("refused"))
}

fn payload(document: &Document) -> Value {
    serde_json::from_str(&document.payload).unwrap()
}

#[test]
fn a_text_is_a_document_under_its_key_or_its_place() {
    let text = with(SourceSpec { format: Format::Text, ..SourceSpec::default() });
    let keyed = Record { key: Some(b"a".to_vec()), value: Some("größer".into()), ..Record::default() };
    let document = put(&keyed, &text);
    assert_eq!(
        (document.id.as_str(), document.text.as_str(), payload(&document)),
        ("a", "größer", json!({}))
    );
    let partition = DocumentTopics::place(2, 3);
    let unkeyed = Record { partition, offset: 17, value: Some(b"{\"id\": 1}".to_vec()), ..Record::default() };
    let document = put(&unkeyed, &text);
    assert_eq!((document.id.as_str(), document.text.as_str()), ("tickets-3-17", "{\"id\": 1}"));
    assert_eq!(deleted(&Record { value: None, ..keyed.clone() }, &text), "a");
    assert!(refused(&Record { key: None, ..keyed.clone() }.without_value(), &text).starts_with("missing_id"));
    let broken = Record { value: Some(b"a\xff".to_vec()), ..keyed };
    assert_eq!(refused(&broken, &text), "not_utf8 @ -: value is not UTF-8 from byte 1 on");
}

trait WithoutValue {
    fn without_value(self) -> Self;
}

impl WithoutValue for Record {
    fn without_value(self) -> Self {
        Self { value: None, ..self }
    }
}

#[test]
fn fields_are_renamed_and_filled_in_and_headers_become_fields() {
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let mapping = Mapping {
        headers: vec![pair("origin", "meta.origin"), pair("absent", "absent")],
        // Two that change places: all are taken out before any is put back.
        rename: vec![
            pair("after_sales.city", "city"),
            pair("a", "b"),
            pair("b", "a"),
            pair("body", "text"),
            pair("x", "deep.er.x"),
        ],
        defaults: vec![
            ("city".to_owned(), json!("nowhere")),
            ("stars".to_owned(), json!(3)),
            ("deep.er.y".to_owned(), json!([1])),
        ],
    };
    let spec = with(SourceSpec { mapping, ..SourceSpec::default() });
    let value = json!({"id": "1", "body": "harbour", "after_sales": {"city": "Berlin", "n": 1}, "a": 1, "b": 2,
        "x": null, "stars": null});
    let header = |text: &str| ("origin".to_owned(), Some(text.as_bytes().to_vec()));
    let record = Record { headers: vec![header("old"), header("new")], ..record(&Value::Null, &value) };
    let document = put(&record, &spec);
    assert_eq!(document.text, "harbour");
    assert_eq!(
        payload(&document),
        json!({"after_sales": {"n": 1}, "stars": 3, "meta": {"origin": "new"}, "city": "Berlin", "b": 1, "a": 2,
            "deep": {"er": {"x": null, "y": [1]}}})
    );
    let bare = put(&common::record(Some("1"), Some(r#"{"text": "x"}"#)), &spec);
    assert_eq!(payload(&bare), json!({"city": "nowhere", "stars": 3, "deep": {"er": {"y": [1]}}}));
    let in_the_way = common::record(Some("1"), Some(r#"{"text": "x", "deep": 7}"#));
    assert_eq!(
        refused(&in_the_way, &spec),
        "invalid_value @ deep: the number 7 is not an object, so it has no \"er.y\""
    );
    let binary = Record { headers: vec![("origin".into(), Some(vec![0xff]))], ..in_the_way };
    assert_eq!(refused(&binary, &spec), "not_utf8 @ meta.origin: header \"origin\" is not UTF-8");
}

#[test]
fn every_id_of_a_topic_can_have_a_prefix_and_keys_have_none() {
    let spec = with(SourceSpec { id_prefix: "tickets/".to_owned(), ..SourceSpec::default() });
    let record = common::record(Some("7"), Some(r#"{"id": 7, "text": "x"}"#));
    assert_eq!(put(&record, &spec).id, "tickets/7");
    assert_eq!(deleted(&record.without_value(), &spec), "tickets/7");
    assert_eq!(spec.key("tickets/7").unwrap(), "7");
    assert!(debezium().key("7").unwrap_err().message.contains("\"tickets\""));
}

/// An event in the shape of Debezium's documentation, of a row `{"id", "title", "text", "stars"}`.
fn event(op: &str, before: Value, after: Value) -> Value {
    json!({"before": before, "after": after, "op": op, "ts_ms": 1730000000001u64, "transaction": null,
        "source": {"version": "3.0.0.Final", "connector": "postgresql", "name": "pg", "ts_ms": 1730000000000u64,
            "snapshot": "false", "db": "shop", "schema": "public", "table": "tickets", "txId": 742, "lsn": 24023128}})
}

fn row(id: i64) -> Value {
    json!({"id": id, "title": "Cancel", "text": "a subscription", "stars": 4})
}

#[test]
fn change_events_put_and_delete() {
    let spec = debezium();
    let key = json!({"id": 17});
    for op in ["c", "r", "u"] {
        let document = put(&record(&key, &event(op, Value::Null, row(17))), &spec);
        assert_eq!((document.id.as_str(), document.text.as_str()), ("17", "Cancel a subscription"));
        assert_eq!(payload(&document), json!({"stars": 4}));
    }
    // With the schema beside each: JsonConverter with schemas.enable.
    let schema =
        json!({"type": "struct", "fields": [], "optional": false, "name": "pg.public.tickets.Envelope"});
    let wrapped = |payload: Value| json!({"schema": schema, "payload": payload});
    let record_of = |value| record(&wrapped(key.clone()), &wrapped(value));
    assert_eq!(put(&record_of(event("u", row(17), row(17))), &spec).id, "17");
    // A delete, and the tombstone that follows it.
    assert_eq!(deleted(&record_of(event("d", row(17), Value::Null)), &spec), "17");
    assert_eq!(deleted(&record(&key, &event("d", json!({"id": 17}), Value::Null)), &spec), "17");
    assert_eq!(deleted(&record(&wrapped(key.clone()), &Value::Null), &spec), "17");
    // A table without a primary key has records without keys.
    assert_eq!(deleted(&record(&Value::Null, &event("d", row(9), Value::Null)), &spec), "9");
    assert_eq!(put(&record(&Value::Null, &event("c", Value::Null, row(9))), &spec).id, "9");
}

#[test]
fn change_events_that_are_none_say_what_they_lack() {
    let spec = debezium();
    let of = |value: Value| refused(&record(&json!({"id": 17}), &value), &spec);
    for (value, said) in [
        (row(17), "invalid_value @ op: no \"op\": not a change event"),
        (event("t", Value::Null, Value::Null), "invalid_value @ op: \"t\": the table was truncated"),
        (event("m", Value::Null, Value::Null), "invalid_value @ op: \"m\": a message"),
        (event("z", Value::Null, Value::Null), "invalid_value @ op: the string \"z\" is not one of"),
        (event("u", row(17), Value::Null), "invalid_value @ after: is missing, but \"op\" is \"u\""),
        (event("c", Value::Null, json!("{}")), "invalid_value @ after: the string \"{}\" is not an object"),
        (json!({"schema": null, "payload": [1]}), "invalid_value @ payload: an array is not an object"),
    ] {
        assert!(of(value.clone()).starts_with(said), "{}", of(value));
    }
    for marker in ["__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="] {
        let mut after = row(17);
        after["text"] = json!(marker);
        let said = of(event("u", Value::Null, after.clone()));
        assert!(
            said.starts_with("invalid_value @ after.text:") && said.contains("REPLICA IDENTITY FULL"),
            "{said}"
        );
        after["text"] = json!("there");
        after["tags"] = json!([marker]);
        assert!(of(event("u", Value::Null, after.clone())).starts_with("invalid_value @ after.tags:"));
        // What is deleted needs no column but its key.
        let gone = record(&json!({"id": 17}), &event("d", after, Value::Null));
        assert_eq!(deleted(&gone, &spec), "17");
    }
}

#[test]
fn keys_that_are_structs_are_the_id() {
    let spec = debezium();
    let id = |key: Value| deleted(&record(&key, &Value::Null), &spec);
    let no_id = |key: Value| refused(&record(&key, &Value::Null), &spec);
    assert_eq!(id(json!({"number": 5})), "5");
    assert_eq!(id(json!({"tenant": "acme", "number": 5})), "acme/5");
    assert_eq!(id(json!({"tenant": "acme", "id": 5})), "5");
    assert_eq!(id(json!("ticket-5")), "ticket-5");
    assert_eq!(id(json!(5)), "5");
    assert!(no_id(json!({})).starts_with("missing_id @ id: no id: the key has no fields"));
    assert!(no_id(json!({"a": null})).contains("\"a\" of the key is null, not an id"));
    assert!(no_id(json!({"a": 1.5})).contains("the number 1.5, not an id"));
    assert!(no_id(json!({"a": ""})).contains("is empty"));
    let broken = Record { key: Some(b"{".to_vec()), ..Record::default() };
    assert!(refused(&broken, &spec).starts_with("not_json @ -: the key is not JSON"));
}

fn fixtures() -> Value {
    serde_json::from_str(include_str!("fixtures/wire.json")).unwrap()
}

fn wire(case: &Value) -> Vec<u8> {
    STANDARD.decode(case["wire"].as_str().unwrap()).unwrap()
}

fn schema(case: &Value) -> Arc<WireSchema> {
    let references: Vec<String> = serde_json::from_value(case["references"].clone()).unwrap();
    Arc::new(WireSchema::avro(case["schema"].as_str().unwrap(), &references).unwrap())
}

#[test]
fn what_other_serialisers_write_is_read() {
    let cases = fixtures();
    let cases = cases["avro"].as_array().unwrap();
    assert!(cases.len() >= 11);
    for case in cases {
        let wire = wire(case);
        let (_, data) = frame(&wire).unwrap();
        assert_eq!(schema(case).read(data), Ok(case["expected"].clone()), "{}", case["name"]);
        // Cut off anywhere, it is no value; nor with something behind it.
        for length in 0..data.len() {
            let fault = schema(case).read(&data[..length]).expect_err("cut off");
            assert_eq!(fault.code.as_str(), "not_decoded", "{} {length}", case["name"]);
        }
        let longer = [data, &[0]].concat();
        assert!(schema(case).read(&longer).unwrap_err().message.contains("1 bytes are left"));
    }
}

fn case(name: &str) -> Value {
    let cases = fixtures();
    cases["avro"].as_array().unwrap().iter().find(|case| case["name"] == name).cloned().unwrap()
}

#[test]
fn avro_of_debezium_is_a_change_of_a_document() {
    let spec = with(SourceSpec {
        format: Format::Avro,
        key_format: Format::Avro,
        envelope: Envelope::Debezium,
        ..SourceSpec::default()
    });
    let (key, update, delete) = (case("debezium key"), case("debezium update"), case("debezium delete"));
    let read = |value: Option<&Value>| {
        let record = Record { key: Some(wire(&key)), value: value.map(wire), ..Record::default() };
        let (of_key, of_value) = wanted(&record, &spec.source);
        assert_eq!((of_key, of_value.is_some()), (Some(77), value.is_some()));
        let schemas =
            RecordSchemas { key: Some(Ok(schema(&key))), value: value.map(|value| Ok(schema(value))) };
        DocumentChange::read(&record, &schemas, &spec).unwrap()
    };
    let DocumentChange::Put(document) = read(Some(&update)) else { panic!("a put") };
    assert_eq!((document.id.as_str(), document.text.as_str()), ("17", "Harbour"));
    assert_eq!(payload(&document), json!({"updated": "2024-02-29T12:30:15.25Z"}));
    assert_eq!(read(Some(&delete)), DocumentChange::Delete("17".into()));
    assert_eq!(read(None), DocumentChange::Delete("17".into()));
}

#[test]
fn json_of_a_registry_needs_no_schema() {
    let spec = with(SourceSpec { format: Format::JsonSchema, ..SourceSpec::default() });
    let case = &fixtures()["json_schema"];
    let written = Record { value: Some(wire(case)), key: Some(b"ticket-17".to_vec()), ..Record::default() };
    assert_eq!(wanted(&written, &spec.source), (None, None));
    assert_eq!(put(&written, &spec).text, "Cancel a subscription");
    let plain = common::record(Some("1"), Some(r#"{"text": "x"}"#));
    assert!(refused(&plain, &spec).starts_with("not_decoded @ -: first byte 0x7b: not in the wire format"));
}

#[test]
fn avro_without_its_schema_or_without_a_record_is_refused() {
    let spec = with(SourceSpec { format: Format::Avro, ..SourceSpec::default() });
    let text = case("a key that is a string");
    let record = Record { key: Some(b"k".to_vec()), value: Some(wire(&text)), ..Record::default() };
    assert_eq!(refused(&record, &spec), "unknown_schema @ -: schema 77 is not at hand");
    let schemas = RecordSchemas { key: None, value: Some(Ok(schema(&text))) };
    let fault = DocumentChange::read(&record, &schemas, &spec).expect_err("no record");
    assert!(line(&fault).contains("the string \"ticket-17\" of the value, not a record"), "{}", line(&fault));
    let short = Record { value: Some(vec![0, 1]), ..record };
    assert!(refused(&short, &spec).contains("2 bytes, fewer than 5"));
}

fn avro(schema: &Value) -> WireSchema {
    WireSchema::avro(&schema.to_string(), &[]).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

#[test]
fn data_that_asks_for_too_much_is_refused_before_it_has_it() {
    let long = |number: u8| vec![number, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    // Nulls and empty records take no bytes: an array of them could be of any length.
    let nulls = avro(&json!({"type": "array", "items": "null"}));
    assert!(nulls.read(&long(0xfe)).unwrap_err().message.contains("more values than bytes"));
    assert_eq!(nulls.read(&[6, 0]), Ok(json!([null, null, null])));
    let bytes = avro(&json!("bytes"));
    assert!(bytes.read(&long(0xfe)).unwrap_err().message.contains("bytes, 0 are left"));
    assert!(bytes.read(&[1]).unwrap_err().message.contains("has -1 bytes"));
    let list =
        avro(&json!({"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]}));
    let fault = list.read(&vec![2; 100_000]).unwrap_err();
    assert_eq!(fault.code.as_str(), "too_deep");
    let double = avro(&json!({"type": "record", "name": "R", "fields": [{"name": "x", "type": "double"}]}));
    let fault = double.read(&f64::NAN.to_le_bytes()).unwrap_err();
    assert_eq!(line(&fault), "not_finite @ x: NaN is not a finite number");
    assert!(avro(&json!("long")).read(&[0xff; 10]).unwrap_err().message.contains("more than ten bytes"));
    assert!(avro(&json!("int")).read(&long(0xfe)).unwrap_err().message.contains("is not an int"));
    assert!(avro(&json!("boolean")).read(&[2]).is_err());
    assert!(avro(&json!(["null", "int"])).read(&[4]).unwrap_err().message.contains("no type 2"));
}

#[test]
fn values_beyond_calendars_and_other_types_are_told() {
    let logical = |base: &str, kind: &str| avro(&json!({"type": base, "logicalType": kind}));
    let max = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for (base, kind) in [("long", "timestamp-millis"), ("long", "timestamp-micros"), ("long", "time-micros")]
    {
        assert!(logical(base, kind).read(&max).unwrap_err().message.contains("which no"), "{kind}");
    }
    assert!(
        logical("int", "date")
            .read(&[0xfe, 0xff, 0xff, 0xff, 0x0f])
            .unwrap_err()
            .message
            .contains("no calendar")
    );
    assert_eq!(logical("long", "timestamp-nanos").read(&[2]), Ok(json!("1970-01-01T00:00:00.000000001Z")));
    let duration = avro(&json!({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}));
    assert_eq!(duration.read(&[1, 0, 0, 0, 2, 0, 0, 0, 0xdc, 5, 0, 0]), Ok(json!("P1M2DT1.500S")));
    let big = logical("bytes", "big-decimal");
    assert_eq!(big.read(&[8, 4, 0x04, 0xd2, 4]), Ok(json!(12.34)));
    assert!(big.read(&[8, 40, 0x04, 0xd2, 4]).is_err());
    let error = WireSchema::avro(
        r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": "Gone"}]}"#,
        &[],
    );
    assert!(error.is_err());
    assert!(WireSchema::avro("<html>", &[]).unwrap_err().contains("is not an Avro schema"));
}

fn any_source() -> impl Strategy<Value = SourceSpec> {
    let format =
        prop_oneof![Just(Format::Json), Just(Format::Text), Just(Format::Avro), Just(Format::JsonSchema)];
    let envelope = prop_oneof![Just(Envelope::None), Just(Envelope::Debezium)];
    let mapping = Mapping {
        headers: vec![("h".to_owned(), "a.b".to_owned())],
        rename: vec![("x".to_owned(), "a.c".to_owned())],
        defaults: vec![("a.d".to_owned(), json!(1))],
    };
    (format.clone(), format, envelope).prop_map(move |(format, key_format, envelope)| SourceSpec {
        format,
        key_format,
        envelope,
        mapping: mapping.clone(),
        ..SourceSpec::default()
    })
}

/// Bytes, and what is left of good records when some of their bytes are others.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let good: Vec<Vec<u8>> = fixtures()["avro"]
        .as_array()
        .unwrap()
        .iter()
        .map(wire)
        .chain([event("u", row(1), row(2)).to_string().into_bytes(), br#"{"id": 1, "x": {"a": 2}}"#.to_vec()])
        .collect();
    let changed = (
        prop::sample::select(good),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|(mut bytes, changes)| {
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        });
    prop_oneof![changed, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused(
        source in any_source(), key in prop::option::of(any_value()), value in prop::option::of(any_value()),
        number in 0usize..11, header in prop::option::of(prop::collection::vec(any::<u8>(), 0..4)),
    ) {
        let spec = with(source);
        let schema = schema(&fixtures()["avro"][number]);
        let schemas = RecordSchemas { key: Some(Ok(Arc::clone(&schema))), value: Some(Ok(schema)) };
        let record = Record { key, value, headers: vec![("h".to_owned(), header)], ..Record::default() };
        match DocumentChange::read(&record, &schemas, &spec) {
            Ok(change) => prop_assert!(!change.id().is_empty()),
            Err(fault) => prop_assert!(!fault.message.is_empty() && fault.message.len() < 4000),
        }
    }

    #[test]
    fn any_data_is_read_by_any_schema_or_refused(number in 0usize..11, data in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(fault) = schema(&fixtures()["avro"][number]).read(&data) {
            prop_assert!(!fault.message.is_empty());
        }
    }

    #[test]
    fn whatever_is_no_schema_is_told(text in ".{0,60}") {
        if let Err(error) = WireSchema::avro(&text, &[]) {
            prop_assert!(!error.is_empty());
        }
    }
}
