//! The configuration of a pipeline: TOML → checked values, all problems at once, each with its key.
//!
//! ```text
//! TOML ─▶ table ─▶ interpolate ─▶ sections, connector, vectors, plans ─▶ Config
//!                       └──────────────────┴──▶ problems ──────────────▶ ConfigErrors
//! ```
//!
//! Reading does no input or output except for the file itself: whether brokers answer and models exist shows later.

mod collections;
mod connector;
pub mod defaults;
mod documents;
pub mod factory;
mod http;
mod interpolate;
mod load;
mod payload;
mod plans;
mod problems;
mod rerankers;
mod section;
mod sections;
mod telemetry;
mod units;
mod vectors;

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use freshet_schemas::{DocumentTopics, Node, QueryLimits, VectorKind};

pub use collections::Collections;
pub use documents::{Reading, Registry, TopicDocuments};
pub use http::{Http, Tls};
pub use plans::{DEFAULT_PLAN, default_plan};
pub use problems::{ConfigErrors, Problem};
pub use rerankers::{Endpoint, Reranker, RerankerKind, Secret};
pub use telemetry::Telemetry;
pub use vectors::LANGUAGES;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[pipeline]`
    pub pipeline: Pipeline,
    /// `[connector]`
    pub connector: Connector,
    /// `[topics]`
    pub topics: Topics,
    /// `[documents]`
    pub documents: Documents,
    /// `[payload]`: indexed payload fields, by path.
    pub payload: BTreeMap<String, PayloadKind>,
    /// `[vectors.NAME]`, by name.
    pub vectors: BTreeMap<String, VectorField>,
    /// `[rerankers.NAME]`, by name.
    pub rerankers: BTreeMap<String, Reranker>,
    /// `[plans.NAME]`, by name; `default` is there unless no vector field has a model, so that text finds nothing.
    pub plans: BTreeMap<String, Node>,
    /// `[embedding]`
    pub embedding: Embedding,
    /// `[indexing]`
    pub indexing: Indexing,
    /// `[queries]`
    pub queries: Queries,
    /// `[models]`: folders of models, by name, before the registry and the caches are asked.
    pub models: BTreeMap<String, PathBuf>,
    /// `[snapshots]`: where they are kept, if they are.
    pub snapshots: Option<Snapshots>,
    /// `[http]`: the server beside the pipeline, if there is one.
    pub http: Option<Http>,
    /// `[collections]`: what Qdrant's clients make through the server.
    pub collections: Collections,
    /// `[telemetry]`: traces.
    pub telemetry: Telemetry,
}

/// `[pipeline]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Name; the consumer group of the Kafka connector.
    pub name: String,
    /// Shards, fixed for the life of the pipeline. Default 4.
    pub shards: NonZeroU32,
    /// Timely worker threads of this process. Default 1.
    pub workers: NonZeroUsize,
    /// Longest time a tick stays open. Default 10 ms.
    pub tick: Duration,
    /// Most records in one tick and worker. Default 64.
    pub tick_records_max: NonZeroUsize,
    /// Most records between source and index, per worker. Default 512.
    pub in_flight_records_max: NonZeroUsize,
    /// Most bytes between source and index, per worker. Default 16 MiB.
    pub in_flight_bytes_max: NonZeroUsize,
    /// Whether what each operator does is counted, for metrics and the picture of the dataflow. Default true.
    pub observe: bool,
}

/// `[connector]`
#[derive(Clone, Debug, PartialEq)]
pub enum Connector {
    /// JSON Lines files in a directory.
    Files {
        /// Directory of `TOPIC.jsonl`.
        directory: PathBuf,
    },
    /// Apache Kafka.
    Kafka(Kafka),
}

/// `kind = "kafka"`
#[derive(Clone, PartialEq)]
pub struct Kafka {
    /// `host:port[,host:port…]`
    pub bootstrap_servers: String,
    /// Whether missing topics are created. Default false.
    pub create_topics: bool,
    /// Partitions of topics that are created. Default 1.
    pub partitions: NonZeroU32,
    /// Replicas of topics that are created. Default 1.
    pub replication: NonZeroU32,
    /// What happens when records are gone before they were read. Default: the run ends.
    pub auto_offset_reset: AutoOffsetReset,
    /// Any librdkafka property; one that has a typed key here, or that Freshet must set, is refused.
    pub properties: BTreeMap<String, String>,
}

/// What happens when an offset that is needed is not kept any more; Kafka's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoOffsetReset {
    /// The run ends with an error that names what is gone.
    #[default]
    None,
    /// Reading goes on at the earliest offset kept; a warning names what is gone.
    Earliest,
}

/// Names the properties but not their values: some of them are passwords.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("create_topics", &self.create_topics)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("auto_offset_reset", &self.auto_offset_reset)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// `[topics]`; dead letters go to `TOPIC.dlq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    /// Default `documents`; or several, by number.
    pub documents: DocumentTopics,
    /// Default `queries`.
    pub queries: String,
    /// Default `answers`.
    pub answers: String,
}

/// `[documents]`
#[derive(Clone, Debug, PartialEq)]
pub struct Documents {
    /// Id field. Default `id`.
    pub id: String,
    /// Text fields. Default `["title", "text"]`.
    pub text: Vec<String>,
    /// Field that models read before every chunk of the text; terms count it once. Default: none.
    pub title: Option<String>,
    /// Field that holds the payload as an object. Default: all fields but id, text and vectors are the payload.
    pub payload: Option<String>,
    /// Longest joined text. Default 1 MiB.
    pub text_bytes_max: NonZeroUsize,
    /// Tokens per chunk, special tokens not counted; `None`: one chunk per document, cut by the model's own limit.
    /// Written as `chunk_tokens = 0`. Default 200.
    pub chunk_tokens: Option<NonZeroUsize>,
    /// Tokens that neighbouring chunks share; less than `chunk_tokens`, 0 without it. Default 40, at
    /// most a fifth of `chunk_tokens`.
    pub chunk_overlap: usize,
    /// How records are read.
    pub reading: Reading,
    /// `topics`: topics that have keys for themselves, by name.
    pub topics: BTreeMap<String, TopicDocuments>,
    /// `schema_registry`: where the schemas of Avro are.
    pub registry: Option<Registry>,
}

/// What the values of an indexed payload field are. Values of other types are found too, but slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Strings matched whole.
    Keyword,
    /// Integers.
    Integer,
    /// Numbers.
    Float,
    /// Truth values.
    Bool,
    /// Times as in RFC 3339.
    Datetime,
    /// Texts matched by words.
    Text,
}

/// `[vectors.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct VectorField {
    /// `kind`
    pub kind: VectorKind,
    /// `model`: name or folder; `bm25` for sparse. `None`: vectors come with the document.
    pub model: Option<String>,
    /// `size`: only without a model; dense and multi.
    pub size: Option<NonZeroUsize>,
    /// `distance`: how dense vectors compare. Default cosine.
    pub distance: Distance,
    /// `index`: FAISS factory string of sealed segments; dense only. Default `HNSW32`.
    pub index: String,
    /// `language` of BM25's stemmer and stop words. Default `english`.
    pub language: String,
    /// `k1` of BM25. Default 1.2.
    pub k1: f32,
    /// `b` of BM25. Default 0.75.
    pub b: f32,
    /// `quantization`: how sealed segments hold token vectors; multi only. Default int8.
    pub quantization: Quantization,
    /// `modifier`: what becomes of a query's weights; sparse only, and not of BM25, which has it in its formula. Default
    /// none.
    pub modifier: Modifier,
}

/// What becomes of the weights of a query's sparse vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modifier {
    /// They stay.
    #[default]
    None,
    /// Times the inverse document frequency of their term.
    Idf,
}

/// How sealed segments hold token vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// A byte per dimension and a scale.
    Int8,
    /// A centroid and what is left over it: at most 36 bytes per token, whatever the dimension.
    Residual,
}

/// How dense vectors compare; higher scores are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Cosine: vectors are normalised, then multiplied.
    Cosine,
    /// Inner product.
    Dot,
    /// Negative Euclidean distance.
    Euclid,
}

/// `[embedding]`
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Threads, one ONNX session each. Default: the number of cores.
    pub threads: NonZeroUsize,
    /// Tokens of one batch, padding counted. Default 512: a query waits for at most one running batch.
    pub batch_tokens_max: NonZeroUsize,
    /// Texts waiting for a thread. Default 1024.
    pub queue_texts_max: NonZeroUsize,
    /// Longest run of a batch; one that takes longer is halved until the text that makes it hang is found. Default 60 s.
    pub run_timeout: Duration,
}

/// `[indexing]`
#[derive(Clone, Debug, PartialEq)]
pub struct Indexing {
    /// Threads of this process that seal and merge segments, beside the workers. Default 1.
    pub build_threads: NonZeroUsize,
    /// Document versions of a shard's head, which is searched exactly, before it is sealed. Default 4096.
    pub head_documents: NonZeroUsize,
    /// Bytes of a shard's head before it is sealed. Default 64 MiB.
    pub head_bytes: NonZeroUsize,
}

/// `[queries]`
#[derive(Clone, Debug, PartialEq)]
pub struct Queries {
    /// Bounds of a plan: limit ≤ 10 000, depth ≤ 4, nodes ≤ 64, text ≤ 64 KiB by default.
    pub limits: QueryLimits,
    /// Most queries being answered at once. Default 256.
    pub in_flight_max: NonZeroUsize,
    /// Longest wait for the asked-for freshness before an error answer. Default 30 s.
    pub consistency_timeout: Duration,
    /// Longest time that the list of a query is kept for its next page. Default 60 s.
    pub cursor_timeout: Duration,
    /// Most lists that a worker keeps for their next pages; the one used longest ago goes first.
    /// Default 64.
    pub cursors_max: NonZeroUsize,
    /// How often a query is answered when the pipeline is killed and started again. Default exactly once.
    pub delivery: Delivery,
}

/// `queries.delivery`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Answers are written in one transaction with the offsets of their queries.
    ExactlyOnce,
    /// Offsets are committed after the answers: a query may be answered again after a restart.
    AtLeastOnce,
}

/// `[snapshots]`
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshots {
    /// URL of the store.
    pub store: String,
    /// What else opens the store, such as its endpoint.
    pub options: StoreOptions,
    /// Time between two snapshots.
    pub interval: Duration,
    /// How many of the newest snapshots are kept at least.
    pub keep: NonZeroUsize,
    /// Snapshots that are not older than this, before the newest, are kept too.
    pub keep_for: Duration,
    /// Whether every query is kept with its answer, in the table `answers`, for as long as `keep_for` says.
    pub answers: bool,
}

/// `[snapshots.options]`: keys as the store's client names them, such as `aws_endpoint`. Values may be secrets: they are
/// never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(pub std::collections::BTreeMap<String, String>);

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
