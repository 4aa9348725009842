//! What an answer shows: payloads of its hits, and where each stood in every stage.

use std::collections::BTreeMap;

use freshet_schemas::{
    Answer, FusionScore, Leg, OrderValue, PayloadPaths, Point, PointVector, RerankScore, WithPayload,
    WithVectors,
};

use super::execution::{Execution, Ranked};
use super::page::Page;
use crate::embed::fields::FieldSource;
use crate::index::RowVector;
use crate::index::shard::Listing;
use crate::message::{AnswerRecord, ShardReply, ShardRequest, Task, TaskReply};
use crate::plan::{Stage, Work};

impl Execution {
    /// What each shard is asked for the hits of the answer.
    pub fn fetches(&self) -> Vec<ShardRequest> {
        self.stopwatch.ranked();
        let query = &self.query.admitted.planned.query;
        let hits = || self.root().iter().map(|ranked| &ranked.hit);
        let mut tasks = Vec::new();
        match query.with_payload {
            WithPayload::None => {}
            WithPayload::All | WithPayload::Include(_) | WithPayload::Exclude(_) => {
                tasks.push((0, Task::Fetch(hits().map(|hit| (hit.id.clone(), hit.chunk)).collect())));
            }
        }
        for (field, of) in (0u16..).zip(self.corpus.fields.iter()) {
            let shown = match &query.with_vectors {
                WithVectors::None => false,
                WithVectors::All => !matches!(of.source, FieldSource::Terms(_)),
                WithVectors::Of(names) => names.contains(&of.spec.name),
            };
            if shown {
                let wanted = hits().map(|hit| (hit.id.clone(), Some(hit.chunk))).collect();
                tasks.push((field, Task::Vectors { field, wanted }));
            }
        }
        self.to_all(tasks)
    }

    /// Takes what one shard fetched; true once all have replied.
    pub fn fetched(&mut self, reply: ShardReply) -> bool {
        for (_, reply) in reply.replies {
            match reply {
                TaskReply::Fetched(fetched) => {
                    self.fetched.extend(fetched.into_iter().map(|f| (f.id.clone(), f)));
                }
                TaskReply::Vectors { field, stored } => self.keep_vectors(field, stored),
                TaskReply::Hits(_)
                | TaskReply::Listed(_)
                | TaskReply::Counted(_)
                | TaskReply::Payloads(_)
                | TaskReply::GroupHeads(_)
                | TaskReply::GroupMembers(_) => {}
            }
        }
        self.replies += 1;
        self.replies == self.corpus.shards
    }

    /// The answer.
    pub fn into_answer(mut self) -> AnswerRecord {
        let failed = self.beside.failure.take();
        let shown = Shown::of(&self.query.admitted.planned.query.with_payload);
        let groups = self.answered_groups(|ranked| self.point(ranked, &shown));
        let points = match groups {
            Some(_) => Vec::new(),
            None => self.root().iter().map(|ranked| self.point(ranked, &shown)).collect(),
        };
        let degraded = std::mem::take(&mut self.degraded);
        let planned = &self.query.admitted.planned;
        let answer = Answer {
            id: planned.query.id.clone(),
            points,
            as_of: self.corpus.topics.by_name(&self.query.admitted.as_of),
            time: Some(self.query.admitted.time),
            took_seconds: 0.0,
            stage_seconds: (failed.is_none() && self.is_first_page()).then(|| self.stopwatch.seconds()),
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

    fn point(&self, ranked: &Ranked, shown: &Shown) -> Point {
        let hit = &ranked.hit;
        let fetched = self.fetched.get(&hit.id);
        let mut point = Point {
            id: hit.id.clone(),
            score: hit.score,
            chunk: hit.chunk,
            span: fetched.and_then(|f| f.span),
            text: fetched.map(|f| f.text.clone()),
            payload: fetched.map(|f| shown.payload(&f.payload)),
            legs: Vec::new(),
            fusion: None,
            rerank: None,
            order_value: ranked.value.and_then(OrderValue::number),
            vectors: self.vectors_of(&hit.id),
        };
        if self.query.admitted.planned.query.explain {
            self.explain(&mut point);
        }
        point
    }

    /// The vectors of a hit, by field.
    fn vectors_of(&self, id: &str) -> BTreeMap<String, PointVector> {
        let of_field = |(field, vectors): (&u16, &BTreeMap<String, RowVector>)| {
            let name = self.corpus.fields[usize::from(*field)].spec.name.clone();
            let vector = match vectors.get(id)? {
                RowVector::Dense(vector) => PointVector::Dense(vector.clone()),
                RowVector::Sparse(vector) => PointVector::Sparse(vector.clone()),
                RowVector::Multi(matrix) => PointVector::Multi(matrix.decoded()),
            };
            Some((name, vector))
        };
        self.vectors.iter().filter_map(of_field).collect()
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
                Work::Rescore { .. } | Work::Rerank { .. } | Work::Formula(_) | Work::Diversify { .. }
                    if summand.is_none() =>
                {
                    point.rerank = Some(RerankScore { rank, score });
                }
                Work::Examples { .. } if summand.is_none() && !stage.from.is_empty() => {
                    point.rerank = Some(RerankScore { rank, score });
                }
                Work::Search { .. }
                | Work::Rescore { .. }
                | Work::Rerank { .. }
                | Work::List { .. }
                | Work::Formula(_)
                | Work::Examples { .. }
                | Work::Diversify { .. } => {
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
            Work::Search { field, .. }
            | Work::Rescore { field, .. }
            | Work::Examples { field, .. }
            | Work::Diversify { field, .. } => {
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

/// What an answer shows of payloads.
enum Shown {
    All,
    Include(PayloadPaths),
    Exclude(PayloadPaths),
}

impl Shown {
    fn of(wanted: &WithPayload) -> Self {
        match wanted {
            WithPayload::All | WithPayload::None => Self::All,
            WithPayload::Include(paths) => Self::Include(PayloadPaths::of(paths)),
            WithPayload::Exclude(paths) => Self::Exclude(PayloadPaths::of(paths)),
        }
    }

    fn payload(&self, json: &str) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        match self {
            Self::All => value,
            Self::Include(paths) => paths.include(&value),
            Self::Exclude(paths) => paths.exclude(&value),
        }
    }
}
