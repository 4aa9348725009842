//! Topics in memory: for evaluation, for single questions and for tests of the dataflow.
//!
//! A `Memory` is a handle: clones share topics and committed offsets, so that a "restarted" pipeline finds what the
//! one before it left. Topics come into being when they are first named. A topic can be [held](Memory::hold): records
//! from an offset on stay where they are until released, as if the network were slow.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freshet_schemas::{Offset, Partition, Record};

use super::budget::Budget;
use super::partitioner::partition_of;
use super::{
    Batch, ConnectError, Connector, Entry, Polled, Progress, Share, Sink, Source, TransactionWriter, Wake,
    lock,
};
use crate::metrics::Shelf;

/// Most tokens a sink keeps before its caller takes them with [`Sink::settled`].
const SETTLED_MAX: usize = 4096;

/// A system of topics in memory. Never loses a record, never forgets one.
#[derive(Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified on every change of `state`.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    /// Goes up with every change, so that a waiter misses none.
    version: u64,
    /// Number of the next source.
    source_next: u64,
}

/// One topic. Invariant: record `n` of partition `p` has offset `n` and partition `p`.
struct Topic {
    partitions: Vec<Log>,
    committed: BTreeMap<Partition, Offset>,
    /// Beside the committed offsets.
    metadata: BTreeMap<Partition, String>,
    /// Of open sources, by their number.
    wakes: BTreeMap<u64, Wake>,
    /// Partition of the next record without a key.
    turn: usize,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    /// Records from this offset on are not handed out.
    held_from: Option<Offset>,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            partitions: vec![Log::default()],
            committed: BTreeMap::new(),
            metadata: BTreeMap::new(),
            wakes: BTreeMap::new(),
            turn: 0,
        }
    }
}

impl Topic {
    fn grow(&mut self, partitions: usize) {
        while self.partitions.len() < partitions {
            self.partitions.push(Log::default());
        }
    }

    fn log(&self, partition: Partition) -> Option<&Log> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Grows the topic up to the partition; a negative one is a mistake of the caller.
    fn log_mut(&mut self, partition: Partition) -> &mut Log {
        let index = index_of(partition);
        self.grow(index + 1);
        &mut self.partitions[index]
    }

    fn partition_for(&mut self, key: Option<&[u8]>) -> Partition {
        let count = self.partitions.len();
        match key {
            Some(key) => partition_of(key, count),
            None => {
                self.turn = (self.turn + 1) % count;
                Partition::try_from(self.turn).unwrap_or(0)
            }
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (Partition, &Log)> {
        (0..).zip(&self.partitions)
    }
}

impl Log {
    fn end(&self) -> Offset {
        offset_of(self.records.len())
    }

    /// The record at `offset`, unless it is held.
    fn get(&self, offset: Offset) -> Option<&Record> {
        if self.held_from.is_some_and(|from| offset >= from) {
            return None;
        }
        self.records.get(usize::try_from(offset).ok()?)
    }
}

fn offset_of(index: usize) -> Offset {
    Offset::try_from(index).unwrap_or(Offset::MAX)
}

fn index_of(partition: Partition) -> usize {
    usize::try_from(partition).unwrap_or_else(|_| panic!("partition {partition} is negative"))
}

impl Memory {
    /// No topics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a topic, or grows it, to at least this many partitions.
    pub fn create(&self, topic: &str, partitions: usize) {
        self.change(topic, |topic| topic.grow(partitions));
    }

    /// Appends a record to a partition, which comes into being if need be, and returns its offset.
    pub fn produce(&self, topic: &str, partition: Partition, record: Record) -> Offset {
        self.change(topic, |topic| append(topic.log_mut(partition), partition, record))
    }

    /// All records of a topic, by partition, then offset; held ones too.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = lock(&self.shared.state);
        let logs = state.topics.get(topic).map(|topic| topic.partitions.as_slice()).unwrap_or_default();
        logs.iter().flat_map(|log| log.records.iter().cloned()).collect()
    }

    /// Number of records of a topic.
    pub fn len(&self, topic: &str) -> usize {
        let state = lock(&self.shared.state);
        state.topics.get(topic).map_or(0, |topic| topic.partitions.iter().map(|log| log.records.len()).sum())
    }

    /// Whether a topic has no records.
    pub fn is_empty(&self, topic: &str) -> bool {
        self.len(topic) == 0
    }

    /// Blocks until the topic has at least `count` records, or the time is over, and returns what it has then.
    pub fn wait_for(&self, topic: &str, count: usize, limit: Duration) -> Vec<Record> {
        self.wait_until(limit, |memory| memory.len(topic) >= count);
        self.records(topic)
    }

    /// Blocks until `reached` holds, looking again after every record, commit, hold and release. Returns whether it
    /// came to hold within the time.
    pub fn wait_until(&self, limit: Duration, reached: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let seen = lock(&self.shared.state).version;
            if reached(self) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let state = lock(&self.shared.state);
            let waited = self.shared.changed.wait_timeout_while(state, left, |state| state.version == seen);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Keeps records of a partition from this offset on from being handed out; they can be produced, and
    /// [`Connector::end_offsets`] counts them.
    pub fn hold(&self, topic: &str, partition: Partition, from: Offset) {
        self.change(topic, |topic| topic.log_mut(partition).held_from = Some(from));
    }

    /// Ends a hold.
    pub fn release(&self, topic: &str, partition: Partition) {
        self.change(topic, |topic| topic.log_mut(partition).held_from = None);
    }

    /// Changes a topic, tells waiters, wakes the topic's sources.
    fn change<R>(&self, topic: &str, change: impl FnOnce(&mut Topic) -> R) -> R {
        let mut state = lock(&self.shared.state);
        state.version += 1;
        let topic = topic_mut(&mut state, topic);
        let result = change(topic);
        let wakes: Vec<Wake> = topic.wakes.values().map(Arc::clone).collect();
        drop(state);
        self.shared.changed.notify_all();
        wakes.iter().for_each(|wake| wake());
        result
    }
}

fn topic_mut<'state>(state: &'state mut State, topic: &str) -> &'state mut Topic {
    state.topics.entry(topic.to_owned()).or_default()
}

fn append(log: &mut Log, partition: Partition, record: Record) -> Offset {
    let offset = log.end();
    log.records.push(Record { partition, offset, ..record });
    offset
}

impl Connector for Memory {
    fn prepare(
        &self,
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<BTreeMap<String, Vec<Partition>>, ConnectError> {
        let mut state = lock(&self.shared.state);
        let named = inputs.iter().chain(outputs).map(|name| {
            let partitions = topic_mut(&mut state, name).numbered().map(|(partition, _)| partition).collect();
            ((*name).to_owned(), partitions)
        });
        Ok(named.collect())
    }

    fn prepare_table(&self, topic: &str) -> Result<(), ConnectError> {
        self.prepare(&[topic], &[]).map(drop)
    }

    fn remove(&self, topics: &[&str]) -> Result<(), ConnectError> {
        let mut state = lock(&self.shared.state);
        topics.iter().for_each(|topic| drop(state.topics.remove(*topic)));
        Ok(())
    }

    fn end_offsets(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        let mut state = lock(&self.shared.state);
        Ok(topic_mut(&mut state, topic).numbered().map(|(partition, log)| (partition, log.end())).collect())
    }

    fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        let state = lock(&self.shared.state);
        Ok(state.topics.get(topic).map(|topic| topic.committed.clone()).unwrap_or_default())
    }

    fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        self.change(topic, |topic| {
            topic.committed.extend(next);
            topic.metadata.retain(|partition, _| !next.contains_key(partition));
        });
        Ok(())
    }

    fn source(
        &self,
        topic: &str,
        partitions: &[Partition],
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        let mut state = lock(&self.shared.state);
        let number = state.source_next;
        state.source_next += 1;
        let entry = topic_mut(&mut state, topic);
        let missing = partitions.iter().find(|partition| entry.log(**partition).is_none());
        if let Some(partition) = missing {
            let what = format!("partition {partition} of topic \"{topic}\" in memory does not exist");
            return Err(ConnectError::World { what, source: None, retry: false });
        }
        entry.wakes.insert(number, Arc::clone(&wake));
        drop(state);
        let position = |partition: &Partition| (*partition, start.get(partition).copied().unwrap_or(0));
        let positions = partitions.iter().map(position).collect();
        wake();
        Ok(Box::new(MemorySource {
            shared: Arc::clone(&self.shared),
            topic: topic.to_owned(),
            number,
            positions,
            turn: 0,
            follows: None,
        }))
    }

    fn follow(
        &self,
        topic: &str,
        share: Share,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        let mut state = lock(&self.shared.state);
        let number = state.source_next;
        state.source_next += 1;
        topic_mut(&mut state, topic).wakes.insert(number, Arc::clone(&wake));
        drop(state);
        wake();
        Ok(Box::new(MemorySource {
            shared: Arc::clone(&self.shared),
            topic: topic.to_owned(),
            number,
            positions: Vec::new(),
            turn: 0,
            follows: Some((share, start.clone())),
        }))
    }

    fn transactions(
        &self,
        topic: &str,
    ) -> Result<(BTreeMap<Partition, Progress>, Box<dyn TransactionWriter>), ConnectError> {
        let mut state = lock(&self.shared.state);
        let entry = topic_mut(&mut state, topic);
        let progress = entry.committed.iter().map(|(partition, next)| {
            let metadata = entry.metadata.get(partition).map_or("", String::as_str);
            (*partition, Progress::recover(topic, *partition, *next, metadata))
        });
        let progress = progress.collect();
        Ok((progress, Box::new(MemoryWriter { memory: self.clone(), topic: topic.to_owned() })))
    }

    fn sink(&self, wake: Wake) -> Result<Box<dyn Sink>, ConnectError> {
        Ok(Box::new(MemorySink { memory: self.clone(), wake, settled: Vec::new() }))
    }

    fn register(&self, _registry: &dyn Shelf) -> prometheus::Result<()> {
        Ok(())
    }
}

/// Reads partitions in turns, one record each, so that none starves.
struct MemorySource {
    shared: Arc<Shared>,
    topic: String,
    number: u64,
    positions: Vec<(Partition, Offset)>,
    /// Index in `positions` of the partition to be asked next.
    turn: usize,
    /// Partitions to be read as soon as they are there, and where they start.
    follows: Option<(Share, BTreeMap<Partition, Offset>)>,
}

impl MemorySource {
    /// Takes partitions that the topic has got.
    fn grow(&mut self, topic: &Topic) {
        let Some((share, start)) = &self.follows else { return };
        let new =
            topic.numbered().map(|(partition, _)| partition).filter(|partition| share.holds(*partition));
        for partition in new {
            if self.positions.iter().all(|(known, _)| *known != partition) {
                self.positions.push((partition, start.get(&partition).copied().unwrap_or(0)));
            }
        }
    }
}

impl Source for MemorySource {
    fn poll(&mut self, records_max: usize, bytes_max: usize) -> Result<Polled, ConnectError> {
        let shared = Arc::clone(&self.shared);
        let state = lock(&shared.state);
        if let Some(topic) = state.topics.get(&self.topic) {
            self.grow(topic);
        }
        let mut records = Vec::new();
        let mut budget = Budget::new(records_max, bytes_max);
        let mut idle = 0; // partitions asked in vain since the last record
        while let (Some(topic), true) = (state.topics.get(&self.topic), idle < self.positions.len()) {
            let (partition, position) = &mut self.positions[self.turn];
            match topic.log(*partition).and_then(|log| log.get(*position)) {
                Some(record) if !budget.admit(record) => break,
                Some(record) => {
                    records.push(record.clone());
                    *position += 1;
                    idle = 0;
                }
                None => idle += 1,
            }
            self.turn = (self.turn + 1) % self.positions.len();
        }
        Ok(Polled { records, positions: self.positions.iter().copied().collect() })
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        if let Some(topic) = lock(&self.shared.state).topics.get_mut(&self.topic) {
            topic.wakes.remove(&self.number);
        }
    }
}

/// Writes all of a transaction under one lock.
struct MemoryWriter {
    memory: Memory,
    topic: String,
}

impl TransactionWriter for MemoryWriter {
    fn write(&mut self, batch: &mut Batch, _: &dyn Fn(Duration) -> bool) -> Result<(), ConnectError> {
        let mut state = lock(&self.memory.shared.state);
        state.version += 1;
        let mut wakes = BTreeMap::new();
        for Entry { topic, record, .. } in batch.entries.drain(..) {
            let topic = topic_mut(&mut state, &topic);
            let partition = topic.partition_for(record.key.as_deref());
            append(topic.log_mut(partition), partition, record);
            wakes.extend(topic.wakes.iter().map(|(number, wake)| (*number, Arc::clone(wake))));
        }
        let topic = topic_mut(&mut state, &self.topic);
        for (partition, progress) in &batch.progress {
            topic.committed.insert(*partition, progress.next());
            topic.metadata.insert(*partition, progress.to_metadata());
        }
        drop(state);
        self.memory.shared.changed.notify_all();
        wakes.values().for_each(|wake| wake());
        Ok(())
    }
}

/// Writes at once; full when its caller does not take tokens.
struct MemorySink {
    memory: Memory,
    wake: Wake,
    settled: Vec<(u64, Result<(), String>)>,
}

impl Sink for MemorySink {
    fn send(&mut self, topic: &str, record: Record, token: u64) -> Result<(), Record> {
        if self.settled.len() >= SETTLED_MAX {
            return Err(record);
        }
        self.memory.change(topic, |topic| {
            let partition = topic.partition_for(record.key.as_deref());
            append(topic.log_mut(partition), partition, record)
        });
        self.settled.push((token, Ok(())));
        (self.wake)();
        Ok(())
    }

    fn settled(&mut self) -> Vec<(u64, Result<(), String>)> {
        std::mem::take(&mut self.settled)
    }
}

#[cfg(test)]
mod tests;
