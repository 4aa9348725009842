//! Every way to read a document record, and every fault.

mod common;

use std::collections::BTreeMap;

use common::{line, record, spec};
use freshet_schemas::{
    Document, DocumentChange, DocumentSpec, Record, SparseVector, VectorKind, VectorSpec, VectorValue,
};

fn put(key: Option<&str>, value: &str) -> Document {
    match DocumentChange::parse(&record(key, Some(value)), &spec()) {
        Ok(DocumentChange::Put(document)) => document,
        other => panic!("{value}: {other:?}"),
    }
}

fn fault_of(record: &Record, spec: &DocumentSpec) -> String {
    match DocumentChange::parse(record, spec) {
        Ok(change) => panic!("no fault: {change:?}"),
        Err(fault) => line(&fault),
    }
}

/// The value is refused with this line.
fn refused(value: &str, expect: &str) {
    assert_eq!(fault_of(&record(Some("k"), Some(value)), &spec()), expect, "{value}");
}

/// A document without text whose `vectors` are refused with this line.
fn vectors_refused(vectors: &str, expect: &str) {
    refused(&format!("{{\"text\": \"x\", \"vectors\": {vectors}}}"), expect);
}

#[test]
fn id_text_and_payload_are_taken_apart() {
    let value = r#"{"z": 1, "id": "a", "text": "end your plan", "b": {"y": null, "x": [1.0, "ü"]},
                    "title": "Cancel", "a": 18446744073709551615, "vectors": {}}"#;
    let expect = Document {
        id: "a".to_owned(),
        title: String::new(),
        text: "Cancel end your plan".to_owned(),
        payload: r#"{"z":1,"b":{"y":null,"x":[1.0,"ü"]},"a":18446744073709551615}"#.to_owned(),
        vectors: BTreeMap::new(),
    };
    assert_eq!(put(None, value), expect);
    assert_eq!(put(Some("a"), value), expect);
}

#[test]
fn the_id_is_in_the_value_or_in_the_key() {
    assert_eq!(put(Some("k"), r#"{"text": "x"}"#).id, "k");
    assert_eq!(put(Some("k"), r#"{"id": null, "text": "x"}"#).id, "k");
    assert_eq!(put(Some("-7"), r#"{"id": -7, "text": "x"}"#).id, "-7");
    assert_eq!(put(None, r#"{"id": 18446744073709551615, "text": "x"}"#).id, "18446744073709551615");
}

#[test]
fn a_title_is_apart_from_the_text_and_stays_in_the_payload() {
    let titled = DocumentSpec { title: Some("title".to_owned()), ..spec() };
    let parse =
        |value: &str, spec: &DocumentSpec| DocumentChange::parse(&record(Some("k"), Some(value)), spec);
    let put = |value: &str| match parse(value, &titled) {
        Ok(DocumentChange::Put(document)) => document,
        other => panic!("{value}: {other:?}"),
    };
    let document = put(r#"{"title": "Cancel", "text": "end your plan", "a": 1}"#);
    assert_eq!((document.title.as_str(), document.text.as_str()), ("Cancel", "end your plan"));
    assert_eq!(document.payload, r#"{"title":"Cancel","a":1}"#);
    assert_eq!(document.whole(), "Cancel end your plan");
    let bare = put(r#"{"title": "Cancel"}"#);
    assert_eq!((bare.text.as_str(), bare.whole().as_ref()), ("", "Cancel"));
    assert_eq!(put(r#"{"title": null, "text": "x"}"#).title, "");
    let faults = [
        (r#"{"title": 7, "text": "x"}"#.to_owned(), "title"),
        (format!(r#"{{"title": "{}", "text": "{}"}}"#, "a".repeat(60), "b".repeat(41)), "101 bytes"),
        (r#"{"title": " ", "text": ""}"#.to_owned(), "no text"),
    ];
    for (value, expect) in faults {
        let fault = line(&parse(&value, &titled).expect_err("refused"));
        assert!(fault.contains(expect), "{fault}");
    }
    // A field of its own, which is no text field otherwise.
    let other = DocumentSpec { title: Some("name".to_owned()), ..spec() };
    let value = r#"{"name": "N", "title": "T", "text": "x"}"#;
    let Ok(DocumentChange::Put(document)) = parse(value, &other) else { panic!("{value}") };
    assert_eq!((document.title.as_str(), document.text.as_str()), ("N", "T x"));
    assert_eq!(document.payload, r#"{"name":"N"}"#);
}

#[test]
fn absent_null_and_empty_text_fields_are_skipped() {
    assert_eq!(put(Some("k"), r#"{"text": "x"}"#).text, "x");
    assert_eq!(put(Some("k"), r#"{"title": null, "text": "x"}"#).text, "x");
    assert_eq!(put(Some("k"), r#"{"title": "x", "text": ""}"#).text, "x");
    assert_eq!(put(Some("k"), r#"{"title": "x ", "text": " y"}"#).text, "x   y");
}

#[test]
fn a_record_without_value_deletes_its_key() {
    let parse = |key| DocumentChange::parse(&record(key, None), &spec());
    assert_eq!(parse(Some("a")), Ok(DocumentChange::Delete("a".to_owned())));
    let missing = fault_of(&record(None, None), &spec());
    assert_eq!(missing, "missing_id @ id: no id: the value has no \"id\" and the record has no key");
    assert_eq!(parse(Some("a")).expect("a delete").id(), "a");
}

#[test]
fn ids_that_are_missing_wrong_or_two_are_refused() {
    let spec = spec();
    let fault = |key, value| fault_of(&record(key, Some(value)), &spec);
    assert_eq!(
        fault(None, r#"{"text": "x"}"#),
        "missing_id @ id: no id: the value has no \"id\" and the record has no key"
    );
    assert_eq!(
        fault(Some(""), r#"{"text": "x"}"#),
        "missing_id @ id: no id: the value has no \"id\" and the record's key is empty"
    );
    assert_eq!(
        fault(Some("b"), r#"{"id": "a", "text": "x"}"#),
        "id_mismatch @ id: id \"a\" is not the record's key \"b\""
    );
    assert_eq!(
        fault(Some(""), r#"{"id": "a", "text": "x"}"#),
        "id_mismatch @ id: id \"a\" is not the record's key \"\""
    );
    assert_eq!(fault(None, r#"{"id": "", "text": "x"}"#), "invalid_value @ id: the id is empty");
    assert_eq!(
        fault(None, r#"{"id": 1.0, "text": "x"}"#),
        "invalid_value @ id: the number 1.0 is not an id: a string or an integer"
    );
    assert_eq!(
        fault(None, r#"{"id": ["a"], "text": "x"}"#),
        "invalid_value @ id: an array is not an id: a string or an integer"
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let mut broken = record(Some("k"), Some("{}"));
    broken.value = Some(b"{\"text\": \"\xff\"}".to_vec());
    assert_eq!(fault_of(&broken, &spec()), "not_utf8 @ -: value is not UTF-8 from byte 10 on");
    broken.value = None;
    broken.key = Some(b"ab\xff".to_vec());
    assert_eq!(fault_of(&broken, &spec()), "not_utf8 @ -: key is not UTF-8 from byte 2 on");
}

#[test]
fn what_is_not_a_json_object_is_refused_with_its_position() {
    refused("", "not_json @ -: not JSON: EOF while parsing a value at line 1 column 0");
    refused("{\"a\": 1,\n \"b\" 2}", "not_json @ -: not JSON: expected `:` at line 2 column 6");
    refused("{} {}", "not_json @ -: not JSON: trailing characters at line 1 column 4");
    refused("[1]", "not_json @ -: value is an array, not a JSON object");
    refused("null", "not_json @ -: value is null, not a JSON object");
    refused("\"text\"", "not_json @ -: value is the string \"text\", not a JSON object");
    let nested = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
    refused(&nested, "too_deep @ -: nested more than 127 deep at line 1 column 133");
}

#[test]
fn text_fields_must_be_strings() {
    refused(r#"{"text": 4}"#, "invalid_value @ text: the number 4 is not a string");
    refused(r#"{"text": "x", "title": true}"#, "invalid_value @ title: true is not a string");
    refused(r#"{"text": ["x"]}"#, "invalid_value @ text: an array is not a string");
}

#[test]
fn text_is_needed_unless_all_that_is_made_from_it_is_there() {
    let none = "empty_text @ title: no text in \"title\", \"text\"";
    refused(r#"{"id": "k"}"#, none);
    refused(r#"{"title": " ", "text": "\n\t"}"#, none);
    refused(r#"{"vectors": {"dense": [1, 2, 3], "image": [1, 2]}}"#, none);
    let all = r#"{"vectors": {"dense": [1, 2, 3], "colbert": [[1, 0]],
                 "bm25": {"indices": [], "values": []}}}"#;
    assert_eq!(put(Some("k"), all).text, "");
    let image = VectorSpec { kind: VectorKind::Dense, size: Some(2), from_text: false, terms: false };
    let spec = DocumentSpec { vectors: BTreeMap::from([("image".to_owned(), image)]), ..spec() };
    assert!(DocumentChange::parse(&record(Some("k"), Some("{}")), &spec).is_ok());
}

#[test]
fn what_is_too_large_is_refused_with_both_sizes() {
    let value = |length: usize| format!(r#"{{"title": "{}", "text": "x"}}"#, "t".repeat(length));
    assert_eq!(put(Some("k"), &value(98)).text.len(), 100);
    refused(&value(99), "too_large @ title: text has 101 bytes, at most 100 are accepted");
    refused(&value(10 << 20), "too_large @ title: text has 10485762 bytes, at most 100 are accepted");
    let max = spec().value_bytes_max();
    let expect = format!("too_large @ -: record has {} bytes, at most {max} are accepted", max + 1);
    refused(&" ".repeat(max + 1), &expect);
}

#[test]
fn vectors_of_every_kind_are_read() {
    let value = r#"{"text": "x", "vectors": {"dense": [0.1, -2, 3e2], "image": null,
                    "bm25": {"values": [1, 2.5], "indices": [4294967295, 7]},
                    "colbert": [[0.6, 0.8], [1, 0]]}}"#;
    let sparse = SparseVector { indices: vec![7, 4_294_967_295], values: vec![2.5, 1.0] };
    let expect = [
        ("bm25", VectorValue::Sparse(sparse)),
        ("colbert", VectorValue::Multi(vec![vec![0.6, 0.8], vec![1.0, 0.0]])),
        ("dense", VectorValue::Dense(vec![0.1, -2.0, 300.0])),
    ];
    let found = put(Some("k"), value).vectors;
    assert_eq!(found, expect.map(|(name, vector)| (name.to_owned(), vector)).into());
    assert!(put(Some("k"), r#"{"text": "x", "vectors": null}"#).vectors.is_empty());
}

#[test]
fn vectors_that_do_not_fit_their_field_are_refused() {
    vectors_refused("[1]", "invalid_value @ vectors: an array is not an object");
    vectors_refused(
        r#"{"splade": [1]}"#,
        "unknown_vector @ vectors.splade: vector \"splade\" is not configured; \
         known: \"bm25\", \"colbert\", \"dense\", \"image\"",
    );
    vectors_refused(
        r#"{"dense": [1, 2]}"#,
        "wrong_dimension @ vectors.dense: the vector has 2 dimensions, the index has 3",
    );
    vectors_refused(
        r#"{"colbert": [[1, 2, 3]]}"#,
        "wrong_dimension @ vectors.colbert: the vector has 3 dimensions, the index has 2",
    );
    vectors_refused(
        r#"{"dense": [[1, 2, 3]]}"#,
        "invalid_value @ vectors.dense: the vector is multi, the field is dense: \
         it takes an array of numbers",
    );
    vectors_refused(
        r#"{"colbert": [1, 2]}"#,
        "invalid_value @ vectors.colbert: the vector is dense, the field is multi: \
         it takes an array of rows of numbers",
    );
    vectors_refused(
        r#"{"bm25": [1, 2]}"#,
        "invalid_value @ vectors.bm25: the vector is dense, the field is sparse: \
         it takes an object of \"indices\" and \"values\"",
    );
    vectors_refused(
        r#"{"dense": "x"}"#,
        "invalid_value @ vectors.dense: the string \"x\" is not a vector: \
         numbers, rows of numbers, or indices and values",
    );
}

#[test]
fn malformed_vectors_are_refused() {
    vectors_refused(r#"{"dense": []}"#, "invalid_value @ vectors.dense: the vector is empty");
    vectors_refused(r#"{"colbert": []}"#, "invalid_value @ vectors.colbert: the vector is empty");
    vectors_refused(r#"{"colbert": [[]]}"#, "invalid_value @ vectors.colbert[0]: the vector is empty");
    vectors_refused(
        r#"{"colbert": [[1, 2], [1]]}"#,
        "wrong_dimension @ vectors.colbert[1]: the row has 1 dimensions, the first row has 2",
    );
    vectors_refused(
        r#"{"colbert": [[1, 2], 3]}"#,
        "invalid_value @ vectors.colbert[1]: the number 3 is not a row of numbers",
    );
    vectors_refused(
        r#"{"dense": [1, "2", 3]}"#,
        "invalid_value @ vectors.dense[1]: the string \"2\" is not a number",
    );
    vectors_refused(r#"{"dense": [1, null, 3]}"#, "invalid_value @ vectors.dense[1]: null is not a number");
    let sparse = |vector: &str, expect: &str| {
        vectors_refused(&format!("{{\"bm25\": {vector}}}"), expect);
    };
    sparse(r#"{"indices": [1, 2], "values": [1]}"#, "invalid_value @ vectors.bm25: 2 indices and 1 values");
    sparse(
        r#"{"indices": [2, 1, 2], "values": [1, 1, 1]}"#,
        "invalid_value @ vectors.bm25.indices: index 2 stands twice",
    );
    for (index, found) in [("-1", "the number -1"), ("1.5", "the number 1.5"), ("\"a\"", "the string \"a\"")]
    {
        sparse(
            &format!(r#"{{"indices": [0, {index}], "values": [1, 1]}}"#),
            &format!(
                "invalid_value @ vectors.bm25.indices[1]: {found} is not an integer from 0 to 4294967295"
            ),
        );
    }
    sparse(r#"{"indices": [1]}"#, "invalid_value @ vectors.bm25.values: a sparse vector needs \"values\"");
    sparse(
        r#"{"indices": 1, "values": [1]}"#,
        "invalid_value @ vectors.bm25.indices: the number 1 is not an array",
    );
    sparse(
        r#"{"indices": [1], "values": [1], "size": 3}"#,
        "unknown_field @ vectors.bm25.size: unknown field \"size\"; known: \"indices\", \"values\"",
    );
}

#[test]
fn numbers_that_no_float_holds_are_named_with_their_field() {
    vectors_refused(
        r#"{"dense": [1, 1e39, 3]}"#,
        "not_finite @ vectors.dense[1]: 1e+39 is beyond the range of 32-bit floats",
    );
    vectors_refused(
        r#"{"dense": [1, -1e400, 3]}"#,
        "not_finite @ vectors.dense[1]: -1e400 at line 1 column 45 is beyond the range of numbers",
    );
    for literal in ["NaN", "Infinity", "-Infinity", "nan"] {
        let value = format!("{{\"text\": \"NaN\",\n\"vectors\": {{\"colbert\": [[1, 2], [3, {literal}]]}}}}");
        let fault = fault_of(&record(Some("k"), Some(&value)), &spec());
        let expect = format!("not_finite @ vectors.colbert[1][1]: {literal} at line 2 column ");
        assert!(fault.starts_with(&expect), "{fault}");
        assert!(fault.ends_with(" is not a finite number"), "{fault}");
        vectors_refused(
            &format!(r#"{{"bm25": {{"indices": [1], "values": ["{literal}"]}}}}"#),
            &format!("not_finite @ vectors.bm25.values[0]: \"{literal}\" is not a finite number"),
        );
    }
    // The largest float and the smallest are numbers.
    put(Some("k"), r#"{"text": "x", "vectors": {"dense": [3.4028234e38, 1e-45, 1e-400]}}"#);
    refused(
        r#"{"text": "x", "price": NaN}"#,
        "not_finite @ price: NaN at line 1 column 24 is not a finite number",
    );
}

#[test]
fn a_payload_of_its_own_field_may_have_any_key() {
    let wrapped = DocumentSpec {
        payload: Some("payload".to_owned()),
        text: Vec::new(),
        vectors: BTreeMap::new(),
        ..spec()
    };
    let payload_of = |value: &str| match DocumentChange::parse(&record(Some("7"), Some(value)), &wrapped) {
        Ok(DocumentChange::Put(document)) => {
            assert_eq!(document.id, "7");
            document.payload
        }
        other => panic!("{value}: {other:?}"),
    };
    let inner = r#"{"id":"other","vectors":[1],"payload":{"a":null},"text":"x"}"#;
    assert_eq!(payload_of(&format!("{{\"payload\": {inner}, \"beside\": 1}}")), inner);
    assert_eq!(payload_of("{}"), "{}");
    assert_eq!(payload_of(r#"{"payload": null}"#), "{}");
    let wrong = fault_of(&record(Some("7"), Some(r#"{"payload": [1]}"#)), &wrapped);
    assert!(wrong.contains("payload") && wrong.contains("an array is not an object"), "{wrong}");
}
