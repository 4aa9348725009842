//! Trees become stages.

use std::collections::BTreeMap;

use freshet_schemas::{
    Ask, Condition, FaultCode, Filter, Fusion, Node, NodeQuery, Params, PlanSpec, Query, VectorKind,
};

use super::*;

fn leaf(using: &str) -> Node {
    Node {
        prefetch: vec![],
        query: None,
        using: Some(using.into()),
        limit: 100,
        params: Params::default(),
        filter: None,
        score_threshold: None,
    }
}

fn plans(node: Node) -> Plans {
    let spec = |kind| freshet_schemas::VectorSpec { kind, size: None, from_text: true, terms: false };
    let fields = [("bm25", VectorKind::Sparse), ("colbert", VectorKind::Multi), ("dense", VectorKind::Dense)];
    let vectors = fields.into_iter().map(|(name, kind)| (name.to_owned(), spec(kind))).collect();
    let rerankers = [("cross".to_owned(), 50)].into();
    Plans::new(PlanSpec { vectors, rerankers }, BTreeMap::from([("default".into(), node)]))
}

fn query() -> Query {
    Query {
        id: "q".into(),
        ask: Ask::Text { text: "hello".into(), plan: None },
        filter: None,
        limit: 10,
        consistency: Default::default(),
        with_payload: Default::default(),
        explain: true,
        offset: 0,
        score_threshold: None,
        with_vectors: Default::default(),
    }
}

#[test]
fn equal_subtrees_run_once() {
    let rescored = Node { prefetch: vec![leaf("dense"), leaf("bm25")], ..leaf("colbert") };
    let root = Node {
        prefetch: vec![leaf("dense"), leaf("bm25"), rescored],
        query: Some(NodeQuery::Fusion(Fusion::Dbsf)),
        using: None,
        limit: 1,
        params: Params::default(),
        filter: None,
        score_threshold: None,
    };
    let plan = plans(root).compile(&query()).unwrap();
    assert_eq!(plan.stages.len(), 4);
    assert_eq!(plan.inputs.len(), 3);
    assert_eq!(plan.stages[2].from, [0, 1]);
    assert_eq!(plan.stages[3].from, [0, 1, 2]);
    assert_eq!(plan.stages.iter().map(|s| s.round).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(plan.stages[3].limit, 10, "the limit of a configured plan's root is the query's");
}

#[test]
fn leaves_search_by_the_filters_of_all_stages_above() {
    let has_id = |id: &str| Filter { must: vec![Condition::HasId(vec![id.into()])], ..Filter::default() };
    let of = |filter: Option<Filter>| Node { filter, ..leaf("dense") };
    let fuse = |prefetch: Vec<Node>, filter: Option<Filter>| Node {
        prefetch,
        query: Some(NodeQuery::Fusion(Fusion::Dbsf)),
        using: None,
        filter,
        ..leaf("dense")
    };
    let inner = fuse(vec![of(None), of(Some(has_id("a")))], Some(has_id("a")));
    let root = fuse(vec![inner, of(None)], Some(Filter::default()));
    let mut asked = query();
    let filters = |asked: &Query| -> Vec<Option<Filter>> {
        let plan = plans(root.clone()).compile(asked).unwrap();
        let filter = |stage: &Stage| match &stage.work {
            Work::Search { filter, .. } => Some(filter.clone()),
            _ => None,
        };
        plan.stages.iter().filter_map(filter).collect()
    };
    assert_eq!(filters(&asked), [Some(has_id("a")), None], "equal leaves run once");
    asked.filter = Some(has_id("b"));
    let found = filters(&asked);
    let passes = |filter: &Option<Filter>, id: &str| {
        filter.as_ref().is_some_and(|filter| filter.matches(id, &Default::default()))
    };
    assert!(["a", "b"].iter().all(|id| !passes(&found[0], id)), "both must hold");
    assert_eq!(found.last().unwrap().as_ref(), asked.filter.as_ref());
}

#[test]
fn a_reranker_reads_the_text_of_the_query_after_a_trip_for_the_texts() {
    let fused = Node {
        prefetch: vec![leaf("dense"), leaf("bm25")],
        query: Some(NodeQuery::Fusion(Fusion::Dbsf)),
        using: None,
        ..leaf("dense")
    };
    let root = Node { prefetch: vec![fused], ..leaf("cross") };
    let plan = plans(root).compile(&query()).unwrap();
    assert_eq!(plan.stages[3].work, Work::Rerank { reranker: 0, text: "hello".into(), documents_max: 50 });
    assert_eq!((plan.stages[3].round, plan.inputs.len()), (1, 2));
}

#[test]
fn unknown_names_list_what_is_known() {
    let mut asked = query();
    asked.ask = Ask::Text { text: "x".into(), plan: Some("nope".into()) };
    let fault = plans(leaf("dense")).compile(&asked).unwrap_err();
    assert_eq!(fault.code, FaultCode::UnknownPlan);
    assert!(fault.message.contains("known: default"));
}
