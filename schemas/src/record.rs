//! One message of a topic, as a connector hands it over.

use serde::{Deserialize, Serialize};

use crate::Fault;

/// Number of a partition of a topic; files have the single partition 0.
pub type Partition = i32;
/// Position of a record in its partition, from 0; for files the line number.
pub type Offset = i64;
/// Name and value of a header; a header may lack a value.
pub type Header = (String, Option<Vec<u8>>);
/// Headers in the order of the record; names may repeat.
pub type Headers = Vec<Header>;

/// One message of a topic, unread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Partition it was read from, or (when writing) to be written to by the connector's partitioner.
    pub partition: Partition,
    /// Offset it was read at; ignored when writing.
    pub offset: Offset,
    /// Key, if any. For documents the id, for queries the query id.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone: it deletes the key.
    pub value: Option<Vec<u8>>,
    /// Headers, kept as they are.
    pub headers: Headers,
}

impl Record {
    /// Bytes of key, value and headers: what a budget counts.
    pub fn size_bytes(&self) -> usize {
        let len = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        len(&self.key) + len(&self.value) + headers
    }
}

/// The dead letter of a record that `stage` refused: the record unchanged, with headers that say why appended.
///
/// `topic` is the topic the record was read from. A record that carries such headers already, because it was a dead
/// letter before, keeps them: the last of a name is the newest.
pub fn dead_letter(mut record: Record, topic: &str, stage: &str, fault: &Fault) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let origin = (record.partition.to_string(), record.offset.to_string());
    record.headers.extend([
        header(headers::TOPIC, topic),
        header(headers::PARTITION, &origin.0),
        header(headers::OFFSET, &origin.1),
        header(headers::STAGE, stage),
        header(headers::CODE, fault.code.as_str()),
        header(headers::MESSAGE, &fault.message_with_field()),
    ]);
    record
}

/// Header names of dead letters: those of Kafka Connect, so that its users' tools read them.
pub mod headers {
    /// Topic the record was read from.
    pub const TOPIC: &str = "__connect.errors.topic";
    /// Partition the record was read from.
    pub const PARTITION: &str = "__connect.errors.partition";
    /// Offset the record was read at.
    pub const OFFSET: &str = "__connect.errors.offset";
    /// Operator that refused it: `decode`, `chunk`, `embed`, …
    pub const STAGE: &str = "__connect.errors.stage";
    /// Error code, see [`crate::FaultCode`].
    pub const CODE: &str = "__connect.errors.exception.class.name";
    /// What was wrong, with field, value and what would be right.
    pub const MESSAGE: &str = "__connect.errors.exception.message";
}
