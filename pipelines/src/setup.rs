//! A checked configuration with its models loaded: everything the workers share.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use freshet_config::{Config, Distance, Modifier, Quantization, Reranker};
use freshet_operators::clock::Clock;
use freshet_operators::consume::{BudgetGauge, DocumentTraces};
use freshet_operators::embed::fields::{FieldSource, VectorField};
use freshet_operators::embed::{Backend, EmbedError, EmbeddingService, Head, load};
use freshet_operators::gateway::Gateway;
use freshet_operators::index::payload::PayloadField;
use freshet_operators::index::segment::{Segment, SegmentSpec};
use freshet_operators::index::shard::{BuildPool, Builder, HeadLimit};
use freshet_operators::index::{FieldSpec, IndexError, Metric, Scoring, TokenCoding};
use freshet_operators::metrics::RunMetrics;
use freshet_operators::observe::DataflowLog;
use freshet_operators::plan::Plans;
use freshet_operators::produce::QueryTraces;
use freshet_operators::rerank::{self, Budgeted, CrossEncoder, HttpReranker, RerankMetrics};
use freshet_operators::shard::Shards;
use freshet_operators::snapshot::{Identity, SnapshotMetrics};
use freshet_operators::text::{Analyzer, ChunkSettings, Chunker};
use freshet_operators::trace::{TraceMetrics, Tracer};
use freshet_operators::upsert::SplitText;
use freshet_schemas::{DocumentSpec, SourceSpec, VectorKind};

use crate::restore::SnapshotUse;
use crate::status::Status;

/// Name of the sparse model that needs no weights.
pub const BM25: &str = "bm25";

/// Why a pipeline cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A model is not there or does not fit.
    #[error(transparent)]
    Model(#[from] EmbedError),
    /// A field that cannot be indexed as configured.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The system gives no threads to build indexes, to ask rerankers, or to export traces.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// A configured value that only shows wrong once models are known.
    #[error("{key}: {problem}")]
    Config {
        /// Key.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// What all workers share. Cheap to clone.
#[derive(Clone)]
pub struct Setup {
    /// The configuration.
    pub config: Arc<Config>,
    /// Vector fields, by number: the order of their names.
    pub fields: Vec<VectorField>,
    /// The embedding service, if any field has a model.
    pub service: Option<Arc<EmbeddingService>>,
    /// What reads texts for queries, by number: the order of their names.
    pub rerankers: Arc<[Budgeted]>,
    /// What rerankers count; to be registered by the caller.
    pub rerank_metrics: RerankMetrics,
    /// What the run counts; to be registered by the caller.
    pub metrics: RunMetrics,
    /// What is counted of its snapshots; to be registered by the caller.
    pub snapshot_metrics: SnapshotMetrics,
    /// What is counted of traces; to be registered by the caller.
    pub trace_metrics: TraceMetrics,
    /// Takes the spans of queries and documents, of a run that has traces.
    pub tracer: Option<Tracer>,
    /// Queries from within the process, for a run that takes them.
    pub gateway: Option<Arc<Gateway>>,
    /// Where the run stands.
    pub status: Arc<Status>,
    /// What the operators of the run do.
    pub dataflow: Arc<DataflowLog>,
    /// Splits texts.
    chunker: Arc<Chunker>,
    /// Highest use of the documents' budget.
    pub gauge: Arc<BudgetGauge>,
    /// Names ticks.
    pub clock: Arc<Clock>,
    /// What is indexed of a document.
    segments: Arc<SegmentSpec>,
    /// Threads that build segments.
    builds: Arc<BuildPool>,
    /// What a snapshot must agree with.
    identity: Arc<Identity>,
    /// What a run does with snapshots, where they are configured.
    pub(crate) snapshots: SnapshotUse,
}

impl Setup {
    /// Loads the models of a configuration and starts the embedding service.
    ///
    /// # Errors
    /// Models that are not there, and configured plans or languages that do not fit.
    pub fn load(config: Config) -> Result<Self, SetupError> {
        let mut models: Vec<(String, Arc<dyn Backend>)> = Vec::new();
        let reading = config.rerankers.values().filter_map(|reranker| reranker.kind.model());
        for name in config.vectors.values().filter_map(|field| field.model.as_deref()).chain(reading) {
            if name != BM25 && models.iter().all(|(known, _)| known != name) {
                let model = load(name, &config.models)?;
                models.push((name.to_owned(), model));
            }
        }
        Self::with_models(config, models)
    }

    /// Like [`Setup::load`], with models that are loaded already.
    ///
    /// # Errors
    /// Configured plans or languages that do not fit.
    pub fn with_models(config: Config, models: Vec<(String, Arc<dyn Backend>)>) -> Result<Self, SetupError> {
        let fields = config.vectors.iter().map(|(name, field)| vector_field(name, field, &models));
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let chunker = chunker(&config, &models)?;
        let identity = identity(&config, &fields, &models);
        let readers = readers(&config, &models)?;
        let backends: Vec<Arc<dyn Backend>> = models.into_iter().map(|(_, model)| model).collect();
        let service = if backends.is_empty() {
            None
        } else {
            Some(EmbeddingService::with_backends(backends, &config.embedding)?)
        };
        let rerank_metrics = RerankMetrics::new().map_err(EmbedError::Metrics)?;
        let rerankers = rerankers(&config, &readers, service.as_ref(), &rerank_metrics)?;
        let segments = SegmentSpec {
            fields: fields.iter().map(|field| field.spec.clone()).collect(),
            payload: (config.payload.iter())
                .map(|(path, &kind)| PayloadField { path: path.clone(), kind })
                .collect(),
        };
        // Fields that cannot be indexed show here, not with the first document.
        Segment::head(&segments)?;
        let builds = BuildPool::new(config.indexing.build_threads.get()).map_err(SetupError::Threads)?;
        let trace_metrics = TraceMetrics::new().map_err(EmbedError::Metrics)?;
        let setup = Self {
            trace_metrics,
            tracer: None,
            segments: Arc::new(segments),
            builds: Arc::new(builds),
            identity: Arc::new(identity),
            snapshots: SnapshotUse::default(),
            config: Arc::new(config),
            fields,
            service,
            rerankers,
            rerank_metrics,
            metrics: RunMetrics::new().map_err(EmbedError::Metrics)?,
            snapshot_metrics: SnapshotMetrics::new().map_err(EmbedError::Metrics)?,
            gateway: None,
            status: Arc::default(),
            dataflow: Arc::default(),
            chunker: Arc::new(chunker),
            gauge: Arc::default(),
            clock: Clock::wall(),
        };
        setup.check_plans()?;
        Ok(setup)
    }

    fn check_plans(&self) -> Result<(), SetupError> {
        let spec = self.config.plan_spec(&self.sizes());
        for (name, plan) in &self.config.plans {
            plan.check_fields(&spec).map_err(|fault| {
                let key = fault
                    .field
                    .map_or_else(|| format!("plans.{name}"), |field| format!("plans.{name}.{field}"));
                SetupError::Config { key, problem: fault.message }
            })?;
        }
        Ok(())
    }

    /// The shards of a worker, still empty.
    pub fn shards(&self) -> Shards {
        let indexing = &self.config.indexing;
        let limit = HeadLimit { versions: indexing.head_documents.get(), bytes: indexing.head_bytes.get() };
        let builder: Arc<dyn Builder> = Arc::<BuildPool>::clone(&self.builds);
        Shards::new(Arc::clone(&self.segments), limit, builder)
    }

    /// The same, with another use of snapshots.
    pub fn with_snapshots(self, snapshots: SnapshotUse) -> Self {
        Self { snapshots, ..self }
    }

    /// The same, with traces, if a collector is configured.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn with_traces(self) -> Result<Self, SetupError> {
        let tracer = Tracer::start(&self.config.telemetry, &self.config.connector, &self.trace_metrics);
        Ok(Self { tracer: tracer.map_err(SetupError::Threads)?, ..self })
    }

    /// The same, with the traces of another: those of a process go through one exporter.
    pub(crate) fn with_tracer(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// The same models and indexes, with other plans and limits.
    pub(crate) fn with_config(self, config: Config) -> Self {
        Self { config: Arc::new(config), ..self }
    }

    /// The same, with a gateway for queries from within the process; good for one run.
    pub fn with_gateway(self) -> Self {
        let waiting_max = self.config.queries.in_flight_max.get();
        let gateway = Some(Gateway::new(self.config.pipeline.workers.get(), waiting_max));
        Self { gateway, status: Arc::default(), dataflow: Arc::default(), ..self }
    }

    /// What is indexed of a document.
    pub fn segments(&self) -> &Arc<SegmentSpec> {
        &self.segments
    }

    /// What a snapshot must agree with.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Dimensions of the vectors that models make, by field.
    fn sizes(&self) -> BTreeMap<String, usize> {
        let sized = self.fields.iter().filter(|field| field.spec.kind != VectorKind::Sparse);
        sized.map(|field| (field.spec.name.clone(), field.spec.size)).collect()
    }

    /// What documents of each topic must look like.
    pub fn document_specs(&self) -> Vec<DocumentSpec> {
        self.config.document_specs(&self.sizes())
    }

    /// Models of the embedding service.
    pub fn models(&self) -> usize {
        self.service.as_ref().map_or(0, |service| service.models())
    }

    /// The configured plans.
    pub fn plans(&self) -> Plans {
        Plans::new(self.config.plan_spec(&self.sizes()), self.config.plans.clone())
    }

    /// Spans of the documents of a worker, if there are traces.
    pub(crate) fn document_traces(&self) -> Option<DocumentTraces> {
        let (topics, pipeline) = (self.config.topics.documents.clone(), &self.config.pipeline.name);
        Some(DocumentTraces::new(self.tracer.clone()?, topics, pipeline.as_str().into()))
    }

    /// Spans of the queries, if there are traces.
    pub(crate) fn query_traces(&self) -> Option<QueryTraces> {
        let topics = &self.config.topics;
        Some(QueryTraces {
            tracer: self.tracer.clone()?,
            queries: topics.queries.as_str().into(),
            answers: topics.answers.as_str().into(),
            pipeline: self.config.pipeline.name.as_str().into(),
        })
    }

    /// Splits texts into chunks. A text the tokenizer fails on stays whole: the model will say what is wrong with it.
    pub fn splitter(&self) -> SplitText {
        let chunker = Arc::clone(&self.chunker);
        Rc::new(move |text| match chunker.chunks(text) {
            Ok(chunks) => chunks.into_iter().map(|range| (range.start, range.end)).collect(),
            Err(_) => vec![(0, text.len())],
        })
    }
}

/// Numbers of the models of cross-encoders, by reranker.
fn readers(
    config: &Config,
    models: &[(String, Arc<dyn Backend>)],
) -> Result<BTreeMap<String, usize>, SetupError> {
    let mut readers = BTreeMap::new();
    for (name, reranker) in &config.rerankers {
        let Some(model) = reranker.kind.model() else { continue };
        let Some(number) = models.iter().position(|(known, _)| known == model) else { continue };
        let info = models[number].1.info();
        if !matches!(info.head, Head::CrossEncoder { .. }) {
            let problem = format!(
                "\"{}\" is of kind \"{}\", which scores no pairs of texts; `freshet models list` names others",
                info.name,
                info.head.name()
            );
            return Err(SetupError::Config { key: format!("rerankers.{name}.model"), problem });
        }
        readers.insert(name.clone(), number);
    }
    Ok(readers)
}

/// All rerankers, in the order of their names.
fn rerankers(
    config: &Config,
    readers: &BTreeMap<String, usize>,
    service: Option<&Arc<EmbeddingService>>,
    metrics: &RerankMetrics,
) -> Result<Arc<[Budgeted]>, SetupError> {
    let reranker = |(name, of): (&String, &Reranker)| {
        let http = HttpReranker::start(name, &of.kind, metrics.clone()).map_err(SetupError::Threads)?;
        let reranker: Option<Arc<dyn rerank::Reranker>> = match (http, readers.get(name), service) {
            (Some(http), _, _) => Some(Arc::new(http)),
            (None, Some(model), Some(service)) => {
                Some(Arc::new(CrossEncoder::new(Arc::clone(service), *model)))
            }
            (None, _, _) => None,
        };
        let reranker = reranker.ok_or_else(|| SetupError::Config {
            key: format!("rerankers.{name}.model"),
            problem: "is not loaded".to_owned(),
        })?;
        Ok(Budgeted { reranker, budget: of.budget, name: name.clone(), metrics: metrics.clone() })
    };
    config.rerankers.iter().map(reranker).collect()
}

/// All that decides what is in the shards, by key of the configuration.
fn identity(config: &Config, fields: &[VectorField], models: &[(String, Arc<dyn Backend>)]) -> Identity {
    let documents = &config.documents;
    let chunk_tokens = documents.chunk_tokens.map_or(0, std::num::NonZeroUsize::get);
    let mut identity = Identity::from([
        ("pipeline.shards".to_owned(), config.pipeline.shards.to_string()),
        ("documents.id".to_owned(), documents.id.clone()),
        ("documents.text".to_owned(), documents.text.join(", ")),
        ("documents.title".to_owned(), documents.title.clone().unwrap_or_default()),
        ("documents.chunk_tokens".to_owned(), chunk_tokens.to_string()),
        ("documents.chunk_overlap".to_owned(), documents.chunk_overlap.to_string()),
    ]);
    if let Some(payload) = &documents.payload {
        identity.insert("documents.payload".to_owned(), payload.clone());
    }
    identity.extend(reading_identity(config));
    for field in fields {
        let spec = &field.spec;
        let source = match &field.source {
            FieldSource::Model(number) => {
                let (name, model) = &models[*number];
                format!("model {name} ({})", model.info().digest)
            }
            FieldSource::Terms(_) => format!("terms, {}", config.vectors[&spec.name].language),
            FieldSource::Given => "given".to_owned(),
        };
        let value = format!("{source}, normalised: {}, {spec:?}", field.normalised);
        identity.insert(format!("vectors.{}", spec.name), value);
    }
    identity
}

/// What decides of the encoding of records, where it is not the usual one, and the names of several topics.
fn reading_identity(config: &Config) -> Identity {
    let (documents, topics) = (&config.documents, &config.topics.documents);
    let mut identity = Identity::new();
    for (number, spec) in config.document_specs(&BTreeMap::new()).into_iter().enumerate() {
        if topics.are_several() {
            identity.insert(format!("topics.documents[{number}]"), spec.source.topic.clone());
        }
        let source = SourceSpec { topic: String::new(), ..spec.source };
        let usual = source == SourceSpec::default() && spec.id == documents.id && spec.text == documents.text;
        if !usual {
            let value = format!("id: {}, text: {}, {source:?}", spec.id, spec.text.join(", "));
            identity.insert(format!("documents.topics[{number}]"), value);
        }
    }
    identity
}

fn vector_field(
    name: &str,
    field: &freshet_config::VectorField,
    models: &[(String, Arc<dyn Backend>)],
) -> Result<VectorField, SetupError> {
    let model = field.model.as_deref();
    let number = model.and_then(|model| models.iter().position(|(known, _)| known == model));
    let source = match (number, model) {
        (Some(number), _) => FieldSource::Model(number),
        (None, Some(_)) => {
            let analyzer = Analyzer::new(&field.language).map_err(|error| SetupError::Config {
                key: format!("vectors.{name}.language"),
                problem: error.to_string(),
            })?;
            FieldSource::Terms(Arc::new(analyzer))
        }
        (None, None) => FieldSource::Given,
    };
    if let Some(info) = number.map(|number| models[number].1.info())
        && !info.head.makes(field.kind)
    {
        let problem = format!(
            "\"{}\" is of kind \"{}\", which makes no {} vectors; `freshet models list` names others",
            info.name,
            info.head.name(),
            field.kind.as_str()
        );
        return Err(SetupError::Config { key: format!("vectors.{name}.model"), problem });
    }
    let given = field.size.map_or(0, std::num::NonZeroUsize::get);
    let spec = FieldSpec {
        name: name.to_owned(),
        kind: field.kind,
        size: match (field.kind, number) {
            (VectorKind::Sparse, _) => 0,
            (VectorKind::Dense | VectorKind::Multi, Some(number)) => models[number].1.info().dim,
            (VectorKind::Dense | VectorKind::Multi, None) => given,
        },
        scoring: match source {
            FieldSource::Terms(_) => Scoring::Bm25 { k1: field.k1, b: field.b },
            FieldSource::Model(_) | FieldSource::Given => match field.modifier {
                Modifier::Idf => Scoring::Idf,
                Modifier::None => Scoring::Dot,
            },
        },
        metric: if field.distance == Distance::Euclid { Metric::Euclid } else { Metric::Dot },
        factory: field.index.clone(),
        coding: match field.quantization {
            Quantization::Int8 => TokenCoding::Int8,
            Quantization::Residual => TokenCoding::Residual,
        },
    };
    let normalised = field.kind == VectorKind::Dense && field.distance == Distance::Cosine;
    Ok(VectorField { spec, normalised, source })
}

/// The first dense model's tokenizer counts the tokens of chunks.
fn chunker(config: &Config, models: &[(String, Arc<dyn Backend>)]) -> Result<Chunker, SetupError> {
    let tokenizer = models.first().map(|(_, model)| model.tokenizer());
    let (Some(tokens_max), Some(tokenizer)) = (config.documents.chunk_tokens, tokenizer) else {
        return Ok(Chunker::whole());
    };
    let settings = ChunkSettings { tokens_max, overlap: config.documents.chunk_overlap };
    Chunker::new(tokenizer, settings).map_err(|error| SetupError::Config {
        key: "documents.chunk_tokens".into(),
        problem: error.to_string(),
    })
}
