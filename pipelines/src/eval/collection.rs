//! A test collection: a folder in BEIR's layout.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::EvalError;

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
