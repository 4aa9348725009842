//! What a query knows beside the hits of its searches: listed documents, counts, payloads, groups.

use std::collections::BTreeMap;

use freshet_schemas::{Fault, FaultCode, Formula, MatchValue};
use serde_json::Value;

use super::execution::{Execution, Ranked};
use crate::formula::{Subject, evaluate};
use crate::index::Hit;
use crate::index::shard::{Found, GroupHead, Listing};
use crate::message::{Task, TaskReply};
use crate::plan::{Stage, Work};

/// What has arrived of the current round, per stage, and what has come of it.
#[derive(Clone, Default)]
pub(super) struct Beside {
    /// Listed documents.
    listed: BTreeMap<u16, Vec<Found>>,
    /// Payloads by document.
    payloads: BTreeMap<u16, BTreeMap<String, String>>,
    /// Hits that come first in groups.
    pub(super) heads: Vec<GroupHead>,
    /// Hits of the groups, in the order of `chosen`.
    pub(super) members: Vec<Vec<Found>>,
    /// The groups whose hits are asked for.
    pub(super) chosen: Vec<MatchValue>,
    /// Documents counted.
    pub(super) count: Option<u64>,
    /// The groups of the answer.
    pub(super) groups: Option<Vec<(MatchValue, Vec<Ranked>)>>,
    /// Why there is no answer.
    pub(super) failure: Option<Fault>,
}

impl Beside {
    /// Takes a reply that is none to a search.
    pub(super) fn absorb(&mut self, stage: u16, reply: TaskReply) {
        match reply {
            TaskReply::Listed(found) => self.listed.entry(stage).or_default().extend(found),
            TaskReply::Payloads(payloads) => self.payloads.entry(stage).or_default().extend(payloads),
            TaskReply::Counted(count) => *self.count.get_or_insert(0) += count,
            TaskReply::GroupHeads(heads) => self.heads.extend(heads),
            TaskReply::GroupMembers(members) => {
                self.members.resize(self.chosen.len(), Vec::new());
                for (all, found) in self.members.iter_mut().zip(members) {
                    all.extend(found);
                }
            }
            TaskReply::Hits(_) | TaskReply::Fetched(_) | TaskReply::Vectors { .. } => {
                debug_assert!(false, "replies to searches are not for here");
            }
        }
    }

    /// What a stage listed, in order.
    pub(super) fn listed(
        &mut self,
        stage: u16,
        listing: &Listing,
        k: usize,
        each_value: bool,
    ) -> Vec<Ranked> {
        let mut found = self.listed.remove(&stage).unwrap_or_default();
        listing.merge(&mut found, k, each_value);
        found.into_iter().map(Ranked::from).collect()
    }

    /// The payload of a document that a stage asked for.
    pub(super) fn payload(&self, stage: u16, id: &str) -> Value {
        let payload = self.payloads.get(&stage).and_then(|payloads| payloads.get(id));
        payload.and_then(|payload| serde_json::from_str(payload).ok()).unwrap_or_default()
    }

    /// The payloads of a stage are not needed any more.
    pub(super) fn forget(&mut self, stage: u16) {
        self.payloads.remove(&stage);
    }
}

impl From<Found> for Ranked {
    fn from(found: Found) -> Self {
        Self { hit: found.hit, contributions: Vec::new(), value: found.value }
    }
}

impl Execution {
    /// The hits that a formula scores: those of all stages before, each document once, in the order of the stages.
    fn scored_by_formula(&self, stage: &Stage) -> Vec<Hit> {
        let mut known = std::collections::BTreeSet::new();
        let hits = stage.from.iter().flat_map(|&from| self.list(from)).map(|ranked| &ranked.hit);
        hits.filter(|hit| known.insert(hit.id.as_str())).cloned().collect()
    }

    /// What the shards are asked for a formula.
    pub(super) fn formula_task(&self, formula: &Formula, stage: &Stage) -> Option<Task> {
        let ids = self.scored_by_formula(stage).into_iter().map(|hit| hit.id);
        formula.reads_payloads().then(|| Task::Payloads(ids.collect()))
    }

    /// The hits of the stages before with the scores of a formula; none if some document has no score.
    pub(super) fn formula_scores(&mut self, number: u16) -> Vec<Hit> {
        let stage = &self.plan().stages[usize::from(number)];
        let Work::Formula(formula) = &stage.work else { return Vec::new() };
        let scores_of = |stage: u16| -> BTreeMap<&str, f64> {
            self.list(stage).iter().map(|ranked| (ranked.hit.id.as_str(), ranked.hit.score)).collect()
        };
        let before: Vec<BTreeMap<&str, f64>> = stage.from.iter().map(|&from| scores_of(from)).collect();
        let scored = self.scored_by_formula(stage).into_iter().map(|hit| {
            let payload = self.beside.payload(number, &hit.id);
            let scores: Vec<Option<f64>> =
                before.iter().map(|scores| scores.get(hit.id.as_str()).copied()).collect();
            let subject = Subject { id: &hit.id, payload: &payload, scores: &scores };
            match evaluate(formula, subject) {
                Ok(score) => Ok(Hit { score, ..hit }),
                Err(reason) => {
                    let message = format!("the formula has no score for document \"{}\": {reason}", hit.id);
                    Err(Fault::whole(FaultCode::FormulaFailed, message))
                }
            }
        });
        let scored: Result<Vec<Hit>, Fault> = scored.collect();
        self.beside.forget(number);
        scored.unwrap_or_else(|fault| {
            self.beside.failure = Some(fault);
            Vec::new()
        })
    }
}
