//! Formulas, lists, counts and groups answer as Qdrant does: the cases of `fixtures/payload_qdrant.py`.

use std::collections::BTreeMap;

use freshet_tests::drive::{Bench, LIMIT, setup};
use serde_json::{Value, json};

/// Scores of the fixture are 32-bit floats.
const TOLERANCE: f64 = 1e-6;

fn collections() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/payload_qdrant.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// The answers to all cases of a collection, in their order.
fn answers(collection: &Value, workers: usize) -> Vec<Value> {
    let bench = Bench::start(&setup(workers));
    for document in collection["documents"].as_array().unwrap() {
        let mut sent = document["payload"].clone();
        sent["id"] = json!(text(&document["id"]));
        sent["text"] = json!("harbour");
        sent["vectors"] = json!({"given": document["vector"]});
        bench.document(&sent);
    }
    let cases = collection["cases"].as_array().unwrap();
    for (number, case) in cases.iter().enumerate() {
        let mut query = case.clone();
        query.as_object_mut().unwrap().remove("expect");
        query["id"] = json!(number.to_string());
        query["consistency"] = json!("strong");
        bench.query(&query);
    }
    let records = bench.memory.wait_for("answers", cases.len(), LIMIT);
    bench.finish();
    let parsed =
        records.iter().map(|record| serde_json::from_slice(record.value.as_deref().unwrap()).unwrap());
    let by_id: BTreeMap<usize, Value> =
        parsed.map(|answer: Value| (answer["id"].as_str().unwrap().parse().unwrap(), answer)).collect();
    assert_eq!(by_id.len(), cases.len());
    by_id.into_values().collect()
}

fn ids(points: &Value) -> Vec<String> {
    points.as_array().unwrap().iter().map(|point| text(&point["id"])).collect()
}

/// Scores by document, whose order is Freshet's own among equal ones.
fn same_scores(found: &Value, expected: &[Value]) -> bool {
    let wanted: BTreeMap<String, f64> =
        expected.iter().map(|hit| (text(&hit[0]), hit[1].as_f64().unwrap())).collect();
    let points = found.as_array().unwrap();
    let ranks: Vec<(f64, String)> =
        points.iter().map(|point| (-point["score"].as_f64().unwrap(), text(&point["id"]))).collect();
    let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
    let known = |(score, id): &(f64, String)| wanted.get(id).is_some_and(|wanted| close(-score, *wanted));
    ranks.len() == wanted.len() && ranks.iter().all(known) && ranks.is_sorted_by(|a, b| a <= b)
}

/// Values in order; documents with equal values may stand in either order, and the last ones may be others.
fn same_entries(found: &Value, expected: &[Value]) -> bool {
    let found = found.as_array().unwrap();
    let values: Vec<f64> = found.iter().map(|point| point["order_value"].as_f64().unwrap()).collect();
    let wanted: Vec<f64> = expected.iter().map(|entry| entry[1].as_f64().unwrap()).collect();
    let last = wanted.last().copied();
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut known: Vec<(String, String)> = Vec::new();
    for (point, entry) in found.iter().zip(expected) {
        let value = entry[1].as_f64();
        if value != last {
            entries.push((text(&point["id"]), format!("{value:?}")));
            known.push((text(&entry[0]), format!("{value:?}")));
        }
    }
    entries.sort();
    known.sort();
    values == wanted && entries == known
}

fn agrees(case: &Value, answer: &Value) -> bool {
    let expect = &case["expect"];
    if expect.is_null() {
        return answer["error"]["code"] == "formula_failed";
    }
    if !answer["error"].is_null() {
        return false;
    }
    if case["count"] == json!(true) {
        return answer["count"] == *expect;
    }
    let expected = expect.as_array().unwrap();
    if case["group_by"].is_string() {
        let groups = answer["groups"].as_array().unwrap().iter();
        let groups: Vec<Value> = groups.map(|group| json!([group["id"], ids(&group["hits"])])).collect();
        return groups == *expected;
    }
    let points = &answer["points"];
    match case["query"].as_object().unwrap().keys().next().unwrap().as_str() {
        "list" => ids(points) == expected.iter().map(text).collect::<Vec<_>>(),
        "order_by" => same_entries(points, expected),
        _ => same_scores(points, expected),
    }
}

#[test]
fn every_case_of_the_fixture_is_answered_as_qdrant_does() {
    let mut checked = 0;
    for (place, collection) in collections().iter().enumerate() {
        // Each collection on one worker or on two, so that both see every kind of case.
        let workers = 1 + place % 2;
        let cases = collection["cases"].as_array().unwrap();
        for (case, answer) in cases.iter().zip(answers(collection, workers)) {
            assert!(
                agrees(case, &answer),
                "{workers} workers\n{case}\n{answer}\n{}",
                collection["documents"]
            );
            checked += 1;
        }
    }
    assert!(checked > 3_000, "{checked} cases");
}
