//! `[plans.NAME]`: configured plans, and the default one where none is configured.

use std::collections::BTreeMap;

use freshet_schemas::{
    Fusion, LIMIT_DEFAULT, Node, NodeQuery, Params, PlanSpec, QueryLimits, VectorKind, VectorSpec,
};
use toml::Value;

use crate::VectorField;
use crate::defaults::{BM25, LEG_LIMIT};
use crate::problems::join;
use crate::section::Section;

/// Name of the plan that answers queries which name none.
pub const DEFAULT_PLAN: &str = "default";

/// Reads all plans and adds the default one.
///
/// `broken` names the fields of `[vectors]` whose own problems are reported already; a plan may use them.
pub(crate) fn read(
    mut section: Section<'_>,
    vectors: &BTreeMap<String, VectorField>,
    broken: &[String],
    rerankers: BTreeMap<String, usize>,
    limits: &QueryLimits,
) -> BTreeMap<String, Node> {
    let spec = PlanSpec { vectors: specs(vectors, broken), rerankers };
    let mut plans = BTreeMap::new();
    for (name, value) in section.take_all() {
        let path = join("plans", &name);
        match Node::parse_plan(&to_json(value), limits, &path) {
            Ok(plan) => {
                for fault in plan.misfits(&spec, &path) {
                    section.report_at(fault.field.unwrap_or_else(|| path.clone()), fault.message);
                }
                plans.insert(name, plan);
            }
            Err(fault) => section.report_at(fault.field.unwrap_or(path), fault.message),
        }
    }
    if let Some(plan) = default_plan(vectors, limits) {
        plans.entry(DEFAULT_PLAN.to_owned()).or_insert(plan);
    }
    plans
}

/// What a plan must fit: names and kinds; the sizes of models are not known before they are loaded.
fn specs(vectors: &BTreeMap<String, VectorField>, broken: &[String]) -> BTreeMap<String, VectorSpec> {
    let spec = |field: &VectorField| VectorSpec {
        kind: field.kind,
        size: field.size.map(usize::from),
        from_text: field.model.is_some(),
        terms: field.model.as_deref() == Some(BM25),
    };
    let mut specs: BTreeMap<String, VectorSpec> =
        vectors.iter().map(|(name, field)| (name.clone(), spec(field))).collect();
    for name in broken {
        let any = VectorSpec { kind: VectorKind::Dense, size: None, from_text: true, terms: false };
        specs.insert(name.clone(), any);
    }
    specs
}

/// The plan of a pipeline that configures none, or `None` where no field is made from text.
///
/// Three legs, fused by the distribution of their scores: the first dense field with a model, the first BM25 field, and
/// the first multi-vector field with a model, which reranks what the other two find. Legs whose field is not there are
/// left out; a single leg is searched as it is.
pub fn default_plan(vectors: &BTreeMap<String, VectorField>, limits: &QueryLimits) -> Option<Node> {
    let first = |kind: VectorKind| {
        let mut fields = vectors.iter();
        let found = fields.find(|(_, field)| field.kind == kind && field.model.is_some());
        found.map(|(name, _)| name.clone())
    };
    let leg = |using: String, prefetch: Vec<Node>| Node {
        prefetch,
        query: None,
        using: Some(using),
        limit: LEG_LIMIT.min(limits.limit_max),
        params: Params::default(),
        filter: None,
        score_threshold: None,
    };
    let searches = [first(VectorKind::Dense), first(VectorKind::Sparse)];
    let mut legs: Vec<Node> = searches.into_iter().flatten().map(|name| leg(name, Vec::new())).collect();
    if let Some(name) = first(VectorKind::Multi) {
        legs.push(leg(name, legs.clone()));
    }
    let limit = LIMIT_DEFAULT.min(limits.limit_max);
    match legs.len() {
        0 | 1 => legs.pop().map(|only| Node { limit, ..only }),
        _ => Some(Node {
            prefetch: legs,
            query: Some(NodeQuery::Fusion(Fusion::Dbsf)),
            using: None,
            limit,
            params: Params::default(),
            filter: None,
            score_threshold: None,
        }),
    }
}

/// The same value as JSON. A number that JSON cannot hold becomes a string, and so a fault that names it.
fn to_json(value: Value) -> serde_json::Value {
    match value {
        Value::String(text) => text.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => serde_json::Number::from_f64(number)
            .map_or_else(|| number.to_string().into(), serde_json::Value::Number),
        Value::Boolean(value) => value.into(),
        Value::Datetime(value) => value.to_string().into(),
        Value::Array(items) => items.into_iter().map(to_json).collect(),
        Value::Table(table) => table.into_iter().map(|(key, value)| (key, to_json(value))).collect(),
    }
}
