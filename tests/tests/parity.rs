//! Queries against what Qdrant answers: `tests/fixtures/queries_qdrant.json`, whose generator is beside it.
//!
//! Where Freshet means to differ is in the table of `docs/parity.md`.

use std::collections::BTreeMap;
use std::path::Path;

use freshet::setup::Setup;
use freshet_config::Config;
use freshet_operators::connect::Connector;
use freshet_schemas::{Answer, Record};
use freshet_tests::drive::{LIMIT, Pipeline, answers, query_record, topics};
use serde_json::{Value, json};
use std::sync::Arc;

/// The collections of the fixture.
const CONFIG: &str = r#"
[pipeline]
name = "parity"
shards = 3
tick = "2ms"
[connector]
kind = "files"
directory = "unused"
[indexing]
head_documents = 7
[payload]
stars = "integer"
city = "keyword"
[documents]
text = ["text"]
[vectors.cos]
kind = "dense"
size = 4
[vectors.dot]
kind = "dense"
size = 4
distance = "dot"
[vectors.euclid]
kind = "dense"
size = 4
distance = "euclid"
[vectors.terms]
kind = "sparse"
[vectors.tokens]
kind = "multi"
size = 4
"#;

/// Scores of Qdrant are 32-bit floats, with six digits in the fixture.
const TOLERANCE: f64 = 1e-4;

/// A query, and ids and scores of its answer.
type Case = (Value, Vec<(u32, f64)>);

fn name(number: u64) -> String {
    format!("{number:02}")
}

/// Every stage answers from plain scans.
fn exact(node: &mut Value) {
    node["params"] = json!({"exact": true});
    if let Some(stages) = node.get_mut("prefetch").and_then(Value::as_array_mut) {
        stages.iter_mut().for_each(exact);
    }
}

fn agree(found: &Answer, expected: &[(u32, f64)]) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(1.0);
    let scores: BTreeMap<String, f64> =
        expected.iter().map(|(id, score)| (name(u64::from(*id)), *score)).collect();
    let last = expected.last().map_or(0.0, |(_, score)| *score);
    let first = expected.first().map_or(0.0, |(_, score)| *score);
    found.points.len() == expected.len()
        && found.points.iter().zip(expected).all(|(point, (_, at_place))| {
            // Where scores tie, another id may stand in a place, or at an end of the list.
            let own = scores.get(&point.id).copied();
            let fits = |own: f64| close(point.score, own);
            close(point.score, *at_place) && own.map_or(fits(last) || fits(first), fits)
        })
}

#[test]
fn queries_are_answered_as_by_qdrant() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/queries_qdrant.json");
    let text = std::fs::read_to_string(path).unwrap();
    let collections: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    let runs = collections.iter().enumerate().flat_map(|run| [(run, 1), (run, 2)]);
    for ((number, collection), workers) in runs {
        let cases: Vec<Case> = serde_json::from_value(collection["cases"].clone()).unwrap();
        let mut config = Config::parse(CONFIG, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
        config.pipeline.workers = usize::try_into(workers).unwrap();
        let setup = Setup::load(config).unwrap();
        let memory = topics();
        let connector: Arc<dyn Connector> = Arc::new(memory.clone());
        let pipeline = Pipeline::start(&setup, &connector);
        for point in collection["points"].as_array().unwrap() {
            let id = name(point["id"].as_u64().unwrap());
            let mut document = point["payload"].clone();
            document["id"] = id.clone().into();
            document["vectors"] = point["vectors"].clone();
            let value = Some(document.to_string().into_bytes());
            let partition = i32::from(id.ends_with(['0', '3', '6'])) + i32::from(id.ends_with('6'));
            memory.produce(
                "documents",
                partition,
                Record { key: Some(id.into_bytes()), value, ..Record::default() },
            );
        }
        let mut expected = BTreeMap::new();
        for (place, (query, hits)) in cases.iter().enumerate() {
            let mut query = query.clone();
            exact(&mut query);
            let id = format!("{place:04}");
            query["id"] = id.clone().into();
            query["consistency"] = "strong".into();
            query["with_payload"] = false.into();
            memory.produce("queries", i32::from(place % 2 == 1), query_record(&query));
            expected.insert(id, (query, hits));
        }
        memory.wait_for("answers", expected.len(), LIMIT);
        pipeline.finish();
        for answer in answers(&memory) {
            let (query, hits) = &expected[&answer.id];
            count += 1;
            if answer.error.is_some() || !agree(&answer, hits) {
                let found: Vec<_> = answer.points.iter().map(|point| (&point.id, point.score)).collect();
                wrong.push(format!(
                    "{number}: {query}\n  qdrant  {hits:?}\n  freshet {found:?} {:?}",
                    answer.error
                ));
            }
        }
    }
    assert!(count > 5000, "{count} cases");
    let shown = wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{shown}", wrong.len());
}
