//! An answer record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Fault, FaultCode, Offset, Partition, SparseVector};

/// Inclusive offset per partition: all and only these records are reflected; −1 where nothing is.
pub type AsOf = BTreeMap<Partition, Offset>;

/// The answer to one query; its key is the query id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Query id.
    pub id: String,
    /// Hits, best first: score descending, then id ascending; of a diverse list in the order in which they were chosen.
    /// Empty when `error` is set.
    pub points: Vec<Point>,
    /// What the answer reflects, by topic role (`documents`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub as_of: BTreeMap<String, AsOf>,
    /// The tick at which the indexes were read, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// From reading the query to writing the answer.
    pub took_seconds: f64,
    /// Where the time went until the answer was made; writing it comes after. Missing where there is an error, and with pages
    /// after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_seconds: Option<StageSeconds>,
    /// Stages that could not do their work: their hits stand in the order before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Degraded>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// How many documents there are, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Groups of hits, those with the best hit first, where groups were asked for; `points` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group>>,
    /// Cursor of the next page, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Answer {
    /// The answer to a query that cannot be answered.
    pub fn refusal(id: impl Into<String>, fault: Fault, took_seconds: f64) -> Self {
        Self {
            id: id.into(),
            points: Vec::new(),
            as_of: BTreeMap::new(),
            time: None,
            took_seconds,
            stage_seconds: None,
            degraded: Vec::new(),
            error: Some(fault),
            count: None,
            groups: None,
            next: None,
        }
    }

    /// The value of the answer's record: compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer has string keys and no fallible parts")
    }

    /// Reads the value of an answer's record.
    ///
    /// # Errors
    /// `NotJson` when the bytes are not an answer.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(bytes)
            .map_err(|error| Fault::whole(FaultCode::NotJson, format!("not an answer: {error}")))
    }
}

/// Hits whose payload has the same value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The value: a string or an integer.
    pub id: serde_json::Value,
    /// Hits, best first.
    pub hits: Vec<Point>,
}

/// Where the time of an answer went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Decoding, planning, and waiting for the freshness that the query asks for.
    pub admit: f64,
    /// Making vectors of its texts, and looking up the statistics of its terms.
    pub embed: f64,
    /// The first lists: searches, with the documents that the query names looked up before.
    pub search: f64,
    /// All later stages: rescoring, reranking, formulas, groups.
    pub rerank: f64,
    /// Payloads and vectors of the hits.
    pub fetch: f64,
}

impl StageSeconds {
    /// By the names of the stages, in their order.
    pub fn by_name(&self) -> [(&'static str, f64); 5] {
        let Self { admit, embed, search, rerank, fetch } = *self;
        [("admit", admit), ("embed", embed), ("search", search), ("rerank", rerank), ("fetch", fetch)]
    }
}

/// A stage that an answer had to do without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Degraded {
    /// Name of the reranker.
    pub stage: String,
    /// What went wrong.
    pub reason: String,
}

/// One hit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Document id.
    pub id: String,
    /// Score of the last stage; higher is better.
    pub score: f64,
    /// Number of the best chunk in its document, from 0.
    pub chunk: u32,
    /// Where that chunk stands in the document's text, which is its text fields joined by a space: first character, and
    /// the one after the last, counted from 0 in Unicode scalar values. There with `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<(u32, u32)>,
    /// Text of that chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Payload of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// Place in every search leg that found it, in plan order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<Leg>,
    /// Place in the last fusion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<FusionScore>,
    /// Place in the last rerank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankScore>,
    /// The value by which the document is listed; a time in microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_value: Option<serde_json::Number>,
    /// Vectors of the document by field, as they are stored: those of the best chunk, where there is one per chunk.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vectors: BTreeMap<String, PointVector>,
}

/// A vector as it is stored: normalised in cosine fields; token vectors as their codes give them back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PointVector {
    /// `[size]`
    Dense(Vec<f32>),
    /// Terms ascending, with their weights.
    Sparse(SparseVector),
    /// `[tokens][size]`
    Multi(Vec<Vec<f32>>),
}

/// Place of a hit in one leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// Vector field; a leg over prefetches of its own is a leg of the fusion above it, too.
    pub name: String,
    /// From 1.
    pub rank: u32,
    /// In the units of the leg: cosine, BM25, MaxSim.
    pub score: f64,
    /// What the fusion made of this leg: the summand of the fused score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contribution: Option<f64>,
}

/// Place of a hit in a fusion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FusionScore {
    /// From 1.
    pub rank: u32,
    /// Fused score.
    pub score: f64,
}

/// Place of a hit in a rerank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RerankScore {
    /// From 1.
    pub rank: u32,
    /// Score of the reranker.
    pub score: f64,
}
