//! Measures plans on a test collection: what every stage of a plan adds, and what it costs.
//!
//! ```text
//! plans ─▶ SubPlans: every stage with all below it, a plan of its own ┐
//! collection, or a snapshot ──────────────────────────────────────────┴─▶ one run ─▶ Measured ─▶ PlanReport, Comparison
//! ```
//! A stage is measured by running it alone, with all that stands below it, as a query of its own: so a time is that of the
//! sub-plan up to and with the stage. Queries are asked one after the other, and in turns by all sub-plans, so that none
//! waits for another and the machine's moods meet all alike.

pub mod collection;
pub mod compare;
pub mod report;
pub mod scores;
pub mod stages;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freshet_config::Config;
use freshet_operators::connect::Memory;
use freshet_operators::control::Control;
use freshet_schemas::{Answer, Node, Record};
use serde_json::{Value, json};

pub use collection::{Collection, Judgements};
pub use compare::{Comparison, Duel};
pub use report::{Evaluation, Measured, PlanReport};
pub use scores::{Scores, score};
pub use stages::{Stage, SubPlans};

use crate::ask::snapshot_topics;
use crate::restore::SnapshotUse;
use crate::run::{self, Progress, RunError, Until};
use crate::setup::Setup;

/// Why a collection cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file that is missing or unreadable.
    #[error("{path}: {source}; a collection has corpus.jsonl, queries.jsonl and qrels.tsv")]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line that is not as it should be.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// Its file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The pipeline failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A plan that is not configured.
    #[error("plan \"{plan}\" is not configured; known: {known}")]
    Plan {
        /// What is asked for.
        plan: String,
        /// All names, comma-separated.
        known: String,
    },
    /// A query was answered with an error.
    #[error("query \"{id}\" was not answered: {problem}")]
    Unanswered {
        /// Query id.
        id: String,
        /// The error.
        problem: String,
    },
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Request {
    /// Names of configured plans.
    pub plans: Vec<String>,
    /// Places that recall looks at.
    pub k: usize,
    /// A snapshot whose documents are searched instead of those of the collection.
    pub at: Option<String>,
}

/// Longest wait until the documents are indexed; they are many at times, and models take their time.
const INDEXING: Duration = Duration::from_secs(24 * 3600);

/// Answers every query by every stage of the plans and scores the answers.
///
/// # Errors
/// A plan or a snapshot that is not there, the pipeline failing, or a query that is answered with an error.
pub fn evaluate(
    setup: Setup,
    collection: &Collection,
    request: &Request,
    progress: &Arc<Progress>,
) -> Result<Evaluation, EvalError> {
    let mut sub_plans = SubPlans::default();
    let mut plans = Vec::with_capacity(request.plans.len());
    for name in &request.plans {
        let Some(plan) = setup.config.plans.get(name) else {
            let known = setup.config.plans.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(EvalError::Plan { plan: name.clone(), known });
        };
        let stages = sub_plans.stages(plan, request.k.max(scores::TOP));
        plans.push(PlanReport { plan: name.clone(), stages });
    }
    let (setup, topics) = prepared(setup, collection, sub_plans.nodes(), request.at.as_deref())?;
    ask(&setup, collection, sub_plans.nodes(), &topics);
    let answers = setup.config.topics.answers.clone();
    run::run(setup, Arc::new(topics.clone()), Until::CaughtUp, &Arc::new(Control::default()), progress)?;
    let answers = read(&topics.records(&answers))?;
    let measured = (0..sub_plans.nodes().len())
        .map(|plan| Measured::of(collection, request.k, |query| answers.get(&id(plan, query))));
    Ok(Evaluation { k: request.k, plans, measured: measured.collect() })
}

/// The pipeline that runs sub-plans one query at a time, and its topics with the documents.
fn prepared(
    setup: Setup,
    collection: &Collection,
    nodes: &[Node],
    at: Option<&str>,
) -> Result<(Setup, Memory), EvalError> {
    let mut config = Config::clone(&setup.config);
    config.plans =
        nodes.iter().enumerate().map(|(number, node)| (number.to_string(), node.clone())).collect();
    if at.is_none() {
        // The folder's documents are as they are, whatever the topics of the pipeline hold.
        config.topics.documents = config.topics.documents.first().into();
        config.documents.reading = Default::default();
        config.documents.topics.clear();
        config.documents.registry = None;
    }
    config.queries.in_flight_max = NonZeroUsize::MIN;
    config.queries.consistency_timeout = config.queries.consistency_timeout.max(INDEXING);
    let topics = match at {
        Some(id) => snapshot_topics(&setup, id)?,
        None => Memory::new(),
    };
    if at.is_none() {
        for document in &collection.documents {
            let mut document = document.clone();
            let id = document.remove("_id").unwrap_or_default();
            document.insert(config.documents.id.clone(), id);
            topics.produce(config.topics.documents.first(), 0, record(&Value::Object(document)));
        }
    }
    let snapshots = at.map_or(SnapshotUse::Nothing, |id| SnapshotUse::At(id.to_owned()));
    Ok((setup.with_config(config).with_snapshots(snapshots), topics))
}

/// Asks every query by every sub-plan; before, one that is not measured, which waits until all documents are indexed.
fn ask(setup: &Setup, collection: &Collection, nodes: &[Node], topics: &Memory) {
    let query = |id: String, text: &str, plan: usize, consistency: &str| {
        let query = json!({
            "id": id, "text": text, "plan": plan.to_string(), "limit": nodes[plan].limit,
            "consistency": consistency, "with_payload": false, "explain": false,
        });
        topics.produce(&setup.config.topics.queries, 0, record(&query));
    };
    // A snapshot has all its documents from the start, and its topic none.
    let consistency = if setup.snapshots == SnapshotUse::Nothing { "strong" } else { "latest" };
    if let Some((_, text)) = collection.queries.first() {
        (0..nodes.len()).for_each(|plan| query(format!("first {plan}"), text, plan, consistency));
    }
    for (name, text) in &collection.queries {
        (0..nodes.len()).for_each(|plan| query(id(plan, name), text, plan, "latest"));
    }
}

/// Id under which a query is asked by a sub-plan.
fn id(plan: usize, query: &str) -> String {
    format!("{plan}/{query}")
}

fn record(value: &Value) -> Record {
    Record { value: Some(value.to_string().into_bytes()), ..Record::default() }
}

fn read(records: &[Record]) -> Result<BTreeMap<String, Answer>, EvalError> {
    let mut answers = BTreeMap::new();
    for record in records {
        let unreadable = |fault: freshet_schemas::Fault| EvalError::Unanswered {
            id: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
            problem: fault.message,
        };
        let answer = Answer::from_json(record.value.as_deref().unwrap_or_default()).map_err(unreadable)?;
        if let Some(error) = answer.error {
            return Err(EvalError::Unanswered { id: answer.id, problem: error.message });
        }
        answers.insert(answer.id.clone(), answer);
    }
    Ok(answers)
}
