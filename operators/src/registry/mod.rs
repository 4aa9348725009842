//! Schemas of Avro records, from a schema registry: asked for outside the workers, before a record becomes visible work.
//!
//! ```text
//! source ─poll─▶ Reader ── all schemas at hand ──▶ Consume(documents)
//!                  │ held back: the first record of a partition that lacks one, and all behind it
//!                  ▼                 ▲
//!              Schemas (per run): a bounded cache; one thread asks the registry
//! ```
//! Time rule: a record that is held back has no tick yet, and the position of its partition stays before it. So no frontier
//! passes it, and no `as_of` names it.
//! Limits: nothing more is read while [`HELD_RECORDS_MAX`] records or [`HELD_BYTES_MAX`] bytes are held back.

mod cache;
mod client;
mod hold;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_schemas::{
    DocumentSpec, DocumentTopics, Offset, Partition, Record, RecordSchemas, SourceSpec, wanted,
};

pub use cache::{Found, SCHEMAS_MAX};
pub use client::{Schemas, host_of, subjects};
pub use hold::{HELD_BYTES_MAX, HELD_RECORDS_MAX};

use crate::connect::{ConnectError, Source};
use hold::Hold;

/// A record, with the schemas that it is read by.
#[derive(Clone, Debug, Default)]
pub struct ReadRecord {
    /// The record.
    pub record: Record,
    /// Those it needs, or why there are none.
    pub schemas: RecordSchemas,
}

/// What a poll yields; as [`crate::connect::Polled`].
#[derive(Debug, Default)]
pub struct Read {
    /// In order per partition.
    pub records: Vec<ReadRecord>,
    /// Next offset per partition: before the first record that is held back.
    pub positions: BTreeMap<Partition, Offset>,
}

/// Reads documents topics, and holds back what lacks its schemas.
pub struct Reader {
    source: Box<dyn Source>,
    /// Where schemas are, and how the records of each topic are encoded; `None`: none is needed.
    schemas: Option<(Arc<Schemas>, Vec<SourceSpec>)>,
    hold: Hold,
}

impl Reader {
    /// Reads records whose topics have these specs.
    pub fn new(source: Box<dyn Source>, schemas: Option<Arc<Schemas>>, specs: &[DocumentSpec]) -> Self {
        let specs = || specs.iter().map(|spec| spec.source.clone()).collect();
        Self { source, schemas: schemas.map(|schemas| (schemas, specs())), hold: Hold::default() }
    }

    /// Takes what is there, as [`Source::poll`]. Never blocks.
    ///
    /// # Errors
    /// As the source; a registry that refuses the credentials.
    pub fn poll(&mut self, records_max: usize, bytes_max: usize) -> Result<Read, ConnectError> {
        let Some((schemas, specs)) = &self.schemas else {
            let polled = self.source.poll(records_max, bytes_max)?;
            let plain = |record| ReadRecord { record, schemas: RecordSchemas::default() };
            return Ok(Read {
                records: polled.records.into_iter().map(plain).collect(),
                positions: polled.positions,
            });
        };
        if let Some(failure) = schemas.failure() {
            return Err(ConnectError::World { what: failure, source: None, retry: false });
        }
        let mut find = |record: &Record| {
            let (topic, _) = DocumentTopics::split(record.partition);
            schemas_of(record, &specs[topic], |number| schemas.find(number))
        };
        let mut records = self.hold.release(records_max, bytes_max, &mut find);
        let taken: usize = records.iter().map(|read| read.record.size_bytes()).sum();
        let room = (records_max - records.len(), bytes_max.saturating_sub(taken));
        let room = if room.0 == 0 || room.1 == 0 || self.hold.is_full() { (0, 0) } else { room };
        let polled = self.source.poll(room.0, room.1)?;
        records.extend(self.hold.pass(polled.records, &mut find));
        Ok(Read { records, positions: self.hold.positions(polled.positions) })
    }
}

/// The schemas of a record, once all of them are known.
fn schemas_of(
    record: &Record,
    spec: &SourceSpec,
    mut find: impl FnMut(u32) -> Option<Found>,
) -> Option<RecordSchemas> {
    let (key, value) = wanted(record, spec);
    // Both are asked for before either is waited for.
    let (key, value) = (key.map(&mut find), value.map(&mut find));
    Some(RecordSchemas {
        key: match key {
            Some(found) => Some(found?),
            None => None,
        },
        value: match value {
            Some(found) => Some(found?),
            None => None,
        },
    })
}
