//! What the tests of the connectors share: waiting without sleeping, writing and reading to the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use freshet_schemas::{Offset, Partition, Record};

use super::{ConnectError, Connector, Share, Sink, Source, Wake, lock};

/// Longest wait for something that should come at once; only a failing test waits this long.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Counts wakes and waits for them.
#[derive(Clone, Default)]
pub(super) struct Signal {
    shared: Arc<(Mutex<u64>, Condvar)>,
}

impl Signal {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn wake(&self) -> Wake {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            *lock(&shared.0) += 1;
            shared.1.notify_all();
        })
    }

    pub(super) fn count(&self) -> u64 {
        *lock(&self.shared.0)
    }

    /// Waits until there were more wakes than `seen`.
    pub(super) fn wait_beyond(&self, seen: u64) {
        let guard = lock(&self.shared.0);
        let waited = self.shared.1.wait_timeout_while(guard, LIMIT, |count| *count <= seen).unwrap();
        assert!(!waited.1.timed_out(), "no wake within {LIMIT:?}");
    }
}

/// A source with the signal that it wakes.
pub(super) struct Reader {
    pub(super) source: Box<dyn Source>,
    pub(super) signal: Signal,
}

impl Reader {
    /// Opens all partitions.
    pub(super) fn open(connector: &dyn Connector, topic: &str, start: &BTreeMap<Partition, Offset>) -> Self {
        let partitions: Vec<Partition> = connector.end_offsets(topic).unwrap().into_keys().collect();
        let signal = Signal::new();
        let source = connector.source(topic, &partitions, start, signal.wake()).unwrap();
        Self { source, signal }
    }

    /// Follows a share of the partitions.
    pub(super) fn follow(
        connector: &dyn Connector,
        topic: &str,
        share: Share,
        start: &BTreeMap<Partition, Offset>,
    ) -> Self {
        let signal = Signal::new();
        let source = connector.follow(topic, share, start, signal.wake()).unwrap();
        Self { source, signal }
    }

    /// Polls until the positions have reached `ends`; returns what came.
    pub(super) fn read_to(&mut self, ends: &BTreeMap<Partition, Offset>) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let seen = self.signal.count();
            let polled = self.source.poll(100, 1 << 20).unwrap();
            let nothing = polled.records.is_empty();
            records.extend(polled.records);
            if ends.iter().all(|(partition, end)| polled.positions.get(partition) >= Some(end)) {
                return records;
            }
            if nothing {
                self.signal.wait_beyond(seen);
            }
        }
    }

    /// Polls until it fails; returns why.
    pub(super) fn read_to_error(&mut self) -> ConnectError {
        loop {
            let seen = self.signal.count();
            match self.source.poll(100, 1 << 20) {
                Err(error) => return error,
                Ok(polled) if polled.records.is_empty() => self.signal.wait_beyond(seen),
                Ok(_) => {}
            }
        }
    }
}

/// Reads a topic from its first record to its present end.
pub(super) fn read_all(connector: &dyn Connector, topic: &str) -> Vec<Record> {
    let ends = connector.end_offsets(topic).unwrap();
    Reader::open(connector, topic, &BTreeMap::new()).read_to(&ends)
}

/// A sink with the signal that it wakes.
pub(super) struct Writer {
    pub(super) sink: Box<dyn Sink>,
    signal: Signal,
    token_next: u64,
}

impl Writer {
    pub(super) fn open(connector: &dyn Connector) -> Self {
        let signal = Signal::new();
        Self { sink: connector.sink(signal.wake()).unwrap(), signal, token_next: 0 }
    }

    /// Sends all and waits until their fate is known; returns it in the order sent.
    pub(super) fn try_write(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Vec<Result<(), String>> {
        let first = self.token_next;
        let mut fates = BTreeMap::new();
        for record in records {
            let mut given_back = Some(record);
            while let Some(record) = given_back.take() {
                let seen = self.signal.count();
                if let Err(record) = self.sink.send(topic, record, self.token_next) {
                    given_back = Some(record);
                    if !self.take(&mut fates) {
                        self.signal.wait_beyond(seen);
                    }
                }
            }
            self.token_next += 1;
        }
        let tokens = first..self.token_next;
        loop {
            let seen = self.signal.count();
            self.take(&mut fates);
            if fates.len() as u64 == tokens.end - tokens.start {
                assert!(fates.keys().copied().eq(tokens), "unknown tokens settled");
                return fates.into_values().collect();
            }
            self.signal.wait_beyond(seen);
        }
    }

    /// As [`Writer::try_write`]; all must be written.
    pub(super) fn write(&mut self, topic: &str, records: impl IntoIterator<Item = Record>) {
        for fate in self.try_write(topic, records) {
            assert_eq!(fate, Ok(()));
        }
    }

    fn take(&mut self, fates: &mut BTreeMap<u64, Result<(), String>>) -> bool {
        let settled = self.sink.settled();
        let some = !settled.is_empty();
        for (token, fate) in settled {
            assert!(fates.insert(token, fate).is_none(), "token {token} settled twice");
        }
        some
    }
}

/// Opens a writer, writes, waits.
pub(super) fn write(connector: &dyn Connector, topic: &str, records: impl IntoIterator<Item = Record>) {
    Writer::open(connector).write(topic, records);
}

/// A record with key and value.
pub(super) fn record(key: &str, value: &str) -> Record {
    Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() }
}

/// The record as it was before it had a place.
pub(super) fn placeless(record: &Record) -> Record {
    Record { partition: 0, offset: 0, ..record.clone() }
}
