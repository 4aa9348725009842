//! One query under way: which stages have their lists, and what the answer will say.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_schemas::{Degraded, DocumentTopics, Fusion, OrderValue, with_title};

use super::beside::Beside;
use super::diverse;
use super::lookup::Known;
use super::page::Page;
use super::stopwatch::Stopwatch;
use crate::embed::fields::VectorField;
use crate::fuse::{self, Fused};
use crate::index::{Fetched, Hit, Probe, RowVector, Stored, by_rank};
use crate::message::{ShardReply, ShardRequest, Task, TaskReply, Ticket};
use crate::plan::{Plan, Stage, Work};
use crate::stats::WeighedQuery;

/// A hit in the global list of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Document, chunk, score.
    pub hit: Hit,
    /// For fusions: what each list it took from contributed.
    pub contributions: Vec<Option<f64>>,
    /// For lists: the value the document is listed by.
    pub value: Option<OrderValue>,
}

/// Texts that a reranker shall read for a query.
#[derive(Clone, Debug, PartialEq)]
pub struct RerankTask {
    /// The query's name in flight.
    pub ticket: Ticket,
    /// Number of the stage.
    pub stage: u16,
    /// Number of the reranker.
    pub reranker: u16,
    /// What the texts are read for.
    pub query: String,
    /// The best chunk of each candidate, in the order they have so far.
    pub texts: Vec<String>,
}

/// What the reply of a shard leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Absorbed {
    /// Others are still to come.
    Waiting,
    /// The round is complete once these are done, too.
    Reranking(Vec<RerankTask>),
    /// The lists of the round are there.
    Complete,
}

/// What a reranking stage of the current round knows.
#[derive(Clone, Default)]
struct Reranking {
    /// Documents to be read, in the order before.
    candidates: Vec<Hit>,
    /// Their texts, by id, as they arrive.
    texts: BTreeMap<String, String>,
    /// What has come of it.
    scores: Option<Result<Vec<f64>, String>>,
}

/// Constant of the fusion that orders the candidates of several lists (Cormack et al. 2009).
const CANDIDATES_K: f64 = 60.0;

/// What all queries of a pipeline are asked of.
#[derive(Clone)]
pub struct Corpus {
    /// The documents topics: what answers reflect goes by their names.
    pub topics: DocumentTopics,
    /// Shards that reply to every request.
    pub shards: u32,
    /// Field of the payload that is read before every chunk.
    pub title: Option<Arc<str>>,
    /// The vector fields, by number.
    pub fields: Arc<[VectorField]>,
}

/// State of a query. Invariant: the lists of all stages of earlier rounds are there, cut to their limits.
#[derive(Clone)]
pub struct Execution {
    pub(super) query: WeighedQuery,
    pub(super) corpus: Corpus,
    /// What the documents hold that are looked up, while they are.
    pub(super) known: Known,
    /// What is searched with, one per input of the plan; there once all of it is known.
    pub(super) probes: Vec<Probe>,
    /// Per stage its list, once known.
    pub(super) lists: Vec<Option<Vec<Ranked>>>,
    /// Hits of the current round, per stage, of the shards that have replied.
    arrived: BTreeMap<u16, Vec<Hit>>,
    /// Reranking stages of the current round.
    rerankings: BTreeMap<u16, Reranking>,
    pub(super) degraded: Vec<Degraded>,
    /// Shards that have replied in the current round.
    pub(super) replies: u32,
    pub(super) fetched: BTreeMap<String, Fetched>,
    pub(super) beside: Beside,
    pub(super) stopwatch: Stopwatch,
    /// Which part of the final list is answered; all of it unless that is to be read page by page.
    pub(super) page: Option<Page>,
    /// Vectors of candidates by stage, or of hits by field, and then by id.
    pub(super) vectors: BTreeMap<u16, BTreeMap<String, RowVector>>,
}

impl Execution {
    /// A query that has found nothing yet.
    pub fn new(query: WeighedQuery, corpus: Corpus) -> Self {
        let lists = vec![None; query.admitted.planned.plan.stages.len()];
        let page = query.admitted.planned.query.page.map(Page::first);
        let stopwatch = Stopwatch::start(query.admitted.planned.read_at_us, query.admitted.admitted_at_us);
        Self {
            query,
            corpus,
            known: Known::new(),
            probes: Vec::new(),
            lists,
            arrived: BTreeMap::new(),
            rerankings: BTreeMap::new(),
            degraded: Vec::new(),
            replies: 0,
            fetched: BTreeMap::new(),
            beside: Beside::default(),
            stopwatch,
            page,
            vectors: BTreeMap::new(),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.query.admitted.planned.plan
    }

    /// Trips to the shards before the final fetch. None are left once it is known that there is no answer.
    pub fn rounds(&self) -> usize {
        if self.beside.failure.is_some() {
            return 0;
        }
        self.plan().stages.iter().map(|stage| stage.round + 1).max().unwrap_or(0)
    }

    /// What each shard is asked in a round.
    pub fn requests(&mut self, round: usize) -> Vec<ShardRequest> {
        if round > 0 {
            self.stopwatch.searched();
        }
        let stages = (0u16..).zip(&self.plan().stages).filter(|(_, stage)| stage.round == round);
        let reranking = stages.clone().filter_map(|(number, stage)| {
            let candidates = self.reading_list(stage)?;
            Some((number, Reranking { candidates, ..Reranking::default() }))
        });
        self.rerankings = reranking.collect();
        let stages = (0u16..).zip(&self.plan().stages).filter(|(_, stage)| stage.round == round);
        let tasks = stages.filter_map(|(number, stage)| Some((number, self.task(number, stage)?)));
        self.to_all(tasks.collect())
    }

    pub(super) fn to_all(&self, tasks: Vec<(u16, Task)>) -> Vec<ShardRequest> {
        let ticket = self.query.admitted.planned.ticket;
        (0..self.corpus.shards).map(|shard| ShardRequest { ticket, shard, tasks: tasks.clone() }).collect()
    }

    /// What a reranking stage reads: what the stages before found, in their order.
    fn reading_list(&self, stage: &Stage) -> Option<Vec<Hit>> {
        let Work::Rerank { documents_max, .. } = stage.work else { return None };
        let mut candidates = self.before(stage);
        candidates.truncate(documents_max);
        Some(candidates)
    }

    /// The hits of the stages before, each document once: as they stand, or fused where there are several lists.
    fn before(&self, stage: &Stage) -> Vec<Hit> {
        let legs: Vec<Vec<Hit>> = stage.from.iter().map(|&from| self.hits(from)).collect();
        match <[Vec<Hit>; 1]>::try_from(legs) {
            Ok([only]) => only,
            Err(legs) => {
                let rrf = Fusion::Rrf { k: CANDIDATES_K, weights: Vec::new() };
                fuse::fuse(&rrf, &legs).into_iter().map(|fused| Ranked::from(fused).hit).collect()
            }
        }
    }

    fn hits(&self, stage: u16) -> Vec<Hit> {
        self.list(stage).iter().map(|ranked| ranked.hit.clone()).collect()
    }

    fn task(&self, number: u16, stage: &Stage) -> Option<Task> {
        let probe = |input: u16| self.probes[usize::from(input)].clone();
        if let Some(task) = self.heads_task(number) {
            return Some(task);
        }
        // What is left out may be among the best.
        let k = |without: &Vec<String>| stage.limit.saturating_add(without.len());
        match stage.work {
            Work::Search { field, input, params, ref filter, ref without } => {
                let filter = filter.clone();
                Some(Task::Search { field, probe: probe(input), k: k(without), params, filter })
            }
            Work::Rescore { field, input } => {
                Some(Task::Score { field, probe: probe(input), ids: self.candidates(stage) })
            }
            Work::Rerank { .. } => {
                let wanted = self.rerankings[&number].candidates.iter();
                Some(Task::Fetch(wanted.map(|hit| (hit.id.clone(), hit.chunk)).collect()))
            }
            Work::Fuse(_) => None,
            Work::List { ref listing, ref filter, each_value } => {
                let (listing, filter) = (listing.clone(), filter.clone());
                Some(Task::List { listing, k: stage.limit, filter, each_value })
            }
            Work::Count { ref filter } => Some(Task::Count { filter: filter.clone() }),
            Work::Formula(ref formula) => self.formula_task(formula, stage),
            Work::Group { ref grouping } => Some(self.group_task(grouping, stage)),
            Work::Examples { field, ref inputs, formula, ref filter, ref without } => {
                let probes = inputs.iter().map(|&input| probe(input)).collect();
                let among = (!stage.from.is_empty()).then(|| self.candidates(stage));
                let filter = filter.clone();
                Some(Task::Examples { field, probes, formula, k: k(without), filter, among })
            }
            Work::Diversify { field, .. } => {
                let wanted = self.before(stage).into_iter().map(|hit| (hit.id, Some(hit.chunk)));
                Some(Task::Vectors { field, wanted: wanted.collect() })
            }
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

    pub(super) fn list(&self, stage: u16) -> &[Ranked] {
        self.lists[usize::from(stage)].as_deref().unwrap_or_default()
    }

    /// Takes the reply of one shard.
    pub fn absorb(&mut self, reply: ShardReply, round: usize) -> Absorbed {
        let title = self.corpus.title.clone();
        for (stage, reply) in reply.replies {
            match reply {
                TaskReply::Hits(hits) => self.arrived.entry(stage).or_default().extend(hits),
                TaskReply::Vectors { stored, .. } => self.keep_vectors(stage, stored),
                TaskReply::Fetched(fetched) => {
                    let texts = &mut self.rerankings.entry(stage).or_default().texts;
                    texts.extend(fetched.into_iter().map(|of| (of.id.clone(), read(&of, title.as_deref()))));
                }
                reply @ (TaskReply::Listed(_)
                | TaskReply::Counted(_)
                | TaskReply::Payloads(_)
                | TaskReply::GroupHeads(_)
                | TaskReply::GroupMembers(_)) => self.beside.absorb(stage, reply),
            }
        }
        self.replies += 1;
        if self.replies < self.corpus.shards {
            return Absorbed::Waiting;
        }
        self.replies = 0;
        let tasks = self.rerank_tasks();
        if tasks.is_empty() {
            self.settle(round);
            return Absorbed::Complete;
        }
        Absorbed::Reranking(tasks)
    }

    /// What is to be read, now that the texts are there. Stages with nothing to read are done.
    fn rerank_tasks(&mut self) -> Vec<RerankTask> {
        let ticket = self.query.admitted.planned.ticket;
        let mut tasks = Vec::new();
        for (&stage, reranking) in &mut self.rerankings {
            if reranking.candidates.is_empty() {
                reranking.scores = Some(Ok(Vec::new()));
                continue;
            }
            let work = &self.query.admitted.planned.plan.stages[usize::from(stage)].work;
            let Work::Rerank { reranker, text, .. } = work else { continue };
            let texts = reranking.candidates.iter();
            let texts = texts.map(|hit| reranking.texts.remove(&hit.id).unwrap_or_default()).collect();
            tasks.push(RerankTask { ticket, stage, reranker: *reranker, query: text.clone(), texts });
        }
        tasks
    }

    /// Takes what has come of a task; true once it was the last one and the lists of the round are there.
    pub fn reranked(&mut self, stage: u16, scores: Result<Vec<f64>, String>, round: usize) -> bool {
        let Some(reranking) = self.rerankings.get_mut(&stage) else { return false };
        let texts = reranking.candidates.len();
        reranking.scores = Some(scores.and_then(|scores| match scores.len() == texts {
            true if scores.iter().all(|score| score.is_finite()) => Ok(scores),
            true => Err("it gave a score that is not finite".to_owned()),
            false => Err(format!("it gave {} scores for {texts} texts", scores.len())),
        }));
        if self.rerankings.values().any(|reranking| reranking.scores.is_none()) {
            return false;
        }
        self.settle(round);
        true
    }

    /// Makes the lists of a round.
    fn settle(&mut self, round: usize) {
        for number in 0..self.plan().stages.len() {
            if self.plan().stages[number].round == round {
                self.lists[number] = Some(self.gathered(number));
            }
        }
    }

    /// Keeps the vectors of one chunk each, of a stage or a field.
    pub(super) fn keep_vectors(&mut self, place: u16, stored: Vec<Stored>) {
        let vectors =
            stored.into_iter().filter_map(|stored| Some((stored.id, stored.rows.into_iter().next()?)));
        self.vectors.entry(place).or_default().extend(vectors);
    }

    /// The global list of a stage whose hits have arrived, or whose sources are known.
    fn gathered(&mut self, number: usize) -> Vec<Ranked> {
        let place = u16::try_from(number).unwrap_or(u16::MAX);
        let degraded = self.degraded.len();
        let arrived = match self.rerankings.remove(&place) {
            Some(reranking) => self.reordered(number, reranking),
            None => self.arrived.remove(&place).unwrap_or_default(),
        };
        if self.grouping_of(place).is_some() {
            self.choose_groups(place);
            return Vec::new();
        }
        let vectors = self.vectors.remove(&place).unwrap_or_default();
        let plain = |hit: Hit| Ranked { hit, contributions: Vec::new(), value: None };
        let in_order = |hits: Vec<Hit>| -> Vec<Ranked> { hits.into_iter().map(plain).collect() };
        let ranked = |mut hits: Vec<Hit>| {
            hits.sort_unstable_by(by_rank);
            in_order(hits)
        };
        let work = &self.plan().stages[number].work;
        if matches!(work, Work::Group { .. }) {
            return self.grouped(place);
        }
        let arrived = if matches!(work, Work::Formula(_)) { self.formula_scores(place) } else { arrived };
        // Not through `plan`: what was listed is taken out of `beside` while the stage is borrowed.
        let stage = &self.query.admitted.planned.plan.stages[number];
        let mut list: Vec<Ranked> = match &stage.work {
            Work::Search { .. } | Work::Rescore { .. } | Work::Examples { .. } | Work::Formula(_) => {
                let mut hits = arrived;
                hits.retain(|hit| !stage.leaves_out(&hit.id));
                ranked(hits)
            }
            // The order before stays where there are no scores: that of a list is not by score.
            Work::Rerank { .. } => in_order(arrived),
            Work::List { listing, each_value, .. } => {
                self.beside.listed(place, listing, stage.limit, *each_value)
            }
            Work::Group { .. } | Work::Count { .. } => Vec::new(),
            Work::Fuse(fusion) => {
                let legs: Vec<Vec<Hit>> = stage.from.iter().map(|&from| self.hits(from)).collect();
                fuse::fuse(fusion, &legs).into_iter().map(Ranked::from).collect()
            }
            Work::Diversify { field, diversity } => {
                let spec = &self.corpus.fields[usize::from(*field)].spec;
                let hits = diverse::choose(spec, self.before(stage), &vectors, *diversity, stage.limit);
                hits.into_iter().map(plain).collect()
            }
        };
        // Scores of the stage before say nothing about the threshold of one that has failed.
        let scored = !matches!(stage.work, Work::List { .. }) && self.degraded.len() == degraded;
        if let (Some(threshold), true) = (stage.threshold, scored) {
            let inclusive = matches!(stage.work, Work::Fuse(_));
            list.retain(|ranked| match inclusive {
                true => ranked.hit.score >= threshold,
                false => ranked.hit.score > threshold,
            });
        }
        list.truncate(stage.limit);
        list
    }

    /// Candidates with their new scores, or as they stood before.
    fn reordered(&mut self, number: usize, reranking: Reranking) -> Vec<Hit> {
        let Reranking { candidates, scores, .. } = reranking;
        match scores.unwrap_or_else(|| Err("it was not asked".to_owned())) {
            Ok(scores) => {
                let scored = candidates.into_iter().zip(scores);
                let mut hits: Vec<Hit> =
                    scored.map(|(hit, score)| Hit { score: score + 0.0, ..hit }).collect();
                hits.sort_unstable_by(by_rank);
                hits
            }
            Err(reason) => {
                let stage = self.reranker_name(&self.plan().stages[number]).to_owned();
                self.degraded.push(Degraded { stage, reason });
                candidates
            }
        }
    }

    pub(super) fn reranker_name(&self, stage: &Stage) -> &str {
        let Work::Rerank { reranker, .. } = stage.work else { return "" };
        self.plan().reranker_names.get(usize::from(reranker)).map_or("", String::as_str)
    }

    /// The final list, without what the query passes over.
    pub(super) fn whole(&self) -> &[Ranked] {
        let all = self.lists.last().and_then(Option::as_deref).unwrap_or_default();
        all.get(self.query.admitted.planned.query.offset..).unwrap_or_default()
    }

    /// The hits of the answer.
    pub(super) fn root(&self) -> &[Ranked] {
        self.page.map_or(self.whole(), |page| page.of(self.whole()))
    }
}

impl From<Fused> for Ranked {
    fn from(fused: Fused) -> Self {
        let hit = Hit { id: fused.id, chunk: fused.chunk, score: fused.score };
        Self { hit, contributions: fused.contributions, value: None }
    }
}

/// What a reranker reads of a document: the title, if there is one, and the chunk.
fn read(fetched: &Fetched, title: Option<&str>) -> String {
    let payload = || serde_json::from_str::<serde_json::Value>(&fetched.payload).unwrap_or_default();
    let title = title.and_then(|field| payload().get(field)?.as_str().map(str::to_owned));
    with_title(&title.unwrap_or_default(), &fetched.text).into_owned()
}
