//! Snapshots: consistent cuts of all shards, written while the pipeline runs, and read when it starts.
//!
//! ```text
//! Consume, on one worker ── a cut begins at tick t ─▶ Index, on every worker: all that is ≤ t applied, nothing later
//!                                                        │ frozen parts, next offsets at t
//!                                                        ▼
//! Snapshots: when every worker has delivered ─▶ thread: segments not yet written ─▶ removed ─▶ manifest, last
//! start: newest whole snapshot ─▶ shards · states of the upsert · statistics · offsets to read from
//! ```
//! `segments/shard=N/` holds what is shared by snapshots, and never changes; `snapshots/ID/` what belongs to one. A
//! snapshot is there when its manifest is. Files that no manifest names are removed when the next snapshot is whole.
//! `owners/` says which run writes, `requests/` who waits for a cut, `answers/` what was asked and found.

pub mod answers;
mod claim;
mod cuts;
#[cfg(test)]
mod failing;
mod load;
mod manifest;
mod metrics;
mod open;
mod request;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use claim::Claim;
pub use cuts::{Outcome, Snapshots};
pub use load::{Loaded, Skipped, documents, fits, inspect, list, load, manifest, manifests, newest};
pub use manifest::{FORMAT, FileEntry, Identity, IndexEntry, Manifest, SegmentEntry, name, view};
pub use metrics::SnapshotMetrics;
pub use request::Request;
pub use store::{Put, Store, Upload};
pub use write::{Cut, Retention, Writer};

use crate::index::IndexError;
use crate::index::segment::table::TableError;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The store refused or is not there.
    #[error("{what}: {cause}; {advice}")]
    Store {
        /// What was tried, on which file.
        what: String,
        /// The cause.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// Another run writes to the store.
    #[error(transparent)]
    Owned(Box<OtherOwner>),
    /// A snapshot of the name is there.
    #[error(
        "snapshot {id} is there already, and was written by run {run} of pipeline \"{pipeline}\"; stop one of the two"
    )]
    Taken {
        /// Its name.
        id: String,
        /// The pipeline that wrote it.
        pipeline: String,
        /// Its run.
        run: String,
    },
    /// A manifest of another version of Freshet.
    #[error(
        "\"{path}\" has format {format}, this version of Freshet reads formats {} to {}",
        manifest::FORMAT_OLDEST,
        FORMAT
    )]
    Format {
        /// Its path in the store.
        path: String,
        /// Its format.
        format: u32,
    },
    /// A file that is not what its manifest says.
    #[error("\"{path}\" {what}")]
    Broken {
        /// Its path in the store.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A segment that cannot be written or is none.
    #[error("\"{path}\": {source}")]
    Table {
        /// Its path in the store.
        path: String,
        /// What is wrong.
        source: TableError,
    },
    /// A snapshot of another configuration.
    #[error(
        "snapshot {id} does not fit the configuration: {differences}; change that back, or name another \
         snapshots.store to begin anew"
    )]
    Unfit {
        /// Its name.
        id: String,
        /// Keys, what the snapshot has, what the configuration says.
        differences: String,
    },
    /// Parts that make no shard.
    #[error("shard {shard}: {source}")]
    Shard {
        /// Its number.
        shard: u32,
        /// What is wrong.
        source: IndexError,
    },
}

/// Who writes to a store that a run wanted for itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "{store} belongs to pipeline \"{pipeline}\": its newest snapshots are those of run {run}, which began at {since}; \
     {advice}"
)]
pub struct OtherOwner {
    /// URL of the store.
    pub store: String,
    /// Name of the other pipeline.
    pub pipeline: String,
    /// Its run.
    pub run: String,
    /// When that began.
    pub since: String,
    /// What to do.
    pub advice: String,
}
