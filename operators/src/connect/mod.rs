//! Topics: where records come from and go to. The same traits for Kafka, JSON Lines files and memory.

mod budget;
mod files;
mod inbox;
mod kafka;
mod memory;
mod partitioner;
mod progress;
pub mod topics;
mod transactions;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_transactions;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freshet_schemas::{DocumentTopics, Offset, Partition, Record};

use crate::metrics::Shelf;

pub use files::{Files, FilesLock, record_of_line};
pub use kafka::{Kafka, KafkaMetrics};
pub use memory::Memory;
pub use progress::{Progress, raise};
pub use transactions::{Batch, Entry, TransactionSink, TransactionWriter, Transactions};

/// Called from any thread when a source has something new or a sink has made progress.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Why the world outside failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Topics that are not there and may not be created.
    #[error("topic(s) {} not found; create them, or set connector.create_topics = true", topics.join(", "))]
    MissingTopics {
        /// Their names.
        topics: Vec<String>,
    },
    /// The broker or the file system refused or did not answer.
    #[error("{what}")]
    World {
        /// What was tried, on what, and a hint.
        what: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
        /// Whether trying again later can help.
        retry: bool,
    },
}

/// Records taken from a source.
#[derive(Debug, Default)]
pub struct Polled {
    /// In order per partition.
    pub records: Vec<Record>,
    /// Next offset to be read, per partition: everything before it has been handed over by this or an earlier poll,
    /// or is no record (transaction markers, compacted records). Has every partition of the source whose first offset
    /// is known; once there, a partition stays.
    pub positions: BTreeMap<Partition, Offset>,
}

/// The partitions of a topic that one of several readers takes: each has exactly one reader, now and when there are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the reader, below `peers`.
    pub index: usize,
    /// How many readers there are.
    pub peers: usize,
}

impl Share {
    /// Whether the reader takes this partition. Topics of a single partition are spread over the readers, too.
    pub fn holds(self, partition: Partition) -> bool {
        let (topic, partition) = DocumentTopics::split(partition);
        usize::try_from(partition).is_ok_and(|partition| (partition + topic) % self.peers == self.index)
    }

    /// The share of the partitions of one of several topics, by their own numbers.
    fn of_topic(self, number: usize) -> Self {
        Self { index: (self.index + self.peers - number % self.peers) % self.peers, ..self }
    }
}

/// Reads some partitions of one topic.
pub trait Source: Send {
    /// Takes what is there, at most `records_max` records and, beyond the first record, `bytes_max` bytes.
    /// Never blocks. Order per partition is kept.
    fn poll(&mut self, records_max: usize, bytes_max: usize) -> Result<Polled, ConnectError>;
}

/// Writes records. Records of one key and topic arrive in the order sent.
pub trait Sink: Send {
    /// Hands a record over for writing; never blocks. Gives it back when the sink's queue is full.
    /// `token` comes back from [`Sink::settled`] once its fate is known.
    fn send(&mut self, topic: &str, record: Record, token: u64) -> Result<(), Record>;
    /// Tokens whose records are written (`Ok`) or refused for good (`Err` with the reason).
    fn settled(&mut self) -> Vec<(u64, Result<(), String>)>;
}

/// A system of topics. Methods other than `source`/`sink` may block: never call them on a worker's thread.
pub trait Connector: Send + Sync {
    /// Sees to it that the topics exist; `output` topics of files are created. Returns the partitions of each.
    fn prepare(
        &self,
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<BTreeMap<String, Vec<Partition>>, ConnectError>;
    /// Sees to it that a topic exists of which the newest record of each key counts, in one partition; creates it where
    /// it is missing.
    fn prepare_table(&self, topic: &str) -> Result<(), ConnectError>;
    /// Removes topics with their records, and what the pipeline's group has committed of them. Nobody may be reading or
    /// writing them; those that are not there are no error. They may be created again at once.
    fn remove(&self, topics: &[&str]) -> Result<(), ConnectError>;
    /// First offset after the last record of each partition, now.
    fn end_offsets(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError>;
    /// Next offsets committed for the pipeline's group; partitions without one are absent.
    fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError>;
    /// Commits next offsets for the pipeline's group; may return before it is durable.
    fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError>;
    /// Opens partitions of a topic at the given next offsets (0, or the earliest kept, where absent).
    fn source(
        &self,
        topic: &str,
        partitions: &[Partition],
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError>;
    /// Opens a share of a topic's partitions at the given next offsets (0, or the earliest kept, where absent): those
    /// there are, and those that the topic gets later, from their first record on.
    fn follow(
        &self,
        topic: &str,
        share: Share,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError>;
    /// Takes the pipeline's group over: whoever wrote transactions for it before can do so no more, and what it left
    /// unfinished is undone or finished. Returns how far the queries of a topic are answered, and the writer of
    /// records and that progress, for [`Transactions::start`].
    fn transactions(
        &self,
        topic: &str,
    ) -> Result<(BTreeMap<Partition, Progress>, Box<dyn TransactionWriter>), ConnectError>;
    /// Opens a writer of records without progress.
    fn sink(&self, wake: Wake) -> Result<Box<dyn Sink>, ConnectError>;
    /// Shows what the connector counts, if anything, in a registry; once per registry.
    fn register(&self, registry: &dyn Shelf) -> prometheus::Result<()>;
}

/// Opens the configured system of topics with the offsets of a group, which is named after the pipeline.
pub fn open(config: &freshet_config::Connector, group: &str) -> Result<Arc<dyn Connector>, ConnectError> {
    Ok(match config {
        freshet_config::Connector::Files { directory } => Arc::new(Files::new(directory, group)),
        freshet_config::Connector::Kafka(settings) => Arc::new(Kafka::new(settings, group)?),
    })
}

/// Locks; state behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
