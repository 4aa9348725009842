//! Answers a log of queries again, against snapshots: what would these people have found with other documents, or by
//! another plan?
//!
//! ```text
//! queries.jsonl, or the table of answers ─▶ queries ─▶ a pipeline per snapshot, each query once per side ─▶ compare
//! ```
//! Documents come from the snapshots, whose vectors are not made again. A query sees exactly the snapshot, whatever
//! consistency it asked for; its limit and its filters stay.

mod compare;

pub use compare::{Comparison, Hit, Moved, Summary, compare, rank_biased_overlap, summary};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use freshet_operators::connect::record_of_line;
use freshet_operators::control::Control;
use freshet_operators::snapshot::answers::AskedQuery;
use freshet_schemas::{Answer, Record, text_of};
use serde_json::{Map, Value};

use crate::ask::snapshot_topics;
use crate::restore::SnapshotUse;
use crate::run::{self, Progress, RunError, Until};
use crate::setup::Setup;

/// Why a log cannot be answered again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file that is missing or unreadable.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line that is no query.
    #[error("{path}:{line}: not a JSON object such as {{\"id\": \"q1\", \"text\": \"…\"}}")]
    Line {
        /// Its file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
    /// A snapshot that is not there, or the pipeline failing.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A query of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedQuery {
    /// Its id, or where it stands.
    pub id: String,
    query: Map<String, Value>,
}

impl LoggedQuery {
    /// Its text, if it has one.
    pub fn text(&self) -> Option<String> {
        // The helper reads a whole value; queries are small.
        text_of(&Value::Object(self.query.clone())).map(str::to_owned)
    }

    /// Whether it is a text, which a configured plan can answer, and not a plan of its own.
    pub fn takes_a_plan(&self) -> bool {
        self.query.contains_key("text")
    }

    /// The record that asks it again, under another id.
    fn record(&self, id: &str, plan: Option<&str>) -> Record {
        let mut query = self.query.clone();
        // A snapshot is what it is.
        query.remove("consistency");
        query.insert("id".into(), id.into());
        query.insert("with_payload".into(), false.into());
        query.insert("explain".into(), false.into());
        if let Some(plan) = plan {
            query.insert("plan".into(), plan.into());
        }
        let value = Value::Object(query).to_string().into_bytes();
        Record { key: Some(id.as_bytes().to_vec()), value: Some(value), ..Record::default() }
    }
}

/// Reads a file with a query per line, as the topic of queries has them.
///
/// # Errors
/// A file that cannot be read, and lines that are no queries, by number.
pub fn read_log(path: &Path) -> Result<Vec<LoggedQuery>, ReplayError> {
    let text = std::fs::read(path).map_err(|source| ReplayError::File { path: path.to_owned(), source })?;
    let mut queries = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Some(record) = record_of_line(line) else { continue };
        let query = serde_json::from_slice(record.value.as_deref().unwrap_or_default());
        let wrong = |_| ReplayError::Line { path: path.to_owned(), line: number + 1 };
        let query: Map<String, Value> = query.map_err(wrong)?;
        let key = record.key.map(|key| String::from_utf8_lossy(&key).into_owned());
        let id = query.get("id").and_then(Value::as_str).map(str::to_owned).or(key);
        queries.push(LoggedQuery { id: id.unwrap_or_else(|| format!("line {}", number + 1)), query });
    }
    Ok(queries)
}

/// Takes the queries of a table of answers; those that are no JSON objects were refused then, and are left out.
pub fn from_table(asked: Vec<AskedQuery>) -> Vec<LoggedQuery> {
    let query = |asked: AskedQuery| {
        Some(LoggedQuery { query: serde_json::from_str(&asked.query).ok()?, id: asked.id })
    };
    asked.into_iter().filter_map(query).collect()
}

/// What came of a query: ids of its hits, best first, or its error.
pub type Replayed = Result<Vec<String>, String>;

/// Answers all queries from a snapshot, once per plan; `None` is the plan that each query names. Per plan the results are
/// in the order of the queries.
///
/// # Errors
/// A snapshot that is not there, not whole or of another configuration, or the pipeline failing.
pub fn answer(
    setup: &Setup,
    snapshot: &str,
    plans: &[Option<String>],
    queries: &[LoggedQuery],
    progress: &Arc<Progress>,
) -> Result<Vec<Vec<Replayed>>, ReplayError> {
    let topics = snapshot_topics(setup, snapshot)?;
    let names = setup.config.topics.clone();
    for (side, plan) in plans.iter().enumerate() {
        for (number, query) in queries.iter().enumerate() {
            topics.produce(&names.queries, 0, query.record(&format!("{side}/{number}"), plan.as_deref()));
        }
    }
    let setup = setup.clone().with_snapshots(SnapshotUse::At(snapshot.to_owned()));
    run::run(setup, Arc::new(topics.clone()), Until::CaughtUp, &Arc::new(Control::default()), progress)?;
    let unanswered = || Err("was not answered".to_owned());
    let mut found: Vec<Vec<Replayed>> =
        plans.iter().map(|_| queries.iter().map(|_| unanswered()).collect()).collect();
    for record in topics.records(&names.answers) {
        let Ok(answer) = Answer::from_json(record.value.as_deref().unwrap_or_default()) else { continue };
        let place = answer.id.split_once('/').and_then(|(side, number)| {
            found.get_mut(side.parse::<usize>().ok()?)?.get_mut(number.parse::<usize>().ok()?)
        });
        if let Some(place) = place {
            *place = match answer.error {
                Some(error) => Err(format!("{}: {}", error.code.as_str(), error.message)),
                None => Ok(answer.points.into_iter().map(|point| point.id).collect()),
            };
        }
    }
    Ok(found)
}
