//! Lists, counts, groups, pages and formulas, as queries have them.

mod common;

use common::{limits, line, record};
use freshet_schemas::{
    Ask, Cursor, Direction, Expression, Grouping, IdOrder, List, Node, NodeQuery, OrderBy, OrderValue, Query,
};
use serde_json::json;

fn parse(fields: &str) -> Result<Query, String> {
    let value = format!("{{\"id\": \"q\"{fields}}}");
    Query::parse(&record(Some("q"), Some(&value)), &limits()).map_err(|refusal| line(&refusal.fault))
}

fn query(fields: &str) -> Query {
    parse(fields).unwrap_or_else(|line| panic!("{fields}: {line}"))
}

fn plan(fields: &str) -> Node {
    match query(fields).ask {
        Ask::Plan(node) => node,
        other @ (Ask::Text { .. } | Ask::Count | Ask::Page(_)) => panic!("{other:?} is no plan"),
    }
}

#[test]
fn what_searches_for_nothing_lists_all() {
    let listed = |list| Some(NodeQuery::List(list));
    let by_number = List { order: IdOrder::Number, from: Some("17".to_owned()) };
    for (fields, expected) in [
        ("", List::default()),
        (r#", "filter": {"must": []}, "limit": 5"#, List::default()),
        (r#", "query": {"list": {}}"#, List::default()),
        (
            r#", "query": {"list": {"order": "id", "from": "x"}}"#,
            List { from: Some("x".into()), ..List::default() },
        ),
        (r#", "query": {"list": {"order": "number", "from": 17}}"#, by_number),
    ] {
        assert_eq!(plan(fields).query, listed(expected), "{fields}");
    }
    let leaves = plan(r#", "prefetch": [{}, {"query": {"order_by": "a"}}], "query": {"fusion": "rrf"}"#);
    assert_eq!(leaves.prefetch[0].query, listed(List::default()));
}

#[test]
fn order_by_takes_every_form() {
    let order = |direction, start_from| {
        Some(NodeQuery::OrderBy(OrderBy { key: "a.b[]".into(), direction, start_from }))
    };
    for (form, expected) in [
        (r#""a.b[]""#, order(Direction::Asc, None)),
        (r#"{"key": "a.b[]"}"#, order(Direction::Asc, None)),
        (r#"{"key": "a.b[]", "direction": "desc"}"#, order(Direction::Desc, None)),
        (r#"{"key": "a.b[]", "start_from": 3}"#, order(Direction::Asc, Some(OrderValue::Integer(3)))),
        (r#"{"key": "a.b[]", "start_from": 3.5}"#, order(Direction::Asc, Some(OrderValue::Float(3.5)))),
        (
            r#"{"key": "a.b[]", "start_from": "1970-01-02"}"#,
            order(Direction::Asc, Some(OrderValue::Integer(86_400_000_000))),
        ),
    ] {
        assert_eq!(plan(&format!(", \"query\": {{\"order_by\": {form}}}")).query, expected, "{form}");
    }
}

#[test]
fn order_values_have_one_exact_order() {
    let big = i64::MAX;
    let ascending = [
        json!(-1e300),
        json!(i64::MIN),
        json!(-2.5),
        json!(-2),
        json!(0),
        json!(0.5),
        json!(1),
        json!(1.5),
        json!(9_007_199_254_740_992i64),
        json!(9_007_199_254_740_993i64),
        json!(big - 1),
        json!(big),
        json!(1e19),
    ];
    let values: Vec<OrderValue> = ascending.iter().filter_map(OrderValue::of).collect();
    assert_eq!(values.len(), ascending.len());
    for (place, value) in values.iter().enumerate() {
        for (other_place, other) in values.iter().enumerate() {
            assert_eq!(value.cmp(other), place.cmp(&other_place), "{value:?} and {other:?}");
        }
    }
    assert_eq!(OrderValue::of(&json!(3.0)), OrderValue::of(&json!(3)));
    assert_eq!(OrderValue::of(&json!(-0.0)), OrderValue::of(&json!(0)));
    for other in [json!(true), json!(null), json!("soon"), json!([1]), json!({})] {
        assert_eq!(OrderValue::of(&other), None, "{other}");
    }
}

#[test]
fn numbers_come_before_other_ids_where_that_is_asked() {
    let mut ids =
        vec!["10", "9", "b", "010", "+1", "", "18446744073709551615", "18446744073709551616", "0", "a"];
    ids.sort_by_key(|id| IdOrder::Number.key(id));
    let expected =
        ["0", "9", "10", "18446744073709551615", "", "+1", "010", "18446744073709551616", "a", "b"];
    assert_eq!(ids, expected);
    ids.sort_by_key(|id| IdOrder::Text.key(id));
    assert!(ids.is_sorted());
}

#[test]
fn counts_groups_and_pages_are_read() {
    let count = query(r#", "count": true, "filter": {"must": {"has_id": ["a"]}}, "consistency": "strong""#);
    assert!(count.ask == Ask::Count && count.filter.is_some());
    assert!(matches!(query(r#", "count": false"#).ask, Ask::Plan(_)));
    let grouped = query(r#", "text": "a", "group_by": "city", "limit": 4"#);
    assert_eq!(grouped.group, Some(Grouping { by: "city".into(), size: 3 }));
    assert_eq!(
        query(r#", "text": "a", "group_by": "city", "group_size": 7"#).group.map(|group| group.size),
        Some(7)
    );
    assert_eq!(query(r#", "text": "a", "page": {"size": 20}"#).page, Some(20));
    let cursor = Cursor { run: 0x18c3, worker: 0, number: 0x1f, from: 20 };
    assert_eq!(query(r#", "cursor": "18c3-0-1f-14""#).ask, Ask::Page(cursor));
    let formula = plan(r#", "prefetch": {"query": "a", "using": "v"}, "query": {"formula": "$score[1]"}"#);
    let Some(NodeQuery::Formula(formula)) = formula.query else { panic!("{formula:?} is no formula") };
    assert_eq!(formula.expression, Expression::Score(1));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let path = "is not a path such as \"city\" or \"address.city\"";
    for (fields, expected) in [
        (r#", "using": "v""#, "query: missing: give a text, a vector,"),
        (
            r#", "query": {"list": {"order": "up"}}"#,
            "query.list.order: the string \"up\" is not \"id\" or \"number\"",
        ),
        (r#", "query": {"list": {"from": 1.5}}"#, "query.list.from: the number 1.5 is not an id"),
        (r#", "query": {"list": {}}, "using": "v""#, "using: a list or a formula searches no vector field"),
        (r#", "query": {"list": {}}, "prefetch": {}"#, "query: a list begins with all documents"),
        (r#", "query": {"order_by": 3}"#, "query.order_by: the number 3 is not an object"),
        (r#", "query": {"order_by": "a..b"}"#, &format!("query.order_by: the string \"a..b\" {path}")),
        (r#", "query": {"order_by": {}}"#, "query.order_by.key: missing: name the payload field"),
        (
            r#", "query": {"order_by": {"key": "a", "start_from": "soon"}}"#,
            "query.order_by.start_from: the string \"soon\" is not a number or a time",
        ),
        (r#", "query": {"formula": 1}"#, "query: a formula needs \"prefetch\""),
        (
            r#", "count": true, "limit": 3"#,
            "count: a count takes a \"filter\" and cannot stand beside \"limit\"",
        ),
        (r#", "count": 1"#, "count: the number 1 is not true or false"),
        (r#", "group_size": 3"#, "group_by: missing: name the payload field"),
        (
            r#", "group_by": "a", "group_size": 0"#,
            "group_size: the number 0 is not an integer from 1 to 1000",
        ),
        (
            r#", "group_by": "a", "group_size": 500"#,
            "group_size: 10 groups of 500 hits are 5000, at most 1000 are accepted",
        ),
        (r#", "group_by": "a", "page": {"size": 3}"#, "page: groups have no pages"),
        (r#", "page": {}"#, "page.size: missing"),
        (r#", "cursor": "x""#, "cursor: the string \"x\" is not the \"next\" of an answer"),
        (
            r#", "cursor": "1-2-3-4", "limit": 3"#,
            "cursor: a cursor goes on with its query as it was asked: leave out \"limit\"",
        ),
    ] {
        let found = parse(fields).expect_err(fields);
        assert!(found.starts_with(&format!("invalid_value @ {expected}")), "{fields}: {found}");
    }
}
