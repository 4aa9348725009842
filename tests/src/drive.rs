//! Runs whole pipelines on topics in memory.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
[indexing]
head_documents = 3
[payload]
stars = "integer"
tags = "keyword"
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
[plans.bm25]
using = "bm25"
[plans.default]
prefetch = [
  { using = "bm25", limit = 6 },
  { using = "colbert", limit = 7 },
]
query = { fusion = "dbsf" }
"#;

/// The test configuration with so many workers.
pub fn config(workers: usize) -> Config {
    let mut config = Config::parse(CONFIG, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    config.pipeline.workers = workers.try_into().expect("at least one worker");
    config
}

/// Loads the test configuration with so many workers.
pub fn setup(workers: usize) -> Setup {
    Setup::load(config(workers)).expect("the hashing model needs nothing")
}

/// A pipeline that runs on its own threads.
pub struct Pipeline {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Pipeline {
    /// Starts it.
    pub fn start(setup: &Setup, connector: &Arc<dyn Connector>) -> Self {
        Self::start_with(setup, connector, &Arc::new(Control::default()))
    }

    /// Starts it under a control that others have, too.
    pub fn start_with(setup: &Setup, connector: &Arc<dyn Connector>, control: &Arc<Control>) -> Self {
        let (setup, connector, stop) = (setup.clone(), Arc::clone(connector), Arc::clone(control));
        let run = move || run::run(setup, connector, Until::Stopped, &stop, &Arc::new(Progress::default()));
        Self { control: Arc::clone(control), thread: Some(std::thread::spawn(run)) }
    }

    /// What it listens to.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
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

/// Waits for something that nobody tells of.
pub fn until(reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < LIMIT, "waited for {LIMIT:?}");
        std::thread::yield_now();
    }
}

/// Texts of documents that were embedded.
pub fn embedded(setup: &Setup) -> u64 {
    setup.service.as_ref().expect("a model").metrics().snapshot().document_texts
}

/// Sends the documents and the questions of some steps, each question about all so far, and waits for the answers.
pub fn feed(memory: &Memory, steps: &[Step], asked: &mut usize) {
    for step in steps {
        for (partition, record) in &step.documents {
            memory.produce("documents", *partition, record.clone());
        }
        for query in &step.queries {
            let mut query = query.clone();
            query["consistency"] = "strong".into();
            memory.produce("queries", 0, query_record(&query));
        }
        *asked += step.queries.len();
        memory.wait_for("answers", *asked, LIMIT);
    }
}

/// The answers, by id.
pub fn answers(memory: &Memory) -> Vec<Answer> {
    let records = memory.records("answers").into_iter();
    let mut answers: Vec<Answer> = records
        .map(|r| serde_json::from_slice(r.value.as_deref().expect("a value")).expect("an answer"))
        .collect();
    answers.sort_by(|a, b| a.id.cmp(&b.id));
    answers
}

/// An answer without what depends on the clock.
pub fn timeless(mut answer: Answer) -> String {
    answer.time = None;
    answer.took_seconds = 0.0;
    answer.stage_seconds = None;
    serde_json::to_string(&answer).expect("an answer serialises")
}

/// A running pipeline, and someone who sends it documents and questions.
pub struct Bench {
    /// What the pipeline runs on.
    pub setup: Setup,
    /// Its topics.
    pub memory: Memory,
    pipeline: Pipeline,
}

impl Bench {
    /// Starts a pipeline on empty topics.
    pub fn start(setup: &Setup) -> Self {
        let memory = topics();
        let connector: Arc<dyn Connector> = Arc::new(memory.clone());
        Self { setup: setup.clone(), pipeline: Pipeline::start(setup, &connector), memory }
    }

    /// Sends a document, to the partition of its id.
    pub fn document(&self, document: &Value) {
        let id = document["id"].as_str().expect("an id");
        self.send(id, Some(document.to_string().into_bytes()));
    }

    /// Deletes a document.
    pub fn delete(&self, id: &str) {
        self.send(id, None);
    }

    fn send(&self, id: &str, value: Option<Vec<u8>>) {
        let partition = id.bytes().map(u64::from).sum::<u64>() % PARTITIONS;
        let record = Record { key: Some(id.as_bytes().to_vec()), value, ..Record::default() };
        self.memory.produce("documents", i32::try_from(partition).expect("few"), record);
    }

    /// Sends a query.
    pub fn query(&self, query: &Value) {
        self.memory.produce("queries", 0, query_record(query));
    }

    /// Sends a query and waits for its answer.
    pub fn ask(&self, query: &Value) -> Value {
        self.query(query);
        self.answer(query["id"].as_str().expect("an id"))
    }

    /// Waits for the answer with an id.
    pub fn answer(&self, id: &str) -> Value {
        let find = |memory: &Memory| {
            let mut records = memory.records("answers").into_iter();
            records
                .find(|record| record.key.as_deref() == Some(id.as_bytes()))
                .and_then(|record| record.value)
        };
        assert!(self.memory.wait_until(LIMIT, |memory| find(memory).is_some()), "no answer to {id}");
        serde_json::from_slice(&find(&self.memory).expect("it was there")).expect("an answer is JSON")
    }

    /// Ends the pipeline.
    pub fn finish(self) {
        self.pipeline.finish();
    }
}
