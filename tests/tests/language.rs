//! What queries say beside their search: by example, diverse, with thresholds, offsets, vectors and parts of payloads.

use freshet_schemas::EXAMPLES_MAX;
use freshet_tests::drive::{Bench, setup};
use serde_json::{Value, json};

fn bench(workers: usize) -> Bench {
    let bench = Bench::start(&setup(workers));
    for (id, text, vector) in [
        ("a", "harbour berth", Some([1.0, 0.0, 0.0, 0.0])),
        ("b", "harbour invoice", Some([0.9, 0.1, 0.0, 0.0])),
        ("c", "refund", Some([0.0, 0.0, 2.0, 0.0])),
        ("d", "refund of an invoice", Some([0.5, 0.0, 1.0, 0.0])),
        ("e", "no vector", None),
    ] {
        let mut document = json!({"id": id, "text": text, "at": {"city": id, "list": [{"x": 1, "y": 2}]}});
        if let Some(vector) = vector {
            document["vectors"] = json!({"given": vector});
        }
        bench.document(&document);
    }
    bench
}

/// Ids and scores of an answer without an error.
fn hits(answer: &Value) -> Vec<(String, f64)> {
    assert_eq!(answer.get("error"), None, "{answer}");
    let points = answer["points"].as_array().unwrap().iter();
    points.map(|p| (p["id"].as_str().unwrap().to_owned(), p["score"].as_f64().unwrap())).collect()
}

fn ids(answer: &Value) -> String {
    hits(answer).into_iter().map(|(id, _)| id).collect()
}

struct Asker<'a>(&'a Bench, std::cell::Cell<u32>);

impl Asker<'_> {
    fn ask(&self, mut query: Value) -> Value {
        self.1.set(self.1.get() + 1);
        query["id"] = format!("q{}", self.1.get()).into();
        query["consistency"] = "strong".into();
        self.0.ask(&query)
    }

    fn error(&self, query: Value) -> String {
        let answer = self.ask(query);
        assert_eq!(answer["points"], json!([]), "{answer}");
        format!(
            "{}: {}",
            answer["error"]["code"].as_str().unwrap(),
            answer["error"]["message"].as_str().unwrap()
        )
    }
}

#[test]
fn queries_by_example_leave_the_examples_out() {
    for workers in [1, 2] {
        let bench = bench(workers);
        let asker = Asker(&bench, Default::default());
        let given = |query: Value| json!({"query": query, "using": "given"});
        assert_eq!(ids(&asker.ask(given(json!({"id": "a"})))), "bdc");
        assert_eq!(ids(&asker.ask(given(json!({"nearest": {"id": "a"}})))), "bdc");
        assert_eq!(
            ids(&asker.ask(json!({"query": {"id": "c"}, "using": "dense", "limit": 1}))),
            "d",
            "by its text's vector"
        );
        assert_eq!(ids(&asker.ask(json!({"query": {"id": "a"}, "using": "colbert", "limit": 1}))), "b");
        let recommend = |positive: Value, negative: Value, strategy: &str| {
            ids(&asker.ask(given(
                json!({"recommend": {"positive": positive, "negative": negative, "strategy": strategy}}),
            )))
        };
        assert_eq!(recommend(json!([{"id": "a"}]), json!([{"id": "c"}]), "average_vector"), "bd");
        assert_eq!(recommend(json!([{"id": "a"}]), json!([{"id": "c"}]), "best_score"), "bd");
        assert_eq!(recommend(json!([]), json!([{"id": "c"}]), "sum_scores"), "abd");
        let discover = json!({"discover": {"target": [0, 0, 1, 0], "context": {"positive": {"id": "a"}, "negative": {"id": "c"}}}});
        assert_eq!(ids(&asker.ask(given(discover))), "bd");
        // As a rescoring; the prefetch does not find what is left out above it.
        let prefetch = json!([{"query": {"text": "harbour invoice refund"}, "using": "bm25", "limit": 3}]);
        let rescored = json!({"prefetch": prefetch, "query": {"id": "c"}, "using": "given"});
        assert_eq!(ids(&asker.ask(rescored)).len(), 3);
        // A text as example, of fields that are made from text.
        let text = |strategy: &str, using: &str| {
            let recommend = json!({"positive": ["harbour"], "negative": ["berth"], "strategy": strategy});
            ids(&asker.ask(json!({"query": {"recommend": recommend}, "using": using, "limit": 1})))
        };
        for using in ["bm25", "colbert", "dense"] {
            assert_eq!(text("sum_scores", using), "b", "{using}");
            // Of token vectors the negative ones are turned around, as in Qdrant: what is unlike them is near.
            let expect = if using == "colbert" { "a" } else { "b" };
            assert_eq!(text("average_vector", using), expect, "{using}");
        }
        // At the time of the query: a document that is gone is not there.
        bench.delete("c");
        assert_eq!(asker.error(given(json!({"id": "c"}))), "not_found: document \"c\" is not there");
        assert_eq!(asker.error(given(json!(7))), "not_found: document \"7\" is not there");
        assert_eq!(
            asker.error(given(json!({"id": "e"}))),
            "not_found: document \"e\" has no vector \"given\""
        );
        let fusion = json!({"prefetch": [given(json!({"id": "a"})), given(json!({"id": "gone"}))], "query": {"fusion": "rrf"}});
        assert_eq!(asker.error(fusion), "not_found: document \"gone\" is not there");
        assert!(
            asker.error(json!({"query": {"id": "a"}, "using": "bm25"})).contains("\"bm25\" holds the terms")
        );
        bench.finish();
    }
}

#[test]
fn a_diverse_list_is_unlike_itself() {
    let bench = bench(2);
    let asker = Asker(&bench, Default::default());
    let mmr = |diversity: f64, limit: u32| {
        let query =
            json!({"nearest": [1, 0, 0.1, 0], "mmr": {"diversity": diversity, "candidates_limit": 10}});
        asker.ask(json!({"query": query, "using": "given", "limit": limit}))
    };
    assert_eq!(ids(&mmr(0.0, 4)), "abdc");
    let diverse = mmr(0.9, 4);
    assert_eq!(ids(&diverse), "acbd");
    assert_eq!(hits(&diverse)[1], ("c".to_owned(), f64::from(0.1f32 * 2.0)), "hits keep their scores");
    assert_eq!(diverse["points"][1]["rerank"]["rank"], 2);
    assert_eq!(diverse["points"][1]["legs"][0]["rank"], 4);
    assert_eq!(ids(&mmr(0.9, 2)), "ac");
    let text = json!({"query": {"nearest": "harbour invoice", "mmr": {}}, "using": "colbert", "limit": 2});
    assert_eq!(ids(&asker.ask(text)).len(), 2);
    let many =
        json!({"query": {"nearest": [1, 0, 0, 0], "mmr": {"candidates_limit": 501}}, "using": "given"});
    assert!(asker.error(many).ends_with("dense vectors take at most 500"));
    let many = json!({"query": {"nearest": "a", "mmr": {}}, "using": "colbert", "limit": 101});
    assert!(asker.error(many).ends_with("multi vectors take at most 100"));
    let terms = json!({"query": {"nearest": "a", "mmr": {}}, "using": "bm25"});
    assert!(asker.error(terms).contains("\"bm25\" holds the terms of a text"));
    bench.finish();
}

#[test]
fn thresholds_and_offsets_cut_both_ends() {
    let bench = bench(2);
    let asker = Asker(&bench, Default::default());
    let given = |more: Value| {
        let mut query = json!({"query": [1, 0, 0, 0], "using": "given"});
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        query
    };
    assert_eq!(ids(&asker.ask(given(json!({})))), "abdc");
    assert_eq!(ids(&asker.ask(given(json!({"score_threshold": 0.5})))), "ab", "only what is better");
    assert_eq!(ids(&asker.ask(given(json!({"offset": 1, "limit": 2})))), "bd");
    assert_eq!(ids(&asker.ask(given(json!({"offset": 3, "limit": 2})))), "c");
    assert_eq!(ids(&asker.ask(given(json!({"offset": 9000, "limit": 2})))), "");
    let both = asker.error(given(json!({"offset": 9999, "limit": 2})));
    assert_eq!(both, "invalid_value: offset 9999 and limit 2 are more than 10000 together");
    let fused = |threshold: f64| {
        let leg = given(json!({"score_threshold": 0.4, "limit": 3}));
        ids(&asker.ask(
            json!({"prefetch": [leg], "query": {"fusion": "rrf"}, "score_threshold": threshold, "offset": 1}),
        ))
    };
    assert_eq!(fused(0.0), "bd");
    assert_eq!(fused(0.25), "bd", "a fusion keeps what is as good");
    assert_eq!(fused(0.26), "b");
    // The configured plan is a fusion of two.
    let all = hits(&asker.ask(json!({"text": "harbour invoice"})));
    let second = all[1].1;
    let best = asker.ask(json!({"text": "harbour invoice", "score_threshold": second}));
    let as_good: Vec<_> = all.iter().filter(|(_, score)| *score >= second).cloned().collect();
    assert!(as_good.len() < all.len());
    assert_eq!(hits(&best), as_good);
    assert_eq!(hits(&asker.ask(json!({"text": "harbour invoice", "offset": 1, "limit": 1}))), all[1..2]);
    bench.finish();
}

#[test]
fn hits_carry_the_vectors_and_the_parts_of_payloads_that_are_asked_for() {
    let bench = bench(2);
    let asker = Asker(&bench, Default::default());
    let ask = |more: Value| {
        let mut query = json!({"query": [0, 0, 1, 0], "using": "given", "limit": 1});
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asker.ask(query)["points"][0].clone()
    };
    assert_eq!(ask(json!({"with_vectors": false})).get("vectors"), None);
    let one = ask(json!({"with_vector": ["given"], "with_payload": false}));
    assert_eq!(one["vectors"], json!({"given": [0.0, 0.0, 2.0, 0.0]}));
    assert_eq!(one.get("payload"), None);
    let all = ask(json!({"with_vectors": true}));
    let names: Vec<&String> = all["vectors"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["colbert", "dense", "given"], "BM25 has none");
    let dense: Vec<f64> = serde_json::from_value(all["vectors"]["dense"].clone()).unwrap();
    assert!((dense.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5, "normalised");
    assert_eq!(all["vectors"]["colbert"][0].as_array().unwrap().len(), 64);
    let bm25 = asker.error(json!({"text": "a", "with_vectors": ["bm25"]}));
    assert!(bm25.contains("\"bm25\" holds the terms of a text"), "{bm25}");
    let unknown = asker.error(json!({"text": "a", "with_vectors": ["given", "clip"]}));
    assert!(unknown.starts_with("unknown_vector: vector \"clip\" is not configured"), "{unknown}");
    let none = asker.ask(json!({"query": {"text": "vector"}, "using": "bm25", "with_vectors": ["given"]}));
    assert_eq!((ids(&none).as_str(), none["points"][0].get("vectors")), ("e", None), "it has none");
    assert_eq!(ask(json!({"with_payload": ["at.city"]}))["payload"], json!({"at": {"city": "c"}}));
    assert_eq!(ask(json!({"with_payload": ["at.list[].x"]}))["payload"], json!({"at": {"list": [{"x": 1}]}}));
    let rest = ask(json!({"with_payload": {"exclude": ["text", "at.list[].x"]}}));
    assert_eq!(rest["payload"], json!({"at": {"city": "c", "list": [{"y": 2}]}}));
    bench.finish();
}

#[test]
fn absurd_queries_are_refused_and_answered() {
    let bench = bench(2);
    let asker = Asker(&bench, Default::default());
    let recommend = |recommend: Value| json!({"query": {"recommend": recommend}, "using": "given"});
    let many: Vec<Value> = (0..10_000).map(|_| json!([1, 0, 0, 0])).collect();
    let error = asker.error(recommend(json!({"positive": many})));
    assert_eq!(error, format!("too_large: 10000 examples, at most {EXAMPLES_MAX} are accepted"));
    let half: Vec<Value> = (0..EXAMPLES_MAX).map(|_| json!([1, 0, 0, 0])).collect();
    assert!(
        asker
            .error(recommend(json!({"positive": half, "negative": [[1, 0, 0, 0]]})))
            .starts_with("too_large")
    );
    for (recommend_of, error) in [
        (json!({}), "\"average_vector\" needs at least one positive example"),
        (
            json!({"positive": [], "negative": [[1, 0, 0, 0]]}),
            "\"average_vector\" needs at least one positive example",
        ),
        (json!({"strategy": "best_score"}), "needs at least one example, positive or negative"),
        (json!({"positive": [[1, 0]]}), "the vector has 2 dimensions, the index has 4"),
        (
            json!({"positive": [{"id": ""}]}),
            "the string \"\" is not an id: a string that is not empty, or an integer",
        ),
        (json!({"positive": ["harbour"]}), "vector \"given\" has no model to make it from text"),
        (json!({"positive": [[]]}), "the vector is empty"),
        (json!(3), "the number 3 is not an object"),
    ] {
        let found = asker.error(recommend(recommend_of));
        assert!(found.contains(error), "{found}");
    }
    // As large as numbers are: nothing overflows, and the run goes on.
    let huge = json!([3e38, 3e38, -3e38, 0]);
    for strategy in ["average_vector", "best_score", "sum_scores"] {
        let of =
            json!({"positive": [huge, huge], "negative": [[-3e38, -3e38, 3e38, 0]], "strategy": strategy});
        assert_eq!(ids(&asker.ask(recommend(of))).len(), 4, "{strategy}");
    }
    let mmr = json!({"query": {"nearest": huge, "mmr": {"diversity": 1}}, "using": "given"});
    assert_eq!(ids(&asker.ask(mmr)).len(), 4);
    let depth = json!({"query": {"nearest": [1, 0, 0, 0], "mmr": {}}, "using": "given", "prefetch": [
        {"query": {"nearest": [1, 0, 0, 0], "mmr": {}}, "using": "given", "prefetch": [
            {"query": [1, 0, 0, 0], "using": "given"}]}]});
    assert!(asker.error(depth.clone()).contains("the plan has 5 levels, at most 4 are accepted"));
    assert_eq!(ids(&asker.ask(depth["prefetch"][0].clone())).len(), 4, "a choice from what is rescored");
    bench.finish();
}
