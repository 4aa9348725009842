//! Measures plans on a test collection: a folder in BEIR's layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freshet_operators::connect::Memory;
use freshet_operators::control::Control;
use freshet_schemas::{Answer, Record};
use serde_json::{Map, Value, json};

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
    /// A query was answered with an error.
    #[error("query \"{id}\" was not answered: {problem}")]
    Unanswered {
        /// Query id.
        id: String,
        /// The error.
        problem: String,
    },
}

/// Judgements: query → document → gain, only gains above 0.
pub type Judgements = BTreeMap<String, BTreeMap<String, f64>>;

/// A test collection.
#[derive(Debug)]
pub struct Collection {
    /// Documents as they are in `corpus.jsonl`.
    pub documents: Vec<Map<String, Value>>,
    /// Id and text of the queries that have judgements.
    pub queries: Vec<(String, String)>,
    /// Judgements.
    pub judgements: Judgements,
}

/// Means over the judged queries, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// nDCG@10, gain = judgement, discount log2(rank + 1).
    pub ndcg_at_10: f64,
    /// Share of the relevant documents among the first 100.
    pub recall_at_100: f64,
    /// 1 / rank of the first relevant document among the first 10.
    pub mrr_at_10: f64,
}

/// Hits that are judged.
const DEPTH: usize = 100;

impl Collection {
    /// Reads a folder.
    ///
    /// # Errors
    /// Missing files and lines that do not fit, by number.
    pub fn read(folder: &Path) -> Result<Self, EvalError> {
        let documents = json_lines(&folder.join("corpus.jsonl"))?;
        let judgements = judgements(&folder.join("qrels.tsv"))?;
        let mut queries = Vec::new();
        for query in json_lines(&folder.join("queries.jsonl"))? {
            let text = |field: &str| query.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            if judgements.contains_key(&text("_id")) {
                queries.push((text("_id"), text("text")));
            }
        }
        Ok(Self { documents, queries, judgements })
    }
}

fn read(path: &Path) -> Result<String, EvalError> {
    std::fs::read_to_string(path).map_err(|source| EvalError::File { path: path.to_owned(), source })
}

fn json_lines(path: &Path) -> Result<Vec<Map<String, Value>>, EvalError> {
    let text = read(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        let problem = |problem: String| EvalError::Line { path: path.to_owned(), line: number + 1, problem };
        let object: Map<String, Value> =
            serde_json::from_str(line).map_err(|error| problem(error.to_string()))?;
        if object.get("_id").is_none_or(|id| !id.is_string()) {
            return Err(problem("field \"_id\" is missing or not a string".into()));
        }
        Ok(object)
    });
    parsed.collect()
}

fn judgements(path: &Path) -> Result<Judgements, EvalError> {
    let text = read(path)?;
    let mut judgements = Judgements::new();
    // The first line names the columns.
    for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let gain = columns.get(2).and_then(|gain| gain.trim().parse::<f64>().ok());
        let (Some(gain), [query, document, _]) = (gain, columns.as_slice()) else {
            let problem = "expected three columns: query id, document id, gain".to_owned();
            return Err(EvalError::Line { path: path.to_owned(), line: number + 1, problem });
        };
        if gain > 0.0 {
            judgements.entry((*query).to_owned()).or_default().insert((*document).to_owned(), gain);
        }
    }
    Ok(judgements)
}

/// Answers every query by every plan and scores the answers.
///
/// # Errors
/// When the pipeline fails or a query is answered with an error.
pub fn evaluate(
    setup: Setup,
    collection: &Collection,
    plans: &[String],
    progress: &Arc<Progress>,
) -> Result<Vec<(String, Scores)>, EvalError> {
    let memory = Memory::new();
    let topics = setup.config.topics.clone();
    let id_field = setup.config.documents.id.clone();
    for document in &collection.documents {
        let mut document = document.clone();
        let id = document.remove("_id").unwrap_or_default();
        document.insert(id_field.clone(), id);
        memory.produce(&topics.documents, 0, record(&Value::Object(document)));
    }
    for plan in plans {
        for (id, text) in &collection.queries {
            let query = json!({
                "id": format!("{plan}/{id}"), "text": text, "plan": plan, "limit": DEPTH,
                "consistency": "strong", "with_payload": false, "explain": false,
            });
            memory.produce(&topics.queries, 0, record(&query));
        }
    }
    let setup = setup.with_snapshots(SnapshotUse::Nothing);
    run::run(setup, Arc::new(memory.clone()), Until::CaughtUp, &Arc::new(Control::default()), progress)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in memory.records(&topics.answers) {
        let unreadable = |problem: String| EvalError::Unanswered { id: String::new(), problem };
        let value = record.value.unwrap_or_default();
        let answer: Answer = serde_json::from_slice(&value).map_err(|error| unreadable(error.to_string()))?;
        if let Some(error) = answer.error {
            return Err(EvalError::Unanswered { id: answer.id, problem: error.message });
        }
        found.insert(answer.id, answer.points.into_iter().map(|point| point.id).collect());
    }
    Ok(plans.iter().map(|plan| (plan.clone(), mean(plan, collection, &found))).collect())
}

fn record(value: &Value) -> Record {
    Record { value: Some(value.to_string().into_bytes()), ..Record::default() }
}

fn mean(plan: &str, collection: &Collection, found: &BTreeMap<String, Vec<String>>) -> Scores {
    let mut sum = Scores::default();
    for (id, _) in &collection.queries {
        let ranked = found.get(&format!("{plan}/{id}")).map(Vec::as_slice).unwrap_or_default();
        let one = score(ranked, &collection.judgements[id]);
        sum.ndcg_at_10 += one.ndcg_at_10;
        sum.recall_at_100 += one.recall_at_100;
        sum.mrr_at_10 += one.mrr_at_10;
    }
    let count = collection.queries.len().max(1) as f64;
    Scores {
        ndcg_at_10: sum.ndcg_at_10 / count,
        recall_at_100: sum.recall_at_100 / count,
        mrr_at_10: sum.mrr_at_10 / count,
    }
}

/// Scores one ranked list against its judgements (not empty).
pub fn score(ranked: &[String], judged: &BTreeMap<String, f64>) -> Scores {
    let gain = |id: &String| judged.get(id).copied().unwrap_or(0.0);
    let discount = |place: usize| ((place + 2) as f64).log2();
    let dcg: f64 = ranked.iter().take(10).enumerate().map(|(place, id)| gain(id) / discount(place)).sum();
    let mut best: Vec<f64> = judged.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal: f64 = best.iter().take(10).enumerate().map(|(place, gain)| gain / discount(place)).sum();
    let relevant = ranked.iter().take(DEPTH).filter(|id| gain(id) > 0.0).count();
    let first = ranked.iter().take(10).position(|id| gain(id) > 0.0);
    Scores {
        ndcg_at_10: dcg / ideal,
        recall_at_100: relevant as f64 / judged.len() as f64,
        mrr_at_10: first.map_or(0.0, |place| 1.0 / (place + 1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let judged = BTreeMap::from([("a".to_owned(), 1.0), ("b".to_owned(), 1.0)]);
        let ranked: Vec<String> = ["x", "a", "y", "b"].map(str::to_owned).into();
        let scores = score(&ranked, &judged);
        let dcg = 1.0 / 3f64.log2() + 1.0 / 5f64.log2();
        let ideal = 1.0 + 1.0 / 3f64.log2();
        assert!((scores.ndcg_at_10 - dcg / ideal).abs() < 1e-12);
        assert_eq!(scores.recall_at_100, 1.0);
        assert_eq!(scores.mrr_at_10, 0.5);
    }

    #[test]
    fn a_perfect_list_scores_one() {
        let judged = BTreeMap::from([("a".to_owned(), 2.0), ("b".to_owned(), 1.0)]);
        let ranked: Vec<String> = ["a", "b"].map(str::to_owned).into();
        assert_eq!(score(&ranked, &judged), Scores { ndcg_at_10: 1.0, recall_at_100: 1.0, mrr_at_10: 1.0 });
    }
}
