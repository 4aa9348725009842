//! Filtered answers are what the unfiltered, exact ranking leaves when it is filtered.

use freshet_schemas::Filter;
use freshet_tests::drive::{Bench, setup};
use serde_json::{Value, json};

const DOCUMENTS: u64 = 60;

fn document(number: u64) -> Value {
    let words = ["harbour", "invoice", "refund", "berth", "login", "token", "billing"];
    let word = |n: u64| words[(n % 7) as usize];
    let text = format!("{} {} {}", word(number), word(number / 7), word(number * number));
    let mut document = json!({
        "id": format!("d{number:02}"),
        "text": text,
        "note": text,
        "vectors": {"given": [number % 7, number % 5, 1, number % 3]},
        "stars": number % 5,
        "tags": [word(number / 3), word(number / 5)],
        "at": format!("2026-01-{:02}", 1 + number % 28),
        "offers": [{"price": number as f64 / 2.0}, {"price": 3}],
    });
    match number % 10 {
        3 => document["stars"] = Value::Null,
        4 => document["stars"] = json!("4"),
        5 => document["tags"] = json!([]),
        _ => {}
    }
    document
}

fn filters() -> Vec<Value> {
    let berth =
        json!({"should": [{"key": "note", "match": {"text": "berth"}}, {"is_empty": {"key": "tags"}}]});
    vec![
        json!({}),
        json!({"must": {"key": "stars", "match": {"value": 2}}}),
        json!({"must": [
            {"key": "stars", "range": {"gte": 1, "lt": 4}},
            {"key": "tags", "match": {"any": ["berth", "token"]}},
        ]}),
        json!({"must_not": [{"key": "tags", "match": {"value": "login"}}, {"is_empty": {"key": "stars"}}]}),
        json!({"should": [
            {"key": "stars", "match": {"value": "4"}}, {"is_null": {"key": "stars"}}, {"has_id": ["d07"]},
        ]}),
        json!({"must": {"key": "at", "range": {"gt": "2026-01-05", "lte": "2026-01-20T00:00:00Z"}}}),
        json!({"must": {"key": "offers[].price", "range": {"gt": 20.5}}}),
        json!({"must": {"key": "note", "match": {"text": "Refund"}}}),
        json!({"min_should": {"min_count": 2, "conditions": [
            {"key": "stars", "range": {"lte": 1}},
            {"key": "tags", "match": {"except": ["harbour", "refund"]}},
            berth,
        ]}}),
        json!({"must": {"key": "stars", "match": {"value": 99}}}),
    ]
}

fn ids(answer: &Value) -> Vec<String> {
    assert!(answer.get("error").is_none_or(Value::is_null), "{answer}");
    let points = answer["points"].as_array().unwrap();
    points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn filtered_answers_are_the_unfiltered_ones_restricted() {
    let searches = [
        json!({"query": [1, 2, 3, 4], "using": "given", "limit": 100, "params": {"exact": true}}),
        json!({"query": [3, -2, 1, 0], "using": "given", "limit": 100}),
        json!({"query": "refund berth", "using": "bm25", "limit": 100}),
        json!({"query": "login token", "using": "colbert", "limit": 100}),
        json!({"text": "harbour refund billing", "plan": "bm25", "limit": 100}),
    ];
    let mut first = None;
    for workers in [1, 2, 4] {
        let bench = Bench::start(&setup(workers));
        // Every document is replaced once, so that old versions are there to be left out.
        for number in 0..DOCUMENTS {
            let mut old = document(number + 1);
            old["id"] = json!(format!("d{number:02}"));
            bench.document(&old);
        }
        let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
        documents.iter().for_each(|document| bench.document(document));
        let mut all = Vec::new();
        for (number, search) in searches.iter().enumerate() {
            let ask = |id: String, filter: Value| {
                let mut query = search.clone();
                query["id"] = json!(id);
                query["consistency"] = json!("strong");
                query["filter"] = filter;
                ids(&bench.ask(&query))
            };
            let whole = ask(format!("q{number}"), Value::Null);
            for (place, value) in filters().into_iter().enumerate() {
                let filter = Filter::parse(&value, "filter").unwrap();
                let passes = |id: &str| {
                    let document = documents.iter().find(|document| document["id"] == json!(id)).unwrap();
                    filter.matches(id, document)
                };
                let expected: Vec<String> = whole.iter().filter(|id| passes(id)).cloned().collect();
                let found = ask(format!("q{number}-{place}"), value.clone());
                assert_eq!(found, expected, "{workers} workers: {search} {value}");
                all.push(found);
            }
        }
        assert!(all.iter().any(|ids| !ids.is_empty() && ids.len() < 30), "some filters let some through");
        assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{workers} workers");
        bench.finish();
    }
}
