//! The records of Freshet: what stands on the wire, before and after it is checked.
//!
//! Nothing here knows timely, Kafka or an index. Every parser turns bytes into a checked record or into a
//! [`Fault`] that names the field, the value and what would be right.
//!
//! ```text
//! documents ─▶ Record ─▶ Document        queries ─▶ Record ─▶ Query        Answer ─▶ answers
//!                 └────▶ Fault ─▶ dead letter          └────▶ Fault ─▶ error answer or dead letter
//! ```

mod answer;
mod document;
mod fault;
mod filter;
mod identity;
mod json;
mod query;
mod record;
mod source;
mod topics;
mod vector;

pub use answer::{
    Answer, AsOf, Degraded, FusionScore, Group, Leg, Point, PointVector, RerankScore, StageSeconds,
};
pub use document::{Document, DocumentChange, DocumentSpec, VECTORS_FIELD, VectorSpec, with_title};
pub use fault::{Fault, FaultCode};
pub use filter::{
    Bounds, Condition, FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, MatchValue, MinShould, Test, is_path,
    microseconds, values, words,
};
pub use query::{
    Ask, Consistency, Cursor, Decay, DefaultValue, Direction, Discover, EXAMPLES_MAX, Example, Expression,
    FORMULA_DEPTH_MAX, FORMULA_TERMS_MAX, Fold, Formula, Fusion, GROUP_SIZE_DEFAULT, Grouping, IdKey,
    IdOrder, LIMIT_DEFAULT, List, MMR_CANDIDATES_MAX, MMR_MULTI_CANDIDATES_MAX, Mmr, Node, NodeQuery,
    OrderBy, OrderValue, Params, PayloadPaths, PlanSpec, Query, QueryFault, QueryLimits, RRF_K_DEFAULT,
    Recommend, Strategy, Unary, WithPayload, WithVectors, text_of,
};
pub use record::{Header, Headers, Offset, Partition, Record, dead_letter, headers};
pub use source::{Envelope, Format, Mapping, RecordSchemas, SourceSpec, WireSchema, frame, wanted};
pub use topics::{DOCUMENTS, DocumentTopics};
pub use vector::{SparseVector, VectorKind, VectorValue};
