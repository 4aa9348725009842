//! Every default, in one place. `config/default.toml` states the same, and a test compares the two.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use freshet_schemas::{QueryLimits, VectorKind};

use crate::plans::default_plan;
use crate::{
    AutoOffsetReset, Collections, Config, Connector, Delivery, Distance, Documents, Embedding, Http,
    Indexing, Kafka, Modifier, Pipeline, Quantization, Queries, Reading, Snapshots, StoreOptions, Telemetry,
    Topics, VectorField,
};

/// Model of the default vector fields: 384 dimensions, 22 million parameters, Apache-2.0; runs well without a GPU.
pub const MODEL: &str = "all-MiniLM-L6-v2";
/// The one model of sparse vectors so far; no network, only counts.
pub const BM25: &str = "bm25";
/// Tokens per chunk. Chunks well below the 256 tokens that the default model was trained on keep their meaning sharp.
pub const CHUNK_TOKENS: usize = 200;
/// Most tokens that neighbouring chunks share unless `chunk_overlap` says so: a fifth of a default chunk.
pub const CHUNK_OVERLAP: usize = 40;
/// Candidates of each leg of the default plan.
pub const LEG_LIMIT: usize = 100;
/// BM25's saturation of term frequency, as in Lucene.
pub const BM25_K1: f32 = 1.2;
/// BM25's normalisation by length, as in Lucene.
pub const BM25_B: f32 = 0.75;
/// FAISS factory string of sealed segments: a graph over the vectors as they are.
pub const INDEX: &str = "HNSW32";
/// Language of BM25's stemmer and stop words.
pub const LANGUAGE: &str = "english";
/// Directory of the files connector.
pub const DIRECTORY: &str = "data";
/// Store of snapshots, once `[snapshots]` is there.
pub const SNAPSHOT_STORE: &str = "file://snapshots";
/// Time between snapshots, once `[snapshots]` is there.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(60);
/// Snapshots kept at least.
const SNAPSHOT_KEEP: NonZeroUsize = NonZeroUsize::new(10).unwrap();
/// How long others are kept.
const SNAPSHOT_KEEP_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Address of the HTTP server, once `[http]` is there; only this machine reaches it.
pub const HTTP_LISTEN: &str = "127.0.0.1:6333";

const fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("defaults are not zero")
}

const fn count_u32(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("defaults are not zero")
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            name: "freshet".to_owned(),
            shards: count_u32(4),
            workers: count(1),
            tick: Duration::from_millis(10),
            tick_records_max: count(64),
            in_flight_records_max: count(512),
            in_flight_bytes_max: count(16 << 20),
            observe: true,
        }
    }
}

impl Default for Connector {
    fn default() -> Self {
        Self::Files { directory: PathBuf::from(DIRECTORY) }
    }
}

impl Kafka {
    /// The connector to these brokers, all else by default.
    pub fn at(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            create_topics: false,
            partitions: count_u32(1),
            replication: count_u32(1),
            auto_offset_reset: AutoOffsetReset::None,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        let name = str::to_owned;
        Self { documents: name("documents").into(), queries: name("queries"), answers: name("answers") }
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            id: "id".to_owned(),
            text: vec!["title".to_owned(), "text".to_owned()],
            title: None,
            payload: None,
            text_bytes_max: count(1 << 20),
            chunk_tokens: NonZeroUsize::new(CHUNK_TOKENS),
            chunk_overlap: chunk_overlap(CHUNK_TOKENS),
            reading: Reading::default(),
            topics: BTreeMap::new(),
            registry: None,
        }
    }
}

/// Overlap of chunks of this many tokens unless one is given: a fifth, at most [`CHUNK_OVERLAP`].
pub fn chunk_overlap(chunk_tokens: usize) -> usize {
    (chunk_tokens / 5).min(CHUNK_OVERLAP)
}

impl VectorField {
    /// A field of this kind, neither with a model nor with a size yet.
    pub fn of_kind(kind: VectorKind) -> Self {
        Self {
            kind,
            model: None,
            size: None,
            distance: Distance::Cosine,
            index: INDEX.to_owned(),
            language: LANGUAGE.to_owned(),
            k1: BM25_K1,
            b: BM25_B,
            quantization: Quantization::Int8,
            modifier: Modifier::None,
        }
    }

    /// A field that a model makes from the text.
    pub fn of_model(kind: VectorKind, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..Self::of_kind(kind) }
    }

    /// A field whose vectors come with the documents.
    pub fn of_size(kind: VectorKind, size: Option<NonZeroUsize>) -> Self {
        Self { size, ..Self::of_kind(kind) }
    }
}

/// The vector fields of a pipeline that configures none: `dense`, `bm25` and `colbert`.
pub fn vectors() -> BTreeMap<String, VectorField> {
    let field = |name: &str, kind, model: &str| (name.to_owned(), VectorField::of_model(kind, model));
    BTreeMap::from([
        field("dense", VectorKind::Dense, MODEL),
        field("bm25", VectorKind::Sparse, BM25),
        field("colbert", VectorKind::Multi, MODEL),
    ])
}

impl Default for Embedding {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().unwrap_or(count(1)),
            batch_tokens_max: count(512),
            queue_texts_max: count(1024),
            run_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for Indexing {
    fn default() -> Self {
        Self { build_threads: count(1), head_documents: count(4096), head_bytes: count(64 << 20) }
    }
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            limits: QueryLimits { limit_max: 10_000, depth_max: 4, nodes_max: 64, text_bytes_max: 64 << 10 },
            in_flight_max: count(256),
            consistency_timeout: Duration::from_secs(30),
            cursor_timeout: Duration::from_secs(60),
            cursors_max: count(64),
            delivery: Delivery::ExactlyOnce,
        }
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            store: SNAPSHOT_STORE.to_owned(),
            options: StoreOptions::default(),
            interval: SNAPSHOT_INTERVAL,
            keep: SNAPSHOT_KEEP,
            keep_for: SNAPSHOT_KEEP_FOR,
            answers: false,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: HTTP_LISTEN.to_owned(),
            api_key: None,
            read_only_api_key: None,
            tls: None,
            cors_origins: Vec::new(),
            body_bytes_max: count(16 << 20),
            bodies_bytes_max: count(256 << 20),
            requests_max: count(256),
            connections_max: count(1024),
            request_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Collections {
    fn default() -> Self {
        Self { enabled: false, max: count(64), workers: count(1) }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            service_name: "freshet".to_owned(),
            sample_ratio: 1.0,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let vectors = vectors();
        let queries = Queries::default();
        let plan = default_plan(&vectors, &queries.limits);
        Self {
            rerankers: BTreeMap::new(),
            pipeline: Pipeline::default(),
            connector: Connector::default(),
            topics: Topics::default(),
            documents: Documents::default(),
            plans: plan.map(|plan| ("default".to_owned(), plan)).into_iter().collect(),
            payload: BTreeMap::new(),
            vectors,
            embedding: Embedding::default(),
            indexing: Indexing::default(),
            queries,
            models: BTreeMap::new(),
            snapshots: None,
            http: None,
            collections: Collections::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Config {
    /// The default pipeline over JSON Lines files in `directory`.
    pub fn default_files(directory: impl Into<PathBuf>) -> Self {
        Self { connector: Connector::Files { directory: directory.into() }, ..Self::default() }
    }
}
