//! Plans: against the configured vector fields, and in the configuration.

mod common;

use common::{limits, line, plan_spec, record, search, text};
use freshet_schemas::{Ask, Node, Query};
use serde_json::json;

/// The misfits of a query with the fields of all kinds.
fn misfit(fields_of_query: &str) -> String {
    let value = format!("{{{fields_of_query}}}");
    let query = Query::parse(&record(Some("q"), Some(&value)), &limits()).expect("a query");
    let Ask::Plan(plan) = query.ask else { panic!("{value} is no plan") };
    plan.check_fields(&plan_spec()).map_or_else(|fault| line(&fault), |()| String::new())
}

#[test]
fn plans_are_checked_against_the_fields() {
    for (query, using) in [
        ("\"a\"", "dense"),
        ("\"a\"", "bm25"),
        ("\"a\"", "colbert"),
        ("[1, 2, 3]", "dense"),
        ("[1, 2]", "image"),
        ("[[1, 2]]", "colbert"),
        (r#"{"indices": [1], "values": [1]}"#, "bm25"),
    ] {
        assert_eq!(misfit(&format!("\"query\": {query}, \"using\": \"{using}\"")), "");
    }
    assert_eq!(
        misfit(
            r#""prefetch": [{"query": "a", "using": "dense"}, {"query": "a", "using": "splade"}],
                  "query": {"fusion": "rrf"}"#
        ),
        "unknown_vector @ prefetch[1].using: vector \"splade\" is not configured; \
         known: \"bm25\", \"colbert\", \"dense\", \"image\"; rerankers: \"cross\""
    );
    assert_eq!(
        misfit(r#""query": "a", "using": "image""#),
        "invalid_value @ using: vector \"image\" has no model to make it from text; \
         give a dense vector as \"query\""
    );
    assert_eq!(
        misfit(r#""query": [1, 2], "using": "bm25""#),
        "invalid_value @ query: the vector is dense, the field is sparse: \
         it takes an object of \"indices\" and \"values\""
    );
    assert_eq!(
        misfit(r#""query": [1, 2], "using": "dense""#),
        "wrong_dimension @ query: the vector has 2 dimensions, the index has 3"
    );
    assert_eq!(
        misfit(r#""query": [[1, 2, 3]], "using": "colbert""#),
        "wrong_dimension @ query: the vector has 3 dimensions, the index has 2"
    );
}

#[test]
fn rerankers_read_what_others_found() {
    let prefetch = r#""prefetch": {"query": "a", "using": "dense"}"#;
    assert_eq!(misfit(&format!(r#"{prefetch}, "query": "a", "using": "cross""#)), "");
    assert_eq!(
        misfit(r#""query": "a", "using": "cross""#),
        "invalid_value @ using: reranker \"cross\" reads what others found: give it a \"prefetch\""
    );
    assert_eq!(
        misfit(&format!(r#"{prefetch}, "query": [1, 2], "using": "cross""#)),
        "invalid_value @ query: reranker \"cross\" reads texts: give a text as \"query\""
    );
}

#[test]
fn configured_plans_search_the_text_of_the_query() {
    let parse = |value| Node::parse_plan(&value, &limits(), "plans.p").map_err(|fault| line(&fault));
    let found = parse(json!({"prefetch": [{"using": "dense", "limit": 20}], "using": "colbert"}));
    let leaf = Node { query: None, limit: 20, ..search(text(""), "dense") };
    let expect = Node { prefetch: vec![leaf], query: None, ..search(text(""), "colbert") };
    assert_eq!(found, Ok(expect.clone()));
    assert_eq!(expect.check_fields(&plan_spec()), Ok(()));
    let refused = |value, expect: &str| assert_eq!(parse(value), Err(expect.to_owned()));
    refused(json!(3), "invalid_value @ plans.p: the number 3 is not an object");
    refused(
        json!({"using": "dense", "limit": 5}),
        "invalid_value @ plans.p.limit: the limit of a plan comes from the query; \
         only its prefetches have one",
    );
    refused(
        json!({"using": "dense", "query": {"nearest": [1, 2]}}),
        "invalid_value @ plans.p.query.nearest: a configured plan cannot hold a vector: \
         it searches the query's text",
    );
    refused(
        json!({"prefetch": [{"using": "dense"}]}),
        "invalid_value @ plans.p.using: missing: name the vector field to rescore by, such as \
         \"using\": \"colbert\", or fuse the prefetches with \"query\": {\"fusion\": \"dbsf\"}",
    );
    refused(
        json!({"prefetch": [{"using": "dense", "id": 1}], "using": "colbert"}),
        "unknown_field @ plans.p.prefetch[0].id: unknown field \"id\"; \
         known: \"prefetch\", \"query\", \"using\", \"limit\", \"params\", \"filter\", \"score_threshold\"",
    );
    let deep = json!({"using": "a", "prefetch": {"using": "a", "prefetch": {"using": "a", "prefetch": {"using": "a"}}}});
    refused(deep, "too_deep @ plans.p.prefetch: the plan has 4 levels, at most 3 are accepted");
}
