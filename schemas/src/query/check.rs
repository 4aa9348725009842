//! Whether a plan fits the configured vector fields.

use std::collections::BTreeMap;

use super::{Node, NodeQuery};
use crate::json::{element, invalid, join, list, quote};
use crate::vector::fit;
use crate::{Fault, FaultCode, VectorKind, VectorSpec};

impl Node {
    /// Refuses a plan that names unknown vector fields, or queries a field with what does not fit it.
    ///
    /// # Errors
    /// The first misfit, with its field.
    pub fn check_fields(&self, fields: &BTreeMap<String, VectorSpec>) -> Result<(), Fault> {
        self.misfits(fields, "").into_iter().next().map_or(Ok(()), Err)
    }

    /// All misfits of the plan that stands at `path`, in the order of its text.
    pub fn misfits(&self, fields: &BTreeMap<String, VectorSpec>, path: &str) -> Vec<Fault> {
        let mut misfits = Vec::new();
        for (index, node) in self.prefetch.iter().enumerate() {
            misfits.extend(node.misfits(fields, &element(&join(path, "prefetch"), index)));
        }
        misfits.extend(self.misfit(fields, path));
        misfits
    }

    /// What is wrong with this node alone.
    fn misfit(&self, fields: &BTreeMap<String, VectorSpec>, path: &str) -> Option<Fault> {
        let using = self.using.as_ref()?;
        let Some(spec) = fields.get(using) else {
            let known = list(fields.keys().map(String::as_str));
            let message = format!("vector {} is not configured; known: {known}", quote(using));
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
            Some(NodeQuery::Fusion(_)) => None,
        }
    }
}
