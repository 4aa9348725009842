//! Whether a plan fits the configured vector fields and rerankers.

use std::collections::BTreeMap;

use super::{Discover, Example, Mmr, Node, NodeQuery, Query, Recommend, WithVectors};
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
        let query = join(path, "query");
        let fit =
            |kind: VectorKind, size: Option<usize>| fit((kind, size), (spec.kind, spec.size), &query).err();
        match &self.query {
            None | Some(NodeQuery::Text(_)) => textless(spec, using, path),
            Some(NodeQuery::Dense(vector)) => fit(VectorKind::Dense, Some(vector.len())),
            Some(NodeQuery::Sparse(_)) => fit(VectorKind::Sparse, None),
            Some(NodeQuery::Multi(rows)) => fit(VectorKind::Multi, rows.first().map(Vec::len)),
            Some(
                NodeQuery::Fusion(_) | NodeQuery::List(_) | NodeQuery::OrderBy(_) | NodeQuery::Formula(_),
            ) => None,
            Some(NodeQuery::Document(_)) => vectorless(spec, using, &query),
            Some(NodeQuery::Recommend(Recommend { positive, negative, .. })) => {
                let below = join(&query, "recommend");
                let lists = [("positive", positive), ("negative", negative)];
                lists.into_iter().find_map(|(name, list)| {
                    let path = join(&below, name);
                    let examples = list.iter().enumerate();
                    examples.into_iter().find_map(|(at, of)| misfit(of, spec, using, &element(&path, at)))
                })
            }
            Some(NodeQuery::Discover(Discover { target, context })) => {
                let below = if target.is_some() { join(&query, "discover") } else { query.clone() };
                let of_target =
                    target.as_ref().and_then(|of| misfit(of, spec, using, &join(&below, "target")));
                of_target.or_else(|| {
                    context.iter().enumerate().find_map(|(at, (positive, negative))| {
                        let pair = element(&join(&below, "context"), at);
                        misfit(positive, spec, using, &join(&pair, "positive"))
                            .or_else(|| misfit(negative, spec, using, &join(&pair, "negative")))
                    })
                })
            }
            Some(NodeQuery::Mmr(mmr)) => self.mmr_misfit(mmr, spec, using, path),
        }
    }

    /// What is wrong with a diverse list.
    fn mmr_misfit(&self, mmr: &Mmr, spec: &VectorSpec, using: &str, path: &str) -> Option<Fault> {
        let query = join(path, "query");
        if spec.terms {
            return vectorless(spec, using, &join(&query, "mmr"));
        }
        if let Err(message) = mmr.check_candidates(spec.kind, self.limit) {
            return Some(invalid(join(&query, "mmr"), message));
        }
        match &mmr.nearest {
            None => textless(spec, using, path),
            Some(nearest) => misfit(nearest, spec, using, &join(&query, "nearest")),
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
                | NodeQuery::Formula(_)
                | NodeQuery::Document(_)
                | NodeQuery::Recommend(_)
                | NodeQuery::Discover(_)
                | NodeQuery::Mmr(_),
            ) => {
                let message = format!("reranker {name} reads texts: give a text as \"query\"");
                Some(invalid(join(path, "query"), message))
            }
        }
    }
}

/// What is wrong with an example for a field.
fn misfit(example: &Example, spec: &VectorSpec, using: &str, path: &str) -> Option<Fault> {
    match example {
        Example::Text(_) if spec.from_text => None,
        Example::Text(_) => Some(invalid(path, no_model(spec, using))),
        Example::Vector(vector) => vector.fit(spec.kind, spec.size, path).err(),
        Example::Document(_) => vectorless(spec, using, path),
    }
}

/// What is wrong with the text of a node for a field.
fn textless(spec: &VectorSpec, using: &str, path: &str) -> Option<Fault> {
    (!spec.from_text).then(|| invalid(join(path, "using"), no_model(spec, using)))
}

fn no_model(spec: &VectorSpec, using: &str) -> String {
    let (name, kind) = (quote(using), spec.kind.as_str());
    format!("vector {name} has no model to make it from text; give a {kind} vector as \"query\"")
}

/// What is wrong with asking for the vectors of a field.
fn vectorless(spec: &VectorSpec, using: &str, path: &str) -> Option<Fault> {
    let name = quote(using);
    let message =
        format!("vector {name} holds the terms of a text, for BM25, and no vector: use another field");
    spec.terms.then(|| invalid(path, message))
}

impl Query {
    /// Refuses vectors in `with_vectors` that there are not.
    ///
    /// # Errors
    /// The first of them.
    pub fn check_vectors(&self, spec: &PlanSpec) -> Result<(), Fault> {
        const FIELD: &str = "with_vectors";
        let WithVectors::Of(names) = &self.with_vectors else { return Ok(()) };
        for (at, name) in names.iter().enumerate() {
            let path = element(FIELD, at);
            let Some(of) = spec.vectors.get(name) else {
                let known = list(spec.vectors.keys().map(String::as_str));
                let message = format!("vector {} is not configured; known: {known}", quote(name));
                return Err(Fault::field(FaultCode::UnknownVector, path, message));
            };
            vectorless(of, name, &path).map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}
