//! A query record: bytes → checked query. Unknown fields are faults.
//!
//! `parse.rs` reads what stands at the top of a query, `shape.rs` what it says of counts, groups and pages, `select.rs` what
//! hits carry, `node.rs` the nodes of its plan, `examples.rs`, `formula.rs` and `list.rs` three kinds of them; `check.rs`
//! compares a plan with the configured vector fields.

mod check;
mod cursor;
mod examples;
mod formula;
mod list;
mod node;
mod parse;
mod select;
mod shape;

pub use check::PlanSpec;
pub use cursor::Cursor;
pub use examples::{
    Discover, EXAMPLES_MAX, Example, MMR_CANDIDATES_MAX, MMR_MULTI_CANDIDATES_MAX, Mmr, Recommend, Strategy,
};
pub use formula::{
    Decay, DefaultValue, Expression, FORMULA_DEPTH_MAX, FORMULA_TERMS_MAX, Fold, Formula, Unary,
};
pub use list::{Direction, IdKey, IdOrder, List, OrderBy, OrderValue};
pub use select::PayloadPaths;
pub use shape::{GROUP_SIZE_DEFAULT, Grouping};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AsOf, Fault, Filter, SparseVector};

/// Hits of a query or of a stage that names no limit, as in Qdrant.
pub const LIMIT_DEFAULT: usize = 10;

/// Rank constant of reciprocal rank fusion unless one is given. Qdrant uses 2, which is sharper at the top than the 60
/// of Cormack et al. 2009, §3.
pub const RRF_K_DEFAULT: f64 = 2.0;

/// Bounds on what a query may ask; from the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Largest `limit` of any node.
    pub limit_max: usize,
    /// Deepest nesting: a query without prefetch has depth 1.
    pub depth_max: usize,
    /// Most nodes of one plan.
    pub nodes_max: usize,
    /// Longest query text in bytes.
    pub text_bytes_max: usize,
}

/// The text of a query's JSON: its own, else the first one that stands in it, in plan order.
pub fn text_of(query: &serde_json::Value) -> Option<&str> {
    fn text(of: &serde_json::Value) -> Option<&str> {
        of.as_str().or_else(|| of["text"].as_str())
    }
    let asked = &query["query"];
    let own = query["text"].as_str().or_else(|| text(asked)).or_else(|| text(&asked["nearest"]));
    let prefetch = &query["prefetch"];
    own.or_else(|| match prefetch.as_array() {
        Some(stages) => stages.iter().find_map(text_of),
        // One stage may stand without brackets.
        None if prefetch.is_object() => text_of(prefetch),
        None => None,
    })
}

/// A checked query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Id, not empty: the key of the answer.
    pub id: String,
    /// What is asked.
    pub ask: Ask,
    /// Which documents may be found by a text through a configured plan, or are counted. A plan of its own has its filter
    /// in its root.
    pub filter: Option<Filter>,
    /// Hits in the answer, at least 1; default 10.
    pub limit: usize,
    /// What the answer must reflect.
    pub consistency: Consistency,
    /// Whether hits carry payload and chunk text; default all.
    pub with_payload: WithPayload,
    /// Whether hits carry ranks and scores per stage; default true.
    pub explain: bool,
    /// Groups of the final list; `limit` is then that of the groups.
    pub group: Option<Grouping>,
    /// Hits of a page, where the answer is read page by page; `limit` is that of all pages.
    pub page: Option<usize>,
    /// Hits that are passed over before the first one of the answer; with the limit at most `limit_max`.
    pub offset: usize,
    /// Hits that score less are left out of a text through a configured plan. A plan of its own has its own in its root.
    pub score_threshold: Option<f64>,
    /// Which vectors hits carry; default none.
    pub with_vectors: WithVectors,
}

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct QueryFault {
    /// Id of the query, as far as it could be read: of the value, else of the key. With an id there is somebody to
    /// answer; without one the record is a dead letter.
    pub id: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

/// Plain text through a configured plan, or a plan of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "a query has one")]
pub enum Ask {
    /// `{"text": …, "plan": …}`: the named plan, or `default`.
    Text {
        /// Question, not blank.
        text: String,
        /// Name of a configured plan.
        plan: Option<String>,
    },
    /// The JSON of Qdrant's points/query.
    Plan(Node),
    /// `{"count": true}`: how many documents pass the filter.
    Count,
    /// `{"cursor": …}`: another page of an earlier query.
    Page(Cursor),
}

/// One node of a plan. Leaves have no prefetch and search the index; a node with prefetch fuses or rescores what
/// its prefetches found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Stages before this one.
    pub prefetch: Vec<Node>,
    /// What this stage does. `None`: in a configured plan, search or rescore by the query's text.
    pub query: Option<NodeQuery>,
    /// Vector field; needed unless the query is a fusion.
    pub using: Option<String>,
    /// Most hits of this stage, at least 1; default 10. That of a configured root is replaced by the query's.
    pub limit: usize,
    /// Search parameters.
    pub params: Params,
    /// Which documents the searches of this stage and of those below it may find.
    pub filter: Option<Filter>,
    /// Hits of this stage score more than this; those of a fusion at least as much.
    pub score_threshold: Option<f64>,
}

/// What a node searches for or does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeQuery {
    /// `{"text": …}`: embedded by the model of `using`.
    Text(String),
    /// A dense vector.
    Dense(Vec<f32>),
    /// A sparse vector.
    Sparse(SparseVector),
    /// A multi-vector.
    Multi(Vec<Vec<f32>>),
    /// Fusion of the prefetches.
    Fusion(Fusion),
    /// Documents by id; also what a query without anything to search for does.
    List(List),
    /// Documents by a value of their payload.
    OrderBy(OrderBy),
    /// New scores of what the prefetches found.
    Formula(Box<Formula>),
    /// The vector of the document with this id.
    Document(String),
    /// More like some examples and less like others.
    Recommend(Recommend),
    /// Discovery, or the search for a context.
    Discover(Discover),
    /// A diverse choice of the nearest.
    Mmr(Mmr),
}

/// How lists become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fusion {
    /// Reciprocal rank fusion, `1/((rank+1)/weight + k − 1)`, rank from 0. Qdrant's default k is 2.
    Rrf {
        /// Rank constant, at least 1.
        k: f64,
        /// One positive weight per prefetch; empty means 1 for each.
        weights: Vec<f64>,
    },
    /// Distribution-based score fusion: `(s − (μ − 3σ))/6σ` with the sample variance, summed.
    Dbsf,
}

/// Search parameters of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Answer from plain scans.
    pub exact: bool,
    /// Candidates an HNSW graph keeps while it is searched; the index's own choice if not given.
    pub hnsw_ef: Option<u32>,
    /// Cells of an IVF index that are searched; the index's own choice if not given.
    pub nprobe: Option<u32>,
}

/// What an answer must reflect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// The newest closed time; never waits.
    #[default]
    Latest,
    /// All that the documents topic held when the query was read.
    Strong,
    /// At least these offsets (inclusive), by the names that [`crate::DocumentTopics`] knows.
    Documents(BTreeMap<String, AsOf>),
}

/// Which payload fields a hit carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithPayload {
    /// All of them, and the chunk's text.
    #[default]
    All,
    /// None.
    None,
    /// Only what lies under these paths.
    Include(Vec<String>),
    /// All but what lies under these paths.
    Exclude(Vec<String>),
}

/// Which vectors a hit carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithVectors {
    /// None.
    #[default]
    None,
    /// Those of all fields but BM25's.
    All,
    /// Those of these fields.
    Of(Vec<String>),
}
