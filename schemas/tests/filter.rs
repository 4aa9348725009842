//! What filters mean, and every fault of their JSON.

mod common;

use common::line;
use freshet_schemas::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, microseconds};
use serde_json::{Value, json};

fn filter(value: &Value) -> Filter {
    Filter::parse(value, "filter").unwrap_or_else(|fault| panic!("{value}: {fault:?}"))
}

#[test]
fn conditions_hold_or_not() {
    let payload = json!({
        "city": "Berlin", "tags": ["red", "green", null], "n": 3, "x": 2.5, "big": 3.0, "ok": true, "none": null,
        "empty": [], "at": "2026-01-31T12:00:00+01:00", "day": "2026-01-31", "text": "The Quick, brown_fox Ünder",
        "texts": ["one two", "three"], "o": {"p": {"q": [1, 2]}}, "l": [{"v": 1, "w": ["a"]}, {"v": 7}, 4],
        "deep": [[1, 2], [3]], "r": [{"s": [{"v": 1, "u": 1}, {"v": 2, "u": 2}]}, {"s": [{"v": 3, "u": 1}]}, {"s": {"v": 1}}],
    });
    let v = |value: i64| json!({"key": "v", "match": {"value": value}});
    let nested = |key: &str, filter: Value| json!({"nested": {"key": key, "filter": filter}});
    let nested_must = |key: &str, must: Value| json!({"must": nested(key, json!({"must": must}))});
    let cases = [
        (json!({"key": "city", "match": {"value": "Berlin"}}), true),
        (json!({"key": "city", "match": {"value": "berlin"}}), false),
        (json!({"key": "tags", "match": {"value": "green"}}), true),
        (json!({"key": "tags[]", "match": {"value": "green"}}), true),
        (json!({"key": "n", "match": {"value": 3}}), true),
        (json!({"key": "n", "match": {"value": "3"}}), false),
        (json!({"key": "big", "match": {"value": 3}}), false),
        (json!({"key": "ok", "match": {"value": true}}), true),
        (json!({"key": "ok", "match": {"value": 1}}), false),
        (json!({"key": "none", "match": {"value": false}}), false),
        (json!({"key": "city", "match": {"any": ["Paris", "Berlin"]}}), true),
        (json!({"key": "city", "match": {"any": []}}), false),
        (json!({"key": "tags", "match": {"except": ["red"]}}), true),
        (json!({"key": "tags", "match": {"except": ["red", "green"]}}), false),
        (json!({"key": "none", "match": {"except": ["red"]}}), false),
        (json!({"key": "missing", "match": {"except": ["red"]}}), false),
        (json!({"key": "n", "match": {"except": ["red"]}}), true),
        (json!({"key": "text", "match": {"text": "quick THE"}}), true),
        (json!({"key": "text", "match": {"text": "ünder brown_fox"}}), true),
        (json!({"key": "text", "match": {"text": "brown"}}), false),
        (json!({"key": "texts", "match": {"text": "one three"}}), false),
        (json!({"key": "texts", "match": {"text": "two one"}}), true),
        (json!({"key": "n", "range": {"gte": 3, "lt": 3.5}}), true),
        (json!({"key": "n", "range": {"gt": 3}}), false),
        (json!({"key": "x", "range": {"lte": 2.5}}), true),
        (json!({"key": "city", "range": {"gte": 0}}), false),
        (json!({"key": "at", "range": {"gte": "2026-01-31T11:00:00Z", "lte": "2026-01-31T11:00:00"}}), true),
        (json!({"key": "day", "range": {"gte": "2026-01-31", "lt": "2026-02-01"}}), true),
        (json!({"key": "day", "range": {"gt": "2026-01-31"}}), false),
        (json!({"key": "n", "range": {"gt": "2026-01-31"}}), false),
        (json!({"key": "o.p.q", "match": {"value": 2}}), true),
        (json!({"key": "o.p", "match": {"value": 2}}), false),
        (json!({"key": "l[].v", "match": {"value": 7}}), true),
        (json!({"key": "l.v", "match": {"value": 7}}), false),
        (json!({"key": "l[].w", "match": {"value": "a"}}), true),
        (json!({"key": "deep", "match": {"value": 1}}), false),
        (json!({"key": "deep[]", "match": {"value": 1}}), true),
        (json!({"key": "deep[][]", "match": {"value": 3}}), true),
        (json!({"is_empty": {"key": "missing"}}), true),
        (json!({"is_empty": {"key": "none"}}), true),
        (json!({"is_empty": {"key": "empty"}}), true),
        (json!({"is_empty": {"key": "tags"}}), false),
        (json!({"is_empty": {"key": "l[].v"}}), false),
        (json!({"is_null": {"key": "none"}}), true),
        (json!({"is_null": {"key": "tags"}}), true),
        (json!({"is_null": {"key": "missing"}}), false),
        (json!({"has_id": ["other", "doc"]}), true),
        (json!({"has_id": [7]}), false),
        (json!({"has_id": ["z", "doc", "a", "doc", 3]}), true),
        (nested("l", json!({"must": {"key": "v", "match": {"value": 7}}})), true),
        (nested("l[]", json!({"must": {"key": "v", "match": {"value": 7}}})), true),
        (nested("l", json!({"must": [v(1), {"key": "w", "match": {"value": "a"}}]})), true),
        (nested("l", json!({"must": [v(7), {"key": "w", "match": {"value": "a"}}]})), false),
        (nested("l", json!({"must": [v(7), {"is_empty": {"key": "w"}}]})), true),
        (nested("l", json!({"must_not": [v(1), v(7)]})), false),
        (nested("l", json!({"should": [v(2), v(7)]})), true),
        (nested("l", json!({})), true),
        (nested("l", json!({"must": [v(7), {"has_id": ["doc"]}]})), true),
        (nested("l", json!({"must": [v(7), {"has_id": ["other"]}]})), false),
        (nested("o", json!({})), false),
        (nested("tags", json!({})), false),
        (nested("missing", json!({})), false),
        (nested("r[].s", json!({"must": [v(1), {"key": "u", "range": {"gt": 1}}]})), false),
        (nested("r[].s", json!({"must": [v(1), {"key": "u", "range": {"gt": 0}}]})), true),
        (nested("r", nested_must("s", json!([v(2), {"key": "u", "match": {"value": 1}}]))), false),
        (nested("r", nested_must("s", json!([v(2), {"key": "u", "match": {"value": 2}}]))), true),
    ];
    for (condition, expect) in cases {
        let holds = |value: Value| filter(&value).matches("doc", &payload);
        assert_eq!(holds(json!({"must": condition})), expect, "{condition}");
        assert_eq!(holds(json!({"should": [condition]})), expect, "{condition}");
        assert_eq!(holds(json!({"must_not": [condition]})), !expect, "{condition}");
        assert_eq!(holds(json!({"must": [{"must_not": condition}]})), !expect, "{condition}");
    }
    let (yes, no) = (json!({"key": "n", "match": {"value": 3}}), json!({"key": "n", "match": {"value": 4}}));
    let cases = [
        (json!({}), true),
        (json!({"must": [], "should": [], "must_not": null}), true),
        (json!({"must": [yes, no]}), false),
        (json!({"should": [yes, no]}), true),
        (json!({"must": [yes], "should": [no]}), false),
        (json!({"must_not": [yes, no]}), false),
        (json!({"min_should": {"conditions": [yes, no, yes], "min_count": 2}}), true),
        (json!({"min_should": {"conditions": [yes, no], "min_count": 2}}), false),
    ];
    for (value, expect) in cases {
        let read = filter(&value);
        assert_eq!(read.matches("doc", &payload), expect, "{value}");
        let text = serde_json::to_string(&read).expect("a filter is JSON");
        assert_eq!(serde_json::from_str::<Filter>(&text).expect("and back"), read);
    }
}

#[test]
fn times_have_many_forms() {
    let second = 1_000_000;
    for (text, expect) in [
        ("1970-01-01", Some(0)),
        ("1970-01-01T00:00:01", Some(second)),
        ("1970-01-01T00:00:01.5Z", Some(second * 3 / 2)),
        ("1970-01-01T02:00:00+02:00", Some(0)),
        ("1969-12-31 23:59:59Z", Some(-second)),
        ("yesterday", None),
        ("1970", None),
        ("", None),
    ] {
        assert_eq!(microseconds(text), expect, "{text}");
    }
}

#[test]
fn faults_name_the_condition() {
    let refused = |value: Value, expect: &str| match Filter::parse(&value, "filter") {
        Ok(filter) => panic!("{value}: {filter:?}"),
        Err(fault) => {
            let line = line(&fault);
            assert!(line.contains(expect), "{value}: {line}");
        }
    };
    let good = json!({"has_id": ["a"]});
    refused(json!([]), "filter: an array is not an object");
    refused(json!({"most": []}), "filter.most");
    refused(json!({"must": 3}), "filter.must: the number 3 is not a condition");
    refused(json!({"must": [good, {"key": "a", "match": {"value": 1.5}}]}), "filter.must[1].match.value");
    refused(json!({"must": [good, {"key": "a", "match": {"valeu": 1}}]}), "filter.must[1].match.valeu");
    refused(json!({"should": {"key": "a", "match": {"any": "a"}}}), "filter.should.match.any");
    refused(json!({"should": {"key": "a", "match": {"any": ["a", []]}}}), "filter.should.match.any[1]");
    refused(json!({"must": {"key": "a", "match": {"text": " ,"}}}), "filter.must.match.text");
    refused(
        json!({"must": {"key": "a", "match": {"value": 1, "text": "a"}}}),
        "filter.must.match: takes one of",
    );
    refused(json!({"must": {"key": "a", "match": {"phrase": "a"}}}), "\"phrase\" is not supported yet");
    refused(json!({"must": {"key": "a"}}), "filter.must.match: missing");
    refused(json!({"must": {"match": {"value": 1}}}), "filter.must.key: missing");
    refused(json!({"must": {"key": "a..b", "match": {"value": 1}}}), "filter.must.key");
    refused(json!({"must": {"key": "a[0]", "match": {"value": 1}}}), "filter.must.key");
    refused(json!({"must": {"key": "a", "range": {}}}), "filter.must.range: takes at least one");
    refused(
        json!({"must": {"key": "a", "range": {"gt": "soon"}}}),
        "filter.must.range.gt: the string \"soon\"",
    );
    refused(json!({"must": {"key": "a", "range": {"gt": "2026-01-01", "lt": 3}}}), "filter.must.range.lt");
    refused(json!({"must": {"key": "a", "geo_radius": {}}}), "\"geo_radius\" is not supported yet");
    refused(json!({"must": {"nested": {"key": "a"}}}), "filter.must.nested.filter: missing");
    refused(json!({"must": {"nested": {"filter": {}}}}), "filter.must.nested.key: missing");
    refused(
        json!({"must": {"nested": {"key": "a", "filter": {}}, "key": "b"}}),
        "filter.must.nested: unknown field",
    );
    refused(
        json!({"must": {"nested": {"key": "a", "filter": {"must": {"key": "b"}}}}}),
        "filter.must.nested.filter.must.match: missing",
    );
    refused(json!({"must": {"is_empty": {"key": "a"}, "key": "b"}}), "filter.must.is_empty");
    refused(json!({"must": {}}), "filter.must: the condition says nothing");
    refused(json!({"must": {"has_id": [1.5]}}), "filter.must.has_id[0]");
    refused(json!({"min_should": {"conditions": []}}), "filter.min_should.min_count: missing");
    let deep = (0..FILTER_DEPTH_MAX).fold(json!({"must": good}), |below, _| json!({"must": [below]}));
    refused(deep, "deep");
    let nest = |below| json!({"must": {"nested": {"key": "a", "filter": below}}});
    refused(
        (0..FILTER_DEPTH_MAX).fold(json!({"must": {"is_null": {"key": "a"}}}), |below, _| nest(below)),
        "deep",
    );
    let many: Vec<&Value> = vec![&good; FILTER_CONDITIONS_MAX + 1];
    refused(json!({"must": many}), "more than");
}
