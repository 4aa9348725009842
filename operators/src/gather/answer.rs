//! What an answer shows: payloads of its hits, and where each stood in every stage.

use std::collections::BTreeMap;

use freshet_schemas::{Answer, FusionScore, Leg, OrderValue, Point, RerankScore, WithPayload};

use super::execution::{DOCUMENTS, Execution, Ranked};
use super::page::Page;
use crate::index::shard::Listing;
use crate::message::{AnswerRecord, ShardReply, ShardRequest, Task, TaskReply};
use crate::plan::{Stage, Work};

impl Execution {
    /// What each shard is asked for the hits of the answer.
    pub fn fetches(&self) -> Vec<ShardRequest> {
        let wanted = self.root().iter().map(|ranked| (ranked.hit.id.clone(), ranked.hit.chunk)).collect();
        match self.query.admitted.planned.query.with_payload {
            WithPayload::None => self.to_all(Vec::new()),
            WithPayload::All | WithPayload::Include(_) | WithPayload::Exclude(_) => {
                self.to_all(vec![(0, Task::Fetch(wanted))])
            }
        }
    }

    /// Takes what one shard fetched; true once all have replied.
    pub fn fetched(&mut self, reply: ShardReply) -> bool {
        for (_, reply) in reply.replies {
            if let TaskReply::Fetched(fetched) = reply {
                self.fetched.extend(fetched.into_iter().map(|f| (f.id.clone(), f)));
            }
        }
        self.replies += 1;
        self.replies == self.shards
    }

    /// The answer.
    pub fn into_answer(mut self) -> AnswerRecord {
        let failed = self.beside.failure.take();
        let groups = self.answered_groups(|ranked| self.point(ranked));
        let points = match groups {
            Some(_) => Vec::new(),
            None => self.root().iter().map(|ranked| self.point(ranked)).collect(),
        };
        let degraded = std::mem::take(&mut self.degraded);
        let planned = &self.query.admitted.planned;
        let answer = Answer {
            id: planned.query.id.clone(),
            points,
            as_of: BTreeMap::from([(DOCUMENTS.to_owned(), self.query.admitted.as_of.clone())]),
            time: Some(self.query.admitted.time),
            took_seconds: 0.0,
            degraded,
            error: failed,
            count: self.beside.count,
            groups,
            next: self.page.and_then(Page::next),
        };
        AnswerRecord {
            origin: planned.origin,
            headers: planned.headers.clone(),
            read_at_us: planned.read_at_us,
            id: answer.id.clone(),
            answer: answer.to_json(),
        }
    }

    fn point(&self, ranked: &Ranked) -> Point {
        let hit = &ranked.hit;
        let fetched = self.fetched.get(&hit.id);
        let mut point = Point {
            id: hit.id.clone(),
            score: hit.score,
            chunk: hit.chunk,
            span: fetched.and_then(|f| f.span),
            text: fetched.map(|f| f.text.clone()),
            payload: fetched.map(|f| payload(&f.payload, &self.query.admitted.planned.query.with_payload)),
            legs: Vec::new(),
            fusion: None,
            rerank: None,
            order_value: ranked.value.and_then(OrderValue::number),
        };
        if self.query.admitted.planned.query.explain {
            self.explain(&mut point);
        }
        point
    }

    /// Rank and score of the hit in every leg, in the last fusion that found it and in the rerank after it.
    fn explain(&self, point: &mut Point) {
        let stages = &self.plan().stages;
        let place = |number: usize| {
            let list = self.lists[number].as_deref().unwrap_or_default();
            (1u32..).zip(list).find(|(_, ranked)| ranked.hit.id == point.id)
        };
        let fusion = stages.iter().rposition(|stage| matches!(stage.work, Work::Fuse(_)));
        for (number, stage) in stages.iter().enumerate() {
            let Some((rank, ranked)) = place(number) else { continue };
            let score = ranked.hit.score;
            // Where a leg stands among the lists that the last fusion took.
            let summand =
                fusion.and_then(|f| stages[f].from.iter().position(|&from| usize::from(from) == number));
            match stage.work {
                Work::Fuse(_) => point.fusion = Some(FusionScore { rank, score }),
                Work::Rerank { .. } if self.is_degraded(stage) => {}
                // A list that nothing was done with has no ranks to explain; no stage follows the groups.
                Work::List { .. } if summand.is_none() => {}
                Work::Count { .. } | Work::Group { .. } => {}
                Work::Rescore { .. } | Work::Rerank { .. } | Work::Formula(_) if summand.is_none() => {
                    point.rerank = Some(RerankScore { rank, score });
                }
                Work::Search { .. }
                | Work::Rescore { .. }
                | Work::Rerank { .. }
                | Work::List { .. }
                | Work::Formula(_) => {
                    let contribution = fusion.zip(summand).and_then(|(f, position)| {
                        place(f).and_then(|(_, fused)| fused.contributions.get(position).copied().flatten())
                    });
                    point.legs.push(Leg { name: self.leg_name(stage).to_owned(), rank, score, contribution });
                }
            }
        }
    }

    fn is_degraded(&self, stage: &Stage) -> bool {
        self.degraded.iter().any(|degraded| degraded.stage == self.reranker_name(stage))
    }

    /// The field that a stage searches or scores by, or its reranker.
    fn leg_name<'a>(&'a self, stage: &'a Stage) -> &'a str {
        match stage.work {
            Work::Search { field, .. } | Work::Rescore { field, .. } => {
                self.plan().field_names.get(usize::from(field)).map_or("", String::as_str)
            }
            Work::Rerank { .. } | Work::Fuse(_) | Work::Count { .. } | Work::Group { .. } => {
                self.reranker_name(stage)
            }
            Work::Formula(_) => "formula",
            Work::List { ref listing, .. } => match listing {
                Listing::Id(_) => "list",
                Listing::Value(order) => &order.key,
            },
        }
    }
}

/// The asked-for fields of a payload.
fn payload(json: &str, wanted: &WithPayload) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    if let serde_json::Value::Object(fields) = &mut value {
        match wanted {
            WithPayload::All | WithPayload::None => {}
            WithPayload::Include(names) => fields.retain(|name, _| names.contains(name)),
            WithPayload::Exclude(names) => fields.retain(|name, _| !names.contains(name)),
        }
    }
    value
}
