//! Queries by example: documents by their ids, recommendations, discovery, contexts, and diversity (MMR).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NodeQuery;
use super::node::Reader;
use crate::json::{Fields, describe, element, invalid};
use crate::{Fault, FaultCode, VectorKind, VectorValue};

/// Most examples of one query: each of them is compared with every document that a scan goes through.
pub const EXAMPLES_MAX: usize = 128;

/// Most documents that are compared with each other to make a list diverse.
pub const MMR_CANDIDATES_MAX: usize = 500;

/// As [`MMR_CANDIDATES_MAX`], of multi-vectors: each pair takes as long as a late interaction.
pub const MMR_MULTI_CANDIDATES_MAX: usize = 100;

/// Share of diversity unless one is given, as in Qdrant.
const DIVERSITY_DEFAULT: f64 = 0.5;

/// Something that a query compares documents with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Example {
    /// Embedded by the model of `using`.
    Text(String),
    /// As it came.
    Vector(VectorValue),
    /// Id of a document: its vector of `using`, as of the query's time. The document itself is left out of the hits.
    Document(String),
}

/// What is wanted more of, and less of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommend {
    /// More like these.
    pub positive: Vec<Example>,
    /// Less like these.
    pub negative: Vec<Example>,
    /// How examples become a score.
    pub strategy: Strategy,
}

/// How examples become a score. `sim` is the similarity of a document to an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// One search with `avg(positive) + avg(positive) − avg(negative)`; needs a positive example.
    #[default]
    AverageVector,
    /// With p and n the greatest `sim` to a positive and to a negative example: `σ(p)` if p > n, else `−σ(n)`, where
    /// σ(x) = ½(x/(1 + |x|) + 1).
    BestScore,
    /// `Σ sim(positive) − Σ sim(negative)`.
    SumScores,
}

/// Discovery, or a search for a context where there is no target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discover {
    /// What is searched for.
    pub target: Option<Example>,
    /// Pairs of a positive and a negative example.
    pub context: Vec<(Example, Example)>,
}

/// A search whose hits are chosen to be like the query and unlike each other: maximal marginal relevance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mmr {
    /// What is searched for. `None`: in a configured plan, the query's text.
    pub nearest: Option<Example>,
    /// From 0 (relevance alone) to 1 (diversity alone).
    pub diversity: f64,
    /// Hits of the search to choose among, at least 1; as many as the limit unless given.
    pub candidates: Option<usize>,
}

impl Mmr {
    /// Refuses more candidates than can be compared with each other: as many as the limit unless they are given.
    ///
    /// # Errors
    /// Both numbers.
    pub fn check_candidates(&self, kind: VectorKind, limit: usize) -> Result<usize, String> {
        let max = match kind {
            VectorKind::Dense | VectorKind::Sparse => MMR_CANDIDATES_MAX,
            VectorKind::Multi => MMR_MULTI_CANDIDATES_MAX,
        };
        match self.candidates.unwrap_or(limit) {
            candidates if candidates <= max => Ok(candidates),
            candidates => Err(format!(
                "\"mmr\" chooses among {candidates} hits (as many as the limit unless \"candidates_limit\" is given); \
                 {} vectors take at most {max}",
                kind.as_str()
            )),
        }
    }
}

impl From<Example> for NodeQuery {
    fn from(example: Example) -> Self {
        match example {
            Example::Text(text) => Self::Text(text),
            Example::Vector(VectorValue::Dense(vector)) => Self::Dense(vector),
            Example::Vector(VectorValue::Sparse(vector)) => Self::Sparse(vector),
            Example::Vector(VectorValue::Multi(rows)) => Self::Multi(rows),
            Example::Document(id) => Self::Document(id),
        }
    }
}

/// The id that a string or an integer stands for; `None` for anything else.
fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()).filter(|id| !id.is_empty()),
        Value::Number(number) => (number.is_i64() || number.is_u64()).then(|| number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Reader<'_> {
    /// `{"id": …}`, or an integer.
    pub(super) fn document(self, value: &Value, path: &str) -> Result<Example, Fault> {
        let (id, path) = if value.is_object() {
            let fields = Fields::of(value, path)?;
            fields.only(&["id"], &[])?;
            (fields.get("id").unwrap_or(&Value::Null), fields.path("id"))
        } else {
            (value, path.to_owned())
        };
        let Some(id) = id_of(id) else {
            let message = format!("{} is not an id: a string that is not empty, or an integer", describe(id));
            return Err(invalid(path, message));
        };
        self.of_query(&path, "the id of a document")?;
        Ok(Example::Document(id))
    }

    /// `{"recommend": …}`
    pub(super) fn recommend(self, fields: &Fields<'_>) -> Result<NodeQuery, Fault> {
        fields.only(&["recommend"], &[])?;
        let path = fields.path("recommend");
        self.of_query(&path, "examples")?;
        let below = Fields::of(fields.get("recommend").unwrap_or(&Value::Null), &path)?;
        below.only(&["positive", "negative", "strategy"], &[])?;
        let strategy = match below.str("strategy")? {
            None | Some("average_vector") => Strategy::AverageVector,
            Some("best_score") => Strategy::BestScore,
            Some("sum_scores") => Strategy::SumScores,
            Some(other) => {
                let known = "\"average_vector\", \"best_score\" or \"sum_scores\"";
                return Err(below.unlike("strategy", &other.into(), known));
            }
        };
        let list = |field: &str| match below.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => self.examples(items, &below.path(field)),
            Some(other) => Err(below.unlike(field, other, "an array of ids, texts and vectors")),
        };
        let (positive, negative) = (list("positive")?, list("negative")?);
        check_count(positive.len() + negative.len(), &path)?;
        match strategy {
            Strategy::AverageVector if positive.is_empty() => {
                Err(invalid(below.path("positive"), "\"average_vector\" needs at least one positive example"))
            }
            Strategy::BestScore | Strategy::SumScores if positive.is_empty() && negative.is_empty() => {
                Err(invalid(path, "needs at least one example, positive or negative"))
            }
            Strategy::AverageVector | Strategy::BestScore | Strategy::SumScores => {
                Ok(NodeQuery::Recommend(Recommend { positive, negative, strategy }))
            }
        }
    }

    fn examples(self, items: &[Value], path: &str) -> Result<Vec<Example>, Fault> {
        // Before any is read: what is refused shall not cost the reading of it.
        check_count(items.len(), path)?;
        let read = |(index, item)| self.example(item, &element(path, index));
        items.iter().enumerate().map(read).collect()
    }

    /// `{"discover": {"target": …, "context": …}}`
    pub(super) fn discover(self, fields: &Fields<'_>) -> Result<NodeQuery, Fault> {
        fields.only(&["discover"], &[])?;
        let path = fields.path("discover");
        self.of_query(&path, "examples")?;
        let below = Fields::of(fields.get("discover").unwrap_or(&Value::Null), &path)?;
        below.only(&["target", "context"], &[])?;
        let Some(target) = below.get("target") else {
            return Err(invalid(below.path("target"), "missing: give an id, a text or a vector"));
        };
        let target = self.example(target, &below.path("target"))?;
        let context = self.pairs(below.get("context"), &below.path("context"))?;
        check_count(1 + 2 * context.len(), &path)?;
        Ok(NodeQuery::Discover(Discover { target: Some(target), context }))
    }

    /// `{"context": …}`
    pub(super) fn context(self, fields: &Fields<'_>) -> Result<NodeQuery, Fault> {
        fields.only(&["context"], &[])?;
        let path = fields.path("context");
        self.of_query(&path, "examples")?;
        let context = self.pairs(fields.get("context"), &path)?;
        if context.is_empty() {
            return Err(invalid(path, "needs at least one pair: {\"positive\": …, \"negative\": …}"));
        }
        check_count(2 * context.len(), &path)?;
        Ok(NodeQuery::Discover(Discover { target: None, context }))
    }

    fn pairs(self, value: Option<&Value>, path: &str) -> Result<Vec<(Example, Example)>, Fault> {
        let pair = |value: &Value, path: &str| {
            let below = Fields::of(value, path)?;
            below.only(&["positive", "negative"], &[])?;
            let side = |field: &str| match below.get(field) {
                Some(value) => self.example(value, &below.path(field)),
                None => Err(invalid(below.path(field), "missing: give an id, a text or a vector")),
            };
            Ok((side("positive")?, side("negative")?))
        };
        match value {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                check_count(2 * items.len(), path)?;
                items.iter().enumerate().map(|(index, item)| pair(item, &element(path, index))).collect()
            }
            Some(value) => pair(value, path).map(|pair| vec![pair]),
        }
    }

    /// `{"nearest": …, "mmr": {"diversity": …, "candidates_limit": …}}`
    pub(super) fn mmr(self, fields: &Fields<'_>) -> Result<NodeQuery, Fault> {
        fields.only(&["nearest", "mmr"], &[])?;
        let nearest = match fields.get("nearest") {
            Some(value) => Some(self.example(value, &fields.path("nearest"))?),
            None if self.is_config() => None,
            None => {
                return Err(invalid(fields.path("nearest"), "missing: give a text, a vector or an id"));
            }
        };
        let mmr = Fields::of(fields.get("mmr").unwrap_or(&Value::Null), &fields.path("mmr"))?;
        mmr.only(&["diversity", "candidates_limit"], &[])?;
        let diversity = match mmr.get("diversity") {
            None => DIVERSITY_DEFAULT,
            Some(value) => value
                .as_f64()
                .filter(|share| (0.0..=1.0).contains(share))
                .ok_or_else(|| mmr.unlike("diversity", value, "a number from 0 to 1"))?,
        };
        let candidates = mmr.get("candidates_limit").map(|value| {
            let max = self.limits.limit_max;
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count
                .filter(|count| (1..=max).contains(count))
                .ok_or_else(|| mmr.unlike("candidates_limit", value, &format!("an integer from 1 to {max}")))
        });
        Ok(NodeQuery::Mmr(Mmr { nearest, diversity, candidates: candidates.transpose()? }))
    }
}

fn check_count(count: usize, path: &str) -> Result<(), Fault> {
    if count > EXAMPLES_MAX {
        let message = format!("{count} examples, at most {EXAMPLES_MAX} are accepted");
        return Err(Fault::field(FaultCode::TooLarge, path, message));
    }
    Ok(())
}
