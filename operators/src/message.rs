//! What flows between operators. Plain data: everything here may cross threads and processes.

use std::collections::BTreeMap;

use freshet_schemas::{
    AsOf, Cursor, Document, Fault, Filter, Headers, MatchValue, Offset, Params, Partition, Query, Record,
    SparseVector,
};
use serde::{Deserialize, Serialize};

use crate::gateway::GATEWAY;
use crate::index::examples::Formula;
use crate::index::shard::{Finding, Found, GroupHead, Listing};
use crate::index::{Fetched, Hit, Probe, ShardChange, Stored, Time};
use crate::plan::{Plan, error_answer};

/// Where a record was read: worker, partition, offset; or which query of a worker's gateway it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Worker that read it; answers go back there.
    pub worker: usize,
    /// Partition of its topic.
    pub partition: Partition,
    /// Offset in it.
    pub offset: Offset,
}

impl Origin {
    /// Whether the query came through the gateway and not from a topic; `offset` is then its number.
    pub fn is_gateway(self) -> bool {
        self.partition == GATEWAY
    }
}

/// At the tick that carries it, everything of `partition` before `next` has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Partition of the documents topic.
    pub partition: Partition,
    /// Next offset to be read.
    pub next: Offset,
}

/// A document record, decoded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DocumentRecord {
    /// Where it was read.
    pub origin: Origin,
    /// Document id.
    pub id: String,
    /// The document, or `None` for a delete.
    pub document: Option<Document>,
    /// The record itself, for its dead letter should a later stage refuse it.
    pub record: Record,
}

/// A record on its way to a dead-letter topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Worker that read it, and that writes it back.
    pub origin: Origin,
    /// Dead-letter topic.
    pub topic: String,
    /// The record as it is to be written.
    pub record: Record,
}

/// The exact change of one document, before its new texts are embedded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DocumentDelta {
    /// Where the record that caused it was read.
    pub origin: Origin,
    /// Document id.
    pub id: String,
    /// Whether a version came before.
    pub existed: bool,
    /// New version; `None`: the document left.
    pub put: Option<Box<DeltaPut>>,
    /// The record that caused it.
    pub record: Record,
}

/// A new version of a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeltaPut {
    /// The document itself.
    pub document: Document,
    /// Byte ranges of its chunks in the text, in order.
    pub chunks: Vec<(usize, usize)>,
    /// Per chunk its number in the version before, if text and title are unchanged.
    pub kept: Vec<Option<u32>>,
    /// What is to be remembered of it beside its payload and chunks; see [`crate::upsert::DocumentState`].
    pub digest: Vec<u8>,
    /// Text and title are unchanged: sparse vectors are kept.
    pub text_kept: bool,
    /// Per precomputed vector field: unchanged.
    pub vectors_kept: BTreeMap<String, bool>,
    /// Fields whose vector came with the version before and does not any more.
    pub vectors_gone: Vec<String>,
}

/// A change on its way to the shard that owns the document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoutedChange {
    /// Shard of the document.
    pub shard: u32,
    /// The change.
    pub change: ShardChange,
}

/// What is counted over the whole corpus; the key of the statistics arrangement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Statistic {
    /// Documents that have a vector in the field.
    Documents(u16),
    /// Sum of their lengths in terms.
    Length(u16),
    /// Documents of the field that hold the term.
    Term(u16, u64),
}

/// Name of a query in flight, unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket {
    /// Worker that keeps the query's state.
    pub worker: usize,
    /// Number on that worker.
    pub number: u64,
}

/// A query record, decoded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryRecord {
    /// Where it was read.
    pub origin: Origin,
    /// Query id.
    pub id: String,
    /// Headers, carried over to the answer.
    pub headers: Headers,
    /// When it was read, microseconds since the epoch.
    pub read_at_us: u64,
    /// The query, or what is wrong with it.
    pub query: Result<Query, Fault>,
    /// The record, for the dead letter of a duplicate.
    pub record: Record,
}

/// A query that can be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedQuery {
    /// Its name in flight.
    pub ticket: Ticket,
    /// Where it was read.
    pub origin: Origin,
    /// Headers, carried over to the answer.
    pub headers: Headers,
    /// When it was read, microseconds since the epoch.
    pub read_at_us: u64,
    /// The query.
    pub query: Query,
    /// Its stages.
    pub plan: Plan,
}

impl PlannedQuery {
    /// The answer to a query that cannot be answered.
    pub fn refused(&self, fault: Fault) -> AnswerRecord {
        AnswerRecord {
            origin: self.origin,
            headers: self.headers.clone(),
            read_at_us: self.read_at_us,
            answer: error_answer(&self.query.id, fault),
            id: self.query.id.clone(),
        }
    }
}

/// Another page of an earlier query is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageTurn {
    /// Where the question was read.
    pub origin: Origin,
    /// Headers, carried over to the answer.
    pub headers: Headers,
    /// When it was read, microseconds since the epoch.
    pub read_at_us: u64,
    /// Id of the question and of its answer.
    pub id: String,
    /// Which page.
    pub cursor: Cursor,
}

/// A query with its time: the cut it sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdmittedQuery {
    /// The query.
    pub planned: PlannedQuery,
    /// The tick it reads at.
    pub time: Time,
    /// What that tick reflects.
    pub as_of: AsOf,
    /// When it was admitted, microseconds since the epoch.
    pub admitted_at_us: u64,
}

/// What a plan's text became.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Prepared {
    /// Ready to search with.
    Probe(Probe),
    /// BM25 terms that still need the statistics at the query's time.
    Terms(SparseVector),
    /// Made of what lies in the shards, or of other inputs.
    Later,
}

/// An admitted query whose texts are vectors now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreparedQuery {
    /// The query.
    pub admitted: AdmittedQuery,
    /// One per entry of the plan's inputs.
    pub inputs: Vec<Prepared>,
}

/// Asks for one statistic at the time of the message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StatisticAsk {
    /// Query it is for.
    pub ticket: Ticket,
    /// What is asked.
    pub statistic: Statistic,
}

/// The statistic at that time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StatisticReply {
    /// Query it is for.
    pub ticket: Ticket,
    /// What was asked.
    pub statistic: Statistic,
    /// Its value.
    pub value: i64,
}

/// Work for one shard at the time of the message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardRequest {
    /// Query it is for.
    pub ticket: Ticket,
    /// Shard that shall do it.
    pub shard: u32,
    /// Per stage of the plan what to do.
    pub tasks: Vec<(u16, Task)>,
}

/// One thing a shard is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// The `k` best documents.
    Search {
        /// Field number.
        field: u16,
        /// What to search with.
        probe: Probe,
        /// Most hits.
        k: usize,
        /// Search parameters.
        params: Params,
        /// Which documents may be found.
        filter: Option<Filter>,
    },
    /// Scores of those candidates that live there.
    Score {
        /// Field number.
        field: u16,
        /// What to score with.
        probe: Probe,
        /// Candidates.
        ids: Vec<String>,
    },
    /// Payload and chunk text of hits.
    Fetch(Vec<(String, u32)>),
    /// The `k` first documents.
    List {
        /// Their order.
        listing: Listing,
        /// Most entries.
        k: usize,
        /// Which documents may be listed.
        filter: Option<Filter>,
        /// Whether a document is listed once for each of its values.
        each_value: bool,
    },
    /// How many documents there are.
    Count {
        /// Which are counted.
        filter: Option<Filter>,
    },
    /// Payloads of documents.
    Payloads(Vec<String>),
    /// The hits that come first in the first groups.
    GroupHeads {
        /// What finds hits.
        finding: Finding,
        /// Path of the field that makes groups.
        by: String,
        /// Groups wanted.
        count: usize,
        /// Which documents may be found.
        filter: Option<Filter>,
    },
    /// The best hits of some groups.
    GroupMembers {
        /// What finds hits.
        finding: Finding,
        /// Path of the field that makes groups.
        by: String,
        /// The groups.
        groups: Vec<MatchValue>,
        /// Most hits of each.
        size: usize,
        /// Which documents may be found.
        filter: Option<Filter>,
    },
    /// The `k` best documents by their similarities to examples.
    Examples {
        /// Field number.
        field: u16,
        /// What to compare with, in the order of the formula.
        probes: Vec<Probe>,
        /// What becomes of the similarities.
        formula: Formula,
        /// Most hits.
        k: usize,
        /// Which documents may be found.
        filter: Option<Filter>,
        /// Candidates; `None`: all documents.
        among: Option<Vec<String>>,
    },
    /// Vectors of documents, of all their chunks or of one.
    Vectors {
        /// Field number.
        field: u16,
        /// Ids, and the chunk if only its vector is wanted.
        wanted: Vec<(String, Option<u32>)>,
    },
}

/// What a shard says to a [`Task`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TaskReply {
    /// To `Search`, `Score` and `Examples`.
    Hits(Vec<Hit>),
    /// To `Fetch`.
    Fetched(Vec<Fetched>),
    /// To `List`.
    Listed(Vec<Found>),
    /// To `Count`.
    Counted(u64),
    /// To `Payloads`: id and compact JSON object text.
    Payloads(Vec<(String, String)>),
    /// To `GroupHeads`.
    GroupHeads(Vec<GroupHead>),
    /// To `GroupMembers`: one list per group, in the order asked for.
    GroupMembers(Vec<Vec<Found>>),
    /// To `Vectors`.
    Vectors {
        /// Field number.
        field: u16,
        /// Of those documents that live there.
        stored: Vec<Stored>,
    },
}

/// The reply to a [`ShardRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardReply {
    /// Query it is for.
    pub ticket: Ticket,
    /// Per stage the reply.
    pub replies: Vec<(u16, TaskReply)>,
}

/// An answer on its way to the worker that read the query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Where the query was read.
    pub origin: Origin,
    /// Headers of the query.
    pub headers: Headers,
    /// When the query was read, microseconds since the epoch.
    pub read_at_us: u64,
    /// Query id.
    pub id: String,
    /// The answer as JSON, still without the time it took; see [`freshet_schemas::Answer`].
    pub answer: Vec<u8>,
}
