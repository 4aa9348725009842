//! Runs whole pipelines on topics in memory.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use freshet::run::{self, Progress, RunError, Until};
use freshet::setup::Setup;
use freshet_config::Config;
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::control::Control;
use freshet_schemas::{Answer, Record};
use serde_json::Value;

use crate::script::{PARTITIONS, Step};

/// Longest wait for something that comes soon; only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A configuration for tests: exact vectors that come with the documents, BM25, and the hashing model.
pub const CONFIG: &str = r#"
[pipeline]
name = "test"
shards = 3
tick = "2ms"
tick_records_max = 4
[connector]
kind = "files"
directory = "unused"
[documents]
text = ["text"]
chunk_tokens = 8
chunk_overlap = 2
[embedding]
threads = 2
[vectors.given]
kind = "dense"
size = 4
distance = "dot"
[vectors.dense]
kind = "dense"
model = "hashing-64"
[vectors.bm25]
kind = "sparse"
model = "bm25"
[vectors.colbert]
kind = "multi"
model = "hashing-64"
[plans.default]
prefetch = [
  { using = "bm25", limit = 6 },
  { using = "colbert", limit = 7 },
]
query = { fusion = "dbsf" }
"#;

/// Loads the test configuration with so many workers.
pub fn setup(workers: usize) -> Setup {
    let mut config = literal();
    config.pipeline.workers = workers.try_into().expect("at least one worker");
    Setup::load(config).expect("the hashing model needs nothing")
}

/// A pipeline that runs on its own threads.
pub struct Pipeline {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Pipeline {
    /// Starts it.
    pub fn start(setup: &Setup, connector: &Arc<dyn Connector>) -> Self {
        let control = Arc::new(Control::default());
        let (setup, connector, stop) = (setup.clone(), Arc::clone(connector), Arc::clone(&control));
        let run = move || run::run(setup, connector, Until::Stopped, &stop, &Arc::new(Progress::default()));
        Self { control, thread: Some(std::thread::spawn(run)) }
    }

    /// Lets it answer what is in flight, and ends it.
    pub fn finish(mut self) {
        self.control.drain();
        let thread = self.thread.take().expect("finished once");
        thread.join().expect("no panic").expect("no failure");
    }
}

/// The topics of a test, with the partitions of scripts.
pub fn topics() -> Memory {
    let memory = Memory::new();
    memory.create("documents", usize::try_from(PARTITIONS).expect("few"));
    memory.create("queries", 2);
    memory
}

/// The record of a query, keyed by its id.
pub fn query_record(query: &Value) -> Record {
    let key = query["id"].as_str().map(|id| id.as_bytes().to_vec());
    Record { key, value: Some(query.to_string().into_bytes()), ..Record::default() }
}

/// Plays a script step by step: the queries of a step ask for everything so far, and the next step waits for their
/// answers. Returns the log of documents and the answers, by id.
pub fn play(script: &[Step], setup: &Setup) -> (Vec<Record>, Vec<Answer>) {
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let pipeline = Pipeline::start(setup, &connector);
    let mut asked = 0;
    for step in script {
        for (partition, record) in &step.documents {
            memory.produce("documents", *partition, record.clone());
        }
        for (number, query) in step.queries.iter().enumerate() {
            let mut query = query.clone();
            query["consistency"] = "strong".into();
            memory.produce("queries", i32::from(number % 2 == 1), query_record(&query));
        }
        asked += step.queries.len();
        memory.wait_for("answers", asked, LIMIT);
    }
    pipeline.finish();
    (memory.records("documents"), answers(&memory))
}

/// The answers, by id.
pub fn answers(memory: &Memory) -> Vec<Answer> {
    let records = memory.records("answers").into_iter();
    let mut answers: Vec<Answer> =
        records.map(|r| serde_json::from_slice(r.value.as_deref().expect("a value")).expect("an answer")).collect();
    answers.sort_by(|a, b| a.id.cmp(&b.id));
    answers
}

/// An answer without what depends on the clock.
pub fn timeless(mut answer: Answer) -> String {
    answer.time = None;
    answer.took_seconds = 0.0;
    serde_json::to_string(&answer).expect("an answer serialises")
}

fn nz(n: usize) -> std::num::NonZeroUsize { n.try_into().unwrap() }
fn literal() -> Config {
    use freshet_config::*;
    use freshet_schemas::*;
    let field = |kind, model: Option<&str>, size: Option<usize>, distance| VectorField { kind, model: model.map(str::to_owned), size: size.map(nz), distance, index: "Flat".into(), language: "english".into(), k1: 1.2, b: 0.75 };
    let leaf = |using: &str, limit| Node { prefetch: vec![], query: None, using: Some(using.into()), limit, params: Params::default() };
    Config {
        pipeline: freshet_config::Pipeline { name: "test".into(), shards: 3.try_into().unwrap(), workers: nz(1), tick: Duration::from_millis(2), tick_records_max: nz(4), in_flight_records_max: nz(64), in_flight_bytes_max: nz(1 << 20) },
        connector: freshet_config::Connector::Files { directory: "unused".into() },
        topics: Topics { documents: "documents".into(), queries: "queries".into(), answers: "answers".into() },
        documents: Documents { id: "id".into(), text: vec!["text".into()], text_bytes_max: nz(1 << 20), chunk_tokens: Some(nz(8)), chunk_overlap: 2 },
        vectors: [("given", field(VectorKind::Dense, None, Some(4), Distance::Dot)), ("dense", field(VectorKind::Dense, Some("hashing-64"), None, Distance::Cosine)), ("bm25", field(VectorKind::Sparse, Some("bm25"), None, Distance::Cosine)), ("colbert", field(VectorKind::Multi, Some("hashing-64"), None, Distance::Cosine))].into_iter().map(|(n, f)| (n.to_owned(), f)).collect(),
        plans: [("default".to_owned(), Node { prefetch: vec![leaf("bm25", 6), leaf("colbert", 7)], query: Some(NodeQuery::Fusion(Fusion::Dbsf)), using: None, limit: 10, params: Params::default() })].into(),
        embedding: Embedding { threads: nz(2), batch_tokens_max: nz(512), queue_texts_max: nz(256) },
        queries: Queries { limits: QueryLimits { limit_max: 10_000, depth_max: 4, nodes_max: 64, text_bytes_max: 65536 }, in_flight_max: nz(64), consistency_timeout: Duration::from_secs(30) },
        models: Default::default(), snapshots: None, http: None,
    }
}
