//! Which collections there are: a topic whose newest record of each key counts.
//!
//! ```text
//! key: a name · value: {"collection": {…Qdrant's creation…}, "shards": 4, "index": {"city": …}}
//!             · value: {"alias_of": "name"} · null: gone
//! ```

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use freshet_operators::connect::{ConnectError, Connector};
use freshet_schemas::Record;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::http::writer::{DocumentWriter, Fates};

/// Longest time to read the topic, and to write a record.
const LIMIT: Duration = Duration::from_secs(30);
/// Records and bytes taken at once.
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 16 << 20;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Collection(Made),
    Alias { alias_of: String },
}

/// A collection as it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Qdrant's body of the creation.
    pub(super) collection: Value,
    /// Its shards, whatever the configuration says later.
    pub(super) shards: u32,
    /// Payload indexes, by key, as they were asked for.
    #[serde(default)]
    pub(super) index: Map<String, Value>,
}

/// The topic.
pub(super) struct Log {
    writer: DocumentWriter,
}

/// Why the topic cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The world outside.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A record that this version cannot read.
    #[error("collection \"{name}\" in topic \"{topic}\" is not readable: {problem}")]
    Unreadable {
        /// Key of the record.
        name: String,
        /// The topic.
        topic: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A record is not written.
    #[error("topic \"{topic}\" did not take \"{name}\": {problem}")]
    NotWritten {
        /// Key of the record.
        name: String,
        /// The topic.
        topic: String,
        /// What went wrong.
        problem: String,
    },
    /// Nothing came in time.
    #[error("topic \"{topic}\" was not read to its end within {LIMIT:?}")]
    Timeout {
        /// The topic.
        topic: String,
    },
}

impl Log {
    /// Reads what there is, and starts the writer.
    pub(super) fn open(
        connector: &Arc<dyn Connector>,
        topic: &str,
    ) -> Result<(Self, BTreeMap<String, Entry>), LogError> {
        connector.prepare_table(topic)?;
        let entries = read(&**connector, topic)?;
        Ok((Self { writer: DocumentWriter::start(&**connector)? }, entries))
    }

    /// Writes what a name stands for from now on; durable when it returns.
    pub(super) fn put(&self, topic: &str, name: &str, entry: Option<&Entry>) -> Result<(), LogError> {
        let not_written = |problem: String| {
            let (name, topic) = (name.to_owned(), topic.to_owned());
            LogError::NotWritten { name, topic, problem }
        };
        let value =
            entry.map(serde_json::to_vec).transpose().map_err(|error| not_written(error.to_string()))?;
        let record = Record { key: Some(name.as_bytes().to_vec()), value, ..Record::default() };
        let ended = || not_written("the writer has ended".to_owned());
        let fates = self.writer.write(topic, vec![record]).map_err(|_| ended())?;
        let fates: Fates = fates.blocking_recv().map_err(|_| ended())?;
        fates.into_iter().collect::<Result<(), String>>().map_err(not_written)
    }

    /// Ends the writer.
    pub(super) fn end(&self) {
        self.writer.end();
    }
}

/// Reads the topic to the end that it has now.
fn read(connector: &dyn Connector, topic: &str) -> Result<BTreeMap<String, Entry>, LogError> {
    let ends = connector.end_offsets(topic)?;
    let partitions: Vec<_> = ends.keys().copied().collect();
    let (sender, wakes) = channel();
    let sender = std::sync::Mutex::new(sender);
    let wake = Arc::new(move || {
        // Nobody listens once all is read.
        let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send(());
    });
    let mut source = connector.source(topic, &partitions, &BTreeMap::new(), wake)?;
    let deadline = Instant::now() + LIMIT;
    let mut entries = BTreeMap::new();
    loop {
        let polled = source.poll(RECORDS_MAX, BYTES_MAX)?;
        for record in polled.records {
            let name = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            match record.value {
                None => drop(entries.remove(&name)),
                Some(value) => {
                    let entry = serde_json::from_slice(&value).map_err(|error| LogError::Unreadable {
                        name: name.clone(),
                        topic: topic.to_owned(),
                        problem: error.to_string(),
                    })?;
                    entries.insert(name, entry);
                }
            }
        }
        let reached = |(partition, end): (&i32, &i64)| {
            *end == 0 || polled.positions.get(partition).is_some_and(|next| next >= end)
        };
        if ends.iter().all(reached) {
            return Ok(entries);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LogError::Timeout { topic: topic.to_owned() });
        }
        // A wake, or the end of the time: either way the next round tells.
        let _ = wakes.recv_timeout(left.min(LOOK_AGAIN));
    }
}

/// Pause between two looks where no wake comes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use freshet_operators::connect::Memory;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_record_of_a_name_counts() {
        let memory: Arc<dyn Connector> = Arc::new(Memory::new());
        let made = |size: u64| {
            let collection = json!({"vectors": {"size": size, "distance": "Dot"}});
            Entry::Collection(Made { collection, shards: 2, index: Map::new() })
        };
        let alias = Entry::Alias { alias_of: "a".to_owned() };
        {
            let (log, entries) = Log::open(&memory, "c").unwrap();
            assert_eq!(entries, BTreeMap::new());
            log.put("c", "a", Some(&made(1))).unwrap();
            log.put("c", "b", Some(&made(2))).unwrap();
            log.put("c", "a", Some(&made(3))).unwrap();
            log.put("c", "b", None).unwrap();
            log.put("c", "x", Some(&alias)).unwrap();
        }
        let (_log, entries) = Log::open(&memory, "c").unwrap();
        assert_eq!(entries, BTreeMap::from([("a".to_owned(), made(3)), ("x".to_owned(), alias)]));
    }
}
