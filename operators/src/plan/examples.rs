//! Queries by example → stages and inputs.

use freshet_schemas::{Discover, Example, Fault, FaultCode, Mmr, Node, NodeQuery, Recommend, Strategy};

use super::compile::{Compiler, InputValue, Site, Stage, Work};
use crate::index::examples::Formula;

/// Ids of the documents that a query searches by.
pub(super) fn documents(query: Option<&NodeQuery>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut add = |example: &Example| {
        if let Example::Document(id) = example {
            ids.push(id.clone());
        }
    };
    match query {
        Some(NodeQuery::Document(id)) => ids.push(id.clone()),
        Some(NodeQuery::Recommend(Recommend { positive, negative, .. })) => {
            positive.iter().chain(negative).for_each(add);
        }
        Some(NodeQuery::Discover(Discover { target, context })) => {
            target.iter().for_each(&mut add);
            context
                .iter()
                .for_each(|(positive, negative)| [positive, negative].into_iter().for_each(&mut add));
        }
        Some(NodeQuery::Mmr(Mmr { nearest, .. })) => nearest.iter().for_each(add),
        Some(
            NodeQuery::Text(_)
            | NodeQuery::Dense(_)
            | NodeQuery::Sparse(_)
            | NodeQuery::Multi(_)
            | NodeQuery::Fusion(_)
            | NodeQuery::List(_)
            | NodeQuery::OrderBy(_)
            | NodeQuery::Formula(_),
        )
        | None => {}
    }
    ids
}

impl Compiler<'_> {
    fn examples<'a>(&mut self, field: u16, examples: impl IntoIterator<Item = &'a Example>) -> Vec<u16> {
        let value = |example: &Example| match example {
            Example::Text(text) => InputValue::Text(text.clone()),
            Example::Vector(vector) => InputValue::Vector(vector.clone()),
            Example::Document(id) => InputValue::Document(id.clone()),
        };
        examples.into_iter().map(|example| self.given(field, value(example))).collect()
    }

    /// Recommendation by the scores of all examples.
    pub(super) fn recommend(
        &mut self,
        node: &Node,
        recommend: &Recommend,
        site: &Site,
    ) -> Result<Work, Fault> {
        let Recommend { positive, negative, strategy } = recommend;
        let formula = match strategy {
            Strategy::SumScores => Formula::Sum { positive: positive.len() },
            Strategy::BestScore | Strategy::AverageVector => Formula::Best { positive: positive.len() },
        };
        let (field, _) = self.field(node)?;
        let inputs = self.examples(field, positive.iter().chain(negative));
        let (filter, without) = (site.filter.clone(), site.without());
        Ok(Work::Examples { field, inputs, formula, filter, without })
    }

    /// The one vector that a recommendation searches with.
    pub(super) fn average(&mut self, field: u16, recommend: &Recommend) -> InputValue {
        let mut inputs = |examples: &[Example]| {
            let value = |example: &Example| match example {
                Example::Text(text) => InputValue::Text(text.clone()),
                Example::Vector(vector) => InputValue::Raw(vector.clone()),
                Example::Document(id) => InputValue::Document(id.clone()),
            };
            examples.iter().map(|example| self.given(field, value(example))).collect()
        };
        let positive = inputs(&recommend.positive);
        InputValue::Average { positive, negative: inputs(&recommend.negative) }
    }

    pub(super) fn discover(&mut self, node: &Node, discover: &Discover, site: &Site) -> Result<Work, Fault> {
        let (field, _) = self.field(node)?;
        let pairs = discover.context.iter().flat_map(|(positive, negative)| [positive, negative]);
        let inputs = self.examples(field, discover.target.iter().chain(pairs));
        let formula = if discover.target.is_some() { Formula::Discover } else { Formula::Context };
        let (filter, without) = (site.filter.clone(), site.without());
        Ok(Work::Examples { field, inputs, formula, filter, without })
    }

    /// A search or a rescoring, and the choice from what it finds.
    pub(super) fn diverse(&mut self, node: &Node, mmr: &Mmr, site: Site) -> Result<u16, Fault> {
        let (field, spec) = self.field(node)?;
        // The limit of a configured plan is known here for the first time.
        let candidates = mmr
            .check_candidates(spec.kind, node.limit)
            .map_err(|message| Fault::field(FaultCode::InvalidValue, "limit", message))?;
        let nearest = mmr.nearest.clone().map(NodeQuery::from);
        let found = self.stage(&Node { limit: candidates, ..node.clone() }, nearest.as_ref(), site)?;
        let work = Work::Diversify { field, diversity: mmr.diversity };
        Ok(self.place(Stage { work, from: vec![found], limit: node.limit, round: 0, threshold: None }))
    }
}
