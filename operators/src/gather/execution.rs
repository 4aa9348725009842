//! One query under way: which stages have their lists, and what the answer will say.

use std::collections::BTreeMap;

use freshet_schemas::{Answer, FusionScore, Leg, Point, RerankScore, WithPayload};

use crate::fuse::{self, Fused};
use crate::index::{Fetched, Hit, by_rank};
use crate::message::{AnswerRecord, ShardReply, ShardRequest, Task, TaskReply};
use crate::plan::{Plan, Stage, Work};
use crate::stats::WeighedQuery;

/// Name of the documents in `as_of` of an answer, whatever their topic is called.
pub const DOCUMENTS: &str = "documents";

/// A hit in the global list of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Document, chunk, score.
    pub hit: Hit,
    /// For fusions: what each list it took from contributed.
    pub contributions: Vec<Option<f64>>,
}

/// State of a query. Invariant: the lists of all stages of earlier rounds are there, cut to their limits.
pub struct Execution {
    query: WeighedQuery,
    shards: u32,
    /// Per stage its list, once known.
    lists: Vec<Option<Vec<Ranked>>>,
    /// Hits of the current round, per stage, of the shards that have replied.
    arrived: BTreeMap<u16, Vec<Hit>>,
    /// Shards that have replied in the current round.
    replies: u32,
    fetched: BTreeMap<String, Fetched>,
}

impl Execution {
    /// A query that has found nothing yet, over so many shards.
    pub fn new(query: WeighedQuery, shards: u32) -> Self {
        let lists = vec![None; query.admitted.planned.plan.stages.len()];
        Self { query, shards, lists, arrived: BTreeMap::new(), replies: 0, fetched: BTreeMap::new() }
    }

    fn plan(&self) -> &Plan {
        &self.query.admitted.planned.plan
    }

    /// Trips to the shards before the final fetch.
    pub fn rounds(&self) -> usize {
        self.plan().stages.iter().map(|stage| stage.round + 1).max().unwrap_or(0)
    }

    /// What each shard is asked in a round.
    pub fn requests(&self, round: usize) -> Vec<ShardRequest> {
        let stages = (0u16..).zip(&self.plan().stages).filter(|(_, stage)| stage.round == round);
        let tasks = stages.filter_map(|(number, stage)| Some((number, self.task(stage)?)));
        self.to_all(tasks.collect())
    }

    fn to_all(&self, tasks: Vec<(u16, Task)>) -> Vec<ShardRequest> {
        let ticket = self.query.admitted.planned.ticket;
        (0..self.shards).map(|shard| ShardRequest { ticket, shard, tasks: tasks.clone() }).collect()
    }

    fn task(&self, stage: &Stage) -> Option<Task> {
        let probe = |input: u16| self.query.probes[usize::from(input)].clone();
        match stage.work {
            Work::Search { field, input, params, ref filter } => {
                let filter = filter.clone();
                Some(Task::Search { field, probe: probe(input), k: stage.limit, params, filter })
            }
            Work::Rescore { field, input } => {
                Some(Task::Score { field, probe: probe(input), ids: self.candidates(stage) })
            }
            Work::Fuse(_) => None,
        }
    }

    /// Ids of all hits of the stages before, each once, ascending.
    fn candidates(&self, stage: &Stage) -> Vec<String> {
        let mut ids: Vec<String> =
            stage.from.iter().flat_map(|&from| self.list(from)).map(|ranked| ranked.hit.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn list(&self, stage: u16) -> &[Ranked] {
        self.lists[usize::from(stage)].as_deref().unwrap_or_default()
    }

    /// Takes the reply of one shard; true once all have replied and the lists of the round are there.
    pub fn absorb(&mut self, reply: ShardReply, round: usize) -> bool {
        for (stage, reply) in reply.replies {
            if let TaskReply::Hits(hits) = reply {
                self.arrived.entry(stage).or_default().extend(hits);
            }
        }
        self.replies += 1;
        if self.replies < self.shards {
            return false;
        }
        self.replies = 0;
        for number in 0..self.plan().stages.len() {
            if self.plan().stages[number].round == round {
                self.lists[number] = Some(self.gathered(number));
            }
        }
        true
    }

    /// The global list of a stage whose hits have arrived, or whose sources are known.
    fn gathered(&mut self, number: usize) -> Vec<Ranked> {
        let arrived = self.arrived.remove(&u16::try_from(number).unwrap_or(u16::MAX)).unwrap_or_default();
        let stage = &self.plan().stages[number];
        let mut list: Vec<Ranked> = match &stage.work {
            Work::Search { .. } | Work::Rescore { .. } => {
                let mut hits = arrived;
                hits.sort_unstable_by(by_rank);
                hits.into_iter().map(|hit| Ranked { hit, contributions: Vec::new() }).collect()
            }
            Work::Fuse(fusion) => {
                let legs: Vec<Vec<Hit>> = stage
                    .from
                    .iter()
                    .map(|&from| self.list(from).iter().map(|ranked| ranked.hit.clone()).collect())
                    .collect();
                fuse::fuse(fusion, &legs).into_iter().map(Ranked::from).collect()
            }
        };
        list.truncate(stage.limit);
        list
    }

    fn root(&self) -> &[Ranked] {
        self.lists.last().and_then(Option::as_deref).unwrap_or_default()
    }

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
    pub fn into_answer(self) -> AnswerRecord {
        let points = self.root().iter().map(|ranked| self.point(ranked)).collect();
        let planned = &self.query.admitted.planned;
        let answer = Answer {
            id: planned.query.id.clone(),
            points,
            as_of: BTreeMap::from([(DOCUMENTS.to_owned(), self.query.admitted.as_of.clone())]),
            time: Some(self.query.admitted.time),
            took_seconds: 0.0,
            error: None,
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
            text: fetched.map(|f| f.text.clone()),
            payload: fetched.map(|f| payload(&f.payload, &self.query.admitted.planned.query.with_payload)),
            legs: Vec::new(),
            fusion: None,
            rerank: None,
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
                Work::Rescore { .. } if summand.is_none() => point.rerank = Some(RerankScore { rank, score }),
                Work::Search { field, .. } | Work::Rescore { field, .. } => {
                    let contribution = fusion.zip(summand).and_then(|(f, position)| {
                        place(f).and_then(|(_, fused)| fused.contributions.get(position).copied().flatten())
                    });
                    point.legs.push(Leg { name: self.name(field), rank, score, contribution });
                }
            }
        }
    }

    fn name(&self, field: u16) -> String {
        self.plan().field_names.get(usize::from(field)).cloned().unwrap_or_default()
    }
}

impl From<Fused> for Ranked {
    fn from(fused: Fused) -> Self {
        let hit = Hit { id: fused.id, chunk: fused.chunk, score: fused.score };
        Self { hit, contributions: fused.contributions }
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
