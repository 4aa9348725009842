//! Lines and records: examples of the table in `line`, and random records that must survive.

use freshet_schemas::Record;
use proptest::prelude::*;

use super::line::{decode, encode, is_object};

fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn read(line: &str) -> (Option<String>, Option<String>) {
    let text = |part: Option<Vec<u8>>| part.map(|bytes| String::from_utf8(bytes).unwrap());
    let record = decode(line.as_bytes()).unwrap();
    assert_eq!(record.headers, []);
    (text(record.key), text(record.value))
}

fn written(record: &Record) -> String {
    let mut lines = Vec::new();
    encode(record, &mut lines);
    String::from_utf8(lines).unwrap()
}

#[test]
fn a_line_is_a_value_and_its_id_the_key() {
    for (line, key) in [
        (r#"{"id":"a","text":"x"}"#, Some("a")),
        (r#" { "text" : "{\"id\":\"no\"}", "n": {"id": "inner"}, "id" : "a" } "#, Some("a")),
        (r#"{"id":-17}"#, Some("-17")),
        (r#"{"id":123456789012345678901234567890}"#, Some("123456789012345678901234567890")),
        (r#"{"\u0069d":"gr\u00fc\u00dfe"}"#, Some("grüße")),
        (r#"{"id":"one","id":"two"}"#, Some("two")),
        (r#"{"id":1.5}"#, None),
        (r#"{"id":null}"#, None),
        (r#"{"id":["a"]}"#, None),
        (r#"{"id":{"id":"a"}}"#, None),
        (r#"{}"#, None),
        (r#"["id"]"#, None),
        ("null", None),
        ("not json", None),
        (r#"{"id":"a""#, None),
        (r#"{"id":"a"} {"id":"b"}"#, None),
        (r#"{"id":"a",}"#, None),
    ] {
        assert_eq!(read(line), (key.map(str::to_owned), Some(line.to_owned())), "{line}");
    }
}

#[test]
fn envelopes_write_all_three_out() {
    let some = |text: &str| Some(text.to_owned());
    for (line, key, value) in [
        (r#"{"key":"a","value":{"id":"b", "n":1.10}}"#, some("a"), some(r#"{"id":"b", "n":1.10}"#)),
        (r#"{"value" : "text" , "key" : null}"#, None, some(r#""text""#)),
        (r#"{"key":"a","value":null}"#, some("a"), None),
        (r#"{"key":7,"value":[]}"#, some("7"), some("[]")),
        (r#"{"key":{"id": 7},"value":0}"#, some(r#"{"id": 7}"#), some("0")),
        (r#"{"key":"a","value_base64":"bnVsbA==","headers":{}}"#, some("a"), some("null")),
        (r#"{"key_base64":"YQ==","value":true,"headers":[]}"#, some("a"), some("true")),
    ] {
        assert_eq!(read(line), (key, value), "{line}");
    }
}

#[test]
fn what_is_no_envelope_is_a_value() {
    for line in [
        r#"{"key":"a"}"#,
        r#"{"value":1}"#,
        r#"{"key":"a","value":1,"more":2}"#,
        r#"{"key":"a","key_base64":"YQ==","value":1}"#,
        r#"{"key":"a","key":"b","value":1}"#,
        r#"{"key":"a","value":1,"value_base64":"YQ=="}"#,
        r#"{"key":"a","value_base64":"?"}"#,
        r#"{"key_base64":7,"value":1}"#,
        r#"{"key":"a","value":1,"headers":7}"#,
        r#"{"key":"a","value":1,"headers":{"a":[]}}"#,
        r#"{"key":"a","value":1,"headers":[["a"]]}"#,
        r#"{"key":"a","value":1,"headers":{"a":{"base64":"AA==","more":1}}}"#,
    ] {
        assert_eq!(read(line), (None, Some(line.to_owned())), "{line}");
    }
}

#[test]
fn headers_are_an_object_or_pairs() {
    let expected = vec![
        ("z".to_owned(), bytes("text")),
        ("a".to_owned(), None),
        ("n".to_owned(), bytes("3")),
        ("t".to_owned(), bytes("true")),
        ("b".to_owned(), Some(vec![0, 255])),
    ];
    for headers in [
        r#"{"z":"text","a":null,"n":3,"t":true,"b":{"base64":"AP8="}}"#,
        r#"[["z","text"],["a",null],["n",3],["t",true],["b",{"base64":"AP8="}]]"#,
    ] {
        let record = decode(format!(r#"{{"key":"k","value":null,"headers":{headers}}}"#).as_bytes()).unwrap();
        assert_eq!(record, Record { key: bytes("k"), headers: expected.clone(), ..Record::default() });
    }
}

#[test]
fn records_are_written_as_plainly_as_they_can_be() {
    let record = |key: Option<&str>, value: Option<&str>| Record {
        key: key.and_then(bytes),
        value: value.and_then(bytes),
        ..Record::default()
    };
    for (record, line) in [
        (record(Some("a"), Some(r#"{"id": "a"}"#)), r#"{"id": "a"}"#),
        (record(Some("7"), Some(r#"{"id":7}"#)), r#"{"id":7}"#),
        (record(None, Some(r#"{"n":7}"#)), r#"{"n":7}"#),
        (record(Some("b"), Some(r#"{"id": "a"}"#)), r#"{"key":"b","value":{"id": "a"}}"#),
        (record(Some("a"), None), r#"{"key":"a","value":null}"#),
        (record(Some("a"), Some("null")), r#"{"key":"a","value_base64":"bnVsbA=="}"#),
        (record(Some("a"), Some("no json")), r#"{"key":"a","value_base64":"bm8ganNvbg=="}"#),
        (record(None, Some("no json")), r#"{"key":null,"value_base64":"bm8ganNvbg=="}"#),
        (record(Some("a"), Some("{\n\"id\":\"a\"}")), r#"{"key":"a","value_base64":"ewoiaWQiOiJhIn0="}"#),
        (Record { key: Some(vec![255]), ..Record::default() }, r#"{"key_base64":"/w==","value":null}"#),
        (
            Record { headers: vec![("h".into(), bytes("1"))], ..record(Some("a"), Some(r#"{"id":"a"}"#)) },
            r#"{"key":"a","value":{"id":"a"},"headers":{"h":"1"}}"#,
        ),
        (
            Record { headers: vec![("h".into(), None), ("h".into(), Some(vec![255]))], ..record(None, None) },
            r#"{"key":null,"value":null,"headers":[["h",null],["h",{"base64":"/w=="}]]}"#,
        ),
    ] {
        assert_eq!(written(&record), format!("{line}\n"));
    }
}

#[test]
fn blank_lines_are_no_records() {
    for line in ["", " ", "\t \r"] {
        assert_eq!(decode(line.as_bytes()), None);
    }
}

#[test]
fn only_bytes_after_the_carriage_return_are_cut() {
    assert_eq!(decode(b"{\"id\":\"a\"}\r").unwrap().value, bytes(r#"{"id":"a"}"#));
    assert_eq!(decode(b"\xff\r\r").unwrap().value, Some(vec![0xff, b'\r']));
}

/// Byte strings that are often JSON, or almost.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let json = prop::sample::select(vec![
        "{}",
        "null",
        "\"\"",
        "[1]",
        "{\"id\":\"k\"}",
        "{\"id\":1}",
        "{\"key\":\"k\",\"value\":1}",
        "k",
        "1",
        "\r",
        "\n",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        prop::collection::vec(json, 0..3).prop_map(|parts| parts.concat().into_bytes()),
        ".{0,8}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn every_record_survives(
        key in prop::option::of(part()),
        value in prop::option::of(part()),
        headers in prop::collection::vec((".{0,3}", prop::option::of(part())), 0..4),
    ) {
        let record = Record { key, value, headers, ..Record::default() };
        let mut lines = Vec::new();
        encode(&record, &mut lines);
        let line = lines.strip_suffix(b"\n").unwrap();
        prop_assert!(!line.contains(&b'\n'));
        prop_assert!(is_object(line));
        prop_assert_eq!(decode(line).unwrap(), record);
    }

    /// What `reader` relies on: a line without an end is taken for whole only if nothing can follow.
    #[test]
    fn no_beginning_of_an_object_is_an_object(value in part(), key in prop::option::of(part())) {
        let mut lines = Vec::new();
        encode(&Record { key, value: Some(value), ..Record::default() }, &mut lines);
        let line = lines.trim_ascii_end();
        for end in 0..line.len() {
            prop_assert!(!is_object(&line[..end]));
        }
    }

    #[test]
    fn no_line_is_lost_or_panics(line in prop::collection::vec(any::<u8>(), 0..40)) {
        let record = decode(&line);
        prop_assert_eq!(record.is_none(), line.trim_ascii().is_empty());
    }
}
