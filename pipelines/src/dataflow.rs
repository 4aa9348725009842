//! The dataflow, from topic to topic, in one place.
//!
//! ```text
//! documents ─▶ consume ─▶ decode ─▶ upsert ─▶ embed ─▶ index ─▶ statistics ─▶ applied (frontier)
//!                 │          └─ dead letters    └─ dead letters     │             │
//!              bindings ──────────────────────────────────────┐     │ trace       │
//!                                                             ▼     ▼             ▼
//! queries ─▶ consume ─▶ decode ─▶ plan ─▶ admit ─▶ embed ─▶ weigh ─▶ start ─▶ (lookup ─▶) prefetch ─▶ gather ─▶ rerank ─▶ gather … ─▶ pages ─▶ fetch ─▶ answer ─▶ answers
//!                                  └─ error answers, dead letters ─────────────────────────────────────────────────▲
//! ```
//! Times are ticks. The frontier of `applied` is the promise that everything before it is in every shard of every
//! worker and in the statistics; queries read at or before it, and nothing is dropped that a query may still read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use freshet_operators::admit::{EndOffsets, admit};
use freshet_operators::connect::Connector;
use freshet_operators::connect::Source;
use freshet_operators::consume::{
    Budget, Consumed, DocumentConsumer, QueryConsumer, consume_documents, consume_queries,
};
use freshet_operators::control::Control;
use freshet_operators::decode::{DEAD_LETTER_SUFFIX, DeadLetters, decode_documents, decode_queries};
use freshet_operators::embed::assemble::Assembler;
use freshet_operators::embed::documents::embed_documents;
use freshet_operators::embed::queries::embed_queries;
use freshet_operators::gather::{Corpus, Executions, Gathered, Started, answer, gather, resolve, start};
use freshet_operators::index::Time;
use freshet_operators::message::{AnswerRecord, Binding, DeadLetter, PageTurn};
use freshet_operators::pages::{CursorLimits, pages};
use freshet_operators::plan::plan;
use freshet_operators::produce::{Delivery, Journal, Offsets, Producer, produce};
use freshet_operators::registry::Reader;
use freshet_operators::rerank::rerank;
use freshet_operators::shard::{Indexing, Living, Round, Shards, SharedShards, index, restored, serve};
use freshet_operators::snapshot::Snapshots;
use freshet_operators::stats::{StatisticsTrace, WeighedQuery, statistics, weigh};
use freshet_operators::upsert::{SplitText, upsert};
use freshet_operators::wake::LateWake;
use freshet_schemas::{AsOf, Offset, Partition};
use timely::dataflow::operators::{Concat, Concatenate, Probe};
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::worker::Worker;

use crate::setup::Setup;

/// What a worker brings to the dataflow: its part of the topics.
pub struct Ends {
    /// System of topics.
    pub connector: Arc<dyn Connector>,
    /// Documents of this worker's partitions.
    pub documents: Reader,
    /// Next offsets they start at, where an earlier run has read them.
    pub start: BTreeMap<Partition, Offset>,
    /// Documents before these offsets have had their dead letters written.
    pub letters_written: BTreeMap<Partition, Offset>,
    /// Queries of this worker's partitions.
    pub queries: Box<dyn Source>,
    /// How answers and dead letters are written.
    pub delivery: Delivery,
    /// Queries that earlier runs have answered, and what is to be done.
    pub offsets: Offsets,
    /// What answers of earlier runs reflect.
    pub floor: AsOf,
    /// Wakes of the queries' source and of the sink.
    pub wakes: (LateWake, LateWake),
    /// The shards of this worker, as they were restored, or empty.
    pub shards: Shards,
    /// Where cuts go.
    pub snapshots: Option<Arc<Snapshots>>,
}

/// What a worker keeps of the running dataflow.
pub struct Running {
    /// Frontier of the indexes.
    pub applied: ProbeHandle<Time>,
    /// Queries read and not answered yet.
    pub offsets: Rc<RefCell<Offsets>>,
    /// Records on their way to the topics.
    pub unsettled: Rc<RefCell<usize>>,
    /// Bindings of this worker's partitions: tick and next offset, newest last.
    pub bindings: Rc<RefCell<Vec<(Time, Binding)>>>,
    /// The shards of this worker.
    pub shards: SharedShards,
}

/// Time after which operators that wait for the outside look again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Builds the dataflow on one worker.
pub fn build(worker: &mut Worker, setup: &Setup, ends: Ends, control: &Arc<Control>) -> Running {
    let Ends {
        connector, documents, start, letters_written, queries, delivery, offsets, floor, wakes, ..
    } = ends;
    let (shards, snapshots) = (ends.shards, ends.snapshots);
    let living = shards.living();
    let kept = snapshots.as_ref().and_then(|snapshots| snapshots.answers());
    let journal = kept.map(|kept| Journal::new(Arc::clone(kept)));
    let running = Running {
        applied: ProbeHandle::new(),
        offsets: Rc::new(RefCell::new(offsets)),
        unsettled: Rc::default(),
        bindings: Rc::default(),
        shards: Rc::new(RefCell::new(shards)),
    };
    worker.dataflow_named("Freshet", |scope| {
        let begins_cuts = scope.worker().index() == 0;
        let documents = DocumentConsumer {
            source: documents,
            start: start.into_iter().map(|(partition, next)| Binding { partition, next }).collect(),
            clock: Arc::clone(&setup.clock),
            tick: setup.config.pipeline.tick,
            tick_records_max: setup.config.pipeline.tick_records_max.get(),
            budget: Budget::new(
                setup.config.pipeline.in_flight_records_max.get(),
                setup.config.pipeline.in_flight_bytes_max.get(),
                Arc::clone(&setup.gauge),
            ),
            cuts: snapshots.clone().filter(|_| begins_cuts),
            traces: setup.document_traces(),
            control: Arc::clone(control),
        };
        let ingest = Ingest { consumer: documents, letters_written, living, snapshots };
        let ingested = ingest.build(scope, setup, &running, control);
        let worker = scope.worker().index();
        let desk = setup.gateway.as_ref().and_then(|gateway| gateway.desk(worker)).cloned();
        let queries = QueryConsumer {
            source: queries,
            desk: desk.clone(),
            offsets: Rc::clone(&running.offsets),
            journal: journal.clone(),
            in_flight_max: setup.config.queries.in_flight_max.get(),
            tick: LOOK_AGAIN,
            wake: wakes.0,
            control: Arc::clone(control),
        };
        let topics = &setup.config.topics;
        let producer = Producer {
            delivery,
            topics: topics.documents.clone(),
            answers: topics.answers.clone(),
            query_letters: format!("{}{DEAD_LETTER_SUFFIX}", topics.queries),
            desk,
            metrics: setup.metrics.clone(),
            offsets: Rc::clone(&running.offsets),
            journal,
            traces: setup.query_traces(),
            unsettled: Rc::clone(&running.unsettled),
            tick: LOOK_AGAIN,
            wake: wakes.1,
            control: Arc::clone(control),
        };
        let ends = EndOffsets { connector, topics: topics.documents.clone() };
        answers(scope, setup, queries, (ends, floor), ingested, producer, &running, control);
    });
    running
}

/// The documents' side.
struct Ingest {
    consumer: DocumentConsumer,
    letters_written: BTreeMap<Partition, Offset>,
    living: Living,
    snapshots: Option<Arc<Snapshots>>,
}

/// What the documents' side hands to the queries' side.
struct Ingested<'scope> {
    bindings: StreamVec<'scope, Time, Binding>,
    applied: StreamVec<'scope, Time, ()>,
    statistics: StatisticsTrace,
    letters: StreamVec<'scope, Time, DeadLetter>,
}

impl Ingest {
    fn build<'scope>(
        self,
        scope: Scope<'scope, Time>,
        setup: &Setup,
        running: &Running,
        control: &Arc<Control>,
    ) -> Ingested<'scope> {
        let dead = DeadLetters::new(setup.config.topics.documents.clone(), self.letters_written);
        let Consumed { records, bindings, cuts } =
            consume_documents(scope, running.applied.clone(), self.consumer);
        let (documents, undecoded) = decode_documents(records, setup.document_specs(), dead.clone());
        let before = restored(scope, self.living, Arc::clone(control));
        let split: SplitText = setup.splitter();
        let deltas = upsert(documents, split, before.states);
        let assembler = Assembler::new(setup.fields.clone(), setup.config.pipeline.shards.get());
        let (changes, unembedded) = embed_documents(deltas, assembler, setup.service.clone(), dead);
        let indexing = Indexing {
            shards: Rc::clone(&running.shards),
            bindings: bindings.clone(),
            cuts,
            snapshots: self.snapshots,
            control: Arc::clone(control),
        };
        let counts = index(changes, indexing);
        let (statistics, applied) = statistics(counts, before.statistics);
        let applied = applied.probe_with(&running.applied);
        let kept = Rc::clone(&running.bindings);
        let bindings = timely::dataflow::operators::Inspect::inspect_time(bindings, move |time, binding| {
            kept.borrow_mut().push((*time, *binding));
        });
        Ingested { bindings, applied, statistics, letters: scope.concatenate([undecoded, unembedded]) }
    }
}

#[allow(clippy::too_many_arguments, reason = "the one place where both sides meet")]
fn answers<'scope>(
    scope: Scope<'scope, Time>,
    setup: &Setup,
    consumer: QueryConsumer,
    (ends, floor): (EndOffsets, AsOf),
    ingested: Ingested<'scope>,
    producer: Producer,
    running: &Running,
    control: &Arc<Control>,
) {
    let Ingested { bindings, applied, statistics, letters } = ingested;
    let dead = DeadLetters::new(setup.config.topics.queries.clone().into(), BTreeMap::new());
    let limits = setup.config.queries.limits.clone();
    let records = consume_queries(scope, applied.clone(), consumer);
    let (queries, undecoded) = decode_queries(records, limits, dead.clone());
    let planned = plan(queries, setup.plans(), dead);
    let timeout = setup.config.queries.consistency_timeout;
    let (admitted, late) = admit(planned.queries, bindings, applied, ends, floor, timeout);
    let (prepared, failed) = embed_queries(admitted, setup.fields.clone(), setup.service.clone());
    let scoring = setup.fields.iter().map(|field| field.spec.scoring).collect();
    let weighed = weigh(prepared, statistics, scoring);
    let (found, gone) = search(scope, setup, (weighed, planned.turns), running, control);
    let answers = scope.concatenate([found, planned.refused, late, failed, gone]);
    let letters = scope.concatenate([letters, undecoded, planned.letters]);
    produce(answers, letters, producer);
}

/// Documents that queries name, searches and rescorings, round by round, then the payloads of a page. Answers, and refusals of
/// pages that are gone.
fn search<'scope>(
    scope: Scope<'scope, Time>,
    setup: &Setup,
    (queries, turns): (StreamVec<'scope, Time, WeighedQuery>, StreamVec<'scope, Time, PageTurn>),
    running: &Running,
    control: &Arc<Control>,
) -> (StreamVec<'scope, Time, AnswerRecord>, StreamVec<'scope, Time, AnswerRecord>) {
    let executions: Executions = Rc::default();
    let corpus = Corpus {
        topics: setup.config.topics.documents.clone(),
        shards: setup.config.pipeline.shards.get(),
        title: setup.config.documents.title.as_deref().map(Arc::from),
        fields: setup.fields.clone().into(),
    };
    let Started { requests, lookups, refused } = start(queries, Rc::clone(&executions), corpus);
    let known = serve(lookups, Rc::clone(&running.shards), Arc::clone(control), Round::Lookup);
    let (resolved, unresolved) = resolve(known, Rc::clone(&executions));
    let mut requests = requests.concat(resolved);
    let mut done = Vec::new();
    // A level of a plan takes one trip at most, and groups take one more.
    for number in 0..=setup.config.queries.limits.depth_max {
        let round = if number == 0 { Round::Prefetch } else { Round::Rerank(number) };
        let replies = serve(requests, Rc::clone(&running.shards), Arc::clone(control), round);
        let Gathered { next, done: finished, reading } = gather(replies, Rc::clone(&executions), number);
        let (read_next, read) = rerank(reading, Rc::clone(&executions), Arc::clone(&setup.rerankers), number);
        requests = next.concat(read_next);
        done.extend([finished, read]);
    }
    let queries = &setup.config.queries;
    let limits = CursorLimits { count_max: queries.cursors_max.get(), timeout: queries.cursor_timeout };
    let (fetches, gone) = pages(scope.concatenate(done), turns, Rc::clone(&executions), limits);
    let fetched = serve(fetches, Rc::clone(&running.shards), Arc::clone(control), Round::Fetch);
    (scope.concatenate([answer(fetched, executions), refused, unresolved]), gone)
}
