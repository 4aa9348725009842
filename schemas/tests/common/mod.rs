//! What several test files need: a document spec, query limits, records.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use freshet_schemas::{
    DocumentSpec, Fault, Node, NodeQuery, Params, PlanSpec, QueryLimits, Record, SourceSpec, VectorKind,
    VectorSpec,
};

/// Fields of all kinds: `dense` (3), `bm25` and `colbert` (2) from text, `image` (2) without a model.
pub(crate) fn fields() -> BTreeMap<String, VectorSpec> {
    let field = |name: &str, kind, size, from_text| {
        (name.to_owned(), VectorSpec { kind, size, from_text, terms: name == "bm25" })
    };
    BTreeMap::from([
        field("dense", VectorKind::Dense, Some(3), true),
        field("bm25", VectorKind::Sparse, None, true),
        field("colbert", VectorKind::Multi, Some(2), true),
        field("image", VectorKind::Dense, Some(2), false),
    ])
}

/// The same fields, and a reranker `cross`.
pub(crate) fn plan_spec() -> PlanSpec {
    PlanSpec { vectors: fields(), rerankers: [("cross".to_owned(), 100)].into() }
}

pub(crate) fn spec() -> DocumentSpec {
    DocumentSpec {
        id: "id".to_owned(),
        text: vec!["title".to_owned(), "text".to_owned()],
        title: None,
        payload: None,
        text_bytes_max: 100,
        vectors: fields(),
        source: SourceSpec::default(),
    }
}

pub(crate) fn limits() -> QueryLimits {
    QueryLimits { limit_max: 1000, depth_max: 3, nodes_max: 5, text_bytes_max: 100 }
}

/// A record of partition 3, offset 17.
pub(crate) fn record(key: Option<&str>, value: Option<&str>) -> Record {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let (key, value) = (key.map(bytes), value.map(bytes));
    Record { partition: 3, offset: 17, key, value, headers: Vec::new() }
}

/// A fault in one line: `code @ field: message`.
pub(crate) fn line(fault: &Fault) -> String {
    let field = fault.field.as_deref().unwrap_or("-");
    format!("{} @ {field}: {}", fault.code.as_str(), fault.message)
}

/// A leaf.
pub(crate) fn search(query: NodeQuery, using: &str) -> Node {
    let (query, using) = (Some(query), Some(using.to_owned()));
    Node {
        prefetch: Vec::new(),
        query,
        using,
        limit: 10,
        params: Params::default(),
        filter: None,
        score_threshold: None,
    }
}

/// A query by text.
pub(crate) fn text(text: &str) -> NodeQuery {
    NodeQuery::Text(text.to_owned())
}
