//! Whether a plan fits the configured vector fields and rerankers.

use std::collections::BTreeMap;

use super::{Node, NodeQuery};
use crate::json::{element, invalid, join, list, quote};
use crate::vector::fit;
use crate::{Fault, FaultCode, VectorKind, VectorSpec};

/// What a plan may name in `using`. No name stands for both.
#[derive(Clone, Debug, Default)]
pub struct PlanSpec {
    /// Vector fields, by name.
    pub vectors: BTreeMap<String, VectorSpec>,
    /// Rerankers that read texts, by name, and how many documents each reads for a query.
    pub rerankers: BTreeMap<String, usize>,
}

impl Node {
    /// Refuses a plan that names unknown vector fields, or queries a field or a reranker with what does not fit it.
    ///
    /// # Errors
    /// The first misfit, with its field.
    pub fn check_fields(&self, spec: &PlanSpec) -> Result<(), Fault> {
        self.misfits(spec, "").into_iter().next().map_or(Ok(()), Err)
    }

    /// All misfits of the plan that stands at `path`, in the order of its text.
    pub fn misfits(&self, spec: &PlanSpec, path: &str) -> Vec<Fault> {
        let mut misfits = Vec::new();
        for (index, node) in self.prefetch.iter().enumerate() {
            misfits.extend(node.misfits(spec, &element(&join(path, "prefetch"), index)));
        }
        misfits.extend(self.misfit(spec, path));
        misfits
    }

    /// What is wrong with this node alone.
    fn misfit(&self, spec: &PlanSpec, path: &str) -> Option<Fault> {
        let using = self.using.as_ref()?;
        if spec.rerankers.contains_key(using) {
            return self.reranker_misfit(using, path);
        }
        let Some(spec) = spec.vectors.get(using) else {
            let vectors = list(spec.vectors.keys().map(String::as_str));
            let rerankers = match spec.rerankers.is_empty() {
                true => String::new(),
                false => format!("; rerankers: {}", list(spec.rerankers.keys().map(String::as_str))),
            };
            let message = format!("vector {} is not configured; known: {vectors}{rerankers}", quote(using));
            return Some(Fault::field(FaultCode::UnknownVector, join(path, "using"), message));
        };
        let fit = |kind: VectorKind, size: Option<usize>| {
            fit((kind, size), (spec.kind, spec.size), &join(path, "query")).err()
        };
        match &self.query {
            None | Some(NodeQuery::Text(_)) if spec.from_text => None,
            None | Some(NodeQuery::Text(_)) => {
                let message = format!(
                    "vector {} has no model to make it from text; give a {} vector as \"query\"",
                    quote(using),
                    spec.kind.as_str()
                );
                Some(invalid(join(path, "using"), message))
            }
            Some(NodeQuery::Dense(vector)) => fit(VectorKind::Dense, Some(vector.len())),
            Some(NodeQuery::Sparse(_)) => fit(VectorKind::Sparse, None),
            Some(NodeQuery::Multi(rows)) => fit(VectorKind::Multi, rows.first().map(Vec::len)),
            Some(
                NodeQuery::Fusion(_) | NodeQuery::List(_) | NodeQuery::OrderBy(_) | NodeQuery::Formula(_),
            ) => None,
        }
    }

    /// What is wrong with a node that reranks by reading texts.
    fn reranker_misfit(&self, using: &str, path: &str) -> Option<Fault> {
        let name = quote(using);
        match &self.query {
            _ if self.prefetch.is_empty() => {
                let message = format!("reranker {name} reads what others found: give it a \"prefetch\"");
                Some(invalid(join(path, "using"), message))
            }
            None | Some(NodeQuery::Text(_)) => None,
            Some(
                NodeQuery::Dense(_)
                | NodeQuery::Sparse(_)
                | NodeQuery::Multi(_)
                | NodeQuery::Fusion(_)
                | NodeQuery::List(_)
                | NodeQuery::OrderBy(_)
                | NodeQuery::Formula(_),
            ) => {
                let message = format!("reranker {name} reads texts: give a text as \"query\"");
                Some(invalid(join(path, "query"), message))
            }
        }
    }
}
