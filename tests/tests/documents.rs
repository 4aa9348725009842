//! Documents that change: what is embedded again, what is found, what a hit says.

use freshet_tests::drive::{Bench, setup};
use serde_json::{Value, json};

fn embedded(bench: &Bench) -> u64 {
    bench.setup.service.as_ref().unwrap().counts().document_texts
}

fn settle(bench: &Bench, id: &str) -> Value {
    bench.ask(&json!({"id": id, "text": "harbour berth", "consistency": "strong"}))
}

#[test]
fn unchanged_text_is_never_embedded_again() {
    let bench = Bench::start(&setup(2));
    let text = "one two three four five six seven eight nine ten eleven twelve harbour";
    bench.document(&json!({"id": "a", "text": text, "stars": 1}));
    settle(&bench, "first");
    let first = embedded(&bench);
    assert!(first >= 2, "the text has several chunks");
    bench.document(&json!({"id": "a", "text": text, "stars": 1}));
    bench.document(&json!({"id": "a", "text": text, "stars": 2}));
    let answer = settle(&bench, "second");
    assert_eq!(embedded(&bench), first, "a redelivery and a payload-only update embed nothing");
    assert_eq!(answer["points"][0]["payload"], json!({"stars": 2}), "but the payload is new");
    bench.document(&json!({"id": "a", "text": format!("{text} berth"), "stars": 2}));
    settle(&bench, "third");
    assert_eq!(embedded(&bench), first + 1, "only the last chunk has changed");
    bench.finish();
}

#[test]
fn a_deleted_document_is_not_found_and_not_counted() {
    let bench = Bench::start(&setup(2));
    bench.document(&json!({"id": "a", "text": "harbour harbour"}));
    bench.document(&json!({"id": "b", "text": "harbour berth"}));
    bench.delete("a");
    bench.delete("never there");
    let answer = bench.ask(&json!({"id": "q", "text": "harbour", "plan": "bm25", "consistency": "strong"}));
    assert_eq!(answer["points"].as_array().unwrap().len(), 1);
    let alone = answer["points"][0]["score"].as_f64().unwrap();
    // One document of mean length, term frequency 1: score = idf = ln(1 + 0.5/1.5).
    assert!((alone - (1.0f64 + 0.5 / 1.5).ln()).abs() < 1e-6, "{alone}");
    bench.finish();
}

#[test]
fn a_vector_that_comes_and_goes_is_replaced_by_the_models() {
    let bench = Bench::start(&setup(1));
    let mut unit = vec![0.0; 64];
    unit[5] = 1.0;
    bench.document(&json!({"id": "a", "text": "harbour", "vectors": {"dense": unit}}));
    let by_vector = |id: &str| json!({"id": id, "query": unit, "using": "dense", "consistency": "strong"});
    let given = bench.ask(&by_vector("given"));
    assert!((given["points"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    bench.document(&json!({"id": "a", "text": "harbour"}));
    let by_text =
        json!({"id": "text", "query": {"text": "harbour"}, "using": "dense", "consistency": "strong"});
    let modelled = bench.ask(&by_text);
    assert!(
        (modelled["points"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-6,
        "the model's vector is back"
    );
    bench.finish();
}

#[test]
fn a_hit_explains_itself_in_every_stage() {
    let bench = Bench::start(&setup(2));
    for number in 0..6 {
        bench.document(
            &json!({"id": format!("d{number}"), "text": format!("harbour {}", "berth ".repeat(number))}),
        );
    }
    let answer = bench.ask(&json!({"id": "q", "consistency": "strong", "limit": 3,
        "prefetch": [{"prefetch": [{"query": {"text": "berth"}, "using": "bm25", "limit": 5},
                                   {"query": {"text": "berth"}, "using": "dense", "limit": 5}],
                      "query": {"fusion": "rrf"}, "limit": 5}],
        "query": {"text": "berth"}, "using": "colbert"}));
    let points = answer["points"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    for (rank, point) in points.iter().enumerate() {
        assert_eq!(point["rerank"]["rank"], rank + 1);
        assert_eq!(point["rerank"]["score"], point["score"]);
        let sum: f64 =
            point["legs"].as_array().unwrap().iter().filter_map(|leg| leg["contribution"].as_f64()).sum();
        assert!(
            (sum - point["fusion"]["score"].as_f64().unwrap()).abs() < 1e-9,
            "legs add up to the fusion: {point}"
        );
    }
    let plain = bench.ask(&json!({"id": "p", "text": "berth", "explain": false, "with_payload": false}));
    let keys: Vec<&String> = plain["points"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "score", "chunk"]);
    bench.finish();
}
