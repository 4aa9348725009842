//! Trees become stages.

use std::collections::BTreeMap;

use freshet_schemas::{
    Ask, Condition, Example, Fault, FaultCode, Filter, Fusion, Mmr, Node, NodeQuery, Params, PlanSpec, Query,
    Recommend, Strategy, VectorKind,
};

use super::*;
use crate::index::examples::Formula;

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
        group: None,
        page: None,
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
            Work::Rescore { .. }
            | Work::Rerank { .. }
            | Work::Fuse(_)
            | Work::Examples { .. }
            | Work::Diversify { .. }
            | Work::List { .. }
            | Work::Count { .. }
            | Work::Formula(_)
            | Work::Group { .. } => None,
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

fn example(id: &str) -> Example {
    Example::Document(id.into())
}

fn by(query: NodeQuery, using: &str) -> Node {
    Node { query: Some(query), ..leaf(using) }
}

fn compile(root: Node, change: impl Fn(&mut Query)) -> Result<Plan, Fault> {
    let mut asked = query();
    asked.ask = Ask::Plan(root);
    change(&mut asked);
    plans(leaf("dense")).compile(&asked)
}

/// Per leaf what it leaves out.
fn left_out(plan: &Plan) -> Vec<String> {
    let out = |stage: &Stage| match &stage.work {
        Work::Search { without, .. } | Work::Examples { without, .. } => Some(without.concat()),
        Work::Rescore { .. }
        | Work::Rerank { .. }
        | Work::Fuse(_)
        | Work::Diversify { .. }
        | Work::List { .. }
        | Work::Count { .. }
        | Work::Formula(_)
        | Work::Group { .. } => None,
    };
    plan.stages.iter().filter_map(out).collect()
}

#[test]
fn what_is_searched_by_is_left_out_there_and_below() {
    let recommend = |strategy| {
        let (positive, negative) = (vec![example("c"), Example::Text("x".into())], vec![example("b")]);
        NodeQuery::Recommend(Recommend { positive, negative, strategy })
    };
    let legs = vec![leaf("dense"), by(NodeQuery::Document("a".into()), "dense")];
    let root = Node { prefetch: legs, ..by(recommend(Strategy::AverageVector), "colbert") };
    let plan = compile(root, |_| ()).unwrap();
    assert_eq!(left_out(&plan), ["bc", "abc"]);
    assert!(plan.stages[0].leaves_out("b") && !plan.stages[0].leaves_out("a"));
    let Work::Rescore { input, .. } = plan.stages[2].work else { panic!("{:?}", plan.stages[2]) };
    let InputValue::Average { positive, negative } = &plan.inputs[usize::from(input)].value else { panic!() };
    let value = |number: &u16| &plan.inputs[usize::from(*number)].value;
    let expect = [InputValue::Document("c".into()), InputValue::Text("x".into())];
    assert!(positive.iter().map(value).eq(&expect));
    assert!(negative.iter().map(value).eq(&[InputValue::Document("b".into())]));
    assert!(
        positive.iter().chain(negative).all(|number| *number < input),
        "an average comes after its parts"
    );
    let scan = compile(by(recommend(Strategy::BestScore), "dense"), |_| ()).unwrap();
    assert_eq!(left_out(&scan), ["bc"]);
    let Work::Examples { inputs, formula, .. } = &scan.stages[0].work else { panic!("{:?}", scan.stages) };
    assert_eq!((inputs.len(), *formula, scan.stages[0].round), (3, Formula::Best { positive: 2 }, 0));
}

#[test]
fn a_choice_is_a_stage_over_its_candidates() {
    let mmr = |candidates| NodeQuery::Mmr(Mmr { nearest: Some(example("a")), diversity: 0.25, candidates });
    let root = Node { score_threshold: Some(0.5), ..by(mmr(Some(40)), "dense") };
    let plan = compile(root.clone(), |query| (query.limit, query.offset) = (5, 3)).unwrap();
    let [search, choice] = plan.stages.as_slice() else { panic!("{:?}", plan.stages) };
    assert_eq!((search.limit, search.threshold, search.round), (40, Some(0.5), 0));
    assert_eq!((choice.limit, choice.threshold, choice.round), (8, None, 1), "an offset is for the answer");
    assert_eq!(choice.work, Work::Diversify { field: 2, diversity: 0.25 });
    assert_eq!(left_out(&plan), ["a"]);
    let plan = compile(by(mmr(None), "dense"), |query| (query.limit, query.offset) = (5, 3)).unwrap();
    assert_eq!(plan.stages[0].limit, 5, "as many as the limit");
    // In a configured plan the limit is that of the query.
    let of_text = by(NodeQuery::Mmr(Mmr { nearest: None, diversity: 0.5, candidates: None }), "colbert");
    let mut asked = query();
    asked.limit = 101;
    let fault = plans(of_text.clone()).compile(&asked).unwrap_err();
    assert!(fault.message.ends_with("multi vectors take at most 100"), "{}", fault.message);
    asked.limit = 100;
    assert_eq!(plans(of_text).compile(&asked).unwrap().inputs[0].value, InputValue::Text("hello".into()));
    let rescored = compile(Node { prefetch: vec![leaf("dense")], ..root }, |_| ()).unwrap();
    assert_eq!(rescored.stages.iter().map(|stage| stage.round).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn the_threshold_of_a_query_is_that_of_the_root() {
    let configured = Node { score_threshold: Some(0.5), ..leaf("dense") };
    let mut asked = query();
    let of = |asked: &Query| plans(configured.clone()).compile(asked).unwrap().stages[0].threshold;
    assert_eq!(of(&asked), Some(0.5));
    asked.score_threshold = Some(0.1);
    assert_eq!(of(&asked), Some(0.1));
}
