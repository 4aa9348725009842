//! A query's tree → stages in the order in which they can run, equal subtrees once.

use std::collections::BTreeMap;

use freshet_schemas::{
    Ask, Fault, FaultCode, Filter, Formula, Fusion, Grouping, Node, NodeQuery, Params, PlanSpec, Query,
    VectorKind, VectorValue,
};
use serde::{Deserialize, Serialize};

use crate::index::shard::Listing;

/// A query's stages. Invariants: a stage comes after those it takes from; the last one is the root, or its groups; no two
/// are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What is searched with; no two are equal.
    pub inputs: Vec<PlanInput>,
    /// Stages.
    pub stages: Vec<Stage>,
    /// Names of all fields, by number.
    pub field_names: Vec<String>,
    /// Names of all rerankers, by number.
    pub reranker_names: Vec<String>,
}

/// Something to search with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanInput {
    /// Field number.
    pub field: u16,
    /// Text or vector.
    pub value: InputValue,
}

/// Text that is still to be embedded, or a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum InputValue {
    /// Embedded by the model of the field.
    Text(String),
    /// As it came with the query.
    Vector(VectorValue),
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// What it does.
    pub work: Work,
    /// Stages it takes from, in the order of the query.
    pub from: Vec<u16>,
    /// Most hits.
    pub limit: usize,
    /// Trips to the shards before its own result is there, less one: 0 for searches.
    pub round: usize,
}

/// What a stage does. Searching and rescoring happen in the shards; fusion and reranking only after all shards are
/// gathered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// Searches a field.
    Search {
        /// Field number.
        field: u16,
        /// Number of the input.
        input: u16,
        /// Search parameters.
        params: Params,
        /// Which documents may be found: what this leaf and all stages above it ask for.
        filter: Option<Filter>,
    },
    /// Scores what the stages before found, by another field.
    Rescore {
        /// Field number.
        field: u16,
        /// Number of the input.
        input: u16,
    },
    /// Has what the stages before found read by a reranker, together with the query.
    Rerank {
        /// Number of the reranker.
        reranker: u16,
        /// The query.
        text: String,
        /// Most documents that are read.
        documents_max: usize,
    },
    /// Makes one list of several.
    Fuse(Fusion),
    /// Lists documents.
    List {
        /// Their order.
        listing: Listing,
        /// Which documents may be listed: what this leaf and all stages above it ask for.
        filter: Option<Filter>,
        /// Whether a document is listed once for each of its values: at the root, as in Qdrant. Stages above take each
        /// document once.
        each_value: bool,
    },
    /// Counts documents.
    Count {
        /// Which are counted.
        filter: Option<Filter>,
    },
    /// Scores what the stages before found by a formula.
    Formula(Formula),
    /// Puts what the stage before found into groups: the last stage. A search or a list before it is asked for its groups
    /// instead of its hits.
    Group {
        /// Path of the field that makes groups, and most hits of each.
        grouping: Grouping,
    },
}

/// Configured plans and fields.
#[derive(Clone, Debug)]
pub struct Plans {
    /// By name; the number of a field or a reranker is its place in this order.
    spec: PlanSpec,
    named: BTreeMap<String, Node>,
}

/// Name of the plan for queries that name none.
const DEFAULT_PLAN: &str = "default";

impl Plans {
    /// What plans may name, and configured plans by name.
    pub fn new(spec: PlanSpec, named: BTreeMap<String, Node>) -> Self {
        Self { spec, named }
    }

    /// The stages of a query.
    ///
    /// # Errors
    /// A fault that names the plan, vector or field that does not fit.
    pub fn compile(&self, query: &Query) -> Result<Plan, Fault> {
        let plan = Plan {
            inputs: Vec::new(),
            stages: Vec::new(),
            field_names: self.spec.vectors.keys().cloned().collect(),
            reranker_names: self.spec.rerankers.keys().cloned().collect(),
        };
        let mut compiler = Compiler { plans: self, plan, text: None };
        let mut root = match &query.ask {
            Ask::Count => {
                let work = Work::Count { filter: query.filter.clone() };
                compiler.plan.stages.push(Stage { work, from: Vec::new(), limit: 1, round: 0 });
                return Ok(compiler.plan);
            }
            Ask::Page(_) => {
                let message = "a page is read from its cursor and has no plan";
                return Err(Fault::field(FaultCode::UnknownCursor, "cursor", message));
            }
            Ask::Text { text, plan } => {
                compiler.text = Some(text);
                self.named(plan.as_deref())?.clone()
            }
            Ask::Plan(node) => {
                node.check_fields(&self.spec)?;
                node.clone()
            }
        };
        // Groups are made of all that the stages before the root let it have.
        let whole = query.group.is_some() && !root.prefetch.is_empty();
        root.limit = if whole { usize::MAX } else { query.limit };
        let mut last = compiler.node(&root, query.filter.as_ref())?;
        if let Some(grouping) = &query.group {
            last = compiler.group(last, grouping, query.limit);
        } else if let Some(Stage { work: Work::List { each_value, .. }, .. }) =
            compiler.plan.stages.last_mut()
        {
            *each_value = true;
        }
        // The root is new unless the whole plan equals one of its own subtrees; then nothing came after it.
        debug_assert_eq!(usize::from(last) + 1, compiler.plan.stages.len());
        Ok(compiler.plan)
    }

    fn named(&self, name: Option<&str>) -> Result<&Node, Fault> {
        let name = name.unwrap_or(DEFAULT_PLAN);
        self.named.get(name).ok_or_else(|| {
            let known: Vec<_> = self.named.keys().map(String::as_str).collect();
            let message = format!("plan \"{name}\" is not configured; known: {}", known.join(", "));
            Fault::field(FaultCode::UnknownPlan, "plan", message)
        })
    }
}

struct Compiler<'a> {
    plans: &'a Plans,
    plan: Plan,
    /// What a configured plan searches for.
    text: Option<&'a str>,
}

impl Compiler<'_> {
    /// The stage of a node below others that let through `above`.
    fn node(&mut self, node: &Node, above: Option<&Filter>) -> Result<u16, Fault> {
        let filter = Filter::both(above, node.filter.as_ref());
        let children = node.prefetch.iter().map(|child| self.node(child, filter.as_ref()));
        let from = children.collect::<Result<Vec<_>, _>>()?;
        let work = match &node.query {
            Some(NodeQuery::Fusion(fusion)) => Work::Fuse(fusion.clone()),
            Some(NodeQuery::List(list)) => {
                Work::List { listing: Listing::Id(list.clone()), filter, each_value: false }
            }
            Some(NodeQuery::OrderBy(order)) => {
                Work::List { listing: Listing::Value(order.clone()), filter, each_value: false }
            }
            Some(NodeQuery::Formula(formula)) => Work::Formula(formula.clone()),
            query => match self.reranker(node) {
                Some((reranker, documents_max)) => {
                    Work::Rerank { reranker, text: self.text(query.as_ref()), documents_max }
                }
                None => {
                    let (field, input) = self.input(node, query.as_ref())?;
                    if from.is_empty() {
                        Work::Search { field, input, params: node.params, filter }
                    } else {
                        Work::Rescore { field, input }
                    }
                }
            },
        };
        let before = from.iter().map(|&stage| self.plan.stages[usize::from(stage)].round).max();
        let round = match work {
            Work::Search { .. } | Work::List { .. } | Work::Count { .. } => 0,
            Work::Formula(ref formula) if formula.reads_payloads() => before.unwrap_or(0) + 1,
            // Texts lie in the shards, as vectors do.
            Work::Rescore { .. } | Work::Rerank { .. } | Work::Group { .. } => before.unwrap_or(0) + 1,
            Work::Fuse(_) | Work::Formula(_) => before.unwrap_or(0),
        };
        let stage = Stage { work, from, limit: node.limit, round };
        Ok(place(&mut self.plan.stages, stage))
    }

    /// The stage that groups what another one found.
    fn group(&mut self, from: u16, grouping: &Grouping, limit: usize) -> u16 {
        let round = self.plan.stages[usize::from(from)].round + 1;
        let work = Work::Group { grouping: grouping.clone() };
        place(&mut self.plan.stages, Stage { work, from: vec![from], limit, round })
    }

    /// Number of the reranker that a node uses, if it uses one, and how many documents that reads.
    fn reranker(&self, node: &Node) -> Option<(u16, usize)> {
        let name = node.using.as_deref()?;
        let mut known = self.plans.spec.rerankers.iter().enumerate();
        known.find(|(_, (known, _))| *known == name).map(|(number, (_, max))| (number_of(number), *max))
    }

    /// The text that a node searches for: its own, or that of the query which runs a configured plan.
    fn text(&self, query: Option<&NodeQuery>) -> String {
        match query {
            Some(NodeQuery::Text(text)) => text.clone(),
            Some(
                NodeQuery::Dense(_)
                | NodeQuery::Sparse(_)
                | NodeQuery::Multi(_)
                | NodeQuery::Fusion(_)
                | NodeQuery::List(_)
                | NodeQuery::OrderBy(_)
                | NodeQuery::Formula(_),
            )
            | None => self.text.unwrap_or_default().to_owned(),
        }
    }

    /// Field and input number of a searching or rescoring node.
    fn input(&mut self, node: &Node, query: Option<&NodeQuery>) -> Result<(u16, u16), Fault> {
        let name = node.using.as_deref().unwrap_or_default();
        let Some((field, (_, spec))) =
            self.plans.spec.vectors.iter().enumerate().find(|(_, (known, _))| *known == name)
        else {
            let known: Vec<_> = self.plans.spec.vectors.keys().map(String::as_str).collect();
            let message = format!("vector \"{name}\" is not configured; known: {}", known.join(", "));
            return Err(Fault::field(FaultCode::UnknownVector, "using", message));
        };
        let value = match query {
            Some(NodeQuery::Dense(vector)) => InputValue::Vector(VectorValue::Dense(vector.clone())),
            Some(NodeQuery::Sparse(vector)) => InputValue::Vector(VectorValue::Sparse(vector.clone())),
            Some(NodeQuery::Multi(vectors)) => InputValue::Vector(VectorValue::Multi(vectors.clone())),
            query @ (Some(
                NodeQuery::Text(_)
                | NodeQuery::Fusion(_)
                | NodeQuery::List(_)
                | NodeQuery::OrderBy(_)
                | NodeQuery::Formula(_),
            )
            | None) => InputValue::Text(self.text(query)),
        };
        if matches!(value, InputValue::Text(_)) && !spec.from_text {
            let kind = match spec.kind {
                VectorKind::Dense => "a dense vector",
                VectorKind::Sparse => "a sparse vector",
                VectorKind::Multi => "a multi-vector",
            };
            let message = format!("vector \"{name}\" has no model: query it with {kind}, not with text");
            return Err(Fault::field(FaultCode::InvalidValue, "query", message));
        }
        let field = number_of(field);
        Ok((field, place(&mut self.plan.inputs, PlanInput { field, value })))
    }
}

/// Number of an equal element, which is added if there is none.
fn place<T: PartialEq>(list: &mut Vec<T>, element: T) -> u16 {
    let found = list.iter().position(|known| *known == element);
    number_of(found.unwrap_or_else(|| {
        list.push(element);
        list.len() - 1
    }))
}

/// Fields and stages are bounded by the config and the query limits, far below 65 536.
fn number_of(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_schemas::Condition;

    fn leaf(using: &str) -> Node {
        Node {
            prefetch: vec![],
            query: None,
            using: Some(using.into()),
            limit: 100,
            params: Params::default(),
            filter: None,
        }
    }

    fn plans(node: Node) -> Plans {
        let spec = |kind| freshet_schemas::VectorSpec { kind, size: None, from_text: true };
        let fields =
            [("bm25", VectorKind::Sparse), ("colbert", VectorKind::Multi), ("dense", VectorKind::Dense)];
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
        assert_eq!(
            plan.stages[3].work,
            Work::Rerank { reranker: 0, text: "hello".into(), documents_max: 50 }
        );
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
}
