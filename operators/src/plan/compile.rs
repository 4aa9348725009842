//! A query's tree → stages in the order in which they can run, equal subtrees once.

use std::collections::{BTreeMap, BTreeSet};

use freshet_schemas::{
    Ask, Fault, FaultCode, Filter, Formula, Fusion, Grouping, Node, NodeQuery, Params, PlanSpec, Query,
    Strategy, VectorKind, VectorSpec, VectorValue,
};
use serde::{Deserialize, Serialize};

use super::examples;
use crate::index::examples::Formula as ExamplesFormula;
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
    /// As it came with the query, and not brought to unit length: part of an average.
    Raw(VectorValue),
    /// The vector of the document with this id, which is looked up before the first round.
    Document(String),
    /// `avg(positive) + avg(positive) − avg(negative)` of inputs that come before; `avg(positive)` without negative ones.
    Average {
        /// Numbers of inputs, at least one.
        positive: Vec<u16>,
        /// Numbers of inputs.
        negative: Vec<u16>,
    },
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
    /// Hits score more than this; those of fusions at least as much.
    pub threshold: Option<f64>,
}

impl Stage {
    /// Whether a document is not to be found, since it is searched by.
    pub fn leaves_out(&self, id: &str) -> bool {
        match &self.work {
            Work::Search { without, .. } | Work::Examples { without, .. } => {
                without.binary_search_by(|other| other.as_str().cmp(id)).is_ok()
            }
            Work::Rescore { .. }
            | Work::Rerank { .. }
            | Work::Fuse(_)
            | Work::Diversify { .. }
            | Work::List { .. }
            | Work::Count { .. }
            | Work::Formula(_)
            | Work::Group { .. } => false,
        }
    }
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
        /// Ids that this leaf and all stages above it search by, ascending: they are not found.
        without: Vec<String>,
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
    /// Compares all documents with examples, or those that the stages before found.
    Examples {
        /// Field number.
        field: u16,
        /// Numbers of the inputs, in the order of the formula.
        inputs: Vec<u16>,
        /// What becomes of the similarities.
        formula: ExamplesFormula,
        /// As in a search.
        filter: Option<Filter>,
        /// As in a search.
        without: Vec<String>,
    },
    /// Chooses hits of the stage before that are unlike each other, after a trip for their vectors.
    Diversify {
        /// Field number.
        field: u16,
        /// From 0 to 1.
        diversity: f64,
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
                compiler.plan.stages.push(Stage {
                    work,
                    from: Vec::new(),
                    limit: 1,
                    round: 0,
                    threshold: None,
                });
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
        query.check_vectors(&self.spec)?;
        // Groups are made of all that the stages before the root let it have, or of all that examples are compared with.
        let scans = matches!(root.query, Some(NodeQuery::Recommend(_) | NodeQuery::Discover(_)));
        let whole = query.group.is_some() && (!root.prefetch.is_empty() || scans);
        root.limit = if whole { usize::MAX } else { query.limit };
        root.score_threshold = query.score_threshold.or(root.score_threshold);
        let mut last =
            compiler.node(&root, &Above { filter: query.filter.as_ref(), without: &BTreeSet::new() })?;
        if let Some(grouping) = &query.group {
            last = compiler.group(last, grouping, query.limit);
        } else if let Some(Stage { work: Work::List { each_value, .. }, .. }) =
            compiler.plan.stages.last_mut()
        {
            *each_value = true;
        }
        // The root is new unless the whole plan equals one of its own subtrees; then nothing came after it.
        debug_assert_eq!(usize::from(last) + 1, compiler.plan.stages.len());
        if let Some(root) = compiler.plan.stages.last_mut() {
            root.limit = root.limit.saturating_add(query.offset);
        }
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

pub(super) struct Compiler<'a> {
    plans: &'a Plans,
    pub(super) plan: Plan,
    /// What a configured plan searches for.
    text: Option<&'a str>,
}

/// What the stages above a node ask of what it finds.
pub(super) struct Above<'a> {
    pub(super) filter: Option<&'a Filter>,
    pub(super) without: &'a BTreeSet<String>,
}

/// What the stages of a node have in common.
pub(super) struct Site {
    /// Stages that they take from, in the order of the query.
    pub(super) from: Vec<u16>,
    /// What this node and all above it ask for.
    pub(super) filter: Option<Filter>,
    /// What this node and all above it leave out.
    pub(super) without: BTreeSet<String>,
}

impl Site {
    pub(super) fn without(&self) -> Vec<String> {
        self.without.iter().cloned().collect()
    }
}

impl Compiler<'_> {
    /// The stage of a node below others.
    fn node(&mut self, node: &Node, above: &Above<'_>) -> Result<u16, Fault> {
        let filter = Filter::both(above.filter, node.filter.as_ref());
        let mut without = above.without.clone();
        without.extend(examples::documents(node.query.as_ref()));
        let here = Above { filter: filter.as_ref(), without: &without };
        let children = node.prefetch.iter().map(|child| self.node(child, &here));
        let from = children.collect::<Result<Vec<_>, _>>()?;
        self.stage(node, node.query.as_ref(), Site { from, filter, without })
    }

    /// The stage that does what a node asks, with a query of its own.
    pub(super) fn stage(&mut self, node: &Node, query: Option<&NodeQuery>, site: Site) -> Result<u16, Fault> {
        let work = match query {
            Some(NodeQuery::Fusion(fusion)) => Work::Fuse(fusion.clone()),
            Some(NodeQuery::List(list)) => {
                Work::List { listing: Listing::Id(list.clone()), filter: site.filter, each_value: false }
            }
            Some(NodeQuery::OrderBy(order)) => {
                Work::List { listing: Listing::Value(order.clone()), filter: site.filter, each_value: false }
            }
            Some(NodeQuery::Formula(formula)) => Work::Formula((**formula).clone()),
            Some(NodeQuery::Mmr(mmr)) => return self.diverse(node, mmr, site),
            Some(NodeQuery::Recommend(recommend)) if recommend.strategy != Strategy::AverageVector => {
                self.recommend(node, recommend, &site)?
            }
            Some(NodeQuery::Discover(discover)) => self.discover(node, discover, &site)?,
            query => match self.reranker(node) {
                Some((reranker, documents_max)) => {
                    Work::Rerank { reranker, text: self.text(query), documents_max }
                }
                None => {
                    let (field, input) = self.input(node, query)?;
                    if site.from.is_empty() {
                        let without = site.without();
                        Work::Search { field, input, params: node.params, filter: site.filter, without }
                    } else {
                        Work::Rescore { field, input }
                    }
                }
            },
        };
        Ok(self.place(Stage {
            work,
            from: site.from,
            limit: node.limit,
            round: 0,
            threshold: node.score_threshold,
        }))
    }

    /// Number of a stage, whose round is found here.
    pub(super) fn place(&mut self, stage: Stage) -> u16 {
        let before = stage.from.iter().map(|&stage| self.plan.stages[usize::from(stage)].round).max();
        let round = match (&stage.work, before) {
            (_, None) => 0,
            (Work::Formula(formula), Some(before)) if !formula.reads_payloads() => before,
            (Work::Fuse(_), Some(before)) => before,
            // Texts lie in the shards, as vectors do.
            (
                Work::Search { .. }
                | Work::Rescore { .. }
                | Work::Rerank { .. }
                | Work::Examples { .. }
                | Work::Diversify { .. }
                | Work::List { .. }
                | Work::Count { .. }
                | Work::Formula(_)
                | Work::Group { .. },
                Some(before),
            ) => before + 1,
        };
        place(&mut self.plan.stages, Stage { round, ..stage })
    }

    /// The stage that groups what another one found.
    fn group(&mut self, from: u16, grouping: &Grouping, limit: usize) -> u16 {
        let round = self.plan.stages[usize::from(from)].round + 1;
        let work = Work::Group { grouping: grouping.clone() };
        place(&mut self.plan.stages, Stage { work, from: vec![from], limit, round, threshold: None })
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
                | NodeQuery::Formula(_)
                | NodeQuery::Document(_)
                | NodeQuery::Recommend(_)
                | NodeQuery::Discover(_)
                | NodeQuery::Mmr(_),
            )
            | None => self.text.unwrap_or_default().to_owned(),
        }
    }

    /// Number of the field that a node searches, and what it is.
    pub(super) fn field(&self, node: &Node) -> Result<(u16, VectorSpec), Fault> {
        let name = node.using.as_deref().unwrap_or_default();
        let mut fields = self.plans.spec.vectors.iter().enumerate();
        match fields.find(|(_, (known, _))| *known == name) {
            Some((field, (_, spec))) => Ok((number_of(field), *spec)),
            None => {
                let known: Vec<_> = self.plans.spec.vectors.keys().map(String::as_str).collect();
                let message = format!("vector \"{name}\" is not configured; known: {}", known.join(", "));
                Err(Fault::field(FaultCode::UnknownVector, "using", message))
            }
        }
    }

    /// Field and input number of a searching or rescoring node.
    fn input(&mut self, node: &Node, query: Option<&NodeQuery>) -> Result<(u16, u16), Fault> {
        let (field, spec) = self.field(node)?;
        let value = match query {
            Some(NodeQuery::Dense(vector)) => InputValue::Vector(VectorValue::Dense(vector.clone())),
            Some(NodeQuery::Sparse(vector)) => InputValue::Vector(VectorValue::Sparse(vector.clone())),
            Some(NodeQuery::Multi(vectors)) => InputValue::Vector(VectorValue::Multi(vectors.clone())),
            Some(NodeQuery::Document(id)) => InputValue::Document(id.clone()),
            Some(NodeQuery::Recommend(recommend)) => self.average(field, recommend),
            query @ (Some(
                NodeQuery::Text(_)
                | NodeQuery::Fusion(_)
                | NodeQuery::List(_)
                | NodeQuery::OrderBy(_)
                | NodeQuery::Formula(_)
                | NodeQuery::Discover(_)
                | NodeQuery::Mmr(_),
            )
            | None) => InputValue::Text(self.text(query)),
        };
        if matches!(value, InputValue::Text(_)) && !spec.from_text {
            let kind = match spec.kind {
                VectorKind::Dense => "a dense vector",
                VectorKind::Sparse => "a sparse vector",
                VectorKind::Multi => "a multi-vector",
            };
            let name = node.using.as_deref().unwrap_or_default();
            let message = format!("vector \"{name}\" has no model: query it with {kind}, not with text");
            return Err(Fault::field(FaultCode::InvalidValue, "query", message));
        }
        Ok((field, self.given(field, value)))
    }

    /// Number of an input.
    pub(super) fn given(&mut self, field: u16, value: InputValue) -> u16 {
        place(&mut self.plan.inputs, PlanInput { field, value })
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
