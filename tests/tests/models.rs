//! Pipelines with every kind of model, on the small ones that `models/tiny_models.py` makes.

use std::collections::BTreeMap;

use freshet::setup::Setup;
use freshet_config::Config;
use freshet_schemas::{Answer, Query, Record};
use freshet_tests::drive::{Bench, CONFIG, query_record};
use freshet_tests::oracle::Oracle;
use serde_json::{Value, json};

/// Token vectors are rounded to a byte per dimension, and a cross-encoder's last bits depend on its batch.
const TOLERANCE: f64 = 2e-2;

const FIELDS: &str = r#"
[vectors.dense]
kind = "dense"
model = "tiny-mean"
[vectors.bm25]
kind = "sparse"
model = "bm25"
[vectors.splade]
kind = "sparse"
model = "tiny-splade"
[vectors.colbert]
kind = "multi"
model = "tiny-colbert"
[rerankers.cross]
kind = "cross_encoder"
model = "tiny-cross"
documents_max = 12
budget = "60s"
[plans.default]
prefetch = [{ using = "dense", limit = 20 }]
using = "cross"
[plans.splade]
prefetch = [{ using = "splade", limit = 20 }, { using = "bm25", limit = 20 }]
query = { fusion = "rrf" }
"#;

fn setup(workers: usize, more: &str) -> Setup {
    let start = CONFIG.find("[vectors.given]").expect("the fields come last");
    let text = format!("{}{FIELDS}{more}", &CONFIG[..start]);
    let mut config = Config::parse(&text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    config.pipeline.workers = workers.try_into().unwrap();
    Setup::load(config).unwrap_or_else(|error| panic!("{error}; scripts/setup.sh tiny"))
}

const WORDS: [&str; 12] = [
    "river", "flood", "water", "rain", "snow", "spring", "thaw", "query", "vector", "index", "search", "rank",
];

fn document(number: usize, words: usize) -> Value {
    let word = |place: usize| WORDS[(number * 7 + place * (number % 5 + 1)) % WORDS.len()];
    let text: Vec<&str> = (0..words).map(word).collect();
    json!({"id": format!("d{number:02}"), "text": text.join(" "), "stars": number % 4})
}

fn queries() -> Vec<Value> {
    let node = |using: &str| json!({"query": "flood water", "using": using, "limit": 15});
    let mut queries = vec![
        node("dense"),
        node("splade"),
        node("colbert"),
        json!({"text": "spring rain and snow", "limit": 5}),
        json!({"text": "vector search", "plan": "splade", "limit": 10}),
        json!({"prefetch": [{"query": "thaw", "using": "splade", "limit": 30,
            "filter": {"must": {"key": "stars", "range": {"gte": 1}}}}],
            "query": "rank index", "using": "cross", "limit": 8}),
    ];
    for (number, query) in queries.iter_mut().enumerate() {
        query["id"] = json!(format!("q{number}"));
        query["consistency"] = json!("strong");
    }
    queries
}

fn equal_to_oracle(bench: &Bench, query: &Value, answer: &Value, log: &[Record]) {
    let oracle = Oracle::new(&bench.setup, log.to_vec());
    let answer: Answer = serde_json::from_value(answer.clone()).unwrap();
    assert!(answer.error.is_none() && answer.degraded.is_empty(), "{answer:?}");
    let parsed = Query::parse(&query_record(query), &bench.setup.config.queries.limits);
    let expected =
        oracle.answer(&parsed.unwrap_or_else(|e| panic!("{}", e.fault)), &answer.as_of["documents"]);
    assert_eq!(answer.points.len(), expected.len(), "{query}");
    assert!(!expected.is_empty(), "{query} finds something");
    let right: BTreeMap<&str, f64> = expected.iter().map(|(id, score)| (id.as_str(), *score)).collect();
    for (point, (_, at_place)) in answer.points.iter().zip(&expected) {
        let own = right.get(point.id.as_str()).copied().unwrap_or(*at_place);
        for right in [*at_place, own] {
            let off = (point.score - right).abs();
            assert!(off <= TOLERANCE * (1.0 + right.abs()), "{query}: {point:?}, expected {expected:?}");
        }
    }
}

#[test]
fn every_kind_of_model_answers_as_the_oracle_while_documents_change() {
    for workers in [1, 2, 4] {
        let bench = Bench::start(&setup(workers, ""));
        for round in 0..3 {
            for number in 0..24 {
                match (number + round) % 6 {
                    5 => bench.delete(&format!("d{number:02}")),
                    // Chunks have 8 tokens, and cross-encoders are compared on documents of one chunk.
                    _ => bench.document(&document(number + 10 * round, 3 + number % 5)),
                }
            }
            let log = bench.memory.records("documents");
            for mut query in queries() {
                query["id"] = json!(format!("{}-{round}", query["id"].as_str().unwrap()));
                let answer = bench.ask(&query);
                equal_to_oracle(&bench, &query, &answer, &log);
            }
        }
        bench.finish();
    }
}

#[test]
fn sparse_vectors_of_a_model_are_kept_with_their_chunks() {
    let bench = Bench::start(&setup(2, ""));
    let (first, second) = (document(1, 30), document(2, 30));
    let text =
        |a: &Value, b: &Value| format!("{} {}", a["text"].as_str().unwrap(), b["text"].as_str().unwrap());
    bench.document(&json!({"id": "long", "text": text(&first, &second)}));
    let ask = |id: &str| {
        let query = json!({"id": id, "query": "snow thaw", "using": "splade", "consistency": "strong"});
        let answer = bench.ask(&query);
        equal_to_oracle(&bench, &query, &answer, &bench.memory.records("documents"));
    };
    ask("a");
    let embedded = bench.setup.service.as_ref().unwrap().counts().document_texts;
    // The last words change: the chunks before keep their vectors, of every kind.
    bench.document(&json!({"id": "long", "text": format!("{} river", text(&first, &second))}));
    let query = json!({"id": "b", "query": "snow thaw", "using": "splade", "consistency": "strong"});
    let answer = bench.ask(&query);
    let again = bench.setup.service.as_ref().unwrap().counts().document_texts - embedded;
    equal_to_oracle(&bench, &query, &answer, &bench.memory.records("documents"));
    assert!(again < embedded / 2, "{again} texts embedded again, {embedded} at first");
    bench.finish();
}

#[test]
fn a_cross_encoder_reads_the_title_before_the_text() {
    let start = CONFIG.find("[vectors.given]").unwrap();
    let titled = CONFIG[..start].replace("text = [\"text\"]", "text = [\"text\"]\ntitle = \"title\"");
    let config = Config::parse(&format!("{titled}{FIELDS}"), &|_| None);
    let setup = Setup::load(config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap();
    let bench = Bench::start(&setup);
    for number in 0..8 {
        let mut document = document(number, 3);
        document["title"] = json!(format!("{} {}", WORDS[number], WORDS[(number * 5 + 3) % WORDS.len()]));
        bench.document(&document);
    }
    let query = json!({"id": "q", "text": "flood water", "limit": 8, "consistency": "strong"});
    let answer = bench.ask(&query);
    equal_to_oracle(&bench, &query, &answer, &bench.memory.records("documents"));
    assert_eq!(answer["points"].as_array().unwrap().len(), 8);
    assert!(answer["points"][0]["payload"]["title"].is_string());
    bench.finish();
}

#[test]
fn a_reranker_that_takes_too_long_leaves_the_order_before_and_the_answer_says_so() {
    // Connections are taken by the system, and nobody reads what comes.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kind = format!("kind = \"remote\"\nurl = \"http://{}/rerank\"", silent.local_addr().unwrap());
    let quick = FIELDS.replace("kind = \"cross_encoder\"", &kind).replace("\"60s\"", "\"50ms\"");
    let start = CONFIG.find("[vectors.given]").unwrap();
    let config = Config::parse(&format!("{}{quick}", &CONFIG[..start]), &|_| None);
    let setup = Setup::load(config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap();
    let bench = Bench::start(&setup);
    (0..10).for_each(|number| bench.document(&document(number, 5)));
    let dense = bench.ask(&json!({
        "id": "dense", "query": "flood water", "using": "dense", "limit": 10, "consistency": "strong"}));
    let late = bench.ask(&json!({"id": "late", "text": "flood water", "consistency": "strong"}));
    let ids = |answer: &Value| -> Vec<String> {
        let points = answer["points"].as_array().unwrap();
        points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&late), ids(&dense));
    assert_eq!(late["degraded"], json!([{"stage": "cross", "reason": "its budget is used up"}]));
    assert!(late["points"].as_array().unwrap().iter().all(|point| point.get("rerank").is_none()));
    bench.finish();
}

#[test]
fn a_model_of_another_kind_is_refused_with_the_key() {
    let refused = |fields: &str| {
        let start = CONFIG.find("[vectors.given]").unwrap();
        let config = Config::parse(&format!("{}{fields}", &CONFIG[..start]), &|_| None).unwrap();
        Setup::load(config).map(drop).unwrap_err().to_string()
    };
    let dense = refused("[vectors.v]\nkind = \"dense\"\nmodel = \"tiny-splade\"\n");
    assert_eq!(
        dense,
        "vectors.v.model: \"tiny-splade\" is of kind \"sparse\", which makes no dense vectors; \
         `freshet models list` names others"
    );
    let cross = refused(
        "[vectors.v]\nkind = \"dense\"\nmodel = \"tiny-mean\"\n\
         [rerankers.r]\nkind = \"cross_encoder\"\nmodel = \"tiny-mean\"\n",
    );
    assert!(cross.starts_with("rerankers.r.model: \"tiny-mean\" is of kind \"dense\""), "{cross}");
}
