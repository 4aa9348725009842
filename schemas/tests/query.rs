//! Every form of a query, and every fault.

mod common;

use std::collections::BTreeMap;

use common::{limits, line, record, search, text};
use freshet_schemas::{
    Ask, Consistency, Fusion, Node, NodeQuery, Params, Query, QueryFault, SparseVector, WithPayload,
    WithVectors,
};

fn parse(value: &str) -> Result<Query, QueryFault> {
    Query::parse(&record(None, Some(value)), &limits())
}

/// A query with these fields besides its id.
fn query(fields: &str) -> Query {
    parse(&format!("{{\"id\": \"q\", {fields}}}")).unwrap_or_else(|refusal| panic!("{fields}: {refusal:?}"))
}

/// The plan of a query with these fields.
fn plan(fields: &str) -> Node {
    match query(fields).ask {
        Ask::Plan(node) => node,
        Ask::Text { .. } | Ask::Count | Ask::Page(_) => panic!("{fields} is no plan"),
    }
}

/// A query with these fields is refused with this line, and its id is known.
fn refused(fields: &str, expect: &str) {
    match parse(&format!("{{\"id\": \"q\", {fields}}}")) {
        Ok(query) => panic!("{fields}: no fault: {query:?}"),
        Err(QueryFault { id, fault }) => {
            assert_eq!(line(&fault), expect, "{fields}");
            assert_eq!(id.as_deref(), Some("q"), "{fields}");
        }
    }
}

#[test]
fn the_simplest_query_is_a_text() {
    let expect = Query {
        id: "q".to_owned(),
        ask: Ask::Text { text: "how".to_owned(), plan: None },
        filter: None,
        limit: 10,
        consistency: Consistency::Latest,
        with_payload: WithPayload::All,
        explain: true,
        group: None,
        page: None,
        offset: 0,
        score_threshold: None,
        with_vectors: WithVectors::None,
    };
    assert_eq!(query("\"text\": \"how\""), expect);
    let ask = Ask::Text { text: "how".to_owned(), plan: Some("rerank".to_owned()) };
    let fields = "\"text\": \"how\", \"plan\": \"rerank\", \"limit\": 1000, \"explain\": false";
    assert_eq!(query(fields), Query { ask, limit: 1000, explain: false, ..expect });
}

#[test]
fn the_query_of_the_design_is_a_plan() {
    let fields = r#""prefetch": [{"query": {"text": "a"}, "using": "dense", "limit": 20},
                                 {"query": {"text": "a"}, "using": "bm25", "limit": 20}],
                    "query": {"text": "a"}, "using": "colbert", "limit": 7, "with_payload": true"#;
    let leg = |using| Node { limit: 20, ..search(text("a"), using) };
    let prefetch = vec![leg("dense"), leg("bm25")];
    let expect = Node { prefetch, limit: 7, ..search(text("a"), "colbert") };
    assert_eq!(plan(fields), expect);
    assert_eq!(query(fields).limit, 7);
}

#[test]
fn a_query_takes_every_form() {
    let sparse = SparseVector { indices: vec![2, 9], values: vec![0.5, 1.0] };
    let forms = [
        (r#"{"text": "a"}"#, text("a")),
        (r#"{"text": "a", "model": "m"}"#, text("a")),
        (r#""a""#, text("a")),
        ("[1, 2.5]", NodeQuery::Dense(vec![1.0, 2.5])),
        ("[[1, 2], [3, 4]]", NodeQuery::Multi(vec![vec![1.0, 2.0], vec![3.0, 4.0]])),
        (r#"{"indices": [9, 2], "values": [1, 0.5]}"#, NodeQuery::Sparse(sparse)),
    ];
    for (form, expect) in forms {
        let expect = search(expect, "v");
        assert_eq!(plan(&format!("\"using\": \"v\", \"query\": {form}")), expect);
        assert_eq!(plan(&format!("\"using\": \"v\", \"query\": {{\"nearest\": {form}}}")), expect);
    }
}

#[test]
fn fusions_take_every_form() {
    let rrf = |k, weights: &[f64]| Fusion::Rrf { k, weights: weights.to_vec() };
    let forms = [
        (r#"{"fusion": "rrf"}"#, rrf(2.0, &[])),
        (r#"{"fusion": "dbsf"}"#, Fusion::Dbsf),
        (r#"{"rrf": {}}"#, rrf(2.0, &[])),
        (r#"{"rrf": {"k": 60, "weights": [1, 3]}}"#, rrf(60.0, &[1.0, 3.0])),
    ];
    let leg = r#"{"query": "a", "using": "v"}"#;
    for (form, fusion) in forms {
        let found = plan(&format!("\"prefetch\": [{leg}, {leg}], \"query\": {form}"));
        assert_eq!(found.query, Some(NodeQuery::Fusion(fusion)), "{form}");
        assert_eq!((found.using, found.prefetch.len()), (None, 2));
    }
    let one = plan(&format!("\"prefetch\": {leg}, \"query\": {{\"fusion\": \"rrf\"}}"));
    assert_eq!(one.prefetch, [search(text("a"), "v")]);
}

#[test]
fn what_asks_for_nothing_is_accepted() {
    let fields = r#""query": "a", "using": "v", "offset": 0, "with_vector": false, "standing": false,
                    "with_vectors": false, "score_threshold": null, "filter": null, "prefetch": [], "text": null, "limit": null,
                    "params": {"hnsw_ef": 128, "exact": true, "quantization": null}"#;
    assert_eq!(
        plan(fields),
        Node { params: Params { exact: true, hnsw_ef: Some(128), nprobe: None }, ..search(text("a"), "v") }
    );
}

#[test]
fn consistency_and_payload_take_every_form() {
    let consistency = |value: &str| query(&format!("\"text\": \"a\", \"consistency\": {value}")).consistency;
    assert_eq!(consistency("\"latest\""), Consistency::Latest);
    assert_eq!(consistency("\"strong\""), Consistency::Strong);
    let of = |name: &str| (name.to_owned(), BTreeMap::from([(0, 4711), (12, -1)]));
    let offsets = Consistency::Documents(BTreeMap::from([of("documents")]));
    assert_eq!(consistency(r#"{"documents": {"0": 4711, "12": -1}}"#), offsets);
    let offsets = Consistency::Documents(BTreeMap::from([of("news"), of("tickets")]));
    assert_eq!(consistency(r#"{"tickets": {"0": 4711, "12": -1}, "news": {"0": 4711, "12": -1}}"#), offsets);
    let payload = |value: &str| query(&format!("\"text\": \"a\", \"with_payload\": {value}")).with_payload;
    let names = || vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(payload("true"), WithPayload::All);
    assert_eq!(payload("false"), WithPayload::None);
    assert_eq!(payload(r#"["a", "b"]"#), WithPayload::Include(names()));
    assert_eq!(payload(r#"{"include": ["a", "b"]}"#), WithPayload::Include(names()));
    assert_eq!(payload(r#"{"exclude": ["a", "b"]}"#), WithPayload::Exclude(names()));
}

/// What is refused: key, value, the id that is known all the same, the line.
fn identity(key: Option<&str>, value: Option<&str>, id: Option<&str>, expect: &str) {
    let refusal = Query::parse(&record(key, value), &limits()).expect_err("a fault");
    assert_eq!((refusal.id.as_deref(), line(&refusal.fault).as_str()), (id, expect));
}

#[test]
fn the_id_is_in_the_value_or_in_the_key_and_known_where_it_can_be() {
    let value = |id: &str| format!("{{{id}\"text\": \"a\"}}");
    let id = |key, id: &str| Query::parse(&record(key, Some(&value(id))), &limits()).map(|q| q.id);
    assert_eq!(id(Some("k"), ""), Ok("k".to_owned()));
    assert_eq!(id(Some("7"), "\"id\": 7, "), Ok("7".to_owned()));
    let missing = "missing_id @ id: no id: the value has no \"id\" and the record has no key";
    identity(None, Some(&value("")), None, missing);
    let other = "id_mismatch @ id: id \"a\" is not the record's key \"k\"";
    identity(Some("k"), Some(&value("\"id\": \"a\", ")), Some("a"), other);
    identity(Some("k"), Some(&value("\"id\": \"\", ")), Some("k"), "invalid_value @ id: the id is empty");
    let broken = "not_json @ -: not JSON: EOF while parsing an object at line 1 column 1";
    identity(Some("k"), Some("{"), Some("k"), broken);
    identity(None, Some("{"), None, broken);
    let none = "not_json @ -: the record has no value; a query is a JSON object";
    identity(Some("k"), None, Some("k"), none);
    let mut bytes = record(None, Some(&value("\"id\": \"a\", ")));
    bytes.key = Some(vec![0xff]);
    let refusal = Query::parse(&bytes, &limits()).expect_err("a fault");
    assert_eq!(line(&refusal.fault), "not_utf8 @ -: key is not UTF-8 from byte 0 on");
    assert_eq!(refusal.id.as_deref(), Some("a"));
}

#[test]
fn unknown_fields_are_named_with_their_path() {
    let node = "known: \"prefetch\", \"query\", \"using\", \"limit\", \"params\", \"filter\", \
                \"score_threshold\"";
    refused(
        r#""prefetch": [{"query": "a", "using": "v"}, {"query": "a", "using": "v", "foo": 1}],
           "query": {"fusion": "rrf"}"#,
        &format!("unknown_field @ prefetch[1].foo: unknown field \"foo\"; {node}"),
    );
    refused(
        r#""prefetch": {"prefetch": [{"foo": 1}], "query": "a", "using": "v"}, "query": {"fusion": "rrf"}"#,
        &format!("unknown_field @ prefetch.prefetch[0].foo: unknown field \"foo\"; {node}"),
    );
    refused(
        r#""text": "a", "topk": 3"#,
        "unknown_field @ topk: unknown field \"topk\"; known: \"id\", \"text\", \"plan\", \
         \"prefetch\", \"query\", \"using\", \"limit\", \"params\", \"filter\", \"with_payload\", \
         \"consistency\", \"standing\", \"explain\", \"offset\", \"with_vector\", \"with_vectors\", \"count\", \"group_by\", \"group_size\", \"page\", \"cursor\", \"score_threshold\"",
    );
    let paths = [
        (r#""query": {"text": "a", "foo": 1}, "using": "v""#, "query.foo"),
        (r#""query": {"nearest": "a", "foo": 1}, "using": "v""#, "query.foo"),
        (r#""query": {"foo": 1}, "using": "v""#, "query.foo"),
        (r#""query": {"nearest": {"foo": 1}}, "using": "v""#, "query.nearest.foo"),
        (r#""query": {"indices": [], "values": [], "foo": 1}, "using": "v""#, "query.foo"),
        (r#""query": {"fusion": "rrf", "foo": 1}"#, "query.foo"),
        (r#""query": {"rrf": {"foo": 1}}"#, "query.rrf.foo"),
        (r#""query": "a", "using": "v", "params": {"foo": 1}"#, "params.foo"),
        (r#""text": "a", "with_payload": {"foo": 1}"#, "with_payload.foo"),
    ];
    for (fields, path) in paths {
        let refusal = parse(&format!("{{\"id\": \"q\", {fields}}}")).expect_err(fields);
        let expect = format!("unknown_field @ {path}: unknown field \"foo\"; known: ");
        assert!(line(&refusal.fault).starts_with(&expect), "{:?}", refusal.fault);
    }
}

#[test]
fn what_qdrant_has_and_freshet_has_not_yet_is_named() {
    let cases = [
        (r#""text": "a", "lookup_from": {"collection": "c"}"#, "lookup_from"),
        (r#""text": "a", "standing": true"#, "standing"),
        (r#""text": "a", "shard_key": "s""#, "shard_key"),
        (r#""query": "a", "using": "v", "params": {"quantization": {}}"#, "params.quantization"),
        (r#""query": "a", "using": "v", "params": {"indexed_only": true}"#, "params.indexed_only"),
        (r#""query": {"relevance_feedback": {}}, "using": "v""#, "query.relevance_feedback"),
        (r#""query": {"text": "a", "options": {}}, "using": "v""#, "query.options"),
    ];
    for (fields, path) in cases {
        let name = path.rsplit('.').next().expect("a last part");
        refused(fields, &format!("invalid_value @ {path}: \"{name}\" is not supported yet"));
    }
}

#[test]
fn filters_stand_in_every_stage() {
    let has_id = r#"{"must": {"has_id": ["a"]}}"#;
    let filter = freshet_schemas::Filter::parse(&serde_json::from_str(has_id).expect("JSON"), "").ok();
    assert_eq!(query(&format!("\"text\": \"a\", \"filter\": {has_id}")).filter, filter);
    let below = format!("[{{\"query\": \"a\", \"using\": \"v\", \"filter\": {has_id}}}]");
    let fused =
        plan(&format!("\"prefetch\": {below}, \"query\": {{\"fusion\": \"rrf\"}}, \"filter\": {has_id}"));
    assert_eq!((&fused.filter, &fused.prefetch[0].filter), (&filter, &filter));
    refused(
        r#""prefetch": [{"query": "a", "using": "v", "filter": {"must": [{"has_id": [null]}]}}],
           "query": {"fusion": "rrf"}"#,
        "invalid_value @ prefetch[0].filter.must[0].has_id[0]: null is not an id: a string or an integer",
    );
}

#[test]
fn limits_are_kept() {
    let range = "is not an integer from 1 to 1000";
    for limit in ["0", "1000000", "-1", "1.5"] {
        refused(
            &format!("\"text\": \"a\", \"limit\": {limit}"),
            &format!("invalid_value @ limit: the number {limit} {range}"),
        );
    }
    refused("\"text\": \"a\", \"limit\": \"5\"", &format!("invalid_value @ limit: the string \"5\" {range}"));
    refused(
        r#""prefetch": [{"query": "a", "using": "v", "limit": 1001}], "query": {"fusion": "rrf"}"#,
        &format!("invalid_value @ prefetch[0].limit: the number 1001 {range}"),
    );
    refused(
        r#""query": "a", "using": "v", "params": {"hnsw_ef": 0}"#,
        "invalid_value @ params.hnsw_ef: the number 0 is not an integer of at least 1",
    );
}

#[test]
fn plans_that_are_too_deep_or_too_large_are_refused_with_both_numbers() {
    let nested = |depth: usize| {
        let open = "\"query\": \"a\", \"using\": \"v\", \"prefetch\": {".repeat(depth - 1);
        format!("{open}\"query\": \"a\", \"using\": \"v\"{}", "}".repeat(depth - 1))
    };
    plan(&nested(3));
    refused(&nested(4), "too_deep @ prefetch: the plan has 4 levels, at most 3 are accepted");
    refused(&nested(50), "too_deep @ prefetch: the plan has 50 levels, at most 3 are accepted");
    let wide = |nodes: usize| {
        let legs = vec![r#"{"query": "a", "using": "v"}"#; nodes - 1].join(", ");
        format!("\"query\": {{\"fusion\": \"rrf\"}}, \"prefetch\": [{legs}]")
    };
    plan(&wide(5));
    refused(&wide(6), "too_deep @ prefetch: the plan has 6 nodes, at most 5 are accepted");
    let refusal = parse(&format!("{{{}}}", nested(130))).expect_err("beyond JSON's own depth");
    assert!(line(&refusal.fault).starts_with("too_deep @ -: nested more than 127 deep"), "{refusal}");
}

#[test]
fn texts_are_neither_blank_nor_too_long() {
    let long = "x".repeat(101);
    let size = "text has 101 bytes, at most 100 are accepted";
    refused(r#""text": " \n""#, "empty_text @ text: the text is blank");
    refused(r#""query": "", "using": "v""#, "empty_text @ query: the text is blank");
    refused(r#""query": {"text": ""}, "using": "v""#, "empty_text @ query.text: the text is blank");
    refused(&format!("\"text\": \"{long}\""), &format!("too_large @ text: {size}"));
    refused(
        &format!("\"query\": {{\"nearest\": {{\"text\": \"{long}\"}}}}, \"using\": \"v\""),
        &format!("too_large @ query.nearest.text: {size}"),
    );
    refused(r#""text": 4"#, "invalid_value @ text: the number 4 is not a string");
}

#[test]
fn parts_that_do_not_go_together_are_refused() {
    refused(
        r#""plan": "p", "query": "a", "using": "v""#,
        "invalid_value @ plan: a named plan needs \"text\"",
    );
    for (field, value) in [("query", "\"a\""), ("prefetch", "[]"), ("using", "\"v\""), ("params", "{}")] {
        refused(
            &format!("\"text\": \"a\", \"{field}\": {value}"),
            &format!(
                "invalid_value @ text: \"text\" runs a configured plan and cannot stand beside \"{field}\"; \
                 put it into the query: {{\"query\": {{\"text\": …}}, \"using\": …}}"
            ),
        );
    }
    refused(
        r#""query": "a""#,
        "invalid_value @ using: missing: name the vector field to search, such as \"using\": \"dense\"",
    );
    refused(
        r#""query": "a", "prefetch": {"query": "a", "using": "v"}"#,
        "invalid_value @ using: missing: name the vector field to rescore by, such as \"using\": \
         \"colbert\", or fuse the prefetches with \"query\": {\"fusion\": \"dbsf\"}",
    );
    refused(
        r#""prefetch": [{"using": "v"}], "query": {"fusion": "rrf"}"#,
        "invalid_value @ prefetch[0].query: missing: give a text, a vector, {\"text\": …}, {\"id\": …}, {\"nearest\": …}, {\"recommend\": …}, {\"discover\": …}, {\"context\": …}, {\"fusion\": …}, {\"rrf\": …}, {\"list\": …}, {\"order_by\": …} or {\"formula\": …}",
    );
    refused(
        r#""query": {"fusion": "rrf"}"#,
        "invalid_value @ query: a fusion needs \"prefetch\": the lists to fuse",
    );
    refused(
        r#""query": {"fusion": "rrf"}, "prefetch": {"query": "a", "using": "v"}, "using": "v""#,
        "invalid_value @ using: a fusion takes its prefetches as they are and has no \"using\"",
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    let leg = r#""prefetch": {"query": "a", "using": "v"}"#;
    let cases = [
        ("\"prefetch\": 3", "prefetch: the number 3 is not an object or an array of objects"),
        ("\"prefetch\": [3]", "prefetch[0]: the number 3 is not an object"),
        (
            "\"query\": true, \"using\": \"v\"",
            "query: true is not a text, a vector, {\"text\": …}, {\"id\": …}, {\"nearest\": …}, {\"recommend\": …}, {\"discover\": …}, {\"context\": …}, {\"fusion\": …}, {\"rrf\": …}, {\"list\": …}, {\"order_by\": …} or {\"formula\": …}",
        ),
        ("\"query\": [], \"using\": \"v\"", "query: the vector is empty"),
        (
            "\"query\": {}, \"using\": \"v\"",
            "query: the query says nothing: give a text, a vector, {\"text\": …}, {\"id\": …}, {\"nearest\": …}, {\"recommend\": …}, {\"discover\": …}, {\"context\": …}, {\"fusion\": …}, {\"rrf\": …}, {\"list\": …}, {\"order_by\": …} or {\"formula\": …}",
        ),
        ("\"query\": {\"text\": 3}, \"using\": \"v\"", "query.text: the number 3 is not a string"),
        (
            "\"query\": {\"text\": \"a\", \"model\": 3}, \"using\": \"v\"",
            "query.model: the number 3 is not a string",
        ),
        (
            "\"query\": {\"nearest\": null}, \"using\": \"v\"",
            "query.nearest: missing: give a text or a vector",
        ),
        ("\"query\": \"a\", \"using\": 3", "using: the number 3 is not a string"),
        ("\"query\": \"a\", \"using\": \"v\", \"params\": 3", "params: the number 3 is not an object"),
        (
            "\"query\": \"a\", \"using\": \"v\", \"params\": {\"exact\": 1}",
            "params.exact: the number 1 is not true or false",
        ),
        ("\"text\": \"a\", \"explain\": \"no\"", "explain: the string \"no\" is not true or false"),
        (
            "\"text\": \"a\", \"with_payload\": 3",
            "with_payload: the number 3 is not true, false or an array of field names",
        ),
        ("\"text\": \"a\", \"with_payload\": [3]", "with_payload[0]: the number 3 is not a field name"),
        ("\"text\": \"a\", \"with_payload\": {}", "with_payload: takes one of \"include\", \"exclude\""),
        (
            "\"text\": \"a\", \"consistency\": \"eventual\"",
            "consistency: the string \"eventual\" is not \"latest\", \"strong\" or {\"documents\": {PARTITION: OFFSET}}",
        ),
        (
            "\"text\": \"a\", \"consistency\": {\"documents\": [1]}",
            "consistency.documents: an array is not an object",
        ),
        (
            "\"text\": \"a\", \"consistency\": {\"documents\": {\"01\": 1}}",
            "consistency.documents.01: \"01\" is not the number of a partition",
        ),
        (
            "\"text\": \"a\", \"consistency\": {\"documents\": {\"0\": -2}}",
            "consistency.documents.0: the number -2 is not an offset",
        ),
    ];
    for (fields, expect) in cases {
        refused(fields, &format!("invalid_value @ {expect}"));
    }
    let fusions = [
        (r#"{"fusion": "sum"}"#, "query.fusion: the string \"sum\" is not \"rrf\" or \"dbsf\""),
        (r#"{"rrf": 3}"#, "query.rrf: the number 3 is not an object"),
        (r#"{"rrf": {"k": 0.5}}"#, "query.rrf.k: the number 0.5 is not a number of at least 1"),
        (r#"{"rrf": {"weights": [1, 2]}}"#, "query.rrf.weights: 2 weights for 1 prefetches"),
        (r#"{"rrf": {"weights": [0]}}"#, "query.rrf.weights[0]: the number 0 is not a positive number"),
        (r#"{"rrf": {"weights": 3}}"#, "query.rrf.weights: the number 3 is not an array of numbers"),
    ];
    for (fusion, expect) in fusions {
        refused(&format!("{leg}, \"query\": {fusion}"), &format!("invalid_value @ {expect}"));
    }
    refused(
        "\"query\": [1, 1e39], \"using\": \"v\"",
        "not_finite @ query[1]: 1e+39 is beyond the range of 32-bit floats",
    );
    let refusal = Query::parse(&record(Some("q"), Some("{\"query\": [1, NaN]}")), &limits());
    let refusal = refusal.expect_err("NaN is no number");
    assert_eq!(line(&refusal.fault), "not_finite @ query[1]: NaN at line 1 column 15 is not a finite number");
    assert_eq!(refusal.id.as_deref(), Some("q"));
}
