//! Asks one question of a running pipeline, or of one that is run for the purpose.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_operators::clock;
use freshet_operators::connect::topics::of_topic;
use freshet_operators::connect::{ConnectError, Connector, Memory};
use freshet_operators::control::Control;
use freshet_operators::snapshot::{self, Store};
use freshet_schemas::{Answer, Record};
use serde_json::{Map, Value, json};

use crate::overlay::Overlay;
use crate::restore::SnapshotUse;
use crate::run::{self, Progress, RunError, Until};
use crate::setup::Setup;

/// A question: a query without an id.
#[derive(Clone, Debug)]
pub struct Question {
    query: Map<String, Value>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Topics could not be read or written.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The pipeline run for the question failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Nothing came in time.
    #[error(
        "no answer within {0:?}; is `freshet run` running with this config? (--standalone asks without it)"
    )]
    Timeout(Duration),
    /// What came is no answer.
    #[error("the answer is not readable: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Question {
    /// A text for a configured plan, or for the default one.
    pub fn text(text: &str, plan: Option<&str>, limit: usize) -> Self {
        let plan = plan.map(|plan| ("plan".to_owned(), json!(plan)));
        let query = [("text".to_owned(), json!(text)), ("limit".to_owned(), json!(limit))];
        Self { query: query.into_iter().chain(plan).collect() }
    }

    /// A whole query in the query language; an id in it is passed over.
    ///
    /// # Errors
    /// What is no JSON object, as the end of a sentence.
    pub fn query(text: &str) -> Result<Self, String> {
        match serde_json::from_str(text) {
            Ok(Value::Object(query)) => Ok(Self { query }),
            Ok(other) => Err(format!("is {other} and no query, which is a JSON object")),
            Err(error) => Err(format!("is not JSON: {error}")),
        }
    }

    /// The same, with another freshness.
    #[must_use]
    pub fn with_consistency(&self, consistency: &str) -> Self {
        let mut query = self.query.clone();
        query.insert("consistency".to_owned(), json!(consistency));
        Self { query }
    }

    /// The query record, under an id that nobody else uses.
    fn record(&self) -> (String, Record) {
        let id = format!("cli-{}-{}", std::process::id(), clock::now_us());
        let mut query = self.query.clone();
        query.insert("id".to_owned(), json!(id));
        let record = Record {
            key: Some(id.clone().into_bytes()),
            value: Some(Value::Object(query).to_string().into_bytes()),
            ..Record::default()
        };
        (id, record)
    }
}

/// Pause between two looks at a topic.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Asks the running pipeline: writes to its queries topic and waits for its answer.
///
/// # Errors
/// When topics are out of reach, or nothing came in time.
pub fn ask(
    connector: &Arc<dyn Connector>,
    topics: &freshet_config::Topics,
    question: &Question,
    timeout: Duration,
) -> Result<Answer, AskError> {
    let partitions = connector.prepare(&[&topics.answers, &topics.queries], &[])?;
    let ends = connector.end_offsets(&topics.answers)?;
    let (sender, wakes) = std::sync::mpsc::channel();
    let wake: freshet_operators::connect::Wake = Arc::new(move || {
        // The receiver is gone once the answer is there.
        let _ = sender.send(());
    });
    let mut answers =
        connector.source(&topics.answers, &partitions[&topics.answers], &ends, Arc::clone(&wake))?;
    let mut sink = connector.sink(wake)?;
    let (id, record) = question.record();
    let deadline = Instant::now() + timeout;
    let mut unsent = sink.send(&topics.queries, record, 0).err();
    while Instant::now() < deadline {
        if let Some(record) = unsent.take() {
            unsent = sink.send(&topics.queries, record, 0).err();
        }
        if let Some((_, Err(reason))) = sink.settled().into_iter().next() {
            let what = format!("the question could not be written to topic \"{}\": {reason}", topics.queries);
            return Err(ConnectError::World { what, source: None, retry: true }.into());
        }
        for record in answers.poll(ANSWERS_MAX, ANSWERS_BYTES_MAX)?.records {
            if record.key.as_deref() == Some(id.as_bytes()) {
                return Ok(serde_json::from_slice(record.value.as_deref().unwrap_or_default())?);
            }
        }
        // A wake, or time to look again: either way the next round tells.
        let _ = wakes.recv_timeout(LOOK_AGAIN);
    }
    Err(AskError::Timeout(timeout))
}

const ANSWERS_MAX: usize = 1_000;
const ANSWERS_BYTES_MAX: usize = 16 << 20;

/// Answers from a snapshot alone: what was true when it was cut.
///
/// # Errors
/// A snapshot that is not there, not whole or of another configuration, or the pipeline failing.
pub fn ask_snapshot(
    setup: Setup,
    id: &str,
    question: &Question,
    progress: &Arc<Progress>,
) -> Result<Answer, AskError> {
    let topics = snapshot_topics(&setup, id)?;
    let question = question.with_consistency("latest");
    let setup = setup.with_snapshots(SnapshotUse::At(id.to_owned()));
    answer(setup, Arc::new(topics.clone()), &topics, &question, progress)
}

/// Topics in which nothing comes after a snapshot, in any partition that it knows.
///
/// # Errors
/// A snapshot that is not there, or a store that cannot be read.
pub(crate) fn snapshot_topics(setup: &Setup, id: &str) -> Result<Memory, RunError> {
    let configured = setup.config.snapshots.clone().unwrap_or_default();
    let store = Store::open(&configured.store, &configured.options)?;
    let manifest = snapshot::manifest(&store, id)?;
    let topics = Memory::new();
    for (number, name) in setup.config.topics.documents.names().iter().enumerate() {
        let offsets = of_topic(&manifest.offsets, number);
        let last = offsets.keys().max().and_then(|last| usize::try_from(*last).ok());
        topics.create(name, last.map_or(1, |last| last + 1));
    }
    Ok(topics)
}

/// Reads the documents itself, from the newest snapshot on, answers once all of them are indexed, and leaves no trace in
/// the topics.
///
/// # Errors
/// When the documents are out of reach, or the pipeline failed.
pub fn ask_standalone(
    setup: Setup,
    connector: Arc<dyn Connector>,
    question: &Question,
    progress: &Arc<Progress>,
) -> Result<Answer, AskError> {
    let over = Memory::new();
    let topics = setup.config.topics.documents.clone();
    let question = question.with_consistency("strong");
    let overlay = Overlay { topics, under: connector, over: over.clone() };
    let setup = setup.with_snapshots(SnapshotUse::Newest);
    answer(setup, Arc::new(overlay), &over, &question, progress)
}

/// Runs a pipeline for one question, whose queries and answers are in memory.
fn answer(
    setup: Setup,
    connector: Arc<dyn Connector>,
    topics: &Memory,
    question: &Question,
    progress: &Arc<Progress>,
) -> Result<Answer, AskError> {
    let (queries, answers) = (setup.config.topics.queries.clone(), setup.config.topics.answers.clone());
    topics.produce(&queries, 0, question.record().1);
    run::run(setup, connector, Until::CaughtUp, &Arc::new(Control::default()), progress)?;
    let answer = topics.records(&answers).pop().and_then(|record| record.value);
    Ok(serde_json::from_slice(&answer.unwrap_or_default())?)
}
