//! Queries by example, diverse lists, thresholds, offsets, vectors: every form, and every fault.

mod common;

use common::{limits, line, plan_spec, record};
use freshet_schemas::{
    Ask, Discover, EXAMPLES_MAX, Example, Mmr, Node, NodeQuery, Query, Recommend, Strategy, VectorValue,
    WithVectors,
};
use serde_json::json;

fn parse(fields: &str) -> Result<Query, String> {
    let value = format!("{{\"id\": \"q\", {fields}}}");
    Query::parse(&record(None, Some(&value)), &limits()).map_err(|refusal| line(&refusal.fault))
}

fn node(fields: &str) -> Node {
    match parse(fields).unwrap_or_else(|fault| panic!("{fields}: {fault}")).ask {
        Ask::Plan(node) => node,
        Ask::Text { .. } | Ask::Count | Ask::Page(_) => panic!("{fields} is no plan"),
    }
}

/// What a query on `v` searches for.
fn query(query: &str) -> NodeQuery {
    node(&format!("\"using\": \"v\", \"query\": {query}")).query.expect("a query")
}

fn refused(query: &str, expect: &str) {
    assert_eq!(
        parse(&format!("\"using\": \"v\", \"query\": {query}")).map(drop),
        Err(expect.to_owned()),
        "{query}"
    );
}

fn id(id: &str) -> Example {
    Example::Document(id.to_owned())
}

fn text(text: &str) -> Example {
    Example::Text(text.to_owned())
}

fn dense(vector: &[f32]) -> Example {
    Example::Vector(VectorValue::Dense(vector.to_vec()))
}

#[test]
fn a_document_is_named_by_its_id() {
    for form in
        ["17", r#"{"id": 17}"#, r#"{"id": "17"}"#, r#"{"nearest": 17}"#, r#"{"nearest": {"id": "17"}}"#]
    {
        assert_eq!(query(form), NodeQuery::Document("17".to_owned()), "{form}");
    }
    assert_eq!(query(r#""17""#), NodeQuery::Text("17".to_owned()), "a string is a text");
    assert_eq!(query("-3"), NodeQuery::Document("-3".to_owned()));
    let what = "is not an id: a string that is not empty, or an integer";
    refused("1.5", &format!("invalid_value @ query: the number 1.5 {what}"));
    refused(r#"{"id": ""}"#, &format!("invalid_value @ query.id: the string \"\" {what}"));
    refused(r#"{"id": null}"#, &format!("invalid_value @ query.id: null {what}"));
    refused(r#"{"id": "a", "foo": 1}"#, "unknown_field @ query.foo: unknown field \"foo\"; known: \"id\"");
}

#[test]
fn recommendations_take_every_form() {
    let full = r#"{"recommend": {"positive": [1, "a", {"text": "b"}, [1, 2]], "negative": [{"id": "x"}],
                                 "strategy": "best_score"}}"#;
    let positive = vec![id("1"), text("a"), text("b"), dense(&[1.0, 2.0])];
    let (negative, strategy) = (vec![id("x")], Strategy::BestScore);
    assert_eq!(query(full), NodeQuery::Recommend(Recommend { positive, negative, strategy }));
    let plain = Recommend { positive: vec![id("1")], negative: vec![], strategy: Strategy::AverageVector };
    assert_eq!(query(r#"{"recommend": {"positive": [1]}}"#), NodeQuery::Recommend(plain));
    let at = "query.recommend";
    refused(r#"{"recommend": null}"#, &format!("invalid_value @ {at}: null is not an object"));
    refused(
        r#"{"recommend": {"positive": 1}}"#,
        &format!("invalid_value @ {at}.positive: the number 1 is not an array of ids, texts and vectors"),
    );
    refused(
        r#"{"recommend": {"positive": ["a", true]}}"#,
        &format!(
            "invalid_value @ {at}.positive[1]: true is not a text, a vector, {{\"text\": …}}, {{\"id\": …}}, \
             {{\"nearest\": …}}, {{\"recommend\": …}}, {{\"discover\": …}}, {{\"context\": …}}, {{\"fusion\": …}}, \
             {{\"rrf\": …}}, {{\"list\": …}}, {{\"order_by\": …}} or {{\"formula\": …}}"
        ),
    );
    refused(
        r#"{"recommend": {"positive": ["a"], "strategy": "median"}}"#,
        &format!(
            "invalid_value @ {at}.strategy: the string \"median\" is not \"average_vector\", \"best_score\" or \
             \"sum_scores\""
        ),
    );
    refused(
        r#"{"recommend": {"negative": ["a"]}}"#,
        &format!("invalid_value @ {at}.positive: \"average_vector\" needs at least one positive example"),
    );
    refused(
        r#"{"recommend": {"strategy": "sum_scores"}}"#,
        &format!("invalid_value @ {at}: needs at least one example, positive or negative"),
    );
    let many = |count: usize| vec!["1"; count].join(", ");
    let all = format!(r#"{{"recommend": {{"positive": [{}]}}}}"#, many(EXAMPLES_MAX));
    assert!(matches!(query(&all), NodeQuery::Recommend(of) if of.positive.len() == EXAMPLES_MAX));
    refused(
        &format!(r#"{{"recommend": {{"positive": [{}], "negative": [1]}}}}"#, many(EXAMPLES_MAX)),
        &format!("too_large @ {at}: 129 examples, at most 128 are accepted"),
    );
    refused(
        &format!(r#"{{"context": [{}]}}"#, vec![r#"{"positive": 1, "negative": 1}"#; 65].join(", ")),
        "too_large @ query.context: 130 examples, at most 128 are accepted",
    );
}

#[test]
fn discovery_and_contexts_take_every_form() {
    let pair = r#"{"positive": 1, "negative": "a"}"#;
    let context = || vec![(id("1"), text("a"))];
    let both = NodeQuery::Discover(Discover { target: Some(dense(&[1.0])), context: context() });
    assert_eq!(query(&format!(r#"{{"discover": {{"target": [1], "context": [{pair}]}}}}"#)), both);
    assert_eq!(query(&format!(r#"{{"discover": {{"target": [1], "context": {pair}}}}}"#)), both);
    let target = NodeQuery::Discover(Discover { target: Some(id("2")), context: vec![] });
    assert_eq!(query(r#"{"discover": {"target": 2}}"#), target);
    let alone = NodeQuery::Discover(Discover { target: None, context: context() });
    assert_eq!(query(&format!(r#"{{"context": [{pair}]}}"#)), alone);
    refused(
        r#"{"discover": {"context": []}}"#,
        "invalid_value @ query.discover.target: missing: give an id, a text or a vector",
    );
    refused(
        r#"{"context": []}"#,
        "invalid_value @ query.context: needs at least one pair: {\"positive\": …, \"negative\": …}",
    );
    refused(
        r#"{"context": [{"positive": 1}]}"#,
        "invalid_value @ query.context[0].negative: missing: give an id, a text or a vector",
    );
}

#[test]
fn diverse_lists_take_every_form() {
    let mmr = |nearest, diversity, candidates| {
        NodeQuery::Mmr(Mmr { nearest: Some(nearest), diversity, candidates })
    };
    assert_eq!(query(r#"{"nearest": "a", "mmr": {}}"#), mmr(text("a"), 0.5, None));
    let full = r#"{"nearest": 4, "mmr": {"diversity": 1, "candidates_limit": 100}}"#;
    assert_eq!(query(full), mmr(id("4"), 1.0, Some(100)));
    assert_eq!(query(r#"{"nearest": "a", "mmr": null}"#), NodeQuery::Text("a".to_owned()));
    refused(
        r#"{"nearest": "a", "mmr": {"diversity": -0.1}}"#,
        "invalid_value @ query.mmr.diversity: the number -0.1 is not a number from 0 to 1",
    );
    refused(
        r#"{"nearest": "a", "mmr": {"candidates_limit": 0}}"#,
        "invalid_value @ query.mmr.candidates_limit: the number 0 is not an integer from 1 to 1000",
    );
    refused(r#"{"mmr": {}}"#, "invalid_value @ query.nearest: missing: give a text, a vector or an id");
    let levels = |inner: &str| {
        let leaf = r#"{"query": "a", "using": "v"}"#;
        let middle = format!(r#"{{"query": {inner}, "using": "v", "prefetch": {leaf}}}"#);
        parse(&format!(r#""query": "a", "using": "v", "prefetch": {middle}"#)).map(drop)
    };
    assert_eq!(levels("\"a\""), Ok(()));
    let deep = "too_deep @ prefetch: the plan has 4 levels, at most 3 are accepted";
    assert_eq!(levels(r#"{"nearest": "a", "mmr": {}}"#), Err(deep.to_owned()), "a choice is a level");
}

#[test]
fn examples_are_checked_against_the_fields() {
    let misfit = |using: &str, query: &str| {
        let plan = node(&format!("\"using\": \"{using}\", \"query\": {query}"));
        plan.check_fields(&plan_spec()).map_or_else(|fault| line(&fault), |()| String::new())
    };
    for (using, query) in [
        ("dense", r#"{"recommend": {"positive": [1, "a", [1, 2, 3]]}}"#),
        ("bm25", r#"{"recommend": {"positive": ["a"], "strategy": "sum_scores"}}"#),
        ("colbert", r#"{"discover": {"target": [[1, 2]], "context": {"positive": 1, "negative": "a"}}}"#),
        ("image", r#"{"nearest": [1, 2], "mmr": {"candidates_limit": 500}}"#),
        ("colbert", r#"{"nearest": "a", "mmr": {"candidates_limit": 100}}"#),
    ] {
        assert_eq!(misfit(using, query), "", "{using} {query}");
    }
    let terms = "vector \"bm25\" holds the terms of a text, for BM25, and no vector: use another field";
    assert_eq!(misfit("bm25", "17"), format!("invalid_value @ query: {terms}"));
    assert_eq!(
        misfit("bm25", r#"{"recommend": {"positive": ["a"], "negative": [1]}}"#),
        format!("invalid_value @ query.recommend.negative[0]: {terms}")
    );
    assert_eq!(
        misfit("bm25", r#"{"nearest": "a", "mmr": {}}"#),
        format!("invalid_value @ query.mmr: {terms}")
    );
    assert_eq!(
        misfit("image", r#"{"recommend": {"positive": [1, "a"]}}"#),
        "invalid_value @ query.recommend.positive[1]: vector \"image\" has no model to make it from text; \
         give a dense vector as \"query\""
    );
    assert_eq!(
        misfit("dense", r#"{"context": [{"positive": 1, "negative": [1, 2]}]}"#),
        "wrong_dimension @ query.context[0].negative: the vector has 2 dimensions, the index has 3"
    );
    assert_eq!(
        misfit("colbert", r#"{"nearest": "a", "mmr": {"candidates_limit": 101}}"#),
        "invalid_value @ query.mmr: \"mmr\" chooses among 101 hits (as many as the limit unless \
         \"candidates_limit\" is given); multi vectors take at most 100"
    );
    let prefetch = r#""prefetch": {"query": "a", "using": "dense"}, "using": "cross""#;
    let reranked = node(&format!(r#"{prefetch}, "query": 17"#)).check_fields(&plan_spec());
    let expect = "invalid_value @ query: reranker \"cross\" reads texts: give a text as \"query\"";
    assert_eq!(reranked.map_err(|fault| line(&fault)), Err(expect.to_owned()));
}

#[test]
fn configured_plans_choose_from_what_the_text_finds() {
    let parse = |query| {
        let plan = json!({"using": "dense", "query": query, "score_threshold": 0.5});
        Node::parse_plan(&plan, &limits(), "plans.p").map_err(|fault| line(&fault))
    };
    let found = parse(json!({"mmr": {"diversity": 0.2}})).expect("a plan");
    assert_eq!(found.query, Some(NodeQuery::Mmr(Mmr { nearest: None, diversity: 0.2, candidates: None })));
    assert_eq!(found.score_threshold, Some(0.5));
    for (query, at, what) in [
        (json!(17), "query", "the id of a document"),
        (json!({"id": "a"}), "query.id", "the id of a document"),
        (json!({"recommend": {"positive": ["a"]}}), "query.recommend", "examples"),
        (json!({"context": []}), "query.context", "examples"),
        (json!({"discover": {}}), "query.discover", "examples"),
    ] {
        let message = "it searches the query's text";
        let expect = format!("invalid_value @ plans.p.{at}: a configured plan cannot hold {what}: {message}");
        assert_eq!(parse(query), Err(expect));
    }
}

#[test]
fn thresholds_offsets_and_vectors_are_read() {
    let top = |fields: &str| parse(&format!("\"text\": \"a\", {fields}"));
    let threshold = |fields: &str| top(fields).map(|query| query.score_threshold);
    assert_eq!(threshold(r#""score_threshold": -1.5"#), Ok(Some(-1.5)));
    assert_eq!(threshold(r#""score_threshold": null"#), Ok(None));
    let fault = "invalid_value @ score_threshold: the string \"1\" is not a number";
    assert_eq!(threshold(r#""score_threshold": "1""#), Err(fault.to_owned()));
    let below =
        node(r#""prefetch": {"query": "a", "using": "v", "score_threshold": 2}, "query": {"fusion": "rrf"}"#);
    assert_eq!((below.score_threshold, below.prefetch[0].score_threshold), (None, Some(2.0)));
    let offset = |fields: &str| top(fields).map(|query| query.offset);
    assert_eq!(offset(r#""offset": 990, "limit": 10"#), Ok(990));
    assert_eq!(
        offset(r#""offset": 991, "limit": 10"#),
        Err("invalid_value @ offset: offset 991 and limit 10 are more than 1000 together".to_owned())
    );
    assert_eq!(
        offset(r#""offset": 18446744073709551615"#),
        Err("invalid_value @ offset: offset 18446744073709551615 and limit 10 are more than 1000 together"
            .to_owned())
    );
    let fault = "invalid_value @ offset: the number -1 is not an integer of at least 0";
    assert_eq!(offset(r#""offset": -1"#), Err(fault.to_owned()));
    let fault = "unknown_field @ prefetch[0].offset: unknown field \"offset\"";
    let below =
        parse(r#""prefetch": [{"query": "a", "using": "v", "offset": 1}], "query": {"fusion": "rrf"}"#);
    assert!(below.is_err_and(|line| line.starts_with(fault)));
    let vectors = |fields: &str| top(fields).map(|query| query.with_vectors);
    let named = WithVectors::Of(vec!["a".to_owned()]);
    assert_eq!(vectors(r#""with_vector": true"#), Ok(WithVectors::All));
    assert_eq!(vectors(r#""with_vectors": ["a"]"#), Ok(named.clone()));
    assert_eq!(vectors(r#""with_vectors": ["a"], "with_vector": ["a"]"#), Ok(named));
    assert_eq!(
        vectors(r#""with_vectors": ["a"], "with_vector": true"#),
        Err("invalid_value @ with_vectors: is not what \"with_vector\" says: give one of them".to_owned())
    );
    assert_eq!(
        vectors(r#""with_vectors": "a""#),
        Err("invalid_value @ with_vectors: the string \"a\" is not true, false or an array of vector names"
            .to_owned())
    );
    let path = top(r#""with_payload": {"exclude": ["a.b", "l[].x", "\"q.r\"", "a["]}"#).map(drop);
    assert_eq!(
        path,
        Err("invalid_value @ with_payload.exclude[3]: \"a[\" is not a path such as \"city\", \"address.city\", \
             \"offers[].price\" or, in quotes, \"\\\"a.b\\\"\""
            .to_owned())
    );
}

#[test]
fn the_text_of_a_query_is_found_where_it_stands() {
    for (query, text) in [
        (json!({"query": {"text": "a"}, "using": "v"}), Some("a")),
        (json!({"query": "a", "using": "v"}), Some("a")),
        (json!({"query": {"nearest": "a", "mmr": {}}, "using": "v"}), Some("a")),
        (json!({"prefetch": {"query": {"nearest": {"text": "a"}}}, "query": {"fusion": "rrf"}}), Some("a")),
        (json!({"query": {"nearest": {"id": "a"}}, "using": "v"}), None),
        (json!({"query": 17, "using": "v"}), None),
    ] {
        assert_eq!(freshet_schemas::text_of(&query), text, "{query}");
    }
}
