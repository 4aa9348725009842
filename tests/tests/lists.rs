//! Lists, counts, formulas and groups: compared with what the documents themselves say.

use std::collections::BTreeMap;

use freshet::setup::Setup;
use freshet_schemas::{Filter, OrderValue, values};
use freshet_tests::drive::{Bench, CONFIG, setup};
use serde_json::{Value, json};

const DOCUMENTS: u64 = 90;

/// Documents of which most are in one group, with values of several kinds.
fn document(number: u64) -> Value {
    let mut document = json!({
        "id": if number.is_multiple_of(3) { number.to_string() } else { format!("d{number:02}") },
        "text": format!("harbour {} berth {}", ["one", "two", "three"][(number % 3) as usize], number % 13),
        "vectors": {"given": [number % 7, number % 5, 1, (number * number) % 11]},
        "stars": number % 7,
        "price": number as f64 / 4.0 - 3.0,
        "at": format!("2026-01-{:02}T{:02}:00:00Z", 1 + number % 28, number % 24),
        "kind": if number.is_multiple_of(10) { json!(format!("k{}", number / 10)) } else { json!("common") },
        "tags": [number % 4, format!("t{}", number % 5)],
    });
    match number % 15 {
        1 => document["stars"] = json!([3, number % 7, 3]),
        2 => document["stars"] = json!("2026-01-01"),
        3 => document["stars"] = Value::Null,
        4 => document["stars"] = json!(2.5),
        5 => document["price"] = json!("free"),
        6 => document["tags"] = json!([1, true]),
        7 => document["kind"] = json!(["common", "rare"]),
        _ => {}
    }
    document
}

/// A bench with all documents, each of which has replaced another version.
fn bench(workers: usize) -> Bench {
    let bench = Bench::start(&setup(workers));
    for number in 0..DOCUMENTS {
        let mut old = document(number + 1);
        old["id"] = document(number)["id"].clone();
        bench.document(&old);
    }
    (0..DOCUMENTS).for_each(|number| bench.document(&document(number)));
    bench
}

fn id(document: &Value) -> &str {
    document["id"].as_str().unwrap()
}

fn documents() -> Vec<Value> {
    let mut documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
    documents.sort_by(|a, b| id(a).cmp(id(b)));
    documents
}

fn filters() -> Vec<Value> {
    vec![
        Value::Null,
        json!({"must": {"key": "tags", "match": {"value": 1}}}),
        json!({"must_not": {"key": "kind", "match": {"value": "common"}}}),
        json!({"must": {"key": "stars", "range": {"gte": 2}}, "should": [{"has_id": ["3", "d04", "d05"]}, {"key": "price", "range": {"lt": 9}}]}),
        json!({"must": {"key": "stars", "match": {"value": 99}}}),
    ]
}

fn passes(filter: &Value, document: &Value) -> bool {
    filter.is_null() || Filter::parse(filter, "").unwrap().matches(id(document), document)
}

struct Asker {
    bench: Bench,
    asked: usize,
}

impl Asker {
    fn ask(&mut self, query: &Value) -> Value {
        let mut query = query.clone();
        self.asked += 1;
        query["id"] = json!(format!("q{}", self.asked));
        query["consistency"] = json!("strong");
        let answer = self.bench.ask(&query);
        assert!(answer.get("error").is_none_or(Value::is_null), "{query}: {answer}");
        answer
    }
}

fn shown(points: &Value) -> Vec<(String, Value)> {
    let points = points.as_array().unwrap().iter();
    points.map(|point| (id(point).to_owned(), point["order_value"].clone())).collect()
}

/// The entries that a value list has, in order: of every document all values, or the first.
fn ordered(
    key: &str,
    direction: &str,
    start: &Value,
    filter: &Value,
    each: bool,
) -> Vec<(String, OrderValue)> {
    let mut entries: Vec<(String, OrderValue)> = Vec::new();
    for document in documents().iter().filter(|document| passes(filter, document)) {
        for value in values(document, key) {
            let elements = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            entries.extend(
                elements.iter().filter_map(OrderValue::of).map(|value| (id(document).to_owned(), value)),
            );
        }
    }
    let down = direction == "desc";
    if let Some(start) = OrderValue::of(start) {
        entries.retain(|(_, value)| if down { *value <= start } else { *value >= start });
    }
    entries.sort_by(|a, b| {
        let by_value = if down { b.1.cmp(&a.1) } else { a.1.cmp(&b.1) };
        by_value.then_with(|| a.0.cmp(&b.0))
    });
    entries.dedup();
    if !each {
        let mut known = std::collections::BTreeSet::new();
        entries.retain(|(id, _)| known.insert(id.clone()));
    }
    entries
}

#[test]
fn lists_and_counts_are_what_the_documents_say() {
    for workers in [1, 2, 4] {
        let mut asker = Asker { bench: bench(workers), asked: 0 };
        for filter in filters() {
            let expected: Vec<String> = documents()
                .iter()
                .filter(|document| passes(&filter, document))
                .map(|document| id(document).to_owned())
                .collect();
            let count = asker.ask(&json!({"count": true, "filter": filter}));
            assert_eq!(
                (count["count"].as_u64(), &count["points"]),
                (Some(expected.len() as u64), &json!([]))
            );
            for limit in [1, 7, 200] {
                let found = asker.ask(&json!({"filter": filter, "limit": limit}));
                let ids: Vec<String> = shown(&found["points"]).into_iter().map(|(id, _)| id).collect();
                assert_eq!(ids, expected[..limit.min(expected.len())], "{filter}");
                let from = json!({"query": {"list": {"order": "number", "from": 30}}, "filter": filter, "limit": limit});
                let found = asker.ask(&from);
                let mut later: Vec<String> = expected
                    .iter()
                    .filter(|id| id.parse::<u64>().map_or(true, |number| number >= 30))
                    .cloned()
                    .collect();
                later.sort_by_key(|id| {
                    (id.parse::<u64>().is_err(), id.parse::<u64>().unwrap_or(0), id.clone())
                });
                later.truncate(limit);
                let ids: Vec<String> = shown(&found["points"]).into_iter().map(|(id, _)| id).collect();
                assert_eq!(ids, later, "{filter}");
            }
            for key in ["stars", "price", "at", "tags", "gone", "kind"] {
                for (direction, start) in [
                    ("asc", Value::Null),
                    ("desc", Value::Null),
                    ("asc", json!(2.5)),
                    ("desc", json!(4)),
                    ("desc", json!("2026-01-14T02:00:00Z")),
                ] {
                    for limit in [3, 200] {
                        let order = json!({"key": key, "direction": direction, "start_from": start});
                        let found = asker
                            .ask(&json!({"query": {"order_by": order}, "filter": filter, "limit": limit}));
                        let mut expected = ordered(key, direction, &start, &filter, true);
                        expected.truncate(limit);
                        let found: Vec<(String, OrderValue)> = shown(&found["points"])
                            .into_iter()
                            .map(|(id, value)| (id, OrderValue::of(&value).unwrap()))
                            .collect();
                        assert_eq!(found, expected, "{workers} workers, {key} {direction} {start} {filter}");
                        // Before another stage each document stands once.
                        let fused = asker.ask(&json!({
                            "prefetch": [{"query": {"order_by": order}, "filter": filter, "limit": limit}],
                            "query": {"rrf": {"k": 1}},
                            "limit": 200,
                        }));
                        let mut expected = ordered(key, direction, &start, &filter, false);
                        expected.truncate(limit);
                        let ids: Vec<String> =
                            shown(&fused["points"]).into_iter().map(|(id, _)| id).collect();
                        assert_eq!(ids, expected.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
                    }
                }
            }
        }
        asker.bench.finish();
    }
}

/// Groups of a ranked list, from scratch.
fn groups(ranked: &[Value], by: &str, size: usize, limit: usize) -> Vec<(Value, Vec<(String, f64)>)> {
    let by_id: BTreeMap<String, Value> =
        documents().into_iter().map(|document| (id(&document).to_owned(), document)).collect();
    let mut groups: Vec<(Value, Vec<(String, f64)>)> = Vec::new();
    for point in ranked {
        let value = &by_id[id(point)][by];
        let of = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        if of.iter().any(|value| !(value.is_string() || value.is_i64())) {
            continue;
        }
        for group in of {
            let place = groups.iter().position(|(known, _)| *known == group);
            let place = place.unwrap_or_else(|| {
                groups.push((group, Vec::new()));
                groups.len() - 1
            });
            if groups[place].1.len() < size {
                groups[place].1.push((id(point).to_owned(), point["score"].as_f64().unwrap()));
            }
        }
    }
    groups.truncate(limit);
    groups
}

#[test]
fn groups_are_full_however_large_one_of_them_is() {
    let searches = [
        json!({"query": [1, 2, 3, 4], "using": "given", "params": {"exact": true}}),
        json!({"query": "berth three", "using": "bm25", "filter": {"must_not": {"key": "tags", "match": {"value": 2}}}}),
        json!({"text": "harbour one", "plan": "bm25"}),
        json!({}),
        json!({"query": {"order_by": {"key": "price", "direction": "desc"}}}),
        json!({
            "prefetch": [{"query": "berth", "using": "bm25", "limit": 40}, {"query": [1, -2, 3, 4], "using": "given", "limit": 30}],
            "query": {"fusion": "dbsf"},
        }),
        json!({"prefetch": {"query": "berth", "using": "bm25", "limit": 50}, "query": [3, 1, 3, 1], "using": "given"}),
    ];
    for workers in [1, 3] {
        let mut asker = Asker { bench: bench(workers), asked: 0 };
        for search in &searches {
            let mut whole = search.clone();
            whole["limit"] = json!(1000);
            let ranked = asker.ask(&whole)["points"].as_array().unwrap().clone();
            for (by, size, limit) in
                [("kind", 2, 5), ("kind", 4, 100), ("tags", 3, 4), ("tags", 1, 1), ("gone", 2, 2)]
            {
                let mut query = search.clone();
                query["group_by"] = json!(by);
                query["group_size"] = json!(size);
                query["limit"] = json!(limit);
                let answer = asker.ask(&query);
                let found: Vec<(Value, Vec<(String, f64)>)> = answer["groups"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|group| {
                        let hits = group["hits"].as_array().unwrap().iter();
                        let hit = |hit: &Value| {
                            assert!(hit["payload"].is_object(), "hits of groups carry payloads");
                            (id(hit).to_owned(), hit["score"].as_f64().unwrap())
                        };
                        (group["id"].clone(), hits.map(hit).collect())
                    })
                    .collect();
                assert_eq!(answer["points"], json!([]));
                let expected = groups(&ranked, by, size, limit);
                assert_eq!(found, expected, "{workers} workers: {search} by {by}");
                assert!(by == "gone" || search.get("text").is_some() || !found.is_empty());
            }
        }
        asker.bench.finish();
    }
}

#[test]
fn a_formula_scores_what_was_found_and_names_what_it_misses() {
    for workers in [1, 2] {
        let mut asker = Asker { bench: bench(workers), asked: 0 };
        let prefetch = json!([
            {"query": [1, 2, 3, 4], "using": "given", "limit": 20},
            {"query": "berth three", "using": "bm25", "limit": 15},
        ]);
        let formula = json!({"sum": [
            {"mult": [2, "$score"]},
            "$score[1]",
            {"mult": [10, {"key": "kind", "match": {"value": "rare"}}]},
            {"neg": {"abs": "weight"}},
        ]});
        let query = json!({
            "prefetch": prefetch, "limit": 100,
            "query": {"formula": formula, "defaults": {"weight": 0.25, "$score[1]": -1}},
        });
        let answer = asker.ask(&query);
        let legs: Vec<BTreeMap<String, f64>> = (0..2)
            .map(|leg| {
                let mut alone = prefetch[leg].clone();
                alone["explain"] = json!(false);
                let points = asker.ask(&alone)["points"].as_array().unwrap().clone();
                points.iter().map(|point| (id(point).to_owned(), point["score"].as_f64().unwrap())).collect()
            })
            .collect();
        let mut expected: Vec<(String, f64)> = documents()
            .iter()
            .filter(|document| legs.iter().any(|leg| leg.contains_key(id(document))))
            .map(|document| {
                let score = |leg: usize, other: f64| legs[leg].get(id(document)).copied().unwrap_or(other);
                let rare = if document["kind"] == json!(["common", "rare"]) { 10.0 } else { 0.0 };
                (id(document).to_owned(), 2.0 * score(0, 0.0) + score(1, -1.0) + rare - 0.25)
            })
            .collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let points = answer["points"].as_array().unwrap().iter();
        let found: Vec<(String, f64)> =
            points.map(|point| (id(point).to_owned(), point["score"].as_f64().unwrap())).collect();
        assert_eq!(found, expected);
        // A formula below another stage, and one that fails.
        let nested = json!({"prefetch": [query, prefetch[0]], "query": {"fusion": "rrf"}, "limit": 3});
        let mut nested = nested;
        nested["prefetch"][0]["limit"] = json!(5);
        assert_eq!(asker.ask(&nested)["points"].as_array().unwrap().len(), 3);
        let failing = json!({"id": "fails", "prefetch": prefetch, "query": {"formula": {"ln": "stars"}}, "consistency": "strong"});
        let answer = asker.bench.ask(&failing);
        assert_eq!(answer["error"]["code"], "formula_failed");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("the formula has no score for document \""), "{message}");
        assert!(answer["points"].as_array().unwrap().is_empty() && answer["as_of"].is_object());
        asker.bench.finish();
    }
}

#[test]
fn a_list_keeps_its_order_where_a_reranker_fails() {
    // Nobody listens there.
    let far = "[rerankers.far]\nkind = \"remote\"\nurl = \"http://127.0.0.1:1/rerank\"\nmodel = \"m\"\nretries = 0\n";
    let config = freshet_config::Config::parse(&format!("{CONFIG}{far}"), &|_| None).unwrap();
    let mut asker = Asker { bench: Bench::start(&Setup::load(config).unwrap()), asked: 0 };
    (0..DOCUMENTS).for_each(|number| asker.bench.document(&document(number)));
    let order = json!({"order_by": {"key": "price", "direction": "desc"}});
    let answer = asker.ask(&json!({
        "prefetch": {"query": order, "limit": 20}, "query": "berth", "using": "far", "limit": 10,
    }));
    assert_eq!(answer["degraded"][0]["stage"], "far", "{answer}");
    let found: Vec<String> = shown(&answer["points"]).into_iter().map(|(id, _)| id).collect();
    let mut expected = ordered("price", "desc", &Value::Null, &Value::Null, false);
    expected.truncate(10);
    assert_eq!(found, expected.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
    asker.bench.finish();
}
